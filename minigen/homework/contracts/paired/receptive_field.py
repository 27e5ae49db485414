"""The exercise `paired.receptive_field`: how many pixels one logit of a discriminator of patches sees."""

from __future__ import annotations

import math
from collections.abc import Callable

from minigen.homework.contract import Contract, Input
from minigen.nets import receptive_field as side


def receptive_field(kernels: list[int], strides: list[int]) -> int:
    """The side in pixels of what one output of a stack of convolutions sees; the first layer is that of the image."""
    return side(list(zip(kernels, strides, strict=True)))


def _stacks() -> list[Input]:
    return [
        Input(([3, 3], [2, 1]), "two layers"),
        Input(([4, 4, 4], [2, 1, 1]), "a judge of 16 pixels a side"),
        Input(([4, 4, 4, 4, 4], [2, 2, 2, 1, 1]), "the published judge, of 70 pixels a side"),
        Input(([5, 1, 3, 2], [3, 2, 1, 2]), "kernels and strides of many sizes"),
    ]


def _sum(step: Callable[[list[int], int], float], *, first: int = 1, less: int = 1) -> Callable[..., float]:
    """first + the sum over layers of (k - less) times a step made of the strides and the number of the layer."""
    return lambda kernels, strides: first + sum((k - less) * step(strides, i) for i, k in enumerate(kernels))


CONTRACT = Contract(
    receptive_field,
    _stacks,
    {
        "no strides": (
            _sum(lambda s, i: 1),
            "leaves the strides out; behind a layer of stride 2 each place stands for two pixels",
        ),
        "its own stride": (
            _sum(lambda s, i: math.prod(s[: i + 1])),
            "multiplies a layer by its own stride, too; only the strides of the layers before it stretch what it sees",
        ),
        "the layers behind": (
            _sum(lambda s, i: math.prod(s[i + 1 :])),
            "takes the strides of the layers behind; those between the image and the layer count",
        ),
        "the stride before": (
            _sum(lambda s, i: s[i - 1] if i else 1),
            "takes the stride of the one layer before; the strides of all of them multiply",
        ),
        "sum of strides": (
            _sum(lambda s, i: sum(s[:i]) or 1),
            "adds the strides of the layers before; they multiply",
        ),
        "powers of two": (
            _sum(lambda s, i: 2**i),
            "takes every stride for 2",
        ),
        "whole kernels": (
            _sum(lambda s, i: math.prod(s[:i]), less=0),
            "adds whole kernels; the windows of neighbours overlap, so that a layer adds its kernel less one",
        ),
        "from nothing": (
            _sum(lambda s, i: math.prod(s[:i]), first=0),
            "begins with 0 pixels; without any layer an output sees one",
        ),
        "product of kernels": (
            lambda kernels, strides: math.prod(kernels),
            "multiplies the kernels, as if their windows did not overlap",
        ),
        "stride of the grid": (
            lambda kernels, strides: math.prod(strides),
            "gives how far apart two outputs look, the product of the strides; asked for is how much one sees",
        ),
        "one side alone": (
            lambda kernels, strides: (side(list(zip(kernels, strides, strict=True))) - 1) / 2,
            "gives how far an output sees to one side; the whole side of the square is asked for",
        ),
        "area": (
            lambda kernels, strides: side(list(zip(kernels, strides, strict=True))) ** 2,
            "gives the number of pixels in the square; asked for is its side",
        ),
    },
)
