"""The book as its reader gets it: built with warnings as errors, opened from disk in a headless browser."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).parents[1]
browser_test = pytest.mark.browser


def module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "book" / f"{name}.py")
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


portable, apidoc = module("portable"), module("apidoc")


# The rewriting of portable Markdown, on strings.


def upgrade(text: str, tags: tuple[str, ...] = (), passed: dict[str, str] | None = None) -> str:
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
    marked = upgrade(text, passed={"2.5": 'V "<" 4: within 1e-05'})
    assert '<a href="#check-2.5" title="V &quot;&lt;&quot; 4: within 1e-05">✓ checked, within 1e-05</a>' in marked
    assert "✓ checked</a>" in upgrade(text, passed={"2.5": ""})


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
    assert "✓ checked, within 1e-05" in first["source"]
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
    listed = apidoc.directives(ROOT / "minigen")
    assert "automodule:: minigen.train\n" in listed
    for name in apidoc.modules(ROOT / "minigen"):
        assert listed.count(f"automodule:: {name}\n") == 1


# The built book.


@pytest.fixture(scope="module")
def book(tmp_path_factory) -> Path:
    """The folder of the built pages; MINIGEN_BOOK names one that is built already."""
    if given := os.environ.get("MINIGEN_BOOK"):
        return Path(given).resolve()
    out = tmp_path_factory.mktemp("book") / "html"
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-c", "book", "-b", "html", ".", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="module")
def chromium():
    """A headless browser; without one the tests skip, but not in continuous integration."""
    candidates = [os.environ.get("MINIGEN_BROWSER"), "chromium", "chromium-browser", "google-chrome"]
    found = next((path for name in candidates if name and (path := shutil.which(name))), None)
    if not found:
        reason = "no browser: install chromium, or name one in MINIGEN_BROWSER"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


def open_page(context, path: Path, *, query: str = "") -> tuple:
    """Open a page from disk and wait for its formulas; also returns what went wrong on the way."""
    problems: list[str] = []
    page = context.new_page()
    page.on("console", lambda message: message.type == "error" and problems.append(f"console: {message.text}"))
    page.on("pageerror", lambda error: problems.append(f"script: {error}"))
    page.on("requestfailed", lambda request: problems.append(f"failed: {request.url}"))
    page.on(
        "request",
        lambda request: (
            request.url.startswith(("file:", "data:", "blob:")) or problems.append(f"left the page: {request.url}")
        ),
    )
    page.goto(path.as_uri() + query)
    page.evaluate("async () => { if (window.MathJax?.startup) await MathJax.startup.promise }")
    return page, problems


FACTS = r"""() => {
  const all = (selector, what) => [...document.querySelectorAll(selector)].map(what);
  const article = document.querySelector("article")?.cloneNode(true);
  article?.querySelectorAll("pre, code, mjx-container, script").forEach(element => element.remove());
  return {
    text: article?.textContent ?? "",
    formulas: all("mjx-container", element => 1).length,
    wrong_formulas: all("mjx-merror", element => element.textContent),
    images: all("img", image => [image.getAttribute("src"), image.getAttribute("alt"), image.naturalWidth]),
    links: all("a[href]", link => link.href),
    ids: all("[id]", element => element.id),
    marks: all("div.checked a", link => link.textContent),
    details: all("details:not([id^=pst])", details => details.open),
  };
}"""
OVERFLOW = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def pages(chromium, book) -> dict[str, dict]:
    """Every page of the book, opened once: what is on it, what went wrong, what is too wide for a phone."""
    visited = {}
    context = chromium.new_context(viewport={"width": 390, "height": 844})
    for path in sorted(book.rglob("*.html")):
        if (path.parent == book and path.name == "index.html") or "_static" in path.parts:
            continue  # the redirection to the front page; templates of the theme
        page, problems = open_page(context, path)
        visited[str(path.relative_to(book))] = page.evaluate(FACTS) | {
            "problems": problems,
            "phone": page.evaluate(OVERFLOW),
            "url": page.url,
        }
        page.close()
    context.close()
    return visited


def on_pages(pages: dict[str, dict], wrong) -> dict[str, object]:
    """The pages where `wrong` finds anything, and what it finds there."""
    return {name: found for name, facts in pages.items() if (found := wrong(facts))}


@pytest.fixture(scope="module")
def chapter_pages(pages) -> dict[str, dict]:
    chapters = {name: facts for name, facts in pages.items() if name.startswith("chapters")}
    assert chapters, "the book has no chapter"
    return chapters


@browser_test
def test_every_chapter_has_a_page(chapter_pages):
    expected = {f"chapters/{path.stem}.html" for path in (ROOT / "chapters").glob("*.ipynb")}
    assert {Path(name).as_posix() for name in chapter_pages} == expected


@browser_test
def test_pages_open_without_errors_and_ask_nothing_of_other_servers(pages):
    assert on_pages(pages, lambda facts: facts["problems"]) == {}


@browser_test
def test_formulas_are_typeset(pages, chapter_pages):
    assert on_pages(chapter_pages, lambda facts: facts["formulas"] == 0) == {}
    assert on_pages(pages, lambda facts: facts["wrong_formulas"]) == {}
    assert (
        on_pages(pages, lambda facts: [raw for raw in ("$$", r"\tag", r"\begin", "::::") if raw in facts["text"]]) == {}
    )


@browser_test
def test_images_load_and_say_what_they_show(pages):
    def wrong(facts):
        return [
            (src, alt, width)
            for src, alt, width in facts["images"]
            if not alt or width == 0 or alt.endswith((".png", ".svg")) or alt.startswith(("<Figure", "_images", "../"))
        ]

    assert on_pages(pages, wrong) == {}


@browser_test
def test_internal_links_resolve(book, pages):
    ids = {facts["url"]: set(facts["ids"]) for facts in pages.values()}

    def broken(facts):
        found = []
        for link in facts["links"]:
            target, _, anchor = link.partition("#")
            parts = urlsplit(target)
            if parts.scheme != "file":
                continue
            known = target in ids and (not anchor or unquote(anchor) in ids[target])
            if not known and (target in ids or not Path(unquote(parts.path)).is_file()):
                found.append(link)
        return found

    assert on_pages(pages, broken) == {}


@browser_test
def test_every_passed_check_of_an_equation_is_marked(chapter_pages):
    for name, facts in chapter_pages.items():
        source = (ROOT / "chapters" / Path(name).name).with_suffix(".ipynb").read_text(encoding="utf-8")
        printed = "".join(portable.joined(output.get("text", ""))
                          for cell in json.loads(source)["cells"] for output in cell.get("outputs", []))  # fmt: skip
        passed = {tag for tag, _ in portable.PASSED.findall(printed)}
        assert len(facts["marks"]) == len(passed & set(portable.tags_in(source))), name


@browser_test
def test_nothing_is_wider_than_a_phone(pages):
    assert on_pages(pages, lambda facts: max(0, facts["phone"])) == {}


@browser_test
def test_solutions_are_folded_and_open(chromium, book, pages):
    assert on_pages(pages, lambda facts: any(facts["details"])) == {}
    name = next((name for name, facts in pages.items() if name.startswith("chapters") and facts["details"]), None)
    if name is None:
        pytest.skip("no chapter has a solution yet")
    page, _ = open_page(chromium, book / name)
    details = page.locator("article details").first
    body = details.locator(":scope > :not(summary)").first
    assert not body.is_visible()
    details.locator("summary").first.click()
    assert body.is_visible()
    page.close()


CONTRAST = r"""() => {
  const channel = value => (value /= 255) <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  const luminance = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const numbers = colour => colour.match(/[\d.]+/g).map(Number);
  const ground = element => {
    for (; element; element = element.parentElement) {
      const [r, g, b, alpha = 1] = numbers(getComputedStyle(element).backgroundColor);
      if (alpha > 0.99) return [r, g, b];
    }
    return [255, 255, 255];
  };
  const kinds = "h1, h2, p, li, a, code, td, th, summary, mjx-container, .admonition-title, pre, pre span";
  const texts = [...document.querySelectorAll(`article :is(${kinds}):not(.headerlink)`)];
  return texts.filter(element => element.textContent.trim()).map(element => {
    const pair = [numbers(getComputedStyle(element).color), ground(element)].map(luminance).sort((a, b) => b - a);
    return [(pair[0] + 0.05) / (pair[1] + 0.05), `${element.tagName} ${element.className}`, element.textContent];
  }).filter(([ratio]) => ratio < 4.5);
}"""


@browser_test
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_legible(chromium, book, chapter_pages, scheme):
    """WCAG 2.2, criterion 1.4.3: a contrast of at least 4.5 to 1, in both colour schemes."""
    context = chromium.new_context(color_scheme=scheme)
    for name in ["book/index.html", "book/notation.html", "book/api.html", *chapter_pages]:
        page, _ = open_page(context, book / name)
        assert page.evaluate("document.documentElement.dataset.theme") == scheme
        assert page.evaluate(CONTRAST) == [], name
        page.close()
    context.close()


@browser_test
def test_search_finds_pages_from_disk(chromium, book):
    context = chromium.new_context()
    page, problems = open_page(context, book / "search.html", query="?q=logistic")
    page.wait_for_selector("#search-results li a")
    assert any("notation.html" in link.get_attribute("href") for link in page.locator("#search-results li a").all())
    assert problems == []
    context.close()


@browser_test
def test_the_top_folder_leads_to_the_front_page(chromium, book):
    context = chromium.new_context()
    page = context.new_page()
    page.goto((book / "index.html").as_uri())
    page.wait_for_url("**/book/index.html")
    assert page.locator("article h1").count() == 1
    context.close()
