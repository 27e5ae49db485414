"""Emoji: the shipped files are what they say, both styles fit together, and the split leaks nothing."""

from __future__ import annotations

import shutil
import sys
import tomllib
from pathlib import Path

import pytest
import torch

from minigen import data

emoji_module = sys.modules["minigen.data.emoji"]
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def every() -> dict[str, data.Emoji]:
    return {style: data.emoji(style, "all") for style in ("twemoji", "noto")}


def test_both_styles_and_splits_fit_together(every) -> None:
    for style, whole in every.items():
        train, test = data.emoji(style), data.emoji(style, "test")
        assert (len(train), len(test), len(whole)) == (1335, 300, 1635)
        assert (len(whole.classes), len(whole.subcategory_names), len(whole.families.unique())) == (8, 95, 1284)
        assert whole.images.shape == (1635, 3, 32, 32)
        assert {t.dtype for t in (whole.labels, whole.subcategories, whole.families)} == {torch.int64}
        for part in (train, test):
            rows = torch.tensor([i for i, split in enumerate(whole.splits) if split == part.split])
            assert set(part.splits) == {part.split}
            for name in ("images", "labels", "subcategories", "families"):
                assert torch.equal(getattr(part, name), getattr(whole, name)[rows]), name
            for name in ("names", "short_names", "codes"):
                assert getattr(part, name) == tuple(getattr(whole, name)[i] for i in rows.tolist()), name
            assert (part.classes, part.subcategory_names) == (whole.classes, whole.subcategory_names)
    assert every["twemoji"].codes == every["noto"].codes
    assert not torch.equal(every["twemoji"].images, every["noto"].images)
    assert repr(data.emoji("noto", "test")) == "noto test: 300 of 300 images, 3x32x32, cpu"


def test_each_row_is_the_emoji_that_it_is_named(every) -> None:
    """The character of the code point has the name that Python's own table gives it, where that has one."""
    import unicodedata

    one = every["noto"]
    single = [(code, name) for code, name in zip(one.codes, one.names, strict=True) if "-" not in code]
    known = [(unicodedata.name(chr(int(code, 16)), "").lower(), name) for code, name in single]
    same = sum(ours == theirs for ours, theirs in known if theirs)
    assert same > 0.95 * len([theirs for _, theirs in known if theirs])
    by_short = {name: i for i, name in enumerate(one.short_names)}
    assert one.codes[by_short["grinning"]] == "1F600"
    assert one.classes[one.labels[by_short["pizza"]]] == "Food & Drink"
    assert one.subcategory_names[one.subcategories[by_short["pizza"]]] == "food-prepared"
    for short, channel in (("large_red_square", 0), ("large_green_square", 1), ("large_blue_square", 2)):
        for style in every.values():
            centre = style.images[by_short[short], :, 12:20, 12:20].double().mean((1, 2))
            assert centre.argmax() == channel, short
            assert style.images[by_short[short], :, 0, 0].tolist() == [255] * 3  # a corner is white


def test_partners_are_nearer_than_strangers(every) -> None:
    a, b = (style.images.double() / 127.5 - 1 for style in every.values())
    partner = (a - b).abs().mean()
    stranger = (a - b.roll(1, 0)).abs().mean()
    assert abs(partner - 0.352) < 0.01  # what the data's own table says of the test pictures
    assert stranger > 1.3 * partner


@pytest.mark.slow  # 400,000 pairs of pictures in each style
def test_no_family_and_no_near_copy_is_in_both_splits(every) -> None:
    whole = every["noto"]
    testing = torch.tensor([split == "test" for split in whole.splits])
    assert not set(whole.families[testing].tolist()) & set(whole.families[~testing].tolist())
    for style in every.values():
        x = style.images.flatten(1).float() * (2 / 255)
        nearest = torch.cdist(x[testing], x[~testing], p=1).amin() / x.shape[1]
        assert nearest >= 0.07


def test_emoji_move_with_all_their_tensors() -> None:
    moved = data.emoji("noto", "test").to("meta")
    assert isinstance(moved, data.Emoji)
    assert {t.device.type for t in (moved.images, moved.labels, moved.subcategories, moved.families)} == {"meta"}
    assert len(moved.names) == 300


def test_wrong_style_and_split_are_refused() -> None:
    with pytest.raises(ValueError, match="style must be one of twemoji, noto; got 'apple'"):
        data.emoji("apple")
    with pytest.raises(ValueError, match="split must be one of train, test, all; got 'valid'"):
        data.emoji("noto", "valid")


@pytest.mark.parametrize("file", ["emoji.json", "twemoji.webp"])
def test_a_changed_or_missing_file_is_refused(file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "sheets"
    shutil.copytree(emoji_module.FOLDER, folder)
    monkeypatch.setattr(emoji_module, "FOLDER", folder)
    content = bytearray((folder / file).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / file).write_bytes(content)
    with pytest.raises(ValueError, match=rf"{file} is not the file that minigen ships .*install it again"):
        data.emoji()
    (folder / file).unlink()
    with pytest.raises(FileNotFoundError, match=rf"{file} is missing: install minigen again"):
        data.emoji()


def test_missing_pillow_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(ImportError, match=r'emoji\(\) needs pillow: pip install "minigen\[notebook\]"'):
        data.emoji()


def test_the_files_travel_with_their_licences() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "data/emoji_sheets/*" in settings["tool"]["setuptools"]["package-data"]["minigen"]
    assert any(need.startswith("pillow") for need in settings["project"]["optional-dependencies"]["notebook"])
    beside = emoji_module.FOLDER / "README.md"
    for page in (beside, ROOT / "LICENSE", ROOT / "book/licences.md"):
        text = page.read_text(encoding="utf-8")
        for word in ("Twitter, Inc. and other contributors", "CC BY 4.0", "Google", "Apache", "Unicode", "MIT"):
            assert word in text, f"{page.name}: {word}"
    assert "drawn faces, no real persons" in (ROOT / "book/licences.md").read_text("utf-8")
    assert "Apache License" in (emoji_module.FOLDER / "LICENSE-APACHE-2.0.txt").read_text("utf-8")
