"""A reader's own images: found in a folder, decoded once, and mapped from a cache of bytes ever after."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from minigen.data.cache import Cached, MadeFrom, build, load
from minigen.data.checks import need_integer
from minigen.data.decode import SUFFIXES, decode
from minigen.data.files import Root, _cache_folder, _check_split, _need
from minigen.data.images import Images

_FORMAT = 1  # of what is decoded: with another number all caches are built anew
File = tuple[str, int, int]  # path below the folder, size in bytes, time of change in ns


def folder(
    path: str | os.PathLike[str],
    size: int = 64,
    *,
    split: str = "train",
    test_share: float = 0.1,
    cache: Root = None,
    progress: bool = True,
) -> Images:
    """The images of a folder and of the folders in it, as squares of RGB, mapped from a cache on the disk.

    Pictures of any mode and size, see `minigen.data.decode.decode`. The class of one is the folder that it lies in, by
    its path, such as "cats" or "cats/black"; what lies in `path` itself has its name. Hidden files and files without
    the suffix of an image are passed over. Image files that cannot be read are left out, named in a warning, and
    counted in `published` of the result, the number of image files in the split.

    The first call decodes all files into the cache, size * size * 3 bytes a picture. Later ones compare the list of
    files, with sizes and times, check the hash of the cache, and map it: both splits share it, and a row is read from
    the disk when it is used. A change in the folder makes the cache be built anew.

    Args:
        path: the folder. Where it holds both `train/` and `test/` these are the splits, and other images are left out,
            with a warning. Folders that look like splits and are classes, as `train` and `val`, give a warning, too.
            Links are followed, except back to a folder that they lie in.
        size: height and width in pixels.
        split: "train", "test" or "all".
        test_share: without such folders, the share of "test", in 0..1. A hash of a file's name without its suffix
            decides: new files move no old ones, and files of one name in several folders stay together.
        cache: where to keep it; None is the folder that MINIGEN_CACHE names, or the user's cache folder.
        progress: show a bar while decoding.

    Returns:
        images (N, 3, size, size) uint8, in the order of their paths; training images before test images in "all".
        Writing to them changes them for this process alone.

    Raises:
        FileNotFoundError: no such folder, or no image file in it.
        NotADirectoryError: the path is a file.
        ValueError: no image could be read, or none is in the split; an argument out of range.
        TypeError: a size that is no integer.
        ImportError: Pillow is not installed, or pooch where the user's cache folder is asked for.
        OSError: the cache cannot be written.

    >>> import tempfile
    >>> from PIL import Image
    >>> place = tempfile.TemporaryDirectory()
    >>> for i, colour in enumerate(("red", "green", "blue")):
    ...     Image.new("RGB", (40, 30), colour).save(f"{place.name}/{i}.png")
    >>> images = folder(place.name, 16, split="all", cache=place.name, progress=False)
    >>> images.images.shape, images.images[0, :, 8, 8].tolist()
    (torch.Size([3, 3, 16, 16]), [255, 0, 0])
    """
    size = need_integer("size", size, 1, 4096)
    _check_split(split, ("train", "test", "all"))
    if isinstance(test_share, bool) or not isinstance(test_share, int | float) or not 0 <= test_share <= 1:
        raise ValueError(f"test_share must be a number in 0..1; got {test_share!r}")
    if not path:
        raise ValueError(f"path must name a folder of images; got {path!r}: '.' is the folder that this runs in")
    top = Path(path).expanduser().resolve()
    if not top.exists():
        raise FileNotFoundError(f"there is no folder {top}")
    if not top.is_dir():
        raise NotADirectoryError(f"{top} is a file; expected a folder of images: unpack an archive first")
    _need("PIL.Image", "folder()")
    kept = _cache_folder() if cache is None else Path(cache).expanduser().resolve()
    key = hashlib.sha256(repr((os.fsencode(top), size, float(test_share))).encode()).hexdigest()[:16]
    place = kept / "folder" / f"{top.name[:40]}-{key}"

    for _ in range(3):  # a file of the folder, or the cache, may change between building and loading
        files = _find(top, test_share)
        made_from: MadeFrom = {"format": _FORMAT, "folder": str(top), "size": size, "test": sorted(files.test)}
        made_from["files"] = [list(file) for file in files.found]
        cached = load(place, made_from)
        if cached is not None:
            _warn(top, files, cached)
            return _images(top, files, cached, split)
        _decode_all(top, place, made_from, files.names, size, progress)
    raise OSError(f"{top} or its cache {place} changes all the time: see which other process writes there")


@dataclass(frozen=True)
class _Files:
    """The image files of a folder, training files before test files; `outside` of its splits are as many more."""

    found: list[File]
    test: set[str]
    outside: int

    @property
    def names(self) -> list[str]:
        return [name for name, *_ in self.found]


def _has_splits(top: Path) -> bool:
    return all((top / part).is_dir() for part in ("train", "test"))


def _find(top: Path, test_share: float) -> _Files:
    every = list(_walk(top, "", (os.path.realpath(top),)))
    if not every:
        holds = ", ".join(sorted(entry.name for entry in top.iterdir())[:8]) or "nothing"
        suffixes = " ".join(sorted(SUFFIXES))
        raise FileNotFoundError(f"no image in {top} or below; it holds {holds}. Suffixes of images are {suffixes}.")
    if _has_splits(top):
        files = [file for file in every if file[0].startswith(("train/", "test/"))]
        test = {name for name, *_ in files if name.startswith("test/")}
    else:
        files, test = every, {name for name, *_ in every if _draw(name) < test_share}
    return _Files(sorted(files, key=lambda file: (file[0] in test, file[0])), test, len(every) - len(files))


def _walk(folder: Path, prefix: str, above: tuple[str, ...]) -> Iterator[File]:
    for entry in os.scandir(folder):
        if entry.name.startswith("."):
            continue
        if os.path.isdir(entry.path):
            real = os.path.realpath(entry.path)
            if real not in above:
                yield from _walk(Path(entry.path), f"{prefix}{entry.name}/", (*above, real))
        elif os.path.splitext(entry.name)[1].lower() in SUFFIXES:
            try:
                status = os.stat(entry.path)
                yield f"{prefix}{entry.name}", status.st_size, status.st_mtime_ns
            except OSError:  # a link to nothing: found, but it will not be read
                yield f"{prefix}{entry.name}", -1, -1


def _draw(name: str) -> float:
    """A number in [0, 1) that depends on the name of a file alone."""
    stem = os.path.splitext(name.rsplit("/", 1)[-1])[0]
    return int.from_bytes(hashlib.sha256(os.fsencode(stem)).digest()[:6], "big") / 2**48


def _decode_all(top: Path, place: Path, made_from: MadeFrom, names: list[str], size: int, progress: bool) -> None:
    from tqdm.auto import tqdm

    bar = tqdm(names, desc=f"decoding {top.name}", unit="image", disable=not progress, leave=False)
    broken = build(place, made_from, bar, lambda name: decode(top / name, size))
    if len(broken) == len(names):
        raise ValueError(f"none of the {len(names)} image files in {top} could be read: {_list(broken)}")


SPLITS = ("train", "training", "test", "val", "valid", "validation", "dev")  # as people name them


def _warn(top: Path, files: _Files, cached: Cached) -> None:
    folders = {name.split("/")[0] for name in files.names if "/" in name}
    alike = sorted(name for name in folders if name.lower() in SPLITS)
    if alike and not _has_splits(top):
        where = f"the folders {', '.join(alike)} of {top} are taken for classes and not for splits"
        warnings.warn(f"{where}; for splits, name two of them train and test", stacklevel=3)
    if files.outside:
        where = f"{files.outside} image files of {top} lie beside its folders train and test"
        warnings.warn(f"{where}, and are left out", stacklevel=3)
    if cached.broken:
        count = f"{len(cached.broken)} of {len(files.found)} image files in {top}"
        warnings.warn(f"{count} could not be read and are left out: {_list(cached.broken)}", stacklevel=3)


def _list(broken: dict[str, str]) -> str:
    """Some files that could not be read, each with the reason."""
    shown = [f"{name!r} ({reason})" for name, reason in list(broken.items())[:5]]
    return ", ".join(shown) + (f" and {len(broken) - 5} more" if len(broken) > 5 else "")


def _images(top: Path, files: _Files, cached: Cached, split: str) -> Images:
    names = [name for name in files.names if name not in cached.broken]
    trained = sum(name not in files.test for name in names)
    part = {"train": slice(trained), "test": slice(trained, None), "all": slice(None)}[split]
    if not names[part]:
        todo = f"Put images into {top / split}." if _has_splits(top) else "Choose another test_share."
        raise ValueError(
            f"the split {split!r} of {top} has no image: 'train' has {trained}, 'test' has {len(names) - trained}. "
            f"{todo}"
        )
    inside = [name.split("/", 1)[1] for name in names] if _has_splits(top) else names
    parents = [name.rpartition("/")[0] for name in inside]
    classes = sorted(set(parents))
    number = {parent: i for i, parent in enumerate(classes)}
    labels = torch.tensor([number[parent] for parent in parents[part]])
    tested, every = len(files.test), len(files.found)
    published = {"train": every - tested, "test": tested, "all": every}[split]
    named = tuple(parent or top.name for parent in classes)
    return Images(cached.pictures[part], labels, named, top.name, split, published)
