"""The exercise `diffusion.image_from_velocity`: image in a predicted velocity."""

from __future__ import annotations

import torch
from torch import Tensor

from minigen.homework.contract import Contract, Input
from minigen.homework.mistakes import LEVELS_AS_COLUMNS, doubles, squares, with_levels
from minigen.objectives.diffusion import predict_x0


def image_from_velocity(velocity: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """x_0 (B, C, H, W) from v = alpha eps - sigma x_0 and x_t = alpha x_0 + sigma eps, with levels (B,)."""
    return predict_x0(velocity, x_t, alpha, sigma, "v")


def _velocities() -> list[Input]:
    one = torch.full((1, 1, 1, 1), 2.0, dtype=torch.float64)
    v, x_t = squares(3, 2)
    angle, ends, few = doubles(0.3, 0.8, 1.4), doubles(0.0, 1e-3, 1.0), (doubles(0.6), doubles(0.8))
    return [
        Input((-0.5 * one, one, *few), "one pixel"),
        Input((v, x_t, angle.cos(), angle.sin()), "random images at three levels"),
        Input((v, x_t, ends, (1 - ends.square()).sqrt()), "no signal, hardly any, and no noise"),
    ]


CONTRACT = Contract(
    image_from_velocity,
    _velocities,
    {
        "added": (
            with_levels(lambda v, x, a, s: a * x + s * v),
            "adds sigma * v; v has - sigma * x_0 in it, and minus that is + sigma^2 * x_0: subtract",
        ),
        "the noise": (
            with_levels(lambda v, x, a, s: s * x + a * v),
            "this is the noise, eps = sigma * x_t + alpha * v; the image is the other mixture",
        ),
        "swapped": (
            with_levels(lambda v, x, a, s: s * x - a * v),
            "alpha and sigma are swapped; x_t counts alpha times, v sigma times",
        ),
        "x_t and v swapped": (
            with_levels(lambda v, x, a, s: a * v - s * x),
            "x_t and v are swapped: alpha * v - sigma * x_t is minus the noise level's share of eps; start from x_t",
        ),
        "minus the image": (
            with_levels(lambda v, x, a, s: s * v - a * x),
            "this is minus the image; alpha * x_t is positive",
        ),
        "v for noise": (
            with_levels(lambda v, x, a, s: (x - s * v) / a),
            "takes v for the noise, which divides by alpha; alpha * x_t - sigma * v needs no division",
        ),
        "straight lines": (
            with_levels(lambda v, x, a, s: x - s * v),
            "x_t is not scaled, as for the velocity of straight lines; here alpha^2 + sigma^2 = 1: alpha * x_t",
        ),
        "v not scaled": (
            with_levels(lambda v, x, a, s: a * x - v),
            "v is not scaled; it counts sigma times",
        ),
        "squares": (
            with_levels(lambda v, x, a, s: a.square() * x - s.square() * v),
            "squares the levels; they are deviations and multiply as they are",
        ),
        "roots": (
            with_levels(lambda v, x, a, s: a.sqrt() * x - s.sqrt() * v),
            "takes roots of the levels, as of alpha_bar; alpha and sigma are roots already",
        ),
        "one minus alpha": (
            with_levels(lambda v, x, a, s: a * x - (1 - a) * v),
            "takes 1 - alpha for sigma; it is given, and the squares add up to 1",
        ),
        "v for the score": (
            with_levels(lambda v, x, a, s: (x + s.square() * v) / a),
            "this is Tweedie's formula, which turns a score into an image; v is no score",
        ),
        "divided by alpha": (
            with_levels(lambda v, x, a, s: x - s / a * v),
            "divides by alpha, which v is there to avoid; multiply x_t by alpha instead",
        ),
        "v as it is": (
            with_levels(lambda v, x, a, s: v.clone()),
            "gives v back; it is a mixture of noise and image, alpha * eps - sigma * x_0",
        ),
        "v ignored": (
            with_levels(lambda v, x, a, s: a * x),
            "leaves the noise in x_t; subtract sigma * v",
        ),
        "along the width": (
            lambda v, x, alpha, sigma: alpha * x - sigma * v,
            LEVELS_AS_COLUMNS,
        ),
    },
)
