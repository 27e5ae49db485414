"""The one training loop.

An objective is a game. For each batch it yields *turns*: who moves, what that player minimises, what to log. The loop
lets that player, and only that player, take an optimiser step, then asks for the next turn::

    class Minimax(Objective):
        def turns(self, real, rng):
            fake = self.generator(rng.normal(len(real), self.latent))
            yield "discriminator", discriminator_loss(self.discriminator(real), self.discriminator(fake.detach())), {}
            yield "generator", non_saturating_loss(self.discriminator(fake)), {}  # the discriminator has moved

    run = Run(objective, {"generator": adam_g, "discriminator": adam_d}, ema={"generator": 0.999})
    for step in run(batches, 5_000):  # a generator: the caller owns the loop
        if step.n % 100 == 0:
            print(step.n, step.read())
"""

from __future__ import annotations

import math
import os
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from minigen.data.batches import map_tensors
from minigen.data.checks import need_count
from minigen.train import checkpoint, moves
from minigen.train.distributed import Sync
from minigen.train.ema import EMA
from minigen.train.guard import Guard, NonFiniteError
from minigen.train.precision import AUTOCAST, LossScaler, resolve
from minigen.train.rng import Rng

Turn = tuple[str, Tensor, dict[str, Tensor]]
LOOK = 100  # steps between looks at whether a parameter has joined that no optimiser moves


class Objective(nn.Module, ABC):
    """What is trained: its sub-modules are the players, and `turns` says how they play one batch.

    eager_players: names of players that are not compiled, such as one whose input gradients are penalised.
    takes_uint8: whether `turns` makes numbers of raw uint8 batches by itself; the loop refuses them otherwise.
    """

    eager_players: tuple[str, ...] = ()
    takes_uint8: bool = False

    @abstractmethod
    def turns(self, batch: Any, rng: Rng) -> Iterator[Turn]:
        """Yield (player, scalar loss, logs) for each move; code after a yield runs after that player has moved.

        batch: x, or (x, *conditions). rng: what is random is drawn from here. logs: scalars by name.
        """


@dataclass(slots=True)
class Step:
    """The state of a run after one whole step: all turns taken, all averages updated.

    n: number of steps taken by this run, resumes included (the first is 1).
    logs: detached float32 scalars on the device, means over all processes: "PLAYER/loss" for each player, what the
        objective logs, and under fp16 "PLAYER/scale", of the loss, and "PLAYER/skipped", the moves left out.
    """

    n: int
    logs: dict[str, Tensor]

    def read(self) -> dict[str, float]:
        """The logs as Python numbers. The only place of the loop's interface that waits for the device."""
        if not self.logs:
            return {}
        values = torch.stack([v.float().reshape(()) for v in self.logs.values()]).tolist()
        return dict(zip(self.logs, values, strict=True))


class Run:
    """Training state and the loop that moves it on: `for step in run(batches, steps)`.

    A batch is x, or (x, *conditions); [x], as `DataLoader(TensorDataset(x))` gives it, is x.

    objective: an `Objective` on the device where it is to be trained. (Any module with `turns` will do.)
    optimizers: one for each player, by name; a single optimiser stands for {"model": optimiser}. The parameters that a
        player moves are those of its optimiser, and the backward pass computes gradients for no others. Every parameter
        of the objective that requires a gradient must be some player's.
    ema: {player: decay} keeps an exponential moving average in `run.ema[player]`, a module ready to sample.
    precision: "fp32"; "bf16" or "fp16" for autocast, entered anew for every turn; "auto", what the hardware has units
        for (`minigen.train.precision.resolve`). Under fp16 each player's loss is scaled, and a move whose gradient
        overflows is skipped: it is logged, and its average stays.
    compile: compile the players' forward in place (`module.compile()`, keys unchanged). None: yes on CUDA, except for
        the players in the objective's `eager_players` (a penalty on input gradients needs double backward).
    clip: largest gradient norm of a move, one number or {player: number}, above 0.
    schedule: a function of the step number that gives the factor on every learning rate; a function of the number
        alone, so that a resumed run repeats it. Without it the rates are yours to change between steps.
    sync: from `minigen.train.distributed.setup()` under torchrun; the result is that of one process up to rounding.
    seed: of the noise that the objective draws.

    Raises NonFiniteError at the first non-finite loss or gradient, before it reaches a parameter.

    >>> class Fit(Objective):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.model = nn.Linear(1, 1)
    ...
    ...     def turns(self, batch, rng):
    ...         x, y = batch
    ...         yield "model", (self.model(x) - y).square().mean(), {}
    >>> x = torch.linspace(-1, 1, 32)[:, None]
    >>> fit = Fit()
    >>> run = Run(fit, torch.optim.SGD(fit.parameters(), 0.5))
    >>> for step in run([(x, 3 * x + 1)], 100):
    ...     pass
    >>> step.n, round(fit.model.weight.item(), 3), round(fit.model.bias.item(), 3)
    (100, 3.0, 1.0)
    """

    def __init__(
        self,
        objective: Objective,
        optimizers: Optimizer | Mapping[str, Optimizer],
        *,
        ema: Mapping[str, float] | None = None,
        precision: str = "fp32",
        compile: bool | None = None,
        clip: float | Mapping[str, float] | None = None,
        schedule: Callable[[int], float] | None = None,
        sync: Sync | None = None,
        seed: int = 0,
    ) -> None:
        if not (isinstance(objective, nn.Module) and callable(getattr(objective, "turns", None))):
            raise TypeError(
                f"objective must be a minigen.Objective, a module with `turns(batch, rng)`; got {type(objective)}"
            )
        self.objective = objective
        moves.check_set_up(optimizers, ema, schedule)
        self.optimizers = {"model": optimizers} if isinstance(optimizers, Optimizer) else dict(optimizers)
        self.n = 0
        self.sync, self.schedule = sync, schedule
        params = self._check_parameters()
        self.device = next(iter(params.values()))[0].device
        self.precision = resolve(precision, self.device)
        self._clip = moves.limits(clip, self.optimizers)
        self.rng = Rng(self.device, seed=seed, rank=sync.rank if sync else 0, world_size=sync.world_size if sync else 1)
        if sync:
            sync.broadcast_([*objective.parameters(), *objective.buffers()])
        if compile or (compile is None and self.device.type == "cuda"):
            for name in self.optimizers.keys() - set(getattr(objective, "eager_players", ())):
                self._player(name).compile()
        self._emas = {name: EMA(self._player(name), decay) for name, decay in (ema or {}).items()}
        self._guard = Guard(self.device, self.optimizers)
        scaled = self.optimizers if self.precision == "fp16" else ()
        self._longest = max(map(len, params.values()))
        self._own_logs = {f"{name}/{log}" for name in self.optimizers for log in ("loss", "scale", "skipped")}
        self._scalers = {name: LossScaler(self.device) for name in scaled}
        self._batches: Any = None
        self._position: Any = None
        self._resumed = self._warned = False
        self._whole = True  # False inside a step, and after one that an exception broke off

    @property
    def ema(self) -> dict[str, nn.Module]:
        """The averaged copy of each player that has one."""
        return {name: a.module for name, a in self._emas.items()}

    def __call__(self, batches: Iterable[Any], steps: int, *, progress: bool = False) -> Iterator[Step]:
        """Take `steps` more steps, yielding after each; start over where a finite `batches` ends.

        The state is whole at every yield: plot, save, change a rate, break. After `load`, batches that have
        `load_state_dict` go on where they stood; others start anew, with a warning.
        """
        need_count("steps, the number of further steps,", steps, least=0)
        self._check_parameters()
        if self._position is not None and hasattr(batches, "load_state_dict"):
            batches.load_state_dict(self._position)
        elif self._resumed and self.n:
            self._warn_of_position("this run goes on with the first batches again, and not bit-exactly", 3)
        self._batches, self._position = batches, None
        resumed, self._resumed = self._resumed, False
        return self._steps(batches, self.n + steps, progress, resumed)

    def _steps(self, batches: Iterable[Any], last: int, progress: bool, resumed: bool) -> Iterator[Step]:
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
                if self.n % LOOK == 0 or self.n >= last:
                    self._check_parameters()
                if self.n >= last:
                    break
            if self.n == before and not resumed:
                raise ValueError("`batches` gave no batch; expected an iterable with at least one")
            resumed = False  # batches that were saved at the very end of an epoch have none left of it
        self._settle()
        if bar is not None:
            bar.close()

    def _step(self, batch: Any) -> Step:
        n = self.n + 1
        if type(batch) in (list, tuple):
            batch = tuple(batch) if len(batch) != 1 else batch[0]
        batch = map_tensors(self._place, batch)
        if self.sync:
            batch = self.sync.shard(batch)
        self._whole = False
        if self.schedule:
            self._set_rates(n, float(self.schedule(n)))
        logs: dict[str, Tensor] = {}
        skipped: dict[str, list[Tensor]] = {}
        turns = iter(self.objective.turns(batch, self.rng) or ())
        while True:
            with self._autocast():
                turn = next(turns, None)
            if turn is None:
                break
            player, loss, more = moves.check_turn(turn)
            logs.update(self._move(n, player, loss, more))
            if scaler := self._scalers.get(player):
                skipped.setdefault(player, []).append(scaler.skipped)
                logs[f"{player}/skipped"] = torch.stack(skipped[player]).sum()
                logs[f"{player}/scale"] = scaler.scale.clone()
        if not logs:
            raise ValueError(
                "turns() must `yield player, loss, logs` once or more for a batch; got no turn: nothing was trained"
            )
        for name, average in self._emas.items():
            frozen = self._guard.flag if self._guard.deferred else None
            if skips := skipped.get(name):
                none_made = torch.stack(skips).amin()
                frozen = none_made if frozen is None else torch.maximum(frozen, none_made)
            average.update(frozen=frozen)
        self.n, self._whole = n, True
        if self._guard.told:
            self._settle()
        return Step(n, logs)

    def _place(self, tensor: Tensor) -> Tensor:
        """A tensor of a batch on the run's device."""
        if tensor.dtype == torch.uint8 and not getattr(self.objective, "takes_uint8", False):
            raise ValueError(
                f"the batch holds raw uint8 of shape {tuple(tensor.shape)}; expected floats, images in [-1, 1] "
                "(Batches(..., transform=to_float), from minigen.data), or int64 levels and labels (.long()). An "
                "objective that converts them itself says so: takes_uint8 = True"
            )
        return tensor if tensor.device == self.device else tensor.to(self.device, non_blocking=True)

    def _autocast(self) -> AbstractContextManager[Any]:
        kind, dtype = self.device.type, AUTOCAST[self.precision]
        if dtype is None and not torch.is_autocast_enabled(kind):
            return nullcontext()
        return torch.autocast(kind, dtype, enabled=dtype is not None)

    def _set_rates(self, n: int, factor: float) -> None:
        if not 0.0 <= factor < math.inf:
            raise ValueError(f"the schedule gave {factor} for step {n}; expected a factor on the rates, 0 or more")
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = group.setdefault("initial_lr", group["lr"]) * factor

    def _settle(self) -> None:
        """Raise where the device holds a failure that the host has not heard of yet."""
        try:
            self._guard.settle()
        except NonFiniteError as error:
            self.n = error.step - 1
            raise

    def _move(self, n: int, player: str, loss: Tensor, more: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """One player's optimiser step; returns its logs."""
        if player not in self.optimizers:
            there = sorted(self.optimizers)
            raise KeyError(f"the objective gave a turn to {player!r}; there are optimisers for {there}")
        optimizer, scaler = self.optimizers[player], self._scalers.get(player)
        params = moves.moved_by(optimizer)  # of this moment: a group may have been added between two steps
        logs = {f"{player}/loss": moves.scalar(f"the loss of {player!r}", loss)}
        for name, value in more.items():
            if name in self._own_logs:
                raise ValueError(f"logs must have names of their own; got {name!r}, which the loop itself logs")
            logs[name] = moves.scalar(f"the log {name!r}", value)
        for p in params:
            p.grad = None
        moving = [p for p in params if p.requires_grad]
        if not moving:
            raise ValueError(f"every parameter of {player!r} is frozen: nothing is left for its optimiser to move")
        if loss.requires_grad:
            torch.autograd.backward((loss if scaler is None else loss.float() * scaler.scale,), inputs=moving)
        if self.sync:
            moves.share_gaps(self.sync, player, moving, list(logs), longest=self._longest)
        gradients = [p.grad for p in moving if p.grad is not None]
        if not gradients:
            raise ValueError(
                f"the loss of {player!r} does not depend on any of its parameters: check for a detach, and "
                "for no_grad or inference_mode around the loop"
            )
        if self.sync:
            numbers = torch.stack([v.to(self.device) for v in logs.values()])
            self.sync.average_([*gradients, numbers])
            logs = dict(zip(logs, numbers.unbind(), strict=True))
        value, limit = logs[f"{player}/loss"], self._clip.get(player)
        norm = moves.gradient_norm(gradients) if limit is not None and scaler is None else None
        if self._guard.check(n, player, value, gradients, optimizer, norm=norm, scaler=scaler):
            if limit is not None:
                moves.clip_(gradients, moves.gradient_norm(gradients) if norm is None else norm, limit)
            optimizer.step()
        if self._guard.deferred:
            del optimizer.found_inf, optimizer.grad_scale  # type: ignore[attr-defined]
        return logs

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything that `load` needs to go on bit-exactly; atomic, and on rank 0 alone.

        A reader sees the old file or the new one, whole, whenever the process dies. A warning says where a resumed run
        will not be exact: where the batches have no `state_dict` (ours have, and torchdata's StatefulDataLoader; a
        plain DataLoader and a zip have not), and after a step that an exception broke off.

        Raises TypeError for a state that could not be read again, and OSError where it cannot be written.
        """
        self._settle()
        if self.sync and self.sync.rank != 0:
            return
        if self._batches is not None and not hasattr(self._batches, "state_dict") and not self._warned:
            self._warned = True
            self._warn_of_position("a run resumed from this checkpoint will go on with the first batches again", 3)
        if not self._whole:
            warnings.warn(
                f"step {self.n + 1} was broken off: what is saved holds some of its moves. A resumed run goes on from "
                "there, but not bit-exactly; for that, load the last checkpoint",
                RuntimeWarning,
                stacklevel=2,
            )
        position = getattr(self._batches, "state_dict", None)
        batches = {"batches": position() if position else self._position}
        checkpoint.write(Path(path), self._state() | batches)

    def load(self, path: str | os.PathLike[str]) -> Run:
        """Restore a state that `save` wrote, into a run built in the same way; returns the run.

        Everything is checked before anything changes: the file's SHA-256, all names, shapes and types, the optimisers'
        kinds and groups. On another kind of device the states of generators mean nothing: then weights, optimisers and
        averages go on, the noise starts anew, and a warning says so.

        Raises FileNotFoundError, or ValueError for a file that is damaged or of another objective.
        """
        state = checkpoint.read(path)
        alike = state["device"] == self.device.type
        checkpoint.check(path, state, self._state(), self.optimizers)
        self.objective.load_state_dict(state["objective"])
        for name, optimizer in self.optimizers.items():
            checkpoint.load_optimizer(state["optimizers"][name], optimizer)
        for name, average in self._emas.items():
            average.load_state_dict(state["averages"][name])
        for name in self._scalers.keys() & state["scalers"].keys():
            self._scalers[name].load_state_dict(state["scalers"][name])
        torch.set_rng_state(state["cpu_generator"])
        if alike:
            self.rng.load_state_dict(state["rng"])
            if self.device.type != "cpu":
                getattr(torch, self.device.type).set_rng_state(state["device_generator"])
        self.n, self._position, self._batches = state["n"], state["batches"], None
        self._resumed, self._warned, self._whole = True, False, state["whole"]
        before = state.get("precision", "fp16" if state["scalers"] else self.precision)
        for wrong, what in (
            (before != self.precision, f"was trained in {before} and goes on here in {self.precision}"),
            (not alike, f"was saved on {state['device']} and goes on here on {self.device.type} with other noise"),
            (not self._whole, "was saved within a step"),
        ):
            if wrong:
                warnings.warn(f"{path} {what}: the run is not bit-exact from here on", RuntimeWarning, stacklevel=2)
        return self

    def _state(self) -> dict[str, Any]:
        """What a checkpoint holds, besides the batches' position."""
        kind = self.device.type
        return {
            "format": checkpoint.FORMAT,
            "n": self.n,
            "whole": self._whole,
            "device": kind,
            "precision": self.precision,
            "objective": self.objective.state_dict(),
            "optimizers": {name: o.state_dict() for name, o in self.optimizers.items()},
            "kinds": {name: type(o).__name__ for name, o in self.optimizers.items()},
            "averages": {name: average.state_dict() for name, average in self._emas.items()},
            "scalers": {name: scaler.state_dict() for name, scaler in self._scalers.items()},
            "rng": self.rng.state_dict(),
            "cpu_generator": torch.get_rng_state(),
            "device_generator": getattr(torch, kind).get_rng_state() if kind != "cpu" else None,
        }

    def _check_parameters(self) -> dict[str, list[nn.Parameter]]:
        """The parameters of each player, of this moment; raises ValueError where one is no player's."""
        params = {name: moves.moved_by(optimizer) for name, optimizer in self.optimizers.items()}
        moves.check_parameters(self.objective, params)
        return params

    def _warn_of_position(self, consequence: str, stacklevel: int) -> None:
        warnings.warn(
            f"these batches do not say where they stand (no state_dict): {consequence}. Batches, Stream, and "
            "torchdata's StatefulDataLoader in place of a DataLoader, resume exactly",
            RuntimeWarning,
            stacklevel=stacklevel,
        )

    def _player(self, name: str) -> nn.Module:
        player = getattr(self.objective, name, None)
        if not isinstance(player, nn.Module):
            known = [name for name, _ in self.objective.named_children()]
            raise ValueError(f"the objective has no module {name!r}; its modules are {known}")
        return player


def _bar(total: int, initial: int) -> Any:
    from tqdm.auto import tqdm

    return tqdm(total=total, initial=initial, unit="step")
