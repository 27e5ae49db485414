"""Every chapter's source and its executed notebook agree, and both keep the promises that the book makes."""

import ast
import base64
import importlib.util
import io
import re
from pathlib import Path

import jupytext
import nbformat
import pytest
from nbformat import NotebookNode
from PIL import Image

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "chapters").glob("[0-9]*.md"))
chapters = pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
FENCED = re.compile(r"^ *(`{3,}|~{3,}).*?^ *\1", re.MULTILINE | re.DOTALL)
TAG = re.compile(r"\\tag\{([^}]*)\}")
ROLE_OR_DIRECTIVE = re.compile(
    r"(?<![\w`])\{[a-z][\w:.-]*\}`|^ *(`{3,}|:{3,})\{|^:{3,}|^\([\w.-]+\)=$|^> \[!", re.MULTILINE
)


def load(path: Path) -> NotebookNode:
    return nbformat.read(path, as_version=4)


def stored(source: Path) -> NotebookNode:
    return load(source.with_suffix(".ipynb"))


def code(cell: NotebookNode) -> ast.Module:
    """The syntax tree of a code cell, with IPython's own commands left out."""
    return ast.parse(re.sub(r"^(\s*)[%!].*$", r"\1pass", cell.source, flags=re.MULTILINE))


def calls(cell: NotebookNode, *, top_level: bool = False) -> list[ast.Call]:
    todo, found = [code(cell)], []
    while todo:
        node = todo.pop(0)
        if top_level and isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Lambda):
            continue
        found += [node] if isinstance(node, ast.Call) else []
        todo += ast.iter_child_nodes(node)
    return found


def called(call: ast.Call) -> str:
    return ast.unparse(call.func).split(".")[-1]


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
    """(cell number, tag, whether it is a definition) of every numbered equation.

    A definition contains `:=`, or the paragraph before it opens with **Definition.**
    """
    found = []
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type != "markdown":
            continue
        text = re.sub(r"^> ?", "", FENCED.sub("", cell.source), flags=re.MULTILINE)
        parts = re.split(r"^ *\$\$ *$", text, flags=re.MULTILINE)
        for before, equation in zip(parts[0::2], parts[1::2], strict=False):
            paragraphs = [part.strip() for part in re.split(r"\n\s*\n", before) if part.strip()]
            introduced = bool(paragraphs) and paragraphs[-1].startswith("**Definition")
            found += [(number, tag, introduced or ":=" in equation) for tag in TAG.findall(equation)]
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
    """Outputs that must not be stored: errors, warnings, widgets, addresses; and outputs that are missing."""
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
            if re.search(r"0x(?!0{12})[0-9a-fA-F]{6,}|ipykernel_[1-9]", str(output)):
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
def test_markdown_is_portable(source):
    assert unportable(stored(source)) == []


@chapters
def test_equations_are_numbered_in_order(source):
    assert misnumbered(stored(source), int(source.stem.split("_")[0])) == []


@chapters
def test_every_claim_is_checked(source):
    assert unchecked(stored(source)) == []


@chapters
def test_size(source):
    lines = [line for cell in stored(source).cells if cell.cell_type == "code" for line in cell.source.splitlines()]
    assert sum(bool(line.strip()) for line in lines) <= 350
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


def notebook(*cells: NotebookNode) -> NotebookNode:
    return nbformat.v4.new_notebook(cells=list(cells))


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
    ):
        assert unclean(notebook(nbformat.v4.new_code_cell("1", execution_count=1, outputs=[output])))


# The executor.


@pytest.fixture(scope="module")
def execute():
    spec = importlib.util.spec_from_file_location("execute", ROOT / "book" / "execute.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SOURCE = """# T

```{code-cell}
print("a"); print(object())
```

```{code-cell}
:tags: [hide-input]
from IPython.display import Image, display
import os, sys
sys.stdout.flush()
print(os.environ["OMP_NUM_THREADS"], sorted(k for k in os.environ if k.startswith("MINIGEN_")))
```
"""


def test_executor_stores_the_same_bytes_twice(execute, tmp_path, monkeypatch):
    monkeypatch.setenv("MINIGEN_FULL", "1")
    (tmp_path / "01_a.md").write_text(SOURCE)
    files = []
    for name in ("one.ipynb", "two.ipynb"):
        done = execute.normalise(execute.run(execute.from_source(tmp_path / "01_a.md"), cwd=tmp_path, timeout=60))
        execute.write(done, tmp_path / name)
        files.append((tmp_path / name).read_bytes())
    assert files[0] == files[1]
    first, second = load(tmp_path / "one.ipynb").cells[1:]
    assert first.outputs[0].text == "a\n<object object at 0x000000000000>\n"
    assert second.outputs[0].text == "1 ['MINIGEN_LIVE']\n"
    assert second.metadata == {"tags": ["hide-input"]}
    assert not list(tmp_path.glob("*.tmp"))


def test_executor_keeps_the_ids_of_other_cells(execute, tmp_path):
    path = tmp_path / "01_a.md"
    path.write_text(SOURCE)
    before = [cell.id for cell in execute.from_source(path).cells]
    path.write_text(SOURCE.replace('print("a")', 'print("b")'))
    after = [cell.id for cell in execute.from_source(path).cells]
    assert [old == new for old, new in zip(before, after, strict=True)] == [True, False, True]


def test_executor_drops_widgets_and_names_pictures(execute):
    widget = "application/vnd.jupyter.widget-view+json"
    cell = figure(None, mystnb={"image": {"alt": "A picture."}}, execution={"iopub.status.busy": "now"})
    cell.outputs[0].data["image/png"] = png()
    cell.outputs += [
        nbformat.v4.new_output("display_data", {widget: {}, "text/plain": "Box()"}),
        nbformat.v4.new_output("display_data", {widget: {}, "text/html": "<p>a</p>", "text/plain": "Box()"}),
        nbformat.v4.new_output("stream", name="stdout", text="a"),
        nbformat.v4.new_output("stream", name="stdout", text="b"),
    ]
    done = notebook(cell)
    done.metadata["widgets"] = {"state": {}}
    picture, html, stream = execute.normalise(done).cells[0].outputs
    assert picture.metadata == {"image/png": {"alt": "A picture."}}
    assert (set(html.data), stream.text) == ({"text/html", "text/plain"}, "ab")
    assert "widgets" not in done.metadata
    assert "execution" not in done.cells[0].metadata


def png() -> str:
    buffer = io.BytesIO()
    Image.radial_gradient("L").convert("RGB").save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def test_executor_reports_differences(execute):
    old, new = notebook(figure(None)), notebook(figure(None))
    assert execute.differences(old, new) == []
    new.cells[0].outputs[0].data["image/png"] = "another machine's fonts"
    assert execute.differences(old, new) == []
    new.cells[0].outputs.append(nbformat.v4.new_output("stream", name="stdout", text="3.2"))
    assert execute.differences(old, new)
    assert execute.differences(old, notebook())
