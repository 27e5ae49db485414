"""Every chapter's source and its executed notebook agree, and both keep the promises that the book makes."""

import ast
import re
from itertools import pairwise

import jupytext
import nbformat
import pytest
from nbformat import NotebookNode
from notebooks import ROOT, SOURCES, called, calls, chapters, notebook, stored

import portable

FENCED = re.compile(r"^ *(`{3,}|~{3,}).*?^ *\1", re.MULTILINE | re.DOTALL)
FOLDED = "hide-input"
TAG = re.compile(r"\\tag\{([^}]*)\}")
ROLE_OR_DIRECTIVE = re.compile(
    r"(?<![\w`])\{[a-z][\w:.-]*\}`|^ *(`{3,}|:{3,})\{|^:{3,}|^\([\w.-]+\)=$|^> \[!", re.MULTILINE
)


def checks(notebook: NotebookNode) -> list[tuple[int, str]]:
    """(cell number, tag) of every `check("2.5", ...)` and `band(..., tag="2.5")`."""
    found = []
    for number, cell in enumerate(notebook.cells):
        for call in calls(cell) if cell.cell_type == "code" else []:
            tags = [keyword.value for keyword in call.keywords if keyword.arg == "tag"]
            tags = call.args[:1] + tags if called(call) == "check" else tags if called(call) == "band" else []
            found += [(number, str(tag.value)) for tag in tags if isinstance(tag, ast.Constant)]
    return found


def equations(notebook: NotebookNode) -> list[tuple[int, str, bool]]:
    """(cell number, tag, whether it is a definition) of every numbered equation."""
    found = []
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type != "markdown":
            continue
        text = re.sub(r"^> ?", "", FENCED.sub("", cell.source), flags=re.MULTILINE)
        parts = re.split(r"^ *\$\$ *$", text, flags=re.MULTILINE)
        for before, equation in zip(parts[0::2], parts[1::2], strict=False):
            paragraphs = [part.strip() for part in re.split(r"\n\s*\n", before) if part.strip()]
            definition = portable.defines(equation, after=paragraphs[-1] if paragraphs else "")
            found += [(number, tag, definition) for tag in TAG.findall(equation)]
    return found


def unchecked(notebook: NotebookNode) -> list[str]:
    """What is wrong between the claims of a chapter and its checks."""
    tags = [tag for _, tag, _ in equations(notebook)]
    wrong = [f"({tag}) is claimed, but no check follows it" for cell, tag, definition in equations(notebook)
             if not definition and not any(at > cell and name == tag for at, name in checks(notebook))]  # fmt: skip
    return wrong + [
        f"check({tag!r}) names no equation of this chapter" for _, tag in checks(notebook) if tag not in tags
    ]


def misnumbered(notebook: NotebookNode, chapter: int) -> list[str]:
    tags = [tag for _, tag, _ in equations(notebook)]
    expected = [f"{chapter}.{number}" for number in range(1, len(tags) + 1)]
    return [f"({tag}) stands where ({right}) should" for tag, right in zip(tags, expected, strict=True) if tag != right]


def pictures(cell: NotebookNode) -> bool:
    data = [output.get("data", {}) for output in cell.get("outputs", [])]
    return any(
        "image/png" in kinds
        or "image/svg+xml" in kinds
        or re.search("minigen-(film|row)", "".join(kinds.get("text/html", "")))
        for kinds in data
    )


def uncaptioned(notebook: NotebookNode, chapter: int) -> list[str]:
    """Every picture is followed by a paragraph that opens with its number, and every number by a picture."""
    wrong, expected = [], 0
    edge = NotebookNode(source="")
    for number, (cell, after) in enumerate(pairwise([edge, *notebook.cells, edge]), start=-1):
        captions = portable.FIGURE.findall(after.source) if after.get("cell_type") == "markdown" else []
        opens = portable.FIGURE.match(after.source) if captions else None
        if pictures(cell):
            expected += 1
            if not opens or captions != [f"{chapter}.{expected}"]:
                wrong.append(f"cell {number}: after the picture should stand **Figure {chapter}.{expected}.**")
        elif captions:
            wrong.append(f"cell {number + 1}: **Figure {captions[0]}.** follows no picture")
    return wrong


def unportable(notebook: NotebookNode) -> list[str]:
    """Markdown that one of JupyterLab, Colab and the book does not show as meant."""
    wrong = []
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type == "markdown":
            wrong += [f"cell {number}: {match[0]!r}" for match in ROLE_OR_DIRECTIVE.finditer(cell.source)]
            for line in FENCED.sub("", cell.source).splitlines():
                if "$$" in line and line.strip().removeprefix(">").strip() != "$$":
                    wrong.append(f"cell {number}: $$ must stand alone on its line: {line!r}")
            wrong += [f"cell {number}: image without alternative text" for _ in re.findall(r"!\[\s*\]\(", cell.source)]
    return wrong


def visible(cell: NotebookNode) -> int:
    """How many lines of a code cell a reader meets."""
    return 0 if FOLDED in cell.metadata.get("tags", []) else len(cell.source.splitlines())


def too_long(notebook: NotebookNode, limit: int = 15) -> list[str]:
    long = [
        (number, cell)
        for number, cell in enumerate(notebook.cells)
        if cell.cell_type == "code" and visible(cell) > limit
    ]
    return [f"cell {number}: {visible(cell)} lines: {cell.source.splitlines()[0]}" for number, cell in long]


def late(notebook: NotebookNode) -> list[str]:
    """What stands before the first picture and pushes it down: a chapter opens with its picture."""
    for number, cell in enumerate(notebook.cells):
        if pictures(cell):
            words = sum(len(c.source.split()) for c in notebook.cells[:number] if c.cell_type == "markdown")
            seen = [n for n, c in enumerate(notebook.cells[:number]) if c.cell_type == "code" and visible(c)]
            wrong = [f"{words} words before the first picture; at most 130"] if words > 130 else []
            return wrong + [f"cell {n}: fold it (tags: [{FOLDED}]), or put it after the picture" for n in seen]
    return ["no picture"]


def without_alt(notebook: NotebookNode) -> list[str]:
    """Pictures among the outputs that a screen reader cannot tell."""
    wrong = []
    for number, cell in enumerate(notebook.cells):
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if any(kind.startswith("image/") for kind in data):
                alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
                if len(alt) < 20 or "/" in alt.split()[0]:
                    wrong.append(f"cell {number}: say in mystnb: image: alt: what the figure shows; got {alt!r}")
                elif "image/png" in data and output.metadata.get("image/png", {}).get("alt") != alt:
                    wrong.append(f"cell {number}: the stored picture has another alt text; execute the chapter again")
            html = "".join(data.get("text/html", ""))
            wrong += [f"cell {number}: {tag}" for tag in re.findall(r"<img\b[^>]*>", html)
                      if not re.search(r"""\balt=["'][^"']{20,}""", tag)]  # fmt: skip
    return wrong


def unclean(notebook: NotebookNode) -> list[str]:
    """Outputs that must not be stored: errors, warnings, widgets, addresses, names of objects; and what is missing."""
    wrong = ["widget state"] if "widgets" in notebook.metadata else []
    counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    if counts != list(range(1, len(counts) + 1)):
        wrong.append(f"not executed once, from top to bottom: {counts}")
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type != "code":
            continue
        for output in cell.outputs:
            if output.output_type == "error":
                wrong.append(f"cell {number}: {output.ename}: {output.evalue}")
            if output.get("name") == "stderr":
                wrong.append(f"cell {number}: on stderr: {output.text}")
            wrong += [f"cell {number}: {kind}" for kind in output.get("data", {}) if "widget" in kind]
            if output.output_type == "execute_result" and set(output.data) == {"text/plain"}:
                wrong.append(f"cell {number}: shows {output.data['text/plain']}: print it, or let `_ =` take it")
            said = re.sub(r"[A-Za-z0-9+/]{200,}", "", str(output))  # without pictures, whose letters are chance
            if re.search(r"0x(?!0{12})[0-9a-fA-F]{6,}|ipykernel_[1-9]", said):
                wrong.append(f"cell {number}: an address or a temporary path, different on every run")
        shows = {called(call) for call in calls(cell, top_level=True)} & {"check", "band", "refute", "print", "show"}
        if shows and not cell.outputs:
            wrong.append(f"cell {number}: calls {', '.join(sorted(shows))} and has no output")
    return wrong


def test_there_is_a_chapter():
    assert SOURCES


def test_every_notebook_has_a_source():
    assert {path.stem for path in (ROOT / "chapters").glob("*.ipynb")} == {path.stem for path in SOURCES}


@chapters
def test_notebook_is_that_of_its_source(source):
    def content(notebook):
        return [(cell.cell_type, cell.source, cell.metadata.get("tags", []), cell.metadata.get("mystnb", {}))
                for cell in notebook.cells]  # fmt: skip

    assert content(stored(source)) == content(jupytext.read(source, fmt="md:myst")), (
        f"run: python book/execute.py {source.stem}"
    )


@chapters
def test_outputs_are_stored_and_clean(source):
    assert unclean(stored(source)) == []


@chapters
def test_figures_have_alt_text(source):
    assert without_alt(stored(source)) == []


@chapters
def test_figures_have_numbers_and_captions(source):
    assert uncaptioned(stored(source), int(source.stem.split("_")[0])) == []


@chapters
def test_markdown_is_portable(source):
    assert unportable(stored(source)) == []


@chapters
def test_equations_are_numbered_in_order(source):
    assert misnumbered(stored(source), int(source.stem.split("_")[0])) == []


@chapters
def test_every_claim_is_checked(source):
    assert unchecked(stored(source)) == []


@chapters
def test_visible_cells_are_short(source):
    assert too_long(stored(source)) == []


@chapters
def test_a_chapter_opens_with_a_picture(source):
    assert late(stored(source)) == []


@chapters
def test_size(source):
    assert source.with_suffix(".ipynb").stat().st_size < 1.5e6


@chapters
def test_notebook_metadata_are_the_same_for_all(source):
    """No pairing (JupyterLab would refuse a notebook newer than its text), no versions, no machine."""
    assert set(stored(source).metadata) == {"kernelspec", "language_info"}
    assert stored(source).metadata.kernelspec.name == "python3"


@chapters
def test_cited_papers_are_in_the_bibliography(source):
    known = (ROOT / "book" / "references.bib").read_text(encoding="utf-8")
    cited = re.findall(r"arxiv\.org/(?:abs|pdf)/(\d{4}\.\d{4,5})", source.read_text(encoding="utf-8"))
    assert [paper for paper in cited if paper not in known] == []


# The rules themselves: each must find what it is there to find.


def markdown(*texts: str) -> list[NotebookNode]:
    return [nbformat.v4.new_markdown_cell(text) for text in texts]


CLAIM = "So\n\n$$\na = b\n\\tag{2.1}\n$$"


def test_rule_finds_unchecked_claims():
    (claim,) = markdown(CLAIM)
    check = nbformat.v4.new_code_cell('%pip list\ncheck("2.1", a, b)')
    assert unchecked(notebook(claim, check)) == []
    assert unchecked(notebook(claim, nbformat.v4.new_code_cell('book.band("V", v, low=0, tag="2.1")'))) == []
    assert len(unchecked(notebook(claim))) == 1
    assert len(unchecked(notebook(check, claim))) == 1, "the check must follow the claim"
    assert unchecked(notebook(claim, check, nbformat.v4.new_code_cell('check("2.2", a, b)')))
    for definition in (CLAIM.replace("a =", "a :="), CLAIM.replace("So", "**Definition.** So")):
        assert unchecked(notebook(*markdown(definition))) == []
    assert unchecked(notebook(*markdown("**Definition.** One.\n\nThen\n" + CLAIM))), "only the paragraph before counts"


def test_rule_finds_wrong_numbers():
    assert misnumbered(notebook(*markdown(CLAIM, CLAIM.replace("2.1", "2.2"))), 2) == []
    assert misnumbered(notebook(*markdown(CLAIM, CLAIM)), 2)
    assert misnumbered(notebook(*markdown(CLAIM)), 3)
    assert misnumbered(notebook(*markdown("```text\n" + CLAIM + "\n```")), 2) == []


@pytest.mark.parametrize(
    "text",
    ["{math}`a`", "{eq}`a`", "```{note}\na\n```", ":::{note}\na\n:::", "(label)=\n# T", "$$ a $$", "> [!NOTE]\n> a"],
)
def test_rule_finds_unportable_markdown(text):
    assert unportable(notebook(*markdown(text)))


def test_rule_lets_portable_markdown_pass():
    text = "# T\n\n> **Note.** $a$, `x{i}`\n>\n> $$\n> a\n> $$\n\n![A dog](a.png)\n\n```python\nf'{x}'\n```"
    assert unportable(notebook(*markdown(text))) == []


def figure(alt: str | None, **metadata: object) -> NotebookNode:
    output = nbformat.v4.new_output("display_data", {"image/png": "", "text/plain": "<Figure>"})
    if alt:
        output.metadata = nbformat.from_dict({"image/png": {"alt": alt}})
    return nbformat.v4.new_code_cell("plt.show()", metadata=metadata, outputs=[output], execution_count=1)


def test_rule_finds_figures_without_alt_text():
    alt = "Two curves that cross at the middle."
    assert without_alt(notebook(figure(alt, mystnb={"image": {"alt": alt}}))) == []
    assert without_alt(notebook(figure(None)))
    assert without_alt(notebook(figure(None, mystnb={"image": {"alt": alt}}))), "stored before the alt text was written"
    assert without_alt(notebook(figure("../img.png", mystnb={"image": {"alt": "../_images/0123456789.png"}})))


def test_rule_finds_unclean_outputs():
    good = figure(None)
    assert unclean(notebook(good)) == []
    assert unclean(notebook(nbformat.v4.new_code_cell("def f():\n    print(1)", execution_count=1))) == []
    assert unclean(notebook(nbformat.v4.new_code_cell("print(1)", execution_count=1)))
    assert unclean(notebook(nbformat.v4.new_code_cell("1", execution_count=None)))
    for output in (
        nbformat.v4.new_output("stream", name="stderr", text="a warning"),
        nbformat.v4.new_output("stream", name="stdout", text="<object at 0x7f0123456789>"),
        nbformat.v4.new_output("error", ename="ValueError", evalue="no"),
        nbformat.v4.new_output("display_data", {"application/vnd.jupyter.widget-view+json": {}}),
        nbformat.v4.new_output("execute_result", {"text/plain": "Text(0, 0.5, 'nats')"}, execution_count=1),
    ):
        assert unclean(notebook(nbformat.v4.new_code_cell("1", execution_count=1, outputs=[output])))


def test_rule_finds_figures_without_captions():
    (picture, again), (text, twice) = (
        (figure(None), figure(None)),
        markdown(*["**Figure 2.1.** What is seen.\n\nText."] * 2),
    )
    assert uncaptioned(notebook(picture, text), 2) == []
    assert uncaptioned(notebook(picture), 2)
    assert uncaptioned(notebook(picture, *markdown("Text.")), 2)
    assert uncaptioned(notebook(picture, *markdown("Text.\n\n**Figure 2.1.** Too late.")), 2)
    assert uncaptioned(notebook(picture, text, again, twice), 2), "a number twice"
    assert uncaptioned(notebook(text), 2), "no picture"
    assert uncaptioned(notebook(picture, text), 3)


def test_rule_finds_long_cells_and_late_pictures():
    picture, long = figure(None), nbformat.v4.new_code_cell("\n".join(["a = 1"] * 16))
    folded = nbformat.v4.new_code_cell(long.source, metadata={"tags": [FOLDED]})
    title, essay = markdown("# T\n\nTwo sentences.", "word " * 131)
    assert too_long(notebook(folded, picture)) == []
    assert len(too_long(notebook(long, nbformat.v4.new_code_cell("\n".join(["a = 1"] * 15))))) == 1
    assert late(notebook(title, folded, picture, long)) == []
    assert late(notebook(title, essay, folded, picture))
    assert late(notebook(title, long, picture))
    assert late(notebook(title))
