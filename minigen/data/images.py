"""Real images: handwritten digits that need no network, and MNIST, Fashion-MNIST and CIFAR-10.

Each data set is a function that returns `Images`: a whole split as uint8, small enough to live on the device.
`to_float` and `to_levels` go between levels and the range [-1, 1] that networks see. Nothing here is unpickled, and no
archive is unpacked to disk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from minigen.data.checks import need_integer, need_seed
from minigen.data.files import SOURCES, Root, _bad, _check_split, _file, _labels, _need, _read_cifar, _read_idx, _sha256


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

    def to(self, device: torch.device | str) -> Images:
        """The same split with its tensors on `device`."""
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))


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


def patches(images: Tensor | Sequence[Tensor], size: int, n: int, *, seed: int = 0) -> Tensor:
    """Random square cut-outs of larger pictures: every position of every picture is equally likely.

    Args:
        images: pictures (N, C, H, W), or a sequence of pictures (C, H, W) that may differ in height and width.
        size: height and width of a cut-out, at most the least side of the pictures.
        n: number of cut-outs.
        seed: of the positions.

    Returns:
        (n, C, size, size), in the dtype and on the device of the pictures.

    Raises:
        TypeError: what is no tensor or no integer.
        ValueError: no pictures, another shape, channels or dtypes that differ, a picture smaller than `size`.

    >>> from sklearn.datasets import load_sample_image
    >>> photograph = torch.tensor(load_sample_image("china.jpg")).permute(2, 0, 1)
    >>> photograph.shape, patches([photograph], 32, 500).shape
    (torch.Size([3, 427, 640]), torch.Size([500, 3, 32, 32]))
    """
    size, n = need_integer("size", size, 1), need_integer("n", n, 1)
    if not isinstance(images, Tensor | Sequence):
        raise TypeError(f"images must be a tensor or a sequence of tensors; got {type(images).__name__}")
    pictures = list(images)
    if not pictures:
        raise ValueError("no pictures given; expected (N, C, H, W) or a sequence of (C, H, W)")
    for i, picture in enumerate(pictures):
        if not isinstance(picture, Tensor):
            raise TypeError(f"picture {i} must be a torch.Tensor (C, H, W); got {type(picture).__name__}")
        if picture.ndim != 3:
            raise ValueError(f"picture {i} must be (C, H, W); got {tuple(picture.shape)}")
        if min(picture.shape[1:]) < size:
            raise ValueError(f"picture {i} must have sides of at least {size}; got {tuple(picture.shape[1:])}")
    kinds = {(len(picture), picture.dtype, picture.device) for picture in pictures}
    if len(kinds) > 1:
        raise ValueError(f"pictures must agree in channels, dtype and device; got {sorted(map(str, kinds))}")
    columns = torch.tensor([picture.shape[2] - size + 1 for picture in pictures])
    positions = torch.tensor([picture.shape[1] - size + 1 for picture in pictures]) * columns
    ends = positions.cumsum(0)
    drawn = torch.randint(int(ends[-1]), (n,), generator=torch.Generator().manual_seed(need_seed(seed)))
    which = torch.searchsorted(ends, drawn, right=True)
    place = drawn - (ends - positions)[which]
    rows, left = place // columns[which], place % columns[which]
    cuts = zip(which.tolist(), rows.tolist(), left.tolist(), strict=True)
    return torch.stack([pictures[k][:, i : i + size, j : j + size] for k, i, j in cuts])
