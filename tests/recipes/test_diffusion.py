"""The recipes of diffusion models: the levels that they draw at, and a score that the exact denoiser knows."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace

import pytest
import torch

from minigen.objectives.diffusion import Schedule
from minigen.recipes import RECIPES
from minigen.recipes.diffusion import log_prob
from minigen.samplers import diffusion as sampler
from minigen.worlds import Shapes


def run_of(denoise) -> SimpleNamespace:
    """A run with this denoiser in the place of its averaged network."""
    return SimpleNamespace(device=torch.device("cpu"), ema={"model": denoise})


@pytest.mark.parametrize(
    ("name", "schedule"),
    [("shapes", Schedule.normal(mean=-1.0, std=3.0)), ("digits", Schedule.even()), ("mnist", Schedule.even())],
)
def test_it_draws_in_twenty_steps_at_the_levels_of_its_own(name: str, schedule: Schedule) -> None:
    recipe, asked = RECIPES["diffusion", name], []

    def spy(x, alpha, sigma):
        asked.append((float(alpha), float(sigma)))
        return torch.full_like(x, 0.25)

    drawn = recipe.draw(run_of(spy), 3, seed=2)
    levels = [(float(a), float(s)) for a, s in sampler.levels(schedule.path(20))]
    assert asked == levels[:-1]
    assert levels[-1] == (1.0, 0.0)
    assert torch.equal(drawn, torch.full((3, *recipe.task.shape), 0.25))  # the last step gives the guess itself


def test_the_levels_of_training_leap_over_those_where_backgrounds_are_decided() -> None:
    """Why the shapes are not drawn at the levels of training: they go from no signal at all to a good part of it."""
    objective = RECIPES["diffusion", "shapes"].build(steps=1, seed=0, device="cpu").objective
    trained = Schedule.normal(mean=0.0, std=2.0)  # as chapter 11 says
    assert torch.equal(objective.alpha, trained.alpha.to(objective.alpha))
    assert torch.equal(objective.sigma, trained.sigma.to(objective.sigma))
    first = {}
    for name, schedule in (("drawn", Schedule.normal(mean=-1.0, std=3.0)), ("trained", trained)):
        path = schedule.path(20)
        first[name] = 2 * (path.alpha / path.sigma).log()[1].item()
    assert first["drawn"] < -5.5
    assert first["trained"] > -4


@pytest.mark.parametrize("levels", [Schedule.normal, partial(Schedule.normal, mean=0.0, std=2.0)])
def test_the_score_of_the_exact_denoiser_is_just_above_the_entropy(levels) -> None:
    world, task = Shapes.preset("12x12"), RECIPES["diffusion", "shapes"].task
    images = task.held_out()[:40]
    exact, blind = (
        log_prob(run_of(denoise), images, task=task, levels=levels)
        for denoise in (world.denoise, lambda x, alpha, sigma: torch.zeros_like(x))
    )
    above = (world.log_prob(images) - exact).mean().item()
    assert 0 < above < 15  # the price of a hundred steps; with 1 / SNR for the last variance it is 92
    assert (exact - blind).mean().item() > 500
