"""Pictures, films, sliders and the live view of a training run. Drawing libraries are imported when they draw."""

from __future__ import annotations

from typing import TYPE_CHECKING

from minigen.show.drawings import Drawing
from minigen.show.figures import (
    COLOURS,
    INK,
    clouds,
    curves,
    field,
    film_strip,
    image_grid,
    images,
    lattice,
    on_any_ground,
    plane,
    scatter,
    scoreboard,
    side_by_side,
    vectors,
)
from minigen.show.films import Film, film, png, slider, tiles
from minigen.show.live import LiveView, live
from minigen.show.rows import Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Figure

__all__ = [
    "COLOURS",
    "INK",
    "Drawing",
    "Film",
    "LiveView",
    "Row",
    "clouds",
    "curves",
    "field",
    "film",
    "film_strip",
    "image_grid",
    "images",
]
__all__ += [
    "lattice",
    "live",
    "on_any_ground",
    "plane",
    "png",
    "scatter",
    "scoreboard",
    "side_by_side",
    "slider",
    "tiles",
    "vectors",
]
