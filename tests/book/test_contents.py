"""Parts and chapters, written and planned: in the data, on the front page, in the sidebar and in the README."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path

import pytest

import contents
from browser import AXE, DESKTOP, PHONE, open_page
from contents import Chapter, Part

ROOT = Path(__file__).parents[2]
PARTS = contents.parts()
CHAPTERS = [chapter for part in PARTS for chapter in part.chapters]
WRITTEN = {path.stem for path in (ROOT / "chapters").glob("*.ipynb")}
SMALL = [
    Part("First", (Chapter(0, "A planned start", ""), Chapter(1, "One & two", "01_one"), Chapter(2, "Later", ""))),
    Part("Second", (Chapter(3, "Three", "03_three"),)),
    Part("Third", (Chapter(4, "Last", ""),)),
]


def test_the_parts_hold_every_chapter_once_and_in_order() -> None:
    assert [chapter.number for chapter in CHAPTERS] == list(range(19))
    assert {chapter.name for chapter in CHAPTERS if chapter.name} == WRITTEN
    assert [part.title for part in PARTS] == ["The ground", "Games", "Likelihood", "Diffusion", "Words", "Together"]


def test_a_written_chapter_has_the_title_of_the_list() -> None:
    for chapter in CHAPTERS:
        if chapter.name:
            text = (ROOT / "chapters" / f"{chapter.name}.md").read_text(encoding="utf-8")
            assert re.search(r"^# (.+)$", text, re.MULTILINE)[1] == chapter.heading


def test_a_chapter_is_written_when_its_file_exists(tmp_path: Path) -> None:
    (tmp_path / "book").mkdir()
    (tmp_path / "chapters").mkdir()
    listed = '[[part]]\ntitle = "Games"\n[part.chapters]\n02 = "The minimax game"\n03 = "A better distance"\n'
    (tmp_path / "book" / "chapters.toml").write_text(listed)
    (tmp_path / "chapters" / "02_minimax.md").write_text("# 2.")
    two, three = Chapter(2, "The minimax game", "02_minimax"), Chapter(3, "A better distance", "")
    assert contents.parts(tmp_path / "book") == [Part("Games", (two, three))]
    assert contents.counted(contents.parts(tmp_path / "book")).startswith("Of the book's 2 chapters 1 are written")
    (tmp_path / "chapters" / "03_distance.md").write_text("# 3.")
    assert contents.counted(contents.parts(tmp_path / "book")) == "All 2 chapters are written."


def test_the_front_page_is_filled_and_counts_nothing_by_hand() -> None:
    text = (ROOT / "book" / "index.md").read_text(encoding="utf-8")
    number = r"\b(\d+|nine|ten|eleven|fifteen|nineteen) (more )?(chapters )?(are )?(written|planned)"
    assert not re.search(number, text, re.IGNORECASE)
    filled = contents.fill(text, SMALL)
    assert "Of the book's 5 chapters 2 are written; the others are planned." in filled
    assert "- [1. One & two](../chapters/01_one.ipynb)" in filled
    assert '<span class="planned">2. Later (planned)</span>' in filled
    assert "<!--" not in filled


def test_only_parts_with_a_page_have_a_table_of_contents() -> None:
    trees = re.findall(
        r"```\{toctree\}\n:caption: (.+)\n:hidden:\n:maxdepth: 1\n\n((?:.+\n)+)```", contents.trees(SMALL)
    )
    assert trees == [("First", "../chapters/01_one\n"), ("Second", "../chapters/03_three\n")]


def test_planned_chapters_are_put_into_the_sidebar_in_their_order() -> None:
    from bs4 import BeautifulSoup  # the theme's

    def part(title: str, *entries: str) -> str:
        items = "".join(f'<li class="toctree-l1"><a href="x">{entry}</a></li>' for entry in entries)
        return f'<p class="caption"><span class="caption-text">{title}</span></p>\n<ul>{items}</ul>\n'

    sidebar = part("First", "1. One & two") + part("Second", "3. Three") + part("Reference", "Notation")
    found = contents.with_planned(BeautifulSoup(sidebar, "html.parser"), SMALL)
    assert [tag.get_text() for tag in found.find_all(["p", "li"])] == [
        "First", "0. A planned start (planned)", "1. One & two", "2. Later (planned)",
        "Second", "3. Three", "Third", "4. Last (planned)", "Reference", "Notation",
    ]  # fmt: skip
    assert [tag.name for tag in found.find_all(recursive=False)] == ["p", "ul"] * 4
    assert len(found.find_all("a")) == 3
    assert contents.with_planned(BeautifulSoup(sidebar, "html.parser"), SMALL[2:]).find("p").get_text() == "Third"


def test_the_readme_and_the_reading_paths_name_the_chapters_as_they_are() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = {row[0]: row[1] for row in re.findall(r"^\| (written|planned) \| (.+) \|$", readme, re.MULTILINE)}
    linked = [f"{c.number:02d} [{c.title}](chapters/{c.name}.ipynb)" for c in CHAPTERS if c.name]
    assert rows.get("written") == ", ".join(linked)
    assert rows.get("planned") == "; ".join(f"{c.number:02d} {c.title}" for c in CHAPTERS if not c.name)
    paths = (ROOT / "book" / "reading.md").read_text(encoding="utf-8")
    titles = {f"{c.number:02d}": c.title for c in CHAPTERS}
    named = re.findall(r"(?:\| |, |; )(\d\d) ([A-Z][^|\[(]*?)(?=, \d\d | \(\*planned\*\))", paths)
    assert len(named) == paths.count("(*planned*)") + 1  # one week names two chapters
    assert [pair for pair in named if titles[pair[0]] != pair[1]] == []


# The built book


def test_every_page_shows_every_chapter_in_its_sidebar(book: Path) -> None:
    for name in ("book/index", "book/api/nets", "chapters/02_minimax", "search"):
        page = (book / f"{name}.html").read_text(encoding="utf-8")
        bar = page[page.index('<nav class="bd-links') :].split("</nav>")[0]
        entries = re.findall(r'<li class="toctree-l1[^"]*"><(a|span)[^>]*>(.*?)</\1>', bar)
        shown = [(tag, unescape(re.sub(r"<[^>]+>.*", "", text))) for tag, text in entries]
        chapters = [entry for entry in shown if entry[1][0].isdigit()]
        assert chapters == [("a" if chapter.name else "span", chapter.heading) for chapter in CHAPTERS], name
        captions = re.findall(r'<span class="caption-text">([^<]+)', bar)
        assert captions == [*(part.title for part in PARTS), "Learn and teach", "Reference"]


PALE = """() => {
  const colour = selector => getComputedStyle(document.querySelector(`.bd-sidebar-primary ${selector}`)).color;
  return [colour("li.toctree-l1:not(.current) > a"), colour("li.planned > span")];
}"""
ALL = """async () => (await axe.run(document, {resultTypes: ["violations"], preload: false})).violations
  .flatMap(({id, nodes}) => nodes.map(({html}) => `${id}: ${html.slice(0, 150)}`))"""


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_planned_chapters_are_pale_and_no_barrier(chromium, book: Path, scheme: str) -> None:
    context = chromium.new_context(viewport=DESKTOP, color_scheme=scheme)
    page, wrong = open_page(context, book / "book" / "index.html", home=book)
    link, planned = page.evaluate(PALE)
    assert link != planned
    page.evaluate(AXE.read_text(encoding="utf-8"))
    for size in (DESKTOP, PHONE):
        page.set_viewport_size(size)
        assert page.evaluate(ALL) == []  # of any impact
    assert wrong == []
    context.close()
