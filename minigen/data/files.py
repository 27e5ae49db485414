"""The files of published data sets: where they come from, that they are intact, and how they are read.

Nothing is unpickled, and no archive is unpacked to disk.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib
import io
import os
import struct
import tarfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Bytes = npt.NDArray[np.uint8]


Root = str | os.PathLike[str] | None


@dataclass(frozen=True)
class Source:
    """Where a published data set is downloaded from, the SHA-256 of its files, and what it holds."""

    mirrors: tuple[str, ...]
    sha256: dict[str, str]
    classes: tuple[str, ...]
    published: dict[str, int]


_CLOTHES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")


# SHA-256: the lists of tensorflow/datasets, tensorflow_datasets/url_checksums/{mnist,fashion_mnist,cifar10}.txt.
# First mirror of MNIST: torchvision/datasets/mnist.py; second: the list above. Fashion-MNIST: its repository, then the
# address in the list. CIFAR-10: the address in the list, then its author's newer address.
SOURCES = {
    "mnist": Source(
        mirrors=(
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
        sha256={
            "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        },
        classes=tuple("0123456789"),
        published={"train": 60_000, "test": 10_000},
    ),
    "fashion_mnist": Source(
        mirrors=(
            "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        ),
        sha256={
            "train-images-idx3-ubyte.gz": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            "train-labels-idx1-ubyte.gz": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            "t10k-images-idx3-ubyte.gz": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            "t10k-labels-idx1-ubyte.gz": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        },
        classes=_CLOTHES,
        published={"train": 60_000, "test": 10_000},
    ),
    "cifar10": Source(
        mirrors=("https://www.cs.toronto.edu/~kriz/", "https://cave.cs.toronto.edu/kriz/"),
        sha256={"cifar-10-binary.tar.gz": "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"},
        classes=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
        published={"train": 50_000, "test": 10_000},
    ),
}


# No published IDX file has more images, and no published archive is larger once unpacked: what has more is refused
# before it is read, for a few megabytes of gzip can unpack to as many gigabytes.
_MOST_IMAGES = 60_000
_MOST_BYTES = 200_000_000  # the CIFAR-10 archive has 184 million


class _Limited:
    """A stream that is read up to a number of bytes and then says that the file is too large."""

    def __init__(self, stream: gzip.GzipFile, path: Path, most: int) -> None:
        self.stream, self.path, self.most, self.left = stream, path, most, most

    def read(self, size: int) -> bytes:
        part = self.stream.read(min(size, self.left + 1))
        self.left -= len(part)
        if self.left < 0:
            raise _bad(self.path, f"more than {self.most:,} bytes once unpacked", "the published archive or a subset")
        return part


def _read_idx(path: Path, shape: tuple[int, ...]) -> Bytes:
    """The uint8 array (N, *shape) of an IDX file, compressed by gzip or not, whatever its name says."""
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    with gzip.open(path) if zipped else path.open("rb") as stream:
        try:
            return _parse_idx(stream, path, shape)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise _bad(path, f"a truncated or corrupted gzip file ({error})", "an intact one") from error


def _parse_idx(stream: io.BufferedIOBase, path: Path, shape: tuple[int, ...]) -> Bytes:
    ndim = 1 + len(shape)
    magic, start = bytes((0, 0, 8, ndim)), 4 + 4 * ndim
    header = stream.read(start)
    if header[:4] != magic:
        expected = f"an IDX file of uint8 in {ndim} dimensions, which begins with {magic.hex(' ')}"
        raise _bad(path, f"first bytes {header[:4].hex(' ') or 'none'}", expected)
    if len(header) < start:
        raise _bad(path, f"{len(header)} bytes", f"an IDX header of {start}")
    dims = struct.unpack(f">{ndim}I", header[4:])
    if not 0 < dims[0] <= _MOST_IMAGES or dims[1:] != shape:
        expected = f"({', '.join(['N > 0', *map(str, shape)])}) and N <= {_MOST_IMAGES:,}"
        raise _bad(path, f"shape {dims}", expected)
    raw = stream.read(prod(dims) + 1)  # one byte more than there should be; so gzip comes to compare its checksum, too
    if len(raw) != prod(dims):
        more = "at least " if len(raw) > prod(dims) else ""
        raise _bad(path, f"{more}{len(raw)} bytes of data", f"{prod(dims)} for shape {dims}")
    return np.frombuffer(raw, np.uint8).reshape(dims)


def _read_cifar(path: Path, names: list[str]) -> Bytes:
    """The records (N, 1 + 3072) of those of the named batches that the archive holds, in the order of `names`."""
    size, most = 1 + 3 * 32 * 32, 10_000
    found: dict[str, bytes] = {}
    try:
        with gzip.open(path) as unlimited:
            stream = _Limited(unlimited, path, _MOST_BYTES)
            with tarfile.open(fileobj=cast(IO[bytes], stream), mode="r|") as archive:
                for member in archive:
                    name = member.name.removeprefix("./")
                    if name not in names:
                        continue
                    if name in found or not member.isreg():
                        raise _bad(path, f"{name} twice or not as a plain file", "one plain file of that name")
                    if not 0 < member.size <= size * most or member.size % size:
                        raise _bad(path, f"{name} of {member.size} bytes", f"1 to {most:,} records of {size} bytes")
                    content = archive.extractfile(member)
                    found[name] = content.read() if content else b""
            while stream.read(1 << 20):  # to the end of the file, where gzip compares its checksum
                pass
    except (EOFError, gzip.BadGzipFile, zlib.error, tarfile.TarError) as error:
        raise _bad(path, f"a truncated or corrupted archive ({error})", "an intact .tar.gz file") from error
    if not found:
        raise _bad(path, "none of the batches", f"{' or '.join(names)} in the binary version of CIFAR-10")
    return np.concatenate([np.frombuffer(found[name], np.uint8).reshape(-1, size) for name in names if name in found])


def _labels(path: Path, labels: Bytes, classes: int) -> Tensor:
    if labels.max() >= classes:
        where = int(labels.argmax())
        raise _bad(path, f"label {labels[where]} at image {where}", f"0..{classes - 1}")
    return torch.tensor(labels, dtype=torch.int64)


def _check_split(split: str, splits: Iterable[str]) -> None:
    if split not in splits:
        raise ValueError(f"split must be one of {', '.join(splits)}; got {split!r}")


def _bad(path: Path, found: str, expected: str) -> ValueError:
    advice = "Replace it by an intact copy; without root= and MINIGEN_DATA the published file is downloaded."
    return ValueError(f"{path}: found {found}; expected {expected}. {advice}")


def _file(name: str, file: str, root: Root, download: bool) -> Path:
    """The path of a data set's file: in the given folder, else in the cache, where it is downloaded if need be."""
    given = root if root is not None else os.environ.get("MINIGEN_DATA") or None
    if given is None:
        return _cached(name, file, download)
    folder = Path(given).expanduser().resolve()
    for path in (folder / name / file, folder / file):
        for candidate in (path, path.with_suffix("") if file.endswith("-ubyte.gz") else path):
            if candidate.is_file():
                return candidate
    holds = ", ".join(sorted(entry.name for entry in folder.iterdir())[:8]) if folder.is_dir() else "no such folder"
    raise FileNotFoundError(
        f"no {file} in {folder / name} or {folder} ({holds or 'empty'}). "
        f"Put it there, or {'unset MINIGEN_DATA' if root is None else 'leave out root='} to download it."
    )


def _cached(name: str, file: str, download: bool) -> Path:
    pooch, requests = _need("pooch", "downloading"), _need("requests", "downloading")
    source = SOURCES[name]
    cache = _cache_folder() / name
    path, reasons = cache / file, []
    if path.is_file():
        if _sha256(path) == source.sha256[file]:
            return path
        reasons.append(f"{path}: its hash is not the published one, so it is not used")
    if not download:
        raise FileNotFoundError(
            f"no intact copy of {file} in the cache {cache}. Call with download=True, or give root=."
        )
    for mirror in source.mirrors:
        try:
            # pooch writes beside the target and moves the file there once its hash is right; else ValueError.
            downloader = pooch.HTTPDownloader(progressbar=True, chunk_size=1 << 16, timeout=30)
            pooch.retrieve(mirror + file, f"sha256:{source.sha256[file]}", file, cache, downloader=downloader)
            return path
        except (requests.RequestException, ConnectionError, TimeoutError, ValueError) as error:
            reasons.append(f"{mirror + file}: {error}")
        except OSError as error:
            raise OSError(
                f"cannot write {path} ({error}). Make the folder writable and see that the disk has room, set "
                f"MINIGEN_CACHE to another folder, or give a folder with the files as root= or MINIGEN_DATA."
            ) from error
    raise ConnectionError(
        f"no mirror gave the published {file} of {name}. Check the network; or get the file elsewhere and give its "
        "folder as root= or MINIGEN_DATA. What was tried:\n  " + "\n  ".join(reasons)
    )


def _cache_folder() -> Path:
    """Where minigen keeps what it made or fetched: MINIGEN_CACHE, or the user's cache folder."""
    given = os.environ.get("MINIGEN_CACHE") or _need("pooch", "finding the cache folder").os_cache("minigen")
    return Path(given).expanduser().resolve()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _need(module: str, what: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = {"sklearn.datasets": "scikit-learn", "PIL.Image": "pillow"}.get(module, module)
        raise ImportError(f'{what} needs {package}: pip install "minigen[notebook]"') from error
