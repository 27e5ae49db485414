"""`python -m minigen train`: what stops it, and how it goes on. Processes where needed."""

from __future__ import annotations

import io
import json
import re
import shutil
import signal
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from functools import cache
from pathlib import Path

import pytest
import torch
from processes import assert_same_run, contents, saved, spawn

from minigen import cli, runs
from minigen.recipes import RECIPES
from minigen.runs import folder as folders
from minigen.train import checkpoint
from minigen.train.loop import Step


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Callable[..., Path]:
    """The folder that `train` fills when it is told these words; each is trained once, and copied by who changes it."""

    @cache
    def train(*words: object) -> Path:
        folder = tmp_path_factory.mktemp("trained") / "a"
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            assert cli.main([*map(str, words), "--out", str(folder)]) == 0
        return folder

    return train


@pytest.mark.parametrize("data", ["ring", "shapes", "digits"])
@pytest.mark.parametrize(("number", "at"), [(signal.SIGINT, 13), (signal.SIGTERM, 14), (signal.SIGHUP, 12)])
def test_interrupted_and_resumed_equals_never_interrupted(call, trained, tmp_path, monkeypatch, data, number, at):
    """Step 14 is one where the log gets a line, step 13 is not."""
    words = ["train", "minimax", data, "--steps", 20, "--every", 7, "--seed", 1, "--device", "cpu"]
    whole = trained(*words)
    update, steps = folders.Progress.update, []

    def interrupt(progress: folders.Progress, step: Step) -> None:
        update(progress, step)
        steps.append(step.n)
        if steps == list(range(1, at + 1)):
            signal.raise_signal(number)

    before = signal.getsignal(number)
    monkeypatch.setattr(folders.Progress, "update", interrupt)
    code, out, _ = call(*words, "--out", tmp_path / "broken")
    assert code == 128 + number
    assert f"stopped at step {at} of 20, saved" in out
    assert signal.getsignal(number) is before
    assert not (tmp_path / "broken" / "result.json").exists()
    torch.rand(7)  # another process would find torch's global generator elsewhere
    (again,) = re.findall(r"python -m minigen (train .*)", out)
    assert call(*again.split(), "--every", 7)[0] == 0
    assert steps == list(range(1, 21)), "no step is taken twice"
    assert_same_run(whole, tmp_path / "broken")


@pytest.mark.slow
def test_a_real_process_is_stopped_killed_and_resumed(call, tmp_path) -> None:
    """Ctrl-C, then a kill that leaves no time to save, then the rest."""
    words = ["train", "minimax", "ring", "--steps", 400, "--every", 10, "--device", "cpu"]
    folder, reached = tmp_path / "broken", 0
    for number in (signal.SIGINT, signal.SIGKILL):
        child = spawn(*words, "--out", folder, "--resume")
        while reached == (reached := saved(folder, reached)):
            assert child.poll() is None, child.communicate()
            time.sleep(0.01)
        child.send_signal(number)
        out, err = child.communicate(timeout=120)
        if number == signal.SIGINT:
            assert child.returncode == 130
            assert re.search(r"stopped at step \d+ of 400, saved", out)
            assert f"train minimax ring --out {folder} --resume" in out
            assert "starting at step 0" in err, "restarted by torchrun or not, the words are the same"
            assert "Traceback" not in err
        reached = saved(folder, reached)
    assert not (folder / "result.json").exists()
    assert call(*words, "--out", folder, "--resume")[0] == 0
    assert call(*words, "--out", tmp_path / "whole")[0] == 0
    for left in folder.glob("*.tmp"):  # what the kill cut short was never moved into place
        left.unlink()
    assert_same_run(tmp_path / "whole", folder)


def test_a_finished_run_resumes_to_the_same_result(call, tmp_path) -> None:
    words = ["train", "minimax", "ring", "--steps", 5, "--out", tmp_path / "a"]
    _, first, _ = call(*words)
    before = contents(tmp_path / "a")
    code, out, _ = call(*words, "--resume")
    assert (code, out) == (0, first)
    assert contents(tmp_path / "a") == before


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        (["ring", "--steps", 6], "steps 5, not 6"),
        (["ring", "--full"], "steps 5, not 20000"),
        (["ring", "--seed", 1], "seed 0, not 1"),
        (["ring", "--precision", "bf16"], "precision fp32, not bf16"),
        (["grid"], "recipe minimax ring, not minimax grid"),
        (["grid", "--seed", 1], "recipe minimax ring, not minimax grid; seed 0, not 1"),
    ],
)
def test_a_resumed_run_keeps_its_settings(call, tmp_path, changed, named) -> None:
    recipe, settings = RECIPES["minimax", "ring"], runs.Settings(5, 0, "cpu", "fp32")
    folders.begin(recipe, settings, tmp_path)
    code, _, err = call("train", "minimax", *changed, "--out", tmp_path, "--resume")
    assert code == 2
    assert f"was started with {named}." in err


def test_a_second_interrupt_is_not_swallowed(call, tmp_path, monkeypatch) -> None:
    """The first one waits for the end of the step, which may take minutes; the second does not."""
    usual, seen = signal.default_int_handler, []
    before = signal.signal(signal.SIGINT, usual)  # what a shell starts in the background ignores the signal

    def twice(progress: folders.Progress, step: Step) -> None:
        signal.raise_signal(signal.SIGINT)
        seen.append(step.n)
        signal.raise_signal(signal.SIGINT)
        seen.append("swallowed")

    monkeypatch.setattr(folders.Progress, "update", twice)
    try:
        code, _, err = call("train", "minimax", "ring", "--steps", 20, "--device", "cpu", "--out", tmp_path / "a")
        assert (code, seen) == (130, [1])
        assert "interrupted" in err
        assert signal.getsignal(signal.SIGINT) is usual
    finally:
        signal.signal(signal.SIGINT, before)
    assert not (tmp_path / "a" / ".lock").exists()


def test_a_lost_terminal_does_not_cost_the_training(call, tmp_path, monkeypatch) -> None:
    """Its streams raise; SIGHUP, which may come before or after, saves."""

    class Gone:
        isatty = staticmethod(lambda: True)

        def write(self, text: str) -> None:
            raise OSError(5, "Input/output error")

        flush = write

    update = folders.Progress.update

    def lost(progress: folders.Progress, step: Step) -> None:
        progress.stream, progress.gap, progress.screen = Gone(), 0.0, True
        update(progress, step)
        if step.n == 7:
            monkeypatch.setattr("sys.stdout", Gone())
            signal.raise_signal(signal.SIGHUP)

    monkeypatch.setattr(folders.Progress, "update", lost)
    code = cli.main(["train", "minimax", "ring", "--steps", "20", "--device", "cpu", "--out", str(tmp_path / "a")])
    monkeypatch.undo()
    assert code == 128 + signal.SIGHUP
    assert runs.load(tmp_path / "a").run.n == 7


def damage(folder, kind: str) -> None:
    """Make one kind of fault in a folder that a training of 5 steps has written."""
    path = folder / "run.pt"
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "log":
        log = folder / "log.jsonl"
        log.write_text(log.read_text()[:-9] + "\n")
    elif kind in ("steps", "seed", "device", "precision"):
        text = json.loads((folder / "recipe.json").read_text())
        text["settings"][kind] = {"steps": "many", "seed": -1, "device": "tpu", "precision": "fp64"}[kind]
        (folder / "recipe.json").write_text(json.dumps(text))
    else:
        state = checkpoint.read(path)
        if kind == "beyond":
            state["n"] = 6
        elif kind == "before":
            state["n"] = -2
        else:
            del state[kind]
        checkpoint.write(path, state)


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("empty", "no readable checkpoint"),
        ("n", "no readable checkpoint"),
        ("objective", "no readable checkpoint"),
        ("averages", "no readable checkpoint"),
        ("optimizers", "no readable checkpoint"),
        ("rng", "no readable checkpoint"),
        ("beyond", "it is at step 6, and recipe.json says 5 steps in all"),
        ("before", "it is at step -2, and recipe.json says 5 steps"),
        ("steps", "not readable by this version"),
        ("seed", "not readable by this version"),
        ("device", "not readable by this version"),
        ("precision", "precision must be one of fp32"),
        ("log", "log.jsonl, line 5, is no line of a log"),
    ],
)
def test_what_is_damaged_is_named(call, trained, tmp_path, kind, says) -> None:
    words = ["train", "minimax", "ring", "--steps", 5, "--device", "cpu"]
    shutil.copytree(trained(*words), tmp_path / "a")
    words += ["--out", tmp_path / "a"]
    damage(tmp_path / "a", kind)
    before = contents(tmp_path / "a")
    commands = [[*words, "--resume"]] if kind == "log" else [[*words, "--resume"], ["sample", tmp_path / "a"]]
    for command in commands:
        code, _, err = call(*command)
        assert code == 1, err
        assert says in err
        assert str(tmp_path / "a") in err
    assert contents(tmp_path / "a") == before


def test_versions_that_are_none_do_not_stop_a_run(call, tmp_path) -> None:
    words = ["train", "minimax", "ring", "--steps", 2, "--device", "cpu", "--out", tmp_path]
    assert call(*words)[0] == 0
    about = json.loads((tmp_path / "recipe.json").read_text())
    (tmp_path / "recipe.json").write_text(json.dumps(about | {"versions": []}))
    code, _, err = call(*words, "--resume")
    assert code == 0
    assert "started with minigen None, now" in err
