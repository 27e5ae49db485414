"""The exercise `diffusion.ancestral_step`: one step of the sampler."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from minigen.homework.contract import Contract, Function, Input
from minigen.homework.contracts.diffusion._levels import kept, one_before
from minigen.homework.contracts.diffusion.backward_variance import backward_variance
from minigen.homework.mistakes import squares
from minigen.objectives.diffusion import Schedule


class Here(NamedTuple):
    """Numbers at a level: alpha_bar, that of the level before, beta, the variances of q here and at t = 1 or later."""

    a: Tensor
    s: Tensor
    b: Tensor
    v: Tensor
    late: Tensor


def _with_weights(weights: Callable[[Here], tuple[Tensor | float, Tensor | float, Tensor | float]]) -> Function:
    """A step with weights of x_t, of eps and of the fresh noise."""

    def variant(x_t: Tensor, eps: Tensor, fresh: Tensor, beta: Tensor, t: int) -> Tensor:
        a, v = kept(beta), backward_variance(beta)
        of_x, of_eps, of_fresh = weights(Here(a[t], one_before(a)[t], beta[t], v[t], v[max(t, 1)]))
        return of_x * x_t + of_eps * eps + of_fresh * fresh

    return variant


def _scaled_by(scale: Callable[[Here], Tensor]) -> Function:
    """A step whose mean is scaled up by another number."""
    return _with_weights(lambda g: (scale(g), -scale(g) * g.b / (1 - g.a).sqrt(), g.v.sqrt()))


def _less(of_eps: Callable[[Here], Tensor]) -> Function:
    """A step with another weight of eps inside of the bracket."""
    return _with_weights(lambda g: ((1 - g.b).rsqrt(), -of_eps(g) * (1 - g.b).rsqrt(), g.v.sqrt()))


def _plus(of_fresh: Callable[[Here], Tensor]) -> Function:
    """A step with another weight of the fresh noise."""
    return _with_weights(lambda g: ((1 - g.b).rsqrt(), -g.b / (1 - g.a).sqrt() * (1 - g.b).rsqrt(), of_fresh(g)))


def ancestral_step(x_t: Tensor, eps: Tensor, fresh: Tensor, beta: Tensor, t: int) -> Tensor:
    """x_{t-1} from x_t at level t, the guess eps at its noise and fresh standard normal noise, all (B, C, H, W).

    The mean of q(x_{t-1} | x_t, x_0) at the guessed image, plus noise of its variance; the image where t is 0.
    """
    x: Tensor = _plus(lambda g: g.v.sqrt())(x_t, eps, fresh, beta, t)
    return x


def _noisy() -> list[Input]:
    one = torch.full((1, 1, 1, 1), 2.0, dtype=torch.float64)
    few = torch.tensor([0.1, 0.2, 0.4], dtype=torch.float64)
    seven = torch.tensor([0.3, 0.05, 0.02, 0.6, 0.1, 0.2, 0.15], dtype=torch.float64)
    noisy = tuple(squares(3, 3))
    return [
        Input((one, -0.5 * one, 0.25 * one, few, 1), "one pixel at the second of three levels"),
        Input((*noisy, seven, 4), "random images at the fifth of seven levels"),
        Input((*noisy, seven, 0), "the last step, to the image"),
        Input((*noisy, Schedule.linear().beta, 999), "the first of a thousand steps"),
    ]


CONTRACT = Contract(
    ancestral_step,
    _noisy,
    {
        "variance for deviation": (
            _plus(lambda g: g.v),
            "multiplies the fresh noise by the variance; noise takes the standard deviation, its root",
        ),
        "beta for the variance": (
            _plus(lambda g: g.b.sqrt()),
            "adds noise of variance beta, and so at the last step too; that of q is"
            " beta_t (1 - alpha_bar_{t-1}) / (1 - alpha_bar_t)",
        ),
        "beta, but not at the last step": (
            _plus(lambda g: g.b.sqrt() * (g.s < 1)),
            "adds noise of variance beta, which would be right if images were standard normal noise; take the variance"
            " of q",
        ),
        "noise at the last step": (
            _plus(lambda g: g.late.sqrt()),
            "adds noise at the last step, which ends at the image; the variance of q is 0 there",
        ),
        "no noise": (
            _plus(lambda g: 0 * g.v),
            "gives the mean alone; without fresh noise the images come out too smooth: add sqrt(variance) * fresh",
        ),
        "fresh noise subtracted": (
            _plus(lambda g: -g.v.sqrt()),
            "subtracts the fresh noise; the law is the same, but this exercise is about mean + deviation * fresh",
        ),
        "fresh noise scaled up": (
            _plus(lambda g: g.v.sqrt() * (1 - g.b).rsqrt()),
            "divides the fresh noise by sqrt(1 - beta_t) as well; it is added after the bracket",
        ),
        "1 - alpha_bar without its root": (
            _less(lambda g: g.b / (1 - g.a)),
            "divides beta by 1 - alpha_bar; the weight of eps is beta_t / sqrt(1 - alpha_bar_t)",
        ),
        "one minus the root": (
            _less(lambda g: g.b / (1 - g.a.sqrt())),
            "divides beta by 1 - sqrt(alpha_bar); the root goes round the difference, sqrt(1 - alpha_bar_t)",
        ),
        "beta for 1 - alpha_bar": (
            _less(lambda g: g.b.sqrt()),
            "divides beta by sqrt(beta), as if x_t had gone one step from x_0; divide by sqrt(1 - alpha_bar_t)",
        ),
        "alpha_bar for 1 - alpha_bar": (
            _less(lambda g: g.b / g.a.sqrt()),
            "divides beta by sqrt(alpha_bar), which is alpha; the deviation of the noise is sqrt(1 - alpha_bar_t)",
        ),
        "1 - alpha_bar for beta": (
            _less(lambda g: (1 - g.a).sqrt()),
            "takes all noise out of x_t, sqrt(1 - alpha_bar) eps; a step takes out beta_t / sqrt(1 - alpha_bar_t) eps",
        ),
        "the noise of t - 1": (
            _less(lambda g: g.b / (1 - g.s).sqrt()),
            "divides by sqrt(1 - alpha_bar_{t-1}), which is 0 at the last step; the noise is that of x_t",
        ),
        "eps added": (
            _less(lambda g: -g.b / (1 - g.a).sqrt()),
            "adds the guessed noise; it is what is to be taken away",
        ),
        "not scaled up": (
            _scaled_by(lambda g: torch.ones_like(g.a)),
            "does not divide by sqrt(1 - beta_t), so that x grows paler with every step",
        ),
        "without a root": (
            _scaled_by(lambda g: 1 / (1 - g.b)),
            "divides by 1 - beta_t; the step has shrunk x by its root",
        ),
        "scaled by alpha_bar": (
            _scaled_by(lambda g: g.a.rsqrt()),
            "divides by sqrt(alpha_bar_t), as if all steps were undone; this one is undone by sqrt(1 - beta_t)",
        ),
        "scaled down": (
            _scaled_by(lambda g: (1 - g.b).sqrt()),
            "multiplies by sqrt(1 - beta_t), as on the way forward; divide",
        ),
        "x_t alone scaled up": (
            _with_weights(lambda g: ((1 - g.b).rsqrt(), -g.b / (1 - g.a).sqrt(), g.v.sqrt())),
            "divides x_t alone by sqrt(1 - beta_t); the whole bracket is divided, eps with it",
        ),
        "the image": (
            _with_weights(lambda g: (g.a.rsqrt(), -((1 - g.a) / g.a).sqrt(), 0.0)),
            "this is the guess at x_0; the exercise asks for one step, to x_{t-1}",
        ),
        "destroyed anew": (
            _with_weights(lambda g: ((g.s / g.a).sqrt(), -((1 - g.a) * g.s / g.a).sqrt(), (1 - g.s).sqrt())),
            "guesses x_0 and adds all noise anew, which forgets x_t; the mean of q weighs x_0 and x_t",
        ),
        "the step without noise": (
            _with_weights(
                lambda g: ((g.s / g.a).sqrt(), (1 - g.s).sqrt() - ((1 - g.a) * g.s / g.a).sqrt(), 0.0),
            ),
            "this is DDIM, which keeps the guessed noise and adds none; the exercise asks for the ancestral step",
        ),
        "counted from one": (
            lambda x, e, z, b, t: ancestral_step(x, e, z if t else 0 * z, b, (t - 1) % len(b)),
            "takes the numbers of t - 1; levels are counted from 0 here, so beta[t] belongs to the step from t",
        ),
    },
)
