"""A reader's own folder of images as a task, like every other one of real images."""

from __future__ import annotations

from functools import cache, partial
from pathlib import Path
from typing import Any

from minigen import data
from minigen.data.levels import dequantise
from minigen.tasks.images import ScoredImages
from minigen.tasks.labelled import LabelledImages


def settings_of(path: str | Path | None, size: int) -> dict[str, Any]:
    """What every task of a folder is given: a loader, see `data.folder`, and noise between the 256 levels."""

    @cache
    def load(split: str) -> data.Images:
        if path is None:
            raise ValueError("this recipe learns from your own images: say where they are, with --data PATH")
        return data.folder(path, size, split=split)

    title = f"your own images, {size}x{size} in colour: --data PATH"
    noise = {"change": partial(dequantise, num_levels=256), "levels": 256}
    return {"name": "folder", "title": title, "load": load, "shape": (3, size, size), **noise}


class FolderImages(ScoredImages):
    """The images of a folder, see `data.folder`, as (3, size, size) with noise between their 256 levels.

    path: the folder; None builds and draws, and says when data are asked for that a folder is missing.
    """

    def __init__(self, path: str | Path | None, *, size: int = 64) -> None:
        super().__init__(**settings_of(path, size))


class LabelledFolder(LabelledImages):
    """The same, each image beside its class, int64: the number of the folder that it lies in.

    Without a path there is one class.
    """

    def __init__(self, path: str | Path | None, *, size: int = 64) -> None:
        settings = settings_of(path, size)
        classes = ("folder",) if path is None else settings["load"]("train").classes
        super().__init__(classes=classes, **settings)
