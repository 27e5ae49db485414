"""Rows of panels: one picture each, all of one size, legible wherever they stand."""

from __future__ import annotations

import base64
import io
import re
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pytest
import torch
from PIL import Image

mpl.use("Agg")

from matplotlib import pyplot as plt

from minigen import show
from minigen.show.figures import LEGIBLE
from minigen.show.rows import smallest_text, without_a_rest

ALTS = ["A line that rises from 0 to 1.", "A line that falls, <fast>.", "A line that stays at one half."]


@pytest.fixture(autouse=True)
def _close():
    with mpl.rc_context():
        show.on_any_ground()
        yield
    plt.close("all")


def drawn(panels: int = 3) -> show.Row:
    row = show.Row(ALTS[:panels], size=(2.4, 2.0))
    for axes, line in zip(row, ([0, 1], [1, 0], [0.5, 0.5]), strict=False):
        axes.plot(line)
    return row


def test_each_panel_is_a_picture_of_its_own_without_a_ground() -> None:
    data = drawn()._repr_html_()
    images = ElementTree.fromstring(data).findall("img")  # well-formed, as an EPUB needs it
    assert [image.get("alt") for image in images] == ALTS
    assert {(image.get("width"), image.get("height")) for image in images} == {("240", "200")}
    pictures = [Image.open(io.BytesIO(base64.b64decode(image.get("src").split(",")[1]))) for image in images]
    assert {picture.size for picture in pictures} == {(360, 300)}
    assert all(np.asarray(picture.convert("RGBA"))[0, 0, 3] == 0 for picture in pictures)
    assert len({picture.tobytes() for picture in pictures}) == 3
    assert data == drawn()._repr_html_(), "the same row gives the same bytes"
    assert not plt.get_fignums(), "a notebook would show the panels once more"


def test_a_row_wraps_before_its_letters_are_too_small() -> None:
    data = drawn(2)._repr_html_()
    least = int(re.search(r"minmax\(min\(100%,(\d+)px\),1fr\)", data)[1])
    share = float(re.search(r'data-letters="([\d.]+)"', data)[1])
    assert share == pytest.approx(10 / 72 / 2.4, abs=1e-4), "10 points in 2.4 inches"
    assert 8 <= least * share < 8 + share + 0.01, "not narrower, and not sooner"


@pytest.mark.parametrize("panels", [1, 2, 3, 4, 6, 8, 10, 12])
@pytest.mark.parametrize("least", [60, 110, 165])
def test_no_line_of_a_row_is_shorter_where_it_can_be_helped(panels: int, least: int) -> None:
    width = without_a_rest(least, panels, 320)
    assert width >= least
    for room in (840, 358):
        line = (room + 8) // (width + 8)
        assert line >= panels or panels % line == 0
    assert without_a_rest(110, 7, 112) == 110, "no width up to 112 helps seven panels"


def test_panels_of_several_axes_and_shared_limits() -> None:
    row = show.Row(ALTS[:2], size=(2.2, 3.0), nrows=2)
    assert [axes.shape for axes in row] == [(2,), (2,)]
    row = drawn()
    row[0].set_ylim(-3, 1)
    row[2].set_ylim(0, 7)
    row.share("y")
    assert {axes.get_ylim() for axes in row} == {(-3, 7)}
    assert len({axes.get_xlim() for axes in row}) == 1


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: show.Row(ALTS, size=(8, 3)), "letters of 10 points in a panel 8 inches wide"),
        (lambda: show.Row([], size=(2, 2)), "say in alts"),
        (lambda: show.Row("A line that rises from 0 to 1.", size=(2, 2)), "say in alts"),
        (lambda: show.Row([*ALTS, "short"], size=(2, 2)), "say in alts"),
        (lambda: show.side_by_side(dict.fromkeys("abc", torch.zeros(4, 1, 8, 8))), "got 3: show.Row"),
        (lambda: show.clouds({title: {} for title in "abc"}, reach=1), "got 3: show.Row"),
    ],
)
def test_what_would_be_illegible_is_refused(make, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make()._repr_html_()


def test_the_smallest_text_is_what_is_drawn() -> None:
    figure, axes = plt.subplots()
    assert smallest_text(figure) == 10
    axes.set_title("large", fontsize=14)
    axes.plot([0, 1], label="a")
    axes.legend(fontsize=7)
    assert smallest_text(figure) == 7
    axes.text(0.5, 0.5, " ", fontsize=3)
    axes.text(0.5, 0.5, "not shown", fontsize=3, visible=False)
    assert smallest_text(figure) == 7
    axes.annotate("$x_t$", (0, 0), fontsize=6)
    assert smallest_text(figure) == 6
    axes.set_axis_off()
    axes.legend().remove()
    assert smallest_text(figure) == 6, "text in axes that are off is drawn"
    blank, axes = plt.subplots()
    axes.set_axis_off()
    assert smallest_text(blank) == float("inf"), "labels of ticks are not"


def test_wide_figures_of_images_have_letters_for_a_phone() -> None:
    digits = torch.zeros(14, 1, 8, 8)
    figures = [
        show.side_by_side({"a": digits, "b": digits}),
        show.film_strip([digits] * 3, ["a", "b", "c"]),
        show.film_strip([digits[:3]] * 3, ["a", "b", "c"]),
        show.clouds({"a": {"data": torch.zeros(3, 2)}, "b": {"data": torch.zeros(3, 2)}}, reach=1),
        show.scoreboard(torch.rand(8, 8), torch.rand(8, 8) < 0.5, list("abcdefgh"), ["a long\nname"] * 8),
    ]
    for figure in figures:
        assert smallest_text(figure) >= LEGIBLE * figure.get_figwidth() - 1e-9
    assert LEGIBLE / 72 * 350 >= 8
