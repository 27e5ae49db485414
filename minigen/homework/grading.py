"""Is a function right, and if not, what does it get wrong?"""

from __future__ import annotations

import copy
import difflib
import importlib.util
import inspect
import numbers
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from minigen.homework import autoregressive, contrastive, diffusion, elbo, images, minimax, prompts, sampling, start
from minigen.homework.contract import Contract, Function, Input, RefusedError
from minigen.homework.limit import OverTimeError, Stopped, reset, untouched, within

CONTRACTS: dict[str, Contract] = {
    f"{module.__name__.rsplit('.', 1)[1]}.{name}": contract
    for module in (start, images, minimax, elbo, autoregressive, diffusion, sampling, prompts, contrastive)
    for name, contract in module.CONTRACTS.items()
}
TOLERANCE = 1e-5  # relative and absolute, in float32: rounding differs between right formulas
_LEFT_BEHIND = (
    " and cannot be stopped, since it is inside of compiled code or catches every exception;"
    " restart the kernel if it slows you down"
)
SOMEONE_ELSES = "someone else's"
SHOWN = 12  # at most so many numbers of an input are printed


@dataclass(frozen=True)
class Grade:
    """verdict: "right", "recognised", "wrong" or "open". misconception: the name of the variant that was recognised."""

    contract: str
    verdict: str
    message: str
    misconception: str | None = None

    @property
    def mark(self) -> str:
        """✓ right, ○ not attempted, ✗ anything else."""
        return {"right": "✓", "open": "○"}.get(self.verdict, "✗")

    def __str__(self) -> str:
        return f"{self.mark} {self.contract}: {self.message}"


class UnknownContractError(KeyError):
    """There is no contract of that name, neither the book's nor one of those given."""


Contracts = Mapping[str, Contract] | str | os.PathLike[str] | None


def grade(
    name: str, function: Function, *, student: str | None = None, contracts: Contracts = None, seconds: float = 3.0
) -> None:
    """Print what is right or wrong about `function` as an answer to the contract `name`; the arguments of `assess`.

    A name that is not known here is no error, so that a notebook runs on: it may be a contract that a teacher keeps.
    """
    try:
        print(assess(name, function, student=student, contracts=contracts, seconds=seconds))
    except UnknownContractError as error:
        print(f"? {error.args[0]}; a teacher's own is graded by the teacher")


def assess(
    name: str, function: Function, *, student: str | None = None, contracts: Contracts = None, seconds: float = 3.0
) -> Grade:
    """What `grade` prints, as data.

    A scalar may be given as a Python number; any floating dtype will do. The function is called on deep copies, in a
    thread of its own, with torch's defaults; the notebook's random streams are left as they were.

    student: whose parameters the contract takes, where it has a personal form (`task` says which).
    contracts: more of them, as {name: Contract} or as the path of a Python file that defines CONTRACTS; where it is not
    given, the environment variable MINIGEN_CONTRACTS may name that file. They go before the book's of the same name.
    seconds: the time limit for all inputs together.

    Raises UnknownContractError, a KeyError, for an unknown contract, ValueError for a student where the contract has no
    personal form; never for what the function does.
    """
    contract = find(name, contracts)
    if student is not None and contract.personal is None:
        raise ValueError(f"the contract {name!r} has no personal form; leave out student=")
    if misfit := _misfit(contract, function):
        return Grade(name, "wrong", misfit)
    at: list[str] = ["its inputs"]
    with untouched():
        try:
            return within(seconds, lambda: _judge(name, contract, function, student, at))
        except OverTimeError as error:
            rest = "" if error.stopped else _LEFT_BEHIND
            return Grade(name, "wrong", f"does not end within {seconds:g} s (for {at[-1]}){rest}")


def task(name: str, student: str, *, contracts: Contracts = None) -> str:
    """What the contract's personal form asks of this student. Raises ValueError where it has none."""
    personal = find(name, contracts).personal
    if personal is None:
        raise ValueError(f"the contract {name!r} has no personal form")
    return personal.task.format(**{key: f"{x:g}" for key, x in personal.constants(student).items()})


def find(name: str, contracts: Contracts = None) -> Contract:
    """The contract of that name. Raises UnknownContractError, which names the near ones."""
    known = known_contracts(contracts)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=2)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(sorted(known))}"
        raise UnknownContractError(f"no contract {name!r}; {hint}")
    return known[name]


def known_contracts(contracts: Contracts = None) -> dict[str, Contract]:
    """The book's contracts and those of `contracts` or of the file that MINIGEN_CONTRACTS names."""
    contracts = contracts if contracts is not None else os.environ.get("MINIGEN_CONTRACTS") or {}
    return CONTRACTS | (dict(contracts) if isinstance(contracts, Mapping) else _load(Path(contracts)))


def _load(path: Path) -> dict[str, Contract]:
    what = "a contracts file is Python that defines CONTRACTS = {name: Contract(...)}"
    if not path.is_file():
        raise FileNotFoundError(f"no contracts file {str(path)!r}; {what}")
    spec = importlib.util.spec_from_file_location(f"minigen_contracts_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file (.py); {what}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = getattr(module, "CONTRACTS", None)
    if not isinstance(found, dict) or not all(isinstance(c, Contract) for c in found.values()):
        raise TypeError(f"{path} has no CONTRACTS, or one that is no dict of Contract; {what}")
    return found


class _OpenError(Exception):
    """Nothing to grade yet."""


def _judge(name: str, contract: Contract, function: Function, student: str | None, at: list[str]) -> Grade:
    """The grade; `at` tells another thread how far it has come."""
    common, personal, constants = contract, contract.personal, {}
    if student is not None and personal:
        constants = personal.constants(student)
        contract = personal.make(**constants)
    cases, observed, failure = contract.inputs(), [], ""
    for case in cases:
        at.append(_describe(contract, case))
        expected = _see(contract, contract.reference, case)
        try:
            observed.append(_see(contract, _guard(contract, function), case))
        except (NotImplementedError, _OpenError) as error:
            return Grade(name, "open", f"not attempted yet{error if isinstance(error, _OpenError) else ''}")
        except RefusedError as error:
            return Grade(name, "wrong", f"{error} (for {at[-1]})")
        except (KeyboardInterrupt, Stopped):
            raise
        except BaseException as error:
            return Grade(name, "wrong", f"raises {error_text(error)} (for {at[-1]})")
        failure = failure or _difference(observed[-1], expected, at[-1])
    if not failure:
        return Grade(name, "right", "right, on random and on extreme inputs")

    def is_a(variant: Function) -> bool:
        return all(_agree(seen, _see(contract, variant, case)) for seen, case in zip(observed, cases, strict=True))

    for wrong, (variant, explanation) in contract.wrong.items():
        if is_a(variant):
            return Grade(name, "recognised", explanation, wrong)
    if personal and constants:
        yours = f"yours has {constants_text(constants)}"
        if is_a(common.reference):
            return Grade(name, "recognised", f"right for the exercise as the book has it; {yours}", "the book's")
        for wrong, (variant, explanation) in common.wrong.items():
            if is_a(variant):
                return Grade(name, "recognised", f"{explanation}; and {yours}", wrong)
        for other in personal.all_constants():
            if is_a(personal.make(**other).reference):
                text = f"right for someone else's constants, {constants_text(other)}; {yours}"
                return Grade(name, "recognised", text, SOMEONE_ELSES)
    return Grade(name, "wrong", f"wrong, and not in a way that is known here: {failure}")


def _misfit(contract: Contract, function: object) -> str:
    """Why the function cannot be called with the contract's arguments; empty if it can, or cannot say."""
    if not callable(function):
        return f"must be a function; got {type(function).__name__}"
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # builtins need not have one
        return ""
    try:
        signature.bind(*contract.names)
    except TypeError:
        return f"must take the arguments ({', '.join(contract.names)}); it takes {signature}"
    return ""


def constants_text(constants: Mapping[str, float]) -> str:
    """As the messages have them: "temperature = 2, weight = 0.7"."""
    return ", ".join(f"{name} = {value:g}" for name, value in constants.items())


def _see(contract: Contract, function: Function, case: Input) -> dict[str, Tensor]:
    """What the contract looks at, of a function called with a copy of the case's arguments."""
    arguments = dict(zip(contract.names, copy.deepcopy(case.arguments), strict=True))
    return {key: torch.as_tensor(x).detach().clone() for key, x in contract.observe(function, arguments).items()}


def _guard(contract: Contract, function: Function) -> Function:
    """The reader's function, with its answer looked over before anything is done with it."""

    def guarded(*arguments: Any) -> Tensor:
        before = [_state(x) for x in arguments]
        reset()
        answer = function(*arguments)
        for name, old, new in zip(contract.names, before, arguments, strict=True):
            if not _equal(old, _state(new)):
                raise RefusedError(f"changes its input `{name}`; leave it as it is, and return something new")
        if answer is None or answer is Ellipsis:
            raise _OpenError(" (it returns nothing)")
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


def _agree(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return all(_close(a[key], b[key]) for key in b)


def _close(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(a.double(), b.double(), rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True)


def _difference(seen: dict[str, Tensor], expected: dict[str, Tensor], at: str) -> str:
    """How the first thing that differs does; empty where all agree."""
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


def _describe(contract: Contract, case: Input) -> str:
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
    return f"{type(error).__name__}{': ' + lines[0][:200] if lines else ''}"
