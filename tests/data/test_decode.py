"""One image file of each kind: the colours that come out are those that were put in."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from minigen.data.decode import SUFFIXES, decode

RED = [255, 0, 0]


def middle(path: Path, size: int = 8) -> list[int]:
    picture = decode(path, size)
    assert picture.shape == (3, size, size)
    assert picture.dtype == np.uint8
    return picture[:, size // 2, size // 2].tolist()


@pytest.mark.parametrize(
    ("mode", "colour", "suffix", "expected", "tolerance"),
    [
        ("RGB", (200, 100, 50), "png", [200, 100, 50], 0),
        ("RGB", (200, 100, 50), "jpg", [200, 100, 50], 3),
        ("RGB", (200, 100, 50), "webp", [200, 100, 50], 6),
        ("L", 77, "png", [77] * 3, 0),
        ("1", 1, "png", [255] * 3, 0),
        ("LA", (100, 255), "png", [100] * 3, 0),
        ("LA", (100, 0), "png", [255] * 3, 0),
        ("RGBA", (255, 0, 0, 255), "png", RED, 0),
        ("RGBA", (255, 0, 0, 0), "png", [255] * 3, 0),
        ("RGBA", (255, 0, 0, 51), "png", [255, 204, 204], 1),
        ("CMYK", (0, 255, 255, 0), "jpg", RED, 3),
        ("CMYK", (0, 255, 255, 0), "tif", RED, 0),
        ("YCbCr", (76, 85, 255), "jpg", RED, 6),
        ("I;16", 25700, "png", [100] * 3, 0),
        ("I;16", 200, "tif", [1] * 3, 0),
        ("I", 25700, "tif", [100] * 3, 0),
        ("F", 0.2, "tif", [51] * 3, 0),
    ],
)
def test_every_mode_becomes_rgb(mode, colour, suffix: str, expected, tolerance: int, tmp_path: Path) -> None:
    path = tmp_path / f"picture.{suffix}"
    Image.new(mode, (20, 12), colour).save(path)
    assert np.abs(np.subtract(middle(path), expected)).max() <= tolerance


def test_palettes_with_and_without_a_transparent_colour(tmp_path: Path) -> None:
    picture = Image.new("P", (9, 9), 1)
    picture.putpalette([0, 0, 255, 255, 0, 0])
    picture.save(tmp_path / "plain.png")
    picture.save(tmp_path / "clear.png", transparency=1)
    picture.save(tmp_path / "plain.gif")
    assert middle(tmp_path / "plain.png") == middle(tmp_path / "plain.gif") == RED
    assert middle(tmp_path / "clear.png") == [255] * 3


def test_16_bits_a_colour(tmp_path: Path) -> None:
    """A PNG that Pillow cannot write, so it is written here."""
    row = b"\0" + struct.pack(">3H", 0xFFFF, 0x8080, 0) * 4

    def chunk(kind: bytes, content: bytes) -> bytes:
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">2I5B", 4, 4, 16, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(row * 4)) + chunk(b"IEND", b"")
    (tmp_path / "deep.png").write_bytes(b"\x89PNG\r\n\x1a\n" + parts)
    assert middle(tmp_path / "deep.png") == [255, 128, 0]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_camera_held_in_any_way_gives_the_same_picture(orientation: int, tmp_path: Path) -> None:
    """The eight orientations of the EXIF standard: what the stored picture's first row and column are in the scene."""
    scene = np.zeros((16, 16, 3), np.uint8)
    scene[:8, :8], scene[:8, 8:], scene[8:, :8] = RED, [0, 255, 0], [0, 0, 255]
    stored = {
        1: scene,
        2: scene[:, ::-1],
        3: scene[::-1, ::-1],
        4: scene[::-1],
        5: scene.transpose(1, 0, 2),
        6: np.rot90(scene, 1),
        7: np.rot90(scene.transpose(1, 0, 2), 2),
        8: np.rot90(scene, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(decode(tmp_path / "a.png", 16), scene.transpose(2, 0, 1))


@pytest.mark.parametrize(("width", "height"), [(30, 10), (10, 30), (11, 10), (10, 10)])
def test_the_middle_square_is_kept(width: int, height: int, tmp_path: Path) -> None:
    side = min(width, height)
    pixels = np.zeros((height, width, 3), np.uint8)
    top, left = (height - side) // 2, (width - side) // 2
    pixels[top : top + side, left : left + side] = [10, 20, 30]
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert (decode(tmp_path / "a.png", side) == np.array([10, 20, 30])[:, None, None]).all()
    assert (decode(tmp_path / "a.png", 64) == np.array([10, 20, 30])[:, None, None]).all()  # nothing seeps in


def test_a_wave_too_fine_for_the_size_becomes_grey_and_a_slow_one_stays(tmp_path: Path) -> None:
    """What plain sampling of every 16th pixel would not do: it would give stripes."""
    x = np.arange(256)
    for name, period in (("fine", 3), ("slow", 128)):
        wave = (127.5 + 127.5 * np.sin(2 * np.pi * (x + 0.5) / period)).round().astype(np.uint8)
        Image.fromarray(np.tile(wave, (256, 1))).save(tmp_path / f"{name}.png")
    assert np.ptp(decode(tmp_path / "fine.png", 16)[0, 8].astype(int)) < 12
    slow = decode(tmp_path / "slow.png", 16)[0, 8].astype(float)
    exact = 127.5 + 127.5 * np.sin(2 * np.pi * (np.arange(16) + 0.5) * 16 / 128)
    assert np.abs(slow - exact).max() < 12


@pytest.mark.parametrize(
    ("mode", "colour", "says"),
    [("F", 3.0, r"mode F in 3\.\.3; expected 0\.\.1"), ("I", 70_000, "mode I in 70000"), ("I", -1, r"in -1\.\.-1")],
)
def test_pixels_of_unknown_range_are_refused(mode, colour, says: str, tmp_path: Path) -> None:
    Image.new(mode, (4, 4), colour).save(tmp_path / "a.tif")
    with pytest.raises(ValueError, match=says):
        decode(tmp_path / "a.tif", 4)


def test_what_is_no_picture_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "text.png").write_text("no picture")
    Image.new("RGB", (64, 64), "red").save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:60])
    with pytest.raises(ValueError, match="no plain file"):
        decode(tmp_path / "pipe.png", 8)
    for name in ("text.png", "cut.png"):
        with pytest.raises((OSError, SyntaxError)):
            decode(tmp_path / name, 8)


def test_suffixes_are_those_that_pillow_names_and_more() -> None:
    common = {".png", ".jpg", ".jpeg", ".gif", ".bmp", ".tif", ".tiff", ".webp"}
    assert common <= set(Image.registered_extensions()) & SUFFIXES
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in SUFFIXES)
