"""What a recipe is: one small piece of data that says how a family of models learns a task, as it was measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from minigen.data.batches import Batches, Stream
from minigen.tasks.task import Measured, Task
from minigen.train.loop import Objective, Run
from minigen.train.optimizers import adam_per_player
from minigen.train.schedules import linear_decay

Schedule = Callable[[int], Callable[[int], float]]  # from the steps of a run to its factor on the learning rate
hold_half: Schedule = partial(linear_decay, hold=0.5)
hold_third: Schedule = partial(linear_decay, hold=0.3)


def warmup_decay(steps: int, *, warmup: int = 200, hold: float = 0.4) -> Callable[[int], float]:
    """A schedule for `Run`: up to 1 within `warmup` steps, flat for a share `hold` of all, then linear to 0."""
    return lambda n: min(1.0, n / warmup, max(0.0, (steps - n) / (steps * (1.0 - hold))))


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A family of models and the task that it learns, with settings that were measured.

    To change one, `dataclasses.replace(recipe, rate=1e-3)`.

    objective: called as objective(task, **settings), makes networks and loss; it needs no data.
    draw: draw(run, n, seed=), n samples of what was learnt, on the CPU.
    prepare: called as prepare(objective, seed) with the options of `build`, what is done once before training and takes
    data.
    schedule: from the number of steps to a function of the step number, the factor on the rate. ema: decay of each
    player's average. clip: largest gradient norm.
    log_prob: log_prob(run, images, seed=), nats/image, (B,), for families with a likelihood: a `ScoredTask`.
    measure: further figures of a run, beside those of its samples.
    at: makes the recipe of a reader's own data, for those that learn from a folder.
    steps: enough to see it work on one CPU thread. full_steps: for a GPU, or patience.
    reaches: what `steps` were measured to reach.
    """

    family: str
    task: Task
    objective: Callable[..., Objective]
    settings: Mapping[str, Any] = field(default_factory=dict)
    rate: float
    betas: tuple[float, float] = (0.9, 0.999)
    schedule: Schedule
    ema: Mapping[str, float]
    clip: float | None = None
    batch_size: int
    steps: int
    full_steps: int
    draw: Callable[..., Tensor]
    reaches: str
    prepare: Callable[..., None] | None = None
    log_prob: Callable[..., Tensor] | None = None
    measure: Callable[[Run], dict[str, Measured]] | None = None
    at: Callable[[str], Recipe] | None = None

    @property
    def name(self) -> str:
        """The recipe as the command line calls it: family and data."""
        return f"{self.family} {self.task.name}"

    def build(
        self, *, steps: int, seed: int = 0, device: torch.device | str = "cpu", fresh: bool = True, **options: Any
    ) -> Run:
        """The run of so many steps, before the first. options: of `Run`, such as sync and precision.

        fresh: off, `prepare` is left out, for a run that then takes the state of another.
        """
        torch.manual_seed(seed)
        objective = self.objective(self.task, **self.settings)
        if self.prepare and fresh:
            self.prepare(objective, seed, device=device, **options)
        objective = objective.to(device)
        optimizers = adam_per_player(objective, self.rate, betas=self.betas)
        given: dict[str, Any] = {"ema": self.ema, "clip": self.clip, "schedule": self.schedule(steps), "seed": seed}
        return Run(objective, optimizers, **given | options)

    def batches(self, *, seed: int, device: torch.device | str) -> Batches | Stream:
        """The endless batches that the run of this seed learns from."""
        return self.task.batches(batch_size=self.batch_size, seed=seed, device=device)
