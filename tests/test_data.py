"""minigen.data: exact maps, the digits, and file formats written here byte by byte."""

import gzip
import hashlib
import io
import os
import struct
import subprocess
import sys
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from minigen import data

IMAGES, LABELS = "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"
ARCHIVE, BATCHES = "cifar-10-binary.tar.gz", "cifar-10-batches-bin/"
RECORD = 3073


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MINIGEN_DATA", raising=False)
    monkeypatch.setenv("MINIGEN_CACHE", str(tmp_path / "cache"))


# Levels and floats


@pytest.mark.parametrize("count", [2, 3, 16, 17, 255, 256, 1000])
def test_float_is_the_bin_centre_and_comes_back(count: int) -> None:
    levels = torch.arange(count)
    exact = [float(Fraction(2 * k + 1, count) - 1) for k in range(count)]
    values = data.to_float(levels, levels_count=count)
    assert values.dtype == torch.float32
    torch.testing.assert_close(values, torch.tensor(exact), rtol=0, atol=6e-8)
    assert torch.equal(data.to_levels(values, levels_count=count), levels)
    assert torch.equal(data.to_levels(values.double(), levels_count=count), levels)


def test_float_of_uint8_has_the_default_ends() -> None:
    values = data.to_float(torch.arange(256, dtype=torch.uint8))
    assert values[0].item() == -255 / 256
    assert values[255].item() == 255 / 256
    assert values[128].item() == 1 / 256


def test_levels_are_those_of_the_nearest_centre() -> None:
    images = torch.rand(2, 3, 50, 50, generator=torch.Generator().manual_seed(0)) * 2.4 - 1.2
    centres = data.to_float(torch.arange(16), levels_count=16)
    nearest = (images[..., None] - centres).abs().argmin(-1)  # outside [-1, 1] that is the first or the last
    assert torch.equal(data.to_levels(images, levels_count=16), nearest)
    assert data.to_levels(torch.tensor([-1.0, 1.0, -9.0, 9.0])).tolist() == [0, 255, 0, 255]
    assert data.to_levels(images).dtype == torch.int64


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: data.to_float(torch.zeros(2)), TypeError, "uint8 or int64; got torch.float32"),
        (lambda: data.to_float(torch.zeros(2, dtype=torch.bool)), TypeError, "got torch.bool"),
        (lambda: data.to_float(torch.tensor([0, 16]), levels_count=16), ValueError, r"0\.\.15; got 0\.\.16"),
        (lambda: data.to_float(torch.tensor([-1, 3])), ValueError, r"got -1\.\.3"),
        (lambda: data.to_float(torch.tensor([0]), levels_count=1), ValueError, "at least 2; got 1"),
        (lambda: data.to_levels(torch.tensor([3])), TypeError, "floating point.*got torch.int64"),
        (lambda: data.to_levels(torch.tensor([0.0, float("nan")])), ValueError, "finite"),
        (lambda: data.to_levels(torch.zeros(1), levels_count=0), ValueError, "at least 2; got 0"),
    ],
)
def test_maps_refuse(call: Callable[[], object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


# Digits


def test_digits_are_all_there_and_scaled_to_the_nearest_level() -> None:
    from sklearn.datasets import load_digits

    truth = load_digits()
    every = data.digits("all")
    assert every.images.shape == (1797, 1, 8, 8)
    assert (every.images.dtype, every.labels.dtype) == (torch.uint8, torch.int64)
    assert every.labels.tolist() == truth.target.tolist()
    ink = torch.tensor(truth.images)[:, None]
    assert (every.images - 255 * ink / 16).abs().max() <= 0.5
    assert (every.images.min(), every.images.max(), len(every.images.unique())) == (0, 255, 17)
    assert every.classes[3] == "3"


def test_digits_split_between_two_forms() -> None:
    train, test, every = data.digits(), data.digits("test"), data.digits("all")
    assert (len(train), len(test), train.split, test.split) == (1415, 382, "train", "test")
    assert torch.equal(torch.cat([train.images, test.images]), every.images)
    assert torch.equal(torch.cat([train.labels, test.labels]), every.labels)
    form = "".join(str(label) for label in every.labels[:48].tolist())  # what the first form begins with
    assert form.startswith("0123456789" * 3)
    assert "".join(str(label) for label in test.labels[:48].tolist()) == form


def test_unknown_split_is_refused() -> None:
    with pytest.raises(ValueError, match="train, test, all; got 'valid'"):
        data.digits("valid")
    with pytest.raises(ValueError, match="train, test; got 'all'"):
        data.mnist("all")
    with pytest.raises(ValueError, match="train, test; got 'all'"):
        data.cifar10("all")


def test_images_say_what_they_are_and_move() -> None:
    images = data.digits("test")
    assert repr(images) == "digits test: 382 of 382 images, 1x8x8, cpu"
    moved = images.to("meta")
    assert (moved.images.device.type, moved.labels.device.type, moved.classes) == ("meta", "meta", images.classes)


# IDX files in a folder


def idx(array: np.ndarray, *, kind: int = 8) -> bytes:
    return bytes((0, 0, kind, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


PIXELS = np.random.default_rng(0).integers(0, 256, (5, 28, 28), dtype=np.uint8)
CLASSES = np.array([3, 0, 9, 9, 1], dtype=np.uint8)
GOOD = {IMAGES: gzip.compress(idx(PIXELS)), LABELS: gzip.compress(idx(CLASSES))}


def write(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


@pytest.mark.parametrize("layout", ["folder", "flat", "variable", "unzipped", "unzipped with .gz name"])
@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_idx_folder_is_read(name: str, layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = dict(GOOD)
    if layout.startswith("unzipped"):
        files = {file: gzip.decompress(content) for file, content in files.items()}
    if layout == "unzipped":
        files = {file.removesuffix(".gz"): content for file, content in files.items()}
    write(tmp_path if layout == "flat" else tmp_path / name, files)
    if layout == "variable":
        monkeypatch.setenv("MINIGEN_DATA", str(tmp_path))
    load = getattr(data, name)
    images = load() if layout == "variable" else load(root=tmp_path)
    assert torch.equal(images.images, torch.tensor(PIXELS)[:, None])
    assert images.labels.tolist() == CLASSES.tolist()
    assert repr(images) == f"{name} train: 5 of 60,000 images, 1x28x28, cpu"
    assert not (tmp_path / "cache").exists()


def test_root_comes_before_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINIGEN_DATA", str(tmp_path / "nowhere"))
    assert len(data.mnist(root=write(tmp_path / "mine", GOOD))) == 5


def text(value: object) -> str:
    """The name of a parameter: never the bytes of a compressed file, which hold the time."""
    return value if isinstance(value, str) else "content"


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize(
    ("file", "content", "found", "expected"),
    [
        (IMAGES, GOOD[IMAGES][:1000], "truncated or corrupted gzip", "intact"),
        (IMAGES, flipped(GOOD[IMAGES]), "truncated or corrupted gzip", "intact"),
        (IMAGES, GOOD[IMAGES][:10] + b"\xff" * 1000, "truncated or corrupted gzip.*invalid block", "intact"),
        (LABELS, b"\x1f\x8b", "truncated or corrupted gzip", "intact"),
        (IMAGES, b"", "first bytes none", "00 00 08 03"),
        (IMAGES, b"<!DOCTYPE html>", "first bytes 3c 21 44 4f", "00 00 08 03"),
        (IMAGES, GOOD[LABELS], "first bytes 00 00 08 01", "uint8 in 3 dimensions"),
        (IMAGES, idx(PIXELS, kind=0x0D), "first bytes 00 00 0d 03", "IDX file of uint8"),
        (IMAGES, idx(PIXELS)[:10], "10 bytes", "header of 16"),
        (IMAGES, idx(PIXELS[:, :27]), r"shape \(5, 27, 28\)", r"\(N > 0, 28, 28\)"),
        (IMAGES, idx(PIXELS[:0]), r"shape \(0, 28, 28\)", r"\(N > 0, 28, 28\)"),
        (IMAGES, idx(PIXELS)[:-1], "3919 bytes of data", "3920 for shape"),
        (IMAGES, gzip.compress(idx(PIXELS) + b"\0"), "3921 bytes of data", "3920 for shape"),
        (LABELS, idx(CLASSES[:4]), "4 labels", "5, one for each image"),
        (LABELS, idx(np.array([3, 0, 10, 1, 1], dtype=np.uint8)), "label 10 at image 2", r"0\.\.9"),
    ],
    ids=text,
)
def test_bad_idx_file_is_refused(file: str, content: bytes, found: str, expected: str, tmp_path: Path) -> None:
    write(tmp_path, GOOD | {file: content})
    with pytest.raises(ValueError, match=rf"{file}: found .*{found}.*; expected .*{expected}.*Replace it"):
        data.mnist(root=tmp_path)


@pytest.mark.parametrize(("name", "other"), [("mnist", "fashion_mnist"), ("fashion_mnist", "mnist")])
def test_the_other_published_set_is_refused(
    name: str, other: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sha256 = {LABELS: hashlib.sha256(GOOD[LABELS]).hexdigest()}
    monkeypatch.setitem(data.SOURCES, other, replace(data.SOURCES[other], sha256=sha256))
    with pytest.raises(ValueError, match=f"{LABELS}: found the published file of {other}; expected that of {name}"):
        getattr(data, name)(root=write(tmp_path, GOOD))
    assert len(getattr(data, other)(root=tmp_path)) == 5


def test_missing_files_are_named_with_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError, match=rf"no {IMAGES} in .*mnist or .*\(no such folder\).*leave out root="):
        data.mnist(root=tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=rf"no {IMAGES} in .*\(empty\)"):
        data.mnist(root=write(tmp_path / "bare", {}))
    monkeypatch.setenv("MINIGEN_DATA", str(write(tmp_path / "other", {"cifar-10-python.tar.gz": b""})))
    with pytest.raises(FileNotFoundError, match=rf"no {ARCHIVE} in .*cifar-10-python.tar.gz.*unset MINIGEN_DATA"):
        data.cifar10()


# The CIFAR-10 archive


def batch(label: int, *, count: int = 2) -> bytes:
    """Records in which the pixel of channel c, row i, column j is 80 c + 2 i + (j > 0) + label."""
    pixels = [80 * c + 2 * i + (j > 0) + label for c in range(3) for i in range(32) for j in range(32)]
    return bytes([label, *pixels]) * count


def archive(members: dict[str, bytes], *, extra: tarfile.TarInfo | None = None, mode: str = "w:gz") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:  # type: ignore[call-overload]
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        if extra:
            tar.addfile(extra)
    return buffer.getvalue()


FULL = {BATCHES + f"data_batch_{i}.bin": batch(i, count=i) for i in (5, 2, 1, 4, 3)} | {
    BATCHES + "batches.meta.txt": b"airplane\n",
    BATCHES + "test_batch.bin": batch(9),
}


def test_cifar_batches_are_read_in_order_and_planes_are_channels(tmp_path: Path) -> None:
    write(tmp_path / "cifar10", {ARCHIVE: archive(FULL)})
    train, test = data.cifar10(root=tmp_path), data.cifar10("test", root=tmp_path)
    assert train.labels.tolist() == [1, 2, 2, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 5]
    assert train.images.shape == (15, 3, 32, 32)
    assert train.images[0, :, 0, 0].tolist() == [1, 81, 161]
    assert train.images[0, :, 31, 0].tolist() == [63, 143, 223]  # the last row
    assert train.images[0, :, 0, 31].tolist() == [2, 82, 162]  # the last column
    assert (test.labels.tolist(), test.classes[9], len(test)) == ([9, 9], "truck", 2)
    assert list(tmp_path.rglob("*")) == [tmp_path / "cifar10", tmp_path / "cifar10" / ARCHIVE]


def test_cifar_subset_is_read_also_with_a_dot_before_the_names(tmp_path: Path) -> None:
    write(tmp_path, {ARCHIVE: archive({"./" + BATCHES + "data_batch_1.bin": batch(7)})})
    assert repr(data.cifar10(root=tmp_path)) == "cifar10 train: 2 of 50,000 images, 3x32x32, cpu"
    with pytest.raises(ValueError, match=rf"{ARCHIVE}: found none of the batches; expected .*test_batch.bin"):
        data.cifar10("test", root=tmp_path)


def link(name: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
    return member


ONE = BATCHES + "data_batch_1.bin"
BEGIN = zlib.compressobj(wbits=31)  # gzip; the archive ends in the middle of a batch, and no deflate block begins there
SPOILT = (
    BEGIN.compress(archive({ONE: batch(1, count=20)}, mode="w")[:40_000])
    + BEGIN.flush(zlib.Z_FULL_FLUSH)
    + b"\xff" * 1000
)
CUT = gzip.compress(archive(FULL, mode="w")[: 512 + 5 * RECORD + 300])  # sound gzip around half an archive


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (archive(FULL)[:-200], "truncated or corrupted archive"),
        (archive(FULL)[:-4], "truncated or corrupted archive"),
        (flipped(archive(FULL)), "truncated or corrupted archive"),
        (SPOILT, "truncated or corrupted archive.*invalid block"),
        (archive(FULL)[:-8] + bytes(8), "truncated or corrupted archive.*CRC"),
        (CUT, "truncated or corrupted archive"),
        (archive(FULL, mode="w"), "truncated or corrupted archive"),
        (b"<!DOCTYPE html>", "truncated or corrupted archive"),
        (b"", "truncated or corrupted archive"),
        (gzip.compress(b"no tar" * 1000), "truncated or corrupted archive"),
        (archive({ONE: batch(1)[:-1]}), f"data_batch_1.bin of {2 * RECORD - 1} bytes"),
        (archive({ONE: b""}), "data_batch_1.bin of 0 bytes"),
        (archive({ONE: bytes(10_001 * RECORD)}), f"data_batch_1.bin of {10_001 * RECORD} bytes"),
        (archive({}, extra=link(ONE)), "not as a plain file"),
        (archive({ONE: batch(1), "./" + ONE: batch(2)}), "data_batch_1.bin twice"),
        (archive({"../" + ONE: batch(1), "/" + ONE: batch(1), "data_batch_1.bin": batch(1)}), "none of the batches"),
        (archive({"cifar-10-batches-py/data_batch_1": b"\x80\x04."}), "none of the batches"),
        (archive({ONE: batch(10)}), "label 10 at image 0"),
    ],
    ids=text,
)
def test_bad_cifar_archive_is_refused(content: bytes, found: str, tmp_path: Path) -> None:
    write(tmp_path, {ARCHIVE: content})
    with pytest.raises(ValueError, match=rf"{ARCHIVE}: found .*{found}.*; expected .*Replace it"):
        data.cifar10(root=tmp_path)
    assert list(tmp_path.iterdir()) == [tmp_path / ARCHIVE]


# Imports


@pytest.mark.parametrize(
    ("module", "call", "package"),
    [("pooch", data.mnist, "pooch"), ("sklearn.datasets", data.digits, "scikit-learn")],
)
def test_missing_package_is_named(
    module: str, call: Callable[[], object], package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf'needs {package}: pip install "minigen\[notebook\]"'):
        call()


def test_folder_needs_no_pooch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pooch", None)
    assert len(data.mnist(root=write(tmp_path, GOOD))) == 5


def test_import_is_light() -> None:
    code = "import sys, minigen.data; print(sorted({'pooch', 'sklearn', 'requests', 'matplotlib'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


# The copies beside the repository


@pytest.fixture(scope="module")
def shared() -> Path:
    folder = Path(os.environ.get("MINIGEN_DATA") or Path(__file__).parents[2] / "shared" / "data")
    if not (folder / "mnist").is_dir() or not (folder / "cifar10").is_dir():
        pytest.skip(f"no mnist/ and cifar10/ in {folder}; MINIGEN_DATA may name a folder that has them")
    return folder


def test_shared_mnist(shared: Path) -> None:
    train, test = data.mnist(root=shared), data.mnist("test", root=shared)
    assert train.images.shape[1:] == (1, 28, 28)
    assert train.labels.unique().tolist() == list(range(10))
    # The published test set: its first labels, and how often each digit occurs.
    assert test.labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert test.labels.bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert abs(test.images.double().mean().item() / 255 - 0.1325) < 5e-4


def test_shared_cifar10(shared: Path) -> None:
    for images in (data.cifar10(root=shared), data.cifar10("test", root=shared)):
        assert images.images.shape == (len(images), 3, 32, 32)
        assert images.labels.bincount().tolist() == [len(images) // 10] * 10
        # Neighbouring pixels of a photograph are alike; read as if the colours were interleaved, they are not.
        planes = images.images[::10].double()
        mixed = planes.reshape(-1, 32, 32, 3).permute(0, 3, 1, 2)
        assert planes.diff().abs().mean() < 0.7 * mixed.diff().abs().mean()
