"""What the browser tests look for, they find: each detector on a small page with that one defect."""

import re
from pathlib import Path

import pytest

import browser
from browser import DESKTOP, Visit, bad_images, broken_links, plays, raw_source, visit

pytestmark = pytest.mark.browser

PIXEL = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"
SOUND = f"""<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>Page</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>a {{ color: inherit }} @media (prefers-color-scheme: dark) {{ body {{ background: #111; color: #eee }} }}</style>
</head><body><main><article><h1 id="top">Title</h1>
<p>For $5, <code>$x$</code> <img src="{PIXEL}" alt="A black square"> <span>a link</span></p>
<pre tabindex="0" style="overflow: auto">{"long " * 200}</pre></article></main></body></html>"""

# What is wrong with a page, where it is put, and what the one detector that finds it says.
DEFECTS = {
    "errors": [
        ("<p>", "<script>console.error('no')</script><p>", "console: no"),
        ("<p>", "<script>nothing.there</script><p>", "script: nothing is not defined"),
        ("<p>", "<img src='http://127.0.0.1:9/a.png' alt='A cat' width='9'><p>", "left the page: http://127.0.0.1:9"),
        ("<p>", "<link rel='stylesheet' href='file:///etc/hostname'><p>", "left the page: file:///etc/hostname"),
        ("<p>", "<link rel='stylesheet' href='none.css'><p>", "failed: file:.*none.css"),
    ],
    "raw_source": [
        ("a link", "$x_t$", r"\$x_t\$"),
        ("a link", "$$", r"\$\$"),
        ("a link", r"\tag{2.1}", r"\\tag"),
        ("a link", "::::{note}", ":::"),
        ("a link", "**bold**", "bold"),
        ("a link", "<mjx-container><mjx-merror>Undefined</mjx-merror></mjx-container>", "Undefined"),
        ("a link", "<mjx-container></mjx-container>", "empty"),
    ],
    "bad_images": [
        ('alt="A black square"', 'alt="../_images/0123.png"', "_images/0123.png"),
        ('alt="A black square"', 'alt="plot.svg"', "plot.svg"),
        (PIXEL, "data:image/gif;base64,AAAA", "A black square"),
    ],
    "broken_links": [
        ("<span>a link</span>", "<a href='none.html'>a link</a>", "none.html"),
        ("<span>a link</span>", "<a href='page.html#bottom'>a link</a>", "#bottom"),
    ],
    "too_wide": [
        ("<p>", "<p style='width: 600px'>", "390: P"),
        ("<p>", "<p style='width: 1400px'>", "1280: P"),
        ("<p>", "<div style='overflow: hidden'><figure style='width: 600px'>a</figure></div><p>", "390: FIGURE"),
        ("overflow: auto", "overflow: visible", "390: .* pixels too wide"),
    ],
    "barriers": [
        ("<p>", "<p style='color: #999; background: #fff'>", "light: color-contrast"),
        ("color: #eee", "color: #333", "390 dark: color-contrast"),
        ("<span>a link</span>", "<button></button>", "button-name"),
        ("<span>a link</span>", "<input type='range'>", "label"),
        ('tabindex="0"', 'tabindex="-1"', "scrollable-region-focusable"),
        (' lang="en"', "", "html-has-lang"),
        ("</p>", "<ul><p>no entry</p></ul></p>", "list"),
    ],
    "cut_off": [
        ("<p>", "<style>@media print { h2 { width: 900px } }</style><h2>wide on paper</h2><p>", "H2"),
    ],
    "long_lines": [("<pre", "<div class='cell_input'><pre", "long long")],
}  # fmt: skip


def test_links_to_pages_that_were_not_opened_are_looked_up_in_their_files(tmp_path: Path) -> None:
    other = tmp_path / "other page.html"
    other.write_text('<p id="a&amp;b">there</p><p class="c" id="d">and there</p>', encoding="utf-8")
    address = other.as_uri()
    good = [address, f"{address}#a%26b", f"{address}#d", "https://example.org/none.html#none"]
    bad = [f"{address}#c", f"{address}#there", (tmp_path / "none.html").as_uri()]
    assert broken_links(good + bad, {}) == bad


@pytest.fixture(scope="module")
def context(chromium):
    context = chromium.new_context(viewport=DESKTOP, color_scheme="light")
    yield context
    context.close()


def findings(page: Visit) -> dict[str, list[str]]:
    found = {
        "errors": page.errors,
        "raw_source": raw_source(page),
        "bad_images": bad_images(page),
        "broken_links": broken_links(page.links, {page.url: page}),
        "too_wide": page.too_wide,
        "barriers": page.barriers,
        "long_lines": page.long_lines,
        "cut_off": page.cut_off,
    }
    return {name: what for name, what in found.items() if what}


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(browser, "PATIENCE", 2.0)


def look(context, folder: Path, text: str) -> dict[str, list[str]]:
    (folder / "page.html").write_text(text, encoding="utf-8")
    return findings(visit(context, folder / "page.html", home=folder))


def test_a_sound_page_has_no_defect(context, tmp_path):
    assert look(context, tmp_path, SOUND) == {}


@pytest.mark.parametrize(
    ("detector", "before", "after", "says"),
    [(detector, *defect) for detector, defects in DEFECTS.items() for defect in defects],
)
def test_a_defect_is_found(context, tmp_path, detector, before, after, says):
    assert before in SOUND
    found = look(context, tmp_path, SOUND.replace(before, after, 1))
    assert any(re.search(says, what) for what in found[detector]), found
    allowed = {detector, "errors"} if "127.0.0.1" in after else {detector}
    allowed |= {"cut_off"} if detector in ("too_wide", "long_lines") else set()
    assert set(found) - {"bad_images"} <= allowed, found


def test_an_image_without_alternative_text_is_found_twice(context, tmp_path):
    found = look(context, tmp_path, SOUND.replace('alt="A black square"', ""))
    assert found["bad_images"]
    assert any("image-alt" in what for what in found["barriers"])


def test_plots_are_measured_at_every_width(context, tmp_path):
    plot = f'<img src="{PIXEL}" data-letters="0.03" style="width: 50%" alt="A black square">'
    text = SOUND.replace("<p>", f'<div class="cell_output">{plot}</div><p>', 1)
    (tmp_path / "page.html").write_text(text, encoding="utf-8")
    seen = visit(context, tmp_path / "page.html", home=tmp_path).plots
    assert list(seen) == [1280, 390, 500, 768]
    for width, ((share, shown),) in seen.items():
        assert share == "0.03"
        assert width / 2 - 10 < shown < width / 2
    (tmp_path / "page.html").write_text(SOUND, encoding="utf-8")
    assert visit(context, tmp_path / "page.html", home=tmp_path).plots == {1280: []}


FILM = """<figure><img src="data:,0" alt="Film"><button onclick="PLAY">Play</button>
<input type="range" min="0" max="9" value="9" style="width: 300px" aria-valuetext="step 9" oninput="show(value)">
<script>
const [image, button, slider] = ["img", "button", "input"].map(tag => document.querySelector(tag));
const show = n => { slider.value = n; image.src = `data:,${n}` };
show(9);
let timer = null;
const toggle = () => {
  button.textContent = timer ? "Play" : "Pause";
  timer = timer ? clearInterval(timer) : setInterval(() => show((+slider.value + 1) % 10), 50);
};
</script></figure>""".replace("PLAY", "toggle()")


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ("oninput", "data-no", "Home key"),
        ("setInterval(() => show((+slider.value + 1) % 10), 50)", "1", "it plays"),
        ("clearInterval(timer)", "null", "it stops"),
        ("aria-valuetext", "data-no", "screen reader"),
        ("<button onclick", "<span onclick", None),
        ("", "", ""),
    ],
)
def test_a_film_that_does_not_play_is_found(context, tmp_path, before, after, says):
    (tmp_path / "film.html").write_text(FILM.replace(before, after, 1), encoding="utf-8")
    page = context.new_page()
    page.set_default_timeout(2000)
    page.goto((tmp_path / "film.html").as_uri())
    if says == "":
        plays(page, page.locator("figure"))
    else:
        with pytest.raises(Exception, match=says):
            plays(page, page.locator("figure"))
    page.close()
