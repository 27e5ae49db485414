"""Checks of what a caller gives: each message says what was expected, what was given, and what to do.

Types and shapes are known at once. Values are looked at on a CPU alone: on an accelerator the look would make every
step wait.
"""

from __future__ import annotations

import math
from operator import index

import torch
from torch import Tensor


def need_float(name: str, x: Tensor, *, todo: str = "for levels call minigen.data.to_float first") -> None:
    """Refuse what is no tensor of floating point. Raises TypeError."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{name} must be a tensor of floating point; got {type(x).__name__}")
    if not x.is_floating_point():
        raise TypeError(f"{name} must be floating point; got {x.dtype}: {todo}")


def need_scaled(name: str, x: Tensor) -> None:
    """Refuse what holds no floats: in a network, uint8 pixels would pass through many layers as 0..255.

    Raises ValueError.
    """
    if not x.is_floating_point():
        raise ValueError(f"{name} must be floats in [-1, 1]; got {x.dtype}: data.to_float makes them of pixels")


def need_shape(name: str, x: Tensor, *sizes: int | str) -> None:
    """Refuse another shape. sizes: numbers as they must be, letters for any number, a last "..." for any further ones.

    Raises ValueError.
    """
    rest = bool(sizes) and sizes[-1] == "..."
    fixed = sizes[:-1] if rest else sizes
    fits = x.ndim >= len(fixed) if rest else x.ndim == len(fixed)
    if not fits or any(isinstance(size, int) and size != n for size, n in zip(fixed, x.shape, strict=False)):
        shape = f"({', '.join(map(str, sizes))}{',' if len(sizes) == 1 else ''})"
        raise ValueError(f"{name} must be {shape}; got {tuple(x.shape)}")


def need_batch(name: str, x: Tensor, *shape: int | str) -> None:
    """Refuse what is no batch (B, *shape), and then what holds no floats, as `need_scaled` does. Raises ValueError."""
    need_shape(name, x, "B", *shape)
    need_scaled(name, x)


def need_same(name: str, x: Tensor, other: str, y: Tensor) -> None:
    """Refuse two tensors of different shapes, which would broadcast. Raises ValueError."""
    if x.shape != y.shape:
        raise ValueError(f"{name} must have the shape of {other}, {tuple(y.shape)}; got {tuple(x.shape)}")


def need_finite(name: str, x: Tensor, *, todo: str = "look for the step that diverged") -> None:
    """Refuse NaN and infinity, on a CPU. Raises ValueError."""
    if x.device.type == "cpu" and not x.isfinite().all():
        bad = int((~x.isfinite()).sum())
        raise ValueError(f"{name} must be finite; got NaN or infinity in {bad} of {x.numel()} numbers: {todo}")


def need_numbers(name: str, x: Tensor, *, todo: str = "look for the step that diverged") -> None:
    """Refuse what is no tensor of floating point, then NaN and infinity, on a CPU. Raises TypeError, ValueError."""
    need_float(name, x)
    need_finite(name, x, todo=todo)


def need_index(name: str, x: Tensor, size: int) -> None:
    """Refuse what is no int64 in 0..size-1; the values on a CPU. Raises TypeError, ValueError."""
    if not isinstance(x, Tensor) or x.dtype != torch.int64:
        got = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f"{name} must be int64 in 0..{size - 1}; got {got}: convert it, as by .long()")
    if found := _beyond(x, 0, size):
        raise ValueError(f"{name} must be in 0..{size - 1}; got {found}")


def need_entry(name: str, x: Tensor, size: int, *, first: int = 0) -> None:
    """Refuse what is no int64 in first..size-1, the rows of a network's table. Raises ValueError.

    On a GPU PyTorch's own kernels stop the program at an index out of range.
    """
    if x.dtype != torch.int64:
        raise ValueError(f"{name} must be int64 in {first}..{size - 1}; got {x.dtype}")
    if found := _beyond(x, first, size):
        raise ValueError(f"{name} must be int64 in {first}..{size - 1}; got {found}")


def _beyond(x: Tensor, first: int, size: int) -> str:
    """The least and the largest number where one is not in first..size-1 and x is on a CPU, else nothing."""
    if x.device.type != "cpu" or not x.numel():
        return ""
    low, high = (int(end) for end in x.aminmax())
    return f"{low}..{high}" if low < first or high >= size else ""


def is_number(value: object) -> bool:
    """Whether it is one number: no text, and no tensor of several."""
    return hasattr(value, "__float__") and math.prod(getattr(value, "shape", ())) == 1


def need_number(name: str, value: float, *, low: float = -math.inf, high: float = math.inf, open: bool = False) -> None:
    """Refuse what is no number, or is NaN, infinite or outside of low..high; open: the ends too.

    Raises TypeError, ValueError.
    """
    if not is_number(value):
        raise TypeError(f"{name} must be a number; got {value!r}")
    inside = low < value < high if open else low <= value <= high
    if not (math.isfinite(value) and inside):
        ends = [f"{'above' if open else 'at least'} {low:g}"] * math.isfinite(low)
        ends += [f"{'below' if open else 'at most'} {high:g}"] * math.isfinite(high)
        raise ValueError(f"{name} must be a finite number{', ' if ends else ''}{' and '.join(ends)}; got {value}")


def need_count(name: str, value: int, *, least: int = 1) -> None:
    """Refuse what is no whole number from `least` up. Raises TypeError, ValueError."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be a whole number, {least} or more; got {value!r}")
    if value < least:
        raise ValueError(f"{name} must be {least} or more; got {value}")


def need_integer(name: str, value: object, low: int, high: int | None = None, why: str = "") -> int:
    """`value` as a plain int in low..high, of any integer type. Raises TypeError, ValueError."""
    try:
        number = index(value)  # type: ignore[arg-type]  # the question that `index` is asked
    except TypeError:
        raise TypeError(f"{name} must be an integer; got {value!r}, a {type(value).__name__}") from None
    if number < low or (high is not None and number > high):
        span = f"at least {low}" if high is None else f"in {low}..{high}"
        raise ValueError(f"{name} must be {span}{why}; got {number}")
    return number


def need_seed(seed: object) -> int:
    """A seed as a plain int. Raises TypeError, ValueError."""
    return need_integer("seed", seed, 0, 2**32 - 1, ", for torch's generator on the CPU takes 32 bits of it")


def need_rows(*tensors: object) -> int:
    """The common number of rows of tensors that belong together. Raises TypeError, ValueError."""
    if not tensors:
        raise ValueError("no tensors given; expected one or more, such as images and labels")
    lengths = []
    for i, tensor in enumerate(tensors):
        if not isinstance(tensor, Tensor):
            advice = ": give its images and labels" if hasattr(tensor, "images") else ""
            raise TypeError(f"tensor {i} must be a torch.Tensor; got {type(tensor).__name__}{advice}")
        if tensor.ndim == 0:
            raise ValueError(f"tensor {i} must have rows, (N, ...); got a single number")
        lengths.append(len(tensor))
    if len(set(lengths)) > 1:
        raise ValueError(f"tensors must have one common length; got {lengths}")
    return lengths[0]
