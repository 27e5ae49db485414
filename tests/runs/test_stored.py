"""Checkpoints that come with minigen: written, hashed, read, refused when changed, and as good as their card says."""

from __future__ import annotations

import hashlib
import importlib
import json

import pytest
import torch

from minigen import metrics, runs
from minigen.cli import main
from minigen.recipes import RECIPES

MODULE = importlib.import_module("minigen.runs.stored")
LONG = {"attngan-emoji"}  # its judge is trained for two minutes; its copies are counted here
STORED = sorted(path.stem for path in runs.FOLDER.glob("*.safetensors"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    words = ["train", "elbo", "shapes", "--steps", "3", "--device", "cpu", "--out", str(folder / "run")]
    assert main(words) == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MODULE, "WHOLE", MODULE.LIMIT)  # all of it, as 32-bit numbers
        assert main(["export", str(folder / "run"), "--out", str(folder / "kept")]) == 0
    return folder


def test_what_is_exported_is_what_was_trained(trained) -> None:
    loaded = runs.load(trained / "run")
    again = runs.stored("elbo", "shapes", folder=trained / "kept")
    assert again.run.n == 3
    for name, value in loaded.run.ema["model"].state_dict().items():
        assert torch.equal(again.run.ema["model"].state_dict()[name], value), name
        assert torch.equal(again.run.objective.model.state_dict()[name], value), name
    assert torch.equal(again.recipe.draw(again.run, 5, seed=2), loaded.recipe.draw(loaded.run, 5, seed=2))
    card = runs.card("elbo", "shapes", folder=trained / "kept")
    assert card["command"] == "python -m minigen train elbo shapes --steps 3 --seed 0 --device cpu --precision fp32"
    assert card["figures"] == json.loads((trained / "run" / "result.json").read_text())["figures"]
    assert card["figures"]["nll_nats_per_image"]["exact"] == pytest.approx(-165.38, abs=0.01)


def test_what_is_too_large_is_rounded_to_16_bits_and_judged_so(trained, tmp_path, monkeypatch) -> None:
    whole = (trained / "kept" / "elbo-shapes.safetensors").stat().st_size
    monkeypatch.setattr(MODULE, "WHOLE", whole - 1)
    loaded = runs.load(trained / "run")
    before = {name: v.clone() for name, v in loaded.run.ema["model"].state_dict().items()}
    path = runs.export(loaded, tmp_path, seed=1)
    again = runs.stored("elbo", "shapes", folder=tmp_path)
    assert whole / 2 < path.stat().st_size < whole * 0.55
    for name, value in again.run.ema["model"].state_dict().items():
        assert value.dtype == before[name].dtype
        assert torch.equal(value, before[name].half().to(value.dtype)), name
    assert torch.equal(again.recipe.draw(again.run, 5, seed=2), loaded.recipe.draw(loaded.run, 5, seed=2))
    monkeypatch.setattr(MODULE, "LIMIT", whole // 4)
    with pytest.raises(ValueError, match="at most"):
        runs.export(loaded, tmp_path, seed=1)


def test_a_changed_file_is_refused(trained, tmp_path) -> None:
    for path in (trained / "kept").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    weights = tmp_path / "elbo-shapes.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ValueError, match="its hash differs"):
        runs.stored("elbo", "shapes", folder=tmp_path)
    with pytest.raises(FileNotFoundError, match=r"stored for elbo digits; there are: elbo shapes"):
        runs.stored("elbo", "digits", folder=tmp_path)


@pytest.mark.parametrize("name", STORED)
def test_a_stored_checkpoint_is_small_whole_and_has_a_card(name) -> None:
    path = runs.FOLDER / f"{name}.safetensors"
    card = runs.card(*name.split("-", 1))
    assert path.stat().st_size == card["bytes"] <= (5_000_000 if path.stem == "diffusion-emoji" else 2_500_000)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == card["sha256"]
    assert card["command"].startswith(
        f"python -m minigen train {card['family']} {card['data']} --steps {card['step']} "
    )
    assert card["licence"] == getattr(RECIPES[card["family"], card["data"]].task, "licence", "CC0-1.0")


def test_all_checkpoints_together_stay_small() -> None:
    assert sum(path.stat().st_size for path in runs.FOLDER.iterdir()) < 30_000_000


@pytest.mark.slow
@pytest.mark.parametrize("name", STORED)
def test_a_stored_checkpoint_scores_what_its_card_says(name) -> None:
    loaded, card = runs.stored(*name.split("-", 1)), runs.card(*name.split("-", 1))
    figures = card["figures"]
    if loaded.recipe.measure is not None and name not in LONG:
        for key, found in loaded.recipe.measure(loaded.run).items():
            assert found.model == pytest.approx(figures[key]["model"], abs=0.01), key
        return
    if loaded.recipe.log_prob is None:
        drawn = loaded.recipe.task.evaluate(loaded.recipe.draw(loaded.run, 200, seed=2))
        shares = {key: found.model for key, found in drawn.items() if key.endswith("_share")}
        assert shares == pytest.approx({key: figures[key]["model"] for key in shares}, abs=0.06)
        return
    unit, scale = ("bits", 1.4426950408889634) if "nll_bits_per_image" in figures else ("nats", 1.0)
    score = metrics.nll(loaded.recipe.log_prob(loaded.run, loaded.recipe.task.held_out()[:200]))
    claimed = figures[f"nll_{unit}_per_image"]["model"] / scale
    assert score.mean == pytest.approx(claimed, abs=5 * score.standard_error + 0.05)
