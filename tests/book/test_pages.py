"""The pages beside the chapters: errata, glossary, reading paths, licences, and what the front page says."""

from __future__ import annotations

import ast
import datetime
import json
import re
from pathlib import Path

import pytest

import pages
import portable

ROOT = Path(__file__).parents[2]
BOOK, CHAPTERS = ROOT / "book", sorted((ROOT / "chapters").glob("[0-9]*.md"))
ENTRIES = pages.errata(BOOK / "errata.toml")
FIELDS = {"id": str, "date": datetime.date, "where": str, "wrong": str, "right": str, "test": str}


def page(name: str) -> str:
    return (BOOK / f"{name}.md").read_text(encoding="utf-8")


def functions_of(file: Path) -> set[str]:
    """Names of the tests of a file, those of classes as Class::test."""
    found = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}::{part.name}" for part in node.body if isinstance(part, ast.FunctionDef)}
    return found


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry["id"])
def test_an_erratum_is_complete_and_its_test_exists(entry: dict) -> None:
    assert {name: type(value) for name, value in entry.items() if name != "equation"} == FIELDS
    if "equation" in entry:
        assert entry["equation"] in portable.known_tags(ROOT / "chapters")
    file, test = entry["test"].split("::", 1)
    assert test.startswith("test_") or "::test_" in test
    assert test in functions_of(ROOT / file), f"{entry['test']} is no test"


def test_errata_are_named_once_and_stand_newest_first() -> None:
    names, dates = [entry["id"] for entry in ENTRIES], [entry["date"] for entry in ENTRIES]
    assert len(set(names)) == len(names)
    assert dates == sorted(dates, reverse=True)


def test_the_page_shows_every_erratum_and_every_refuted_formula() -> None:
    text = pages.fill(page("errata"), BOOK)
    assert "<!--" not in text
    for entry in ENTRIES:
        assert pages.plain(entry["wrong"]) in text
        assert pages.plain(entry["right"]) in text
        assert f"(erratum-{entry['id']})=" in text
    printed = [path.with_suffix(".ipynb").read_text("utf-8").count('"✗ ') for path in CHAPTERS]
    assert len(re.findall("^- .*: (?:off|too large|too small) by more than", text, re.MULTILINE)) == sum(printed) >= 15


def test_refuted_formulas_are_read_from_the_outputs_in_their_order() -> None:
    notebook = """{"cells": [
        {"cell_type": "markdown", "source": ["# 9. Title"]},
        {"cell_type": "code", "source": [], "outputs": [{"output_type": "stream", "text": ["✓ (9.1) a, within 1\\n",
            "✗ a_1 as b: too small by more than 0.5 (measured 1 against 2)\\n"]},
            {"output_type": "display_data", "data": {}}]},
        {"cell_type": "code", "source": [], "outputs": [{"output_type": "stream", "text": "✗ c: off by more than 2\\n"},
            {"output_type": "stream", "text": "✗ c: off by more than 2\\n"}]}]}"""
    assert pages.refuted(notebook) == [("a_1 as b", "too small by more than 0.5"), ("c", "off by more than 2")]
    assert pages.plain("a_1 as *b* <c> $d$") == r"a\_1 as \*b\* \<c\> \$d\$"


GLOSSARY = re.search(r"```\{glossary\}\n(.*?)\n```", page("glossary"), re.DOTALL)[1]
TERMS = [term for entry in GLOSSARY.split("\n\n") for term in entry.splitlines()[:1]]


def test_the_glossary_is_in_order_and_each_term_is_explained() -> None:
    assert len(TERMS) >= 40
    assert sorted(set(TERMS), key=str.lower) == TERMS
    for entry in GLOSSARY.split("\n\n"):
        assert all(line.startswith("  ") and len(line) > 20 for line in entry.splitlines()[1:2]), entry
        assert len(entry.splitlines()) > 1, entry


def test_every_term_of_the_glossary_is_used_in_a_chapter_or_a_page() -> None:
    places = [*CHAPTERS, *(path for path in BOOK.glob("*.md") if path.stem != "glossary")]
    text = " ".join(" ".join(path.read_text(encoding="utf-8").lower().split()) for path in places)
    assert [term for term in TERMS if term.lower() not in text] == []


def headings(chapter: str) -> set[str]:
    return set(re.findall(r"^#+ (.+)$", (ROOT / "chapters" / chapter).with_suffix(".md").read_text("utf-8"), re.M))


def test_sections_that_the_reading_paths_name_exist() -> None:
    every = {heading for path in CHAPTERS for heading in headings(path.name)}
    named = {" ".join(name.split()) for name in re.findall(r"(?<![*\w])\*([A-Z][^*]+)\*(?!\*)", page("reading"))}
    assert len(named) > 8
    assert {name for name in named if not any(heading.startswith(name) for heading in every)} == set()


def test_reading_paths_hand_in_contracts_that_exist_and_call_no_written_chapter_planned() -> None:
    from minigen.homework import CONTRACTS

    named = re.findall(r"`(\w+\.\w+)`", page("reading"))
    assert set(named) <= set(CONTRACTS)
    assert len(named) == len(set(named)) > 8
    planned = "\n".join(line for line in page("reading").splitlines() if "(*planned*)" in line)
    numbers = set(re.findall(r"(?<!\d)(\d\d)(?= )", re.sub(r"^\| [\d, ]+ \|", "", planned, flags=re.M)))
    assert not numbers & {path.stem[:2] for path in CHAPTERS}


def test_the_licences_page_names_every_data_set_and_every_file_of_others() -> None:
    from minigen import data

    text = page("licences")
    offered = [
        name for name in ("digits", "emoji", "mnist", "fashion_mnist", "cifar10", "cifar100") if hasattr(data, name)
    ]
    assert [name for name in offered if f"`data.{name}()`" not in text] == []
    inside = [BOOK / "_static/mathjax", ROOT / "minigen/data/emoji_sheets"]
    vendored = [path.relative_to(ROOT) for path in [*(ROOT / "tests/vendor").glob("*/"), *inside]]
    assert [str(path) for path in vendored if f"`{path}`" not in text] == []


def test_every_page_is_reached_from_the_front_page() -> None:
    trees = re.findall(r"```\{toctree\}\n(.*?)```", page("index"), re.DOTALL)
    listed = {line.strip() for tree in trees for line in tree.splitlines()}
    assert {path.stem for path in BOOK.glob("*.md")} - {"index"} <= listed


def test_the_mark_on_the_front_page_is_one_that_a_chapter_carries() -> None:
    shown = re.search(r'<div class="checked"><span>(.*?)</span>', page("index"))[1]
    tags = portable.known_tags(ROOT / "chapters").keys()
    built = [portable.upgrade_notebook(path.with_suffix(".ipynb").read_text("utf-8"), tags) for path in CHAPTERS]
    assert any(json.dumps(shown)[1:-1] in text for text in built)
