"""The exercise `diffusion.backward_variance`: its variance at every level."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from minigen.homework.contract import Contract, Function, Input
from minigen.homework.contracts.diffusion._levels import kept, one_before
from minigen.homework.mistakes import doubles
from minigen.objectives.diffusion import Schedule


def backward_variance(beta: Tensor) -> Tensor:
    """Variance of q(x_{t-1} | x_t, x_0) at every level, (T,): 0 at the first, where x_0 is what is asked for."""
    a = kept(beta)
    return beta * (1 - one_before(a)) / (1 - a)


def _schedules() -> list[Input]:
    return [
        Input((doubles(0.1, 0.2, 0.4),), "three levels"),
        Input((doubles(0.3, 0.05, 0.02, 0.6, 0.1, 0.2, 0.15),), "seven levels in no order"),
        Input((Schedule.linear().beta,), "a thousand levels"),
        Input((doubles(1e-4, 0.3, 0.5, 0.9, 0.999),), "steps from small to nearly all noise"),
    ]


def _variance(of: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Function:
    """A variance (T,) made from alpha_bar, that of the level before, and beta."""
    return lambda b: of(kept(b), one_before(kept(b)), b)


CONTRACT = Contract(
    backward_variance,
    _schedules,
    {
        "beta": (
            lambda b: b.clone(),
            "this is beta, the variance of a step forward; knowing x_0 narrows the way back to"
            " beta_t (1 - alpha_bar_{t-1}) / (1 - alpha_bar_t)",
        ),
        "deviation": (
            lambda b: backward_variance(b).sqrt(),
            "this is the standard deviation; the exercise asks for the variance: no root",
        ),
        "root of the quotient": (
            _variance(lambda a, s, b: b * ((1 - s) / (1 - a)).sqrt()),
            "takes the root of the quotient; beta_t (1 - alpha_bar_{t-1}) / (1 - alpha_bar_t) has none",
        ),
        "upside down": (
            _variance(lambda a, s, b: b * (1 - a) / (1 - s)),
            "the quotient is upside down, so that it exceeds beta; 1 - alpha_bar_{t-1} stands above",
        ),
        "alpha_bar for 1 - alpha_bar": (
            _variance(lambda a, s, b: b * s / a),
            "the quotient has alpha_bar in it, the share of the image; it is that of the noise, 1 - alpha_bar",
        ),
        "wrapped": (
            _variance(lambda a, s, b: b * (1 - a.roll(1)) / (1 - a)),
            "before the first level it takes the last alpha_bar; there stands the image, alpha_bar = 1",
        ),
        "0 before the first": (
            _variance(lambda a, s, b: b * (1 - one_before(a, 0.0)) / (1 - a)),
            "takes alpha_bar = 0 before the first level; there stands the image, alpha_bar = 1, and the variance is 0",
        ),
        "the first replaced": (
            lambda b: torch.cat([backward_variance(b)[1:2], backward_variance(b)[1:]]),
            "puts the second variance in the first place, as published code does before a log; the first one is 0",
        ),
        "the first left out": (
            lambda b: backward_variance(b)[1:],
            "leaves out the first level; its variance is 0, and there are T of them",
        ),
        "log": (lambda b: backward_variance(b).log(), "this is the log of the variance; leave it out"),
        "without beta": (
            _variance(lambda a, s, b: (1 - s) / (1 - a)),
            "the factor beta_t is missing",
        ),
        "1 - beta for beta": (
            _variance(lambda a, s, b: (1 - b) * (1 - s) / (1 - a)),
            "the factor is beta_t, the noise of the one step, and not 1 - beta_t",
        ),
        "1 - beta for alpha_bar": (
            lambda b: one_before(b, 0.0),
            "takes 1 - beta for alpha_bar, so that beta_{t-1} comes out; alpha_bar is the product of 1 - beta",
        ),
        "product of beta": (
            lambda b: b * (1 - one_before(b.cumprod(0))) / (1 - b.cumprod(0)),
            "multiplies the betas; alpha_bar is the product of 1 - beta",
        ),
        "sum of beta": (
            lambda b: b * one_before(b.cumsum(0), 0.0) / b.cumsum(0),
            "adds the betas up; the noise so far is 1 - alpha_bar, with alpha_bar the product of 1 - beta",
        ),
        "of x_t": (
            _variance(lambda a, s, b: 1 - a),
            "this is the variance of x_t given x_0; the exercise asks for x_{t-1} given both",
        ),
        "of x_{t-1} without x_t": (
            _variance(lambda a, s, b: 1 - s),
            "this is the variance of x_{t-1} given x_0 alone; x_t narrows it by beta_t / (1 - alpha_bar_t)",
        ),
        "precision": (
            lambda b: 1 / backward_variance(b),
            "this is 1 / variance, the sum of the two precisions; turn it upside down",
        ),
    },
)
