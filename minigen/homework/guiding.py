"""The exercises of chapter 12 about what a denoiser says: scores, velocities, guidance."""

from __future__ import annotations

from torch import Tensor

from minigen.homework.contract import Contract, Function, Input
from minigen.homework.noising import doubles, squares, with_levels
from minigen.objectives.diffusion import column
from minigen.objectives.flow import velocity_from
from minigen.samplers.guidance import beyond


def score_from_image(image: Tensor, x_t: Tensor, signal: Tensor, noise: Tensor) -> Tensor:
    """The score of x_t (B, C, H, W) from E[x_0 | x_t], at levels (B,) with noise above 0: Tweedie's formula."""
    return (column(signal, x_t) * image - x_t) / column(noise, x_t).square()


def _guesses() -> list[Input]:
    one = doubles(2.0).view(1, 1, 1, 1)
    image, x_t = squares(3, 2)
    return [
        Input((-0.5 * one, one, doubles(3 / 5), doubles(0.8)), "one pixel"),
        Input((image, x_t, doubles(0.9, 0.5, 0.2), doubles(0.4, 0.9, 0.7)), "random images at three levels"),
        Input((image, x_t, doubles(1.0, 1.0, 1e-3), doubles(1e-2, 30.0, 1.0)), "levels from 0.01 to 30"),
    ]


SCORE_FROM_IMAGE = Contract(
    score_from_image,
    _guesses,
    {
        "sign": (
            with_levels(lambda d, x, a, s: (x - a * d) / s.square()),
            "minus the score: it points to where the density grows, from x_t to the image; change the sign",
        ),
        "divided by noise": (
            with_levels(lambda d, x, a, s: (a * d - x) / s),
            "this is minus the noise eps; the score is that, divided by the noise level once more: noise^2",
        ),
        "the noise": (
            with_levels(lambda d, x, a, s: (x - a * d) / s),
            "this is the noise eps; the score is -eps / noise",
        ),
        "not divided": (
            with_levels(lambda d, x, a, s: a * d - x),
            "the way from x_t to the image, not divided: the score is longer where there is less noise, by 1 / noise^2",
        ),
        "multiplied": (
            with_levels(lambda d, x, a, s: (a * d - x) * s.square()),
            "multiplies by noise^2, which leads from the score to the image; divide",
        ),
        "signal missing": (
            with_levels(lambda d, x, a, s: (d - x) / s.square()),
            "the image is not scaled; x_t is signal * x_0 + noise * eps, so its mean given x_0 is signal * x_0",
        ),
        "signal on x_t": (
            with_levels(lambda d, x, a, s: (d - a * x) / s.square()),
            "scales x_t by the signal; it is the image that is scaled",
        ),
        "divided by signal as well": (
            with_levels(lambda d, x, a, s: (a * d - x) / (a * s.square())),
            "divides by the signal as well, (image - x_t / signal) / noise^2; below the line stands noise^2 alone",
        ),
        "of x_t / signal": (
            with_levels(lambda d, x, a, s: (d - x / a) * (a / s).square()),
            "this is the score of x_t / signal, whose noise is noise / signal; the exercise asks for that of x_t",
        ),
        "signal squared": (
            with_levels(lambda d, x, a, s: (a.square() * d - x) / s.square()),
            "squares the signal; it multiplies the image as it is",
        ),
        "the variance kept": (
            with_levels(lambda d, x, a, s: (a * d - x) / (1 - a.square())),
            "takes 1 - signal^2 for noise^2, which holds only where the variance is kept; the noise is given",
        ),
        "swapped": (
            with_levels(lambda d, x, a, s: (s * d - x) / a.square()),
            "signal and noise are swapped; the image goes with the signal",
        ),
        "of the prior": (
            with_levels(lambda d, x, a, s: -x / s.square()),
            "this is the score of pure noise; the image is missing",
        ),
        "along the width": (
            lambda d, x, signal, noise: (signal * d - x) / noise.square(),
            "the levels (B,) multiply columns of pixels, as broadcasting has it; reshape them to (B, 1, 1, 1)",
        ),
    },
)


def guide(without: Tensor, told: Tensor, guidance_scale: float) -> Tensor:
    """What a denoiser says, (B, ...), guided from its guess without a label to the one with it; 1 is unguided."""
    return beyond(without, told, guidance_scale)


def _pairs() -> list[Input]:
    few = doubles(0.5, -1.0).view(1, 1, 1, 2), doubles(2.0, -0.5).view(1, 1, 1, 2)
    without, told = 0.5 * squares(3, 2)
    return [
        Input((*few, 3.0), "two pixels"),
        Input((without, told, 7.5), "random guesses, strongly guided"),
        Input((without, told, 1.0), "random guesses, unguided"),
        Input((without, told, 0.0), "random guesses, the label ignored"),
        Input((0.01 * without, 100 * told, 0.25), "guesses far from each other"),
    ]


def _like_told(without: Tensor, told: Tensor, guidance_scale: float) -> Tensor:
    """Guided, with each image's standard deviation set to that of the guess with the label."""
    mixed = guide(without, told, guidance_scale)
    return mixed * (told.std((1, 2, 3), keepdim=True) / mixed.std((1, 2, 3), keepdim=True))


GUIDE = Contract(
    guide,
    _pairs,
    {
        "1 + w": (
            lambda n, c, w: c + w * (c - n),
            "begins at the guess with the label, as the paper does, whose w is one less; here 1 is unguided: begin at"
            " the other guess",
        ),
        "swapped": (
            lambda n, c, w: c + w * (n - c),
            "the two guesses are swapped, so that a larger scale leads away from the label; begin without it",
        ),
        "away from the label": (
            lambda n, c, w: n - w * (c - n),
            "walks the other way, from the label; add the difference told - without",
        ),
        "w - 1": (
            lambda n, c, w: n + (w - 1) * (c - n),
            "takes 1 from the scale, as for the paper's w, which begins at the guess with the label; begin without it"
            " and take w",
        ),
        "half way": (
            lambda n, c, w: (n + c) / 2,
            "the mean of the two, whatever the scale",
        ),
        "the label alone": (
            lambda n, c, w: w * c,
            "multiplies the guess with the label; guidance stretches its difference from the one without",
        ),
        "difference alone": (
            lambda n, c, w: w * (c - n),
            "the difference alone; add it to the guess without the label",
        ),
        "sum": (
            lambda n, c, w: n + w * c,
            "adds the whole guess with the label; it is its difference from the other that is added",
        ),
        "subtracted once": (
            lambda n, c, w: w * c - n,
            "the weights must add up to 1: w * told + (1 - w) * without",
        ),
        "weights that add up to 2 w + 1": (
            lambda n, c, w: (1 + w) * c + w * n,
            "(1 + w) and w with a plus: the guess without the label is subtracted in the paper, and its w is one less",
        ),
        "normalised": (
            lambda n, c, w: (n + w * c) / (1 + w),
            "a weighted mean, which stays between the two; guidance goes beyond: w and 1 - w, which may be negative",
        ),
        "clipped": (
            lambda n, c, w: guide(n, c, w).clamp(-1, 1),
            "right, then clipped to [-1, 1], as some samplers do; leave that out here",
        ),
        "rescaled": (
            _like_told,
            "right, then rescaled to the spread of the guess with the label, as some samplers do; leave that out here",
        ),
        "guided with label": (lambda n, c, w: c.clone(), "ignores the scale: this is unguided, for every w"),
        "without label": (lambda n, c, w: n.clone(), "ignores the label: this is scale 0, for every w"),
    },
)


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
    return lambda image, x, t: mix(image, x, column(t, x))


FLOW_VELOCITY = Contract(
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
            "this is v = signal eps - noise x_0 of chapter 11; along straight lines the velocity is eps - x_0",
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
