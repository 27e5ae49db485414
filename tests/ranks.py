"""What the tests of averaging play in one process and in two: small runs whose ranks differ as much as they may."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from games import flat
from minigen.train import distributed
from minigen.train.loop import Objective, Run


class Parts(Objective):
    """A part for each label, of a shape of its own: a batch moves those of its labels alone."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.ParameterList([nn.Parameter(torch.zeros(size)) for size in (1, 2, 3, 4)])

    def turns(self, batch, rng):
        x, label = batch
        squares = [
            (self.model[k] - x[label == k][:, : len(self.model[k])]).square().sum() for k in label.unique().tolist()
        ]
        yield "model", sum(squares) / len(x), {"mean": x.mean(), "labels": label.float().mean()}


class Shifted(Objective):
    """Two linear players; a buffer is part of the loss, and one of the logs is not a mean of a loss."""

    def __init__(self, start: float) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(2, 1), nn.Linear(2, 1)
        self.register_buffer("shift", torch.tensor(start))
        for p in self.parameters():
            nn.init.constant_(p, start)

    def turns(self, x, rng):
        yield "a", (self.a(x) - self.shift).square().mean(), {"x": x.mean()}
        yield "b", (self.b(x) + self.shift + rng.normal(len(x), 1)).square().mean(), {"square": x.square().mean()}


def parts_batches() -> list[tuple[Tensor, Tensor]]:
    """Labels in order, so that the first half of a batch has others than the second; label 3 in one batch alone."""
    x = torch.randn(6, 4, 4, generator=torch.Generator().manual_seed(1))
    labels = [[0, 0, 3, 3], [0, 0, 1, 1], [0, 1, 2, 2], [2, 2, 2, 2], [1, 1, 0, 2], [0, 0, 0, 2]]
    return list(zip(x, torch.tensor(labels), strict=True))


def play(sync: distributed.ProcessGroup | None) -> dict[str, Tensor]:
    """The ends of all runs, and the logs of their steps."""
    torch.set_num_threads(1)
    rank, found = sync.rank if sync else 0, {}
    for name, make in {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}.items():
        objective = Parts()
        run = Run(objective, make(objective.parameters(), 0.1), ema={"model": 0.5}, sync=sync)
        logs = [[step.read()[key] for key in sorted(step.logs)] for step in run(parts_batches(), 12)]
        found |= {f"parts {name}": flat(objective), f"parts {name} average": flat(run.ema["model"])}
        found[f"parts {name} logs"] = torch.tensor(logs)
    objective = Shifted(0.5 + rank)  # rank 0's parameters and buffers must win
    x = torch.randn(5, 8, 2, generator=torch.Generator().manual_seed(2)) * torch.linspace(0.1, 5, 8)[:, None]
    optimizers = {name: torch.optim.SGD(getattr(objective, name).parameters(), 0.1) for name in "ab"}
    run = Run(objective, optimizers, clip={"a": 0.5}, sync=sync, seed=4)
    logs = [[step.read()[key] for key in sorted(step.logs)] for step in run(list(x), 5)]
    return found | {"clipped": flat(objective), "clipped logs": torch.tensor(logs), "shift": objective.shift}
