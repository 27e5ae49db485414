"""What an exercise asks for: a reference, inputs, and the wrong answers that people give."""

from __future__ import annotations

import functools
import hashlib
import inspect
import itertools
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

Function = Callable[..., Any]
Observe = Callable[[Function, dict[str, Any]], dict[str, Tensor]]


class RefusedError(Exception):
    """Raised by an `observe` for an answer that it cannot look at; the reader sees the message."""


class ContractError(ValueError):
    """A contract cannot judge: it has no inputs, or a function of its own raises. The message says what to mend."""


@dataclass(frozen=True)
class Input:
    """Arguments for one call (tensors, numbers, networks), and how to name them to the reader: "random logits"."""

    arguments: tuple[Any, ...]
    description: str


def value(function: Function, arguments: dict[str, Any]) -> dict[str, Tensor]:
    """What most contracts look at: what the function returns, a tensor (...) or a number."""
    return {"value": function(*arguments.values())}


def gradients(*names: str) -> Observe:
    """Look at the value and at its gradient by the named arguments: tensors, or networks (by their parameters).

    A tensor among them arrives as the output of a network would: it requires a gradient and is no leaf.
    A gradient that does not exist counts as 0.
    """

    def observe(function: Function, arguments: dict[str, Any]) -> dict[str, Tensor]:
        seen, sources = dict(arguments), {}
        for name in names:
            if isinstance(seen[name], nn.Module):
                sources[name] = list(seen[name].parameters())
            else:
                leaf = seen[name].detach().requires_grad_()
                sources[name], seen[name] = [leaf], leaf.clone()
        answer = function(*seen.values())
        if any(part.grad is not None for parts in sources.values() for part in parts):
            raise RefusedError("calls backward(); return the loss, and leave it to the caller to differentiate")
        found = {"value": answer}
        for name, parts in sources.items():
            slopes: Any = [None] * len(parts)
            if answer.requires_grad:
                slopes = torch.autograd.grad(answer.sum(), parts, retain_graph=True, allow_unused=True)
            filled = [torch.zeros_like(x) if g is None else g for x, g in zip(parts, slopes, strict=True)]
            found[f"gradient by {name}"] = torch.cat([g.flatten() for g in filled])
        return found

    return observe


@dataclass(frozen=True)
class Contract:
    """An exercise.

    reference: the right function; its arguments' names are shown to the reader. inputs: makes the cases, the smallest
    first. wrong: {name: (variant, what it gets wrong and what to do)}. observe: what is compared, `value` or
    `gradients(...)`. personal: the form whose constants differ from student to student, if it has one.
    """

    reference: Function
    inputs: Callable[[], list[Input]]
    wrong: Mapping[str, tuple[Function, str]]
    observe: Observe = value
    personal: Personal | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the arguments."""
        return tuple(inspect.signature(self.reference).parameters)

    def adapted(
        self, *, before: Callable[..., tuple[Any, ...]] | None = None, after: Function | None = None
    ) -> Contract:
        """The contract for after(f(*before(*arguments))), wrong variants included."""

        def wrap(function: Function) -> Function:
            @functools.wraps(function)
            def wrapped(*arguments: Any) -> Any:
                answer = function(*(before(*arguments) if before else arguments))
                return after(answer) if after else answer

            return wrapped

        wrong = {name: (wrap(variant), text) for name, (variant, text) in self.wrong.items()}
        return replace(self, reference=wrap(self.reference), wrong=wrong, personal=None)


@dataclass(frozen=True)
class Personal:
    """A form of a contract whose constants differ from student to student.

    task: what the student is told, with the constants in braces: "divide the logits by {temperature}". choices: the
    values of each constant; their product should be larger than the class. make: the contract, given the constants.
    """

    task: str
    choices: Mapping[str, Sequence[float]]
    make: Callable[..., Contract]

    def constants(self, student: str) -> dict[str, float]:
        """The same for one student every time; nearby names have nothing in common.

        Case, blanks around it and the way in which a file system stores accents do not make another name.
        """
        who = tidy(student).casefold()
        return {name: _choose(f"{who}\n{name}", values) for name, values in self.choices.items()}

    def all_constants(self) -> Iterator[dict[str, float]]:
        """Every set of constants that a student may get."""
        for values in itertools.product(*self.choices.values()):
            yield dict(zip(self.choices, values, strict=True))


def tidy(name: str) -> str:
    """A student's name with its accents composed, as macOS does not store them, and without needless blanks."""
    return unicodedata.normalize("NFC", " ".join(name.split()))


def _choose(key: str, values: Sequence[float]) -> float:
    """One of the values, by the hash of `key`."""
    digest = hashlib.sha256(key.encode()).digest()
    return values[int.from_bytes(digest[:8], "big") % len(values)]
