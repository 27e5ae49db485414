"""Marks, captions, definitions and solutions: what the book adds to the plain Markdown of a chapter."""

import json

import pytest

import portable

CLAIM = "$$\na = b\n\\tag{2.5}\n$$"


def upgrade(text: str, tags: set[str] | None = None, passed: dict[str, list[str]] | None = None) -> str:
    return portable.upgrade(text, tags or set(), passed or {})


def upgraded(*cells: dict, tags: set[str] | None = None) -> list[str]:
    """The Markdown cells of a notebook, rewritten."""
    source = json.dumps({"cells": list(cells), "metadata": {}, "nbformat": 4, "nbformat_minor": 5})
    done = json.loads(portable.upgrade_notebook(source, tags or set()))
    return [cell["source"] for cell in done["cells"] if cell["cell_type"] == "markdown"]


def text(source: str) -> dict:
    return {"cell_type": "markdown", "id": "a", "metadata": {}, "source": source}


def printing(*lines: str) -> dict:
    output = {"output_type": "stream", "name": "stdout", "text": "".join(f"{line}\n" for line in lines)}
    return {"cell_type": "code", "id": "b", "metadata": {}, "source": "", "outputs": [output]}


def test_a_mark_says_what_was_compared_and_how_closely() -> None:
    (claim, anchor) = upgraded(text(CLAIM), printing("✓ (2.5) V against quadrature: within 1e-05"))
    assert '<a href="#check-2.5">✓ checked: V against quadrature, within 1e-05</a>' in claim
    assert anchor == '<a id="check-2.5"></a>'


def test_every_check_of_an_equation_is_in_its_mark() -> None:
    (claim, *_) = upgraded(
        text(CLAIM), printing("✓ (2.5) one: exactly", "✓ (2.5) within 1e-05"), printing("✓ (2.5) V: at least 3")
    )
    assert "✓ checked: one, exactly; within 1e-05; V, at least 3</a>" in claim


def test_a_mark_is_not_given_away() -> None:
    assert "checked" not in upgrade(CLAIM)
    assert "checked" not in upgraded(text(CLAIM), printing("✗ (2.5) V: off by more than 1", "✓ (2.6) W: exactly"))[0]


def test_what_was_compared_is_text_and_not_html() -> None:
    assert "✓ checked: V &lt; 4 &amp; &quot;so&quot;</a>" in upgrade(CLAIM, passed={"2.5": ['V < 4 & "so"']})


@pytest.mark.parametrize(
    ("source", "is_definition"),
    [
        (CLAIM, False),
        (CLAIM.replace("=", ":="), True),
        (f"**Definition.** Here\n{CLAIM}", True),
        (f"**Definition (the value).** Here\n\n{CLAIM}", True),
        (f"**Definition.** One.\n\nThen\n{CLAIM}", False),
        (f"**Definition.** Here\n$$\nc\n$$\n{CLAIM}", False),
        (f"> **Note.** So\n>\n> **Definition.** Here\n>\n{'> ' + CLAIM.replace(chr(10), chr(10) + '> ')}", True),
    ],
)
def test_definitions_are_told_apart(source: str, is_definition: bool) -> None:
    assert ('<div class="checked definition">definition</div>' in upgrade(source)) == is_definition


def test_captions_become_targets_and_numbers_become_links() -> None:
    known = {"Figure 2.1", "Exercise 2.3", "2.5"}
    caption = upgrade("**Figure 2.1.** By (2.5).\nSee Figure 2.1.\n\nMore.", known)
    assert caption.split("\n") == [
        "",
        "(figure-2.1)=",
        ":::{container} figure-caption",
        "**Figure 2.1.** By [(2.5)](#eq-2.5).",
        "See [Figure 2.1](#figure-2.1).",
        ":::",
        "",
        "",
        "More.",
    ]
    line = "As Figure 2.1 and Exercise 2.3 show, not Figure 9.9 or `Figure 2.1`"
    assert upgrade(line, known) == (
        "As [Figure 2.1](#figure-2.1) and [Exercise 2.3](#exercise-2.3) show, not Figure 9.9 or `Figure 2.1`"
    )


def test_solutions_are_named_after_their_exercises_also_in_another_cell() -> None:
    fold = "<details><summary>Solution</summary>\n\nSo.\n\n</details>"
    first, second = upgraded(
        text(f"**Exercise 2.1 (signs).** Do.\n\n{fold}\n\n**Exercise 2.2.** Do."), printing(), text(fold)
    )
    assert '<details class="solution"><summary>Solution of exercise 2.1</summary>' in first
    assert '<details class="solution"><summary>Solution of exercise 2.2</summary>' in second


def test_labels_are_those_of_the_text_and_not_of_the_code() -> None:
    cells = [
        text(f"**Figure 2.1.** A.\n\nSee **Figure 2.7.**\n\n**Exercise 2.1 (a).** B.\n\n{CLAIM}"),
        printing("**Figure 2.2.**"),
    ]
    source = json.dumps({"cells": cells})
    assert portable.labels_in(source) == ["Figure 2.1", "Exercise 2.1"]
    assert portable.tags_in(source) == ["2.5"]


def test_a_band_shows_what_was_measured_and_what_holds_it(monkeypatch) -> None:
    monkeypatch.setattr(portable.records, "of", lambda notebook: {"modes, of 8": [7.0, 8.0] * 10, "V": [2.0] * 20})
    lines = [
        "✓ modes, of 8: at least 6 (measured 8)",
        "✓ (2.5) V: between 1 and 3 (measured 2)",
        "✓ new: at most 0.5, by Jensen (measured 0.25)",
        "✓ (2.5) W: within 1e-05 (measured off by 2e-08)",
    ]
    source = json.dumps({"cells": [text(CLAIM), printing(*lines)], "metadata": {}})
    claim, _, cell = json.loads(portable.upgrade_notebook(source, set()))["cells"]
    assert cell["outputs"][0]["text"].splitlines() == [
        "✓ modes, of 8: 8 (held to at least 6; 20 seeds: 7 to 8)",
        "✓ (2.5) V: 2 (held to between 1 and 3; 20 seeds: 2)",
        "✓ new: 0.25 (held to at most 0.5, by Jensen)",
        "✓ (2.5) W: within 1e-05 (measured off by 2e-08)",
    ]
    assert "✓ checked: V, 2 (held to between 1 and 3; 20 seeds: 2); W, within 1e-05 (measured" in claim["source"]
