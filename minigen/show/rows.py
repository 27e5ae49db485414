"""Panels side by side as one picture each, in a row that wraps where a page is narrow.

A figure with many columns of panels shrinks on a phone until its letters cannot be read. A row does not: as many
panels stand beside each other as leave the letters `LEAST` pixels high, and the others follow below, all of one size.
"""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from minigen.show.drawings import NARROW
from minigen.show.films import png

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEAST = 8.0  # pixels: the height of the smallest letters on any page
INCH = 100  # pixels of a page for an inch, where there is room: what a notebook gives to a figure
GAP = 8  # pixels between panels
ROOMS = (840, 358)  # pixels that the book leaves for a row on pages 1,280 and 390 wide


class Row:
    """Panels of one size, to be drawn on like the axes of `plt.subplots`; as a cell's last expression it shows them.

    alts: what each panel shows, in a sentence, for readers who do not see it. size: of each, (width, height) in inches.
    options: those of `plt.subplots`, for panels that are made of several axes, such as nrows=2.

    The order of the panels is that of `alts`, but where one stands depends on the page: a caption calls them by their
    titles, not left and right. Letters of fewer than 8 pixels on a page 390 wide raise a ValueError when it is shown.

    >>> row = Row(["A line that rises from 0 to 1.", "A line that falls from 1 to 0."], size=(2.4, 2.0))
    >>> for axes, line in zip(row, ([0, 1], [1, 0]), strict=True):
    ...     _ = axes.plot(line)
    >>> row
    A row of 2 panels: A line that rises from 0 to 1. A line that falls from 1 to 0.
    """

    def __init__(self, alts: Sequence[str], *, size: tuple[float, float], **options: Any) -> None:
        from matplotlib import pyplot as plt

        if isinstance(alts, str) or not alts or min(map(len, alts)) < 20:
            raise ValueError(f"say in alts what each panel shows, a sentence each; got {alts!r}")
        self.alts, self.axes, self.figures = list(alts), [], []
        for _ in self.alts:
            figure, axes = plt.subplots(figsize=size, layout="constrained", **options)
            plt.close(figure)  # a notebook would show it once more, on its own
            self.figures.append(figure)
            self.axes.append(axes)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.axes)

    def __getitem__(self, number: int) -> Any:
        return self.axes[number]

    def __len__(self) -> int:
        return len(self.axes)

    def share(self, axis: str = "y") -> None:
        """Give all panels the same limits, those that hold what each shows; axis: "x" or "y"."""
        limits = [getattr(axes, f"get_{axis}lim")() for axes in self.axes]
        low, high = (choose(end) for choose, end in zip((min, max), zip(*limits, strict=True), strict=True))
        for axes in self.axes:
            getattr(axes, f"set_{axis}lim")(low, high)

    def __repr__(self) -> str:
        return f"A row of {len(self)} panels: {' '.join(self.alts)}"

    def _repr_html_(self) -> str:
        pictures = [png(figure, dpi=round(1.5 * INCH)) for figure in self.figures]  # sharp on a phone as well
        width, height = (round(INCH * inches) for inches in self.figures[0].get_size_inches())
        letters = min(map(smallest_text, self.figures)) * INCH / 72  # pixels, on a page with room
        least = math.ceil(LEAST * width / letters)
        if least > NARROW:
            raise ValueError(
                f"letters of {letters * 72 / INCH:g} points in a panel {width / INCH:g} inches wide are "
                f"{letters * NARROW / width:.1f} pixels high on a phone, and {LEAST:g} is the least: "
                f"give larger letters, or panels of at most {letters * NARROW / LEAST / INCH:.1f} inches"
            )
        least = without_a_rest(least, len(self), width)
        columns = f"repeat(auto-fit,minmax(min(100%,{least}px),1fr))"
        room = len(self) * (width + GAP) - GAP
        style = f"display:grid;grid-template-columns:{columns};gap:{GAP}px;max-width:{room}px;margin:0"
        images = "".join(
            f'<img src="data:image/png;base64,{base64.b64encode(picture).decode()}" alt="{html.escape(alt)}" '
            f'width="{width}" height="{height}" data-letters="{letters / width:.4f}" '
            f'style="width:100%;max-width:{width}px;height:auto;margin:0;padding:0;background:none" />\n'
            for picture, alt in zip(pictures, self.alts, strict=True)
        )
        label = f"{len(self)} panels"
        return f'<figure class="minigen-row" role="group" aria-label="{label}" style="{style}">\n{images}</figure>'


def without_a_rest(least: int, panels: int, most: int) -> int:
    """The smallest width of a panel, from least to most, that leaves no shorter last line on a desktop and a phone."""
    for width in range(least, min(most, NARROW) + 1):
        lines = [max(1, (room + GAP) // (width + GAP)) for room in ROOMS]
        if all(line >= panels or panels % line == 0 for line in lines):
            return width
    return least


def smallest_text(figure: Figure) -> float:
    """Points of the smallest text that a figure draws, infinity for none; a formula counts as its letters do."""
    from matplotlib.backend_bases import RendererBase

    sizes = [math.inf]

    class Listener(RendererBase):
        def draw_text(self, gc: Any, x: float, y: float, s: str, prop: Any, *_: Any, **__: Any) -> None:
            if s.strip():
                sizes.append(prop.get_size_in_points())

        def draw_path(self, *_: Any, **__: Any) -> None:
            pass

        draw_image = draw_path

    # Positions are those of the last drawing: here only the texts matter.
    engine = figure.get_layout_engine()
    figure.set_layout_engine("none")
    try:
        figure.draw(Listener())
    finally:
        figure.set_layout_engine(engine)
    return min(sizes)
