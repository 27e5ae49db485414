"""The exercise `sampling.heun_step`: a step of Heun's method."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from minigen.homework.contract import Contract, Function, Input
from minigen.homework.contracts.sampling._levels import Coins, level_of
from minigen.homework.mistakes import squares
from minigen.objectives.diffusion import Denoise, Path, posterior_step
from minigen.samplers import diffusion
from minigen.samplers.diffusion import Level


def heun_step(denoise: Denoise, x_t: Tensor, now: Level, then: Level) -> Tensor:
    """Heun's step of the probability-flow ODE in y = x / alpha by r = sigma / alpha, (B, C, H, W).

    denoise: called as denoise(x, alpha, sigma) for E[x_0 | x_t]. To sigma 0 it is a DDIM step.
    """
    path = Path(*torch.tensor([now, then], dtype=torch.float64).T)
    return next(diffusion.heun(denoise, x_t, path))


def _slope(denoise: Denoise, y: Tensor, level: Level) -> Tensor:
    """dy/dr at y, the noise eps that alpha y shows: (y - E[x_0 | x]) / r."""
    return (y - denoise(level[0] * y, *level)) / (level[1] / level[0])


def _in_y(move: Callable[[Denoise, Tensor, Level, Level, float], Tensor], *, ends: bool = True) -> Function:
    """A step that moves y in another way; with `ends`, one to sigma 0 is right."""

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
    alpha = (1 + (now[1] / now[0] + h / 2) ** 2) ** -0.5
    middle = alpha, (1 - alpha * alpha) ** 0.5
    return y + h * _slope(denoise, y + h / 2 * _slope(denoise, y, now), middle)


def _unscaled(denoise: Denoise, x_t: Tensor, now: Level, then: Level) -> Tensor:
    """Heun's step by sigma in x itself, as if alpha stayed."""
    h, here = then[1] - now[1], (x_t - denoise(x_t, *now)) / now[1]
    if not then[1]:
        return x_t + h * here
    ahead = x_t + h * here
    return x_t + h / 2 * (here + (ahead - denoise(ahead, *then)) / then[1])


def _guesses_averaged(denoise: Denoise, x_t: Tensor, now: Level, then: Level) -> Tensor:
    guess = denoise(x_t, *now)
    if not then[1]:
        return posterior_step(guess, x_t, now, then, eta=0.0).mean
    ahead = posterior_step(guess, x_t, now, then, eta=0.0).mean
    return posterior_step((guess + denoise(ahead, *then)) / 2, x_t, now, then, eta=0.0).mean


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
        Input((Coins(), x_t, (1.0, 3.0), (1.0, 1.5)), "random images whose alpha stays"),
        Input((Coins(), x_t, level_of(0.02), level_of(0.4)), "from nearly pure noise"),
        Input((Coins(), x_t, level_of(0.5), (1.0, 0.0)), "the last step, to sigma 0"),
    ]


CONTRACT = Contract(
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
            "the second call is given the level `now`; its point is at `then`",
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
            "gives the denoiser y = x / alpha; it is called with x = alpha * y, at the level (alpha, sigma)",
        ),
        "not scaled back": (
            lambda f, x, now, then: heun_step(f, x, now, then) / then[0],
            "returns y = x / alpha; multiply by the alpha of `then`",
        ),
        "alpha of now": (
            lambda f, x, now, then: heun_step(f, x, now, then) * (now[0] / then[0]),
            "turns y into x with the alpha of `now`; the step ends at `then`",
        ),
        "alpha forgotten": (
            _unscaled,
            "the formula for an alpha that stays 1, dx = (x - image) / sigma; divide x by alpha first",
        ),
        "no exception at sigma 0": (
            _in_y(
                lambda f, y, now, then, h: y + h / 2 * (_slope(f, y, now) + _slope(f, y + h * _slope(f, y, now), then)),
                ends=False,
            ),
            "right but for the last step: where sigma is 0, eps is 0 / 0; make that one a DDIM step",
        ),
    },
)
