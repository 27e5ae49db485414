"""The exercises of chapter 04 share these: batches of logits beside labels."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from minigen.homework.contract import Input


def right(class_logits: Tensor, label: Tensor) -> Tensor:
    """The logit of the own label, (B,)."""
    return class_logits[torch.arange(len(label)), label]


def probability(class_logits: Tensor, label: Tensor) -> Tensor:
    """The softmax of the own label, (B,)."""
    return right(class_logits.softmax(1), label)


def hot(class_logits: Tensor, label: Tensor) -> Tensor:
    """Labels as one-hots, (B, K)."""
    return one_hot(label, class_logits.shape[1]).to(class_logits)


def classified() -> list[Input]:
    """Logits of three classes and labels; in one case as many images as classes, where a wrong dimension still runs."""
    generator = torch.Generator().manual_seed(0)
    square = 2 * torch.randn(3, 3, generator=generator)
    sure = torch.tensor([[-200.0, 200.0, 0.0], [0.0, 200.0, 199.0], [1.0, 2.0, -200.0], [-3.0, 0.0, 1.0]])
    near = torch.tensor([[1e3, 990.0, 995.0], [-1e3, -990.0, -995.0]])
    apart = torch.tensor([[-1e3, 0.0, 1.0], [0.0, 1.0, -1e3], [1.0, -1e3, 0.0]])
    return [
        Input((torch.tensor([[1.0, -0.5, 0.25]]), torch.tensor([2])), "one image, label 2"),
        Input((square, torch.tensor([1, 1, 2])), "three images, three classes"),
        Input((2 * torch.randn(5, 3, generator=generator), torch.tensor([0, 2, 1, 0, 0])), "random logits"),
        Input((sure, torch.tensor([0, 1, 2, 0])), "logits of size 200"),
        Input((near, torch.tensor([1, 2])), "rows near 1000 and near -1000"),
        Input((apart, torch.tensor([2, 0, 0])), "logits 1000 apart in every row"),
    ]
