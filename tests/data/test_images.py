"""minigen.data: the digits, cut-outs of pictures, light imports, and the copies of public sets beside the project."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from minigen import data


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MINIGEN_DATA", raising=False)
    monkeypatch.setenv("MINIGEN_CACHE", str(tmp_path / "cache"))


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


def coordinates(height: int, width: int, *, picture: int) -> torch.Tensor:
    """A picture whose pixels say where they are: (3, H, W) of picture, row, column."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([torch.full_like(rows, picture), rows, columns])


def test_patches_are_cut_out_of_one_picture_each_and_every_place_is_equally_likely() -> None:
    pictures = [coordinates(5, 7, picture=0), coordinates(3, 4, picture=1)]
    cut = data.patches(pictures, 3, 40_000, seed=5)
    assert (cut.shape, cut.dtype) == ((40_000, 3, 3, 3), torch.int64)
    corner = cut[:, :, 0, 0]
    inside = coordinates(3, 3, picture=0)
    assert torch.equal(cut, corner[:, :, None, None] + inside)  # whole squares, in the order of their pixels
    places, counts = corner.unique(dim=0, return_counts=True)
    assert len(places) == 3 * 5 + 1 * 2
    assert (counts - 40_000 / 17).abs().max() < 5 * (40_000 / 17) ** 0.5


def test_patches_have_a_seed_and_the_dtype_of_the_pictures() -> None:
    photographs = torch.randint(0, 256, (2, 3, 40, 50), dtype=torch.uint8)
    first = data.patches(photographs, 8, 20)
    assert (first.shape, first.dtype) == ((20, 3, 8, 8), torch.uint8)
    assert torch.equal(first, data.patches(photographs, 8, 20, seed=0))
    assert not torch.equal(first, data.patches(photographs, 8, 20, seed=1))
    assert torch.equal(data.patches(photographs[:1, :, :, :40], 40, 1), photographs[:1, :, :, :40])


@pytest.mark.parametrize(
    ("images", "options", "error", "message"),
    [
        (torch.zeros(2, 3, 8, 8), {"size": 9}, ValueError, r"picture 0 must have sides of at least 9; got \(8, 8\)"),
        (torch.zeros(3, 8, 8), {}, ValueError, r"picture 0 must be \(C, H, W\); got \(8, 8\)"),
        (torch.zeros(0, 3, 8, 8), {}, ValueError, "no pictures given"),
        ([], {}, ValueError, "no pictures given"),
        ([np.zeros((3, 8, 8))], {}, TypeError, "picture 0 must be a torch.Tensor .*; got ndarray"),
        (7, {}, TypeError, "images must be a tensor or a sequence of tensors; got int"),
        ([torch.zeros(3, 8, 8), torch.zeros(1, 8, 8)], {}, ValueError, "agree in channels, dtype and device"),
        ([torch.zeros(3, 8, 8), torch.zeros(3, 8, 8).byte()], {}, ValueError, "agree in channels, dtype and device"),
        (torch.zeros(2, 3, 8, 8), {"size": 0}, ValueError, "size must be at least 1; got 0"),
        (torch.zeros(2, 3, 8, 8), {"n": 0}, ValueError, "n must be at least 1; got 0"),
        (torch.zeros(2, 3, 8, 8), {"n": 2.5}, TypeError, "n must be an integer; got 2.5"),
        (torch.zeros(2, 3, 8, 8), {"seed": -1}, ValueError, "seed must be in"),
    ],
)
def test_patches_refuse(images: object, options: dict[str, object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        data.patches(images, **({"size": 3, "n": 4} | options))  # type: ignore[arg-type]


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


def test_import_is_light() -> None:
    heavy = {"pooch", "sklearn", "requests", "matplotlib", "PIL"}
    code = f"import sys, minigen.data; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.fixture(scope="module")
def shared() -> Path:
    folder = Path(os.environ.get("MINIGEN_DATA") or Path(__file__).parents[3] / "shared" / "data")
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
