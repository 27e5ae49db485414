"""The game of chapter 05 as a recipe: its matcher is trained first, once, and every way of keeping a run keeps it."""

from __future__ import annotations

import importlib
import json
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from games import flat
from minigen import runs
from minigen.cli import main
from minigen.objectives.words import AttnGAN
from minigen.recipes import RECIPES, contrastive, words
from minigen.recipes.words import MATCHER, ONE, PICTURES, match, matcher_of, painters

ATTNGAN = RECIPES["attngan", "shapes"]
BRIEF = replace(MATCHER, steps=2)
SMALL = replace(
    ATTNGAN,
    settings={**ATTNGAN.settings, "width": 8, "features": 16},
    prepare=partial(match, recipe=BRIEF),
    batch_size=8,
)
STORED = importlib.import_module("minigen.runs.stored")


@pytest.fixture
def small(monkeypatch) -> list[int]:
    """The recipe of small networks in the other's place, and the seed of every preparation."""
    taken: list[int] = []

    def prepare(objective: AttnGAN, seed: int, **options: object) -> None:
        taken.append(seed)
        match(objective, seed, recipe=BRIEF, **options)

    monkeypatch.setitem(RECIPES, ("attngan", "shapes"), replace(SMALL, prepare=prepare))
    monkeypatch.setattr(PICTURES, "count", 40, raising=False)
    return taken


def by_hand() -> Tensor:
    run = BRIEF.build(steps=2, seed=4)
    list(run(BRIEF.batches(seed=4, device="cpu"), 2))
    return flat(matcher_of(run))


def test_the_matcher_is_what_its_own_recipe_trains_and_stays_so() -> None:
    run = SMALL.build(steps=3, seed=4)
    assert torch.equal(flat(run.objective.matcher), by_hand())
    list(run(SMALL.batches(seed=4, device="cpu"), 3))
    assert torch.equal(flat(run.objective.matcher), by_hand())
    assert set(run.optimizers) == {"generator", "discriminator"}
    bare = SMALL.build(steps=3, seed=4, fresh=False)
    assert not torch.equal(flat(bare.objective.matcher), by_hand())
    assert ATTNGAN.prepare.keywords == {"recipe": RECIPES["damsm", "one"]}


def test_captions_of_both_tasks_are_the_same_tokens() -> None:
    assert PICTURES.captions == ONE.captions
    assert torch.equal(PICTURES.tokens, ONE.tokens)
    assert PICTURES.vocabulary.words == ONE.vocabulary.words
    assert all(torch.equal(a, b) for a, b in zip(PICTURES.split, ONE.split, strict=True))


def test_networks_have_the_sizes_that_the_settings_say() -> None:
    game = painters(PICTURES, width=8, features=16)
    assert (game.generator.latent, game.generator.condition, game.latent) == (48, 32, 48)
    assert [judge.shape for judge in game.discriminator] == [(3, 4, 4), (3, 8, 8)]
    assert {judge.label_dim for judge in game.discriminator} == {game.matcher.width}
    larger = RECIPES["attngan", "emoji"]
    game = larger.objective(larger.task, **{**larger.settings, "width": 4, "features": 8})
    assert [judge.shape for judge in game.discriminator] == [(3, 8, 8), (3, 16, 16), (3, 32, 32)]
    assert game.matcher.images.grid == (8, 8)


def train(folder: object, steps: int, *more: str) -> int:
    asked = [] if "--resume" in more else ["--steps", str(steps), "--seed", "4", "--device", "cpu"]
    return main(["train", "attngan", "shapes", *asked, "--out", str(folder), *more])


def test_a_run_is_kept_loaded_and_exported_with_its_matcher(small, tmp_path) -> None:
    assert train(tmp_path / "run", 3) == 0
    assert small == [4]
    loaded = runs.load(tmp_path / "run")
    assert small == [4], "what is loaded is not prepared again"
    assert torch.equal(flat(loaded.run.objective.matcher), by_hand())
    again = RECIPES["attngan", "shapes"].build(steps=3, seed=4)
    list(again(loaded.recipe.batches(seed=4, device="cpu"), 3))
    assert torch.equal(flat(again.objective), flat(loaded.run.objective))
    drawn = loaded.recipe.draw(loaded.run, 12)
    assert torch.equal(drawn, loaded.recipe.draw(again, 12))

    assert main(["export", str(tmp_path / "run"), "--out", str(tmp_path / "kept")]) == 0
    prepared = len(small)
    stored = runs.stored("attngan", "shapes", folder=tmp_path / "kept")
    assert len(small) == prepared
    assert torch.equal(flat(stored.run.objective.matcher), by_hand())
    assert torch.equal(stored.recipe.draw(stored.run, 12), drawn)
    figures = json.loads((tmp_path / "run" / "result.json").read_text())["figures"]
    assert runs.card("attngan", "shapes", folder=tmp_path / "kept")["figures"] == figures
    assert set(figures) == {"valid_share", "seen_obeyed_share", "unseen_obeyed_share", "places_nats_from_even"}


def test_a_matcher_that_is_rounded_is_judged_so(small, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(STORED, "WHOLE", 1)
    assert train(tmp_path / "run", 2) == 0
    loaded = runs.load(tmp_path / "run")
    runs.export(loaded, tmp_path, seed=1)
    stored = runs.stored("attngan", "shapes", folder=tmp_path)
    assert torch.equal(flat(stored.run.objective.matcher), by_hand().half().float())
    assert torch.equal(flat(loaded.run.objective.matcher), by_hand().half().float())
    assert torch.equal(stored.recipe.draw(stored.run, 12), loaded.recipe.draw(loaded.run, 12))


def test_a_resumed_run_is_the_uninterrupted_one(small, tmp_path) -> None:
    assert train(tmp_path / "whole", 4) == 0
    recipe = RECIPES["attngan", "shapes"]
    part = tmp_path / "part"
    part.mkdir()
    runs.begin(recipe, runs.Settings(steps=4, seed=4, device="cpu", precision="fp32"), part)
    run = recipe.build(steps=4, seed=4)
    list(run(recipe.batches(seed=4, device="cpu"), 2))
    run.save(part / "run.pt")
    before = len(small)
    assert train(part, 4, "--resume") == 0
    assert len(small) == before, "a resumed run is not prepared again"
    mine, whole = (runs.load(folder).run for folder in (part, tmp_path / "whole"))
    assert torch.equal(flat(mine.objective), flat(whole.objective))
    assert torch.equal(flat(mine.ema["generator"]), flat(whole.ema["generator"]))


def test_samples_are_for_the_captions_that_are_wanted(small) -> None:
    run = RECIPES["attngan", "shapes"].build(steps=1, seed=0)
    x = words.draw_captions(run, 6, task=PICTURES, seed=3)
    noise = torch.randn(6, run.objective.latent, generator=torch.Generator().manual_seed(3))
    tokens = PICTURES.tokens[PICTURES.wanted(6)]
    with torch.no_grad():
        images, _ = run.objective.paint(run.ema["generator"], noise, run.objective.read(tokens))
    assert torch.equal(x, images[-1])


def test_pictures_are_asked_whether_encoders_find_their_name(monkeypatch) -> None:
    """Whoever paints the picture of another name finds none; who gives back unseen pictures scores as they do."""
    recipe, task = RECIPES["attngan", "emoji"], RECIPES["attngan", "emoji"].task
    judge = replace(contrastive.RECIPES[-1], steps=1)
    real = task.test_pairs(2 * len(task.captions))
    monkeypatch.setattr(words.contrastive, "scores", lambda seen, x, tokens: told[: len(x)])

    class Device:
        device = torch.device("cpu")

    names = len(task.captions)
    told = one_hot(task.wanted(task.count), names).float()  # the first of each row of scores is the name itself
    monkeypatch.setattr(words, "draw_captions", lambda run, n, *, task: torch.zeros(n, *task.shape))
    found = words.names_found(Device(), task=task, judge=judge)
    assert found[f"name_found_in_1_of_{names}"] == (1.0, 1.0)
    told = told.roll(1, 1)
    found = words.names_found(Device(), task=task, judge=judge)
    assert found[f"name_found_in_1_of_{names}"] == (0.0, 0.0)
    assert real.images.shape == (2 * names, 3, 32, 32)
    assert recipe.measure is not None
