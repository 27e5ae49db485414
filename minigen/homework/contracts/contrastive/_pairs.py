"""The exercises of chapter 14 about images and captions that belong together share these scores."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from minigen.homework.contract import Input


def others(scores: Tensor) -> Tensor:
    """The scores without those of the own pairs, which become minus infinity."""
    return scores.masked_fill(torch.eye(len(scores), dtype=torch.bool), -math.inf)


def own_left_out(scores: Tensor) -> Tensor:
    return (others(scores).logsumexp(1) - scores.diagonal()).mean()


def own_twice(scores: Tensor) -> Tensor:
    twice = torch.cat([scores, scores.diagonal()[:, None]], dim=1)
    return (twice.logsumexp(1) - scores.diagonal()).mean()


def over_everything(scores: Tensor) -> Tensor:
    return -scores.flatten().log_softmax(0).view_as(scores).diagonal().mean()


def matrices() -> list[Input]:
    generator = torch.Generator().manual_seed(0)
    return [
        Input((torch.tensor([[1.0, -0.5], [0.25, 0.5]]),), "two pairs"),
        Input((2 * torch.randn(5, 5, generator=generator),), "random scores"),
        Input((torch.tensor([[-200.0, 200.0, 0.0], [0.0, 200.0, 199.0], [1.0, 2.0, -200.0]]),), "scores of size 200"),
        Input((torch.tensor([[1e3, 0.0, -1e3], [-2e3, -1e3, -2e3], [0.0, -1e3, -1e3]]),), "rows 1000 apart"),
    ]
