"""The book as its reader gets it: its pages, opened from disk in a headless browser."""

import html
import json
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urljoin

import pytest

import portable
from browser import (
    DESKTOP,
    ROOT,
    Visit,
    bad_images,
    broken_links,
    notes,
    open_page,
    plays,
    raw_source,
    stored,
    too_small,
    tour,
)

pytestmark = [pytest.mark.browser, pytest.mark.timeout(2400)]  # the first test opens the pages


def written(book: Path) -> list[Path]:
    """The pages that somebody wrote, and of the pages of code, all made by one template, the longest and the list."""
    redirection, templates_of_the_theme, code = book / "index.html", book / "_static", book / "_modules"
    pages = {path for path in book.rglob("*.html") if templates_of_the_theme not in path.parents} - {redirection}
    of_code = {path for path in pages if code in path.parents} - {code / "index.html"}
    longest = max(of_code, key=lambda path: path.stat().st_size)
    return sorted(pages - of_code | {longest})


@pytest.fixture(scope="module")
def pages(chromium, book) -> dict[str, Visit]:
    """The pages of the book, opened once."""
    context = chromium.new_context(viewport=DESKTOP, color_scheme="light", reduced_motion="reduce")
    context.set_default_timeout(90_000)  # other tabs and tests keep the machine busy
    found = written(book)
    visits = tour(context, found, home=book)
    visited = {path.relative_to(book).as_posix(): visits[path] for path in found}
    context.close()
    return visited


@pytest.fixture(scope="module")
def chapters(pages) -> dict[str, Visit]:
    return {name: page for name, page in pages.items() if name.startswith("chapters/")}


@pytest.fixture
def reader(chromium):
    """A browser of one's own, as wide as a laptop."""
    context = chromium.new_context(viewport=DESKTOP)
    context.set_default_timeout(20_000)
    yield context
    context.close()


def where(pages: dict[str, Visit], wrong: Callable[[Visit], object]) -> dict[str, object]:
    """The pages where `wrong` finds anything, and what it finds there."""
    return {name: found for name, page in pages.items() if (found := wrong(page))}


def test_every_chapter_has_a_page(chapters):
    assert set(chapters) == {f"chapters/{path.stem}.html" for path in (ROOT / "chapters").glob("*.ipynb")}


def test_pages_open_without_errors_and_ask_nothing_of_other_places(pages):
    assert where(pages, lambda page: page.errors) == {}


def test_formulas_are_typeset(pages, chapters):
    assert where(chapters, lambda page: page.formulas == 0) == {}
    assert where(pages, raw_source) == {}


def test_images_load_and_say_what_they_show(pages):
    assert where(pages, bad_images) == {}


def test_internal_links_resolve(pages):
    by_address = {page.url: page for page in pages.values()}
    assert where(pages, lambda page: broken_links(page.links, by_address)) == {}


def test_internal_links_of_the_pages_of_code_resolve(pages, book):
    by_address = {page.url: page for page in pages.values()}
    found = sorted((book / "_modules").rglob("*.html"))
    assert len(found) > 100
    for path in found:
        links = re.findall(r'<a\b[^>]*\bhref="([^"]*)"', path.read_text(encoding="utf-8"))
        assert len(links) > 20
        addresses = [urljoin(path.resolve().as_uri(), html.unescape(link)) for link in links]
        assert broken_links(addresses, by_address) == [], path


def test_no_place_of_a_page_has_the_name_of_another(pages):
    assert where(pages, lambda page: {name for name in page.ids if page.ids.count(name) > 1}) == {}


def test_nothing_is_wider_than_a_desktop_or_a_phone(pages):
    assert where(pages, lambda page: page.too_wide) == {}


def test_code_stands_in_its_box_on_a_desktop(chapters):
    assert where(chapters, lambda page: page.long_lines) == {}


def test_nothing_is_cut_off_at_the_edge_of_the_paper(pages):
    assert where(pages, lambda page: page.cut_off) == {}


def test_letters_of_plots_are_legible_at_every_width(chapters):
    for name, page in chapters.items():
        shares = notes(stored(Path(name).stem), "letters")
        assert set(page.plots) == {390, 500, 768, 1280}, name
        for width, seen in page.plots.items():
            assert too_small(seen, shares) == [], (name, width)


def test_axe_finds_no_barrier_at_either_width_and_in_either_scheme(pages):
    assert where(pages, lambda page: page.barriers) == {}


def test_every_passed_check_of_an_equation_is_marked(chapters):
    for name, page in chapters.items():
        source = (ROOT / "chapters" / Path(name).name).with_suffix(".ipynb").read_text(encoding="utf-8")
        printed = "".join(
            portable.joined(output.get("text", ""))
            for cell in json.loads(source)["cells"]
            for output in cell.get("outputs", [])
        )
        passed = {tag for tag, _ in portable.PASSED.findall(printed)}
        assert page.marks == len(passed & set(portable.tags_in(source))), name


def test_solutions_are_folded_and_open_with_the_keyboard(pages, reader, book):
    assert where(pages, lambda page: any(page.folds)) == {}
    name = next(name for name, page in pages.items() if page.folds)
    page, wrong = open_page(reader, book / name, home=book)
    for details in page.locator("article details").all():
        body = details.locator(":scope > :not(summary)").first
        assert not body.is_visible()
        details.locator("summary").first.focus()
        page.keyboard.press("Enter")
        assert body.is_visible()
    assert page.evaluate("[...document.querySelectorAll('details mjx-container')].every(e => e.offsetWidth > 0)")
    assert wrong == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_film_plays_is_scrubbed_and_obeys_the_keyboard(reader, book, pages, scheme):
    folder = book / "chapters"
    name = next(path for path in sorted(folder.glob("*.html")) if "minigen-film" in path.read_text(encoding="utf-8"))
    page, wrong = open_page(reader, name, home=book)
    page.emulate_media(color_scheme=scheme)
    plays(page, page.locator("figure.minigen-film").first)
    assert wrong == []


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "chapters").glob("*.ipynb")))
def test_a_chapter_opens_with_a_picture(reader, book, name):
    page, _ = open_page(reader, book / "chapters" / f"{name}.html", home=book)
    top = page.locator("article :is(.cell_output img, .minigen-drawing svg)").first.bounding_box()["y"]
    assert top < 900


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_drawings_stand_in_the_page_and_take_its_ink(reader, book, scheme):
    page, _ = open_page(reader, book / "chapters" / "02_minimax.html", home=book)
    page.emulate_media(color_scheme=scheme)
    ink = page.locator("figure.minigen-drawing svg text.ink").first
    assert ink.evaluate("e => getComputedStyle(e).fill") == page.locator("article p").first.evaluate(
        "e => getComputedStyle(e).color"
    )
    page.set_viewport_size({"width": 390, "height": 844})
    assert ink.bounding_box()["height"] >= 8


def test_folded_cells_are_closed_and_open(reader, book):
    page, _ = open_page(reader, book / "chapters" / "02_minimax.html", home=book)
    cell = page.locator("details.hide").first
    assert not cell.locator("pre").first.is_visible()
    cell.locator("summary").first.click()
    assert cell.locator("pre").first.is_visible()


def test_search_finds_pages_from_disk(reader, book):
    page, wrong = open_page(reader, book / "book" / "index.html", home=book)
    page.get_by_role("button", name="Search").first.click()
    page.keyboard.type("logistic")
    page.keyboard.press("Enter")
    page.wait_for_url("**/search.html?q=logistic")
    page.wait_for_selector("#search-results li a[href*='notation.html']")  # results come one by one
    assert wrong == []


def test_a_mark_leads_to_the_check_that_earned_it(reader, book, chapters):
    name = next(name for name, page in chapters.items() if page.marks)
    page, wrong = open_page(reader, book / name, home=book)
    mark = page.locator("div.checked a").first
    tag = mark.get_attribute("href").removeprefix("#check-")
    mark.click()
    cell = page.locator(f"[id='check-{tag}']").locator("xpath=following::div[contains(@class, 'cell')][1]")
    assert f"✓ ({tag})" in cell.inner_text()
    assert cell.bounding_box()["y"] < DESKTOP["height"]
    assert wrong == []


def test_the_reader_chooses_the_colours(reader, book):
    page, wrong = open_page(reader, book / "book" / "index.html", home=book)
    for choice in ("Dark", "Light", "Dark"):
        page.get_by_role("button", name="Color mode").click()
        page.get_by_role("button", name=choice, exact=True).click()
        assert page.evaluate("document.documentElement.dataset.theme") == choice.lower()
    page.reload()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark", "the choice is remembered"
    assert wrong == []


def test_the_top_folder_leads_to_the_front_page(reader, book):
    page = reader.new_page()
    page.goto((book / "index.html").as_uri())
    page.wait_for_url("**/book/index.html")
    assert page.locator("article h1").count() == 1
