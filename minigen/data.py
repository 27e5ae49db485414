"""Real images: handwritten digits that need no network, and MNIST, Fashion-MNIST and CIFAR-10.

Each data set is a function that returns `Images`: a whole split as uint8, small enough to live on the device.
`to_float` and `to_levels` go between levels and the range [-1, 1] that networks see. Nothing here is unpickled, and no
archive is unpacked to disk.
"""

import gzip
import hashlib
import importlib
import os
import struct
import tarfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Bytes = npt.NDArray[np.uint8]
Root = str | os.PathLike[str] | None


@dataclass(frozen=True, eq=False, repr=False)
class Images:
    """One split of a data set, in memory.

    Attributes:
        images: uint8 levels 0..255, (N, C, H, W).
        labels: int64 class indices, (N,).
        classes: the name of each class.
        name: of the data set, such as "mnist".
        split: "train", "test" or "all".
        published: number of images in the published split; `len(self)` is smaller where a folder holds a subset, and a
            figure computed from a subset should say so.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    name: str
    split: str
    published: int

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        shape = "x".join(str(size) for size in self.images.shape[1:])
        return f"{self.name} {self.split}: {len(self):,} of {self.published:,} images, {shape}, {self.images.device}"

    def to(self, device: torch.device | str) -> "Images":
        """The same split with its tensors on `device`."""
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))


def to_float(levels: Tensor, *, levels_count: int = 256) -> Tensor:
    """Map level k of K to (2k + 1)/K - 1, the centre of the k-th of K equal bins of [-1, 1].

    Args:
        levels: uint8 or int64, any shape, values 0..K-1. The values are checked on a CPU only: on an accelerator the
            check would make every training step wait.
        levels_count: K, the number of levels.

    Returns:
        float32 of the same shape, exact for K = 256.

    Raises:
        TypeError: levels are neither uint8 nor int64.
        ValueError: fewer than two levels, or a value outside 0..K-1.
    """
    _check_count(levels_count)
    if levels.dtype not in (torch.uint8, torch.int64):
        raise TypeError(f"levels must be uint8 or int64; got {levels.dtype}: floats in [-1, 1] need no conversion")
    if levels.device.type == "cpu" and levels.numel():
        low, high = int(levels.min()), int(levels.max())
        if low < 0 or high >= levels_count:
            raise ValueError(f"levels must be in 0..{levels_count - 1}; got {low}..{high}: is levels_count right?")
    return (2 * levels.to(torch.int64) + 1 - levels_count).to(torch.float32) / levels_count


def to_levels(images: Tensor, *, levels_count: int = 256) -> Tensor:
    """Map each value in [-1, 1] to the level of its bin: the inverse of `to_float`, with values outside clamped.

    Args:
        images: floating point, any shape. bfloat16 and float16 are widened first, but they cannot hold all 256 levels.
        levels_count: K, the number of levels.

    Returns:
        int64 levels 0..K-1 of the same shape: floor((x + 1) K / 2), where x = 1 belongs to the last bin.

    Raises:
        TypeError: images are not floating point.
        ValueError: fewer than two levels, or a value that is not finite.
    """
    _check_count(levels_count)
    if not images.is_floating_point():
        raise TypeError(f"images must be floating point in [-1, 1]; got {images.dtype}: levels need no conversion")
    if not images.isfinite().all():
        raise ValueError("images must be finite; got NaN or infinity: look for the step that diverged")
    wide = images.float() if images.dtype in (torch.float16, torch.bfloat16) else images
    return ((wide + 1) * (levels_count / 2)).floor().clamp(0, levels_count - 1).to(torch.int64)


def _check_count(levels_count: int) -> None:
    if levels_count < 2:
        raise ValueError(f"levels_count must be at least 2; got {levels_count}")


# The images come form by form: nearly the same run of labels starts again about every 130 images, 14 times in all, and
# at 1,415 for the third time from the end. A split there shares no form between training and test. (The description
# of the data speaks of 13 writers, so one of them may have filled in two forms.)
_DIGITS_TRAIN = 1415


def digits(split: str = "train") -> Images:
    """The 1,797 handwritten digits of 8x8 pixels that scikit-learn ships; needs no network.

    The data are the test set of the UCI "Optical Recognition of Handwritten Digits" (Alpaydin and Kaynak, 1998). Ink
    counts v in 0..16 become the levels round(255 v / 16): 17 levels spread over 0..255.

    Args:
        split: "train" (the first 1,415), "test" (the last 382, from other forms than the first) or "all".

    Returns:
        images (N, 1, 8, 8).

    Raises:
        ImportError: scikit-learn is not installed.
        ValueError: an unknown split.
    """
    _check_split(split, ("train", "test", "all"))
    data = _need("sklearn.datasets", "digits()").load_digits()
    part = {"train": slice(_DIGITS_TRAIN), "test": slice(_DIGITS_TRAIN, None), "all": slice(None)}[split]
    images = torch.tensor((255 * data.images[part] / 16).round(), dtype=torch.uint8)[:, None]  # (N, 1, 8, 8)
    labels = torch.tensor(data.target[part], dtype=torch.int64)
    return Images(images, labels, tuple("0123456789"), "digits", split, len(images))


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


def mnist(split: str = "train", *, root: Root = None, download: bool = True) -> Images:
    """MNIST, handwritten digits of 28x28 pixels (LeCun, Bottou, Bengio and Haffner, 1998).

    The files come from the folder `root`, else from the folder that MINIGEN_DATA names, else from the cache, else by
    download into the cache (MINIGEN_CACHE, or the user's cache folder). A folder is checked for format and shape, so it
    may hold a subset; a download is checked for its published hash. A folder that is given is the only place looked in.

    Args:
        split: "train" (60,000 published) or "test" (10,000).
        root: holds the IDX files in `mnist/` or directly, with or without gzip.
        download: False uses the cache and never the network.

    Returns:
        images (N, 1, 28, 28).

    Raises:
        FileNotFoundError: a file is not in the given folder, or not in the cache with `download=False`.
        ValueError: an unknown split; a file that is truncated, corrupted or of another format or shape.
        ConnectionError: no mirror gave the file; the message lists what each one answered.
        OSError: the cache cannot be written.
        ImportError: pooch is not installed and no folder is given.
    """
    return _idx_images("mnist", split, root, download)


def fashion_mnist(split: str = "train", *, root: Root = None, download: bool = True) -> Images:
    """Fashion-MNIST, articles of clothing of 28x28 pixels (Xiao, Rasul and Vollgraf, 2017).

    Arguments, result and errors are those of `mnist`; the folder is `fashion_mnist/`. Its files have the names that
    MNIST's have: published files of the one given for the other are refused, but subsets cannot be told apart.
    """
    return _idx_images("fashion_mnist", split, root, download)


def cifar10(split: str = "train", *, root: Root = None, download: bool = True) -> Images:
    """CIFAR-10, colour photographs of 32x32 pixels (Krizhevsky, 2009), from the binary archive.

    Arguments and errors are those of `mnist`; the file is `cifar10/cifar-10-binary.tar.gz` and "train" has 50,000
    published images. An archive in a folder may lack some of the five training batches. It is read as a stream.

    Returns:
        images (N, 3, 32, 32).
    """
    source = SOURCES["cifar10"]
    _check_split(split, source.published)
    path = _file("cifar10", "cifar-10-binary.tar.gz", root, download)
    names = [f"data_batch_{i}.bin" for i in range(1, 6)] if split == "train" else ["test_batch.bin"]
    records = _read_cifar(path, [f"cifar-10-batches-bin/{name}" for name in names])  # (N, 3073)
    labels = _labels(path, records[:, 0], len(source.classes))
    images = torch.tensor(records[:, 1:]).reshape(-1, 3, 32, 32)  # (N, 3, 32, 32)
    return Images(images, labels, source.classes, "cifar10", split, source.published[split])


def _idx_images(name: str, split: str, root: Root, download: bool) -> Images:
    source = SOURCES[name]
    _check_split(split, source.published)
    prefix = {"train": "train", "test": "t10k"}[split]
    images_path, labels_path = (
        _file(name, f"{prefix}-{kind}-ubyte.gz", root, download) for kind in ("images-idx3", "labels-idx1")
    )
    digest = _sha256(labels_path)
    for other, published in SOURCES.items():
        if other != name and digest in published.sha256.values():
            raise _bad(labels_path, f"the published file of {other}", f"that of {name}")
    images = torch.tensor(_read_idx(images_path, (28, 28)))[:, None]  # (N, 1, 28, 28)
    labels = _labels(labels_path, _read_idx(labels_path, ()), len(source.classes))  # (N,)
    if len(images) != len(labels):
        raise _bad(labels_path, f"{len(labels)} labels", f"{len(images)}, one for each image of {images_path}")
    return Images(images, labels, source.classes, name, split, source.published[split])


def _read_idx(path: Path, shape: tuple[int, ...]) -> Bytes:
    """The uint8 array (N, *shape) of an IDX file, compressed by gzip or not, whatever its name says."""
    raw = path.read_bytes()
    if raw[:2] == b"\x1f\x8b":
        try:
            raw = gzip.decompress(raw)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise _bad(path, f"a truncated or corrupted gzip file ({error})", "an intact one") from error
    ndim = 1 + len(shape)
    magic, start = bytes((0, 0, 8, ndim)), 4 + 4 * ndim
    if raw[:4] != magic:
        expected = f"an IDX file of uint8 in {ndim} dimensions, which begins with {magic.hex(' ')}"
        raise _bad(path, f"first bytes {raw[:4].hex(' ') or 'none'}", expected)
    if len(raw) < start:
        raise _bad(path, f"{len(raw)} bytes", f"an IDX header of {start}")
    dims = struct.unpack(f">{ndim}I", raw[4:start])
    if dims[0] == 0 or dims[1:] != shape:
        raise _bad(path, f"shape {dims}", f"({', '.join(['N > 0', *map(str, shape)])})")
    if len(raw) - start != prod(dims):
        raise _bad(path, f"{len(raw) - start} bytes of data", f"{prod(dims)} for shape {dims}")
    return np.frombuffer(raw, np.uint8, offset=start).reshape(dims)


def _read_cifar(path: Path, names: list[str]) -> Bytes:
    """The records (N, 1 + 3072) of those of the named batches that the archive holds, in the order of `names`."""
    size, most = 1 + 3 * 32 * 32, 10_000
    found: dict[str, bytes] = {}
    try:
        with gzip.open(path) as stream:
            with tarfile.open(fileobj=stream, mode="r|") as archive:
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
    cache = Path(os.environ.get("MINIGEN_CACHE") or pooch.os_cache("minigen")).expanduser().resolve() / name
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


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _need(module: str, what: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = {"sklearn.datasets": "scikit-learn"}.get(module, module)
        raise ImportError(f'{what} needs {package}: pip install "minigen[notebook]"') from error
