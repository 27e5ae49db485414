"""The exercises of chapter 13 about attention share these: queries, keys and values, and their scores."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from minigen.nets.attention import MaskedSoftmax


def attended(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    weights: Tensor = MaskedSoftmax()(scaled_scores(q, k)[None, None], mask)[0, 0]
    return weights @ v


def scaled_scores(q: Tensor, k: Tensor) -> Tensor:
    """(T, S), scaled."""
    return q @ k.mT / math.sqrt(q.shape[1])


def not_ahead(scores: Tensor) -> Tensor:
    """Minus infinity where the word's number is above the place's."""
    return scores.masked_fill(torch.ones_like(scores).triu(1).bool(), -math.inf)


def tables() -> list[tuple[tuple[Tensor, Tensor, Tensor], str]]:
    """As many places as words, so that a table of weights fits on its side, too.

    Extreme scores are equal or far from each other: rounding does not show.
    """
    generator = torch.Generator().manual_seed(0)
    q, k = 1.5 * torch.randn(2, 5, 3, generator=generator)
    few = torch.tensor([[1.0, 2.0], [-1.0, 0.5]]), torch.tensor([[0.5, 1.0], [1.0, -0.5]]), torch.tensor([[1.0], [3.0]])
    scores = torch.tensor(
        [[500.0, 500.0, -500.0, -500.0], [-500.0, -500.0, -450.0, -500.0], [0, 0, 1, -1], [500, 0, -1, 400]]
    )
    far = scores / 8, 16 * torch.eye(4), torch.randn(4, 2, generator=generator)
    apart = torch.tensor(
        [[1000.0, 0, 0, 0], [-2000, -1000, -2000, -2000], [-1000, 0, -1000, -1000], [0, -1000, 900, 1000]]
    )
    return [
        (few, "two places and two words"),
        ((q, k, torch.randn(5, 4, generator=generator)), "random queries, keys and values"),
        (far, "scores of size 500"),
        ((apart / 8, *far[1:]), "places whose scores are 1000 apart"),
    ]
