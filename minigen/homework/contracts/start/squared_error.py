"""The exercise `start.squared_error`: squared error, summed over an image, averaged over the batch."""

from __future__ import annotations

import torch
from torch import Tensor

from minigen.homework.contract import Contract, Input, gradients
from minigen.homework.mistakes import CUT, SUM_OVER_EVERYTHING


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


CONTRACT = Contract(
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
            SUM_OVER_EVERYTHING,
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
            CUT,
        ),
    },
    gradients("x", "y"),
)
