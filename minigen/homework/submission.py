"""One student's file: which functions it hands in, and what they are worth. Runs in a process of its own.

A chapter's notebook trains networks, which takes a minute; a grade takes milliseconds. So the file is not run as a
whole: kept are its calls of grade(...), and the top-level statements that define or change what those calls need. Every
call that is not reached is named, so that no mark is missing without a reason.
"""

from __future__ import annotations
import __future__

import ast
import asyncio
import inspect
import json
import os
import symtable
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from minigen import homework
from minigen.homework.grading import Grade, UnknownContractError, assess, find
from minigen.homework.limit import allow_memory
from minigen.homework.observing import error_text
from minigen.homework.reading import Placed, is_notebook, statements

LATER = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)  # what runs when it is called
CHANGERS = ("setattr", "delattr", "shuffle")  # functions that change what they are given, as do all that end in "_"


def needed(found: list[Placed]) -> list[Placed]:
    """The calls of grade(...) and what they rest on, in order: imports, definitions, and what changes these later.

    Where the call stands in a function, the statements that use this function are kept, too. So are those that use a
    function which changes what a call rests on, such as a decorator that enters answers into a dict.
    """
    graders = _graders(found)
    kept = {i for i, (_, statement) in enumerate(found) if any(_calls(statement, graders))}
    indirect: set[str] = set().union(*(_binds(found[i][1]) for i in kept if _defers(found[i][1], graders)))
    while more := {i for i, (_, s) in enumerate(found) if i not in kept and _uses(s) & indirect}:
        kept |= more
        indirect |= set().union(*(_binds(found[i][1]) for i in more))
    modules = {name for _, s in found if isinstance(s, ast.Import | ast.ImportFrom) for name in _binds(s)}
    uses, binds = [_uses(s) for _, s in found], [_binds(s) for _, s in found]
    changes, later = ([_changes(s, modules, later=x) for _, s in found] for x in (False, True))
    wanted: set[str] = set().union(*(uses[i] for i in kept))
    actors: set[str] = set()
    while True:
        acting = [i for i in range(len(found)) if later[i] & wanted or (_has_later(found[i][1]) and uses[i] & actors)]
        actors |= set().union(*(binds[i] - changes[i] for i in acting))
        effects = [binds[i] | changes[i] | ({"*"} if uses[i] & actors else set()) for i in range(len(found))]
        more = {i for i, names in enumerate(effects) if i not in kept and names & (wanted | {"*"})}
        if not more:
            return [found[i] for i in sorted(kept)]
        kept |= more
        wanted |= set().union(*(uses[i] for i in more))


def _graders(found: list[Placed]) -> set[str]:
    """The names by which `grade` is called: its own, that of `import grade as g`, that of `g = grade`."""
    names = {"grade"}
    nodes = [node for _, statement in found for node in ast.walk(statement)]
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("minigen.homework"):
            names |= {alias.asname for alias in node.names if alias.name == "grade" and alias.asname}
    for node in nodes:
        match node:
            case ast.Assign(targets=targets, value=ast.Name() | ast.Attribute() as value) if _last(value) in names:
                names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return names


def _last(node: ast.expr) -> str:
    return ast.unparse(node).split(".")[-1]


def _calls(node: ast.AST, graders: set[str]) -> Iterator[ast.Call]:
    """The calls of grade(...) anywhere in it."""
    for part in ast.walk(node):
        if isinstance(part, ast.Call) and _last(part.func) in graders:
            yield part


def _defers(statement: ast.stmt, graders: set[str]) -> bool:
    """Whether it puts a call of grade(...) off, into a function or a class."""
    return any(isinstance(p, (*LATER, ast.ClassDef)) and any(_calls(p, graders)) for p in ast.walk(statement))


def _asked(statement: ast.stmt, graders: set[str]) -> set[str]:
    """The contracts whose names stand in its calls of grade(...)."""
    given = [
        [*call.args[:1], *(k.value for k in call.keywords if k.arg == "name")] for call in _calls(statement, graders)
    ]
    return {x.value for first in given for x in first if isinstance(x, ast.Constant) and isinstance(x.value, str)}


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
            names.add(_base(node))
    return names - {""}


def _changes(statement: ast.stmt, modules: set[str], *, later: bool) -> set[str]:
    """The names whose objects it may change without binding them: `x.append(1)`, `setattr(x, ...)`, `init.zeros_(x)`.

    Calls whose value is used are not counted, since most of them only read. later: those within functions alone.
    """
    nodes = [part for part in ast.walk(statement) if isinstance(part, LATER)] if later else [statement]
    names, declared = set[str](), set[str]()
    for node in (part for top in nodes for part in ast.walk(top)):
        match node:
            case ast.Attribute() | ast.Subscript() if not isinstance(node.ctx, ast.Load):
                names.add(_base(node))
            case ast.Global():
                declared.update(node.names)
            case ast.Expr(value=ast.Call() as call) | ast.Expr(value=ast.ListComp(elt=ast.Call() as call)):
                name = _last(call.func)
                if isinstance(call.func, ast.Attribute):
                    names |= {_base(call.func)} - modules
                if name in CHANGERS or (name.endswith("_") and not name.endswith("__")):
                    names |= {_base(argument) for argument in call.args}
    return names & _uses(statement) | declared


def _base(node: ast.expr) -> str:
    """The name that `x.y`, `x[0]` and `x.y()` begin with; empty where there is none."""
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""


def _has_later(statement: ast.stmt) -> bool:
    return any(isinstance(part, LATER) for part in ast.walk(statement))


def _table(statement: ast.stmt) -> symtable.SymbolTable:
    return symtable.symtable(ast.unparse(statement), "submission", "exec")


def run(path: Path, out: Path, *, student: str | None, contracts: str | None, seconds: float) -> None:
    """Grade the file; write {"grades": {contract: Grade}, "problems": [...], "done": bool} to `out` after every step.

    student: the student's name if personal forms are asked for. The last call for a contract counts.
    """
    grades: dict[str, Grade] = {}
    done = False
    try:
        found, problems = statements(path)
        kept, graders = needed(found), _graders(found)
    except Exception as error:
        found, kept, graders, problems = [], [], set(), [f"{path.name} cannot be read: {error_text(error)}"]

    def save() -> None:
        state = {"grades": {name: asdict(g) for name, g in grades.items()}, "problems": problems, "done": done}
        out.with_suffix(".new").write_text(json.dumps(state), encoding="utf-8")
        os.replace(out.with_suffix(".new"), out)

    def grade(name: str, function: Any, **_: Any) -> None:
        personal = student if find(name, contracts).personal else None
        grades[name] = assess(name, function, student=personal, contracts=contracts, seconds=seconds)
        save()

    homework.grade = homework.grading.grade = grade
    if not kept and not problems:
        problems.append(f"{path.name} has no call of grade(...)")
    save()
    missed: dict[str, str] = {}
    execute = _executor(path, found)
    for place, statement in kept:
        try:
            execute(statement)
            missed |= dict.fromkeys(_asked(statement, graders), place)
        except UnknownContractError as error:
            problems.append(f"{place}: {str(error.args[0]).split(';')[0]}; if it is one of yours, give --contracts")
        except BaseException as error:
            problems.append(f"{place}: {error_text(error)}")
        save()
    problems += [f"{missed[n]}: the call of grade({n!r}, ...) was not reached" for n in missed if n not in grades]
    if kept and not grades and not problems:
        problems.append(f"no call of grade(...) in {path.name} was reached")
    done = True
    save()


def _executor(path: Path, found: list[Placed]) -> Callable[[ast.stmt], None]:
    """Runs statements one after another in a module of their own, __main__, as Python or a notebook would."""
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    if is_notebook(path):
        module.__dict__.update(get_ipython=_no_ipython, display=lambda *_, **__: None)
    else:
        module.__dict__["__file__"] = str(path)
    futures = [s for _, s in found if isinstance(s, ast.ImportFrom) and s.module == "__future__"]
    features = [getattr(__future__, alias.name) for statement in futures for alias in statement.names]
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT if is_notebook(path) else 0
    for feature in features:
        flags |= feature.compiler_flag

    def execute(statement: ast.stmt) -> None:
        code = compile(ast.Module([statement], []), str(path), "exec", flags, dont_inherit=True)
        result = eval(code, module.__dict__)
        if inspect.iscoroutine(result):  # a cell may await at its top level
            asyncio.run(result)

    return execute


def _no_ipython() -> Any:
    raise RuntimeError("commands of IPython (%..., !...) are not run here; write this in Python")


def main() -> None:
    """The process that report.py starts, with run's arguments and the memory limit in GiB as JSON."""
    given = json.loads(sys.argv[1])
    allow_memory(given.pop("memory"))
    path = Path(given.pop("path"))
    sys.argv = [str(path)]  # as Python has it; what this process was given is none of the file's business
    run(path, Path(given.pop("out")), **given)
    os._exit(0)  # without waiting for a function that could not be stopped
