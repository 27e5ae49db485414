"""The loop's guard against NaN and infinity: nothing non-finite ever reaches a parameter."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.optim import Optimizer

from minigen.train.precision import LossScaler


class NonFiniteError(RuntimeError):
    """A loss or a gradient was NaN or infinite at `step`, in the move of `player`.

    The parameters, optimisers and averages are those before that move. Buffers such as batch statistics are not: the
    forward pass that failed has updated them.
    """

    def __init__(self, message: str, *, step: int, player: str) -> None:
        super().__init__(message)
        self.step, self.player = step, player


class Guard:
    """Stops the run at the first non-finite loss or gradient, before the move is made.

    Where reading a number is free (CPU) it is read. On an accelerator with fused optimisers nothing waits: the flag
    stays on the device, the optimiser skips its update there (`found_inf`, the hook that GradScaler uses), the flag is
    latched so that every later update is skipped as well, and a copy in pinned memory tells the host some steps later.
    Other optimisers on an accelerator cost one wait for each move.

    Under fp16 such a move is skipped and the scale of the loss halved; the run stops only where a move is still bad at
    the least scale, which a loss that stays NaN reaches after some 25 moves.
    """

    def __init__(self, device: torch.device, optimizers: Mapping[str, Optimizer]) -> None:
        fused = all(group.get("fused") for o in optimizers.values() for group in o.param_groups)
        self.deferred = device.type == "cuda" and fused
        self.flag = torch.zeros((), device=device)
        self.good = torch.zeros((), dtype=torch.int64, device=device)  # moves made before the first bad one
        self.one = torch.ones((), device=device)
        self.host = torch.zeros((), pin_memory=self.deferred)
        self.moves: deque[tuple[int, int, str, Tensor]] = deque(maxlen=256)
        self.count = 0

    def check(
        self,
        n: int,
        player: str,
        loss: Tensor,
        gradients: list[Tensor],
        optimizer: Optimizer,
        *,
        norm: Tensor | None = None,
        scaler: LossScaler | None = None,
    ) -> bool:
        """Inspect one move: raises, or says whether the optimiser is to step.

        norm: of all gradients together, where it is known. scaler: under fp16; the gradients are divided by its scale.
        """
        self.count += 1
        self.moves.append((self.count, n, player, loss))
        if scaler is None and not self.deferred:
            # The sum of all entries, the cheapest pass that NaN and infinity survive; it may overflow by itself.
            total = sum(g.sum().item() for g in gradients) if norm is None else norm.item()
            if not math.isfinite(loss.item()) or not (math.isfinite(total) or _all_finite(gradients)):
                self._stop(n, player, loss)
            return True
        if scaler is None:
            bad = torch.zeros_like(self.flag)
            torch._amp_foreach_non_finite_check_and_unscale_(gradients, bad, self.one)
        else:
            bad = scaler.unscale_(gradients)
        bad = torch.maximum(bad, (~torch.isfinite(loss if norm is None else loss + norm)).float())
        fatal = bad if scaler is None else scaler.update(bad)
        if not self.deferred:
            if fatal.item():
                self._stop(n, player, loss)
            return not bad.item()
        self.flag = torch.maximum(self.flag, fatal)
        self.good += (1 - self.flag).long()
        optimizer.found_inf, optimizer.grad_scale = torch.maximum(bad, self.flag), None  # type: ignore[attr-defined]
        self.host.copy_(self.flag, non_blocking=True)
        return True

    @property
    def told(self) -> bool:
        """Whether news of a failure has reached the host; reads the host's own memory, so it waits for nothing."""
        return self.deferred and bool(self.host.item())

    def settle(self) -> None:
        """Wait for the device and raise if any move so far was bad."""
        if not self.deferred or not self.flag.item():
            return
        first = int(self.good.item()) + 1
        _, n, player, loss = next((move for move in self.moves if move[0] == first), self.moves[0])
        self._stop(n, player, loss)

    def _stop(self, n: int, player: str, loss: Tensor) -> None:
        what = "its gradient" if math.isfinite(loss.item()) else "its loss"
        last: dict[str, tuple[int, float]] = {}
        for _, step, name, value in self.moves:
            if step < n and math.isfinite(number := value.item()):
                last[f"{name}/loss"] = (step, number)
        text = ", ".join(f"{name} = {number:.6g} at step {step}" for name, (step, number) in last.items())
        self.flag.zero_()
        self.host.zero_()
        self.good.fill_(self.count)
        raise NonFiniteError(
            f"step {n}, player {player!r}: {what} is not finite (loss = {loss.item()}). Last finite losses: "
            f"{text or 'none'}. The parameters are those before this move. Lower the learning rate, clip the gradient "
            "(clip=1.0), or resume from the last checkpoint.",
            step=n,
            player=player,
        )


def _all_finite(tensors: list[Tensor]) -> bool:
    """Whether no entry is NaN or infinite."""
    return all(bool(torch.isfinite(t).all()) for t in tensors)
