"""The page for teachers: every block of code runs, and prints what the page shows."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from minigen.homework import CONTRACTS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "book" / "teachers.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)


def test_every_block_runs_and_prints_what_the_page_shows(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("MINIGEN_CONTRACTS", raising=False)
    namespace, printed, shown = {}, "", 0
    for language, text in BLOCKS:
        if language == "python":
            assert not printed, f"the page does not show the output {printed!r}"
            if file := re.match(r"# (\S+\.py)\n", text):
                Path(file[1]).parent.mkdir(exist_ok=True)
                Path(file[1]).write_text(text, encoding="utf-8")
                continue
            with contextlib.redirect_stdout(io.StringIO()) as out:
                exec(text, namespace)
            printed = out.getvalue()
        elif language == "console":
            command, expected = text.split("\n", 1)
            arguments = command.removeprefix("$ python ").split()
            environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"}
            done = subprocess.run(
                [sys.executable, *arguments], capture_output=True, encoding="utf-8", env=environment, timeout=120
            )
            assert (done.stdout, done.returncode) == (expected, 0), done.stderr
            shown += 1
        else:
            assert language == "text"
            assert printed == text
            printed, shown = "", shown + 1
    assert not printed
    assert shown >= 7
    assert json.loads(Path("table.json").read_text(encoding="utf-8"))["students"]["ada"]["right"] == 2


@pytest.fixture
def contract_in_20_lines() -> str:
    (text,) = (text for _, text in BLOCKS if text.startswith("# my_contracts.py"))
    return text


def test_a_contract_takes_20_lines(contract_in_20_lines) -> None:
    assert len(contract_in_20_lines.splitlines()) - 1 <= 20  # without the file's name


def test_the_page_lists_the_contracts_with_their_arguments() -> None:
    rows = re.findall(r"^\| `([\w.]+)` \| `([\w, ]+)` \|.*?\| (yes)? ?\|$", PAGE, flags=re.MULTILINE)
    expected = [(name, ", ".join(c.names), "yes" if c.personal else "") for name, c in CONTRACTS.items()]
    assert sorted(rows) == expected
