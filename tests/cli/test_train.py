"""`python -m minigen train`: what it writes. Trainings of a few steps; processes where needed."""

from __future__ import annotations

import json
import signal
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from processes import FILES, saved, spawn

from games import flat
from minigen import cli, runs
from minigen.recipes import RECIPES


def test_train_writes_a_whole_run(call, tmp_path) -> None:
    code, out, err = call("train", "minimax", "ring", "--steps", 30, "--every", 8, "--seed", 4, "--out", tmp_path / "a")
    assert code == 0
    folder = tmp_path / "a"
    assert sorted(path.name for path in folder.iterdir()) == FILES
    recipe = json.loads((folder / "recipe.json").read_text())
    assert (recipe["family"], recipe["data"]) == ("minimax", "ring")
    assert recipe["settings"] == {
        "steps": 30,
        "seed": 4,
        "device": cli.commands.best_device().type,
        "precision": "fp32",
    }
    assert recipe["versions"]["torch"] == torch.__version__
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in log] == [8, 16, 24, 30]
    assert all(np.isfinite(row["generator/loss"]) for row in log)
    assert (folder / "samples.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    result = json.loads((folder / "result.json").read_text())
    assert f"{result['figures']['high_quality_share']['model']:.4g}" in out
    assert str(folder) in out
    assert err.count("\n") == 1, "one line of progress in a pipe, at the end"
    assert "30/30" in err


def test_the_default_folder_is_named_after_the_recipe(call, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert call("train", "minimax", "ring", "--steps", 100)[0] == 0
    folder = tmp_path / "runs/minimax-ring"
    assert sorted(path.name for path in folder.iterdir()) == FILES
    steps = [json.loads(line)["step"] for line in (folder / "log.jsonl").read_text().splitlines()]
    assert steps == list(range(2, 101, 2)), "every fiftieth part"


def test_precision_and_seed_reach_the_training(call, tmp_path) -> None:
    words = {"plain": [], "half": ["--precision", "bf16"], "seeded": ["--seed", 1]}
    for name, more in words.items():
        call("train", "minimax", "digits", "--steps", 3, "--device", "cpu", *more, "--out", tmp_path / name)
    weights = {name: flat(runs.load(tmp_path / name).run.objective) for name in words}
    assert 0 < (weights["half"] - weights["plain"]).abs().max() < 0.02
    assert (weights["seeded"] - weights["plain"]).abs().max() > 0.02


def test_a_run_is_never_overwritten_by_accident(call, tmp_path) -> None:
    words = ["train", "minimax", "ring", "--steps", 5, "--out", tmp_path / "a"]
    call(*words)
    before = {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()}
    code, out, err = call(*words)
    assert (code, out) == (2, "")
    assert f"{tmp_path / 'a'} holds a run already" in err
    assert f"train minimax ring --out {tmp_path / 'a'} --resume" in err
    assert "another folder with --out, or delete it" in err
    assert {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()} == before


@pytest.mark.slow
def test_two_processes_under_torchrun_equal_one(tmp_path, call) -> None:
    words = ["train", "minimax", "ring", "--steps", 6, "--every", 3, "--device", "cpu", "--seed", 1]
    child = spawn(*words, "--out", tmp_path / "two", processes=2)
    out, err = child.communicate(timeout=200)
    assert child.returncode == 0, err
    assert (out.count("high quality share"), err.count("6/6")) == (1, 1), "rank 0 alone prints"
    assert call(*words, "--out", tmp_path / "one")[0] == 0
    one, two = (runs.load(tmp_path / name).run for name in ("one", "two"))
    start = RECIPES["minimax", "ring"].build(steps=6, seed=1, device="cpu")
    difference, moved = ((flat(one.objective) - flat(run.objective)).abs() for run in (two, start))
    # Rounding shows where a gradient is near Adam's eps (with seed 0 in one weight, which then moves the others), and
    # in more steps at a kink of LeakyReLU; wrong rows show in all.
    assert (difference < 2e-6).float().mean() > 0.999
    assert difference.max() < 2e-5 < 1e-2 < moved.max()
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == FILES


def test_the_processes_share_each_batch(call, tmp_path, monkeypatch) -> None:
    """Without it, N processes would do the whole work N times, and end with the right result."""
    shared: list[int] = []

    class Group:
        rank, world_size, device = 0, 2, torch.device("cpu")
        average_ = broadcast_ = staticmethod(lambda tensors: shared.append(0))
        host_mean = staticmethod(list)

        @staticmethod
        def shard(batch: torch.Tensor) -> torch.Tensor:
            shared.append(len(batch))
            return batch[: len(batch) // 2]

    monkeypatch.setattr(cli.commands.distributed, "setup", lambda backend: Group() if backend == "gloo" else None)
    assert call("train", "minimax", "ring", "--steps", 3, "--device", "cpu", "--out", tmp_path)[0] == 0
    assert shared == [0] + 3 * [128, 0, 0]  # broadcast; then each step a share, and an average for each player


def test_missing_data_say_what_to_do_and_leave_nothing(call, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("MINIGEN_DATA", str(tmp_path / "data"))
    code, _, err = call("train", "minimax", "mnist", "--out", tmp_path / "a")
    assert code == 1
    assert "unset MINIGEN_DATA to download it" in err
    assert not (tmp_path / "a").exists()


def test_divergence_ends_with_the_step_and_the_last_checkpoint(call, tmp_path, monkeypatch) -> None:
    recipe = RECIPES["minimax", "ring"]

    def batches(**given):
        for n, batch in enumerate(recipe.task.batches(**given), start=1):
            yield batch * float("nan") if n == 12 else batch

    task = type("Broken", (), {**vars(recipe.task), "batches": staticmethod(batches)})()
    monkeypatch.setitem(RECIPES, ("minimax", "ring"), replace(recipe, task=task))
    code, _, err = call("train", "minimax", "ring", "--steps", 30, "--every", 5, "--out", tmp_path)
    assert code == 1
    assert "minigen: step 12, player 'discriminator'" in err
    assert runs.load(tmp_path).run.n == 10


@pytest.mark.slow
def test_two_trainings_into_one_folder_are_refused(call, tmp_path) -> None:
    words = ["train", "minimax", "ring", "--steps", 100_000, "--every", 10, "--device", "cpu"]
    child = spawn(*words, "--out", tmp_path / "a")
    while saved(tmp_path / "a", 0) == 0:
        assert child.poll() is None, child.communicate()
        time.sleep(0.05)
    for more in (["--seed", 1], ["--resume"]):
        code, out, err = call(*words, *more, "--out", tmp_path / "a")
        assert (code, out) == (1, "")
        assert f"is being written by process {child.pid}" in err
    assert runs.read(tmp_path / "a")[1].seed == 0
    child.send_signal(signal.SIGTERM)
    child.communicate(timeout=120)
    assert 0 < runs.load(tmp_path / "a").run.n < 100_000
