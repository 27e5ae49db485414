"""What a recipe is: a family of models, the data that it learns, and how both are put together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from minigen import metrics
from minigen.streams import Batches, Stream
from minigen.train import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Measured(NamedTuple):
    """What samples or a model reach, and the yardstick: what exact samples, or real images, reach; None is unknown."""

    model: float
    yardstick: float | None


class Target(Protocol):
    """Data to learn from, and how to judge what was learnt.

    name: as on the command line. title: one line. shape: of a sample. count: the samples that `evaluate` is made for.
    yardstick: what the second number of each figure is of, "exact" or "real".
    """

    name: str
    title: str
    shape: tuple[int, ...]
    count: int
    yardstick: str

    def batches(self, *, batch_size: int, seed: int, device: torch.device | str) -> Batches | Stream:
        """Endless batches (batch_size, *shape), resumable. Raises what `minigen.data` raises for missing files."""
        ...

    def evaluate(self, samples: Tensor) -> dict[str, Measured]:
        """Figures of quality of samples (N, *shape) on the CPU."""
        ...

    def picture(self, samples: Tensor) -> Figure:
        """Samples as a picture."""
        ...


@runtime_checkable
class Scored(Target, Protocol):
    """A target whose held-out images a model with a likelihood is scored on."""

    def held_out(self) -> Tensor:
        """Images that no training saw, (N, *shape) on the CPU; the same at each call."""
        ...

    def likelihood(self, nats: metrics.Estimate) -> dict[str, Measured]:
        """Figures of a model whose negative log-likelihood on these is `nats`, nats/image."""
        ...


@dataclass(frozen=True)
class Recipe:
    """A family of models and the data that it learns, with settings that were measured.

    build: build(steps=, seed=, device=, **options of `Run`), the run before its first step; needs no data.
    draw: draw(run, n, seed=), n samples of what was learnt, on the CPU.
    log_prob: log_prob(run, images, seed=), nats/image, (B,); for families with a likelihood, whose target is `Scored`.
    measure: further figures of a run, beside those of its samples.
    steps: enough to see it work on one CPU thread. full_steps: for a GPU, or patience.
    reaches: what `steps` were measured to reach.
    """

    family: str
    target: Target
    steps: int
    full_steps: int
    batch_size: int
    build: Callable[..., Run]
    draw: Callable[..., Tensor]
    reaches: str
    log_prob: Callable[..., Tensor] | None = None
    measure: Callable[[Run], dict[str, Measured]] | None = None

    @property
    def name(self) -> str:
        """The recipe as the command line calls it: family and data."""
        return f"{self.family} {self.target.name}"

    def batches(self, *, seed: int, device: torch.device | str) -> Batches | Stream:
        """The endless batches that the run of this seed learns from."""
        return self.target.batches(batch_size=self.batch_size, seed=seed, device=device)
