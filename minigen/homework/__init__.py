"""Graders that recognise the misconception, not just the wrong answer.

    from minigen.homework import grade
    grade("minimax.discriminator_loss", my_function)

A contract has a reference, inputs that tell right from wrong, and known wrong variants, each with what it gets wrong. A
function that agrees with a wrong variant on every input gets that explanation; one that agrees with none gets the
smallest input on which it fails.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from minigen.homework.contract import Contract, Input
from minigen.homework.minimax import CONTRACTS as MINIMAX

CONTRACTS: dict[str, Contract] = {f"minimax.{name}": contract for name, contract in MINIMAX.items()}
TOLERANCE = 1e-5  # relative and absolute, in float32: rounding differs between right formulas


@dataclass(frozen=True)
class Grade:
    """verdict: "right", "recognised", "wrong" or "open". misconception: the name of the variant that was recognised."""

    contract: str
    verdict: str
    message: str
    misconception: str | None = None

    def __str__(self) -> str:
        mark = {"right": "✓", "open": "○"}.get(self.verdict, "✗")
        return f"{mark} {self.contract}: {self.message}"


def grade(name: str, function: Callable[..., Any]) -> None:
    """Print what is right or wrong about `function` as an answer to the contract `name`."""
    print(assess(name, function))


def assess(name: str, function: Callable[..., Any]) -> Grade:
    """What `grade` prints, as data. Raises KeyError for an unknown contract; never for what the function does."""
    if name not in CONTRACTS:
        raise KeyError(f"no contract {name!r}; there are {', '.join(sorted(CONTRACTS))}")
    contract = CONTRACTS[name]
    failure: str | None = None
    answers: list[Tensor] = []
    for case in contract.inputs():
        given = copy.deepcopy(case.arguments)
        try:
            answer = function(*given)
        except NotImplementedError:
            return Grade(name, "open", "not attempted yet")
        except Exception as error:
            return Grade(name, "wrong", f"raises {type(error).__name__}: {error} (for {case.description})")
        if answer is None or answer is Ellipsis:
            return Grade(name, "open", "not attempted yet (it returns nothing)")
        expected = contract.reference(*case.arguments)
        if not isinstance(answer, Tensor) or answer.shape != expected.shape:
            what = f"{tuple(answer.shape)}" if isinstance(answer, Tensor) else type(answer).__name__
            return Grade(name, "wrong", f"must return a tensor of shape {tuple(expected.shape)}; got {what}")
        if any(not torch.equal(a, b) for a, b in zip(given, case.arguments, strict=True)):
            return Grade(name, "wrong", f"changes its inputs (for {case.description}); return a new tensor")
        answers.append(answer.detach())
        if failure is None and not _close(answer, expected):
            failure = f"for {case.description} it gives {_text(answer)}; expected {_text(expected)}"
    if failure is None:
        return Grade(name, "right", "right, on random and on extreme inputs")
    for wrong, (variant, explanation) in contract.wrong.items():
        if all(_close(a, variant(*case.arguments)) for a, case in zip(answers, contract.inputs(), strict=True)):
            return Grade(name, "recognised", explanation, wrong)
    return Grade(name, "wrong", f"wrong, and not in a way that is known here: {failure}")


def _close(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a.detach().double(), b.detach().double(), rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True)


def _text(x: Tensor) -> str:
    return f"{x.item():.6g}" if x.numel() == 1 else str([round(v, 5) for v in x.flatten().tolist()[:6]])


__all__ = ["CONTRACTS", "Contract", "Grade", "Input", "assess", "grade"]
