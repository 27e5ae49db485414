"""Drawings: well formed, legible on a phone and on any ground, the same each time."""

from __future__ import annotations

import base64
import math
import re
import xml.etree.ElementTree as ET

import pytest
import torch

from minigen.show import Drawing
from minigen.show.drawings import LETTER, NARROW, ROLES, SMALL, Box
from minigen.show.figures import INK

ALT = "Noise goes through the generator and comes out as a sample."
SVG = "{http://www.w3.org/2000/svg}"


def drawing() -> Drawing:
    made = Drawing(300, 160, alt=ALT)
    z, generator = made.box(50, 40, "z", "noise"), made.box(220, 40, "G & D", "generator")
    made.arrow(z, generator, "a < b")
    made.arrow(generator, z, gradient=True, stop=True, bend=20)
    made.picture(50, 110, torch.zeros(2, 3, 4, 4), size=60, columns=2)
    return made


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    r, g, b = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_it_is_an_image_with_an_alternative_text_and_the_same_each_time() -> None:
    svg = drawing().svg()
    root = ET.fromstring(svg)
    assert svg == drawing().svg()
    assert (root.get("role"), root.get("aria-label")) == ("img", ALT)
    assert [text.text for text in root.iter(f"{SVG}text")] == ["z", "G & D", "a < b"]
    bundle = drawing()._repr_mimebundle_()
    assert bundle["image/svg+xml"] == svg
    image = re.search(r'<img src="data:image/svg\+xml;base64,([^"]+)" alt="([^"]+)"', bundle["text/html"])
    assert base64.b64decode(image[1]).decode() == svg
    assert image[2] == ALT


def test_letters_are_legible_on_a_phone_and_colours_on_any_ground() -> None:
    assert min(LETTER, SMALL) * NARROW / 560 >= 8
    assert all(contrast("#ffffff", colour) >= 4.5 for colour in ROLES.values())
    assert all(contrast(colour, ground) >= 3 for colour in ROLES.values() for ground in ("#ffffff",))
    assert min(contrast(INK, "#ffffff"), contrast(INK, "#000000")) >= 4.5


@pytest.mark.parametrize("angle", range(0, 360, 15))
def test_an_arrow_ends_at_the_edges_and_points_at_its_end(angle: int) -> None:
    made = Drawing(500, 500, alt=ALT)
    end = made.box(250 + 180 * math.cos(math.radians(angle)), 250 + 180 * math.sin(math.radians(angle)), "end", "data")
    start = made.box(250, 250, "start", "noise")
    made.arrow(start, end)
    x0, y0, _, _, x1, y1 = map(float, re.findall(r"-?\d+\.\d+", re.search(r'd="(M[^"]+)"', made.parts[-2])[1]))

    def outside(box: Box, x: float, y: float) -> float:
        return max(abs(x - box.x) - box.width / 2, abs(y - box.y) - box.height / 2)

    assert 3 <= outside(start, x0, y0) <= 5
    assert 6 <= outside(end, x1, y1) <= 8
    tip = tuple(map(float, re.search(r'points="([^ ]+)', made.parts[-1])[1].split(",")))
    assert math.dist(tip, (end.x, end.y)) < math.dist((x1, y1), (end.x, end.y)), "the tip is nearer than the line's end"
    assert (x1 - x0) * (end.x - start.x) + (y1 - y0) * (end.y - start.y) > 0


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Drawing(700, 100, alt=ALT), "at most 560"),
        (lambda: Drawing(100, 100, alt="short"), "say in alt"),
        (lambda: drawing().box(100, 100, "x", "model"), "role must be one of data, noise"),
        (lambda: drawing().box(290, 100, "wide text", "data"), "over the edge"),
        (lambda: drawing().box(100, 100, "a long text", "data", width=20), "needs a box"),
        (lambda: drawing().label(100, 158, "low"), "over the edge"),
        (lambda: Box(1, 1, 1, 1).edge(1, 1), "both ends are the same"),
    ],
)
def test_what_would_be_illegible_is_refused(make, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make()
