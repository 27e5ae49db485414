"""What a function does with a contract's inputs, how that differs from what it should, and how to say so."""

from __future__ import annotations

import copy
import numbers
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from minigen.homework import limit
from minigen.homework.contract import Contract, Function, Input, RefusedError

TOLERANCE = 1e-5  # relative and absolute, in float32: rounding differs between right formulas
SHOWN = 12  # at most so many numbers of an input are printed


class OpenError(Exception):
    """Nothing to grade yet."""


def see(contract: Contract, function: Function, case: Input) -> dict[str, Tensor]:
    """What the contract looks at, tensors (...), of a function called with a copy of the case's arguments."""
    arguments = dict(zip(contract.names, copy.deepcopy(case.arguments), strict=True))
    return {key: torch.as_tensor(x).detach().clone() for key, x in contract.observe(function, arguments).items()}


def guard(contract: Contract, function: Function) -> Function:
    """The reader's function, with its answer looked over before anything is done with it."""

    def guarded(*arguments: Any) -> Tensor:
        before = [_state(x) for x in arguments]
        with limit.fresh():
            answer = function(*arguments)
        for name, old, new in zip(contract.names, before, arguments, strict=True):
            if not _equal(old, _state(new)):
                raise RefusedError(f"changes its input `{name}`; leave it as it is, and return something new")
        if answer is None or answer is Ellipsis:
            raise OpenError(" (it returns nothing)")
        if not isinstance(answer, bool) and isinstance(answer, numbers.Real):
            return torch.tensor(float(answer), dtype=torch.float64)
        if not isinstance(answer, Tensor):
            raise RefusedError(f"must return a tensor; got {type(answer).__name__}")
        if answer.is_complex() or answer.layout != torch.strided or answer.device.type != "cpu":
            given = f"{answer.dtype}, {answer.layout}, on {answer.device}".replace("torch.", "")
            raise RefusedError(f"must return a dense real tensor on the CPU; got {given}")
        return answer

    return guarded


def _state(x: Any) -> Any:
    """What a function could change in an argument, copied."""
    if isinstance(x, Tensor):
        return (x.dtype, x.requires_grad, x.detach().clone())
    if isinstance(x, nn.Module):
        return [_state(dict(x.state_dict(keep_vars=True))), [m.training for m in x.modules()]]
    if isinstance(x, Mapping):
        return [list(x), [_state(value) for value in x.values()]]
    if isinstance(x, list | tuple):
        return [_state(value) for value in x]
    return x


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and a.shape == b.shape and torch.equal(a.nan_to_num(), b.nan_to_num())
    if isinstance(a, list | tuple):
        return isinstance(b, list | tuple) and len(a) == len(b) and all(map(_equal, a, b))
    return bool(a == b)


def agree(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    """Whether two functions were seen to do the same, up to rounding; tensors (...)."""
    return all(_close(a[key], b[key]) for key in b)


def _close(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(a.double(), b.double(), rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True)


def difference(seen: dict[str, Tensor], expected: dict[str, Tensor], at: str) -> str:
    """How the first thing (...) that differs does; empty where all agree."""
    for key, wanted in expected.items():
        given = seen[key]
        if given.shape != wanted.shape:
            return f"for {at}, it must return a tensor of shape {tuple(wanted.shape)}; got {tuple(given.shape)}"
        if not _close(given, wanted):
            what = "it gives" if key == "value" else f"its value is right, but the {key} is"
            return f"for {at}, {what} {_text(given)}; expected {_text(wanted)}"
        if wanted.is_floating_point() and not given.is_floating_point():
            return f"for {at}, it must return floating point; got {str(given.dtype).removeprefix('torch.')}"
    return ""


def describe(contract: Contract, case: Input) -> str:
    """The case's description, and its arguments where they are small."""
    sizes = [x.numel() if isinstance(x, Tensor) else 1 for x in case.arguments]
    if sum(sizes) > SHOWN:
        return case.description
    parts = [f"{name} = {_text(x)}" for name, x in zip(contract.names, case.arguments, strict=True)]
    return f"{case.description}, {', '.join(parts)}"


def _text(x: Any) -> str:
    if isinstance(x, nn.Module):
        return "a network"
    if not isinstance(x, Tensor):
        return f"{x:.6g}" if isinstance(x, float) else repr(x)
    if x.ndim == 0:
        return f"{x.item():.6g}"
    if x.numel() > SHOWN:
        return f"[{', '.join(_text(v) for v in x.flatten()[:6])}, ...] of shape {tuple(x.shape)}"
    return f"[{', '.join(_text(row) for row in x)}]"


def error_text(error: BaseException) -> str:
    """The exception's type and the first line of what it says; str() of a reader's own exception may fail."""
    try:
        lines = (str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)).strip().splitlines()
    except Exception:
        lines = []
    if isinstance(error, MemoryError) or any("DefaultCPUAllocator" in line for line in lines):
        return f"MemoryError: needs more memory than {limit.memory_allowed()}"
    return f"{type(error).__name__}{': ' + lines[0][:200] if lines else ''}"
