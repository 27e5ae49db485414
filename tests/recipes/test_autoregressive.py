"""The recipes of chapter 10: what goes with an image in a batch belongs to it, and likelihoods average over labels."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from minigen import data, runs, tasks
from minigen.objectives.autoregressive import categorical_log_prob
from minigen.recipes import RECIPES
from minigen.recipes import autoregressive as pixels
from minigen.worlds import Shapes


def world() -> Shapes:
    return Shapes.preset("12x12", form="discrete")


def test_the_words_of_a_caption_name_it() -> None:
    captions = sorted(set(world().caption(world().factors(torch.arange(len(world()))))))
    words = tasks.caption_words(world(), captions)
    assert words.shape == (170, pixels.WORDS)
    assert len(words.unique(dim=0)) == 170
    assert torch.equal(words.sum(1), torch.full((170,), 4.0)), "kind, colour, size, background"
    part = tasks.caption_words(world(), ["a red disc"])
    assert part.sum() == 2
    assert (words @ part[0] == 2).sum() == 2 * 3, "both sizes, three backgrounds"


def test_half_of_the_batch_is_told_its_own_caption() -> None:
    recipe = RECIPES["autoregressive", "captions"]
    levels, words = next(recipe.batches(seed=3, device="cpu"))
    assert levels.shape == (recipe.batch_size, 1, 12, 12)
    assert torch.equal(words.sum(1), torch.tensor([0.0, 4.0]).repeat(recipe.batch_size // 2))
    own = tasks.caption_words(world(), world().caption(world().map_factors(levels)))
    assert torch.equal(words[1::2], own[1::2])


def test_a_digit_is_told_its_own_label() -> None:
    recipe = RECIPES["autoregressive", "digits"]
    levels, labels = next(recipe.batches(seed=3, device="cpu"))
    known = data.digits("train")
    distance = (levels.flatten(1)[:, None] != tasks.digit_levels(known.images).flatten(1)).sum(2)
    assert torch.equal(distance.amin(1), torch.zeros(recipe.batch_size, dtype=torch.int64))
    assert torch.equal(labels.argmax(1), known.labels[distance.argmin(1)])
    assert torch.equal(labels.sum(1), torch.ones(recipe.batch_size))


def test_a_likelihood_without_label_is_the_mean_over_labels() -> None:
    run = RECIPES["autoregressive", "digits"].build(steps=4, seed=0, device="cpu")
    with torch.no_grad():
        for weight in run.ema["model"].parameters():
            weight.mul_(4)  # so that labels matter
    x = torch.randint(17, (3, 1, 8, 8))
    by_label = pixels.label_log_probs(run, x)
    label = torch.eye(10)[7].expand(3, 10)
    with torch.no_grad():
        seven = categorical_log_prob(run.ema["model"](x, label), x)
    torch.testing.assert_close(by_label[:, 7], seven)
    assert by_label.std(1).min() > 0.1
    expected = by_label.double().exp().mean(1).log() if by_label.min() > -600 else by_label.logsumexp(1) - math.log(10)
    torch.testing.assert_close(pixels.unlabelled_log_prob(run, x).double(), expected.double(), rtol=0, atol=1e-3)


def test_samples_are_those_of_their_own_context_whatever_the_chunk() -> None:
    run = RECIPES["autoregressive", "digits"].build(steps=4, seed=0, device="cpu")
    with torch.no_grad():
        for weight in run.ema["model"].parameters():
            weight.mul_(4)
    context = torch.eye(10)[torch.arange(510) % 10]
    drawn = pixels.samples(run, 510, size=(8, 8), context=context)
    assert torch.equal(pixels.labelled_samples(run, 510, size=(8, 8)), drawn)
    other = pixels.samples(run, 510, size=(8, 8), context=context.roll(1, 0))
    assert (other != drawn).flatten(1).any(1).float().mean() > 0.9


@pytest.mark.parametrize("name", ["shapes", "captions", "tokens"])
def test_a_stored_network_is_near_the_floor(name: str) -> None:
    """The gap, as the mean of log p - log q over images: below 1.2 % of what independent pixels miss."""
    loaded = runs.stored("autoregressive", name)
    assert loaded.recipe.log_prob is not None
    x = world().sample(300, generator=torch.Generator().manual_seed(5))
    gap: Tensor = world().log_prob(x) - loaded.recipe.log_prob(loaded.run, x)
    assert 0 < gap.mean().item() < 0.012 * (world().independent_pixel_nll() - world().entropy().value)
