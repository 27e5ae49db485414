"""The exercise `elbo.importance_weighted_bound`: bound from several samples."""

from __future__ import annotations

import math

import torch

from minigen.homework.contract import Contract, Input
from minigen.homework.mistakes import LOG_MEAN
from minigen.objectives import elbo


def _weights() -> list[Input]:
    generator = torch.Generator().manual_seed(0)
    return [
        Input((torch.tensor([[-1.0], [-3.0]]),), "two samples for one image"),
        Input((3 * torch.randn(5, 3, generator=generator) - 4,), "5 random samples for 3 images"),
        Input((torch.tensor([[-1000.0, 1000.0], [-1001.0, -1000.0], [-1002.5, 999.0]]),), "log-weights of size 1000"),
        Input((torch.tensor([[1000.0, -1000.0, -1000.0], [999.0, -1001.0, 3.0]]),), "images 1000 apart"),
    ]


CONTRACT = Contract(
    elbo.importance_weighted_bound,
    _weights,
    {
        "mean of the logs": (
            lambda w: w.mean(0),
            "the mean of the logs is the evidence lower bound, however many samples; take the log of the mean",
        ),
        "sum of the logs": (
            lambda w: w.sum(0),
            "adds the logs, which multiplies the weights; take the log of their mean",
        ),
        "log K forgotten": (
            lambda w: w.logsumexp(0),
            "this is the log of the sum of the weights, and no bound; subtract log K for the mean",
        ),
        **LOG_MEAN,
        "log B": (
            lambda w: w.logsumexp(0) - math.log(w.shape[1]),
            "subtracts the log of the number of images; subtract log K, the number of samples, log_weights.shape[0]",
        ),
        "the wrong axis": (
            lambda w: w.logsumexp(1) - math.log(w.shape[1]),
            "averages over the images; the K samples are along dimension 0",
        ),
        "over both axes": (
            lambda w: w.flatten().logsumexp(0) - math.log(w.numel()),
            "averages the weights of all images before the log; reduce dimension 0 alone, which leaves (B,)",
        ),
        "mean over the images": (
            lambda w: elbo.importance_weighted_bound(w).mean(),
            "averages over the images as well; give one bound for each image, (B,)",
        ),
        "a small number in the log": (
            lambda w: (w.exp().mean(0) + 1e-8).log(),
            "the small number in the log hides the underflow and puts a floor of -18.4 under the bound; use logsumexp",
        ),
        "the largest": (
            lambda w: w.max(0).values,
            "takes the largest weight alone; the others count too: use logsumexp and subtract log K",
        ),
        "normalised weights": (
            lambda w: (w.softmax(0) * w).sum(0),
            "averages the logs under the normalised weights, which is no bound; take the log of the plain mean",
        ),
        "not the log": (
            lambda w: w.exp().mean(0),
            "this is the estimate of p(x) itself; return its log, computed with logsumexp",
        ),
        "sign": (
            lambda w: -elbo.importance_weighted_bound(w),
            "this is minus the bound; the exercise asks for the bound: change the sign",
        ),
    },
)
