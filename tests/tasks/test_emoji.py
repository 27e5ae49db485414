"""Emoji as a task: what stands in a batch belongs together, and the judge knows real pictures and copies."""

from __future__ import annotations

from collections import defaultdict

import pytest
import torch

from minigen import data
from minigen.tasks import EmojiTask
from minigen.tasks.emoji import COPY

pytest.importorskip("PIL")


@pytest.fixture(scope="module")
def task() -> EmojiTask:
    return EmojiTask("emoji", "few steps of the judge", judge_steps=5)


def test_every_picture_of_a_batch_stands_beside_its_own_label(task: EmojiTask) -> None:
    labels, symbols, rows_of = task.labels("train"), 0, defaultdict(set)
    for row, picture in enumerate(task.pictures("train")[0]):
        rows_of[picture.numpy().tobytes()].add(row)
    x, given = next(task.batches(batch_size=256, seed=3, device="cpu"))
    assert x.dtype == torch.float32
    mirrored, symbol = 0, data.emoji().classes.index("Symbols")
    for picture, label in zip(x, given, strict=True):
        as_it_is, turned = (rows_of[way.numpy().tobytes()] for way in (picture, picture.flip(2).contiguous()))
        rows = as_it_is | turned
        assert rows
        assert any(torch.equal(labels[row], label) for row in rows)
        mirrored += not as_it_is
        if task.categories(label[2:].argmax()[None]).item() == symbol:
            symbols += 1
            assert as_it_is  # letters and arrows stay as they are
    assert 60 < mirrored < 150
    assert symbols > 10


def test_a_label_names_style_and_subcategory_with_mean_square_one(task: EmojiTask) -> None:
    label = task.label(torch.tensor([0, 1]), torch.tensor([0, 94]))
    assert label.shape == (2, task.label_dim) == (2, 97)
    torch.testing.assert_close(label.square().mean(1), torch.ones(2))
    assert [row.nonzero().flatten().tolist() for row in label] == [[0, 2], [1, 96]]


def test_wanted_pictures_are_spread_as_the_training_pictures_are(task: EmojiTask) -> None:
    style, subcategory = task.wanted(2 * 1335)
    train = data.emoji()
    assert style.bincount().tolist() == [1335, 1335]
    for half in subcategory.view(2, -1):
        assert torch.equal(half.bincount(minlength=95), train.subcategories.bincount(minlength=95))
    assert torch.equal(task.categories(train.subcategories), train.labels)
    assert len(task.wanted(7)[0]) == 7


def test_the_distance_finds_copies_and_mirrored_copies(task: EmojiTask) -> None:
    known = task.pictures("train")[0][::267]
    assert task.distance(known).max() < 1e-6
    assert task.distance(known.flip(3)).max() < 1e-6
    moved = (known + 0.05).clamp(max=1.05)
    assert task.distance(moved).max() == pytest.approx(0.05, abs=1e-5)
    unseen = task.pictures("test")[0][::30]
    assert task.distance(unseen).min() > COPY


def test_the_distance_is_that_of_a_search_through_all(task: EmojiTask) -> None:
    known, unseen = task.pictures("train")[0], task.pictures("test")[0][::60]
    noise = torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    for x in torch.cat([unseen, noise]):
        every = [(known - way).abs().mean((1, 2, 3)).min() for way in (x, x.flip(2))]
        torch.testing.assert_close(task.distance(x[None])[0], min(every))


def test_training_pictures_are_called_copies(task: EmojiTask) -> None:
    figures = task.evaluate(task.pictures("train")[0][::30])
    assert figures["copied_share"].model == 1.0
    assert figures["distance_to_training_pictures"].model == pytest.approx(0.0, abs=1e-6)
    assert figures["distance_to_training_pictures"].yardstick > COPY
    assert set(figures) == {
        "category_as_asked_share_twemoji",
        "category_as_asked_share_noto",
        "copied_share",
        "distance_to_training_pictures",
    }


def test_the_judge_is_the_same_each_time(task: EmojiTask) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    again = EmojiTask("emoji", "the same", judge_steps=5)
    for a, b in zip(task.judge.parameters(), again.judge.parameters(), strict=True):
        assert torch.equal(a, b)
    assert torch.equal(torch.get_rng_state(), before)
