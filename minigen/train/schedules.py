"""Factors on the learning rates of a run, as functions of the step number."""

from __future__ import annotations

from collections.abc import Callable

from minigen.data.checks import need_number


def linear_decay(steps: int, *, hold: float = 0.0) -> Callable[[int], float]:
    """A schedule for `Run`: factor 1 for the first `hold` share of `steps`, then linear to 0 at step `steps`.

    hold: in [0, 1]; 1 stays at 1 until the last step. Raises ValueError for another share, or less than one step.

    >>> [linear_decay(4, hold=0.5)(n) for n in range(1, 5)]
    [1.0, 1.0, 0.5, 0.0]
    """
    if steps < 1:
        raise ValueError(f"steps must be 1 or more; got {steps}")
    need_number("hold, a share of the steps,", hold, low=0, high=1)
    if hold == 1.0:
        return lambda n: 1.0 if n < steps else 0.0
    return lambda n: max(0.0, min(1.0, (steps - n) / (steps * (1.0 - hold))))
