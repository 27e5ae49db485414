"""Open a page in a headless browser as readers do, and say what is wrong with it.

A page is opened once, wide and light; then it is turned dark and narrowed to a phone, and looked at after each change.
What was seen is a `Visit`; each function below finds one kind of defect in it.
"""

from __future__ import annotations

import html
import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import pytest

import printing
from minigen.show.rows import LEAST
from printing import TYPESET

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Locator, Page

ROOT = Path(__file__).parents[1]
AXE = ROOT / "tests" / "vendor" / "axe-core" / "axe.min.js"
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
LARGE_PHONE, TABLET = {"width": 500, "height": 844}, {"width": 768, "height": 1024}
PAPER = {"width": 657, "height": 980}  # A4 less its margins, 174 mm at 96 pixels to the inch


@contextmanager
def headless() -> Iterator[Browser]:
    """A headless browser; without one the tests skip, but not in continuous integration."""
    if not (found := printing.browser()):
        reason = "no browser: install chromium, or name one in MINIGEN_BROWSER"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


def watch(page: Page, home: str) -> list[str]:
    """What goes wrong on a page from now on: errors, failed requests, and requests that leave `home`."""
    wrong: list[str] = []
    page.on("console", lambda message: message.type == "error" and wrong.append(f"console: {message.text}"))
    page.on("pageerror", lambda error: wrong.append(f"script: {error}"))
    page.on("requestfailed", lambda request: wrong.append(f"failed: {request.url}"))
    page.on(
        "request",
        lambda request: (
            request.url.startswith((home, "data:", "blob:")) or wrong.append(f"left the page: {request.url}")
        ),
    )
    return wrong


def open_page(context: BrowserContext, path: Path, *, home: Path) -> tuple[Page, list[str]]:
    """Open a page from disk and wait for its formulas; also returns what goes wrong, as it happens."""
    page = context.new_page()
    wrong = watch(page, home.resolve().as_uri())
    page.goto(path.resolve().as_uri())
    page.evaluate(TYPESET)
    return page, wrong


@dataclass(frozen=True)
class Visit:
    """What was seen on one page."""

    url: str
    errors: list[str]  # of the console, of scripts, of requests
    text: str  # without code and typeset formulas
    formulas: int
    wrong_formulas: list[str]  # that MathJax could not read, or that take no room
    images: list[tuple[str, str | None, int]]  # source, alternative text, width in pixels of the file
    links: list[str]
    ids: list[str]
    folds: list[bool]  # whether each <details> stands open
    marks: int  # equations with the mark of a check
    long_lines: list[str]  # boxes of code that scroll sideways on a desktop
    too_wide: list[str]  # what makes the page scroll sideways, on a desktop or a phone
    barriers: list[str]  # findings of axe-core, of any impact
    cut_off: list[str]  # what sticks out of the right edge of the paper
    plots: dict[int, list[tuple[str, float]]]  # at each width of a window: own share of letters or "", width of a plot


SEEN = r"""() => {
  const all = (selector, what) => [...document.querySelectorAll(selector)].map(what);
  const article = (document.querySelector("article") ?? document.body).cloneNode(true);
  article.querySelectorAll("pre, code, .sig, mjx-container, script, style").forEach(element => element.remove());
  const empty = all("mjx-container", e => e.checkVisibility() && e.getBoundingClientRect().width === 0 ? "empty" : "");
  return {
    text: article.textContent,
    formulas: all("mjx-container", element => element).length,
    wrong_formulas: [...all("mjx-merror", element => element.textContent), ...empty.filter(Boolean)],
    images: all("img", image => [image.src.slice(0, 99), image.getAttribute("alt"), image.naturalWidth]),
    links: all("a[href]", link => link.href),
    ids: all("[id]", element => element.id),
    folds: all("article details", details => details.open),
    marks: all("div.checked a", link => link).length,
    long_lines: [...document.querySelectorAll(".cell_input pre")]
      .filter(box => box.scrollWidth > box.clientWidth).map(box => box.textContent.trim()),
  };
}"""

# A wide element in a box that scrolls is no overflow; one that is cut off by its box is.
TOO_WIDE = r"""() => {
  const room = document.documentElement.clientWidth;
  const free = element => {
    for (let box = element.parentElement; box; box = box.parentElement) {
      if (["auto", "scroll"].includes(getComputedStyle(box).overflowX) && box !== document.body
          && box !== document.documentElement) return false;
    }
    return element.checkVisibility();
  };
  const blocks = "h1, h2, h3, p, li, dt, dd, pre, table, img, figure, button, input, summary, div.math, div.checked";
  const bars = [...document.querySelectorAll("[class*=bd-sidebar-]")];
  const found = [...document.querySelectorAll(`:is(article, main, body) :is(${blocks})`)]
    .filter(element => element.closest("dialog:not([open]), [class*=bd-sidebar-]") === null)
    .filter(element => element.getBoundingClientRect().right > room + 1 && free(element))
    .concat(bars.filter(bar => bar.scrollWidth > bar.clientWidth + 1))
    .map(({tagName, className, textContent}) => `${room}: ${tagName} ${className} ${textContent.trim().slice(0, 60)}`);
  const more = document.documentElement.scrollWidth - room;
  if (more <= 0 || found.length) return found;
  const spills = element => element.clientWidth && element.scrollWidth > element.clientWidth + 1
    && getComputedStyle(element).overflowX === "visible" && free(element);
  const culprits = [...document.querySelectorAll("article, article *")]
    .filter(element => spills(element) && ![...element.children].some(spills));
  return [`${room}: ${more} pixels too wide: ${culprits[0]?.outerHTML.slice(0, 200)}`];
}"""

# Whether a text is cut off at the right edge of the paper: what sticks out, and by how many pixels.
OUTSIDE = """width => [...document.querySelectorAll("article *")].flatMap(element => {
  const box = element.getBoundingClientRect(), hidden = element.closest("mjx-assistive-mml, .visually-hidden, title");
  return box.width && !hidden && box.right > width + 1 ? [`${element.tagName}.${element.className} ${box.right}`] : [];
})"""

# A row says the share of its width that letters have; of other pictures the notebook does. Films have neither.
PLOTS = """() => [...document.querySelectorAll("article .cell_output img:not(.minigen-film img)")]
  .filter(image => image.dataset.letters || !image.src.startsWith("data:"))
  .map(image => [image.dataset.letters ?? "", image.getBoundingClientRect().width])"""

# Thousands of glyphs and of coloured words of code make a check of a chapter slow. The glyphs are not text, and two
# words of code of one kind on one ground look alike: one of each kind is enough. `FULL` puts the glyphs back.
THIN = r"""() => {
  const formulas = [...document.querySelectorAll("mjx-math")];
  window.glyphs ??= new Map(formulas.map(formula => [formula, [...formula.childNodes]]));
  window.glyphs.forEach((_, formula) => formula.replaceChildren());
  const kinds = new Set();
  document.querySelectorAll("pre span[class], .sig span[class]").forEach(word => {
    const kind = word.className + word.closest(".sig, div[class]")?.className;
    if (kinds.has(kind)) word.replaceWith(...word.childNodes);
    kinds.add(kind);
  });
}"""
FULL = "() => window.glyphs.forEach((parts, formula) => formula.replaceChildren(...parts))"

BARRIERS = r"""async rules => {
  const results = await axe.run(document, {resultTypes: ["violations"], preload: false, ...rules});
  const scheme = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  const mode = `${document.documentElement.clientWidth} ${scheme}`;
  return results.violations.flatMap(({id, nodes}) => nodes.map(({target, html, failureSummary}) =>
    `${mode}: ${id}: ${target.join(" ")}: ${html.slice(0, 120)}: ${failureSummary.split("\n")[1].trim()}`));
}"""

OF_COLOUR = ["color-contrast", "link-in-text-block"]  # what can differ between the schemes, and takes the longest
STRUCTURE = {"rules": {rule: {"enabled": False} for rule in OF_COLOUR}}
COLOURS = {"runOnly": OF_COLOUR}
# Structure at both widths, colours in both schemes. What changes its colours with the width is the frame of the theme,
# which all pages share: `test_contents` opens it in all four ways.
PATIENCE = 20.0  # seconds for the theme to make what scrolls a stop of the Tab key

# The theme makes what scrolls a stop of the Tab key, a moment after the width has changed: so, for half a second.
REACHABLE = r"""() => {
  const reached = [...document.querySelectorAll("pre, div.math, .pst-scrollable-table-container")]
    .every(box => box.scrollWidth <= box.clientWidth || box.tabIndex === 0);
  const now = performance.now();
  if (window.widthThen !== innerWidth || !reached) window.reachedSince = now;
  window.widthThen = innerWidth;
  return reached && now - window.reachedSince > 500;
}"""


def tour(context: BrowserContext, paths: Iterable[Path], *, home: Path) -> dict[Path, Visit]:
    """Look at pages, one after the other in one tab: a tab behind another has slow clocks."""
    page = context.new_page()
    wrong = watch(page, home.resolve().as_uri())
    found = {path: look(page, path, wrong) for path in paths}
    page.close()
    return found


def look(page: Page, path: Path, wrong: list[str]) -> Visit:
    """Look at a page: on a desktop, in light colours; on a phone, in light and in dark ones; on other widths; on paper.

    page: a tab. wrong: what goes wrong in it, as it happens.
    """
    before = len(wrong)
    page.set_viewport_size(DESKTOP)
    page.emulate_media(color_scheme="light")
    page.goto(path.resolve().as_uri())
    page.evaluate(TYPESET)
    seen, wide, plots = page.evaluate(SEEN), page.evaluate(TOO_WIDE), {DESKTOP["width"]: page.evaluate(PLOTS)}
    page.evaluate(THIN)
    page.evaluate(AXE.read_text(encoding="utf-8"))
    barriers = _barriers(page, "light", {})

    page.evaluate(FULL)
    page.set_viewport_size(PHONE)
    wide += page.evaluate(TOO_WIDE)
    page.evaluate(THIN)
    barriers += _barriers(page, "light", STRUCTURE) + _barriers(page, "dark", COLOURS)

    page.evaluate(FULL)
    for size in (PHONE, LARGE_PHONE, TABLET) if plots[DESKTOP["width"]] else ():
        page.set_viewport_size(size)
        plots[size["width"]] = page.evaluate(PLOTS)
    page.set_viewport_size(PAPER)
    page.emulate_media(color_scheme="light", media="print")
    cut_off = page.evaluate(OUTSIDE, PAPER["width"])
    page.emulate_media(media="screen")
    found = {"too_wide": wide, "barriers": barriers, "cut_off": cut_off, "plots": plots}
    return Visit(url=page.url, errors=wrong[before:], **found, **seen)


def _barriers(page: Page, scheme: str, rules: dict[str, object]) -> list[str]:
    """What axe-core finds in one colour scheme, once the theme has followed the scheme and the width."""
    from playwright.sync_api import TimeoutError

    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page.wait_for_function("s => (document.documentElement.dataset.theme ?? s) === s", arg=scheme, timeout=5000)
    with suppress(TimeoutError):  # if never, axe-core says where
        page.wait_for_function(REACHABLE, timeout=1000 * PATIENCE, polling=50)
    found: list[str] = page.evaluate(BARRIERS, rules)
    return found


def visit(context: BrowserContext, path: Path, *, home: Path) -> Visit:
    """Look at one page."""
    return tour(context, [path], home=home)[path]


def stored(name: str) -> dict[str, Any]:
    return json.loads((ROOT / "chapters" / f"{name}.ipynb").read_text(encoding="utf-8"))


def notes(notebook: dict[str, Any], what: str) -> list[float | None]:
    """What a notebook says of its plots, in order, "letters" or "columns"; None where it says nothing."""
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    return [output["metadata"].get("image/png", {}).get(what) for output in pictures]


def too_small(seen: list[tuple[str, float]], shares: list[float | None]) -> list[str]:
    """The pictures of a page whose smallest letters are below 8 pixels; seen: (own share or "", width shown)."""
    told = iter(shares)
    wrong = []
    for number, (own, width) in enumerate(seen):
        share = float(own) if own else next(told, None)
        if share is None:
            wrong.append(f"picture {number}: nothing is known of its letters; execute the chapter again")
        elif share and round(share * width, 1) < LEAST:
            wrong.append(f"picture {number}: {share * width:.1f} pixels high where it is {width:.0f} wide")
    return wrong + [f"{left} pictures of the notebook are not on the page" for left in [len(list(told))] if left]


RAW = re.compile(
    r"\$\$|\$[^\s$](?:[^$\n]*[^\s$])?\$|\\(?:tag|begin|frac|mathbb|mathrm|log|theta)\b|:::|\]\(|\*\*\w[^*\n]*\*\*|\{\w+\}`"
)


def raw_source(page: Visit) -> list[str]:
    """TeX or Markdown that reached the reader as it was written, and formulas that are not shown."""
    return RAW.findall(page.text) + page.wrong_formulas


def bad_images(page: Visit) -> list[str]:
    """Images that do not load, or whose alternative text is missing or a path."""
    path = re.compile(r"^(<Figure|\.{0,2}/|_images)|^\S+\.(png|jpe?g|gif|svg|webp)$")
    return [f"{src}: {alt!r}" for src, alt, width in page.images if not alt or path.search(alt) or width == 0]


@cache
def places(path: Path) -> frozenset[str]:
    """The ids of a page as it was written."""
    return frozenset(html.unescape(name) for name in re.findall(r'\bid="([^"]*)"', path.read_text(encoding="utf-8")))


def broken_links(links: Iterable[str], pages: dict[str, Visit]) -> list[str]:
    """Links to a file that is not there, or to a place that its page does not have. pages: those opened, by address."""
    broken = []
    for link in links:
        target, _, anchor = link.partition("#")
        parts = urlsplit(target)
        if parts.scheme != "file":
            continue
        path = Path(unquote(parts.path))
        if target in pages:
            there = not anchor or unquote(anchor) in pages[target].ids
        else:
            there = path.is_file() and (not anchor or unquote(anchor) in places(path))
        if not there:
            broken.append(link)
    return broken


CHANGES = """(image, count) => new Promise(done => {
  const watcher = new MutationObserver(changes => (count -= changes.length) <= 0 && done(true));
  watcher.observe(image, {attributeFilter: ["src"]});
  setTimeout(() => done(false), 5000);
})"""


def plays(page: Page, player: Locator) -> None:
    """A film plays and stops, is scrubbed, and does all that with the keyboard alone."""
    from playwright.sync_api import expect

    image, slider = player.locator("img"), player.get_by_role("slider")
    slider.scroll_into_view_if_needed()
    last = image.get_attribute("src")
    slider.focus()
    page.keyboard.press("Home")
    first = image.get_attribute("src")
    assert first != last, "the Home key shows the first frame"
    assert slider.input_value() == "0"
    page.keyboard.press("ArrowRight")
    second = image.get_attribute("src")
    assert second != first, "an arrow key shows the next frame"
    assert slider.get_attribute("aria-valuetext"), "a screen reader says which frame is shown"

    player.get_by_role("button", name="Play").focus()
    page.keyboard.press("Enter")
    expect(player.get_by_role("button", name="Pause")).to_be_focused()
    assert image.evaluate(CHANGES, 3), "it plays"
    page.keyboard.press("Space")
    expect(player.get_by_role("button", name="Play")).to_be_focused()
    paused = slider.input_value()
    page.wait_for_timeout(700)
    assert slider.input_value() == paused, "it stops"

    box = slider.bounding_box()
    assert box
    page.mouse.click(box["x"] + 1, box["y"] + box["height"] / 2)
    assert image.get_attribute("src") == first, "the left end of the slider is the first frame"
    page.mouse.click(box["x"] + box["width"] - 1, box["y"] + box["height"] / 2)
    assert image.get_attribute("src") == last, "the right end of the slider is the last frame"
