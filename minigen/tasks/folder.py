"""A reader's own folder of images as a task, like every other one of real images."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from minigen import data
from minigen.data.levels import dequantise
from minigen.tasks.images import ScoredImages


class FolderImages(ScoredImages):
    """The images of a folder, see `data.folder`, as (3, size, size) with noise between their 256 levels.

    path: the folder; None builds and draws, and says when data are asked for that a folder is missing.
    """

    def __init__(self, path: str | Path | None, *, size: int = 64) -> None:
        self.path = path
        super().__init__(
            "folder",
            f"your own images, {size}x{size} in colour: --data PATH",
            self._of,
            shape=(3, size, size),
            change=partial(dequantise, num_levels=256),
            levels=256,
        )

    def _of(self, split: str) -> data.Images:
        if self.path is None:
            raise ValueError("this recipe learns from your own images: say where they are, with --data PATH")
        return data.folder(self.path, self.shape[1], split=split)
