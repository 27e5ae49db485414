"""Every number of the prose names where it comes from, and says what stands there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import numerals
import records

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "chapters").glob("[0-9]*.ipynb"))
PAGES = [ROOT / "README.md", ROOT / "book" / "index.md"]


def prose(notebook: dict) -> str:
    cells = [records.joined(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "markdown"]
    return "\n\n".join(cells).split("\n## References")[0]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_number_of_a_chapter_is_what_its_origin_says(path: Path) -> None:
    notebook = json.loads(path.read_text(encoding="utf-8"))
    origins = numerals.Origins(notebook)
    assert [wrong for numeral in numerals.numerals(prose(notebook)) if (wrong := origins.wrong(numeral))] == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_every_number_of_a_page_is_what_its_origin_says(path: Path) -> None:
    origins = numerals.Origins()
    found = numerals.numerals(path.read_text(encoding="utf-8"))
    assert [wrong for numeral in found if (wrong := origins.wrong(numeral))] == []


def notebook(measured: str = "8") -> dict:
    output = {"output_type": "stream", "name": "stdout", "text": f"✓ modes, of 8: at least 7 (measured {measured})\n"
              "✓ (2.7) V at D*: within 1e-05 (measured 0.6931, off by 2e-07)\n"
              "✗ a misprint: too large by more than 0.1 (measured 1.792 against 1.609)\n"}  # fmt: skip
    code = {"cell_type": "code", "source": "steps = 5_000  # not 5001\nrate = 0.002", "outputs": [output]}
    text = {"cell_type": "markdown", "source": "# T\n\n[arXiv:1712.04086](https://arxiv.org/abs/1712.04086)"}
    return {"cells": [text, code]}


@pytest.mark.parametrize(
    "text",
    [
        "It is 0.693<!-- check: 2.7 --> nats.",
        "After 5,000<!-- code --> steps at 0.002<!-- code -->.",
        "They say 1.79 against 1.61<!-- band: a misprint -->.",
        "It is 69.3 %<!-- check: 2.7 -->, or 69 %<!-- check: 2.7 -->.",
        "At least 7.0<!-- printed -->, say 12.5<!-- example -->.",
        "At most 1.386<!-- eq: 2 * log(2) --> nats.",
        "They find 94.8 %<!-- source: 1712.04086 table 2 -->.",
        "By (2.75), Figure 2.10, chapters 10.1 and 11.5, in 2014, $x = 0.5$, `0.25`, 12 of 15: nothing.",
    ],
)
def test_a_number_that_agrees(text: str) -> None:
    origins = numerals.Origins(notebook())
    assert [origins.wrong(found) for found in numerals.numerals(text)] == [""] * len(list(numerals.numerals(text)))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("It is 0.694<!-- check: 2.7 --> nats.", "0.6931"),
        ("It is 0.5 nats.", "no origin"),
        ("Now 5,001<!-- code --> steps.", "gives"),
        ("First 0.693<!-- check: 2.7 -->.\n\nThen 0.693 again.", "no origin"),
        ("It is 0.693 here, and 0.5<!-- check: 2.7 --> there.", "0.5"),
        ("It is 69 %<!-- check: 9.9 -->.", "no such line"),
        ("It is 7.5<!-- guess: mine -->.", "origin is one of"),
        ("They find 94.8 %<!-- source: 9912.04086 -->.", "references"),
        ("It is 0.5<!-- eq: __import__('os').getpid() -->.", "more than arithmetic"),
        ("It is 100<!-- eq: 2 * log(2) -->.", "1.386"),
    ],
)
def test_a_number_that_does_not_agree(text: str, says: str) -> None:
    origins = numerals.Origins(notebook())
    wrong = [said for found in numerals.numerals(text) if (said := origins.wrong(found))]
    assert len(wrong) == 1
    assert says in wrong[0]


def test_the_record_of_seeds_is_an_origin(monkeypatch) -> None:
    origins = numerals.Origins(notebook())
    origins.record = {"share": [0.85, 0.9, 0.875]}
    good = list(numerals.numerals("From 0.85 to 0.90, mean 87.5 %<!-- seeds: share -->."))
    assert [origins.wrong(found) for found in good] == ["", "", ""]
    origins.record = {"share": [0.86, 0.9, 0.875]}
    assert origins.wrong(good[0])


def test_a_record_changed_by_one_printed_digit_is_found(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(records, "RESULTS", tmp_path)
    (found,) = numerals.numerals("Ratio 1.27<!-- results: loop rows.0.ratio -->.")
    for ratio, wrong in ((1.27, False), (1.2749, False), (1.28, True), (1.26, True)):
        (tmp_path / "loop.json").write_text(json.dumps({"rows": [{"ratio": ratio}]}))
        assert bool(numerals.Origins().wrong(found)) == wrong
