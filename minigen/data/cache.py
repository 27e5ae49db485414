"""Pictures that were decoded once: a file of bytes, mapped into memory, and a manifest that says what it was made from.

The file is named by the hash of its content. Both are written under another name, synced and moved to their own, the
manifest last. So whatever stops a process, a cache is whole or it is not used, and of two processes that build at once
each leaves a whole one.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import torch
from torch import Tensor

from minigen.data.files import Bytes, _sha256

MadeFrom = dict[str, object]  # all that decides what is in a cache, as JSON has it
_STALE = 3600.0  # seconds after which a file that no manifest names was left by a process that ended


@dataclass(frozen=True)
class Cached:
    """The pictures (N, *shape), uint8, of those names that could be read, in their order; of the others, the reason."""

    pictures: Tensor
    broken: dict[str, str]


def load(place: Path, made_from: MadeFrom) -> Cached | None:
    """What the folder `place` holds, mapped; None if it is not whole or was made from anything else."""
    try:
        manifest = json.loads((place / "manifest.json").read_text("utf-8"))
        pixels, shape = place / f"{manifest['sha256']}.pixels", manifest["shape"]
        if manifest["made_from"] != made_from or _sha256(pixels) != manifest["sha256"]:
            return None
        # A private map: torch asks for memory that can be written, and what is written there never reaches the file.
        return Cached(torch.from_numpy(np.memmap(pixels, np.uint8, "c", shape=tuple(shape))), manifest["broken"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def build(place: Path, made_from: MadeFrom, names: Iterable[str], read: Callable[[str], Bytes]) -> dict[str, str]:
    """Write the pictures read(name) into the folder `place`, one after the other; they are never all in memory.

    Returns, of those that could not be read, the reason. Where that is all of them nothing is written. Raises OSError
    with advice where the folder cannot be written.
    """
    broken: dict[str, str] = {}
    digest, shape = hashlib.sha256(), (0,)
    try:
        place.mkdir(parents=True, exist_ok=True)
        with _written(place) as (file, move):
            for name in names:
                try:
                    picture = read(name)
                except Exception as error:  # a decoder raises anything on a broken file
                    broken[name] = str(error) or type(error).__name__
                    continue
                content = picture.tobytes()
                file.write(content)
                digest.update(content)
                shape = (shape[0] + 1, *picture.shape)
            if shape[0] == 0:
                return broken
            pixels = move(f"{digest.hexdigest()}.pixels")
        manifest = {"made_from": made_from, "shape": shape, "sha256": digest.hexdigest(), "broken": broken}
        with _written(place) as (file, move):
            file.write(json.dumps(manifest).encode())
            move("manifest.json")
    except OSError as error:
        raise OSError(
            f"cannot write the cache {place} ({error}). Make it writable and see that the disk has room, or choose "
            "another folder by cache= or MINIGEN_CACHE."
        ) from error
    _sweep(place, pixels)
    return broken


@contextmanager
def _written(place: Path) -> Iterator[tuple[IO[bytes], Callable[[str], Path]]]:
    """A new file, and the function that gives it its name once it is on the disk; without it, it is taken away."""
    path = place / f"{uuid.uuid4().hex}.tmp"

    def move(name: str) -> Path:
        file.flush()
        os.fsync(file.fileno())
        file.close()
        os.replace(path, place / name)
        with suppress(OSError):  # some systems cannot sync a folder, which puts the name on the disk, too
            folder = os.open(place, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        return place / name

    try:
        with path.open("wb") as file:
            yield file, move
    finally:
        path.unlink(missing_ok=True)


def _sweep(place: Path, pixels: Path) -> None:
    """Take away what earlier caches and processes that were killed have left; what is young may be in the making."""
    for path in [*place.glob("*.pixels"), *place.glob("*.tmp")]:
        with suppress(OSError):  # another process was faster, or still has it open where that forbids it
            if path != pixels and path.stat().st_mtime < time.time() - _STALE:
                path.unlink()
