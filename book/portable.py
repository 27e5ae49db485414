"""Turn the plain Markdown of a chapter into what Sphinx can show best, while the book is built.

A chapter reads the same in JupyterLab, in Colab, in a diff and in the book, so it is written in the Markdown that all
four render. The book can do more, and this is where it does:

- an equation with a ``\\tag`` becomes a link target, every ``(2.5)`` in running text links to it, and under the
  equation stands what its ``check`` cells compared and how closely, or that it is a definition;
- a quotation that opens with a bold word, ``> **Note.** ...``, becomes an admonition;
- ``**Exercise 2.1 (title).**`` and what follows, up to the next heading, the next exercise or the end of its solution,
  becomes a box of its own;
- ``**Figure 2.1.**`` and the rest of its paragraph, after the cell that draws it, becomes a caption; ``Figure 2.1`` and
  ``Exercise 2.1`` in running text become links;
- ``<details><summary>Solution</summary>`` is named after its exercise;
- an image from another server, such as a badge, becomes its alternative text: no page loads anything from outside;
- a band says what the stored run measured and what 20 seeds did: ``8 (held to at least 7; 20 seeds: 7 to 8)``;
- a drawing follows the page's light and dark, where the file alone follows the reader's system.

The source of code cells and fenced blocks is never touched.
"""

import json
import re
from collections.abc import Callable, Mapping, Set
from html import escape
from pathlib import Path
from typing import Any

import records
from minigen.book import number
from records import joined

KINDS = {
    "Note": "note", "Tip": "tip", "Hint": "hint", "Important": "important", "Warning": "warning", "Caution": "caution"
}  # fmt: skip

FENCE = re.compile(r"\s*(`{3,}|~{3,})")
DOLLARS = re.compile(r"(\s*)\$\$\s*$")
TAG = re.compile(r"\\tag\{(\d+\.\d+[a-z]?)\}")
LEAD = re.compile(r"\*\*(.+?)[.:]?\*\*[.:]?\s*")
EXERCISE = re.compile(r"\*\*(Exercise (\d+\.\d+)[^*]*?)\.?\*\*\s*")
FIGURE = re.compile(r"\*\*Figure (\d+\.\d+)\.?\*\*")
SOLUTION = re.compile(rf"{EXERCISE.pattern}|<details><summary>Solution</summary>")
PASSED = re.compile(r"✓ \((\d+\.\d+[a-z]?)\)\s*(.*)")
CLOSELY = re.compile(r"(?:(.*): )?(exactly|(?:within|at least|at most|between) .*|\S+ \(held to .*)")
REMOTE_IMAGE = re.compile(r"!\[([^\]]*)\]\(https?://[^)]*\)")
# Code, mathematics, links and HTML stand as they are; outside of them a known number in parentheses is a reference.
REFERENCE = re.compile(
    r"(`+).*?\1|\$[^$]+\$|!?\[[^\]]*\]\([^)]*\)|<[^>]*>"
    r"|\((?P<tag>\d+\.\d+[a-z]?)\)|(?P<label>(?P<kind>Figure|Exercise) (?P<number>\d+\.\d+))",
    re.DOTALL,
)


def upgrade(text: str, tags: Set[str], passed: Mapping[str, list[str]]) -> str:
    """Rewrite one Markdown cell. ``tags`` are the book's equations, figures and exercises; ``passed`` maps a checked
    equation to what its checks found."""
    lines, out, prose, paragraph = text.splitlines(), [], [], ""

    def flush() -> None:
        nonlocal paragraph
        if prose:
            paragraph = "\n".join(prose)
            out.extend(paragraph_or_caption(paragraph, tags))
            prose.clear()

    while lines:
        if fence := FENCE.match(lines[0]):
            flush()
            out += take(lines, lambda line, mark=fence[1]: line.strip().startswith(mark))
        elif dollars := DOLLARS.match(lines[0]):
            flush()
            out += equation(take(lines, DOLLARS.match), dollars[1], passed, after=paragraph)
            paragraph = ""
        elif lines[0].startswith(">"):
            flush()
            quote = []
            while lines and lines[0].startswith(">"):
                quote.append(lines.pop(0)[1:].removeprefix(" "))
            out += quotation(quote, tags, passed)
        elif exercise := EXERCISE.match(lines[0]):
            flush()
            body = [lines.pop(0)[exercise.end() :]]
            while lines and not lines[0].startswith("#") and not EXERCISE.match(lines[0]):
                body.append(lines.pop(0))
                if body[-1].strip() == "</details>":
                    break
            label = f"(exercise-{exercise[2]})="
            out += ["", label, *box(exercise[1], "exercise", upgrade("\n".join(body), tags, passed), colons=6)]
        elif lines[0].strip() == "" or lines[0].startswith(("#", "<")):
            flush()
            out.append(lines.pop(0))
        else:
            prose.append(lines.pop(0))
    flush()
    return "\n".join(out)


def take(lines: list[str], closes: Callable[[str], object]) -> list[str]:
    """Remove a block from ``lines``: its opening line and all up to the line that closes it."""
    block = [lines.pop(0)]
    while lines:
        block.append(lines.pop(0))
        if closes(block[-1]):
            break
    return block


def defines(equation: str, *, after: str) -> bool:
    """Whether a displayed equation is a definition and claims nothing: it holds ``:=``, or the paragraph right before
    it opens with ``**Definition``."""
    return ":=" in equation or after.lstrip("> ").startswith("**Definition")


def equation(block: list[str], indent: str, passed: Mapping[str, list[str]], *, after: str) -> list[str]:
    """A displayed equation; with a ``\\tag`` it becomes a link target, with its mark under it."""
    tag = TAG.search("\n".join(block))
    if not tag:
        return block
    inner = [line.strip() for line in block[1:-1] if line.strip()]
    math = ["```{math}", ":nowrap:", "", r"\begin{equation}", *inner, r"\end{equation}", "```"]
    mark = []
    if tag[1] in passed:
        found = escape("; ".join(filter(None, passed[tag[1]])))
        text = f"✓ checked: {found}" if found else "✓ checked"
        mark = [f'<div class="checked"><a href="#check-{tag[1]}">{text}</a></div>', ""]
    elif defines("\n".join(inner), after=after):
        mark = ['<div class="checked definition">definition</div>', ""]
    return ["", *(indent + line for line in (f"(eq-{tag[1]})=", *math, "", *mark)), ""]


def quotation(quote: list[str], tags: Set[str], passed: Mapping[str, list[str]]) -> list[str]:
    """A quotation, as an admonition if it opens with a bold word."""
    if not (lead := LEAD.match(quote[0])):
        return [f"> {line}".rstrip() for line in upgrade("\n".join(quote), tags, passed).splitlines()]
    body = upgrade("\n".join([quote[0][lead.end() :], *quote[1:]]), tags, passed)
    return box(lead[1], KINDS.get(lead[1], "aside"), body, colons=4)


def box(title: str, kind: str, body: str, *, colons: int) -> list[str]:
    fence = ":" * colons
    return ["", f"{fence}{{admonition}} {title}", f":class: {kind}", "", *body.strip().splitlines(), fence, ""]


def paragraph_or_caption(text: str, tags: Set[str]) -> list[str]:
    """Running text; where it opens with a figure's number, the caption of the picture above it."""
    if not (figure := FIGURE.match(text)):
        return refer(text, tags).splitlines()
    body = text[: figure.end()] + refer(text[figure.end() :], tags)
    return ["", f"(figure-{figure[1]})=", ":::{container} figure-caption", *body.splitlines(), ":::", ""]


def refer(text: str, tags: Set[str]) -> str:
    """Link the numbers of running text, and drop images that another server would have to send."""

    def link(match: re.Match[str]) -> str:
        if match["tag"] in tags:
            return f"[({match['tag']})](#eq-{match['tag']})"
        if match["label"] in tags:
            return f"[{match['label']}](#{match['kind'].lower()}-{match['number']})"
        return match[0]

    return REFERENCE.sub(link, REMOTE_IMAGE.sub(r"\1", text))


def markdown_in(notebook: str) -> str:
    """The text of a notebook file, without its code cells."""
    cells = json.loads(notebook)["cells"]
    return "\n\n".join(joined(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


def tags_in(notebook: str) -> list[str]:
    """The tags of a notebook's equations, in order."""
    return TAG.findall(markdown_in(notebook))


def labels_in(notebook: str) -> list[str]:
    """The figures and exercises of a notebook: "Figure 2.1", "Exercise 2.1"."""
    text = markdown_in(notebook)
    figures = re.findall(rf"^{FIGURE.pattern}", text, flags=re.MULTILINE)
    exercises = re.findall(rf"^{EXERCISE.pattern}", text, flags=re.MULTILINE)
    return [f"Figure {number}" for number in figures] + [f"Exercise {number}" for _, number in exercises]


def name_solutions(text: str, exercise: str) -> tuple[str, str]:
    """Say of each solution which exercise it solves; returns the number of the last exercise met as well."""

    def name(match: re.Match[str]) -> str:
        nonlocal exercise
        if match[2]:
            exercise = match[2]
            return match[0]
        return f'<details class="solution"><summary>Solution of exercise {exercise}</summary>'

    return SOLUTION.sub(name, text), exercise


def upgrade_notebook(source: str, tags: Set[str]) -> str:
    """Rewrite the Markdown cells of a notebook file; a passed check becomes a link target before its code cell."""
    notebook = json.loads(source)
    passed: dict[str, list[str]] = {}
    cells = []
    seeds = records.of(notebook)
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            show_numbers(output, seeds)
            inline_drawing(output)
        stdout = "".join(joined(out.get("text", "")) for out in cell.get("outputs", []))
        new = []
        for tag, found in PASSED.findall(stdout):
            what, closely = CLOSELY.fullmatch(found).groups("") if CLOSELY.fullmatch(found) else ("", found)
            new += [tag] if tag not in passed else []
            mark = f"{what}, {closely}" if what else closely
            passed.setdefault(tag, []).extend([mark] if mark not in passed.get(tag, []) else [])
        if new:
            anchors = "".join(f'<a id="check-{tag}"></a>' for tag in new)
            cells.append({"cell_type": "markdown", "id": f"checks-{len(cells)}", "metadata": {}, "source": anchors})
        cells.append(cell)
    exercise = ""
    for cell in cells:
        if cell["cell_type"] == "markdown":
            text, exercise = name_solutions(joined(cell["source"]), exercise)
            cell["source"] = upgrade(text, tags, passed)
    return json.dumps({**notebook, "cells": cells})


def show_numbers(output: dict[str, Any], seeds: Mapping[str, list[float]]) -> None:
    """Rewrite the bands of an output: the number of the stored run first, then what holds it."""

    def said(line: re.Match[str]) -> str:
        numbers = seeds.get(line["what"], [])
        low, high = (number(end) for end in (min(numbers), max(numbers))) if numbers else ("", "")
        spread = f"; {len(numbers)} seeds: {low if low == high else f'{low} to {high}'}" if numbers else ""
        return f"✓ {line['tag'] or ''}{line['what']}: {line['measured']} (held to {line['edges']}{spread})"

    text = joined(output.get("text", ""))
    if records.LINE.search(text):
        output["text"] = records.LINE.sub(said, text)


def inline_drawing(output: dict[str, Any]) -> None:
    """Put the drawing itself into the page, in the place of an image of it: the page's own styles colour it."""
    data = output.get("data", {})
    if "minigen-drawing" in joined(data.get("image/svg+xml", "")):
        output["data"] = {"text/html": f'<figure class="minigen-drawing">{joined(data["image/svg+xml"])}</figure>'}


def known_tags(chapters: Path) -> dict[str, str]:
    """Every equation, figure and exercise of the book, and the name of the chapter that holds it."""
    texts = {path.stem: path.read_text(encoding="utf-8") for path in sorted(chapters.glob("*.ipynb"))}
    return {label: stem for stem, text in texts.items() for label in tags_in(text) + labels_in(text)}
