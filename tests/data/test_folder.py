"""A reader's own pictures: what is found, how it is split and named, and when the cache is made anew."""

from __future__ import annotations

import os
import shutil
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from minigen import data
from minigen.data import Batches

folder_module = sys.modules["minigen.data.folder"]


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("MINIGEN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are decoded, as they are."""
    seen: list[str] = []
    real = folder_module.decode

    def spy(path: Path, size: int) -> np.ndarray:
        seen.append(path.name)
        return real(path, size)

    monkeypatch.setattr(folder_module, "decode", spy)
    return seen


def paint(path: Path, value: int, size: tuple[int, int] = (10, 8)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, value).save(path)


def read(path: Path, size: int = 4, **options) -> data.Images:
    return data.folder(path, size, progress=False, **options)


def values(images: data.Images) -> list[int]:
    return images.images[:, 0, 0, 0].tolist()


def test_pictures_come_in_the_order_of_their_paths_with_their_folders_as_classes(tmp_path: Path) -> None:
    for i, name in enumerate(["b/2.png", "b/10.png", "a/x/1.png", "a/1.png", "loose.png"]):
        paint(tmp_path / "pets" / name, 10 * i)
    images = read(tmp_path / "pets", split="all", test_share=0)
    assert values(images) == [30, 20, 10, 0, 40]
    assert images.classes == ("pets", "a", "a/x", "b")
    assert [images.classes[label] for label in images.labels] == ["a", "a/x", "b", "b", "pets"]
    assert images.images.shape == (5, 3, 4, 4)
    assert (images.images.dtype, images.labels.dtype) == (torch.uint8, torch.int64)
    assert repr(images) == "pets all: 5 of 5 images, 3x4x4, cpu"
    assert [path.name for path in (tmp_path / "pets").iterdir() if path.name not in ("a", "b")] == ["loose.png"]


def test_a_name_alone_decides_the_split(tmp_path: Path) -> None:
    top = tmp_path / "many"
    paint(top / "first.png", 0)
    for i in range(400):
        for place in ("drawn", "real"):
            path = top / place / f"{i:03d}.png"
            path.parent.mkdir(exist_ok=True)
            shutil.copy(top / "first.png", path)
    files = folder_module._find(top, 0.1)
    assert 0.05 < len(files.test) / 801 < 0.15
    twins = {name.split("/")[-1] for name in files.test}
    assert len(files.test) == 2 * len(twins)  # both of a name, or neither
    (top / "drawn" / "000.png").unlink()
    paint(top / "drawn" / "new.png", 1)
    after = folder_module._find(top, 0.1)
    assert files.test - {"drawn/000.png", "drawn/new.png"} == after.test - {"drawn/000.png", "drawn/new.png"}
    assert files.test < folder_module._find(top, 0.3).test
    names = files.names
    assert names == sorted(set(names) - files.test) + sorted(files.test)


def test_the_splits_share_no_picture_and_make_up_all(tmp_path: Path) -> None:
    for i in range(40):
        paint(tmp_path / "p" / f"c{i % 2}" / f"{i}.png", i)
    train, test, whole = (read(tmp_path / "p", split=split, test_share=0.4) for split in ("train", "test", "all"))
    assert sorted(values(whole)) == list(range(40))
    assert values(train) + values(test) == values(whole)
    assert torch.equal(torch.cat([train.labels, test.labels]), whole.labels)
    assert len(test) > 5
    assert [value % 2 for value in values(whole)] == whole.labels.tolist()


def test_folders_train_and_test_are_the_splits(tmp_path: Path) -> None:
    for i, name in enumerate(
        ["train/cat/1.png", "train/dog/1.png", "test/cat/2.png", "test/emu/1.png", "val/cat/3.png"]
    ):
        paint(tmp_path / "p" / name, i)
    with pytest.warns(UserWarning, match="1 image files of .* lie beside its folders train and test, and are left out"):
        train, test = (read(tmp_path / "p", split=split, test_share=0.9) for split in ("train", "test"))
    assert (values(train), values(test)) == ([0, 1], [2, 3])
    assert train.classes == test.classes == ("cat", "dog", "emu")
    assert (train.labels.tolist(), test.labels.tolist()) == ([0, 1], [0, 2])


@pytest.mark.parametrize("others", [["val"], ["Test"], [], ["validation", "extra"]])
def test_folders_that_look_like_splits_and_are_classes_are_named(tmp_path: Path, others: list[str]) -> None:
    for i, name in enumerate(["train", *others]):
        paint(tmp_path / name / "cats" / "0.png", i)
    named = ", ".join(sorted({"train", *others} - {"extra"}))
    with pytest.warns(UserWarning, match=f"the folders {named} of .* are taken for classes and not for splits"):
        assert "train/cats" in read(tmp_path, split="all").classes


def test_broken_files_are_named_and_counted(tmp_path: Path) -> None:
    top = tmp_path / "p"
    paint(top / "good.png", 9)
    (top / "text.jpg").write_text("no picture")
    (top / "empty.PNG").touch()
    paint(top / "cut.bmp", 9)
    (top / "cut.bmp").write_bytes((top / "cut.bmp").read_bytes()[:100])
    (top / "gone.gif").symlink_to(top / "nowhere.gif")
    for name in ("notes.txt", ".hidden.png", "Thumbs.db", "noending"):  # passed over without a word
        (top / name).write_text("no picture")
    (top / ".hidden").mkdir()
    paint(top / ".hidden" / "inside.png", 8)
    for _ in range(2):  # when the cache is made, and from the cache
        with pytest.warns(UserWarning, match="4 of 5 image files in") as caught:
            images = read(top, test_share=0)
        (text,) = [str(warning.message) for warning in caught]
        assert all(name in text for name in ("text.jpg", "empty.PNG", "cut.bmp", "gone.gif"))
        assert caught[0].filename == __file__  # where it is called, not inside the library
        assert (values(images), len(images), images.published) == ([9], 1, 5)


def test_of_many_broken_files_some_are_named(tmp_path: Path) -> None:
    paint(tmp_path / "p" / "good.png", 9)
    for i in range(9):
        (tmp_path / "p" / f"{i}.png").touch()
    with pytest.warns(UserWarning, match=r"9 of 10 .*'4.png' \(.*\) and 4 more"):
        read(tmp_path / "p", test_share=0)


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    top = tmp_path / "p"
    paint(top / "a" / "1.png", 1)
    paint(tmp_path / "elsewhere" / "2.png", 2)
    (top / "a" / "up").symlink_to(top)
    (top / "b").symlink_to(tmp_path / "elsewhere")
    (top / "self").symlink_to(top / "self")
    (top / "a" / "3.png").symlink_to(tmp_path / "elsewhere" / "2.png")
    images = read(top, test_share=0)
    assert (values(images), images.classes) == ([1, 2, 2], ("a", "b"))


def test_names_of_any_letters(tmp_path: Path) -> None:
    top = tmp_path / "père"
    names = ["ä ö.png", "日本.png", "a'b\"c.png"]
    if sys.platform == "linux":  # where a name is any bytes
        names.append(os.fsdecode(b"\xff.png"))
    for i, name in enumerate(names):
        paint(tmp_path / "plain.png", i)
        top.mkdir(exist_ok=True)
        shutil.copy(tmp_path / "plain.png", top / name)
    for _ in range(2):
        assert sorted(values(read(top, test_share=0))) == list(range(len(names)))


def test_files_are_decoded_once_until_the_folder_changes(tmp_path: Path, decoded: list[str]) -> None:
    top = tmp_path / "p"
    for i in range(3):
        paint(top / f"{i}.png", i)

    def again() -> tuple[list[int], int]:
        decoded.clear()
        return values(read(top, test_share=0)), len(decoded)

    assert again() == ([0, 1, 2], 3)
    assert again() == ([0, 1, 2], 0)
    paint(top / "3.png", 3)  # added
    assert again() == ([0, 1, 2, 3], 4)
    (top / "0.png").unlink()  # taken away
    assert again() == ([1, 2, 3], 3)
    (top / "1.png").rename(top / "9.png")
    assert again() == ([2, 3, 1], 3)
    paint(top / "2.png", 77, size=(11, 8))  # another picture of another size
    assert again() == ([77, 3, 1], 3)
    stamp = (top / "3.png").stat()
    content = (top / "3.png").read_bytes()
    paint(top / "3.png", 4)
    assert len((top / "3.png").read_bytes()) == len(content)
    os.utime(top / "3.png", ns=(stamp.st_atime_ns, stamp.st_mtime_ns + 1))  # as long as before, and a moment younger
    assert again() == ([77, 4, 1], 3)
    assert again() == ([77, 4, 1], 0)


def test_each_size_and_share_has_its_own_cache(tmp_path: Path, decoded: list[str]) -> None:
    for i in range(10):
        paint(tmp_path / "p" / f"{i}.png", i)
    for _ in range(2):
        assert read(tmp_path / "p", 4, split="all").images.shape[-1] == 4
        assert read(tmp_path / "p", 6, split="all").images.shape[-1] == 6
        assert len(read(tmp_path / "p", 4, test_share=0)) == 10
    assert len(decoded) == 30


def test_two_folders_of_one_name_do_not_mix(tmp_path: Path) -> None:
    for i, place in enumerate(("one", "two")):
        paint(tmp_path / place / "p" / "a.png", i)
        os.utime(tmp_path / place / "p" / "a.png", (1, 1))
    for _ in range(2):
        assert [values(read(tmp_path / place / "p", test_share=0)) for place in ("one", "two")] == [[0], [1]]


def test_the_cache_lies_where_it_is_asked_for(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paint(tmp_path / "p" / "a.png", 5)
    read(tmp_path / "p", test_share=0)
    assert [path.name for path in (tmp_path / "p").iterdir()] == ["a.png"]
    assert list((cache / "folder").iterdir())
    read(tmp_path / "p", test_share=0, cache=tmp_path / "p")
    assert len(list((tmp_path / "p").rglob("*.pixels"))) == 1
    monkeypatch.setenv("MINIGEN_CACHE", "")
    monkeypatch.setattr("pooch.os_cache", lambda project: tmp_path / "os" / project)
    read(tmp_path / "p", test_share=0)
    assert list((tmp_path / "os" / "minigen" / "folder").iterdir())


def test_it_is_mapped_quietly_and_writing_to_it_stays_here(tmp_path: Path) -> None:
    for i in range(3):
        paint(tmp_path / "p" / f"{i}.png", i)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        images = read(tmp_path / "p", test_share=0)
        batch, labels = next(Batches(images.images, images.labels, batch_size=3, transform=(data.to_float, None)))
    assert (batch.dtype, labels.dtype) == (torch.float32, torch.int64)
    maps = Path("/proc/self/maps")
    assert not maps.exists() or ".pixels" in maps.read_text()
    images.images.fill_(200)
    assert values(read(tmp_path / "p", test_share=0)) == [0, 1, 2]


def test_a_bar_shows_the_progress_if_wanted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paint(tmp_path / "p" / "a.png", 5)
    data.folder(tmp_path / "p", 4, test_share=0)
    assert "decoding p" in capsys.readouterr().err
    data.folder(tmp_path / "p", 5, test_share=0, progress=False)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"size": 0}, ValueError, r"size must be in 1\.\.4096; got 0"),
        ({"size": 64.0}, TypeError, "size must be an integer; got 64.0"),
        ({"size": (64, 64)}, TypeError, "size must be an integer"),
        ({"split": "valid"}, ValueError, "split must be one of train, test, all; got 'valid'"),
        ({"test_share": 1.5}, ValueError, r"test_share must be a number in 0\.\.1; got 1.5"),
        ({"test_share": float("nan")}, ValueError, "got nan"),
        ({"test_share": "10%"}, ValueError, "got '10%'"),
        ({"path": "nowhere"}, FileNotFoundError, "there is no folder .*nowhere"),
        ({"path": "p/a.png"}, NotADirectoryError, "a.png is a file; expected a folder.*unpack an archive"),
        ({"path": "empty"}, FileNotFoundError, "no image in .*empty or below; it holds nothing.*Suffixes.* .png"),
        ({"path": "texts"}, FileNotFoundError, "it holds a.txt, b.npy"),
        ({"path": "broken"}, ValueError, r"none of the 2 image files in .*broken could be read: 'a.png' \("),
        ({"test_share": 0, "split": "test"}, ValueError, "'test' of .* no image: 'train' has 1, 'test' has 0"),
        ({"test_share": 1}, ValueError, "'train' of .* no image: 'train' has 0, 'test' has 1"),
    ],
)
def test_wrong_arguments_and_folders_are_refused(options, error: type[Exception], says: str, tmp_path: Path) -> None:
    paint(tmp_path / "p" / "a.png", 5)
    for name in ("empty/", "texts/a.txt", "texts/b.npy", "broken/a.png", "broken/b.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        if name.endswith("/"):
            (tmp_path / name).mkdir()
        else:
            (tmp_path / name).touch()
    given = {"size": 4, "progress": False} | options
    with pytest.raises(error, match=says):
        data.folder(tmp_path / given.pop("path", "p"), given.pop("size"), **given)


def test_an_empty_path_is_not_this_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paint(tmp_path / "a.png", 5)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="path must name a folder of images; got ''"):
        data.folder("", 4, progress=False)


def test_folders_for_splits_are_named_where_one_is_empty(tmp_path: Path) -> None:
    paint(tmp_path / "train" / "a.png", 5)
    (tmp_path / "test").mkdir()
    with pytest.raises(ValueError, match=r"has no image: 'train' has 1, 'test' has 0\. Put images into .*test"):
        read(tmp_path, split="test")


def test_missing_pillow_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paint(tmp_path / "p" / "a.png", 5)
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(ImportError, match=r'folder\(\) needs pillow: pip install "minigen\[notebook\]"'):
        read(tmp_path / "p")
