"""The figures of a likelihood by value: bits are bits, errors too, independent pixels at 1; and what is scored."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from minigen import data, metrics, runs
from minigen.objectives.autoregressive import categorical_log_prob
from minigen.recipes import RECIPES
from minigen.recipes import autoregressive as pixels
from minigen.tasks.images import ScoredImages


@pytest.mark.parametrize(("family", "unit"), [("autoregressive", "bits"), ("elbo", "nats")])
def test_a_score_and_its_error_have_one_unit_and_the_gap_has_none(family: str, unit: str) -> None:
    recipe = RECIPES[family, "shapes"]
    task = getattr(recipe, "task", None) or recipe.target
    independent, floor = task.world.independent_pixel_nll(), task.world.entropy().value
    scale = 1 / math.log(2) if unit == "bits" else 1.0
    figures = task.likelihood(metrics.Estimate(independent, 3.0))
    assert figures["gap_of_independent_pixels"].model == pytest.approx(1.0, abs=1e-12)
    assert figures[f"nll_standard_error_{unit}"].model == pytest.approx(3.0 * scale)
    score = figures[f"nll_{unit}_per_image"]
    assert score.model == pytest.approx(independent * scale)
    assert tuple(score)[1] == pytest.approx(floor * scale)
    half = task.likelihood(metrics.Estimate((independent + floor) / 2, 3.0))
    assert half["gap_of_independent_pixels"].model == pytest.approx(0.5, abs=1e-12)


def stored(split: str) -> data.Images:
    """Sixty random colour pictures of a split."""
    generator = torch.Generator().manual_seed(len(split))
    pictures = torch.randint(256, (60, 3, 2, 5), generator=generator).to(torch.uint8)
    return data.Images(pictures, torch.zeros(60).long(), ("a",), "random", split, 60)


def test_real_images_are_scored_by_value_and_on_the_test_split() -> None:
    """A density of 7 bits/dim on [-1, 1] is one of 7 + 7 bits of 256 levels; 30 numbers an image."""
    task = ScoredImages(
        "random", "", stored, shape=(3, 2, 5), change=lambda images, uniform: (images + uniform) / 128 - 1, levels=256
    )
    figures = task.likelihood(metrics.Estimate(7 * 30 * math.log(2), 0.25))
    assert figures["nll_nats_per_image"] == (pytest.approx(210 * math.log(2)), None)
    assert figures["nll_standard_error_nats"] == (0.25, None)
    assert figures["nll_bits_per_dim"] == (pytest.approx(14.0), None)
    held_out = task.held_out()
    assert torch.equal(((held_out + 1) * 128).floor().to(torch.uint8), stored("test").images)
    assert torch.equal(held_out, task.held_out())


@pytest.mark.parametrize("family", ["elbo", "diffusion"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_no_held_out_image_of_a_world_is_one_of_a_run(family: str, seed: int) -> None:
    task = RECIPES[family, "shapes"].task
    seen = next(task.batches(batch_size=200, seed=seed, device="cpu"))
    assert torch.cdist(task.held_out().flatten(1), seen.flatten(1)).min() > 1e-3


def test_a_run_is_scored_on_the_held_out_images_and_not_on_its_samples() -> None:
    recipe = replace(RECIPES["elbo", "shapes"], log_prob=lambda run, x, seed: -x.flatten(1).sum(1))
    samples = torch.zeros(50, 3, 8, 8)
    figures = runs.judge(SimpleNamespace(n=3), recipe, samples, 1)["figures"]
    sums = recipe.task.held_out().double().flatten(1).sum(1)
    assert figures["nll_nats_per_image"]["model"] == pytest.approx(sums.mean().item(), rel=1e-5)
    error = figures["nll_standard_error_nats"]["model"]
    assert error == pytest.approx(sums.std().item() / math.sqrt(2000), rel=1e-5)


@pytest.mark.parametrize("family", ["elbo", "autoregressive"])
def test_the_average_is_scored_and_not_the_network_of_the_last_step(family: str) -> None:
    recipe = RECIPES[family, "shapes"]
    run = recipe.build(steps=1, seed=0, device="cpu")
    with torch.no_grad():
        for parameter in run.objective.parameters():
            parameter.fill_(math.nan)
    x = recipe.task.held_out()[:3]
    assert recipe.log_prob(run, x).isfinite().all()


def test_a_score_of_codes_is_the_bound_of_five_hundred_draws() -> None:
    recipe = RECIPES["elbo", "shapes"]
    run = recipe.build(steps=1, seed=0, device="cpu")
    x, model = recipe.task.held_out()[:3], run.ema["model"]
    noise = torch.randn(500, 3, model.latent, generator=torch.Generator().manual_seed(7))
    with torch.no_grad():
        expected = model.log_weights(x, noise).double().logsumexp(0) - math.log(500)
    torch.testing.assert_close(recipe.log_prob(run, x, seed=7).double(), expected, rtol=1e-5, atol=1e-3)


def test_a_score_of_pixels_is_their_cross_entropy() -> None:
    recipe = RECIPES["autoregressive", "shapes"]
    run = recipe.build(steps=1, seed=0, device="cpu")
    x = recipe.task.held_out()[:3]
    with torch.no_grad():
        expected = categorical_log_prob(run.ema["model"](x), x)
    torch.testing.assert_close(pixels.log_prob(run, x), expected)
