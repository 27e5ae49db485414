"""What a task is: data to learn, together with its judge.

A batch is images x (B, *shape), or (x, *conditions) where images come with what belongs to them, such as tokens.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from minigen import metrics, show
from minigen.data.batches import Batches, Stream


class Measured(NamedTuple):
    """What samples or a model reach, and the yardstick: what exact samples, or real images, reach; None is unknown."""

    model: float
    yardstick: float | None


class Task(Protocol):
    """Data to learn from, and how to judge what was learnt.

    name: as on the command line. title: one line. shape: of a sample. count: the samples that `evaluate` is made for.
    yardstick: what the second number of each figure is of, "exact", "real" or "chance".
    """

    name: str
    title: str
    shape: tuple[int, ...]
    count: int
    yardstick: str

    def batches(self, *, batch_size: int, seed: int, device: torch.device | str) -> Batches | Stream:
        """Endless batches, resumable. Raises what `minigen.data` raises for missing files."""

    def evaluate(self, samples: Tensor) -> dict[str, Measured]:
        """Figures of quality of samples (N, *shape) on the CPU."""

    def picture(self, samples: Tensor) -> show.Figure:
        """Samples as a picture."""


@runtime_checkable
class ScoredTask(Task, Protocol):
    """A task whose held-out images a model with a likelihood is scored on."""

    def held_out(self) -> Tensor:
        """Images that no training saw, (N, *shape) on the CPU; the same at each call."""

    def likelihood(self, nats: metrics.Estimate) -> dict[str, Measured]:
        """Figures of a model whose negative log-likelihood on these is `nats`, nats/image."""
