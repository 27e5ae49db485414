"""Small games that the tests of the loop play."""

from __future__ import annotations

import torch
from torch import nn

from minigen.nets.mlp import MLPDiscriminator, MLPGenerator
from minigen.objectives.minimax import Minimax

PLAYERS = ("generator", "discriminator")


def game(seed: int = 0, *, r1: float = 0.1) -> Minimax:
    torch.manual_seed(seed)
    return Minimax(
        MLPGenerator(2, (2,), hidden=(16,), bounded=False),
        MLPDiscriminator((2,), hidden=(16,)),
        loss="non-saturating",
        r1=r1,
    )


def adam_per_player(objective: nn.Module, *, fused: bool = True, lr: float = 1e-2) -> dict[str, torch.optim.Optimizer]:
    return {name: torch.optim.Adam(getattr(objective, name).parameters(), lr, fused=fused) for name in PLAYERS}


def points(n: int, *, generator: torch.Generator) -> torch.Tensor:
    return torch.randn(n, 2, generator=generator) + 2.0


def flat(module: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().reshape(-1) for p in module.parameters()]).clone()


class Scripted(nn.Module):
    """An objective whose turns are a function of the test's own."""

    def __init__(self, script, *names: str) -> None:
        super().__init__()
        for name in names:
            self.add_module(name, nn.Linear(2, 1))
        self.turns = lambda batch, noise: script(self, batch, noise)


def sgd(objective: nn.Module, *names: str, lr: float = 0.1) -> dict[str, torch.optim.Optimizer]:
    return {name: torch.optim.SGD(getattr(objective, name).parameters(), lr) for name in names}
