"""What the loop does with one player's move: its numbers, its gradients, and what must hold before it."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from minigen.data.checks import is_number
from minigen.train.distributed import Sync


def check_set_up(optimizers: object, ema: object, schedule: object) -> None:
    """Raise TypeError or ValueError for what a run cannot be made of."""
    if not isinstance(optimizers, Optimizer | Mapping):
        given = type(optimizers).__name__
        raise TypeError(f"optimizers must be an optimiser, or {{player: optimiser}}; got {given}")
    each = optimizers if isinstance(optimizers, Mapping) else {"model": optimizers}
    if not each:
        raise ValueError("optimizers is empty; expected one for each player, as adam_per_player(objective, 1e-3)")
    for player, optimizer in each.items():
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"the optimiser of {player!r} must be a torch optimiser; got {type(optimizer).__name__}")
        if isinstance(optimizer, torch.optim.LBFGS):
            raise TypeError(
                f"the optimiser of {player!r} is LBFGS, which asks for the loss several times a step; got one loss a "
                "turn: take Adam or SGD"
            )
    if ema is not None and not isinstance(ema, Mapping):
        raise TypeError(f"ema must be {{player: decay}}, such as {{'model': 0.999}}; got {ema!r}")
    if schedule is not None and not callable(schedule):
        raise TypeError(
            f"schedule must be a function of the step number; got {type(schedule).__name__}: for a scheduler of torch "
            "call its step() in your own loop, and leave out schedule"
        )


def check_turn(turn: Any) -> tuple[str, Tensor, Mapping[str, Tensor]]:
    """A turn as its three parts. Raises TypeError for anything else."""
    if type(turn) is tuple and len(turn) == 3 and isinstance(turn[0], str) and isinstance(turn[2], Mapping):
        player, loss, logs = turn
        return player, loss, logs
    parts = f"({', '.join(type(part).__name__ for part in turn)})" if type(turn) is tuple else type(turn).__name__
    raise TypeError(
        f"turns() must yield (player, loss, logs), such as `yield 'model', loss, {{}}`; got {parts}. It yields them; "
        "it does not return them"
    )


def moved_by(optimizer: Optimizer) -> list[nn.Parameter]:
    """The parameters of all groups of an optimiser."""
    return [p for group in optimizer.param_groups for p in group["params"]]


def limits(clip: float | Mapping[str, float] | None, players: Iterable[str]) -> dict[str, float]:
    """The largest gradient norm of each player that has one."""
    if clip is None:
        return {}
    found = dict(clip) if isinstance(clip, Mapping) else dict.fromkeys(players, clip)
    if wrong := [x for x in found.values() if not is_number(x)]:
        raise TypeError(f"clip must be a number, or {{player: number}}; got {wrong[0]!r}, a {type(wrong[0]).__name__}")
    if unknown := sorted(found.keys() - set(players)):
        raise ValueError(f"clip names {unknown}; the players are {sorted(players)}")
    if not all(limit > 0 for limit in found.values()):
        raise ValueError(f"clip is the largest norm of a gradient, above 0; got {clip}")
    return found


def check_parameters(objective: nn.Module, moved_by: Mapping[str, list[nn.Parameter]]) -> None:
    """Raise ValueError unless all that optimisers move is the objective's, and all of it that is to move has one."""
    owned, moved = {id(p) for p in objective.parameters()}, set()
    for name, params in moved_by.items():
        moved |= {id(p) for p in params}
        if not all(id(p) in owned for p in params):
            raise ValueError(
                f"the optimiser of {name!r} moves parameters that are not the objective's: they would not be saved"
            )
    left = [name for name, p in objective.named_parameters() if p.requires_grad and id(p) not in moved]
    if left:
        raise ValueError(
            f"these parameters of the objective are no player's and would never be trained: {', '.join(left[:8])}"
            f"{' ...' if len(left) > 8 else ''}. Give them to an optimiser, or freeze them: .requires_grad_(False)"
        )


def share_gaps(sync: Sync, player: str, moving: list[nn.Parameter], logs: list[str], *, longest: int) -> None:
    """Where another rank has a gradient and this one has none, make it zero: the ranks average the same tensors.

    A parameter without a gradient on any rank stays without, as in one process: its optimiser leaves it alone.
    longest: the most parameters that a player has, so that even ranks which disagree exchange equal lengths.
    """
    turn = float(zlib.crc32(repr((player, logs)).encode()) % 2**20)
    gaps = [float(p.grad is None) for p in moving]
    mean, *shares = sync.host_mean([turn, *gaps, *[0.0] * (longest - len(gaps))])
    if mean != turn:
        raise RuntimeError(
            f"the processes disagree: rank {sync.rank} has a turn of {player!r} with the logs {logs}, and another "
            "rank has not; every rank must take the same turns and log the same names"
        )
    for p, share in zip(moving, shares, strict=False):
        if p.grad is None and share < 1.0:
            p.grad = torch.zeros_like(p)


def scalar(what: str, value: Tensor) -> Tensor:
    """A loss or log as a detached float32 scalar, of this moment: one that is itself a parameter is copied."""
    if not isinstance(value, Tensor) or value.numel() != 1:
        got = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"{type(value)}"
        raise ValueError(f"{what} must be a tensor of one number; got {got}")
    number = value.detach().reshape(()).float()
    return number.clone() if value.is_leaf else number


def gradient_norm(gradients: list[Tensor]) -> Tensor:
    """The Euclidean norm of all gradients together, as `torch.nn.utils.clip_grad_norm_` computes it."""
    norms = torch._foreach_norm(gradients)
    total: Tensor = torch.linalg.vector_norm(torch.stack([norm.to(norms[0].dtype) for norm in norms]))
    return total


def clip_(gradients: list[Tensor], norm: Tensor, limit: float) -> None:
    """Shrink gradients of this norm to `limit` where it is larger."""
    if gradients[0].device.type == "cpu" and not math.isfinite(norm.item()):  # finite numbers with an infinite square
        norm = torch.linalg.vector_norm(torch.stack([g.double().norm() for g in gradients]))
    factor = (limit / (norm + 1e-6)).clamp(max=1.0)
    torch._foreach_mul_(gradients, factor)
