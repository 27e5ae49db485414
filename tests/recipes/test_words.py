"""The recipes of chapter 05: what a run says of words, images and captions, and that a short one learns regions."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from minigen import Run
from minigen.objectives.words import matching_score, region_context
from minigen.recipes import RECIPES
from minigen.recipes.words import SHAPES, by_sentences, by_words, found, matcher_of, picked, word_maps

DAMSM = RECIPES["damsm", "shapes"]


@pytest.fixture(scope="module")
def trained() -> Run:
    """A small one after 150 steps, a few seconds."""
    short = replace(DAMSM, settings={"width": 32}, batch_size=24)
    run = short.build(steps=150, seed=0)
    for _ in run(short.batches(seed=0, device="cpu"), 150):
        pass
    return run


def test_scores_and_maps_are_those_of_the_averaged_encoders(trained: Run) -> None:
    pairs, model = SHAPES.test_pairs(70), matcher_of(trained)
    tokens = SHAPES.tokens[pairs.number]
    with torch.no_grad():
        e, v = model.captions(tokens).tokens, model.from_regions(model.images(pairs.images).tokens)
    scores = matching_score(e, v, gamma1=5.0, gamma2=5.0, mask=tokens > 2)
    torch.testing.assert_close(by_words(trained, pairs.images, tokens), scores)
    maps = word_maps(trained, pairs.images, tokens)
    assert maps.shape == (70, 11, 6, 6)
    attention = region_context(e, v, gamma1=5.0, mask=tokens > 2)[1]
    torch.testing.assert_close(maps.flatten(2), attention)
    torch.testing.assert_close(maps.sum((2, 3)), torch.ones(70, 11))
    best = by_sentences(trained, pairs.images, SHAPES.tokens).argmax(1)
    assert torch.equal(picked(trained, 70, task=SHAPES), SHAPES.tokens[best])


def test_a_short_run_finds_regions_of_colours_and_captions_among_others(trained: Run) -> None:
    figures = found(trained, task=SHAPES)
    assert set(figures) == {
        *(f"{name}_map_area" for name in ("colour", "kind", "background")),
        *(f"{part}_found_among_64_by_{way}" for part in ("seen", "unseen") for way in ("words", "sentences")),
    }
    assert figures["colour_map_area"].model > 0.8
    for way in ("words", "sentences"):
        figure = figures[f"seen_found_among_64_by_{way}"]
        assert 0.3 < figure.model < figure.yardstick


def test_before_training_maps_and_scores_are_near_chance() -> None:
    figures = found(DAMSM.build(steps=1, seed=0), task=SHAPES)
    assert all(figures[f"unseen_found_among_64_by_{way}"].model < 0.1 for way in ("words", "sentences"))
    assert all(abs(figures[f"{name}_map_area"].model - 0.5) < 0.3 for name in ("colour", "kind"))
