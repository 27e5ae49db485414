"""Pages that are made of data: the errata, and the formulas that the chapters refute."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

REFUTED = re.compile(r"^✗ (.+): ((?:off|too large|too small) by more than \S+)", re.MULTILINE)
TITLE = re.compile(r"^# (.+)$", re.MULTILINE)
SPECIAL = re.compile(r"([\\*_`\[\]<>$|^])")


def errata(file: Path) -> list[dict[str, Any]]:
    """The entries of the data file: id, date, where, wrong, right, test; and equation, where there is one."""
    return tomllib.loads(file.read_text(encoding="utf-8"))["entry"]


def plain(text: str) -> str:
    """Text that Markdown shows as it is."""
    return SPECIAL.sub(r"\\\1", text)


def errata_text(entries: list[dict[str, Any]]) -> str:
    lines = []
    for entry in entries:
        number = f", equation [({entry['equation']})](#eq-{entry['equation']})" if "equation" in entry else ""
        lines += [
            f"({'erratum-' + entry['id']})=",
            f"### {entry['date']}: {plain(entry['where'])}{number}",
            "",
            f"**Wrong.** {plain(entry['wrong'])}",
            "",
            f"**Right.** {plain(entry['right'])}",
            "",
            f"**Test.** `{entry['test']}`",
            "",
        ]
    return "\n".join(lines)


def refuted(notebook: str) -> list[tuple[str, str]]:
    """(what, by how much) of every formula that an executed chapter has refuted, in order, each once."""
    cells = json.loads(notebook)["cells"]
    printed = "".join("".join(output.get("text", "")) for cell in cells for output in cell.get("outputs", []))
    return list(dict.fromkeys(REFUTED.findall(printed)))


def refuted_text(chapters: Path) -> str:
    lines = []
    for path in sorted(chapters.glob("*.ipynb")):
        text = path.read_text(encoding="utf-8")
        title = TITLE.search("".join(json.loads(text)["cells"][0]["source"]))
        if found := refuted(text):
            lines += [f"**[{title[1] if title else path.stem}](../chapters/{path.name})**", ""]
            lines += [f"- {plain(what)}: {by}" for what, by in found] + [""]
    return "\n".join(lines)


def fill(text: str, book: Path) -> str:
    """The errata page with its two lists."""
    text = text.replace("<!-- errata -->", errata_text(errata(book / "errata.toml")))
    return text.replace("<!-- refuted -->", refuted_text(book.parent / "chapters"))
