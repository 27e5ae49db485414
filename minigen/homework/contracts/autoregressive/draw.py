"""The exercise `autoregressive.draw`: levels from uniform numbers, by inversion."""

from __future__ import annotations

import torch
from torch import Tensor

from minigen.homework.contract import Contract, Input
from minigen.homework.mistakes import softmax_with_one_shift
from minigen.samplers import autoregressive as sampler


def draw(logits: Tensor, uniform: Tensor, temperature: float) -> Tensor:
    """Levels (N,), int64, from logits (N, K): the first whose cumulated probability exceeds uniform (N,)."""
    return sampler.draw(logits, uniform, temperature=temperature)


def _first(cumulated: Tensor, uniform: Tensor) -> Tensor:
    """The first level whose cumulated number exceeds `uniform`; the last where none does."""
    return (cumulated[:, :-1] <= uniform[:, None]).sum(1)


def _draws() -> list[Input]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(9, 5, generator=generator)
    uniform = (torch.arange(9) + 0.5) / 9
    sharp = torch.tensor([[-1e3, 1e3, -1e3, 0.0], [-1e3, -1e3, 1e3, 1e3], [-1e3, 0.0, -1e3, 1e3]])
    apart = torch.tensor([[1e3, 1e3, 1e3, 1e3], [-1e3, -1e3, -1e3, -1e3], [-1e3, 0.0, 0.0, 0.0]])
    return [
        Input((torch.tensor([[0.0, 1.0, 0.0]]), torch.tensor([0.15]), 0.5), "one pixel of 3 levels"),
        Input((logits, uniform, 0.5), "random logits at temperature 0.5"),
        Input((logits.flip(0), uniform, 2.0), "random logits at temperature 2"),
        Input((sharp, torch.tensor([0.0, 0.75, 0.0]), 1.0), "logits of size 1000, and uniform numbers that are 0"),
        Input((apart, torch.tensor([0.4, 0.6, 0.5]), 1.0), "pixels whose logits are 1000 apart"),
    ]


CONTRACT = Contract(
    draw,
    _draws,
    {
        "the most probable": (
            lambda o, u, t: o.argmax(1),
            "always takes the most probable level, so that all samples are alike; that is temperature 0",
        ),
        "temperature ignored": (
            lambda o, u, t: draw(o, u, 1.0),
            "the temperature has no effect; dividing probabilities and normalising gives them back: divide the logits",
        ),
        "temperature multiplied": (
            lambda o, u, t: draw(o, u, 1 / t),
            "multiplies the logits by the temperature, so that a low one gives more noise; divide",
        ),
        "probabilities divided": (
            lambda o, u, t: _first(o.softmax(1).cumsum(1) / t, u),
            "divides the probabilities by the temperature, so that they no longer sum to one; divide the logits",
        ),
        "not normalised again": (
            lambda o, u, t: _first(o.softmax(1).pow(1 / t).cumsum(1), u),
            "p^(1/temperature) no longer sums to one; normalise it, or divide the logits before the softmax",
        ),
        "one level too high": (
            lambda o, u, t: draw(o, u, t) + 1,
            "one level too high; levels count from 0: it is the number of cumulated probabilities up to `uniform`",
        ),
        "one level too low": (
            lambda o, u, t: (draw(o, u, t) - 1).clamp(min=0),
            "one level too low: takes the last level that does not exceed `uniform`; take the first that does",
        ),
        "mirrored": (
            lambda o, u, t: (o / t).softmax(1).shape[1] - 1 - draw(o, u, t),
            "counts the levels above and not below: a draw from the mirrored law; count those that do not exceed"
            " `uniform`",
        ),
        "from the other end": (
            lambda o, u, t: draw(o.flip(1), u, t).neg() + o.shape[1] - 1,
            "cumulates from the last level down; the law is the same, but the exercise says the first level from 0 up",
        ),
        "logits cumulated": (
            lambda o, u, t: _first((o / t).cumsum(1), u),
            "cumulates the logits; they are no probabilities: take the softmax first",
        ),
        "exp of the logits": (
            lambda o, u, t: _first((o / t).exp().cumsum(1), u),
            "cumulates exp of the logits, which does not sum to one; divide by the sum: softmax",
        ),
        "log-probabilities cumulated": (
            lambda o, u, t: (o / t).log_softmax(1).cumsum(1).le(u[:, None]).sum(1).clamp(max=o.shape[1] - 1),
            "cumulates log-probabilities, whose sum is no probability; take the softmax, not its log",
        ),
        "not cumulated": (
            lambda o, u, t: _first((o / t).softmax(1), u),
            "compares `uniform` with the probabilities themselves; cumulate them first",
        ),
        "the nearest": (
            lambda o, u, t: ((o / t).softmax(1).cumsum(1) - u[:, None]).abs().argmin(1),
            "takes the level whose cumulated probability is nearest to `uniform`; take the first that exceeds it",
        ),
        "equal counts as exceeding": (
            lambda o, u, t: ((o / t).softmax(1).cumsum(1)[:, :-1] < u[:, None]).sum(1),
            "where `uniform` is 0 it draws a level of probability 0; the first that EXCEEDS it (searchsorted:"
            " right=True)",
        ),
        "one largest for all": (
            lambda o, u, t: _first(softmax_with_one_shift(o / t, 1).cumsum(1), u),
            "subtracts the largest logit of all, so that exp of a pixel far below is 0, and 0 / 0 nan; take the largest"
            " of each pixel, as softmax does",
        ),
        "overflow": (
            lambda o, u, t: _first(((o / t).exp() / (o / t).exp().sum(1, keepdim=True)).cumsum(1), u),
            "overflows: exp of a large logit is infinite, and infinite by infinite is nan; use softmax",
        ),
    },
)
