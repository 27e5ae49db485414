"""The exercise `autoregressive.mask`: mask of a convolution that sees pixels before its own."""

from __future__ import annotations

import torch
from torch import Tensor

from minigen.homework.contract import Contract, Input


def mask(size: int, kind: str) -> Tensor:
    """What a masked convolution sees, 1, and does not, 0: (size, size), in raster order, "B" with its own pixel."""
    seen = torch.zeros(size, size, dtype=torch.int64)
    seen[: size // 2] = 1
    seen[size // 2, : size // 2 + (kind == "B")] = 1
    return seen


def _kinds() -> list[Input]:
    return [
        Input((3, "A"), "the first layer's mask of size 3"),
        Input((3, "B"), "a later layer's mask of size 3"),
        Input((7, "A"), "the first layer's mask of size 7"),
        Input((5, "B"), "a later layer's mask of size 5"),
        Input((1, "B"), "a mask of one pixel"),
    ]


def _own_row(size: int) -> Tensor:
    """1 in the middle row of the kernel, (size, size)."""
    return (torch.arange(size) == size // 2).long()[:, None].expand(size, size)


CONTRACT = Contract(
    mask,
    _kinds,
    {
        "swapped": (
            lambda n, kind: mask(n, "B" if kind == "A" else "A"),
            "A and B are swapped: A, the first layer's, must not see the pixel that it predicts; B sees its own place",
        ),
        "always B": (
            lambda n, kind: mask(n, "B"),
            "A sees its own pixel, the one that is to be predicted, so the network may copy it; leave the centre out",
        ),
        "always A": (
            lambda n, kind: mask(n, "A"),
            "B does not see its own place; above the first layer it holds features of pixels before: set the centre",
        ),
        "transposed": (
            lambda n, kind: mask(n, kind).T,
            "columns and rows are swapped, as if pixels came column by column; raster order goes row by row",
        ),
        "backwards": (
            lambda n, kind: mask(n, kind).flip(0, 1),
            "sees the pixels that come after its own; before is above, and to the left in its own row",
        ),
        "upside down": (
            lambda n, kind: mask(n, kind).flip(0),
            "sees the rows below in place of those above; row 0 of a kernel is the upper one",
        ),
        "right for left": (
            lambda n, kind: mask(n, kind).flip(1),
            "sees the right part of its own row in place of the left; pixels to the left come before",
        ),
        "rows below as well": (
            lambda n, kind: mask(n, kind) | (torch.arange(n) > n // 2).long()[:, None],
            "sees the rows below as well, which come later; leave them 0",
        ),
        "the rest of the row": (
            lambda n, kind: mask(n, kind) | _own_row(n) * (torch.arange(n) > n // 2).long(),
            "sees the rest of its own row as well; the pixels to the right come later",
        ),
        "the whole row": (
            lambda n, kind: mask(n, kind) | _own_row(n),
            "sees its own row to the end, and its own pixel even in A; the row stops at the centre",
        ),
        "rows above alone": (
            lambda n, kind: mask(n, kind) * (1 - _own_row(n)),
            "sees the rows above alone; the pixels to the left in its own row come before as well",
        ),
        "its own row alone": (
            lambda n, kind: mask(n, kind) * _own_row(n),
            "sees its own row alone; all rows above come before as well, at their full width",
        ),
        "the upper left quarter": (
            lambda n, kind: mask(n, kind) * (torch.arange(n) <= n // 2).long(),
            "cuts the rows above at its own column; the pixels above and to the right come before as well",
        ),
        "the triangle": (
            lambda n, kind: torch.ones(n, n, dtype=torch.int64).tril(-1 if kind == "A" else 0),
            "a triangle is the mask of attention, with a row for each place of a sequence; here the entries are the"
            " places around one pixel",
        ),
        "inverted": (
            lambda n, kind: 1 - mask(n, kind),
            "0 and 1 are swapped: the mask multiplies the weights, so 1 is what is seen",
        ),
    },
)
