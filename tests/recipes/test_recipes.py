"""The named recipes: each builds, trains and judges, and is what the book says."""

from __future__ import annotations

import math
from copy import copy
from dataclasses import replace
from functools import partial

import pytest
import torch
from PIL import Image

from games import flat
from minigen import Batches, Run, data
from minigen.data import Stream
from minigen.nets.mlp import MLPDiscriminator, MLPGenerator
from minigen.objectives.minimax import Minimax
from minigen.recipes import RECIPES
from minigen.recipes.words import MATCHER, NAMES, match
from minigen.show.films import png
from minigen.worlds import GaussianMixture

SAMPLES = {("diffusion", "emoji"): 6}  # 70 of any other recipe; these take forty guided steps of a large network
FEW = {  # in place of half a minute or more
    ("attngan", "shapes"): {"prepare": partial(match, recipe=replace(MATCHER, steps=2))},
    ("attngan", "emoji"): {"prepare": partial(match, recipe=replace(NAMES, steps=2))},
}
HERE = [name for name in RECIPES if name[1] not in (*data.SOURCES, "folder")]  # the others need files


@pytest.mark.parametrize("name", HERE)
def test_a_recipe_builds_trains_draws_and_is_judged(name) -> None:
    recipe = replace(RECIPES[name], **FEW.get(name, {}))
    assert (recipe.family, recipe.task.name) == name
    run = recipe.build(steps=4, seed=3, device="cpu", precision="fp32")
    batches = recipe.batches(seed=3, device="cpu")
    batch = next(batches)
    images = batch[0] if isinstance(batch, tuple) else batch  # what it is drawn for comes second
    assert images.shape == (recipe.batch_size, *getattr(recipe.task, "image", recipe.task.shape))
    assert images.dtype == (torch.int64 if recipe.family == "autoregressive" else torch.float32)
    list(run(batches, 2))
    n, task = SAMPLES.get(name, 70), copy(recipe.task)
    x = recipe.draw(run, n, seed=5)
    assert x.shape == (n, *task.shape)
    if hasattr(task, "judge_steps"):  # 700 of them take half a minute, and no figure's size is asked here
        task.judge_steps = 5
    figures = task.evaluate(x)
    for figure in figures.values():
        assert not math.isnan(figure.model)
        assert figure.yardstick is None or not math.isnan(figure.yardstick)
    assert png(task.picture(x))[:4] == b"\x89PNG"


@pytest.mark.parametrize("name", [name for name in RECIPES if name not in HERE])
def test_the_recipes_of_downloaded_images_build_without_them(name) -> None:
    recipe = RECIPES[name]
    run = recipe.build(steps=4, seed=3, device="cpu")
    few = {"steps": 2} if recipe.family == "diffusion" else {}  # a step of the largest network takes most of a second
    assert recipe.draw(run, 2, seed=5, **few).shape == (2, *recipe.task.shape)
    assert recipe.task.shape == {"cifar10": (3, 32, 32), "folder": (3, 64, 64)}.get(name[1], (1, 28, 28))


def plane(scale: float, r1: float) -> Minimax:
    generator = MLPGenerator(2, (2,), hidden=(64, 64, 64), bounded=False, activation=torch.nn.Tanh, scale=2.0)
    return Minimax(generator, MLPDiscriminator((2,), hidden=(64, 64, 64), scale=scale), r1=r1)


def digits() -> Minimax:
    shape, hidden = (1, 8, 8), (256, 256)
    return Minimax(MLPGenerator(32, shape, hidden=hidden), MLPDiscriminator(shape, hidden=hidden), r1=0.1)


def test_the_named_recipes_are_the_books() -> None:
    """The settings that chapter 02 has measured, by hand, bit for bit: a changed default would change its numbers."""
    real = data.to_float(data.digits("train").images)
    for name, make, rate, betas, ema, batches in (
        (
            "ring",
            partial(plane, 3.0, 0.001),
            2e-3,
            (0.0, 0.99),
            0.998,
            Stream(GaussianMixture.ring().sample, batch_size=128, seed=2),
        ),
        (
            "grid",
            partial(plane, 1.0, 0.3),
            2e-3,
            (0.0, 0.9),
            0.998,
            Stream(GaussianMixture.grid().sample, batch_size=256, seed=2),
        ),
        ("digits", digits, 1e-3, (0.5, 0.99), 0.995, Batches(real, batch_size=64, seed=2)),
    ):
        torch.manual_seed(2)
        game = make()
        players = {n: torch.optim.Adam(p.parameters(), rate, betas=betas, fused=True) for n, p in game.named_children()}
        run = Run(game, players, ema={"generator": ema}, schedule=lambda n: min(1.0, (20 - n) / 10), seed=2)
        list(run(batches, 20))
        recipe = RECIPES["minimax", name]
        mine = recipe.build(steps=20, seed=2)
        list(mine(recipe.batches(seed=2, device="cpu"), 20))
        assert torch.equal(flat(run.objective), flat(mine.objective)), name
        assert torch.equal(flat(run.ema["generator"]), flat(mine.ema["generator"])), name


@pytest.mark.parametrize("family", ["wasserstein", "relativistic", "conditional"])
@pytest.mark.parametrize("name", ["mnist", "cifar10", "folder"])
def test_games_of_larger_images_take_a_step(family: str, name: str) -> None:
    recipe = RECIPES[family, name]
    run = recipe.build(steps=1, seed=0, device="cpu")
    images = 2 * torch.rand(10, *recipe.task.shape) - 1
    label = torch.arange(10) % recipe.settings.get("label_dim", 1)
    (step,) = run([(images, label) if family == "conditional" else images], 1)
    assert all(math.isfinite(value) for value in step.read().values())
    assert recipe.draw(run, 3).shape == (3, *recipe.task.shape)


def test_a_folder_of_class_folders_is_asked_for_by_class(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("MINIGEN_CACHE", str(tmp_path / "cache"))
    pictures = tmp_path / "pictures"
    for place, colours in (("birds", ("red", "orange")), ("cats", ("blue", "navy")), ("dogs", ("green", "lime"))):
        (pictures / place).mkdir(parents=True)
        for colour in colours:
            Image.new("RGB", (20, 20), colour).save(pictures / place / f"{colour}.png")
    recipe = RECIPES["conditional", "folder"].at(str(pictures))
    assert recipe.task.captions == ("a birds", "a cats", "a dogs")
    x, label = next(recipe.batches(seed=0, device="cpu"))
    assert x.shape == (64, 3, 64, 64)
    brightest = x.mean((2, 3)).argmax(1)  # of red, green and blue
    assert (brightest == torch.tensor([0, 2, 1])[label]).all()
    run = recipe.build(steps=1, seed=0)
    assert recipe.draw(run, 4).shape == (4, 3, 64, 64)
    with pytest.raises(ValueError, match="--data PATH"):
        RECIPES["conditional", "folder"].batches(seed=0, device="cpu")


@pytest.mark.parametrize(("name", "shape"), [("mnist", (1, 28, 28)), ("cifar10", (3, 32, 32))])
def test_diffusion_of_larger_images_takes_a_step(name: str, shape: tuple[int, ...]) -> None:
    recipe = RECIPES["diffusion", name]
    assert recipe.task.shape == shape
    run = recipe.build(steps=1, seed=0, device="cpu")
    (step,) = run([2 * torch.rand(2, *shape) - 1], 1)
    assert math.isfinite(step.read()["model/loss"])
    stored = torch.tensor([0, 128, 255], dtype=torch.uint8).expand(*shape[1:], 3).movedim(2, 0)[: shape[0]]
    seen = recipe.task.change(stored, torch.full(stored.shape, 0.5))
    assert torch.equal(seen[:, 0, 0], torch.tensor([-1 + 1 / 256, 1 / 256, 1 - 1 / 256])[: shape[0]])
