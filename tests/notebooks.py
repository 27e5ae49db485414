"""The chapters as the tests read them: sources, executed notebooks, and the calls in a cell."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "chapters").glob("[0-9]*.md"))
chapters = pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)


def load(path: Path) -> NotebookNode:
    return nbformat.read(path, as_version=4)


def stored(source: Path) -> NotebookNode:
    return load(source.with_suffix(".ipynb"))


def code(cell: NotebookNode) -> ast.Module:
    """The syntax tree of a code cell, with IPython's own commands left out."""
    return ast.parse(re.sub(r"^(\s*)[%!].*$", r"\1pass", cell.source, flags=re.MULTILINE))


def calls(cell: NotebookNode, *, top_level: bool = False) -> list[ast.Call]:
    todo, found = [code(cell)], []
    while todo:
        node = todo.pop(0)
        if top_level and isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Lambda):
            continue
        found += [node] if isinstance(node, ast.Call) else []
        todo += ast.iter_child_nodes(node)
    return found


def called(call: ast.Call) -> str:
    return ast.unparse(call.func).split(".")[-1]


def notebook(*cells: NotebookNode) -> NotebookNode:
    return nbformat.v4.new_notebook(cells=list(cells))
