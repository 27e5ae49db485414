"""The exercises of chapter 12 about steps without noise: of second order, and two in one.

A level is a pair (signal, noise); steps lead from `now` to the less noisy `then`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from minigen.homework.contract import Contract, Function, Input
from minigen.homework.noising import squares
from minigen.objectives import distillation
from minigen.objectives.diffusion import Denoise, Path, backward
from minigen.samplers import diffusion
from minigen.samplers.diffusion import Level


def level_of(signal: float) -> Level:
    """The level of that signal whose variance is kept."""
    return signal, (1 - signal * signal) ** 0.5


class Coins(nn.Module):
    """The exact denoiser of images whose pixels are -1 or 1 with equal chance: E[x_0 | x_t]."""

    def forward(self, x: Tensor, signal: float, noise: float) -> Tensor:
        """(B, C, H, W) to the same."""
        return torch.tanh(torch.as_tensor(signal, dtype=x.dtype) * x / torch.as_tensor(noise, dtype=x.dtype).square())


def heun_step(denoise: Denoise, x_t: Tensor, now: Level, then: Level) -> Tensor:
    """Heun's step of the probability-flow ODE in y = x / signal by r = noise / signal, (B, C, H, W).

    denoise: called as denoise(x, signal, noise) for E[x_0 | x_t]. To noise 0 it is a DDIM step.
    """
    path = Path(*torch.tensor([now, then], dtype=torch.float64).T)
    return next(diffusion.heun(denoise, x_t, path))


def _slope(denoise: Denoise, y: Tensor, level: Level) -> Tensor:
    """dy/dr at y, the noise that signal y shows: (y - E[x_0 | x]) / r."""
    return (y - denoise(level[0] * y, *level)) / (level[1] / level[0])


def _in_y(move: Callable[[Denoise, Tensor, Level, Level, float], Tensor], *, ends: bool = True) -> Function:
    """A step that moves y in another way; with `ends`, one to noise 0 is right."""

    def variant(denoise: Denoise, x_t: Tensor, now: Level, then: Level) -> Tensor:
        if ends and not then[1]:
            return heun_step(denoise, x_t, now, then)
        return then[0] * move(denoise, x_t / now[0], now, then, then[1] / then[0] - now[1] / now[0])

    return variant


def _slopes(mix: Callable[[Tensor, Tensor], Tensor]) -> Function:
    """A step by another mixture of the slopes here and at the end of the Euler step."""

    def move(denoise: Denoise, y: Tensor, now: Level, then: Level, h: float) -> Tensor:
        here = _slope(denoise, y, now)
        return y + h * mix(here, _slope(denoise, y + h * here, then))

    return _in_y(move)


def _half_way(denoise: Denoise, y: Tensor, now: Level, then: Level, h: float) -> Tensor:
    """The midpoint method."""
    signal = (1 + (now[1] / now[0] + h / 2) ** 2) ** -0.5
    middle = signal, (1 - signal * signal) ** 0.5
    return y + h * _slope(denoise, y + h / 2 * _slope(denoise, y, now), middle)


def _unscaled(denoise: Denoise, x_t: Tensor, now: Level, then: Level) -> Tensor:
    """Heun's step by the noise level in x itself, as if the signal stayed."""
    h, here = then[1] - now[1], (x_t - denoise(x_t, *now)) / now[1]
    if not then[1]:
        return x_t + h * here
    ahead = x_t + h * here
    return x_t + h / 2 * (here + (ahead - denoise(ahead, *then)) / then[1])


def _guesses_averaged(denoise: Denoise, x_t: Tensor, now: Level, then: Level) -> Tensor:
    guess = denoise(x_t, *now)
    if not then[1]:
        return backward(guess, x_t, now, then, eta=0.0).mean
    ahead = backward(guess, x_t, now, then, eta=0.0).mean
    return backward((guess + denoise(ahead, *then)) / 2, x_t, now, then, eta=0.0).mean


def _from_ahead(denoise: Denoise, y: Tensor, now: Level, then: Level, h: float) -> Tensor:
    here = _slope(denoise, y, now)
    ahead = y + h * here
    return ahead + h / 2 * (here + _slope(denoise, ahead, then))


def _with_y(denoise: Denoise, y: Tensor, now: Level, then: Level, h: float) -> Tensor:
    """Heun's step of a reader who forgets to scale y before a call."""

    def slope(y: Tensor, level: Level) -> Tensor:
        return (y - denoise(y, *level)) / (level[1] / level[0])

    return y + h / 2 * (slope(y, now) + slope(y + h * slope(y, now), then))


def _ends() -> list[Input]:
    one = torch.full((1, 1, 1, 1), 0.5, dtype=torch.float64)
    (x_t,) = squares(3, 1)
    return [
        Input((Coins(), one, (0.6, 0.8), (0.8, 0.6)), "one pixel"),
        Input((Coins(), x_t, level_of(0.3), level_of(0.7)), "random images"),
        Input((Coins(), x_t, (1.0, 3.0), (1.0, 1.5)), "random images whose signal stays"),
        Input((Coins(), x_t, level_of(0.02), level_of(0.4)), "from nearly pure noise"),
        Input((Coins(), x_t, level_of(0.5), (1.0, 0.0)), "the last step, to noise 0"),
    ]


HEUN_STEP = Contract(
    heun_step,
    _ends,
    {
        "Euler": (
            _slopes(lambda here, there: here),
            "a DDIM step, which keeps the noise seen at its beginning; take the mean of that and the one at its end",
        ),
        "the end alone": (
            _slopes(lambda here, there: there),
            "takes the noise seen at the end of the step alone, which is of first order too; take the mean of both",
        ),
        "sum": (
            _slopes(lambda here, there: here + there),
            "adds the two slopes; take their mean",
        ),
        "extrapolated": (
            _slopes(lambda here, there: (3 * here - there) / 2),
            "takes 3/2 and -1/2, which are for a slope of the step before; the one at the end counts 1/2",
        ),
        "backwards": (
            _slopes(lambda here, there: -(here + there) / 2),
            "goes up in noise; the step in r is r_then - r_now, which is negative",
        ),
        "the end's level at the old place": (
            _in_y(lambda f, y, now, then, h: y + h / 2 * (_slope(f, y, now) + _slope(f, y, then))),
            "the second call is given x before the step; give it the point that the DDIM step reaches",
        ),
        "the old level at the end": (
            _in_y(
                lambda f, y, now, then, h: y + h / 2 * (_slope(f, y, now) + _slope(f, y + h * _slope(f, y, now), now))
            ),
            "the second call is told the level `now`; the point that it is given is at `then`",
        ),
        "midpoint": (
            _in_y(_half_way),
            "this is the midpoint method, of second order as well; Heun's takes the mean of both ends",
        ),
        "from the predicted point": (
            _in_y(_from_ahead),
            "makes the second step from where the first one ended, so that it moves twice; begin again at x_t",
        ),
        "guesses averaged": (
            _guesses_averaged,
            "averages the two guesses at the image, which is of second order too; Heun averages the two noises",
        ),
        "denoise given y": (
            _in_y(_with_y),
            "gives the denoiser y = x / signal; it is called with x = signal * y, at the level (signal, noise)",
        ),
        "not scaled back": (
            lambda f, x, now, then: heun_step(f, x, now, then) / then[0],
            "returns y = x / signal; multiply by the signal of `then`",
        ),
        "signal of now": (
            lambda f, x, now, then: heun_step(f, x, now, then) * (now[0] / then[0]),
            "turns y into x with the signal of `now`; the step ends at `then`",
        ),
        "the signal forgotten": (
            _unscaled,
            "the formula for a signal that stays 1, dx = (x - image) / noise; divide x by the signal first",
        ),
        "no exception at noise 0": (
            _in_y(
                lambda f, y, now, then, h: y + h / 2 * (_slope(f, y, now) + _slope(f, y + h * _slope(f, y, now), then)),
                ends=False,
            ),
            "right but for the last step: where the noise is 0, eps is 0 / 0; make that one a DDIM step",
        ),
    },
)


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
        half = backward(first, x_t, now, middle, eta=eta).mean
        second = denoise(half, *middle)
        end = backward(second, half, middle, then, eta=eta).mean
        return make(Landing(x_t, end, first, second, *torch.tensor([*now, *then], dtype=x_t.dtype)))

    return variant


def _solved(g: Landing, r: Tensor) -> Tensor:
    return (g.end - r * g.x) / (g.a_s - r * g.a)


def _two_levels(told: Callable[[Tensor, Tensor, Level, Level], tuple[Tensor, Level]]) -> Function:
    """The teacher's second guess made from another point or level: told(x_t, half, now, middle)."""

    def variant(denoise: Denoise, x_t: Tensor, now: Level, middle: Level, then: Level) -> Tensor:
        half = backward(denoise(x_t, *now), x_t, now, middle, eta=0.0).mean
        x, level = told(x_t, half, now, middle)
        end = backward(denoise(x, *level), x, middle, then, eta=0.0).mean
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
        Input((Coins(), x_t, (1.0, 4.0), (1.0, 1.0), (1.0, 0.05)), "random images whose signal stays"),
    ]


TWO_STEP_IMAGE = Contract(
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
        "landing over signal": (
            _landed(lambda g: g.end / g.a_s),
            "divides the end by its signal, as if no noise were in it; take off the noise that comes from x_t first",
        ),
        "not divided": (
            _landed(lambda g: g.end - g.s_s / g.s * g.x),
            "does not divide by signal_then - r signal_now, with r = noise_then / noise_now",
        ),
        "divided by signal": (
            _landed(lambda g: (g.end - g.s_s / g.s * g.x) / g.a_s),
            "divides by signal_then alone; r x_t has some of the image in it, too: signal_then - r signal_now",
        ),
        "r upside down": (
            _landed(lambda g: _solved(g, g.s / g.s_s)),
            "r is upside down; the noise of x_t shrinks: noise_then / noise_now",
        ),
        "r of the signals": (
            _landed(lambda g: (g.end - g.a_s / g.a * g.x) / (g.s_s - g.a_s / g.a * g.s)),
            "takes the quotient of the signals, which solves for the noise; with that of the noises the image is left",
        ),
        "r squared": (
            _landed(lambda g: _solved(g, (g.s_s / g.s).square())),
            "takes the quotient of the variances; noise_then / noise_now has no square",
        ),
        "added": (
            _landed(lambda g: _solved(g, -g.s_s / g.s)),
            "adds r x_t; the noise that comes from x_t is taken off, above the line and below",
        ),
        "levels swapped": (
            _landed(lambda g: (g.end - g.s_s / g.s * g.x) / (g.a - g.s_s / g.s * g.a_s)),
            "the signals are swapped below the line: signal_then - r signal_now",
        ),
        "second call from x_t": (
            _two_levels(lambda x, half, now, middle: (x, middle)),
            "the second step begins at x_t; it goes on from where the first one ended",
        ),
        "second call at now": (
            _two_levels(lambda x, half, now, middle: (half, now)),
            "the second call is told the level `now`; the point that it is given is at `middle`",
        ),
        "means of noisy steps": (
            _landed(lambda g: _solved(g, g.s_s / g.s), eta=1.0),
            "the teacher makes ancestral steps without their noise, too short; it makes DDIM steps, eta = 0",
        ),
    },
)
