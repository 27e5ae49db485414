"""The exercise `autoregressive.shift`: tokens that a causal transformer reads."""

from __future__ import annotations

import torch
from torch import Tensor

from minigen.homework.contract import Contract, Input


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


CONTRACT = Contract(
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
