"""What an exercise asks for: a reference, inputs, and the wrong answers that people give."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Input:
    """Arguments for one call, and how to name them to the reader."""

    arguments: tuple[Tensor, ...]
    description: str


@dataclass(frozen=True)
class Contract:
    """An exercise.

    reference: the right function. inputs: makes the cases, the smallest first.
    wrong: {name: (variant, what it gets wrong)}.
    """

    reference: Callable[..., Tensor]
    inputs: Callable[[], list[Input]]
    wrong: dict[str, tuple[Callable[..., Tensor], str]]
