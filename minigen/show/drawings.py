"""Drawings of who feeds whom: boxes, arrows and small pictures, as SVG.

One visual language for the whole book. A box has the colour of its role: data, noise, generator, discriminator,
network, loss. A solid arrow carries values forward; a dashed one carries gradients back; a bar across an arrow stops
them. The colours are legible on a light and on a dark ground, so that a drawing needs no theme; the book, which puts
it into the page, gives its labels the page's own colour.
"""

from __future__ import annotations

import base64
import io
import math
from dataclasses import dataclass
from html import escape

from torch import Tensor

from minigen.show.figures import INK
from minigen.show.films import tiles

# Okabe and Ito's hues, dark enough for white letters on them: a contrast of 4.5 or more.
ROLES = {
    "data": "#0072B2",
    "noise": "#6B6B6B",
    "generator": "#B84F00",
    "discriminator": "#00785A",
    "network": "#3F5A9D",
    "loss": "#A34F80",
}
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"
NARROW = 350  # pixels that a page 390 wide leaves for a drawing
LETTER, SMALL = 16.0, 13.5  # font sizes of boxes and labels, in units of a drawing


@dataclass(frozen=True)
class Box:
    """A place in a drawing by its centre and size; arrows begin and end at its edge."""

    x: float
    y: float
    width: float
    height: float

    def edge(self, x: float, y: float, *, gap: float = 4.0) -> tuple[float, float]:
        """Where the line from the centre to (x, y) leaves the box, `gap` units outside."""
        dx, dy = x - self.x, y - self.y
        if dx == dy == 0:
            raise ValueError("an arrow needs two places; both ends are the same")
        across, up = self.width / 2 + gap, self.height / 2 + gap
        t = min(across / abs(dx) if dx else math.inf, up / abs(dy) if dy else math.inf)
        return self.x + t * dx, self.y + t * dy


class Drawing:
    """A drawing of `width` by `height` units, at most 560 wide; its last expression in a cell shows it.

    alt: what it shows, in a sentence, for readers who do not see it. Methods return what they put down, so that arrows
    can name it:

    >>> drawing = Drawing(300, 60, alt="Noise goes through the generator.")
    >>> z, G = drawing.box(50, 30, "z", "noise"), drawing.box(200, 30, "G", "generator")
    >>> drawing.arrow(z, G)
    """

    def __init__(self, width: float, height: float, *, alt: str) -> None:
        if not 0 < width <= 560 or height <= 0:
            raise ValueError(f"a drawing is at most 560 units wide, to be legible on a phone; got {width} x {height}")
        if len(alt) < 20:
            raise ValueError(f"say in alt what the drawing shows, in a sentence; got {alt!r}")
        self.width, self.height, self.alt = width, height, alt
        self.parts: list[str] = []

    def box(self, x: float, y: float, text: str, role: str, *, width: float = 0.0, height: float = 0.0) -> Box:
        """A rounded box around (x, y) with a line of text, or more, in the colour of its role.

        width, height: as the text needs, unless given; a text that does not fit is a ValueError.
        """
        if role not in ROLES:
            raise ValueError(f"role must be one of {', '.join(ROLES)}; got {role!r}")
        lines = text.split("\n")
        needed = max(text_width(line, LETTER) for line in lines) + 20
        if width and width < needed - 12:
            raise ValueError(f"{text!r} needs a box {needed:.0f} wide; got {width}")
        box = Box(x, y, width or needed, height or 20 * len(lines) + 16)
        self.inside(box)
        left, top, fill = x - box.width / 2, y - box.height / 2, ROLES[role]
        self.parts.append(
            f'<rect x="{left:g}" y="{top:g}" width="{box.width:g}" height="{box.height:g}" rx="7" fill="{fill}"/>'
        )
        for number, line in enumerate(lines):
            self.write(x, y + 20 * (number - (len(lines) - 1) / 2), line, LETTER, "#fff", "middle")
        return box

    def label(self, x: float, y: float, text: str, *, anchor: str = "middle") -> Box:
        """Small text outside of boxes; anchor: which point of it stands at x, "start", "middle" or "end"."""
        lines = text.split("\n")
        width = max(text_width(line, SMALL) for line in lines)
        left = x - {"start": 0.0, "middle": 0.5, "end": 1.0}[anchor] * width
        box = Box(left + width / 2, y, width, 17 * len(lines))
        self.inside(box)
        for number, line in enumerate(lines):
            self.write(x, y + 17 * (number - (len(lines) - 1) / 2), line, SMALL, INK, anchor, ink=True)
        return box

    def picture(self, x: float, y: float, images: Tensor, *, size: float, columns: int = 1) -> Box:
        """Images (B, C, H, W) in [-1, 1] around (x, y), `columns` in a row, `size` units wide in all."""
        from PIL import Image

        array = tiles(images, columns)
        array = (array + 1) / 2 if array.ndim == 2 else array
        file = io.BytesIO()
        Image.fromarray((array * 255).round().astype("uint8")).save(file, "PNG", optimize=True)
        box = Box(x, y, size, size * array.shape[0] / array.shape[1])
        self.inside(box)
        data = base64.b64encode(file.getvalue()).decode()
        self.parts.append(
            f'<image x="{x - box.width / 2:g}" y="{y - box.height / 2:g}" width="{box.width:g}" '
            f'height="{box.height:g}" style="image-rendering:pixelated" href="data:image/png;base64,{data}"/>'
        )
        return box

    def arrow(
        self, start: Box, end: Box, text: str = "", *, gradient: bool = False, stop: bool = False, bend: float = 0.0
    ) -> None:
        """An arrow from the edge of one place to that of another, with a label at its middle.

        gradient: dashed, for what flows back. stop: a bar across it, where gradients end. bend: units to the left of
        the way by which the middle is moved; negative to the right.
        """
        dx, dy = end.x - start.x, end.y - start.y
        length = math.hypot(dx, dy) or 1.0
        left = (dy / length, -dx / length)
        towards = ((start.x + end.x) / 2 + 2 * bend * left[0], (start.y + end.y) / 2 + 2 * bend * left[1])
        x0, y0 = start.edge(*(towards if bend else (end.x, end.y)))
        x1, y1 = end.edge(*(towards if bend else (start.x, start.y)), gap=7.0)
        control = ((x0 + x1) / 2 + 2 * bend * left[0], (y0 + y1) / 2 + 2 * bend * left[1])
        colour = ROLES["loss"] if gradient else INK
        dash = ' stroke-dasharray="6 5"' if gradient else ""
        line, head = ("", "") if gradient else (' class="ink-line"', ' class="ink"')
        self.parts.append(
            f'<path{line} d="M{x0:.1f} {y0:.1f}Q{control[0]:.1f} {control[1]:.1f} {x1:.1f} {y1:.1f}" fill="none" '
            f'stroke="{colour}" stroke-width="2"{dash}/>'
        )
        ax, ay = x1 - control[0], y1 - control[1]
        far = math.hypot(ax, ay) or 1.0
        ax, ay = ax / far, ay / far
        points = [(x1 + 3 * ax, y1 + 3 * ay), *((x1 - 8 * ax + s * 5 * ay, y1 - 8 * ay - s * 5 * ax) for s in (1, -1))]
        corners = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.parts.append(f'<polygon{head} points="{corners}" fill="{colour}"/>')
        middle = ((x0 + 2 * control[0] + x1) / 4, (y0 + 2 * control[1] + y1) / 4)
        if stop:
            ux, uy = dx / length, dy / length
            (px, py), (qx, qy) = ((middle[0] - s * 9 * uy, middle[1] + s * 9 * ux) for s in (1, -1))
            self.parts.append(
                f'<path d="M{px:.1f} {py:.1f}L{qx:.1f} {qy:.1f}" stroke="{ROLES["loss"]}" stroke-width="4"/>'
            )
        if text:
            away = abs(left[0]) * text_width(text, SMALL) / 2 + abs(left[1]) * SMALL / 2 + 5
            side = -1.0 if bend < 0 else 1.0
            self.label(middle[0] + side * away * left[0], middle[1] + side * away * left[1], text)

    def write(self, x: float, y: float, text: str, size: float, colour: str, anchor: str, *, ink: bool = False) -> None:
        """Put down one line of text around the height y; ink: it takes the colour of the page's text."""
        kind = ' class="ink"' if ink else ""
        weight = "" if ink else ' font-weight="600"'
        self.parts.append(
            f'<text{kind} x="{x:g}" y="{y + 0.35 * size:.1f}" font-size="{size:g}"{weight} fill="{colour}" '
            f'text-anchor="{anchor}">{escape(text)}</text>'
        )

    def inside(self, box: Box) -> None:
        """Raises ValueError where a part would stand outside of the drawing."""
        if (
            min(box.x - box.width / 2, box.y - box.height / 2) < 0
            or box.x + box.width / 2 > self.width
            or box.y + box.height / 2 > self.height
        ):
            raise ValueError(f"{box} reaches over the edge of a drawing of {self.width} x {self.height}")

    def svg(self) -> str:
        """The whole drawing; the same calls give the same text."""
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="minigen-drawing" role="img" '
            f'aria-label="{escape(self.alt)}" viewBox="0 0 {self.width:g} {self.height:g}" '
            f'width="{self.width:g}" height="{self.height:g}" font-family="{FONT}">{"".join(self.parts)}</svg>'
        )

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        """As an image in HTML, which a notebook shows also before it trusts a file; and as SVG for those without."""
        svg = self.svg()
        data = base64.b64encode(svg.encode()).decode()
        image = (
            f'<img src="data:image/svg+xml;base64,{data}" alt="{escape(self.alt)}" '
            f'style="max-width:100%;height:auto;background:none" width="{self.width:g}" />'
        )
        return {"image/svg+xml": svg, "text/html": image, "text/plain": f"Drawing: {self.alt}"}


def text_width(text: str, size: float) -> float:
    """About how wide a text is, in units: 0.62 of its size a letter, as bold in wide fonts without serifs."""
    return 0.62 * size * len(text)
