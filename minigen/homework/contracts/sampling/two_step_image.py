"""The exercise `sampling.two_step_image`: what a distilled step is to predict."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from minigen.homework.contract import Contract, Function, Input
from minigen.homework.contracts.sampling._levels import Coins, level_of
from minigen.homework.mistakes import squares
from minigen.objectives import distillation
from minigen.objectives.diffusion import Denoise, posterior_step
from minigen.samplers.diffusion import Level


def two_step_image(denoise: Denoise, x_t: Tensor, now: Level, middle: Level, then: Level) -> Tensor:
    """The guess (B, C, H, W) at x_0 with which one DDIM step from `now` lands where two of `denoise` do, at `then`."""
    return distillation.two_step_image(denoise, x_t, now, middle, then)


class Landing(NamedTuple):
    """Two steps of the teacher: where they begin and end, its two guesses, and the outer levels (a, s), (a_s, s_s)."""

    x: Tensor
    end: Tensor
    first: Tensor
    second: Tensor
    a: Tensor
    s: Tensor
    a_s: Tensor
    s_s: Tensor


def _landed(make: Callable[[Landing], Tensor], *, eta: float = 0.0) -> Function:
    """Another image made from the teacher's two steps; with eta, those are the means of steps that add noise."""

    def variant(denoise: Denoise, x_t: Tensor, now: Level, middle: Level, then: Level) -> Tensor:
        first = denoise(x_t, *now)
        half = posterior_step(first, x_t, now, middle, eta=eta).mean
        second = denoise(half, *middle)
        end = posterior_step(second, half, middle, then, eta=eta).mean
        return make(Landing(x_t, end, first, second, *torch.tensor([*now, *then], dtype=x_t.dtype)))

    return variant


def _solved(g: Landing, r: Tensor) -> Tensor:
    return (g.end - r * g.x) / (g.a_s - r * g.a)


def _two_levels(given: Callable[[Tensor, Tensor, Level, Level], tuple[Tensor, Level]]) -> Function:
    """The teacher's second guess made from another point or level: given(x_t, half, now, middle)."""

    def variant(denoise: Denoise, x_t: Tensor, now: Level, middle: Level, then: Level) -> Tensor:
        half = posterior_step(denoise(x_t, *now), x_t, now, middle, eta=0.0).mean
        x, level = given(x_t, half, now, middle)
        end = posterior_step(denoise(x, *level), x, middle, then, eta=0.0).mean
        r = then[1] / now[1]
        return (end - r * x_t) / (then[0] - r * now[0])

    return variant


def _stairs() -> list[Input]:
    one = torch.full((1, 1, 1, 1), 0.5, dtype=torch.float64)
    (x_t,) = squares(3, 1)
    return [
        Input((Coins(), one, (0.6, 0.8), (0.8, 0.6), (0.96, 0.28)), "one pixel"),
        Input((Coins(), x_t, level_of(0.3), level_of(0.5), level_of(0.75)), "random images"),
        Input((Coins(), x_t, level_of(0.01), level_of(0.4), level_of(3 / 5)), "from nearly pure noise"),
        Input((Coins(), x_t, (1.0, 4.0), (1.0, 1.0), (1.0, 0.05)), "random images whose alpha stays"),
    ]


CONTRACT = Contract(
    two_step_image,
    _stairs,
    {
        "the first guess": (
            _landed(lambda g: g.first),
            "the teacher's guess at x_t, with which one step lands where one step of the teacher does; take two steps",
        ),
        "the second guess": (
            _landed(lambda g: g.second),
            "the teacher's second guess belongs to the point in the middle; from x_t one step with it lands elsewhere",
        ),
        "guesses averaged": (
            _landed(lambda g: (g.first + g.second) / 2),
            "the mean of the two guesses; solve for the image with which one step lands where the two steps do",
        ),
        "where it lands": (
            _landed(lambda g: g.end),
            "gives x at the level `then`, in which there is noise; solve the one step from `now` for its image",
        ),
        "landing over alpha": (
            _landed(lambda g: g.end / g.a_s),
            "divides the end by its alpha, as if no noise were in it; take off the noise that comes from x_t first",
        ),
        "not divided": (
            _landed(lambda g: g.end - g.s_s / g.s * g.x),
            "does not divide by alpha_then - r alpha_now, with r = sigma_then / sigma_now",
        ),
        "divided by alpha": (
            _landed(lambda g: (g.end - g.s_s / g.s * g.x) / g.a_s),
            "divides by alpha_then alone; r x_t has some of the image in it, too: alpha_then - r alpha_now",
        ),
        "r upside down": (
            _landed(lambda g: _solved(g, g.s / g.s_s)),
            "r is upside down; the noise of x_t shrinks: sigma_then / sigma_now",
        ),
        "r of the alphas": (
            _landed(lambda g: (g.end - g.a_s / g.a * g.x) / (g.s_s - g.a_s / g.a * g.s)),
            "takes the quotient of the alphas, which solves for the noise; with that of the sigmas the image is left",
        ),
        "r squared": (
            _landed(lambda g: _solved(g, (g.s_s / g.s).square())),
            "takes the quotient of the variances; sigma_then / sigma_now has no square",
        ),
        "added": (
            _landed(lambda g: _solved(g, -g.s_s / g.s)),
            "adds r x_t; the noise that comes from x_t is taken off, above the line and below",
        ),
        "levels swapped": (
            _landed(lambda g: (g.end - g.s_s / g.s * g.x) / (g.a - g.s_s / g.s * g.a_s)),
            "the alphas are swapped below the line: alpha_then - r alpha_now",
        ),
        "second call from x_t": (
            _two_levels(lambda x, half, now, middle: (x, middle)),
            "the second step begins at x_t; it goes on from where the first one ended",
        ),
        "second call at now": (
            _two_levels(lambda x, half, now, middle: (half, now)),
            "the second call is given the level `now`; its point is at `middle`",
        ),
        "means of noisy steps": (
            _landed(lambda g: _solved(g, g.s_s / g.s), eta=1.0),
            "the teacher makes ancestral steps without their noise, too short; it makes DDIM steps, eta = 0",
        ),
    },
)
