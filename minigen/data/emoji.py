"""Emoji: 1,635 pictures with names, each drawn by two artists; shipped with the library, so they need no network."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from minigen.data.files import _check_split, _need
from minigen.data.images import Images

FOLDER = Path(__file__).parent / "emoji_sheets"
SHA256 = {
    "emoji.json": "6ce17dc25e51eebf3ec6fd30c5aa67460ac8326fc877516d40a0f1a886a02f13",
    "twemoji.webp": "a6cdee5f814a76a7b9e48658e9bad119dc43c235ab0b684a58c9a9a79b8aba81",
    "noto.webp": "5cadf7a298d6fd14cb67c95a441997a2b15d1c80841cfbf74ea9ce0c5d0b8d07",
}
STYLES = ("twemoji", "noto")
_COLUMNS, _PIXELS = 48, 32


@dataclass(frozen=True, eq=False, repr=False)
class Emoji(Images):
    """Emoji of one style and split; row i of one style and row i of the other are one emoji.

    Labels are indices of the eight categories, classes their names, and name is the style, "twemoji" or "noto".

    Attributes, beside those of `Images`:
        names: of each emoji, in lower case, such as "grinning face".
        short_names: such as "grinning".
        codes: code points in hexadecimal, joined by "-", such as "1F600".
        subcategories: int64 indices of `subcategory_names`, (N,).
        subcategory_names: the 95 subcategories, whatever the split.
        families: int64, (N,). Pictures that are nearly one share a number, and no family is in both splits.
        splits: of each emoji, "train" or "test".
    """

    names: tuple[str, ...]
    short_names: tuple[str, ...]
    codes: tuple[str, ...]
    subcategories: Tensor
    subcategory_names: tuple[str, ...]
    families: Tensor
    splits: tuple[str, ...]

    def to(self, device: torch.device | str) -> Emoji:
        """The same emoji with their tensors on `device`."""
        tensors = {name: getattr(self, name).to(device) for name in ("images", "labels", "subcategories", "families")}
        return replace(self, **tensors)


def emoji(style: str = "twemoji", split: str = "train") -> Emoji:
    """Emoji of 32x32 pixels in colour on white, in the style of Twemoji or of Noto; needs no network.

    Pictures within 0.07 of one another (mean absolute difference in [-1, 1], in either style), and those whose names
    differ by man, woman, person and the like alone, make a family. The split keeps families together, so that a test
    picture's nearest training picture is at least 0.071 away; a random split has a twin for one in ten.

    Twemoji graphics: copyright Twitter, Inc. and other contributors, CC BY 4.0. Noto emoji: Google, Apache License 2.0.
    Names and categories: Unicode. The README beside the files has the details; weights trained on them carry the same
    attribution.

    Args:
        style: "twemoji" or "noto".
        split: "train" (1,335), "test" (300) or "all", in Unicode's order.

    Returns:
        images (N, 3, 32, 32), uint8.

    Raises:
        ImportError: Pillow is not installed.
        ValueError: an unknown style or split; a file of the package that is not as it was shipped.
        FileNotFoundError: a file of the package is missing.

    >>> from minigen import data
    >>> train, drawn_again = data.emoji("twemoji"), data.emoji("noto")
    >>> train
    twemoji train: 1,335 of 1,335 images, 3x32x32, cpu
    >>> train.names[0], train.classes[train.labels[0]], train.names == drawn_again.names
    ('grinning face', 'Smileys & Emotion', True)
    """
    if style not in STYLES:
        raise ValueError(f"style must be one of {', '.join(STYLES)}; got {style!r}")
    _check_split(split, ("train", "test", "all"))
    records = json.loads(_shipped("emoji.json"))
    rows = [i for i, record in enumerate(records) if split in (record["split"], "all")]
    categories, subcategories = (tuple(dict.fromkeys(r[key] for r in records)) for key in ("category", "subcategory"))
    part = [records[i] for i in rows]
    return Emoji(
        images=_cut(_shipped(f"{style}.webp"), len(records))[rows],
        labels=torch.tensor([categories.index(record["category"]) for record in part]),
        classes=categories,
        name=style,
        split=split,
        published=len(part),
        names=tuple(record["name"] for record in part),
        short_names=tuple(record["short"] for record in part),
        codes=tuple(record["code"] for record in part),
        subcategories=torch.tensor([subcategories.index(record["subcategory"]) for record in part]),
        subcategory_names=subcategories,
        families=torch.tensor([record["family"] for record in part]),
        splits=tuple(record["split"] for record in part),
    )


def _shipped(file: str) -> bytes:
    """The content of a file of the package, if it is the one that was shipped."""
    try:
        content = (FOLDER / file).read_bytes()
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{FOLDER / file} is missing: install minigen again") from error
    if hashlib.sha256(content).hexdigest() != SHA256[file]:
        raise ValueError(f"{FOLDER / file} is not the file that minigen ships (its SHA-256 differs): install it again")
    return content


def _cut(sheet: bytes, count: int) -> Tensor:
    """The pictures of a sheet, row by row, uint8 (count, 3, 32, 32)."""
    with _need("PIL.Image", "emoji()").open(io.BytesIO(sheet)) as image:
        pixels = torch.from_numpy(np.array(image.convert("RGB")))  # (rows * 32, 48 * 32, 3)
    grid = pixels.view(-1, _PIXELS, _COLUMNS, _PIXELS, 3).permute(0, 2, 4, 1, 3)  # (rows, 48, 3, 32, 32)
    return grid.reshape(-1, 3, _PIXELS, _PIXELS)[:count]
