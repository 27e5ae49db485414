"""A grade is printed on any console, and the JSON is written whatever the console can show."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from minigen.homework import grade
from minigen.homework.console import say

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("encoding", "shown"), [("utf-8", "✓ Zoë ✗ ○"), ("cp1252", "+ Zoë x o"), ("ascii", "+ Zo\\xeb x o")]
)
def test_signs_that_a_console_lacks_are_replaced(monkeypatch, encoding: str, shown: str) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding))
    say("✓ Zoë ✗ ○")
    sys.stdout.flush()
    assert raw.getvalue().decode(encoding).splitlines() == [shown]


def test_grade_prints_where_there_is_no_tick_mark(monkeypatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="cp1252"))
    grade("start.to_float", lambda levels, num_levels: (2 * levels + 1) / num_levels - 1)
    grade("start.to_floats", None)
    sys.stdout.flush()
    first, second = raw.getvalue().decode("cp1252").splitlines()
    assert first == "+ start.to_float: right, on random and on extreme inputs"
    assert second.startswith("? no contract 'start.to_floats'; did you mean start.to_float?")


def test_the_json_is_written_on_any_console_and_into_a_closed_pipe(tmp_path) -> None:
    (tmp_path / "ada.py").write_text("from minigen.homework import grade\ngrade('start.to_float', abs)\n")
    command = [sys.executable, "-m", "minigen.homework", tmp_path, "--json", tmp_path / "table.json"]
    environment = os.environ | {"PYTHONIOENCODING": "cp1252"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, env=environment, timeout=120)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode("cp1252").splitlines()[1].split() == ["ada", "x", "0", "of", "1"]
    written = json.loads((tmp_path / "table.json").read_text(encoding="utf-8"))
    assert written["students"]["ada"]["grades"]["start.to_float"]["verdict"] == "wrong"


def test_a_time_limit_that_is_none_is_refused_on_the_command_line(tmp_path) -> None:
    (tmp_path / "ada.py").write_text("", encoding="utf-8")
    command = [sys.executable, "-m", "minigen.homework", tmp_path, "--seconds", "-1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: a time limit must be a positive number of seconds; got -1.0\n"
