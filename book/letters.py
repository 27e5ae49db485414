"""In the kernel that makes a chapter: note of each plot how small its letters are and how many panels stand in a row.

`execute.py` has IPython import this first. The note stands in the metadata of the output, where the tests of the book
find it: "letters" is the height of the smallest letters as a share of the picture's width, 0 where it has none, and
"columns" the number of panels beside each other. `show.Row` writes the letters into its HTML.
"""

import base64
import math
import struct
from typing import Any

from IPython.core import pylabtools

from minigen.show.rows import smallest_text

as_it_was = pylabtools.print_figure


def print_figure(figure: Any, fmt: str = "png", **options: Any) -> Any:
    """IPython's function, with the note."""
    data = as_it_was(figure, fmt, **options)
    if fmt != "png" or not isinstance(data, str):
        return data
    (width,) = struct.unpack(">I", base64.b64decode(data[:64])[16:20])
    height = smallest_text(figure) * figure.dpi / 72
    letters = round(height / width, 4) if math.isfinite(height) else 0
    return data, {"letters": letters, "columns": columns(figure)}


def columns(figure: Any) -> int:
    """How many panels stand beside each other; a colour bar is part of its panel."""
    boxes = [axes.get_position() for axes in figure.axes if axes.get_label() != "<colorbar>"]
    heights = [(box.y0 + box.y1) / 2 for box in boxes]
    return max((len({round(box.x0, 2) for box in boxes if box.y0 <= y <= box.y1}) for y in heights), default=0)


pylabtools.print_figure = print_figure
