"""The exercise `autoregressive.nll`: negative log-likelihood in nats/image."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from minigen.homework.contract import Contract, Input, gradients
from minigen.homework.mistakes import (
    CUT,
    IN_BITS,
    LOG_LIKELIHOOD,
    NO_LOG,
    NO_MEAN,
    ONE_LARGEST,
    SOFTMAX_EPSILON,
    SOFTMAX_OVERFLOWS,
    SOFTMAX_TWICE,
    SUM_OVER_EVERYTHING,
    lse_with_one_shift,
    tempered,
)
from minigen.objectives import autoregressive


def nll(logits: Tensor, levels: Tensor) -> Tensor:
    """Minus the log-likelihood of levels (B, 1, H, W) under logits (B, K, H, W), in nats/image, a number."""
    return -autoregressive.categorical_log_prob(logits, levels).mean()


def _at(log_p: Tensor, levels: Tensor) -> Tensor:
    """Minus the entries at the levels, summed over an image, averaged over the batch."""
    return -log_p.gather(1, levels).flatten(1).sum(1).mean()


def _next(logits: Tensor, levels: Tensor, ahead: int) -> Tensor:
    """The loss of the logits at each pixel for the level `ahead` places after it; what falls out is left out."""
    log_p, wanted = logits.log_softmax(1).flatten(2), levels.flatten(2)
    return _at(log_p[:, :, :-ahead], wanted[:, :, ahead:]) if ahead > 0 else _at(log_p[:, :, 1:], wanted[:, :, :-1])


def _images() -> list[Input]:
    generator = torch.Generator().manual_seed(0)
    levels = torch.randint(4, (3, 1, 2, 3), generator=generator)
    logits = 2 * torch.randn(3, 4, 2, 3, generator=generator)
    extreme = torch.tensor([[200.0, -200.0], [0.0, 0.0], [-200.0, 200.0]])[None, :, None]
    apart = torch.tensor([[1e3, 0.0, 0.0], [-2e3, -1e3, -2e3], [-1e3, -1e3, 0.0]]).T[None, :, None]
    one = torch.tensor([[0.5, -1.0, 2.0]])[:, :, None, None]
    return [
        Input((one, torch.tensor([[[[1]]]])), "one pixel of 3 levels"),
        Input((logits, levels), "random images of 4 levels"),
        Input((extreme, torch.tensor([[[[2, 2]]]])), "logits of size 200"),
        Input((apart, torch.tensor([[[[0, 1, 1]]]])), "pixels whose logits are 1000 apart"),
    ]


COMMON = Contract(
    nll,
    _images,
    {
        "sign": (
            lambda o, k: -nll(o, k),
            LOG_LIKELIHOOD,
        ),
        "mean over everything": (
            lambda o, k: nll(o, k) / k[0].numel(),
            "averages over the pixels too, as cross_entropy does: nats/dim; sum over an image's pixels, then average"
            " over the batch",
        ),
        "sum over everything": (
            lambda o, k: nll(o, k) * len(k),
            SUM_OVER_EVERYTHING,
        ),
        "one number an image": (
            lambda o, k: -autoregressive.categorical_log_prob(o, k),
            NO_MEAN,
        ),
        "one number a pixel": (
            lambda o, k: -o.log_softmax(1).gather(1, k)[:, 0],
            "gives one number for each pixel, (B, H, W); sum over an image's pixels, then average over the batch",
        ),
        "the next pixel": (
            lambda o, k: _next(o, k, 1),
            "asks the logits for the next pixel, as for a sequence that is not shifted; those at a pixel are its own",
        ),
        "the pixel before": (
            lambda o, k: _next(o, k, -1),
            "asks the logits for the pixel before, which the network has seen; those at a pixel are its own",
        ),
        "the next pixel, wrapped": (
            lambda o, k: nll(o, k.flatten(1).roll(-1, 1).view_as(k)),
            "moves the targets left by one, and the first to the end; logits and level belong to the same pixel",
        ),
        "the pixel before, wrapped": (
            lambda o, k: nll(o, k.flatten(1).roll(1, 1).view_as(k)),
            "moves the targets right by one, and the last to the front; logits and level belong to the same pixel",
        ),
        "softmax over the row": (
            lambda o, k: _at(o.log_softmax(-1), k),
            "takes the softmax along a row of pixels; probabilities are over the K levels, dimension 1",
        ),
        "softmax over the batch": (
            lambda o, k: _at(o.log_softmax(0), k),
            "takes the softmax over the batch; probabilities are over the K levels, dimension 1",
        ),
        "in bits": (
            lambda o, k: nll(o, k) / math.log(2),
            IN_BITS,
        ),
        "bits/dim": (
            lambda o, k: nll(o, k) / (k[0].numel() * math.log(2)),
            "these are bits/dim; for nats/image, divide neither by the pixels nor by ln 2",
        ),
        "probabilities": (
            lambda o, k: _at(o.log(), k),
            "takes the logits for probabilities; they are any real number: use log_softmax over the levels",
        ),
        "not normalised": (
            lambda o, k: _at(o, k),
            "takes the logits for log-probabilities; their exp does not sum to one: use log_softmax over the levels",
        ),
        "no log": (
            lambda o, k: _at(o.softmax(1), k),
            NO_LOG,
        ),
        "softmax twice": (
            lambda o, k: nll(o.softmax(1), k),
            SOFTMAX_TWICE,
        ),
        "underflow": (
            lambda o, k: _at(o.softmax(1).log(), k),
            "underflows: an improbable level's softmax is 0, and its log is -inf; use log_softmax",
        ),
        "overflow": (
            lambda o, k: _at((o.exp() / o.exp().sum(1, keepdim=True)).log(), k),
            SOFTMAX_OVERFLOWS,
        ),
        "one largest for all": (
            lambda o, k: _at(o - lse_with_one_shift(o, 1), k),
            ONE_LARGEST.format("pixel"),
        ),
        "a small number in the log": (
            lambda o, k: _at((o.softmax(1) + 1e-8).log(), k),
            SOFTMAX_EPSILON,
        ),
        "no gradient": (lambda o, k: nll(o, k).detach(), CUT),
    },
    gradients("logits"),
)


CONTRACT = tempered(COMMON, 0)
