"""A student's file as statements: .py as Python reads it, .ipynb as IPython does."""

from __future__ import annotations

import ast
import io
import json
import re
import tokenize
from collections.abc import Callable, Iterator
from pathlib import Path

from minigen.homework.observing import error_text

Placed = tuple[str, ast.stmt]  # where a statement stands, and the statement
TIMERS = ("time", "timeit", "capture", "prun")  # commands of IPython that run Python and do something beside it
OPTIONS = re.compile(r"\s*(-[a-zA-Z]+\s*\d*\s+)*")
UNREADABLE = (SyntaxError, ValueError, RecursionError, MemoryError)


def statements(path: Path) -> tuple[list[Placed], list[str]]:
    """The top-level statements of a .py or .ipynb file, each with where it stands; and what could not be read.

    What stands under `if __name__ == "__main__":` counts as top-level, since that is where it is run. Raises what
    reading a file raises: OSError, UnicodeDecodeError, and of a notebook JSONDecodeError, KeyError or TypeError.
    """
    found: list[Placed] = []
    problems: list[str] = []
    for place, text in _sources(path):
        try:
            parsed = _Cell(place, problems).read(text) if is_notebook(path) else ast.parse(text).body
            for statement in _unguarded(parsed):
                _compile(statement)
                found.append((f"{place}, line {statement.lineno}", statement))
        except UNREADABLE as error:
            problems.append(f"{place} cannot be read: {error_text(error)}")
    return found, problems


def is_notebook(path: Path) -> bool:
    """By the ending of its name, whose case differs between systems."""
    return path.suffix.lower() == ".ipynb"


def _compile(statement: ast.stmt) -> None:
    """Raises SyntaxError for what parses but is no Python where it stands, such as a `return` outside of a function."""
    compile(ast.Module([statement], []), "<unknown>", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)


def _sources(path: Path) -> Iterator[tuple[str, str]]:
    """The file, or each code cell, with its name."""
    data = path.read_bytes()
    if not is_notebook(path):
        try:
            encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)  # a byte-order mark, or a comment
        except SyntaxError:
            encoding = "utf-8"
        yield path.name, data.decode(encoding)
        return
    for number, cell in enumerate(json.loads(data.decode("utf-8-sig"))["cells"], start=1):
        if cell["cell_type"] == "code":
            yield f"{path.name}, cell {number}", "".join(cell["source"])


def _unguarded(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for statement in body:
        if isinstance(statement, ast.If) and _is_main(statement.test):
            yield from _unguarded(statement.body)
        else:
            yield statement


def _is_main(test: ast.expr) -> bool:
    return ast.unparse(test) in ("__name__ == '__main__'", "'__main__' == __name__")


class _Cell(ast.NodeTransformer):
    """Reads one cell: what is not Python goes through IPython's own transformer, whose calls are then looked through.

    %time, %%time and their like leave the code that they run; other commands are left out, and cells in another
    language, too, which is noted where one seems to hold a grade.
    """

    def __init__(self, place: str, problems: list[str]) -> None:
        self.place, self.problems = place, problems

    def read(self, text: str) -> list[ast.stmt]:
        """The statements of a cell. Raises SyntaxError."""
        try:
            return ast.parse(text).body
        except SyntaxError:
            parsed = ast.parse(_transformer()(text))
            self.visit(parsed)
            return parsed.body

    def visit_Expr(self, node: ast.Expr) -> ast.AST | list[ast.stmt]:
        """A statement that is one command of IPython."""
        match _command(node.value):
            case ["run_cell_magic", name, _, body] if name in TIMERS:
                inner = ast.Module(self.read(body), [])
                return ast.increment_lineno(inner, node.lineno).body or ast.Pass()
            case ["run_cell_magic", name, _, body] if re.search(r"\bgrade\(", body):
                self.problems.append(f"{self.place} is a cell of %%{name}, which is not run")
            case ["run_line_magic", name, line, *_] if name in TIMERS:
                inner = ast.Module(self.read(OPTIONS.sub("", line, count=1)), [])
                return ast.increment_lineno(inner, node.lineno - 1).body or ast.Pass()
            case None:
                return self.generic_visit(node)
        return ast.copy_location(ast.Pass(), node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """A command within a statement, as in `f = %time make()`."""
        match _command(node):
            case ["run_line_magic", name, line, *_] if name in TIMERS:
                return ast.copy_location(ast.parse(OPTIONS.sub("", line, count=1).strip(), mode="eval").body, node)
        return self.generic_visit(node)


def _command(node: ast.AST) -> list[str] | None:
    """get_ipython().run_line_magic("time", "f()") as ["run_line_magic", "time", "f()"]; None for anything else."""
    match node:
        case ast.Call(func=ast.Attribute(value=ast.Call(func=ast.Name(id="get_ipython")), attr=method), args=arguments):
            return [method, *(str(a.value) for a in arguments if isinstance(a, ast.Constant))]
    return None


def _transformer() -> Callable[[str], str]:
    """From a cell with commands to Python; IPython's own where it is installed."""
    try:
        from IPython.core.inputtransformer2 import TransformerManager
    except ImportError:
        return _plain
    transform: Callable[[str], str] = TransformerManager().transform_cell  # type: ignore[no-untyped-call]
    return transform


def _plain(text: str) -> str:
    """The most of it without IPython: lines that are no Python and look like commands, those that Python trips over."""
    first, _, rest = text.lstrip().partition("\n")
    if first.startswith("%%"):
        name, _, line = first[2:].partition(" ")
        return f"get_ipython().run_cell_magic({name!r}, {line!r}, {rest!r})\n"
    lines = text.splitlines()
    for _ in lines:
        try:
            ast.parse("\n".join(lines))
        except SyntaxError as error:
            number = min(error.lineno or 1, len(lines)) - 1
            if (call := _as_call(lines[number])) is None:
                raise
            lines[number] = call
    return "\n".join(lines)


def _as_call(line: str) -> str | None:
    """A line with a command of IPython as Python; None where it holds none."""
    if magic := re.fullmatch(r"(\s*|.*=\s*)%(\w+)\s*(.*)", line):
        return f"{magic[1]}get_ipython().run_line_magic({magic[2]!r}, {magic[3]!r})"
    if shell := re.fullmatch(r"(.*=\s*)!.*", line):
        return f"{shell[1]}get_ipython().getoutput()"
    if other := re.fullmatch(r"(\s*)([!?].*|.*\?\s*)", line):
        return f"{other[1]}pass"
    return None
