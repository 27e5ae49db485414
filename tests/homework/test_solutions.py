"""Every graded exercise of the chapters: its solution passes, and the cell as given says "not attempted yet"."""

from __future__ import annotations

import ast
import re
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import jupytext
import pytest

from minigen.homework import assess

CHAPTERS = sorted((Path(__file__).parents[2] / "chapters").glob("[0-9]*.md"))
GRADE = re.compile(r"^grade\(\"([\w.]+)\", (\w+)\)", re.MULTILINE)
SOLUTION = re.compile(r"<summary>Solution</summary>\s*.*?```python\n(.*?)```", re.DOTALL)


class Exercise(NamedTuple):
    contract: str
    function: str
    given: str
    solution: str
    imports: str


def exercises(path: Path) -> list[Exercise]:
    """Every cell that calls grade, with the first solution in the text after it ("" where there is none)."""
    cells = jupytext.read(path).cells
    code = [re.sub(r"^(\s*)[%!].*$", r"\1pass", c.source, flags=re.MULTILINE) for c in cells if c.cell_type == "code"]
    lines = [s for text in code for s in ast.parse(text).body if isinstance(s, ast.Import | ast.ImportFrom)]
    imports = "\n".join(map(ast.unparse, lines))
    found = []
    for cell, after in pairwise(cells):
        for call in GRADE.finditer(cell.source) if cell.cell_type == "code" else ():
            solution = SOLUTION.search(after.source)
            found.append(Exercise(call[1], call[2], cell.source, solution[1] if solution else "", imports))
    return found


EXERCISES = [exercise for path in CHAPTERS for exercise in exercises(path)]


@pytest.mark.parametrize("exercise", EXERCISES, ids=[exercise.contract for exercise in EXERCISES])
def test_the_solution_is_right_and_the_stub_is_open(exercise: Exercise) -> None:
    for text, verdict in ((exercise.given, "open"), (exercise.solution, "right")):
        namespace = {}
        exec(exercise.imports, namespace)
        exec(text, namespace | {"grade": lambda *_: None}, namespace)
        assert assess(exercise.contract, namespace[exercise.function]).verdict == verdict


def test_every_chapter_with_graded_exercises_is_seen() -> None:
    for path in CHAPTERS:
        calls = re.findall(r"^\s*grade\(", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
        assert len(calls) == len(exercises(path)), path.name
