"""The exercise `prompts.information`: mutual information from two denoising errors, nats."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from minigen.homework.contract import Contract, Function, Input
from minigen.homework.mistakes import IN_BITS, doubles
from minigen.objectives import diffusion


def information(error: Tensor, error_told: Tensor, log_snr: Tensor) -> Tensor:
    """What the image says of a context, nats, a number: half the integral over SNR of the error that the context saves.

    error, error_told: (N,) least squared errors without and with the context. log_snr: (N,) ascending, nats. By the
    trapezoidal rule in log-SNR.
    """
    return diffusion.information(error, error_told, log_snr)[-1]


def _levels() -> list[Input]:
    generator = torch.Generator().manual_seed(0)
    wide = torch.linspace(-16, 16, 40, dtype=torch.float64)
    uneven = torch.rand(25, generator=generator, dtype=torch.float64).mul(6).sub(4).sort().values
    error, told = torch.rand(2, 25, generator=generator, dtype=torch.float64) + doubles(0.7, 0.5)[:, None]
    return [
        Input((doubles(2.0, 1.5, 0.5), doubles(1.5, 0.75, 0.25), doubles(-1.0, 0.5, 1.0)), "three levels"),
        Input((1 / (1 + wide.exp()), 1 / (5 + wide.exp()), wide), "Gaussian images and a context, 40 levels"),
        Input((error, told, uneven), "estimates at 25 uneven levels"),
        Input((10 * told, 7 * told, uneven + 2), "a context that saves 3 parts in 10"),
    ]


def _integral(weigh: Callable[[Tensor, Tensor], Tensor]) -> Function:
    """Half the integral over log-SNR of something else, made of the saved error and log-SNR."""
    return lambda e, told, s: 0.5 * torch.trapezoid(weigh(e - told, s), s)


def _step_sum(e: Tensor, told: Tensor, s: Tensor, side: slice) -> Tensor:
    """Half the sum of steps that have the height of one of their ends."""
    return 0.5 * (((e - told) * s.exp())[side] * s.diff()).sum()


CONTRACT = Contract(
    information,
    _levels,
    {
        "half forgotten": (
            lambda e, told, s: 2 * information(e, told, s),
            "leaves out the half; the derivative of information by SNR is half of the squared error",
        ),
        "doubled": (
            lambda e, told, s: 4 * information(e, told, s),
            "multiplies by 2; take half of the integral",
        ),
        "sign": (
            lambda e, told, s: information(told, e, s),
            "has the errors swapped, or a minus; the context saves error, so that error - error_told is not negative",
        ),
        "over log-SNR": (
            _integral(lambda saved, s: saved),
            "integrates over log-SNR; the integral is over SNR, and d SNR is SNR d log SNR: a factor exp(log_snr)",
        ),
        "log-SNR for SNR": (
            _integral(lambda saved, s: saved * s),
            "multiplies by log-SNR; SNR is its exp",
        ),
        "divided by SNR": (
            _integral(lambda saved, s: saved * (-s).exp()),
            "divides by SNR; d SNR is SNR d log SNR: multiply by exp(log_snr)",
        ),
        "the signal's share": (
            _integral(lambda saved, s: saved * s.sigmoid()),
            "multiplies by alpha^2; SNR is alpha^2 / sigma^2, exp(log_snr)",
        ),
        "root of SNR": (
            _integral(lambda saved, s: saved * (s / 2).exp()),
            "multiplies by alpha / sigma, the root of SNR; take its square, exp(log_snr)",
        ),
        "SNR squared": (
            _integral(lambda saved, s: saved * (2 * s).exp()),
            "multiplies by SNR twice; d SNR is SNR d log SNR: once",
        ),
        "decibels": (
            _integral(lambda saved, s: saved * 10 ** (s / 10)),
            "takes log_snr for decibels; it is the natural logarithm of SNR",
        ),
        "by the rule in SNR": (
            lambda e, told, s: 0.5 * torch.trapezoid(e - told, s.exp()),
            "takes the trapezoidal rule in SNR, whose last steps are wide; the integrand is (error - error_told) SNR"
            " over log_snr",
        ),
        "over the noise": (
            lambda e, told, s: 0.5 * torch.trapezoid(e - told, (-s / 2).exp()),
            "integrates over sigma / alpha; information is an integral over SNR",
        ),
        "left ends": (
            lambda e, told, s: _step_sum(e, told, s, slice(None, -1)),
            "gives each step the height of its left end; the trapezoidal rule takes the mean of both ends",
        ),
        "right ends": (
            lambda e, told, s: _step_sum(e, told, s, slice(1, None)),
            "gives each step the height of its right end; the trapezoidal rule takes the mean of both ends",
        ),
        "sum": (
            lambda e, told, s: 0.5 * ((e - told) * s.exp()).sum(),
            "adds the levels up without the width of the steps; use torch.trapezoid with log_snr",
        ),
        "mean": (
            lambda e, told, s: information(e, told, s) / (s[-1] - s[0]),
            "divides by the range of log-SNR, which makes a mean of the integral; leave that out",
        ),
        "bits": (
            lambda e, told, s: information(e, told, s) / math.log(2),
            IN_BITS,
        ),
        "roots": (
            lambda e, told, s: information(e.sqrt(), told.sqrt(), s),
            "takes the roots of the errors; it is squared errors that count",
        ),
        "log of the ratio": (
            lambda e, told, s: 0.5 * (e / told).log()[-1],
            "half the log of the ratio of errors at the last level, which is 0 with no noise left; take the integral",
        ),
        "without the context": (
            lambda e, told, s: information(e, 0 * told, s),
            "integrates the error alone: what x_t says of x_0; subtract the error that is left with the context",
        ),
        "with the context": (
            lambda e, told, s: information(told, 0 * told, s),
            "integrates the error with the context alone; it is what the context saves: error - error_told",
        ),
        "never below 0": (
            lambda e, told, s: information(torch.maximum(e, told), told, s),
            "cuts off savings below 0, so that chance errors of estimates add up and do not cancel; leave their sign",
        ),
        "each level": (
            diffusion.information,
            "gives the information up to each level, (N,); the last of these is asked for",
        ),
        "the last level": (
            lambda e, told, s: 0.5 * ((e - told) * s.exp())[-1],
            "takes the last level alone; information is the integral over all",
        ),
    },
)
