"""Where the numbers of the prose come from.

A numeral with a decimal point, a per cent sign or three digits names its origin in a hidden comment after it, which
JupyterLab, Colab, the book and a repository's page ignore:

    All eight modes are found, and 97.6 %<!-- band: ring: high-quality share of 2,500 samples --> of the samples ...

One comment covers the numerals before it, back to the last comment or the beginning of the paragraph. Origins, one or
more, separated by `;`:

    band: WHAT          what the stored run measured for a band, a refutation or a check with this text
    check: 2.7          what it measured for the checks of an equation
    seeds: WHAT         least, greatest and mean value of the record of 20 seeds, and how many seeds there are
    results: FILE KEY   a number of benchmarks/results/FILE.json; KEY is a path such as rows.0.seconds
    card: NAME KEY      a number of a stored checkpoint's card, minigen/checkpoints/NAME.json
    code                the number stands in the code of the chapter
    printed             a cell of the chapter has printed it
    eq: EXPRESSION      arithmetic, such as 2 * log(2); functions and constants of Python's math module
    example             a number that an exercise or an example makes up
    source: KEY         a number of somebody else's: an arXiv number, a DOI or a name that the references hold

A numeral agrees with a value that rounds to it; a per cent sign divides by 100.
"""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import records

ROOT = Path(__file__).resolve().parent.parent
COMMENT = re.compile(r"<!--(.*?)-->", re.DOTALL)
# No numerals of the prose: code, mathematics, links, numbers of equations, figures and chapters, papers, dates.
APART = re.compile(
    r"(`+).*?\1|\$\$.*?\$\$|\$[^$]+\$|\]\([^)]*\)|<(?!!--)[^>]*>|\(\d+\.\d+[a-z]?\)|https?://\S+"
    r"|\b(?:Figures?|[Ee]xercises?|Chapters?|chapters?|Sections?|sections?|Tables?|tables?|Algorithms?|algorithms?"
    r"|Equations?|equations?|Theorems?|theorems?|arXiv:|version|Python|BY|License|torch)"
    r"\s*\d[\d.]*(?:(?:,| and| to| or)\s*\d[\d.]*)*|\b(?:1[89]|20)\d\d\b(?!\s*%)",
    re.DOTALL,
)
NUMERAL = re.compile(r"(?<![\w.])\d{1,3}(?:,\d{3})+(?:\.\d+)?(?:\s?%)?|(?<![\w.])\d+(?:\.\d+)?(?:\s?%)?")
FENCED = re.compile(r"^ *(`{3,}|~{3,}).*?^ *\1", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Numeral:
    """A numeral, the value it states, half a unit of its last digit, and the origins that its comment names."""

    text: str
    value: float
    half: float
    origins: tuple[str, ...]
    paragraph: str

    def agrees(self, value: float) -> bool:
        return abs(value - self.value) <= self.half * (1 + 1e-9) + 1e-12 * abs(self.value)


def numeral(text: str, origins: tuple[str, ...], paragraph: str) -> Numeral:
    digits = text.replace(",", "").rstrip("% ").strip()
    scale = 0.01 if "%" in text else 1.0
    decimals = len(digits.partition(".")[2])
    return Numeral(text, float(digits) * scale, 0.5 * 10.0**-decimals * scale, origins, paragraph)


def counts(text: str) -> bool:
    """Whether a numeral has to name its origin."""
    return "." in text or "%" in text or len(re.sub(r"\D", "", text)) >= 3


def numerals(markdown: str) -> Iterator[Numeral]:
    """The numerals of a text that need an origin, each with the origins that cover it."""
    for paragraph in re.split(r"\n\s*\n", FENCED.sub("", markdown)):
        blanked = APART.sub(lambda m: " " * len(m[0]), re.sub(COMMENT, lambda m: "\0" * len(m[0]), paragraph))
        start = 0
        for comment in [*COMMENT.finditer(paragraph), None]:
            end = comment.start() if comment else len(paragraph)
            named = tuple(part.strip() for part in comment[1].split(";") if part.strip()) if comment else ()
            for found in NUMERAL.finditer(blanked, start, end):
                if counts(found[0]):
                    yield numeral(found[0], named, paragraph)
            start = comment.end() if comment else end


class Origins:
    """Looks origins up for one chapter (an executed notebook), or for a page, which has no runs of its own."""

    def __init__(self, notebook: dict[str, Any] | None = None) -> None:
        self.notebook = notebook or {"cells": []}
        cells = self.notebook["cells"]
        self.code = [float(node.value) for source in records.sources(self.notebook)
                     for node in ast.walk(records.cell(source).tree)
                     if isinstance(node, ast.Constant) and isinstance(node.value, int | float)]  # fmt: skip
        self.text = "\n".join(records.joined(c["source"]) for c in cells if c["cell_type"] == "markdown")
        self.printed = "\n".join(records.printed(cell) for cell in cells)
        self.record = records.of(self.notebook)

    def values(self, origin: str) -> list[float]:
        """The numbers that an origin gives; KeyError where it names nothing that exists."""
        kind, _, rest = (part.strip() for part in origin.partition(":"))
        if kind == "code":
            return self.code
        if kind == "printed":
            return numbers(records.MEASURED.sub("", self.printed))
        if kind == "band":
            lines = re.findall(
                rf"^[✓✗] (?:\(\S+\) )?{re.escape(rest)}: .*\(measured ([^)]*)\)", self.printed, re.MULTILINE
            )
            return self.found(origin, [value for line in lines for value in numbers(line)])
        if kind == "check":
            lines = re.findall(rf"^✓ \({re.escape(rest)}\) .*\(measured ([^)]*)\)", self.printed, re.MULTILINE)
            return self.found(origin, [value for line in lines for value in numbers(line)])
        if kind == "seeds":
            seen = self.record.get(rest, [])
            return self.found(origin, [min(seen), max(seen), sum(seen) / len(seen), len(seen)] if seen else [])
        if kind in ("results", "card"):
            name, _, key = rest.partition(" ")
            folder = records.RESULTS if kind == "results" else ROOT / "minigen" / "checkpoints"
            return [lookup(json.loads((folder / f"{name}.json").read_text(encoding="utf-8")), key.strip())]
        if kind == "eq":
            return [arithmetic(rest)]
        if kind == "example":
            return []
        if kind == "source":
            if rest.split()[0] not in self.text + (ROOT / "book" / "references.bib").read_text(encoding="utf-8"):
                raise KeyError(f"{origin}: the references do not hold it")
            return []
        raise KeyError(f"{origin}: an origin is one of those of book/numerals.py")

    def found(self, origin: str, values: list[float]) -> list[float]:
        if not values:
            raise KeyError(f"{origin}: the stored run has no such line")
        return values

    def wrong(self, numeral: Numeral) -> str:
        """What is wrong with a numeral, nothing where it agrees with one of its origins."""
        if not numeral.origins:
            return f"{numeral.text}: no origin, in {numeral.paragraph[:90]!r}"
        values: list[float] = []
        for origin in numeral.origins:
            try:
                values += self.values(origin)
            except (KeyError, IndexError, FileNotFoundError, ValueError, SyntaxError) as error:
                return f"{numeral.text}: {error}"
        elsewhere = any(origin.startswith("source:") or origin == "example" for origin in numeral.origins)
        if elsewhere or any(numeral.agrees(value) for value in values):
            return ""
        return f"{numeral.text}: {'; '.join(numeral.origins)} gives {', '.join(f'{value:.6g}' for value in values[:8])}"


def numbers(text: str) -> list[float]:
    text = re.sub(r"(?<=\d),(?=\d{3}\b)", "", text)
    return [float(found) for found in re.findall(r"(?<![\w.])-?\d+(?:\.\d+)?(?:e[+-]?\d+)?", text)]


def lookup(data: Any, key: str) -> float:
    for part in key.split("."):
        data = data[int(part)] if isinstance(data, list) else data[part]
    return float(data)


def arithmetic(expression: str) -> float:
    """The value of an expression of numbers, the four operations, powers, and functions of the math module."""
    allowed = (
        ast.Expression,
        ast.BinOp,
        ast.UnaryOp,
        ast.Constant,
        ast.Call,
        ast.Name,
        ast.Load,
        ast.operator,
        ast.unaryop,
    )
    tree = ast.parse(expression.strip(), mode="eval")
    for node in ast.walk(tree):
        if not isinstance(node, allowed) or (isinstance(node, ast.Name) and not hasattr(math, node.id)):
            raise ValueError(f"{expression!r} is more than arithmetic")
    return float(eval(compile(tree, "eq", "eval"), {"__builtins__": {}}, vars(math)))
