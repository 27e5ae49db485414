"""The one training loop.

An objective is a game. For each batch it yields *turns*: who moves, what that player minimises, what to log. The loop
lets that player, and only that player, take an optimiser step, then asks for the next turn::

    class Minimax(nn.Module):
        def turns(self, real, noise):
            fake = self.generator(noise.normal(len(real), self.latent))
            yield "discriminator", discriminator_loss(self.discriminator(real), self.discriminator(fake.detach())), {}
            yield "generator", non_saturating_loss(self.discriminator(fake)), {}  # the discriminator has moved

    run = Run(objective, {"generator": adam_g, "discriminator": adam_d}, average={"generator": 0.999})
    for step in run(batches, 5_000):  # a generator: the caller owns the loop
        if step.n % 100 == 0:
            print(step.n, step.read())

Of minigen it imports its own parts alone: `guard`, and `streams` for the noise.
"""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from minigen.guard import Guard, NonFiniteError
from minigen.streams import Noise, map_tensors

Turn = tuple[str, Tensor, dict[str, Tensor]]
CHECKPOINT_FORMAT = 1


class Objective(Protocol):
    """A `torch.nn.Module` that holds the players as sub-modules and says in `turns` how they play one batch."""

    def turns(self, batch: Any, noise: Noise) -> Iterator[Turn]:
        """Yield (player, scalar loss, logs) for each move; code after a yield runs after that player has moved."""
        ...


class Sync(Protocol):
    """What the loop asks of `minigen.distributed`: N processes that act as one."""

    rank: int
    world_size: int

    def shard(self, batch: Any) -> Any:
        """This rank's rows of a batch."""
        ...

    def average_(self, tensors: list[Tensor]) -> None:
        """Replace each tensor by its mean over the ranks."""
        ...

    def broadcast_(self, tensors: list[Tensor]) -> None:
        """Give every rank the tensors of rank 0."""
        ...


@dataclass(slots=True)
class Step:
    """The state of a run after one whole step: all turns taken, all averages updated.

    n: number of steps taken by this run, resumes included (the first is 1).
    logs: detached scalars on the device; "PLAYER/loss" for each player, and what the objective logs.
    """

    n: int
    logs: dict[str, Tensor]

    def read(self) -> dict[str, float]:
        """The logs as Python numbers. The only place of the loop's interface that waits for the device."""
        if not self.logs:
            return {}
        values = torch.stack([v.float().reshape(()) for v in self.logs.values()]).tolist()
        return dict(zip(self.logs, values, strict=True))


def best_device() -> torch.device:
    """CUDA where there is one, else Apple's MPS, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def linear_decay(steps: int, *, hold: float = 0.0) -> Callable[[int], float]:
    """A schedule for `Run`: factor 1 for the first `hold` share of `steps`, then linear to 0 at step `steps`."""
    return lambda n: max(0.0, min(1.0, (steps - n) / (steps * (1.0 - hold))))


def adams(objective: nn.Module, rate: float, *, betas: tuple[float, float] = (0.9, 0.999)) -> dict[str, Optimizer]:
    """One fused Adam for each player: for each module that the objective holds, by its name."""
    return {
        name: torch.optim.Adam(player.parameters(), rate, betas=betas, fused=True)
        for name, player in objective.named_children()
    }


class Average:
    """Exponential moving average of a module's parameters, warmed up; buffers are copied.

    After t updates the decay is min(decay, (1 + t) / (10 + t)), and the first update copies, so that the random
    initial weights are forgotten at once (the rule of TensorFlow's ExponentialMovingAverage with num_updates). Equal
    to `torch.optim.swa_utils.AveragedModel` with the same decay; a test holds it to that.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"average decay must be in [0, 1), such as 0.999; got {decay}")
        self.decay, self.updates = decay, 0
        self.module = copy.deepcopy(module).eval().requires_grad_(False)
        self._to = [p.detach() for p in self.module.parameters()]
        self._from = [p.detach() for p in module.parameters()]
        self._buffers = list(zip(self.module.buffers(), module.buffers(), strict=True))

    @torch.no_grad()
    def update(self, *, frozen: Tensor | None = None) -> None:
        """Move on by one step; where the 0-dim tensor `frozen` is 1, stay (known on the device alone)."""
        t = self.updates
        decay = min(self.decay, (1 + t) / (10 + t)) if t else 0.0
        if frozen is None:
            torch._foreach_lerp_(self._to, self._from, 1.0 - decay)
        else:
            change = torch._foreach_sub(self._from, self._to)
            torch._foreach_mul_(change, (1.0 - decay) * (1.0 - frozen))
            torch._foreach_add_(self._to, change)
        for mine, theirs in self._buffers:
            mine.copy_(theirs)
        self.updates = t + 1


class Run:
    """Training state and the loop that moves it on: `for step in run(batches, steps)`.

    objective: an `Objective`, a module on the device where it is to be trained.
    optimizers: one for each player, by name; a single optimiser stands for {"model": optimiser}. The parameters that a
        player moves are those of its optimiser, and `loss.backward` computes gradients for no others.
    average: {player: decay} keeps an exponential moving average in `run.average[player]`, a module ready to sample.
    precision: "fp32", or "bf16" for autocast, entered anew for every turn.
    compile: compile the players' forward in place (`module.compile()`, keys unchanged). None: yes on CUDA, except for
        the players in the objective's `eager_players` (a penalty on input gradients needs double backward).
    clip: largest gradient norm of a move, one number or {player: number}.
    schedule: a function of the step number that gives the factor on every learning rate; a function of the number
        alone, so that a resumed run repeats it. Without it the rates are yours to change between steps.
    sync: from `minigen.distributed.setup()` under torchrun; the result is that of one process up to rounding.
    seed: of the noise that the objective draws.

    Raises NonFiniteError at the first non-finite loss or gradient, before it reaches a parameter.
    """

    def __init__(
        self,
        objective: nn.Module,
        optimizers: Optimizer | Mapping[str, Optimizer],
        *,
        average: Mapping[str, float] | None = None,
        precision: str = "fp32",
        compile: bool | None = None,
        clip: float | Mapping[str, float] | None = None,
        schedule: Callable[[int], float] | None = None,
        sync: Sync | None = None,
        seed: int = 0,
    ) -> None:
        if precision not in ("fp32", "bf16"):
            raise ValueError(f"precision must be 'fp32' or 'bf16'; got {precision!r}")
        self.objective = objective
        self.optimizers = {"model": optimizers} if isinstance(optimizers, Optimizer) else dict(optimizers)
        self.n = 0
        self.sync, self.precision, self.schedule = sync, precision, schedule
        self._params = {name: [p for g in o.param_groups for p in g["params"]] for name, o in self.optimizers.items()}
        self._check_parameters()
        self.device = next(iter(self._params.values()))[0].device
        self._clip = dict(clip) if isinstance(clip, Mapping) else dict.fromkeys(self.optimizers, clip)
        self.noise = Noise(
            self.device, seed=seed, rank=sync.rank if sync else 0, world_size=sync.world_size if sync else 1
        )
        if sync:
            sync.broadcast_([*objective.parameters(), *objective.buffers()])
        if compile or (compile is None and self.device.type == "cuda"):
            for name in self.optimizers.keys() - set(getattr(objective, "eager_players", ())):
                self._player(name).compile()
        self._averages = {name: Average(self._player(name), decay) for name, decay in (average or {}).items()}
        self._guard = Guard(self.device, self.optimizers)
        self._batches: Any = None
        self._position: Any = None

    @property
    def average(self) -> dict[str, nn.Module]:
        """The averaged copy of each player that has one."""
        return {name: a.module for name, a in self._averages.items()}

    def __call__(self, batches: Iterable[Any], steps: int, *, progress: bool = False) -> Iterator[Step]:
        """Take `steps` more steps, yielding after each; start over where a finite `batches` ends.

        The state is whole at every yield: plot, save, change a rate, break.
        """
        if steps < 0:
            raise ValueError(f"steps is the number of further steps, 0 or more; got {steps}")
        self._batches = batches
        if self._position is not None and hasattr(batches, "load_state_dict"):
            batches.load_state_dict(self._position)
        self._position = None
        return self._steps(batches, self.n + steps, progress)

    def _steps(self, batches: Iterable[Any], last: int, progress: bool) -> Iterator[Step]:
        bar, shown = _bar(last, self.n) if progress and not (self.sync and self.sync.rank) else None, 0.0
        while self.n < last:
            before = self.n
            for batch in batches:
                step = self._step(batch)
                if bar is not None:
                    bar.update()
                    if (now := time.monotonic()) - shown > 1.0:
                        shown = now
                        bar.set_postfix({name: f"{value:.3g}" for name, value in step.read().items()})
                yield step
                if self.n >= last:
                    break
            if self.n == before:
                raise ValueError("`batches` gave no batch; expected an iterable with at least one")
        self._settle()
        if bar is not None:
            bar.close()

    def _step(self, batch: Any) -> Step:
        n = self.n + 1
        batch = map_tensors(lambda t: t if t.device == self.device else t.to(self.device, non_blocking=True), batch)
        if self.sync:
            batch = self.sync.shard(batch)
        if self.schedule:
            factor = self.schedule(n)
            for optimizer in self.optimizers.values():
                for group in optimizer.param_groups:
                    group["lr"] = group.setdefault("initial_lr", group["lr"]) * factor
        logs: dict[str, Tensor] = {}
        turns = self.objective.turns(batch, self.noise)  # type: ignore[operator]
        while True:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
                turn = next(turns, None)
            if turn is None:
                break
            player, loss, more = turn
            logs[f"{player}/loss"] = self._move(n, player, loss)
            for name, value in more.items():
                logs[name] = value.detach()
        for average in self._averages.values():
            average.update(frozen=self._guard.flag if self._guard.deferred else None)
        self.n = n
        if self._guard.told:
            self._settle()
        return Step(n, logs)

    def _settle(self) -> None:
        """Raise where the device holds a failure that the host has not heard of yet."""
        try:
            self._guard.settle()
        except NonFiniteError as error:
            self.n = error.step - 1
            raise

    def _move(self, n: int, player: str, loss: Tensor) -> Tensor:
        """One player's optimiser step; returns the detached loss."""
        if player not in self._params:
            raise KeyError(f"the objective gave a turn to {player!r}; there are optimisers for {sorted(self._params)}")
        params, optimizer = self._params[player], self.optimizers[player]
        for p in params:
            p.grad = None
        moving = [p for p in params if p.requires_grad]
        if not moving:
            raise ValueError(f"every parameter of {player!r} is frozen: nothing is left for its optimiser to move")
        loss.backward(inputs=moving)  # type: ignore[no-untyped-call]
        value, grads = loss.detach(), [p.grad for p in params if p.grad is not None]
        if not grads:
            raise ValueError(f"the loss of {player!r} does not depend on any of its parameters: check for a detach")
        if self.sync:
            value = value.clone()
            self.sync.average_([*grads, value])
        self._guard.check(n, player, value, grads, optimizer)
        if (limit := self._clip.get(player)) is not None:
            nn.utils.clip_grad_norm_(params, limit)
        optimizer.step()
        return value

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything that `load` needs to go on bit-exactly; atomic, and on rank 0 alone.

        A reader sees the old file or the new one, whole, whenever the process dies.
        """
        self._settle()
        if self.sync and self.sync.rank != 0:
            return
        path = Path(path)
        partial = path.with_name(path.name + ".tmp")
        with open(partial, "wb") as file:
            torch.save(self._state(), file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)

    def load(self, path: str | os.PathLike[str]) -> Run:
        """Restore a state that `save` wrote, into a run built in the same way; returns the run.

        Raises FileNotFoundError, or ValueError for a file that is damaged or of another objective.
        """
        path = Path(path)
        if not path.exists():
            raise FileNotFoundError(f"no checkpoint at {path}; expected a file written by Run.save")
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            raise ValueError(f"{path} is no readable checkpoint ({error}); delete it or load an older one") from error
        if not isinstance(state, dict) or state.get("format") != CHECKPOINT_FORMAT:
            raise ValueError(f"{path} was not written by this version's Run.save (format {CHECKPOINT_FORMAT})")
        for part, mine in (("optimizers", self.optimizers), ("averages", self._averages)):
            if set(state[part]) != set(mine):
                raise ValueError(f"{path} holds {part} of {sorted(state[part])}; this run has {sorted(mine)}")
        try:
            self.objective.load_state_dict(state["objective"])
        except RuntimeError as error:
            raise ValueError(f"{path} is of another objective or network: {error}") from error
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
        for name, average in self._averages.items():
            average.module.load_state_dict(state["averages"][name]["module"])
            average.updates = state["averages"][name]["updates"]
        self.noise.load_state_dict(state["noise"])
        torch.set_rng_state(state["cpu_generator"])
        if state["device_generator"] is not None and self.device.type in ("cuda", "mps"):
            getattr(torch, self.device.type).set_rng_state(state["device_generator"])
        self.n, self._position, self._batches = state["n"], state["batches"], None
        return self

    def _state(self) -> dict[str, Any]:
        accelerator = self.device.type in ("cuda", "mps")
        position = getattr(self._batches, "state_dict", None)
        return {
            "format": CHECKPOINT_FORMAT,
            "n": self.n,
            "objective": self.objective.state_dict(),
            "optimizers": {name: o.state_dict() for name, o in self.optimizers.items()},
            "averages": {
                name: {"module": a.module.state_dict(), "updates": a.updates} for name, a in self._averages.items()
            },
            "noise": self.noise.state_dict(),
            "batches": position() if position else self._position,
            "cpu_generator": torch.get_rng_state(),
            "device_generator": getattr(torch, self.device.type).get_rng_state() if accelerator else None,
        }

    def _player(self, name: str) -> nn.Module:
        player = getattr(self.objective, name, None)
        if not isinstance(player, nn.Module):
            known = [name for name, _ in self.objective.named_children()]
            raise ValueError(f"the objective has no module {name!r}; its modules are {known}")
        return player

    def _check_parameters(self) -> None:
        owned = {id(p) for p in self.objective.parameters()}
        for name, params in self._params.items():
            if not all(id(p) in owned for p in params):
                raise ValueError(
                    f"the optimiser of {name!r} moves parameters that are not the objective's: they would not be saved"
                )


def _bar(total: int, initial: int) -> Any:
    from tqdm.auto import tqdm

    return tqdm(total=total, initial=initial, unit="step")
