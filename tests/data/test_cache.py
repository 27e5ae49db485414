"""The cache of decoded pictures: whole or not used, whatever stops the process that makes it."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from minigen.data.cache import build, load

cache_module = sys.modules["minigen.data.cache"]
NAMES = [f"{i}.png" for i in range(8)]
MADE_FROM = {"files": [[name, 5, 123456789] for name in NAMES], "size": 3}


def picture(name: str, *, shift: int = 0) -> np.ndarray:
    return np.full((3, 4, 4), 10 * int(name.split(".")[0]) + shift, np.uint8)


def values(place: Path, made_from=MADE_FROM) -> list[int] | None:
    cached = load(place, made_from)
    return None if cached is None else cached.pictures[:, 0, 0, 0].tolist()


WHOLE = [10 * i for i in range(8)]


def start(work: Callable[[], None]) -> int:
    """A process that does the work, and ends with 0 if nothing was raised."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    return child


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def dies_at_the_fifth(name: str) -> np.ndarray:
    if name == "4.png":
        die()
    return picture(name)


def dying_at(call: str, count: int, *, after: bool = False) -> Callable[[], None]:
    """Lets this process kill itself at the count-th call of a function of os, before or after it does its work."""
    real, left = getattr(os, call), [count]

    def replaced(*arguments: object) -> object:
        left[0] -= 1
        if left[0] == 0 and not after:
            die()
        result = real(*arguments)
        if left[0] == 0:
            die()
        return result

    def arm() -> None:
        setattr(os, call, replaced)

    return arm


def test_what_was_built_is_loaded_and_broken_names_are_kept(tmp_path: Path) -> None:
    def read(name: str) -> np.ndarray:
        if name in ("2.png", "5.png"):
            raise KeyError if name == "5.png" else SyntaxError("bad header")
        return picture(name)

    broken = build(tmp_path / "a" / "b", MADE_FROM, NAMES, read)
    cached = load(tmp_path / "a" / "b", MADE_FROM)
    assert cached is not None
    assert cached.broken == broken == {"2.png": "bad header", "5.png": "KeyError"}
    assert cached.pictures.shape == (6, 3, 4, 4)
    assert cached.pictures[:, 2, 3, 1].tolist() == [0, 10, 30, 40, 60, 70]


@pytest.mark.parametrize("earlier", [False, True], ids=["nothing before", "another cache before"])
@pytest.mark.parametrize(
    ("moment", "whole"),
    [
        ("reading", False),
        (dying_at("fsync", 1), False),  # before the pixels are on the disk
        (dying_at("replace", 1), False),  # before they have their name
        (dying_at("replace", 1, after=True), False),  # with pixels, without a manifest
        (dying_at("fsync", 3), False),  # before the manifest is on the disk
        (dying_at("replace", 2), False),  # before it has its name
        (dying_at("replace", 2, after=True), True),
    ],
)
def test_killed_at_any_moment_the_cache_is_whole_or_not_used(moment, whole: bool, earlier: bool, tmp_path) -> None:
    before = MADE_FROM | {"size": 2}
    if earlier:
        build(tmp_path, before, NAMES, lambda name: picture(name, shift=1))

    def work() -> None:
        if callable(moment):
            moment()
        build(
            tmp_path, MADE_FROM, NAMES, lambda name: die() if moment == "reading" and name == "4.png" else picture(name)
        )

    assert os.WTERMSIG(os.waitpid(start(work), 0)[1]) == signal.SIGKILL
    assert values(tmp_path) == (WHOLE if whole else None)
    if earlier and not whole:
        assert values(tmp_path, before) == [value + 1 for value in WHOLE]
    build(tmp_path, MADE_FROM, NAMES, picture)
    assert values(tmp_path) == WHOLE


def test_several_processes_that_build_at_once_leave_a_whole_one(tmp_path: Path) -> None:
    def slow(name: str) -> np.ndarray:
        time.sleep(0.002)
        return picture(name)

    def work() -> None:
        for _ in range(10):
            build(tmp_path, MADE_FROM, NAMES, slow)
            assert values(tmp_path) == WHOLE

    children = [start(work) for _ in range(4)]
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
    assert values(tmp_path) == WHOLE
    assert len(list(tmp_path.iterdir())) == 2


def spoil_every_byte(content: bytes) -> list[bytes]:
    return [content[:i] + bytes([content[i] ^ 0x10]) + content[i + 1 :] for i in range(len(content))]


def test_a_byte_changed_anywhere_in_the_pixels_is_seen(tmp_path: Path) -> None:
    build(tmp_path, MADE_FROM, NAMES, picture)
    (pixels,) = tmp_path.glob("*.pixels")
    whole = pixels.read_bytes()
    assert len(whole) == 8 * 48
    for spoilt in [*spoil_every_byte(whole), whole[:-1], whole + b"\0", b""]:
        pixels.write_bytes(spoilt)
        assert values(tmp_path) is None
    pixels.write_bytes(whole)
    assert values(tmp_path) == WHOLE
    pixels.unlink()
    assert values(tmp_path) is None


def test_a_manifest_that_says_anything_else_is_not_used(tmp_path: Path) -> None:
    build(tmp_path, MADE_FROM, NAMES, picture)
    file = tmp_path / "manifest.json"
    good = json.loads(file.read_text())
    for other in (
        {"files": MADE_FROM["files"][1:], "size": 3},
        MADE_FROM | {"size": 4},
        {"files": [*MADE_FROM["files"][:-1], ["7.png", 5, 123456790]], "size": 3},
    ):
        assert values(tmp_path, other) is None
    spoilt = [good | {"shape": [9, 3, 4, 4]}, good | {"shape": None}, good | {"sha256": "0" * 64}, {}, [], None, "x"]
    for wrong in spoilt:
        file.write_text(json.dumps(wrong))
        assert values(tmp_path) is None
    for text in ("", "{", file.read_text()[:-5], "\ud800".encode("utf-8", "surrogatepass").decode("latin1")):
        file.write_text(text)
        assert values(tmp_path) is None
    file.write_text(json.dumps(good))
    assert values(tmp_path) == WHOLE


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_disk_that_cannot_be_written_is_named_and_nothing_is_left(number: int, tmp_path: Path, monkeypatch) -> None:
    build(tmp_path, MADE_FROM, NAMES, picture)
    before = sorted(path.name for path in tmp_path.iterdir())

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", refuse)
        with pytest.raises(OSError, match=rf"cannot write the cache .*{os.strerror(number)}.*cache= or MINIGEN_CACHE"):
            build(tmp_path, MADE_FROM | {"size": 9}, NAMES, lambda name: picture(name, shift=3))
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert values(tmp_path) == WHOLE
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="cannot write the cache"):
        build(tmp_path / "file" / "below", MADE_FROM, NAMES, picture)


def test_an_interrupt_leaves_nothing(tmp_path: Path) -> None:
    def read(name: str) -> np.ndarray:
        if name == "4.png":
            raise KeyboardInterrupt
        return picture(name)

    with pytest.raises(KeyboardInterrupt):
        build(tmp_path, MADE_FROM, NAMES, read)
    assert list(tmp_path.iterdir()) == []


def test_what_was_left_long_ago_is_swept_away_and_what_is_young_is_not(tmp_path: Path) -> None:
    build(tmp_path, MADE_FROM, NAMES, lambda name: picture(name, shift=1))
    (old,) = tmp_path.glob("*.pixels")
    for name in ("killed.tmp", "running.tmp", "note.txt"):
        (tmp_path / name).touch()
    for path in (old, tmp_path / "killed.tmp", tmp_path / "note.txt"):
        os.utime(path, (1, 1))
    build(tmp_path, MADE_FROM, NAMES, picture)
    assert not old.exists()
    assert {path.name for path in tmp_path.iterdir() if path.suffix != ".pixels"} == {
        "manifest.json",
        "note.txt",
        "running.tmp",
    }
    assert values(tmp_path) == WHOLE


def test_pictures_in_use_survive_a_new_cache(tmp_path: Path) -> None:
    build(tmp_path, MADE_FROM, NAMES, picture)
    in_use = load(tmp_path, MADE_FROM).pictures
    (pixels,) = tmp_path.glob("*.pixels")
    os.utime(pixels, (1, 1))
    build(tmp_path, MADE_FROM | {"size": 4}, NAMES, lambda name: picture(name, shift=1))
    assert not pixels.exists()
    assert torch.equal(in_use[:, 0, 0, 0], torch.tensor(WHOLE, dtype=torch.uint8))
