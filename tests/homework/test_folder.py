"""The folder is the list of contracts: a file more is a contract more, and nothing else has to know of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from minigen.homework import CONTRACTS, assess, contracts, grade, task
from minigen.homework.contract import Contract

FOLDER = Path(contracts.__file__).parent
NEW = """
import torch
from minigen.homework.contract import Contract, Input
from minigen.homework.mistakes import tempered

def inputs():
    return [Input((torch.tensor([1.0, 3.0]),), "two numbers")]

CONTRACT = tempered(Contract(lambda x: 2 * x, inputs, {"half": (lambda x: x / 2, "divides; multiply")}), 0)
"""


def test_every_file_is_a_contract_and_every_contract_a_file() -> None:
    files = [p for p in FOLDER.glob("*/*.py") if not p.name.startswith("_")]
    assert sorted(CONTRACTS) == sorted(f"{p.parent.name}.{p.stem}" for p in files) == list(CONTRACTS)
    assert len(CONTRACTS) == len(files) >= 50
    for name, contract in CONTRACTS.items():
        assert isinstance(contract, Contract)
        assert CONTRACTS[name] is contract


@pytest.fixture
def one_more(tmp_path, monkeypatch) -> Path:
    """A second folder beside the library's, with a family of its own and a file for one that exists."""
    for family in ("mine", "start"):
        (tmp_path / family).mkdir()
        (tmp_path / family / "__init__.py").write_text("", encoding="utf-8")
    (tmp_path / "mine" / "double.py").write_text(NEW, encoding="utf-8")
    (tmp_path / "mine" / "_shared.py").write_text("no Python", encoding="utf-8")
    (tmp_path / "mine" / "empty.py").write_text("CONTRACT = 1", encoding="utf-8")
    monkeypatch.setattr(contracts, "__path__", [*contracts.__path__, str(tmp_path)])
    yield tmp_path
    for module in [name for name in sys.modules if name.startswith(f"{contracts.__name__}.mine")]:
        del sys.modules[module]


def test_a_contract_is_added_by_one_file(one_more, capsys) -> None:
    before = len(list(FOLDER.glob("*/[!_]*.py")))
    assert {"mine.double", "mine.empty"} == {name for name in CONTRACTS if name.startswith("mine.")}
    assert len(CONTRACTS) == before + 2
    assert assess("mine.double", lambda x: x + x).verdict == "right"
    assert assess("mine.double", lambda x: 0.5 * x).misconception == "half"
    assert task("mine.double", "ada").startswith("Divide every logit by")
    grade("mine.doublee", abs)
    assert "did you mean mine.double" in capsys.readouterr().out
    with pytest.raises(TypeError, match=r"mine/empty\.py defines no CONTRACT = Contract"):
        assess("mine.empty", abs)
    assert "mine._shared" not in CONTRACTS


def test_what_is_no_contract_is_not_found() -> None:
    for name in ("diffusion", "diffusion._levels", "diffuse", "", "contract.Contract", 3):
        assert name not in CONTRACTS
    with pytest.raises(KeyError):
        CONTRACTS["diffusion._levels"]


def test_only_the_contract_that_is_asked_for_is_imported() -> None:
    program = (
        "import sys; from minigen.homework import assess; assess('start.to_float', abs);"
        "print([m for m in sys.modules if m.startswith('minigen.homework.contracts.') and m.count('.') == 4])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == "['minigen.homework.contracts.start.to_float']\n"
