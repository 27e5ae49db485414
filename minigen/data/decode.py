"""One image file, of any mode and size, as a square picture of bytes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from minigen.data.files import Bytes

if TYPE_CHECKING:
    from PIL.Image import Image

# Of image files, also of those that Pillow cannot read: a reader should hear of these.
SUFFIXES = {".apng", ".avif", ".bmp", ".dib", ".gif", ".heic", ".heif", ".ico", ".j2k", ".jfif", ".jp2", ".jpe"}
SUFFIXES |= {".jpeg", ".jpg", ".pbm", ".pcx", ".pgm", ".png", ".pnm", ".ppm", ".svg", ".tga", ".tif", ".tiff", ".webp"}


def decode(path: Path, size: int) -> Bytes:
    """The picture in a file, as uint8 (3, size, size).

    It is turned as its EXIF data say, put on white where it is transparent, brought to RGB with 8 bits a colour, cut
    to the square in its middle, and scaled (Lanczos). Of a film it is the first frame. Grey levels of 16 bits are
    scaled to 8, and floats in [0, 1] to 0..255; colour profiles are not applied.

    Raises what Pillow raises for a file that it cannot read, and ValueError for pixels whose range is not known.
    """
    if not path.is_file():  # a pipe would be waited for
        raise ValueError("no plain file")
    from PIL import Image, ImageOps

    with Image.open(path) as opened:
        upright = ImageOps.exif_transpose(opened)
        picture = _rgb(upright)
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    square = picture.crop((left, top, left + side, top + side))
    return np.array(square.resize((size, size), Image.Resampling.LANCZOS)).transpose(2, 0, 1)


def _rgb(picture: Image) -> Image:
    """A picture of any mode as RGB with 8 bits a colour, over white."""
    from PIL import Image

    if picture.mode.startswith("I") or picture.mode == "F":  # which Pillow's own conversion would clip at 255
        picture = Image.fromarray(_eight_bits(picture))
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    layer = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")


def _eight_bits(picture: Image) -> Bytes:
    """Grey pixels of 16 bits, or floats in [0, 1], as uint8 (H, W)."""
    pixels = np.array(picture).astype(np.float64)
    low, high = float(pixels.min()), float(pixels.max())
    most = 1 if picture.mode == "F" else 65535
    if not 0 <= low <= high <= most:
        raise ValueError(f"pixels of mode {picture.mode} in {low:g}..{high:g}; expected 0..{most}")
    return (pixels * (255 / most)).round().astype(np.uint8)
