"""The exercises of chapter 10 about the order of pixels: what a network may see."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn.functional import pad

from minigen.homework.contract import Contract, Input
from minigen.nets import pixelrnn


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


MASK = Contract(
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


def shift(levels: Tensor, start: int) -> Tensor:
    """What a causal transformer reads: levels (B, T) moved right by one, with `start` in front, (B, T)."""
    return torch.cat([torch.full_like(levels[:, :1], start), levels[:, :-1]], dim=1)


def _sequences() -> list[Input]:
    levels = torch.randint(1, 6, (3, 5), generator=torch.Generator().manual_seed(0))
    return [
        Input((torch.tensor([[2, 1]]), 3), "a sequence of two pixels"),
        Input((levels, 6), "random sequences"),
        Input((torch.tensor([[0], [4]]), 5), "images of one pixel"),
    ]


SHIFT = Contract(
    shift,
    _sequences,
    {
        "not moved": (
            lambda k, s: k.clone(),
            "not moved: each place would read the level that it is to predict; move right by one, `start` in front",
        ),
        "moved left": (
            lambda k, s: torch.cat([k[:, 1:], torch.full_like(k[:, :1], s)], dim=1),
            "moved left: each place would read the level after its own; move right, `start` in front",
        ),
        "moved left, wrapped": (
            lambda k, s: k.roll(-1, 1),
            "moved left, with the first level at the end; move right, and put `start` in front",
        ),
        "one place longer": (
            lambda k, s: torch.cat([torch.full_like(k[:, :1], s), k], dim=1),
            "one place too long: the last level predicts nothing any more; leave it out",
        ),
        "start at the end": (
            lambda k, s: torch.cat([k, torch.full_like(k[:, :1], s)], dim=1),
            "appends `start`; it stands in front, where nothing has been read yet, and the last level is left out",
        ),
        "wrapped": (
            lambda k, s: k.roll(1, 1),
            "the last level comes round to the front, so that the first pixel sees the last; put `start` there",
        ),
        "wrapped into the next image": (
            lambda k, s: k.flatten().roll(1).view_as(k),
            "moves through the whole batch, so that an image begins with the end of another; put `start` in front"
            " of each",
        ),
        "start alone": (
            lambda k, s: torch.full_like(k, s),
            "reads `start` everywhere, so that no pixel knows those before it; keep all levels but the last",
        ),
        "the first overwritten": (
            lambda k, s: torch.cat([torch.full_like(k[:, :1], s), k[:, 1:]], dim=1),
            "overwrites the first level and moves nothing: the others still read the level that they are to predict",
        ),
        "0 for start": (
            lambda k, s: shift(k, 0),
            "puts 0 in front, which is a level; `start` is a token of its own",
        ),
        "down the batch": (
            lambda k, s: torch.cat([torch.full_like(k[:1], s), k[:-1]]),
            "moves along the batch; the sequence is dimension 1",
        ),
    },
)


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


SKEW = Contract(
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
