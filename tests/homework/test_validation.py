"""A teacher's own contracts: found, read again when they change, and refused when they cannot judge."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from minigen.homework import CONTRACTS, Contract, ContractError, Input, Personal, assess, grade_all
from minigen.homework.validation import check

ROOT = Path(__file__).parents[2]
NAME = "minimax.non_saturating_loss"
NUMBER = Input((1.0,), "a number")


FILE = """
import torch
from minigen.homework import Contract, Input
CONTRACTS = {NAME: Contract(lambda x: x + 1, lambda: [Input((torch.zeros(1),), "zero")], {})}
"""


def test_a_teachers_own_file(tmp_path, monkeypatch) -> None:
    file = tmp_path / "mine.py"
    file.write_text(FILE.replace("NAME", "'mine.plus'"), encoding="utf-8")
    assert assess("mine.plus", lambda x: x + 1, contracts=file).verdict == "right"
    assert assess("mine.plus", lambda x: x + 1, contracts=str(file)).verdict == "right"
    with pytest.raises(KeyError, match=r"mine\.plus"):
        assess("mine.plus", lambda x: x + 1)
    monkeypatch.setenv("MINIGEN_CONTRACTS", str(file))
    assert assess("mine.plus", lambda x: x + 1).verdict == "right"
    assert assess(NAME, CONTRACTS[NAME].reference).verdict == "right"
    file.write_text(FILE.replace("NAME", f"{NAME!r}"), encoding="utf-8")
    assert assess(NAME, lambda x: x + 1).verdict == "right", "it goes before the book's"


def test_a_teachers_file_that_cannot_be_used(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no contracts file .*nowhere\.py.*CONTRACTS = "):
        assess(NAME, torch.sum, contracts=tmp_path / "nowhere.py")
    (tmp_path / "notes.txt").write_text("hello", encoding="utf-8")
    with pytest.raises(ImportError, match=r"not a Python file"):
        assess(NAME, torch.sum, contracts=tmp_path / "notes.txt")
    (tmp_path / "empty.py").write_text("CONTRACTS = {'a': 1}", encoding="utf-8")
    with pytest.raises(TypeError, match=r"empty\.py has no CONTRACTS, or one that is no dict of Contract"):
        assess(NAME, torch.sum, contracts=tmp_path / "empty.py")


def broken(x):
    raise ZeroDivisionError("by zero")


@pytest.mark.parametrize(
    ("contract", "says"),
    [
        (Contract(abs, list, {}), r"'mine' has no inputs, so that every answer would pass"),
        (Contract(abs, lambda: [1.0], {}), r"'mine': inputs must be a list of Input; got float"),
        (Contract(abs, lambda: [Input((1.0, 2.0), "two")], {}), r"'mine': 2 arguments in an input, but .* takes \(x\)"),
        (Contract(abs, lambda: 1 / 0, {}), r"'mine': its inputs raise ZeroDivisionError"),
        (Contract(broken, lambda: [NUMBER], {}), r"'mine': its reference raises ZeroDivisionError: by zero"),
        (
            Contract(lambda x: x * float("nan"), lambda: [NUMBER], {}),
            r"'mine': its reference gives NaN, which any NaN would equal \(for a number\)",
        ),
        (
            Contract(lambda x: x * torch.rand(3), lambda: [NUMBER], {}),
            r"'mine': its reference gives another answer each time",
        ),
        (
            Contract(abs, lambda: [NUMBER], {}, observe=lambda function, arguments: {}),
            r"'mine': observe looks at nothing, so that every answer would pass",
        ),
        (
            Contract(abs, lambda: [NUMBER], {"zero": (broken, "divides")}),
            r"'mine': its wrong variant 'zero' raises ZeroDivisionError: by zero",
        ),
        (
            Contract(abs, lambda: [NUMBER], {"zero": broken}),
            r"'mine': wrong\['zero'\] must be \(function, explanation\)",
        ),
        (
            Contract(abs, lambda: [NUMBER], {"itself": (lambda x: x, "no sign")}),
            r"'mine': no input tells its reference from its wrong variant 'itself'; add one",
        ),
        (
            Contract(abs, lambda: [NUMBER], {}, personal=Personal("{a}", {"a": (1, 2)}, lambda b: None)),
            r"'mine': its personal form raises TypeError",
        ),
        (Contract(abs, lambda: [NUMBER], {}, personal=Personal("{a}", {"a": ()}, lambda a: None)), r"has no choices"),
        (abs, r"'mine' is no Contract\(\.\.\.\); got builtin_function_or_method"),
    ],
)
def test_a_contract_that_cannot_judge_is_refused_and_no_answer_is_blamed(contract, says: str) -> None:
    for answer in (abs, lambda x: x, lambda x: None):
        with pytest.raises(ContractError, match=says):
            assess("mine", answer, contracts={"mine": contract})


def test_the_books_contracts_and_their_personal_forms_can_judge() -> None:
    for name, contract in CONTRACTS.items():
        check(name, contract)


def test_a_contract_is_run_through_once() -> None:
    calls = []

    def counted(x):
        calls.append(x)
        return -x

    contracts = {"mine": Contract(abs, lambda: [NUMBER], {"counted": (counted, "minus")})}
    for _ in range(3):
        assert assess("mine", abs, contracts=contracts).verdict == "right"
    assert len(calls) == 1


def test_a_file_of_contracts_is_refused_as_a_whole(tmp_path) -> None:
    for text, says in (
        ("import torch\nCONTRACTS = undefined\n", "mine.py cannot be run: NameError: name 'undefined' is not defined"),
        (FILE.replace("NAME", "'mine'").replace('[Input((torch.zeros(1),), "zero")]', "[]"), "'mine' has no inputs"),
    ):
        (tmp_path / "mine.py").write_text(text, encoding="utf-8")
        with pytest.raises(ContractError, match=says):
            grade_all(tmp_path, contracts=tmp_path / "mine.py")
        with pytest.raises(ContractError, match=says):
            assess(NAME, torch.sum, contracts=tmp_path / "mine.py")
    command = [sys.executable, "-m", "minigen.homework", tmp_path, "--contracts", tmp_path / "mine.py"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: the contract 'mine' has no inputs")
