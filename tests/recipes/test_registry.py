"""The recipes are found by walking the folder; a recipe is data, and one function builds its run."""

from __future__ import annotations

import pkgutil
from dataclasses import replace

import pytest
import torch

from minigen import recipes
from minigen.objectives.diffusion import Schedule
from minigen.recipes import RECIPES
from minigen.recipes.recipe import warmup_decay

NEW = """
from dataclasses import replace
from minigen.recipes.minimax import RECIPES as OLD

CHAPTER = 1
RECIPES = [replace(OLD[0], family="novel", rate=0.5)]
"""


def test_a_file_in_the_folder_is_all_that_a_new_family_takes(tmp_path, monkeypatch) -> None:
    (tmp_path / "novel.py").write_text(NEW)
    monkeypatch.setattr(recipes, "__path__", [*recipes.__path__, str(tmp_path)])
    found = recipes._found()
    assert list(found) == [("novel", "ring"), *RECIPES], "in the order of the chapters"
    assert found["novel", "ring"].build(steps=3).optimizers["generator"].param_groups[0]["lr"] == 0.5
    (tmp_path / "again.py").write_text(NEW)
    with pytest.raises(ValueError, match="two recipes of the name 'novel ring'"):
        recipes._found()


def test_every_recipe_of_every_file_is_there_once() -> None:
    listed = []
    for module in pkgutil.iter_modules(recipes.__path__):
        listed += getattr(__import__(f"minigen.recipes.{module.name}", fromlist=["RECIPES"]), "RECIPES", [])
    assert sorted(map(id, listed)) == sorted(map(id, RECIPES.values()))
    assert all(recipe.name == " ".join(key) for key, recipe in RECIPES.items())


def test_what_the_data_says_reaches_the_run() -> None:
    recipe = replace(
        RECIPES["elbo", "digits"],
        rate=0.3,
        betas=(0.1, 0.2),
        ema={"model": 0.7},
        clip=2.5,
        schedule=lambda n: lambda i: i / n,
    )
    run = recipe.build(steps=8, seed=5, precision="bf16")
    (group,) = run.optimizers["model"].param_groups
    assert (group["lr"], group["betas"]) == (0.3, (0.1, 0.2))
    assert run._clip == {"model": 2.5}
    assert [run.schedule(i) for i in (2, 8)] == [0.25, 1.0]
    assert run._emas["model"].decay == 0.7
    assert run.precision == "bf16"
    assert recipe.build(steps=8, clip=1.0)._clip == {"model": 1.0}, "options of the run come last"
    again, other = recipe.build(steps=8, seed=5), recipe.build(steps=8, seed=6)
    first = [run.rng.normal(4) for run in (run, again, other)]
    assert torch.equal(first[0], first[1])
    assert not torch.equal(first[0], first[2])


def test_rates_rise_for_the_warm_up_stay_and_fall_to_zero() -> None:
    factor = warmup_decay(1000, warmup=200, hold=0.4)
    assert [factor(n) for n in (1, 100, 200, 400, 700, 1000)] == pytest.approx([1 / 200, 0.5, 1, 1, 0.5, 0])
    assert factor(1001) == 0


def test_an_objective_keeps_its_schedule() -> None:
    objective = RECIPES["diffusion", "digits"].build(steps=1).objective
    assert torch.equal(objective.schedule.alpha_bar, Schedule.normal(mean=0.0, std=3.0).alpha_bar)
