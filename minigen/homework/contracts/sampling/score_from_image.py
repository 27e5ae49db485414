"""The exercise `sampling.score_from_image`: score from the posterior mean."""

from __future__ import annotations

from torch import Tensor

from minigen.homework.contract import Contract, Input
from minigen.homework.mistakes import LEVELS_AS_COLUMNS, doubles, squares, with_levels
from minigen.objectives.diffusion import append_dims


def score_from_image(image: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """The score of x_t (B, C, H, W) from E[x_0 | x_t], at levels (B,) with sigma above 0: Tweedie's formula."""
    return (append_dims(alpha, x_t) * image - x_t) / append_dims(sigma, x_t).square()


def _guesses() -> list[Input]:
    one = doubles(2.0).view(1, 1, 1, 1)
    image, x_t = squares(3, 2)
    return [
        Input((-0.5 * one, one, doubles(3 / 5), doubles(0.8)), "one pixel"),
        Input((image, x_t, doubles(0.9, 0.5, 0.2), doubles(0.4, 0.9, 0.7)), "random images at three levels"),
        Input((image, x_t, doubles(1.0, 1.0, 1e-3), doubles(1e-2, 30.0, 1.0)), "levels from 0.01 to 30"),
    ]


CONTRACT = Contract(
    score_from_image,
    _guesses,
    {
        "sign": (
            with_levels(lambda d, x, a, s: (x - a * d) / s.square()),
            "minus the score: it points to where the density grows, from x_t to the image; change the sign",
        ),
        "divided by sigma": (
            with_levels(lambda d, x, a, s: (a * d - x) / s),
            "this is minus the noise eps; the score is that, divided by sigma once more: sigma^2",
        ),
        "the noise": (
            with_levels(lambda d, x, a, s: (x - a * d) / s),
            "this is the noise eps; the score is -eps / sigma",
        ),
        "not divided": (
            with_levels(lambda d, x, a, s: a * d - x),
            "the way from x_t to the image, not divided: the score is longer where there is less noise, by 1 / sigma^2",
        ),
        "multiplied": (
            with_levels(lambda d, x, a, s: (a * d - x) * s.square()),
            "multiplies by sigma^2, which leads from the score to the image; divide",
        ),
        "alpha missing": (
            with_levels(lambda d, x, a, s: (d - x) / s.square()),
            "the image is not scaled; x_t is alpha * x_0 + sigma * eps, so its mean given x_0 is alpha * x_0",
        ),
        "alpha on x_t": (
            with_levels(lambda d, x, a, s: (d - a * x) / s.square()),
            "scales x_t by alpha; it is the image that is scaled",
        ),
        "divided by alpha as well": (
            with_levels(lambda d, x, a, s: (a * d - x) / (a * s.square())),
            "divides by alpha as well, (image - x_t / alpha) / sigma^2; below the line stands sigma^2 alone",
        ),
        "of x_t / alpha": (
            with_levels(lambda d, x, a, s: (d - x / a) * (a / s).square()),
            "this is the score of x_t / alpha, whose noise is sigma / alpha; the exercise asks for that of x_t",
        ),
        "alpha squared": (
            with_levels(lambda d, x, a, s: (a.square() * d - x) / s.square()),
            "squares alpha; it multiplies the image as it is",
        ),
        "the variance kept": (
            with_levels(lambda d, x, a, s: (a * d - x) / (1 - a.square())),
            "takes 1 - alpha^2 for sigma^2, which holds only where the variance is kept; sigma is given",
        ),
        "swapped": (
            with_levels(lambda d, x, a, s: (s * d - x) / a.square()),
            "alpha and sigma are swapped; the image goes with alpha",
        ),
        "of the prior": (
            with_levels(lambda d, x, a, s: -x / s.square()),
            "this is the score of pure noise; the image is missing",
        ),
        "along the width": (
            lambda d, x, alpha, sigma: (alpha * d - x) / sigma.square(),
            LEVELS_AS_COLUMNS,
        ),
    },
)
