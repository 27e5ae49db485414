"""Is a function right, and if not, what does it get wrong?"""

from __future__ import annotations

import difflib
import functools
import importlib.util
import inspect
import os
from collections import ChainMap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from minigen.homework.console import say
from minigen.homework.contract import Contract, ContractError, Function, RefusedError
from minigen.homework.contracts import CONTRACTS
from minigen.homework.limit import OverTimeError, Stopped, check_seconds, untouched, within
from minigen.homework.observing import OpenError, agree, describe, difference, error_text, guard, see
from minigen.homework.validation import cases, check, observed

_LEFT_BEHIND = (
    " and cannot be stopped, since it is inside of compiled code or catches every exception;"
    " restart the kernel if it slows you down"
)
SOMEONE_ELSES = "someone else's"
_FILE = "a contracts file is Python that defines CONTRACTS = {name: Contract(...)}"
_checked: dict[int, Contract] = {}  # a teacher's, by id: they are run through once


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

    >>> from torch.nn.functional import softplus
    >>> grade("minimax.discriminator_loss", lambda real, fake: softplus(-real).sum() + softplus(fake).sum())
    ✗ minimax.discriminator_loss: sums over the batch; an expectation is a mean
    >>> grade("minimax.discriminator_loss", lambda real, fake: softplus(-real).mean() + softplus(fake).mean())
    ✓ minimax.discriminator_loss: right, on random and on extreme inputs
    """
    try:
        say(assess(name, function, student=student, contracts=contracts, seconds=seconds))
    except UnknownContractError as error:
        say(f"? {error.args[0]}; a teacher's own is graded by the teacher")


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

    Raises UnknownContractError, a KeyError, for an unknown contract; ValueError for a student where the contract has no
    personal form and for a time limit that is not positive; ContractError, a ValueError, for a contract that cannot
    judge. Never for what the function does.
    """
    check_seconds(seconds)
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
    """The contract of that name. Raises UnknownContractError, which names the near ones, and ContractError."""
    known = known_contracts(contracts)
    if name not in known:
        near = difflib.get_close_matches(str(name), known, n=2)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(sorted(known))}"
        raise UnknownContractError(f"no contract {name!r}; {hint}")
    contract = known[name]
    if name in known.maps[0] and id(contract) not in _checked:
        check(name, contract)
        _checked[id(contract)] = contract
    return contract


def known_contracts(contracts: Contracts = None) -> ChainMap[str, Contract]:
    """Those of `contracts` or of the file that MINIGEN_CONTRACTS names, and under them the book's, read on demand."""
    contracts = contracts if contracts is not None else os.environ.get("MINIGEN_CONTRACTS") or {}
    own = dict(contracts) if isinstance(contracts, Mapping) else _load(Path(contracts))
    return ChainMap(own, cast("dict[str, Contract]", CONTRACTS))  # nothing is written to it


def _load(path: Path) -> dict[str, Contract]:
    if not path.is_file():
        raise FileNotFoundError(f"no contracts file {str(path)!r}; {_FILE}")
    stat = path.stat()
    return _read(path.resolve(), stat.st_mtime_ns, stat.st_size)


@functools.lru_cache(maxsize=8)
def _read(path: Path, *_: int) -> dict[str, Contract]:
    """The file's contracts, each run through; read again when its time or its size has changed."""
    spec = importlib.util.spec_from_file_location(f"minigen_contracts_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file (.py); {_FILE}")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except SyntaxError:
        raise
    except Exception as error:
        raise ContractError(f"{path} cannot be run: {error_text(error)}; {_FILE}") from error
    found = getattr(module, "CONTRACTS", None)
    if not isinstance(found, dict) or not all(isinstance(c, Contract) for c in found.values()):
        raise TypeError(f"{path} has no CONTRACTS, or one that is no dict of Contract; {_FILE}")
    for name, contract in found.items():
        check(name, contract)
        _checked[id(contract)] = contract
    return found


def _judge(name: str, contract: Contract, function: Function, student: str | None, at: list[str]) -> Grade:
    """The grade; `at` tells another thread how far it has come."""
    common, personal, constants = contract, contract.personal, {}
    if student is not None and personal:
        constants = personal.constants(student)
        contract = personal.make(**constants)
    given, answers, failure = cases(name, contract), [], ""
    wanted = observed(name, contract, "its reference", contract.reference, given)
    for case, expected in zip(given, wanted, strict=True):
        at.append(describe(contract, case))
        try:
            answers.append(see(contract, guard(contract, function), case))
        except (NotImplementedError, OpenError) as error:
            return Grade(name, "open", f"not attempted yet{error if isinstance(error, OpenError) else ''}")
        except RefusedError as error:
            return Grade(name, "wrong", f"{error} (for {at[-1]})")
        except Stopped:
            raise
        except BaseException as error:  # an interrupt too: the user's own reaches the main thread, not this one
            return Grade(name, "wrong", f"raises {error_text(error)} (for {at[-1]})")
        failure = failure or difference(answers[-1], expected, at[-1])
    if not failure:
        return Grade(name, "right", "right, on random and on extreme inputs")

    def is_a(variant: Function, which: str) -> bool:
        seen = (observed(name, contract, which, variant, [case])[0] for case in given)  # as far as they agree
        return all(map(agree, answers, seen))

    for wrong, (variant, explanation) in contract.wrong.items():
        if is_a(variant, f"its wrong variant {wrong!r}"):
            return Grade(name, "recognised", explanation, wrong)
    if personal and constants:
        yours = f"yours has {constants_text(constants)}"
        if is_a(common.reference, "its reference"):
            return Grade(name, "recognised", f"right for the exercise as the book has it; {yours}", "the book's")
        for wrong, (variant, explanation) in common.wrong.items():
            if is_a(variant, f"its wrong variant {wrong!r}"):
                return Grade(name, "recognised", f"{explanation}; and {yours}", wrong)
        for other in personal.all_constants():
            if is_a(personal.make(**other).reference, "its personal form"):
                text = f"right for someone else's constants, {constants_text(other)}; {yours}"
                return Grade(name, "recognised", text, SOMEONE_ELSES)
    return Grade(name, "wrong", f"wrong, and not in a way that is known here: {failure}")


def _misfit(contract: Contract, function: object) -> str:
    """Why the function cannot be called with the contract's arguments; empty if it can, or cannot say."""
    if not callable(function):
        return f"must be a function; got {type(function).__name__}"
    try:
        signature = inspect.signature(function)
        takes = str(signature)
    except Exception:  # builtins need not have one, and an object may raise anything
        return ""
    try:
        signature.bind(*contract.names)
    except TypeError:
        return f"must take the arguments ({', '.join(contract.names)}); it takes {takes}"
    return ""


def constants_text(constants: Mapping[str, float]) -> str:
    """As the messages have them: "temperature = 2, weight = 0.7"."""
    return ", ".join(f"{name} = {value:g}" for name, value in constants.items())
