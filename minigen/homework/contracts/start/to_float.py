"""The exercise `start.to_float`: level k of K as a number in [-1, 1]."""

from __future__ import annotations

import torch
from torch import Tensor

from minigen.homework.contract import Contract, Input


def to_float(levels: Tensor, num_levels: int) -> Tensor:
    """Level k of K as a number: (2k + 1)/K - 1, the middle of the k-th of K equal parts of [-1, 1]."""
    return (2 * levels + 1) / num_levels - 1


def _levels() -> list[Input]:
    generator = torch.Generator().manual_seed(0)
    return [
        Input((torch.tensor([0, 1]), 2), "black and white"),
        Input((torch.randint(5, (2, 1, 3, 3), generator=generator), 5), "random images of 5 levels"),
        Input((torch.tensor([0, 127, 128, 255]), 256), "the ends and the middle of 256 levels"),
        Input((torch.tensor([2, 3, 5]), 7), "levels of 7 without the end ones"),
    ]


CONTRACT = Contract(
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
            "127.5 is a habit for 256 levels, and puts the end levels on -1 and 1; divide 2k + 1 by num_levels",
        ),
        "the batch's own ends": (
            lambda k, n: 2 * (k - k.min()) / (k.max() - k.min()) - 1,
            "puts the batch's own lowest and highest level on -1 and 1, so that a level's number hangs on its"
            " neighbours; divide by num_levels",
        ),
        "the batch's own ends, in [0, 1]": (
            lambda k, n: (k - k.min()) / (k.max() - k.min()),
            "puts the batch's own lowest and highest level on 0 and 1; the number of a level hangs on num_levels alone,"
            " and is the middle of its cell in [-1, 1]",
        ),
        "the batch's own largest": (
            lambda k, n: 2 * k / k.max() - 1,
            "divides by the batch's own highest level, which may be a low one; divide 2k + 1 by num_levels",
        ),
        "256 typed in": (lambda k, n: (2 * k + 1) / 256 - 1, "always divides by 256; divide by num_levels"),
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
