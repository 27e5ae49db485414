"""minigen.data: file formats, written here byte by byte."""

import gzip
import hashlib
import io
import struct
import sys
import tarfile
import tracemalloc
import zlib
from dataclasses import replace
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


def test_folder_needs_no_pooch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pooch", None)
    assert len(data.mnist(root=write(tmp_path, GOOD))) == 5


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
BOS = zlib.compressobj(wbits=31)  # gzip; the archive ends in the middle of a batch, and no deflate block begins there
SPOILT = (
    BOS.compress(archive({ONE: batch(1, count=20)}, mode="w")[:40_000]) + BOS.flush(zlib.Z_FULL_FLUSH) + b"\xff" * 1000
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


@pytest.mark.parametrize("claimed", [5, 2**32 - 1, 60_000, 60_001])
def test_a_small_file_that_unpacks_to_gigabytes_is_refused_in_little_memory(claimed: int, tmp_path: Path) -> None:
    """64 MB of zeros, in 64 kB, whatever number of images the header claims."""
    packer = zlib.compressobj(1, wbits=31)
    parts = [packer.compress(bytes((0, 0, 8, 3)) + struct.pack(">3I", claimed, 28, 28))]
    parts += [packer.compress(bytes(1 << 20)) for _ in range(64)]
    write(tmp_path, GOOD | {IMAGES: b"".join([*parts, packer.flush()])})
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=rf"{IMAGES}: found (shape|at least)"):
            data.mnist(root=tmp_path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < (55e6 if claimed == 60_000 else 2e6)  # 60,000 images are 47 MB


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.REGTYPE])
def test_an_archive_that_unpacks_to_more_than_the_published_one_is_refused(
    kind: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Members that are skipped, and headers, which tarfile reads as a whole."""
    monkeypatch.setattr("minigen.data.files._MOST_BYTES", 10_000_000)
    bomb = tarfile.TarInfo("bomb")
    bomb.type, bomb.size = kind, 64 << 20
    packer = zlib.compressobj(1, wbits=31)
    parts = [packer.compress(bomb.tobuf(tarfile.GNU_FORMAT)), *(packer.compress(bytes(1 << 20)) for _ in range(64))]
    write(tmp_path, {ARCHIVE: b"".join([*parts, packer.flush()])})
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"more than 10,000,000 bytes once unpacked; expected .*published archive"):
            data.cifar10(root=tmp_path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 40e6
