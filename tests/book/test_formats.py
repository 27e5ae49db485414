"""The book as one file for a reading device, and on paper."""

from __future__ import annotations

import posixpath
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit
from xml.etree import ElementTree

import pytest

import ebook
import printing
from browser import ROOT
from minigen import show

CHAPTERS = sorted((ROOT / "chapters").glob("[0-9]*.md"))
XHTML, OPF = "{http://www.w3.org/1999/xhtml}", "{http://www.idpf.org/2007/opf}"
MATH = re.compile(r"\$\$(.+?)\$\$|\$([^$\n]+)\$", re.DOTALL)  # block, inline
MATHML = "{http://www.w3.org/1998/Math/MathML}"


# MathML


def test_a_formula_keeps_its_number_and_its_parts() -> None:
    markup = ebook.mathml(r"\begin{equation} x_k := \frac{2k + 1}{K} - 1 . \tag{0.1} \end{equation}", display=True)
    assert markup.endswith('</math> <span class="eqno">(0.1)</span>')
    assert "<mfrac>" in markup
    assert "<mo>:=</mo>" in markup
    assert "0.1" not in markup.split("</math>")[0]
    ElementTree.fromstring(f"<p>{markup}</p>")


def test_an_unknown_command_is_an_error_that_names_it() -> None:
    with pytest.raises(ValueError, match=r"no MathML for \\flurb in 'x"):
        ebook.mathml(r"x \flurb y", display=False)


def test_signs_stand_as_tex_sets_them() -> None:
    minus = '<mo form="prefix">&#x02212;</mo>'
    assert minus in ebook.mathml(r"[-1, 1]", display=False)
    assert minus in ebook.mathml(r"y = -x", display=False)
    assert minus not in ebook.mathml(r"f(x) - y", display=False)
    assert "<mi>log</mi><mspace" in ebook.mathml(r"\log 2", display=False)
    assert "mspace" not in ebook.mathml(r"\log(2)", display=False)
    assert "mspace" not in ebook.mathml(r"\max_D", display=False)
    assert "<mo>&#x0223C;</mo>" in ebook.mathml(r"x \sim p", display=False)
    assert "<mo>|" not in ebook.mathml(r"\bigl( x \bigr)", display=False)


@pytest.mark.parametrize("path", [*CHAPTERS, *sorted((ROOT / "book").glob("*.md"))], ids=lambda path: path.stem)
def test_every_formula_becomes_mathml(path: Path) -> None:
    text = re.sub(r"^```.*?^```|`[^`\n]+`", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for block, inline in MATH.findall(text):
        root = ElementTree.fromstring(f"<p>{ebook.mathml(block or inline, display=bool(block))}</p>")
        assert len(list(root[0].iter())) > 1
        assert not list(root.iter(f"{MATHML}merror"))


# What a device without scripts gets


def test_a_film_becomes_the_picture_it_shows_first(tmp_path: Path) -> None:
    import torch

    frames = [torch.full((1, 1, 8, 8), level) for level in (-1.0, 0.0, 1.0)]
    film = show.film(frames, ["step 1", "step 2", "step 3"], alt="A square & its light.")
    page = ebook.still_page(f"<p>before</p>{film.data}<p>after</p>", tmp_path / "_images")
    (file,) = (tmp_path / "_images").iterdir()
    assert file.read_bytes().startswith(b"\x89PNG")
    assert f'src="../_images/{file.name}"' in page
    assert 'alt="A square &amp; its light. Shown: step 3"' in page
    assert "<p>Shown: step 3. The web book plays the film.</p>" in page
    assert not re.search("script|button|style>|data:", page)
    assert page.startswith("<p>before</p>")
    assert page.endswith("<p>after</p>")


def test_the_panels_of_a_row_become_files(tmp_path: Path) -> None:
    row = show.Row(["A line that rises & stops.", "A line that falls from 1 to 0."], size=(2.4, 2.0))
    for axes, line in zip(row, ([0, 1], [1, 0]), strict=True):
        axes.plot(line)
    page = ebook.still_page(f"<p>before</p>{row._repr_html_()}", tmp_path / "_images")
    names = re.findall(r'src="../_images/([^"]+)"', page)
    assert {file.name for file in (tmp_path / "_images").iterdir()} == set(names)
    assert len(set(names)) == 2
    assert 'alt="A line that rises &amp; stops."' in page
    assert "data:image" not in page
    ElementTree.fromstring(f"<body>{page}</body>")


def test_solutions_move_to_the_end_and_links_to_pages_of_the_device() -> None:
    def solution(number: int) -> str:
        text = f"<p>text {number}</p>"
        return f'<details class="solution"><summary>Solution of exercise 9.{number}</summary>{text}</details>'

    page = ebook.still_page(
        f'<p>one</p>{solution(1)}<p>two</p>{solution(2)}<a href="a.html#b"></a><a href="https://c.d/e.html"></a>',
        Path(),
    )
    order = ["one", "two", '"a.xhtml#b"', '"https://c.d/e.html"', "<h2>Solutions</h2>", "exercise 9.1", "text 1"]
    assert [page.index(part) for part in order] == sorted(page.index(part) for part in order)
    assert page.index("text 1") < page.index("text 2")
    assert "details" not in page


# The EPUB


@pytest.fixture(scope="module")
def epub(epub_file) -> Iterator[zipfile.ZipFile]:
    with zipfile.ZipFile(epub_file) as file:
        yield file


@pytest.fixture(scope="module")
def documents(epub) -> dict[str, ElementTree.Element]:
    """Every page, which must be well-formed."""
    return {name: ElementTree.fromstring(epub.read(name)) for name in epub.namelist() if name.endswith(".xhtml")}


@pytest.fixture(scope="module")
def manifest(epub) -> dict[str, dict[str, str]]:
    items = ElementTree.fromstring(epub.read("content.opf")).iter(f"{OPF}item")
    return {item.attrib["href"]: item.attrib for item in items}


def test_the_file_begins_as_an_epub_and_lists_what_it_holds(epub, manifest) -> None:
    first = epub.infolist()[0]
    assert (first.filename, first.compress_type) == ("mimetype", zipfile.ZIP_STORED)
    assert epub.read("mimetype") == b"application/epub+zip"
    held = set(epub.namelist()) - {"mimetype", "META-INF/container.xml", "content.opf"}
    assert set(manifest) == held
    # Panels of rows are drawn half as fine again as they are shown, for the screens of phones.
    assert sum(info.compress_size for info in epub.infolist()) < 400_000 * len(CHAPTERS)


def test_every_chapter_and_page_is_in_the_order_of_reading(epub, manifest) -> None:
    package = ElementTree.fromstring(epub.read("content.opf"))
    by_id = {item["id"]: href for href, item in manifest.items()}
    order = [by_id[item.attrib["idref"]] for item in package.iter(f"{OPF}itemref")]
    written = [*CHAPTERS, *(ROOT / "book").glob("*.md"), *(ROOT / "book").glob("api/*.md")]
    wanted = {path.relative_to(ROOT).with_suffix(".xhtml").as_posix() for path in written}
    assert set(order) == wanted
    chapters = [href for href in order if href.startswith("chapters/")]
    assert chapters == sorted(chapters)
    assert order[0] == "book/index.xhtml"


def test_nothing_is_asked_of_a_script_or_of_another_place(documents) -> None:
    for name, page in documents.items():
        tags = {element.tag for element in page.iter()}
        assert not tags & {f"{XHTML}{tag}" for tag in ("script", "button", "input", "iframe", "style")}, name
        for element in page.iter():
            source = element.get("src") or (element.get("href") if element.tag == f"{XHTML}link" else None)
            assert source is None or not urlsplit(source).scheme, (name, source)


def test_every_link_picture_and_style_is_there(epub, documents) -> None:
    ids = {name: {element.get("id") for element in page.iter()} for name, page in documents.items()}
    broken = []
    for name, page in documents.items():
        for element in page.iter():
            address = urlsplit(element.get("href") or element.get("src") or "")
            if address.scheme or not (address.path or address.fragment):
                continue
            here = posixpath.join(posixpath.dirname(name), unquote(address.path))
            target = posixpath.normpath(here) if address.path else name
            if target not in epub.namelist() or (address.fragment and address.fragment not in ids[target]):
                broken.append((name, address.geturl()))
    assert broken == []


def test_formulas_are_mathml_and_declared(documents, manifest) -> None:
    for name, page in documents.items():
        formulas = len(list(page.iter(f"{MATHML}math")))
        assert ("mathml" in manifest[name].get("properties", "")) == (formulas > 0), name
        assert not re.search(r"\\(tag|frac|mathbb|sigma|log)\b", "".join(page.itertext())), name
    for path in CHAPTERS:
        text = path.read_text(encoding="utf-8")
        numbers = re.findall(r"\\tag\{([^}]*)\}", text)
        page = documents[f"chapters/{path.stem}.xhtml"]
        shown = [element.text for element in page.iter(f"{XHTML}span") if element.get("class") == "eqno"]
        assert shown == [f"({number})" for number in numbers]


def test_pictures_have_alternative_texts_and_solutions_stand_at_the_end(documents) -> None:
    for path in CHAPTERS:
        page, source = documents[f"chapters/{path.stem}.xhtml"], path.read_text(encoding="utf-8")
        drawings = [part for part in page.iter("{http://www.w3.org/2000/svg}svg") if part.get("role") == "img"]
        rows = [part for part in page.iter(f"{XHTML}figure") if part.get("class") == "minigen-row"]
        panels = [part.get("alt", "") for row in rows for part in row.iter(f"{XHTML}img")]  # a sentence each
        said = [part.get("alt", "") for part in page.iter(f"{XHTML}img")] + [d.get("aria-label", "") for d in drawings]
        assert len(said) - len(panels) + len(rows) >= source.count("**Figure ") > 0
        assert all(len(text) > 40 for text in said if text not in panels)
        assert all(len(text) >= 20 for text in panels)
        text = "".join(page.itertext())
        solutions = source.count("<details><summary>Solution</summary>")
        assert text.count("Solution of exercise") == text.count("(Solution at the end of the chapter.)") == solutions
        assert text.rindex("(Solution at the end") < text.rindex("References") < text.index("Solution of exercise")


@pytest.mark.browser
def test_no_formula_is_wider_than_a_page_of_a_device(chromium, epub, tmp_path: Path) -> None:
    """600 pixels, as a small one has; it turns pages, and does not scroll."""
    epub.extractall(tmp_path)
    page, wide = chromium.new_page(viewport={"width": 600, "height": 800}), {}
    for path in CHAPTERS:
        page.goto((tmp_path / "chapters" / f"{path.stem}.xhtml").as_uri())
        wide[path.stem] = page.evaluate("""() => {
            const edge = document.body.getBoundingClientRect().right;
            return [...document.querySelectorAll("div.math")].filter(
                formula => formula.querySelector("math").getBoundingClientRect().right > edge + 0.5
            ).map(formula => formula.textContent.trim().slice(0, 60));
        }""")
    page.close()
    assert {name: found for name, found in wide.items() if found} == {}


# Paper


@pytest.fixture(scope="module")
def tab(chromium):
    page = chromium.new_page(color_scheme="light")
    yield page
    page.close()


@pytest.mark.browser
@pytest.mark.parametrize("name", ["chapters/00_start_here", "book/notation"])
def test_a_page_prints_as_a_tagged_pdf_with_an_outline(tab, book: Path, tmp_path: Path, name: str) -> None:
    printing.print_page(tab, book / f"{name}.html", tmp_path / "page.pdf")
    data = (tmp_path / "page.pdf").read_bytes()
    assert data.startswith(b"%PDF-")
    assert b"/StructTreeRoot" in data
    assert b"/Outlines" in data
    assert len(re.findall(rb"/Type\s*/Page\b", data)) >= 3
    assert [path.name for path in tmp_path.iterdir()] == ["page.pdf"]


@pytest.mark.browser
def test_paper_shows_solutions_at_the_end_and_no_navigation(tab, book: Path) -> None:
    tab.goto((book / "chapters" / "00_start_here.html").as_uri())
    assert tab.evaluate(printing.UNFOLD) == 5
    assert tab.locator("details.solution").count() == 0
    text = tab.locator("article").inner_text()
    assert text.index("References") < text.index("Solution of exercise 0.1") < text.index("Solution of exercise 0.5")
    tab.emulate_media(media="print")
    for part in (".bd-sidebar-primary", ".bd-header-article", ".prev-next-area"):
        assert not tab.locator(part).first.is_visible(), part
    tab.emulate_media(media="screen")


def test_printing_says_what_is_missing(tmp_path: Path, monkeypatch) -> None:
    with pytest.raises(SystemExit, match="build the book first"):
        printing.main(tmp_path, tmp_path, [])
    (tmp_path / "chapters").mkdir()
    (tmp_path / "chapters" / "00_a.html").write_text("")
    with pytest.raises(SystemExit, match="no page b; there are 00_a"):
        printing.main(tmp_path, tmp_path, ["b"])
    monkeypatch.setattr(printing, "browser", lambda: None)
    with pytest.raises(SystemExit, match="install chromium"):
        printing.main(tmp_path, tmp_path, [])
