"""Letters of plots are 8 pixels high or more, on a desktop and on a phone; no plot has three columns of panels."""

from __future__ import annotations

import base64
from pathlib import Path

import matplotlib as mpl
import pytest

mpl.use("Agg")

import letters
from matplotlib import pyplot as plt

from browser import DESKTOP, PHONE, ROOT, notes, open_page, stored, too_small

CHAPTERS = sorted(path.stem for path in (ROOT / "chapters").glob("[0-9]*.ipynb"))


def too_wide(columns: list[float | None]) -> list[str]:
    """The pictures of a notebook with more than two panels beside each other."""
    return [f"picture {number}: {found} columns" for number, found in enumerate(columns) if found not in (0, 1, 2)]


@pytest.mark.parametrize("name", CHAPTERS)
def test_no_plot_has_three_columns_of_panels(name: str) -> None:
    assert too_wide(notes(stored(name), "columns")) == []


@pytest.mark.browser
def test_a_row_is_one_row_on_a_desktop_and_wraps_on_a_phone(chromium, book: Path) -> None:
    rows = """() => [...document.querySelectorAll("figure.minigen-row")].map(row => {
      const boxes = [...row.querySelectorAll("img")].map(image => image.getBoundingClientRect());
      const different = side => new Set(boxes.map(box => Math.round(box[side]))).size;
      return [boxes.length, different("top"), different("width")];
    })"""
    context = chromium.new_context(viewport=DESKTOP)
    page, _ = open_page(context, book / "chapters" / "10_autoregressive.html", home=book)
    wide = page.evaluate(rows)
    page.set_viewport_size(PHONE)
    narrow = page.evaluate(rows)
    assert len(wide) >= 4
    for (panels, lines, sizes), (_, wrapped, sizes_there) in zip(wide, narrow, strict=True):
        assert (lines, sizes, sizes_there) == (1, 1, 1)
        assert wrapped >= panels / 2
    context.close()


# The rules themselves


def grids():
    yield plt.subplots(2, 2)[0], 2
    yield plt.subplots(3, 1)[0], 1
    yield plt.subplots(1, 3)[0], 3
    yield plt.subplot_mosaic("aab;ccd")[0], 2
    yield plt.subplot_mosaic("aa;bb")[0], 1
    figure, axes = plt.subplots(1, 2)
    figure.colorbar(axes[1].imshow([[0, 1]]), ax=axes[1])
    yield figure, 2
    figure = plt.figure()
    for left in (0, 0.35, 0.7):
        figure.add_axes((left, 0, 0.3, 1))
    yield figure, 3
    figure, axes = plt.subplots()
    axes.twinx()
    yield figure, 1
    yield plt.figure(), 0


def test_columns_of_panels_are_counted_however_they_were_made() -> None:
    with mpl.rc_context({"figure.max_open_warning": 0}):
        for number, (figure, expected) in enumerate(grids()):
            assert letters.columns(figure) == expected, number
    plt.close("all")
    assert too_wide([0, 1, 2]) == []
    assert too_wide([3])
    assert too_wide([None]), "executed before it was counted"


def test_a_picture_takes_its_note_along() -> None:
    figure, axes = plt.subplots(1, 2, figsize=(5, 2))
    axes[0].set_title("small", fontsize=6)
    data, note = letters.print_figure(figure, base64=True, bbox_inches=None)
    assert base64.b64decode(data).startswith(b"\x89PNG")
    assert note == {"letters": round(6 / 72 / 5, 4), "columns": 2}
    for ax in axes:
        ax.set_axis_off()
    axes[0].set_title("")
    assert letters.print_figure(figure, base64=True)[1]["letters"] == 0
    assert not isinstance(letters.print_figure(figure, fmt="svg"), tuple)
    plt.close(figure)


def test_rule_finds_small_letters() -> None:
    assert too_small([("", 350), ("0.05", 170), ("", 350)], [0.0229, 0]) == []
    assert too_small([("", 350)], [0.0217]), "8 points in a figure of 5 inches"
    assert too_small([("0.0460", 170)], []), "a row that did not wrap"
    assert too_small([("", 350)], [None])
    assert too_small([("", 350)], [])
    assert too_small([], [0.03]), "a picture that is not on the page"
