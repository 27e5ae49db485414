"""What 20 seeds measured: the edges of a band that follow from it, and whether the record is current.

`benchmarks/bands.py` writes a record for each chapter, `benchmarks/results/bands_NN.json`. A band's entry names what it
depends on by a fingerprint: the syntax trees of the cells that its number comes from, the recipes and the checkpoints
that they name. A changed picture or sentence leaves it current; a changed step does not.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
import symtable
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
LINE = re.compile(
    r"^✓ (?P<tag>\(\S+\) )?(?P<what>.+?): (?P<edges>(?:at least|at most|between) .+?)"
    r" \(measured (?P<measured>[^)]+)\)$",
    re.MULTILINE,
)
# What a run measured stands beside each statement; another machine may differ in its last digits.
MEASURED = re.compile(r" \(measured [^)\n]*\)")
EDGE = re.compile(r"(?:at least|at most|between) (\S+?)(?: and (\S+?))?(?:, (.+))?$")
ADDRESS = re.compile(r"""(RECIPES|stored)[\[(]\s*["'](\w+)["'],\s*["'](\w+)["']""")
SILENT = {"check", "refute", "print"}  # statements that change no number


@dataclass(frozen=True)
class Band:
    """A printed band: its edges, None where open; why, where something else than the seeds sets them."""

    what: str
    low: float | None
    high: float | None
    why: str
    measured: float
    cell: int

    def holds(self, value: float) -> bool:
        """Whether a number lies in the band, both ends included."""
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)


def joined(source: str | list[str]) -> str:
    """A notebook file holds a text as one string or as a list of lines."""
    return source if isinstance(source, str) else "".join(source)


def printed(cell: dict[str, Any]) -> str:
    return "".join(joined(output.get("text", "")) for output in cell.get("outputs", []))


def bands(notebook: dict[str, Any]) -> list[Band]:
    """Every band that an executed notebook has printed, in order."""
    found = []
    for number, cell in enumerate(notebook["cells"]):
        for line in LINE.finditer(printed(cell)):
            first, second, why = EDGE.fullmatch(line["edges"]).groups()
            low = None if line["edges"].startswith("at most") else float(first)
            high = float(second) if second else float(first) if low is None else None
            found.append(Band(line["what"], low, high, why or "", float(line["measured"]), number))
    return found


def stored(chapter: str) -> dict[str, Band]:
    """The bands of a chapter's stored run, by their text. chapter: its name, such as "02_minimax"."""
    notebook = json.loads((ROOT / "chapters" / f"{chapter}.ipynb").read_text(encoding="utf-8"))
    return {band.what: band for band in bands(notebook)}


def allowed(numbers: Sequence[float], side: str) -> tuple[float, float]:
    """Between which values an edge may stand, side "low" or "high": half a range to one range beyond the worst seed.

    Numbers without spread (all the same to four digits) leave 1 to 3 units of the last of these digits.
    """
    worst, sign = (min(numbers), -1.0) if side == "low" else (max(numbers), 1.0)
    spread = max(numbers) - min(numbers)
    if f"{min(numbers):.4g}" == f"{max(numbers):.4g}":
        unit = 1.0 if all(number == int(number) for number in numbers) else 10.0 ** (exponent(worst) - 3)
        near, far = worst + sign * unit, worst + sign * 3 * unit
    else:
        near, far = worst + sign * spread / 2, worst + sign * spread
    slack = 1e-9 * max(abs(near), abs(far)) + 1e-300
    return min(near, far) - slack, max(near, far) + slack


def exponent(value: float) -> int:
    """Of the first digit: 2 for 123, -1 for 0.5."""
    return int(f"{value:.3e}".split("e")[1]) if value else -9


def outside(band: Band, numbers: Sequence[float]) -> list[str]:
    """What the rule says against the edges of a band, nothing where a reason is given."""
    wrong = []
    for side, edge in (("low", band.low), ("high", band.high)):
        if edge is not None and not band.why:
            near, far = allowed(numbers, side)
            if not near <= edge <= far:
                wrong.append(f"{band.what}: {side} = {edge:g}; by the seeds between {near:.6g} and {far:.6g}")
    return wrong


def canonical(node: ast.AST | list[Any] | object) -> str:
    """A syntax tree as text, the same in every version of Python; without bands' edges and silent statements."""
    if isinstance(node, list):
        return "[" + ",".join(canonical(item) for item in node if not silent(item)) + "]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = []
    for name, value in ast.iter_fields(node):
        if name in ("ctx", "kind", "type_comment", "type_params") or value is None or value == []:
            continue
        if isinstance(node, ast.Call) and name == "keywords" and called(node) == "band":
            continue
        fields.append(f"{name}={canonical(value)}")
    return f"{type(node).__name__}({','.join(fields)})"


def called(call: ast.Call) -> str:
    return call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")


def silent(node: object) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and called(node.value) in SILENT


@dataclass(frozen=True)
class Cell:
    """A code cell as one step of a chapter: which names it needs, sets, and may change in place."""

    tree: ast.Module
    needs: frozenset[str]
    sets: frozenset[str]
    changes: frozenset[str]


def cell(source: str) -> Cell:
    source = re.sub(r"^(\s*)[%!].*$", r"\1pass", source, flags=re.MULTILINE)
    tree = ast.parse(source)
    top = symtable.symtable(source, "cell", "exec")
    sets = {s.get_name() for s in top.get_symbols() if s.is_assigned() or s.is_imported() or s.is_namespace()}
    needs = {s.get_name() for s in top.get_symbols() if s.is_referenced()} | set(free(top))
    return Cell(tree, frozenset(needs), frozenset(sets), frozenset(changed(tree)))


def imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from (name.asname or name.name.split(".")[0] for name in node.names)


def free(scope: symtable.SymbolTable) -> Iterator[str]:
    """Names of the chapter that functions and classes look up when they run."""
    for child in scope.get_children():
        yield from (s.get_name() for s in child.get_symbols() if s.is_global() and s.is_referenced())
        yield from free(child)


def changed(tree: ast.Module) -> Iterator[str]:
    """Names that a statement may change in place: what a loop runs over, what a call as a statement is given, and what
    is assigned to by index or attribute. A random generator changes, too, but another stream of it gives a sample of
    the same distribution, so `generator=random` does not count."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and not silent(node):
            parts: list[ast.AST] = [node.value]
        elif isinstance(node, ast.For):
            parts = [node.iter]
        elif isinstance(node, ast.Attribute | ast.Subscript) and isinstance(node.ctx, ast.Store):
            parts = [node.value]
        else:
            continue
        while parts:
            part = parts.pop()
            if isinstance(part, ast.keyword) and part.arg == "generator":
                continue
            if isinstance(part, ast.Name):
                yield part.id
            parts.extend(ast.iter_child_nodes(part))


def depends(sources: Sequence[str], target: int) -> list[int]:
    """The code cells that the numbers of cell `target` come from: itself and, going back, each cell that set or may
    have changed a name that is needed."""
    cells = [cell(source) for source in sources[: target + 1]]
    modules = {name for one in cells for name in imported(one.tree)}  # a call does not change what it was imported from
    wanted, kept = set(cells[target].needs), [target]
    for number in range(target - 1, -1, -1):
        one = cells[number]
        if (one.sets | one.changes - modules) & wanted:
            wanted = (wanted - one.sets) | one.needs
            kept.insert(0, number)
    return kept


def fingerprint(sources: Sequence[str], target: int) -> str:
    """Of what the numbers of code cell `target` depend on: cells, and the recipes and checkpoints that they name."""
    kept = depends(sources, target)
    digest = hashlib.sha256()
    for number in kept:
        digest.update(canonical(without_imports(cell(sources[number]).tree)).encode())
    for kind, family, name in sorted(set(ADDRESS.findall("\n".join(sources[number] for number in kept)))):
        for recipe in recipes_of(family):
            digest.update(canonical(without_docstrings(ast.parse(recipe.read_text("utf-8")))).encode())
        if kind == "stored":
            digest.update((ROOT / "minigen" / "checkpoints" / f"{family}-{name}.safetensors").read_bytes())
    return digest.hexdigest()[:16]


def recipes_of(family: str) -> list[Path]:
    """The files that hold the recipes of a family: the one of its name, else those that name it."""
    own = ROOT / "minigen" / "recipes" / f"{family}.py"
    files = sorted((ROOT / "minigen" / "recipes").glob("[!_]*.py"))
    return [own] if own.exists() else [file for file in files if f'"{family}"' in file.read_text("utf-8")]


def without_imports(tree: ast.Module) -> ast.Module:
    """One more import at the top of a chapter changes no number."""
    return ast.Module([node for node in tree.body if not isinstance(node, ast.Import | ast.ImportFrom)], [])


def without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if (
            isinstance(body, list)
            and body
            and isinstance(body[0], ast.Expr)
            and isinstance(body[0].value, ast.Constant)
        ):
            del body[0]
    return tree


def sources(notebook: dict[str, Any]) -> list[str]:
    """The code cells, in order; a cell of text counts as an empty one, so that numbers are those of the notebook."""
    return [joined(cell["source"]) if cell["cell_type"] == "code" else "" for cell in notebook["cells"]]


def fingerprints(notebook: dict[str, Any]) -> dict[str, str]:
    """{what: fingerprint} of every printed band of an executed notebook."""
    code = sources(notebook)
    by_cell = {number: fingerprint(code, number) for number in {band.cell for band in bands(notebook)}}
    return {band.what: by_cell[band.cell] for band in bands(notebook)}


def of(notebook: dict[str, Any]) -> dict[str, list[float]]:
    """{what: numbers} of the record that belongs to a notebook, by the number in its title; {} where there is none."""
    first = joined(notebook["cells"][0]["source"]) if notebook["cells"] else ""
    title = re.match(r"# (\d+)\. ", first)
    if not title:
        return {}
    return {what: entry["numbers"] for what, entry in load(f"{int(title[1]):02}")["bands"].items()}


def load(chapter: str) -> dict[str, Any]:
    """The record of a chapter, by its name or number: "02_minimax"."""
    path = RESULTS / f"bands_{chapter[:2]}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"failed": [], "bands": {}}
