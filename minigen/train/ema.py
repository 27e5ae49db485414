"""Exponential moving averages of networks."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from minigen.data.checks import is_number

HALF = (torch.float16, torch.bfloat16)
Slot = tuple[dict[str, Any], str]  # where a module keeps a tensor: looked up anew, since `.double()` replaces tensors


class EMA:
    """Exponential moving average of a module's parameters, warmed up; buffers are copied.

    After t updates the decay is min(decay, (1 + t) / (10 + t)), and the first update copies, so that the random
    initial weights are forgotten at once (the rule of TensorFlow's ExponentialMovingAverage with num_updates). Equal
    to `torch.optim.swa_utils.AveragedModel` with the same decay; a test holds it to that.

    Averages of float16 and bfloat16 parameters are kept in float32: in half precision, small changes would round to
    none. The averaged `module` has the type and device of its source, and follows it when it is moved or converted.
    Weights that a hook computes (`torch.nn.utils.weight_norm`) are averaged in the parameters that they come from.

    Raises ValueError where parameters of the module were added, removed or given other shapes.

    >>> net = nn.Linear(1, 1, bias=False)
    >>> ema = EMA(net, 0.9)
    >>> for weight in (1.0, 2.0):
    ...     nn.init.constant_(net.weight, weight).sum().item()
    ...     ema.update()
    1.0
    2.0
    >>> round(ema.module.weight.item(), 4)  # the second decay is 2 / 11
    1.8182
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        if not (is_number(decay) and 0.0 <= decay < 1.0):
            raise ValueError(f"average decay must be in [0, 1), a number such as 0.999; got {decay!r}")
        self.decay, self.source = decay, module
        self.module = copy.deepcopy(module, _computed(module)).eval().requires_grad_(False)
        self._calls = 0
        self._frozen: Tensor | None = None  # how many calls changed nothing, known on the device alone
        self._masters: list[Tensor] = []
        self._bind()

    @property
    def updates(self) -> int:
        """How often the average has moved; frozen calls do not count."""
        return self._calls - (int(self._frozen.item()) if self._frozen is not None else 0)

    @torch.no_grad()
    def update(self, *, frozen: Tensor | None = None) -> None:
        """Move on by one step; where the 0-dim tensor `frozen` is 1, stay (known on the device alone)."""
        current = self._current()
        t, self._calls = self._calls, self._calls + 1
        if frozen is None and self._frozen is None:
            decay = min(self.decay, (1 + t) / (10 + t)) if t else 0.0
            torch._foreach_lerp_(self._masters, current, 1.0 - decay)
        else:
            frozen = torch.zeros((), device=current[0].device) if frozen is None else frozen
            self._frozen = torch.zeros_like(frozen, dtype=torch.int64) if self._frozen is None else self._frozen
            moved = t - self._frozen
            weight = 1.0 - ((1 + moved) / (10 + moved)).clamp(max=self.decay) * (moved > 0)
            change = torch._foreach_sub(current, self._masters)
            torch._foreach_mul_(change, weight * (1.0 - frozen))
            torch._foreach_add_(self._masters, change)
            self._frozen = self._frozen + frozen.long()
        for mine, master in self._rounded:
            mine.copy_(master)
        for (mine_owner, name), (owner, _) in self._buffers:
            mine_owner[name].copy_(owner[name])

    def _current(self) -> list[Tensor]:
        """The source's parameters of this moment, after following any that were converted, moved or replaced."""
        tensors: list[Any] = [owner.get(name) for owner, name in self._slots]
        if [t is not None and (t.dtype, t.device, t.shape) for t in tensors] != self._kinds:
            self._bind()
            tensors = [owner[name] for owner, name in self._slots]
        return [t.to(m.dtype) for t, m in zip(tensors, self._masters, strict=True)] if self._rounded else tensors

    def _bind(self) -> None:
        """Give every parameter of the source its average, of its type and device."""
        theirs, mine = list(_slots(self.source, "_parameters")), list(_slots(self.module, "_parameters"))
        shapes, known = ([tuple(owner[name].shape) for owner, name in slots] for slots in (theirs, mine))
        if shapes != known or not shapes:
            raise ValueError(
                f"the averaged network has parameters of shapes {shapes}; its average was made for {known}. "
                "Make a new Run (or EMA) after changing a network's parts"
            )
        masters = self._masters or [owner[name].detach() for owner, name in mine]
        self._slots, self._masters, self._rounded = theirs, [], []
        for (owner, name), (mine_owner, _), old in zip(theirs, mine, masters, strict=True):
            source, average = owner[name], mine_owner[name]
            master = old.to(source.device, torch.float32 if source.dtype in HALF else source.dtype)
            average.data = master.to(source.dtype)  # the master itself, where the types are equal
            self._masters.append(master)
            if master.dtype != source.dtype:
                self._rounded.append((average.detach(), master))
        self._kinds = [(t.dtype, t.device, t.shape) for t in (owner[name] for owner, name in theirs)]
        pairs = zip(_slots(self.module, "_buffers"), _slots(self.source, "_buffers"), strict=True)
        self._buffers: list[tuple[Slot, Slot]] = list(pairs)
        for (mine_owner, name), (owner, _) in self._buffers:
            mine_owner[name] = mine_owner[name].to(owner[name].device, owner[name].dtype)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps of it."""
        masters = [master for _, master in self._rounded]
        return {"module": self.module.state_dict(), "updates": self.updates, "masters": masters}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave, with a source of the same types."""
        self.module.load_state_dict(state["module"])
        for (_, master), saved in zip(self._rounded, state["masters"], strict=True):
            master.copy_(saved)
        self._calls, self._frozen = state["updates"], None


def _slots(module: nn.Module, kind: str) -> Iterator[Slot]:
    """Where a module and its parts keep their parameters or buffers, each tensor once."""
    seen: set[int] = set()
    for part in module.modules():
        owner: dict[str, Any] = getattr(part, kind)
        for name, tensor in owner.items():
            if tensor is not None and id(tensor) not in seen:
                seen.add(id(tensor))
                yield owner, name


def _computed(module: nn.Module) -> dict[int, Any]:
    """Copies of the tensors that hooks leave on modules, as `copy.deepcopy` takes them; it cannot copy these itself."""
    left = [value for part in module.modules() for value in vars(part).values() if isinstance(value, Tensor)]
    return {id(tensor): tensor.detach().clone() for tensor in left if not tensor.is_leaf}
