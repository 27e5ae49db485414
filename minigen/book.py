"""What the chapters share: the set-up, the checks that stand beside each claim, the full-scale switch.

Checks print statements that are the same on every machine, and raise with the actual numbers where they fail.
"""

from __future__ import annotations

import inspect
import json
import os
import platform
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import minigen
from minigen.train import best_device


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
    """Seed torch, choose the device, read the switches.

    full: or the environment variable MINIGEN_FULL=1. Full scale uses the best device there is; chapter scale the CPU,
    so that the chapter's printed lines are the same everywhere.
    seed: or MINIGEN_SEED, with which benchmarks/bands.py shows that a chapter's bands do not hang on its seed.
    """
    seed = int(os.environ.get("MINIGEN_SEED", seed))
    torch.manual_seed(seed)
    full = full or os.environ.get("MINIGEN_FULL", "") not in ("", "0")
    device = best_device() if full else torch.device("cpu")
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

    Prints `✓ (2.5) what: within 1e-05`, or `exactly` for atol = 0. Raises CheckError with the numbers where they differ
    by more, where either is not finite, and where the shapes differ (nothing is broadcast: that hides a missing mean).
    """
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
    print(f"✓ ({tag}) {what + ': ' if what else ''}{f'within {atol:g}' if atol else 'exactly'}")


def band(what: str, value: Any, *, low: float | None = None, high: float | None = None, tag: str = "") -> None:
    """Verify that a number lies in a band, both ends included: a bound, or a quality that a run must reach.

    Prints the band, not the number, which differs between machines. The number goes to the file that the environment
    variable MINIGEN_RECORD names, a line of JSON each.
    """
    if low is None and high is None:
        raise ValueError("band needs low=, high= or both")
    number = _tensor(value).item()
    if record := os.environ.get("MINIGEN_RECORD"):
        with open(record, "a", encoding="utf-8") as file:
            file.write(json.dumps({"what": what, "number": number, "low": low, "high": high}) + "\n")
    if not ((low is None or number >= low) and (high is None or number <= high)):
        raise CheckError(f"{what}: {number:.6g} is not {_range(low, high)}")
    print(f"✓ {f'({tag}) ' if tag else ''}{what}: {_range(low, high)}")


def refute(what: str, claimed: Any, actual: Any, *, by: float) -> None:
    """Show that a formula in circulation is wrong: what it claims differs from the truth by at least `by`.

    Prints `✗ what: off by more than 0.1`. Raises CheckError where the claim holds after all, and where the shapes
    differ: broadcasting would compare what the claim does not speak of.
    """
    a, b = _tensor(claimed), _tensor(actual)
    if a.shape != b.shape:
        raise CheckError(f"{what}: shapes differ, {tuple(a.shape)} and {tuple(b.shape)}")
    gap = (a - b).abs().max().item()
    if not gap >= by:
        raise CheckError(f"{what}: {a.tolist()} against {b.tolist()}: they differ by {gap:.3g} only, less than {by:g}")
    print(f"✗ {what}: off by more than {by:g}")


def _range(low: float | None, high: float | None) -> str:
    if low is None:
        return f"at most {high:g}"
    return f"at least {low:g}" if high is None else f"between {low:g} and {high:g}"


def _tensor(value: Any) -> Tensor:
    return torch.as_tensor(value, dtype=torch.float64, device="cpu").detach()
