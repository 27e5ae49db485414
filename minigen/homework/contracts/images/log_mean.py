"""The exercise `images.log_mean`: log of a mixture from log-densities."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from minigen.homework.contract import Contract, Input
from minigen.homework.mistakes import LOG_MEAN


def log_mean(log_p: Tensor) -> Tensor:
    """log of the mixture of K densities with equal weights, from their log-densities (K, N) at N points, (N,)."""
    return log_p.logsumexp(0) - math.log(len(log_p))


def _components() -> list[Input]:
    generator = torch.Generator().manual_seed(0)
    return [
        Input((torch.tensor([[0.0], [-1.0]]),), "two densities at one point"),
        Input((torch.randn(3, 4, generator=generator) * 2,), "random log-densities"),
        Input((torch.tensor([[-1000.0, -1003.0], [-1001.0, -1000.0], [-1000.0, -1002.0]]),), "values near -1000"),
        Input((torch.tensor([[1000.0, 990.0], [1001.0, 1000.0], [999.0, 1000.0]]),), "values near 1000"),
        Input((torch.tensor([[1000.0, -1000.0, -1000.0], [999.0, -1001.0, 3.0]]),), "points 1000 apart"),
    ]


CONTRACT = Contract(
    log_mean,
    _components,
    {
        "the mean of the logs": (
            lambda p: p.mean(0),
            "this is the mean of the logs, which Jensen's inequality puts below the log of the mean; use logsumexp",
        ),
        "log K forgotten": (
            lambda p: p.logsumexp(0),
            "this is the log of the sum; subtract log K for the mean",
        ),
        **LOG_MEAN,
        "log N": (
            lambda p: p.logsumexp(0) - math.log(p.shape[1]),
            "subtracts the log of the number of points; subtract log K, the number of densities, log_p.shape[0]",
        ),
        "the wrong axis": (
            lambda p: p.logsumexp(1) - math.log(p.shape[1]),
            "averages over the points; the K densities are along dimension 0",
        ),
        "over both axes": (
            lambda p: p.flatten().logsumexp(0) - math.log(p.numel()),
            "averages over densities and points at once; reduce dimension 0 alone, which leaves (N,)",
        ),
        "the product": (
            lambda p: p.sum(0),
            "adds the logs, which multiplies the densities; a mixture adds the densities",
        ),
        "the largest": (
            lambda p: p.max(0).values,
            "takes the largest density alone; the others count too: use logsumexp",
        ),
        "the largest, over K": (
            lambda p: p.max(0).values - math.log(len(p)),
            "keeps the largest density and drops the others; add them before the log, with logsumexp",
        ),
        "not the log": (
            lambda p: p.exp().mean(0),
            "this is the density itself; return its log, computed with logsumexp",
        ),
        "the sign": (
            lambda p: math.log(len(p)) - p.logsumexp(0),
            "this is the negative log; change the sign",
        ),
    },
)
