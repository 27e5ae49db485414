"""The notation page is held to use: each symbol once, first used where it says, and no chapter's letter left out."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "book" / "notation.md").read_text(encoding="utf-8")
CHAPTERS = {path.stem[:2]: path for path in sorted((ROOT / "chapters").glob("[0-9]*.md"))}
MATH = re.compile(r"\$\$(.+?)\$\$|\$([^$\n]+)\$", re.DOTALL)
WORD = re.compile(r"\\(?:text|mathrm|operatorname\*?|tag|begin|end)\s*(?:\{[^{}]*\}|[A-Za-z])")
GREEK = "alpha|beta|gamma|delta|epsilon|eta|theta|kappa|lambda|mu|nu|pi|rho|sigma|tau|phi|psi|omega"
SYMBOL = re.compile(rf"\\(?:{GREEK}|ell|Delta|Phi|Sigma|Omega|nabla)(?![a-z])|(?<![\\A-Za-z])[A-Za-z](?![A-Za-z])")


def maths(markdown: str) -> list[str]:
    """The formulas of a text, code left out, and the d of derivatives and integrals."""
    text = re.sub(r"^```.*?^```|`[^`\n]+`", "", markdown, flags=re.MULTILINE | re.DOTALL)
    found = [first or second for first, second in MATH.findall(text)]
    return [
        re.sub(r"(?<![A-Za-z\\])d(?=\s*(\\(tau|ell|theta|psi)|[xyzuvt]\b))|\\frac\{d\}", " ", formula)
        for formula in found
    ]


def symbols(formulas: list[str]) -> set[str]:
    """The letters that stand for something; words set upright, such as KL, are no letters."""
    return {
        symbol
        for formula in formulas
        for symbol in SYMBOL.findall(WORD.sub(" ", re.sub(r"\\[a-z]*bb\s*", "", formula)))
    }


def normal(formula: str) -> str:
    """One spelling for what is typeset alike."""
    formula = re.sub(r"\\(text|mathrm|operatorname)\b", r"\\mathrm", formula)
    formula = re.sub(r"\\(lVert|rVert|Vert|\|)", "‖", formula)
    return re.sub(r"[{}\s]|\\[,;!]|\\(?:bigl?|bigr|left|right)(?![a-z])", "", formula)


def rows(section: str | None = None) -> list[list[str]]:
    """The cells of the page's table rows, of one section or of all of them."""
    text = PAGE if section is None else PAGE.split(f"## {section}\n")[1].split("\n## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("|") and "---" not in line]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]


GLOBAL = [
    row for section in ("Data, models, noise", "Two players", "Probability", "Functions") for row in rows(section)[1:]
]
LOCAL = rows("Within one chapter")[1:]


def named(row: list[str]) -> list[str]:
    """The formulas of a row's first cell."""
    return [first or second for first, second in MATH.findall(row[0])]


def test_each_symbol_stands_once() -> None:
    everywhere = [normal(name) for row in GLOBAL for name in named(row)]
    assert [name for name in everywhere if everywhere.count(name) > 1] == []
    local = [(number, normal(name)) for row in LOCAL for number in row[-1].split(", ") for name in named(row)]
    assert [pair for pair in local if local.count(pair) > 1 or pair[1] in everywhere] == []


def uses(formula: str, name: str) -> bool:
    """Whether a formula holds a symbol: a letter as itself, anything longer as it is written."""
    if symbols([name]) == {name}:
        return name in symbols([formula])
    return normal({r"\sigma(\ell)": r"\sigma(", r"\Vert x \Vert": "‖"}.get(name, name)) in normal(formula)


@pytest.mark.parametrize("row", GLOBAL, ids=lambda row: row[0])
def test_a_symbol_is_first_used_where_the_page_says(row: list[str]) -> None:
    for name in named(row):
        using = [
            number for number, path in CHAPTERS.items() if any(uses(f, name) for f in maths(path.read_text("utf-8")))
        ]
        assert using[:1] == [row[-1]], f"{name} is first used in chapter {using[:1]}, not {row[-1]}"


@pytest.mark.parametrize(
    ("number", "row"),
    [(n, row) for row in LOCAL for n in row[-1].split(", ")],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_a_local_symbol_occurs_in_its_chapter(number: str, row: list[str]) -> None:
    formulas = maths(CHAPTERS[number].read_text("utf-8"))
    assert [name for name in named(row) if not any(uses(formula, name) for formula in formulas)] == []


@pytest.mark.parametrize("number", CHAPTERS)
def test_the_letters_of_a_chapter_are_on_the_page(number: str) -> None:
    rows_here = GLOBAL + [row for row in LOCAL if number in row[-1].split(", ")]
    listed = {letter for row in rows_here for letter in symbols(named(row))}
    assert sorted(symbols(maths(CHAPTERS[number].read_text("utf-8"))) - listed) == []


def test_the_rules_find_what_they_are_there_to_find() -> None:
    code = "`$y$`\n\n```python\n$w$\n```\n\n"
    text = "$x_t$" + code + "$$\n\\int \\mathrm{KL}(p \\,\\Vert\\, q)\\, dx + \\mathbb{E}_z\n\\tag{2.1}\n$$"
    assert symbols(maths(text)) == {"x", "t", "p", "q", "z", "E"}
    assert normal(r"L_{\mathrm{S}}") == normal(r"L_\mathrm S") != normal(r"L_{\mathrm{NS}}")
    assert uses(r"\sigma(-\ell)", r"\sigma(\ell)")
    assert not uses(r"3 \sigma", r"\sigma(\ell)")
    assert uses("e^x", "e")
    assert not uses(r"p_{\text{eye}}", "e")


@pytest.fixture(scope="module")
def built(book: Path) -> str:
    """The HTML of the page."""
    return (book / "book" / "notation.html").read_text(encoding="utf-8")


@pytest.mark.slow  # Sphinx builds the book
@pytest.mark.timeout(1200)
def test_every_row_of_the_source_is_a_row_of_a_table_in_the_built_page(built: str) -> None:
    """A blank line, or a bar in a formula, splits a table: the rest of it appears as raw text."""
    assert built.count("<tr") == len(rows())
    assert [line for line in re.sub(r"<[^>]+>", "", built).splitlines() if line.lstrip().startswith("|")] == []


def test_the_last_table_alone_gives_a_letter_to_several_chapters() -> None:
    """One symbol, one meaning: what differs between chapters stands where the page says so."""
    meanings = [row[1] for row in GLOBAL]
    assert [meaning for meaning in meanings if re.search(r"\b(?:in|of) chapter \d|\d\d: ", meaning)] == []
