"""The exercises of chapter 02 share these: batches of logits, games, and losses that overflow."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy

from minigen.homework.contract import Function, Input


def two_batches() -> list[Input]:
    generator = torch.Generator().manual_seed(0)
    real, fake = torch.randn(2, 5, generator=generator) * 2
    return [
        Input((torch.tensor([1.0]), torch.tensor([-2.0])), "one sample each"),
        Input((real, fake), "random logits"),
        Input((torch.tensor([200.0, -200.0]), torch.tensor([200.0, -200.0])), "logits of size 200"),
    ]


def a_discriminator(*sizes: int, scale: float = 1.0) -> nn.Module:
    """Linear layers with Tanh between them, to logits (B,); the weights are drawn without the global random stream.

    Not by nn.utils.skip_init: torch would import sympy for its device "meta", on the clock of the first answer.
    """
    generator = torch.Generator().manual_seed(0)
    layers: list[nn.Module] = []
    with torch.random.fork_rng(devices=()):
        for a, b in pairwise(sizes):
            layers += [nn.Linear(a, b), nn.Tanh()]
    network = nn.Sequential(*layers[:-1], nn.Flatten(0))
    for parameter in network.parameters():
        parameter.data = scale * torch.randn(parameter.shape, generator=generator)
    return network


def games() -> list[Input]:
    generator = torch.Generator().manual_seed(1)
    real, fake = torch.randn(2, 5, 2, generator=generator)
    return [
        Input((a_discriminator(1, 1), torch.tensor([[1.0]]), torch.tensor([[-2.0]])), "one sample each"),
        Input((a_discriminator(2, 4, 1), real, fake), "random samples and a random network"),
        Input((a_discriminator(2, 1, scale=100.0), real, fake), "a network with logits of some hundreds"),
    ]


def sigmoid_log(logits: Tensor) -> Tensor:
    return torch.log(torch.sigmoid(logits))


def entropy(logits: Tensor, label: float) -> Tensor:
    return binary_cross_entropy(torch.sigmoid(logits), torch.full_like(logits, label))


def through(loss: Callable[..., Tensor]) -> Function:
    """The turn of either player with this loss, the fakes detached in D's turn alone."""

    def turn(discriminator: nn.Module, *batches: Tensor) -> Tensor:
        kept = [*batches[:-1], batches[-1].detach()] if len(batches) == 2 else batches
        return loss(*(discriminator(batch) for batch in kept))

    return turn
