"""The exercise `sampling.flow_velocity`: velocity of flow matching."""

from __future__ import annotations

from torch import Tensor

from minigen.homework.contract import Contract, Function, Input
from minigen.homework.mistakes import doubles, squares
from minigen.objectives.diffusion import append_dims
from minigen.objectives.flow import velocity_from


def flow_velocity(image: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
    """The velocity of x_t = (1 - t) x_0 + t eps from E[x_0 | x_t], (B, C, H, W), with t (B,) in (0, 1]."""
    return velocity_from(image, x_t, t)


def _moments() -> list[Input]:
    one = doubles(2.0).view(1, 1, 1, 1)
    image, x_t = squares(3, 2)
    return [
        Input((-0.5 * one, one, doubles(0.75)), "one pixel"),
        Input((image, x_t, doubles(0.3, 0.5, 0.9)), "random images at three times"),
        Input((image, x_t, doubles(1.0, 1e-2, 1.0)), "pure noise, and hardly any"),
    ]


def _with_time(mix: Function) -> Function:
    """mix(image, x, t) with times that multiply images."""
    return lambda image, x, t: mix(image, x, append_dims(t, x))


CONTRACT = Contract(
    flow_velocity,
    _moments,
    {
        "sign": (
            _with_time(lambda d, x, t: (d - x) / t),
            "points from noise to the image; time runs from data, 0, to noise, 1, so the velocity is eps - x_0",
        ),
        "not divided": (
            _with_time(lambda d, x, t: x - d),
            "the way from the image to x_t, which took the time t; divide by it",
        ),
        "multiplied": (
            _with_time(lambda d, x, t: t * (x - d)),
            "multiplies by the time; a velocity is a distance divided by the time it took",
        ),
        "t squared": (
            _with_time(lambda d, x, t: (x - d) / t.square()),
            "divides by t^2, as for a score; divide by t",
        ),
        "the time left": (
            _with_time(lambda d, x, t: (x - d) / (1 - t)),
            "divides by 1 - t, right where t = 0 is noise; here t = 0 is data, and the way from there to x_t took t",
        ),
        "time turned round": (
            _with_time(lambda d, x, t: (d - x) / (1 - t)),
            "counts time from noise to data, as the papers do; here t = 0 is data: (x_t - image) / t",
        ),
        "the noise": (
            _with_time(lambda d, x, t: (x - (1 - t) * d) / t),
            "this is the noise eps; the velocity is eps - x_0",
        ),
        "x_t scaled up": (
            _with_time(lambda d, x, t: (x / (1 - t) - d) / t),
            "scales x_t up by 1 / (1 - t); the velocity is that of x_t as it stands: (x_t - image) / t",
        ),
        "t eps for eps": (
            _with_time(lambda d, x, t: x - (1 - t) * d - d),
            "takes x_t - (1 - t) image for the noise; that is t eps: divide by t",
        ),
        "of the other velocity": (
            _with_time(lambda d, x, t: (1 - t) * (x - (1 - t) * d) / t - t * d),
            "this is v = alpha eps - sigma x_0 of chapter 11; along straight lines the velocity is eps - x_0",
        ),
        "the score": (
            _with_time(lambda d, x, t: ((1 - t) * d - x) / t.square()),
            "this is the score; the velocity is eps - x_0, with eps minus t times the score",
        ),
        "along the width": (
            lambda d, x, t: (x - d) / t,
            "the times (B,) divide columns of pixels, as broadcasting has it; reshape them to (B, 1, 1, 1)",
        ),
    },
)
