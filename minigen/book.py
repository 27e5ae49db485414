"""What the chapters share: the set-up, the checks that stand beside each claim, the full-scale switch.

Checks print statements that are the same on every machine, then in parentheses what this run measured, which may differ
between machines: `✓ modes captured, of 8: at least 7 (measured 8)`. They raise with the numbers where they fail.
"""

from __future__ import annotations

import importlib.util
import inspect
import json
import math
import os
import platform
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import minigen
from minigen.data.checks import need_seed
from minigen.homework.console import say
from minigen.show import figures
from minigen.train.devices import best_device, one_thread_unless_chosen


class CheckError(AssertionError):
    """A statement of the book does not hold; the message has the numbers."""


@dataclass(frozen=True)
class Setup:
    """Where a chapter computes, at which scale, from which seed."""

    device: torch.device
    full: bool
    seed: int

    def scale(self, chapter: Any, full: Any) -> Any:
        """The chapter's value, or the full-scale one."""
        return full if self.full else chapter


def setup(*, seed: int = 0, full: bool = False) -> Setup:
    """Seed torch, choose the device and the number of threads, read the switches, and let figures suit any ground.

    full: or the environment variable MINIGEN_FULL=1. Full scale uses the best device there is; chapter scale the CPU,
    so that the chapter's printed lines are the same everywhere, and one thread, unless OMP_NUM_THREADS or
    MKL_NUM_THREADS is set.
    seed: or MINIGEN_SEED, with which benchmarks/bands.py shows that a chapter's bands do not hang on its seed. Raises
    ValueError for a seed that is none.
    """
    if named := os.environ.get("MINIGEN_SEED", ""):
        if not named.isdecimal():
            raise ValueError(f"MINIGEN_SEED must be a whole number, 0 or more; got {named!r}")
        seed = int(named)
    seed = need_seed(seed)
    torch.manual_seed(seed)
    if importlib.util.find_spec("matplotlib"):
        figures.on_any_ground()
    full = full or os.environ.get("MINIGEN_FULL", "").lower() not in ("", "0", "false", "no", "off")
    device = best_device() if full else torch.device("cpu")
    if not full:
        one_thread_unless_chosen()
    return Setup(device, full, seed)


def versions() -> str:
    """The versions that this run used, for a report of a problem."""
    return f"minigen {minigen.__version__}, torch {torch.__version__}, Python {platform.python_version()}"


def source(*functions: Callable[..., Any]) -> str:
    """The code of functions without their docstrings, to print beside the equations that it implements."""
    return "\n".join(
        re.sub(r"[ \t]*" + re.escape(f'"""{f.__doc__}"""') + r"\n", "", inspect.getsource(f)) for f in functions
    )


def minimise(function: Callable[[Tensor], Tensor], *start: float) -> Tensor:
    """Where a smooth function of a few numbers has its nearest local minimum: its argument, (len(start),).

    By L-BFGS with line search (Nocedal and Wright 2006, algorithm 7.5), to rounding; use double precision.
    """
    point = torch.tensor(start, requires_grad=True)
    search = torch.optim.LBFGS([point], max_iter=300, tolerance_change=1e-14, line_search_fn="strong_wolfe")

    def closure() -> float:
        value = function(point)
        (point.grad,) = torch.autograd.grad(value, point)
        return value.item()

    search.step(closure)  # type: ignore[no-untyped-call]
    return point.detach()


def check(tag: str, value: Any, expected: Any, *, atol: float, what: str = "") -> None:
    """Verify equation `tag`: `value` equals `expected`, each a number or a tensor of one shape, within `atol`.

    Prints `✓ (2.5) what: within 1e-05 (measured 0.6931, off by 2e-08)`, of tensors the largest gap alone, and `exactly`
    for atol = 0. Raises CheckError with the numbers where they differ by more, where either is not finite, and where
    the shapes differ (nothing is broadcast: that hides a missing mean); ValueError for a tolerance that is none,
    TypeError for complex numbers, and integers that float64 does not hold.

    >>> check("2.5", torch.tensor(2.0).log().exp(), 2.0, atol=1e-6, what="log and back")  # doctest: +ELLIPSIS
    ✓ (2.5) log and back: within 1e-06 (measured 2, off by ...)
    """
    if not 0 <= atol < math.inf:
        raise ValueError(f"atol must be a finite number, 0 or more; got {atol}")
    a, b = _tensor(value), _tensor(expected)
    if a.shape != b.shape:
        raise CheckError(f"({tag}) {what}: shapes differ, {tuple(a.shape)} and {tuple(b.shape)}")
    gap = (a - b).abs().max().item() if a.numel() else float("nan")
    if not gap <= atol:
        worst = int((a - b).abs().nan_to_num(float("inf")).argmax()) if a.numel() else 0
        pair = (
            f"{a.flatten()[worst].item()!r} against {b.flatten()[worst].item()!r}"
            if a.numel()
            else "nothing to compare"
        )
        raise CheckError(f"({tag}) {what}: {pair}; they differ by {gap:.3g}, more than {atol:g}")
    value = f"{number(a.item())}, " if a.numel() == 1 else ""
    found = f"within {atol:g} (measured {value}off by {number(gap, digits=2)})" if atol else "exactly"
    say(f"✓ ({tag}) {what + ': ' if what else ''}{found}")


def band(
    what: str,
    value: Any,
    *,
    low: float | None = None,
    high: float | None = None,
    tag: str = "",
    why: str = "",
) -> None:
    """Verify that a number lies in a band, both ends included: a bound, or a quality that a run must reach.

    Prints `✓ what: at least 7 (measured 8)`. The number also goes to the file that the environment variable
    MINIGEN_RECORD names, a line of JSON each. The edges follow from 20 seeds (book/records.py); where an edge is set by
    something else, such as a theorem, `why` says by what. Raises CheckError for a number outside, NaN and infinity.
    """
    if low is None and high is None:
        raise ValueError("band needs low=, high= or both")
    measured = _tensor(value).item()
    if record := os.environ.get("MINIGEN_RECORD"):
        with open(record, "a", encoding="utf-8") as file:
            row = {"what": what, "number": measured, "low": low, "high": high}
            file.write(json.dumps(row) + "\n")
    if math.isinf(measured):
        raise CheckError(f"{what}: {measured} is no finite number, and so not {_range(low, high)}")
    if not ((low is None or measured >= low) and (high is None or measured <= high)):
        raise CheckError(f"{what}: {measured:.6g} is not {_range(low, high)}")
    reason = f", {why}" if why else ""
    say(f"✓ {f'({tag}) ' if tag else ''}{what}: {_range(low, high)}{reason} (measured {number(measured)})")


def refute(what: str, claimed: Any, actual: Any, *, by: float) -> None:
    """Show that a formula in circulation is wrong: what it claims differs from the truth by at least `by`.

    The sign of `by` is part of the statement: positive where a claimed number is too large, negative where it is too
    small. Of tensors `by` is positive, and some entry differs by that much. Prints
    `✗ what: too large by more than 0.1 (measured 1.792 against 1.609)`. Raises CheckError where the claim holds after
    all or errs on the other side, and where the shapes differ: broadcasting would compare what the claim does not speak
    of.

    >>> two, three = torch.tensor(2.0), torch.tensor(3.0)
    >>> refute("log(a + b) is log a + log b", two.log() + three.log(), (two + three).log(), by=0.1)
    ✗ log(a + b) is log a + log b: too large by more than 0.1 (measured 1.792 against 1.609)
    """
    a, b = _tensor(claimed), _tensor(actual)
    if a.shape != b.shape:
        raise CheckError(f"{what}: shapes differ, {tuple(a.shape)} and {tuple(b.shape)}")
    if not math.isfinite(by) or by == 0 or (by < 0 and a.numel() > 1):
        raise ValueError(
            f"by must be a number other than 0 (a claim that holds is off by 0), positive for tensors; got {by}"
        )
    if a.numel() != 1:
        gap, side = (a - b).abs().max().item() if a.numel() else math.nan, "off"
        measured = f"{number(gap)} off"
    else:
        gap, side = math.copysign(1, by) * (a - b).item(), "too large" if by > 0 else "too small"
        measured = f"{number(a.item())} against {number(b.item())}"
    if not gap >= abs(by):
        raise CheckError(f"{what}: {a.tolist()} against {b.tolist()}: {side} by {gap:.3g}, less than {abs(by):g}")
    say(f"✗ {what}: {side} by more than {abs(by):g} (measured {measured})")


def number(value: float, *, digits: int = 4) -> str:
    """A number as a reader wants it: whole ones whole, others to `digits` digits, without a zero's sign.

    >>> number(25.0), number(0.69314718), number(48123.7), number(2.34e-9, digits=2)
    ('25', '0.6931', '48124', '2.3e-09')
    """
    whole = math.isfinite(value) and abs(value) < 1e15 and (value == int(value) or abs(value) >= 10**digits)
    return f"{value + 0.0:.0f}" if whole else f"{value:.{digits}g}"


def _range(low: float | None, high: float | None) -> str:
    if low is None:
        return f"at most {high:g}"
    return f"at least {low:g}" if high is None else f"between {low:g} and {high:g}"


def _tensor(value: Any) -> Tensor:
    """In float64, which must hold it."""
    if hasattr(value, "dtype"):
        value = torch.as_tensor(value, device="cpu").detach()
        wide = value.dtype == torch.int64 and value.numel() and int(value.abs().max()) > 2**53
        if value.is_complex() or wide:
            kind = "complex numbers" if value.is_complex() else "integers beyond 2^53"
            raise TypeError(f"a check needs real numbers that float64 holds; got {kind}: compare their parts")
    return torch.as_tensor(value, dtype=torch.float64, device="cpu").detach()
