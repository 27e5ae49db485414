"""The recipes of models with a likelihood: their data, what they draw, and how they are scored."""

from __future__ import annotations

import math

import pytest
import torch

from minigen import metrics, runs
from minigen.recipes import RECIPES
from minigen.tasks import ScoredTask

HERE = [name for name in RECIPES if name[0] in ("elbo", "autoregressive") and name[1] != "mnist"]


@pytest.mark.parametrize("name", HERE, ids=" ".join)
def test_a_recipe_builds_trains_draws_and_is_scored(name) -> None:
    recipe = RECIPES[name]
    task = recipe.task
    assert isinstance(task, ScoredTask)
    assert recipe.log_prob is not None
    run = recipe.build(steps=3, seed=3, device="cpu", precision="fp32")
    first, again = (next(recipe.batches(seed=3, device="cpu")) for _ in range(2))
    images = first[0] if isinstance(first, tuple) else first
    assert images.shape == (recipe.batch_size, *task.shape)
    assert images.dtype == (torch.int64 if name[0] == "autoregressive" else torch.float32)
    assert torch.equal(images, again[0] if isinstance(again, tuple) else again)
    steps = list(run(recipe.batches(seed=3, device="cpu"), 3))
    assert math.isfinite(steps[-1].read()["model/loss"])
    samples = recipe.draw(run, 5, seed=2)
    assert samples.shape[1:] == task.shape
    assert torch.equal(samples, recipe.draw(run, 5, seed=2))
    assert not torch.equal(samples, recipe.draw(run, 5, seed=3))
    assert torch.equal(task.held_out(), task.held_out())


def scored(name: tuple[str, str]) -> ScoredTask:
    task = RECIPES[name].task
    assert isinstance(task, ScoredTask)
    return task


@pytest.mark.parametrize("name", [("elbo", "shapes"), ("autoregressive", "shapes")], ids=" ".join)
def test_the_world_itself_scores_its_floor_and_nothing_scores_less(name) -> None:
    task = scored(name)
    world = task.world
    nats = metrics.nll(world.log_prob(task.held_out()))
    figures = task.likelihood(nats)
    unit = "bits" if name[0] == "autoregressive" else "nats"
    scale = 1 / math.log(2) if unit == "bits" else 1.0
    reached, floor = figures[f"nll_{unit}_per_image"]
    assert floor == pytest.approx(world.entropy().value * scale)
    assert abs(reached - floor) < 5 * nats.standard_error * scale
    assert figures["gap_of_independent_pixels"].model == pytest.approx(0, abs=0.02)


def test_real_images_are_scored_in_bits_of_their_levels() -> None:
    uniform = {"elbo": 64 * math.log(2), "autoregressive": 64 * math.log(17)}  # a density on [-1, 1]; levels
    for family, nats in uniform.items():
        figures = scored((family, "digits")).likelihood(metrics.Estimate(nats, 0.0))
        assert figures["nll_bits_per_dim"].model == pytest.approx(math.log2(17)), family
        assert figures["nll_bits_per_dim"].yardstick is None


def test_the_result_of_a_run_holds_its_likelihood_beside_the_floor() -> None:
    recipe = RECIPES["elbo", "shapes"]
    run = recipe.build(steps=1, seed=0, device="cpu")
    result = runs.judge(run, recipe, recipe.draw(run, 50, seed=1), 1)
    assert {"valid_share", "nll_nats_per_image", "gap_of_independent_pixels"} <= result["figures"].keys()
    assert result["figures"]["nll_nats_per_image"]["exact"] == pytest.approx(-165.383, abs=0.01)


def test_digits_have_seventeen_levels_in_both_forms() -> None:
    levels, numbers = scored(("autoregressive", "digits")).held_out(), scored(("elbo", "digits")).held_out()
    assert levels.unique().tolist() == list(range(17))
    assert ((numbers + 1) * 8.5).floor().clamp(max=16).long().equal(levels)
