"""One student's file: which functions it hands in, and what they are worth. Runs in a process of its own.

A chapter's notebook trains networks, which takes a minute; a grade takes milliseconds. So the file is not run as a
whole: kept are its calls of grade(...), and the top-level statements that define what those calls need.
"""

from __future__ import annotations

import ast
import json
import os
import re
import symtable
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from minigen import homework
from minigen.homework.grading import Grade, UnknownContractError, assess, error_text, find

MAGIC = re.compile(r"^(\s*)[%!?].*$", re.MULTILINE)  # IPython's own commands


def statements(path: Path) -> tuple[list[tuple[str, ast.stmt]], list[str]]:
    """The top-level statements of a .py or .ipynb file, each with where it stands; and what could not be read."""
    found: list[tuple[str, ast.stmt]] = []
    problems = []
    for place, text in _sources(path):
        if text.startswith("%%"):
            continue
        try:
            parsed = ast.parse(MAGIC.sub(r"\1pass", text) if path.suffix == ".ipynb" else text)
        except (SyntaxError, ValueError) as error:
            problems.append(f"{place} cannot be read: {error_text(error)}")
            continue
        found += [(f"{place}, line {statement.lineno}", statement) for statement in parsed.body]
    return found, problems


def _sources(path: Path) -> Iterator[tuple[str, str]]:
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".ipynb":
        yield path.name, text
        return
    for number, cell in enumerate(json.loads(text)["cells"], start=1):
        if cell["cell_type"] == "code":
            yield f"{path.name}, cell {number}", "".join(cell["source"])


def needed(found: list[tuple[str, ast.stmt]]) -> list[tuple[str, ast.stmt]]:
    """The calls of grade(...) and what they rest on: imports, definitions and assignments, in their order."""
    kept = {i for i, (_, statement) in enumerate(found) if any(map(_grades, ast.walk(statement)))}
    wanted = {name for i in kept for name in _uses(found[i][1])}
    while more := {i for i, (_, s) in enumerate(found) if i not in kept and (_binds(s) & wanted or "*" in _binds(s))}:
        kept |= more
        wanted |= {name for i in more for name in _uses(found[i][1])}
    return [found[i] for i in sorted(kept)]


def _grades(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "grade"


def _uses(statement: ast.stmt) -> set[str]:
    """The global names that a top-level statement refers to, those inside of its functions included."""
    tables, names = [_table(statement)], set()
    while tables:
        table = tables.pop()
        outermost = table.get_type() == "module"
        names |= {s.get_name() for s in table.get_symbols() if s.is_referenced() and (outermost or s.is_global())}
        tables += table.get_children()
    return names


def _binds(statement: ast.stmt) -> set[str]:
    """The names that a top-level statement defines or assigns to; `x.y = ...` and `x[0] = ...` count for x."""
    names = {s.get_name() for s in _table(statement).get_symbols() if s.is_assigned() or s.is_imported()}
    for node in ast.walk(statement):
        if isinstance(node, ast.alias) and node.name == "*":
            names.add("*")
        elif isinstance(node, ast.Attribute | ast.Subscript) and isinstance(node.ctx, ast.Store):
            base: ast.expr = node
            while isinstance(base, ast.Attribute | ast.Subscript):
                base = base.value
            if isinstance(base, ast.Name):
                names.add(base.id)
    return names


def _table(statement: ast.stmt) -> symtable.SymbolTable:
    return symtable.symtable(ast.unparse(statement), "submission", "exec")


def run(path: Path, out: Path, *, student: str | None, contracts: str | None, seconds: float) -> None:
    """Grade the file; write {"grades": {contract: Grade}, "problems": [...]} to `out` after every step.

    student: the student's name if personal forms are asked for. The last call for a contract counts.
    """
    grades: dict[str, Grade] = {}
    try:
        found, problems = statements(path)
    except (OSError, ValueError, KeyError, TypeError) as error:
        found, problems = [], [f"{path.name} cannot be read: {error_text(error)}"]

    def save() -> None:
        text = json.dumps({"grades": {name: asdict(g) for name, g in grades.items()}, "problems": problems})
        out.with_suffix(".new").write_text(text, encoding="utf-8")
        os.replace(out.with_suffix(".new"), out)

    def record(name: str, function: Any, **_: Any) -> None:
        personal = student if find(name, contracts).personal else None
        grades[name] = assess(name, function, student=personal, contracts=contracts, seconds=seconds)
        save()

    homework.grade = homework.grading.grade = record
    kept, namespace = needed(found), {"__name__": "submission"}
    if not kept and not problems:
        problems.append(f"{path.name} has no call of grade(...)")
    save()
    for place, statement in kept:
        try:
            exec(compile(ast.Module([statement], []), str(path), "exec"), namespace)
        except UnknownContractError as error:
            problems.append(f"{place}: {str(error.args[0]).split(';')[0]}; if it is one of yours, give --contracts")
            save()
        except BaseException as error:
            problems.append(f"{place}: {error_text(error)}")
            save()


def main() -> None:
    """The process that report.py starts, with run's arguments as JSON."""
    given = json.loads(sys.argv[1])
    run(Path(given.pop("path")), Path(given.pop("out")), **given)
    os._exit(0)  # without waiting for a function that could not be stopped
