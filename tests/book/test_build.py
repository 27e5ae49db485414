"""What the build makes of portable Markdown and of docstrings."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


def module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "book" / f"{name}.py")
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


portable, apidoc, accessible = module("portable"), module("apidoc"), module("accessible")


def upgrade(text: str, tags: tuple[str, ...] = (), passed: dict[str, list[str]] | None = None) -> str:
    return "\n".join(line for line in portable.upgrade(text, set(tags), passed or {}).splitlines() if line.strip())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("> **Note.** Be careful.\n> Really.", "::::{admonition} Note\n:class: note\nBe careful.\nReally.\n::::"),
        ("> **Warning:** No.", "::::{admonition} Warning\n:class: warning\nNo.\n::::"),
        ("> **What people get wrong.** Signs.", "::::{admonition} What people get wrong\n:class: aside\nSigns.\n::::"),
        ("> Just a quotation.", "> Just a quotation."),
        (
            "**Exercise 2.1 (the sign).** Do\n\n$$\na\n$$\n\n<details>\n\nSo.\n\n</details>\n\nAfter.",
            "(exercise-2.1)=\n::::::{admonition} Exercise 2.1 (the sign)\n:class: exercise\n"
            "Do\n$$\na\n$$\n<details>\nSo.\n</details>\n::::::\nAfter.",
        ),
        (
            "**Exercise 2.1.** A\n\n**Exercise 2.2.** B\n\n## Next",
            "(exercise-2.1)=\n::::::{admonition} Exercise 2.1\n:class: exercise\nA\n::::::\n"
            "(exercise-2.2)=\n::::::{admonition} Exercise 2.2\n:class: exercise\nB\n::::::\n## Next",
        ),
        (
            "so\n$$\na \\\\\nb\n\\tag{2.5}\n$$\nand",
            "so\n(eq-2.5)=\n```{math}\n:nowrap:\n\\begin{equation}\na \\\\\nb\n\\tag{2.5}\n\\end{equation}\n```\nand",
        ),
        ("$$\na\n$$", "$$\na\n$$"),
        ("- so\n\n  $$\n  a\n  $$", "- so\n  $$\n  a\n  $$"),
        ("[![Open in Colab](https://a.org/b.svg)](https://a.org)", "[Open in Colab](https://a.org)"),
        ("![A dog](img/dog.png)", "![A dog](img/dog.png)"),
    ],
)
def test_upgrade(text, expected):
    assert upgrade(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("by (2.5), and (0.5)", "by [(2.5)](#eq-2.5), and (0.5)"),
        ("$f(2.5)$ and $f\n(2.5)$ and (2.5)", "$f(2.5)$ and $f\n(2.5)$ and [(2.5)](#eq-2.5)"),
        ("`f(2.5)` [see (2.5)](a.ipynb) <b (2.5)>", "`f(2.5)` [see (2.5)](a.ipynb) <b (2.5)>"),
        ("> (2.5)", "> [(2.5)](#eq-2.5)"),
        ("## About (2.5)", "## About (2.5)"),
        ("<summary>Of (2.5)</summary>", "<summary>Of (2.5)</summary>"),
    ],
)
def test_upgrade_links_equation_numbers(text, expected):
    assert upgrade(text, ("2.5",)) == expected


@pytest.mark.parametrize("fence", ["```", "````", "~~~"])
def test_upgrade_leaves_fenced_text_alone(fence):
    text = f"{fence}python\n# (2.5)\n> **Note.** x\n$$\n\\tag{{2.5}}\n$$\n**Exercise 2.1.**\n{fence}"
    assert upgrade(text, ("2.5",)) == text
    assert upgrade(f"> **Note.** A\n>\n> {text.replace(chr(10), chr(10) + '> ')}", ("2.5",)).count("eq-2.5") == 0


def test_upgrade_marks_checked_equations():
    text = "$$\na\n\\tag{2.5}\n$$"
    assert "checked" not in upgrade(text)
    marked = upgrade(text, passed={"2.5": ['V "<" 4, within 1e-05']})
    assert '<a href="#check-2.5">✓ checked: V &quot;&lt;&quot; 4, within 1e-05</a>' in marked
    assert "✓ checked</a>" in upgrade(text, passed={"2.5": [""]})


def test_upgrade_notebook_touches_no_code_cell():
    stream = {"output_type": "stream", "name": "stdout", "text": ["✓ (2.5) V: within 1e-05\n", "✓ (2.6) W\n"]}
    code = {
        "cell_type": "code",
        "id": "b",
        "metadata": {},
        "source": ["# (2.5)\n", "> **Note.** x"],
        "outputs": [stream],
    }
    text = {
        "cell_type": "markdown",
        "id": "a",
        "metadata": {},
        "source": ["$$\n", "a\n", "\\tag{2.5}\n", "$$\n", "(2.5)"],
    }
    source = json.dumps({"cells": [text, code], "metadata": {}, "nbformat": 4, "nbformat_minor": 5})
    assert portable.tags_in(source) == ["2.5"]
    first, anchors, second = json.loads(portable.upgrade_notebook(source, {"2.5"}))["cells"]
    assert second == code
    assert "✓ checked: V, within 1e-05" in first["source"]
    assert "[(2.5)](#eq-2.5)" in first["source"]
    assert anchors["source"] == '<a id="check-2.5"></a><a id="check-2.6"></a>'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "A `b` and ``c`` of *d*, 2*3*4 < 5.",
            "<p>A <code>b</code> and <code>c</code> of <em>d</em>, 2*3*4 &lt; 5.</p>",
        ),
        ("One\ntwo.\n\nThree.", "<p>One\ntwo.</p>\n<p>Three.</p>"),
        ("Chapter 02, (2.1) of (9.9).", '<p>Chapter 02, <a href="p.html#eq-2-1">(2.1)</a> of (9.9).</p>'),
        ("See arXiv:1406.2661.", '<p>See <a href="https://arxiv.org/abs/1406.2661">arXiv:1406.2661</a>.</p>'),
        ("So::\n\n    a *= 1\n\n    if b:\n        c", "<p>So:</p>\n<pre>a *= 1\n\nif b:\n    c</pre>"),
        (
            "n: number\n    of steps.\nx: (B,)",
            "<ul><li><code>n</code>: number\nof steps.</li><li><code>x</code>: (B,)</li></ul>",
        ),
        ("Any:\n- one\n- two", "<p>Any:</p>\n<ul><li>one</li><li>two</li></ul>"),
        (
            "Args:\n    n: steps.\n\nA.",
            '<p class="rubric">Args</p>\n<ul><li><code>n</code>: steps.</li></ul>\n<p>A.</p>',
        ),
    ],
)
def test_docstring_html(text, expected):
    assert apidoc.docstring_html(text, {"2.1": "p.html"}) == expected


def test_reference_lists_every_module():
    pages = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "book" / "api").glob("*.md")}
    assert all(text.count("<!-- modules -->") == 1 for text in pages.values())
    listed = "".join(apidoc.directives(ROOT / "minigen", page) for page in pages)
    assert "automodule:: minigen.train.loop\n" in apidoc.directives(ROOT / "minigen", "train")
    for name in apidoc.modules(ROOT / "minigen"):
        assert listed.count(f"automodule:: {name}\n") == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('<dl>\n<dd><em class="sig-param">a</em>,</dd></dl>',
         '<div class="sig-params">\n<div><em class="sig-param">a</em>,</div></div>'),
        ("<dl><dt>a</dt><dd>b</dd></dl>", "<dl><dt>a</dt><dd>b</dd></dl>"),
        ("<ul><li>a</li>\n<ul><li>b</li></ul></ul>", "<ul><li>a<ul><li>b</li></ul></ul>"),
        ('<div role="doc-biblioentry">', '<div role="listitem">'),
    ],
)  # fmt: skip
def test_lists_are_lists(text, expected):
    assert accessible.mended(text) == expected
