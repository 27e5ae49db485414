"""The exercise `autoregressive.skew`: map with each row moved right by one more."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn.functional import pad

from minigen.homework.contract import Contract, Input
from minigen.nets import pixelrnn


def _maps() -> list[Input]:
    x = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    return [
        Input((torch.tensor([[[[1.0], [2.0]]]]),), "two rows of one pixel"),
        Input((x,), "random features of 4 rows"),
        Input((x[:, :, :1],), "one row"),
        Input((1e6 * x[..., :2],), "large features, higher than wide"),
    ]


def _moved(x: Tensor, steps: Iterable[int], wide: int) -> Tensor:
    """Row i moved right by steps[i], in a frame of this width; what falls out is cut off."""
    rows = [pad(row, (step, wide))[..., :wide] for row, step in zip(x.unbind(2), steps, strict=True)]
    return torch.stack(rows, dim=2)


CONTRACT = Contract(
    pixelrnn.skew,
    _maps,
    {
        "moved left": (
            lambda x: _moved(x, range(x.shape[2])[::-1], x.shape[3] + x.shape[2] - 1),
            "the upper rows are moved right, so that the pixel above lies in a later column; row i is moved by i",
        ),
        "wrapped": (
            lambda x: torch.stack([row.roll(i, 2) for i, row in enumerate(x.unbind(2))], dim=2),
            "what leaves a row on the right comes in on the left; widen the map to W + H - 1 and fill with 0",
        ),
        "not padded": (
            lambda x: _moved(x, range(x.shape[2]), x.shape[3]),
            "pixels fall out on the right, since the map has kept its width; widen it to W + H - 1",
        ),
        "one column too many": (
            lambda x: _moved(x, range(x.shape[2]), x.shape[3] + x.shape[2]),
            "one column too many, which stays empty: the last row is moved by H - 1, so the width is W + H - 1",
        ),
        "counted from one": (
            lambda x: _moved(x, range(1, x.shape[2] + 1), x.shape[3] + x.shape[2]),
            "counts rows from 1, so that the first column is empty; the first row stays where it is",
        ),
        "columns": (
            lambda x: pixelrnn.skew(x.mT).mT,
            "moves the columns down; move the rows right: (B, C, H, W + H - 1)",
        ),
        "cumulative": (
            lambda x: _moved(x, (i * (i + 1) // 2 for i in range(x.shape[2])), x.shape[3] + x.shape[2] - 1),
            "moves row i by i(i + 1)/2; each row moves by one more than the one above, so row i by i",
        ),
        "not moved": (
            lambda x: _moved(x, [0] * x.shape[2], x.shape[3] + x.shape[2] - 1),
            "widens the map but moves nothing; row i starts in column i",
        ),
    },
)
