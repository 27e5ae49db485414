"""The exercises of chapter 00."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from minigen.homework.contract import Contract, Input, Personal, gradients


def to_float(levels: Tensor, levels_count: int) -> Tensor:
    """Level k of K as a number: (2k + 1)/K - 1, the middle of the k-th of K equal parts of [-1, 1]."""
    return (2 * levels + 1) / levels_count - 1


def _levels() -> list[Input]:
    generator = torch.Generator().manual_seed(0)
    return [
        Input((torch.tensor([0, 1]), 2), "black and white"),
        Input((torch.randint(5, (2, 1, 3, 3), generator=generator), 5), "random images of 5 levels"),
        Input((torch.tensor([0, 127, 128, 255]), 256), "the ends and the middle of 256 levels"),
    ]


TO_FLOAT = Contract(
    to_float,
    _levels,
    {
        "end to end": (
            lambda k, n: 2 * k / (n - 1) - 1,
            "this is 2k/(K-1) - 1, which puts the end levels on -1 and 1, half outside; level k stands for the middle"
            " of its cell, (2k + 1)/K - 1",
        ),
        "/ 127.5 - 1": (
            lambda k, n: k / 127.5 - 1,
            "127.5 is a habit for 256 levels, and puts the end levels on -1 and 1; divide 2k + 1 by levels_count",
        ),
        "256 typed in": (lambda k, n: (2 * k + 1) / 256 - 1, "always divides by 256; divide by levels_count"),
        "left edge": (
            lambda k, n: 2 * k / n - 1,
            "this is the left edge of the level's cell; its middle is half a cell further, 2k + 1 in place of 2k",
        ),
        "right edge": (
            lambda k, n: (2 * k + 2) / n - 1,
            "this is the right edge of the level's cell; its middle is half a cell before, 2k + 1 in place of 2k + 2",
        ),
        "in [0, 1]": (
            lambda k, n: (2 * k + 1) / (2 * n),
            "the right point, but of [0, 1]; images are in [-1, 1]: double it and subtract 1",
        ),
        "k / (K - 1)": (
            lambda k, n: k / (n - 1),
            "maps to [0, 1] from end to end; images are in [-1, 1], and a level is the middle of its cell",
        ),
        "k / K": (
            lambda k, n: k / n,
            "the left edge of the cell, in [0, 1]; the middle, in [-1, 1], is (2k + 1)/K - 1",
        ),
        "integer division": (
            lambda k, n: (2 * k + 1) // n - 1,
            "// divides and rounds down, so that few values are left; use / for a quotient in floating point",
        ),
        "not centred": (lambda k, n: (2 * k + 1) / n, "lies in [0, 2]; subtract 1"),
    },
)


def squared_error(x: Tensor, y: Tensor) -> Tensor:
    """The squared error of images (B, ...), summed over an image's dimensions, averaged over the batch."""
    return (x - y).square().flatten(1).sum(1).mean()


def _pairs() -> list[Input]:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(2, 3, 2, 2, 2, generator=generator) * 2 - 1
    return [
        Input((torch.tensor([[[[0.5, 1.0]]]]), torch.tensor([[[[0.0, 0.0]]]])), "one image of two pixels"),
        Input((torch.tensor([[[[2.0]]], [[[0.0]]]]), torch.tensor([[[[0.0]]], [[[1.0]]]])), "two images of one pixel"),
        Input((x, y), "random images"),
        Input((300 * x, -500 * y), "values of some hundreds"),
    ]


SQUARED_ERROR = Contract(
    squared_error,
    _pairs,
    {
        "mean over everything": (
            lambda x, y: (x - y).square().mean(),
            "averages over the pixels too, as mse_loss does; sum over an image's dimensions, then average over the"
            " batch",
        ),
        "sum over everything": (
            lambda x, y: (x - y).square().sum(),
            "sums over the batch too, so that the loss grows with the batch; divide by the number of images",
        ),
        "sum over the channels alone": (
            lambda x, y: (x - y).square().sum(1).mean(),
            "sums over the channels and averages over the pixels; sum over channels, height and width, then average"
            " over the batch",
        ),
        "mean over pixels, sum over the batch": (
            lambda x, y: (x - y).square().flatten(1).mean(1).sum(),
            "the wrong way round: sum over an image's dimensions and average over the batch",
        ),
        "one number an image": (
            lambda x, y: (x - y).square().flatten(1).sum(1),
            "gives one error for each image; a loss is one number: take their mean",
        ),
        "absolute": (lambda x, y: (x - y).abs().flatten(1).sum(1).mean(), "the absolute error; square the difference"),
        "signed": (
            lambda x, y: (x - y).flatten(1).sum(1).mean(),
            "sums the signed difference, so that errors cancel; square it first",
        ),
        "squares the sum": (
            lambda x, y: (x - y).flatten(1).sum(1).square().mean(),
            "sums first and squares then, so that errors cancel; square each pixel's difference, then sum",
        ),
        "root": (
            lambda x, y: (x - y).flatten(1).norm(dim=1).mean(),
            "takes the square root of an image's sum: that is the distance; leave it squared",
        ),
        "root of the mean": (
            lambda x, y: (x - y).square().mean().sqrt(),
            "this is the root mean square over all pixels; leave out the root and sum over an image's dimensions",
        ),
        "half": (
            lambda x, y: 0.5 * squared_error(x, y),
            "a factor 1/2 too small; it belongs to a log-density, not here",
        ),
        "no gradient": (
            lambda x, y: squared_error(x, y).detach(),
            "right, but cut off from the graph, so that nothing can learn from it; return the tensor without .item(),"
            " .detach() or torch.no_grad()",
        ),
    },
    gradients("x", "y"),
)


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


_ERROR = Contract(
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

MONTE_CARLO_ERROR = replace(
    _ERROR,
    personal=Personal(
        "Give the half-width of an interval of {width} standard errors for the mean of {scale} times the values.",
        {"width": _WIDTHS, "scale": _SCALES},
        lambda width, scale: _ERROR.adapted(after=lambda error: width * scale * error),
    ),
)

CONTRACTS = {"to_float": TO_FLOAT, "squared_error": SQUARED_ERROR, "monte_carlo_error": MONTE_CARLO_ERROR}
