"""The exercise `start.monte_carlo_error`: standard error of a mean."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from minigen.homework.contract import Contract, Input, Personal


def monte_carlo_error(values: Tensor) -> Tensor:
    """The standard error of the mean of N independent values (N,): their standard deviation, with N - 1, / sqrt(N)."""
    return values.std() / math.sqrt(len(values))


def _samples() -> list[Input]:
    generator = torch.Generator().manual_seed(0)
    return [
        Input((torch.tensor([0.0, 3.0]),), "two values"),
        Input((torch.randn(7, generator=generator) * 2 + 1,), "random values"),
        Input((torch.tensor([5000.0, 5001.0, 5003.0, 5003.0, 5008.0]),), "values with a large mean and a small spread"),
    ]


def _cancelling(values: Tensor) -> Tensor:
    n = len(values)
    return ((values.square().mean() - values.mean().square()) / (n - 1)).sqrt()


COMMON = Contract(
    monte_carlo_error,
    _samples,
    {
        "spread of the values": (
            lambda v: v.std(),
            "this is the spread of single values; their mean is steadier by sqrt(N): divide",
        ),
        "variance of the mean": (
            lambda v: v.var() / len(v),
            "this is the variance of the mean, the error squared; take its root",
        ),
        "variance for deviation": (
            lambda v: v.var() / math.sqrt(len(v)),
            "divides the variance by sqrt(N); take the standard deviation, .std()",
        ),
        "divided by N": (
            lambda v: v.std() / len(v),
            "divides by N; the error of a mean falls as 1/sqrt(N), so divide by sqrt(N)",
        ),
        "biased": (
            lambda v: v.std(correction=0) / math.sqrt(len(v)),
            "the standard deviation divides by N; around the values' own mean it is N - 1 (correction=1, the default)",
        ),
        "N - 1 twice": (
            lambda v: v.std() / math.sqrt(len(v) - 1),
            "N - 1 belongs into the standard deviation alone; divide that by sqrt(N)",
        ),
        "multiplied": (
            lambda v: v.std() * math.sqrt(len(v)),
            "multiplies by sqrt(N): that is the error of the sum; the mean's is the deviation divided by sqrt(N)",
        ),
        "95 % interval": (
            lambda v: 1.96 * v.std() / math.sqrt(len(v)),
            "this is half a 95 % interval; the standard error is without the factor 1.96",
        ),
        "variance": (lambda v: v.var(), "this is the variance of single values; the error is its root over sqrt(N)"),
        "cancellation": (
            _cancelling,
            "right on paper, but E[x^2] - E[x]^2 loses all digits where the mean is large; subtract the mean first"
            " (.std() does)",
        ),
    },
)


_WIDTHS = (0.5, 0.6, 0.8, 0.9, 1.2, 1.5, 1.6, 1.8, 2.0, 2.4, 2.5, 2.7, 3.0, 3.2, 3.6, 4.0)


_SCALES = (7.0, 11.0, 13.0, 17.0, 19.0, 23.0, 29.0, 31.0, 37.0, 41.0, 43.0, 47.0, 53.0, 59.0, 61.0, 67.0)  # primes


CONTRACT = replace(
    COMMON,
    personal=Personal(
        "Give the half-width of an interval of {width} standard errors for the mean of {scale} times the values.",
        {"width": _WIDTHS, "scale": _SCALES},
        lambda width, scale: COMMON.adapted(after=lambda error: width * scale * error),
    ),
)
