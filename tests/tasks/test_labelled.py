"""Labelled images: each stands beside its own class, and the judge tells obedience, validity and variety apart."""

from __future__ import annotations

import pytest
import torch

from minigen import data
from minigen.recipes.conditional import DIGITS, SHAPES


def test_a_batch_of_shapes_has_the_class_that_its_image_shows() -> None:
    x, label = next(SHAPES.batches(batch_size=300, seed=1, device="cpu"))
    assert label.dtype == torch.int64
    assert set(label.tolist()) == set(range(9))
    posterior = torch.stack([SHAPES.world.caption_posterior(x, text) for text in SHAPES.classes], dim=1)
    assert posterior.argmax(1).equal(label)
    assert posterior.max(1).values.min() > 0.99


def test_digits_stand_beside_their_own_class() -> None:
    x, label = next(DIGITS.batches(batch_size=200, seed=1, device="cpu"))
    train = data.digits("train")
    nearest = torch.cdist(x.flatten(1), DIGITS.real("train").flatten(1)).argmin(1)
    assert train.labels[nearest].equal(label)


def judged(index: torch.Tensor) -> dict[str, float]:
    images = SHAPES.world.render(SHAPES.world.factors(index))
    return {name: value.model for name, value in SHAPES.evaluate(images).items()}


def test_each_measure_sees_its_own_fault() -> None:
    wanted = SHAPES.wanted(900)
    fits = torch.stack([SHAPES.world.caption_indices(text) for text in SHAPES.classes])  # (9, 8)
    turn = torch.arange(900) // 9
    good = judged(fits[wanted, turn % 8])
    assert good["obeyed_share"] == good["valid_share"] == 1
    assert good["free_entropy_ratio"] == pytest.approx(1, abs=1e-3)
    frozen = judged(fits[wanted, 0])
    assert (frozen["obeyed_share"], frozen["valid_share"]) == (1, 1)
    assert frozen["free_entropy_ratio"] == pytest.approx(0, abs=1e-6)
    half = judged(fits[wanted, turn % 2])
    assert half["free_entropy_ratio"] == pytest.approx(1 / 3, abs=1e-3)  # log 2 / log 8
    other = judged(fits[(wanted + 1) % 9, turn % 8])
    assert (other["obeyed_share"], other["free_entropy_ratio"]) == (0, 0)
    assert other["valid_share"] == 1


def test_exact_images_of_the_classes_are_the_yardstick() -> None:
    figures = SHAPES.evaluate(torch.zeros(1800, 3, 8, 8))
    assert figures["obeyed_share"].yardstick == 1
    assert figures["valid_share"].yardstick >= 0.99
    assert 0.98 < figures["free_entropy_ratio"].yardstick < 1
