"""Turn the plain Markdown of a chapter into what Sphinx can show best, while the book is built.

A chapter reads the same in JupyterLab, in Colab, in a diff and in the book, so it is written in the Markdown that all
four render. The book can do more, and this is where it does:

- an equation with a ``\\tag`` becomes a link target, every later ``(2.5)`` in running text links to it, and under the
  equation stands what its ``check`` cell found;
- a quotation that opens with a bold word, ``> **Note.** ...``, becomes an admonition;
- ``**Exercise 2.1 (title).**`` and what follows, up to the next heading, the next exercise or the end of its solution,
  becomes a box of its own;
- an image from another server, such as a badge, becomes its alternative text: no page loads anything from outside.

Code cells and fenced blocks are never touched.
"""

import json
import re
from collections.abc import Callable, Mapping, Set
from html import escape
from pathlib import Path

KINDS = {
    "Note": "note", "Tip": "tip", "Hint": "hint", "Important": "important", "Warning": "warning", "Caution": "caution"
}  # fmt: skip

FENCE = re.compile(r"\s*(`{3,}|~{3,})")
DOLLARS = re.compile(r"(\s*)\$\$\s*$")
TAG = re.compile(r"\\tag\{(\d+\.\d+[a-z]?)\}")
LEAD = re.compile(r"\*\*(.+?)[.:]?\*\*[.:]?\s*")
EXERCISE = re.compile(r"\*\*(Exercise (\d+\.\d+)[^*]*?)\.?\*\*\s*")
PASSED = re.compile(r"✓ \((\d+\.\d+[a-z]?)\)\s*(.*)")
REMOTE_IMAGE = re.compile(r"!\[([^\]]*)\]\(https?://[^)]*\)")
# Code, mathematics, links and HTML stand as they are; outside of them a known number in parentheses is a reference.
REFERENCE = re.compile(r"(`+).*?\1|\$[^$]+\$|!?\[[^\]]*\]\([^)]*\)|<[^>]*>|\((?P<tag>\d+\.\d+[a-z]?)\)", re.DOTALL)


def upgrade(text: str, tags: Set[str], passed: Mapping[str, str]) -> str:
    """Rewrite one Markdown cell; ``tags`` are the book's equations, ``passed`` maps a checked one to what was found."""
    lines, out, prose = text.splitlines(), [], []

    def flush() -> None:
        out.extend(refer("\n".join(prose), tags).splitlines() if prose else [])
        prose.clear()

    while lines:
        if fence := FENCE.match(lines[0]):
            flush()
            out += take(lines, lambda line, mark=fence[1]: line.strip().startswith(mark))
        elif dollars := DOLLARS.match(lines[0]):
            flush()
            out += equation(take(lines, DOLLARS.match), dollars[1], passed)
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


def equation(block: list[str], indent: str, passed: Mapping[str, str]) -> list[str]:
    """A displayed equation; with a ``\\tag`` it becomes a link target, with the mark of its check under it."""
    tag = TAG.search("\n".join(block))
    if not tag:
        return block
    inner = [line.strip() for line in block[1:-1] if line.strip()]
    math = ["```{math}", ":nowrap:", "", r"\begin{equation}", *inner, r"\end{equation}", "```"]
    mark = []
    if tag[1] in passed:
        found = passed[tag[1]].rpartition(": ")[2]  # "the value of V: within 1e-05"
        text = escape(f"✓ checked, {found}" if found else "✓ checked")
        mark = [f'<div class="checked"><a href="#check-{tag[1]}" title="{escape(passed[tag[1]])}">{text}</a></div>', ""]
    return ["", *(indent + line for line in (f"(eq-{tag[1]})=", *math, "", *mark)), ""]


def quotation(quote: list[str], tags: Set[str], passed: Mapping[str, str]) -> list[str]:
    """A quotation, as an admonition if it opens with a bold word."""
    if not (lead := LEAD.match(quote[0])):
        return [f"> {line}".rstrip() for line in upgrade("\n".join(quote), tags, passed).splitlines()]
    body = upgrade("\n".join([quote[0][lead.end() :], *quote[1:]]), tags, passed)
    return box(lead[1], KINDS.get(lead[1], "aside"), body, colons=4)


def box(title: str, kind: str, body: str, *, colons: int) -> list[str]:
    fence = ":" * colons
    return ["", f"{fence}{{admonition}} {title}", f":class: {kind}", "", *body.strip().splitlines(), fence, ""]


def refer(text: str, tags: Set[str]) -> str:
    """Link the equation numbers of running text, and drop images that another server would have to send."""

    def link(match: re.Match[str]) -> str:
        tag = match["tag"]
        return f"[({tag})](#eq-{tag})" if tag in tags else match[0]

    return REFERENCE.sub(link, REMOTE_IMAGE.sub(r"\1", text))


def joined(text: str | list[str]) -> str:
    """A notebook file holds a text as one string or as a list of lines."""
    return text if isinstance(text, str) else "".join(text)


def tags_in(notebook: str) -> list[str]:
    """The tags of a notebook's equations, in order."""
    cells = json.loads(notebook)["cells"]
    return [tag for cell in cells if cell["cell_type"] == "markdown" for tag in TAG.findall(joined(cell["source"]))]


def upgrade_notebook(source: str, tags: Set[str]) -> str:
    """Rewrite the Markdown cells of a notebook file; a passed check becomes a link target before its code cell."""
    notebook = json.loads(source)
    passed: dict[str, str] = {}
    cells = []
    for cell in notebook["cells"]:
        stdout = "".join(joined(out.get("text", "")) for out in cell.get("outputs", []))
        new = {tag: how for tag, how in PASSED.findall(stdout) if tag not in passed}
        passed |= new
        if new:
            anchors = "".join(f'<a id="check-{tag}"></a>' for tag in new)
            cells.append({"cell_type": "markdown", "id": f"checks-{len(cells)}", "metadata": {}, "source": anchors})
        cells.append(cell)
    for cell in cells:
        if cell["cell_type"] == "markdown":
            cell["source"] = upgrade(joined(cell["source"]), tags, passed)
    return json.dumps({**notebook, "cells": cells})


def known_tags(chapters: Path) -> dict[str, str]:
    """Every equation of the book, and the name of the chapter that derives it."""
    return {
        tag: path.stem for path in sorted(chapters.glob("*.ipynb")) for tag in tags_in(path.read_text(encoding="utf-8"))
    }
