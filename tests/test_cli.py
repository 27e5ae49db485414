"""The command line: what it writes, how it resumes, what it says. Trainings of a few steps; processes where needed."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from games import flat
from minigen import cli, metrics, recipes
from minigen.recipes import RECIPES, training
from minigen.train import Step
from minigen.worlds import GaussianMixture

COMMANDS = ("train", "sample", "evaluate", "list")
FILES = ["log.jsonl", "recipe.json", "result.json", "run.pt", "samples.png"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "80", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}


@pytest.fixture(autouse=True)
def _terminal(monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("MPLBACKEND", "agg")


@pytest.fixture
def call(capsys):
    """Run a command in this process: its exit code, what it printed and what it complained of."""

    def run(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            code = cli.main([str(word) for word in words])
        except SystemExit as left:  # argparse's own
            code = int(left.code or 0)
        return code, *capsys.readouterr()

    return run


def spawn(*words: object, processes: int = 1) -> subprocess.Popen[str]:
    many = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []
    command = [sys.executable, *many, "-m", "minigen", *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)


def contents(folder: Path) -> dict[str, bytes]:
    """Files byte by byte; the checkpoint by its tensors, since a zip file holds a date."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "run.pt"}


def leaves(state: object) -> list[object]:
    if isinstance(state, dict):
        return [leaf for value in state.values() for leaf in leaves(value)]
    return [leaf for value in state for leaf in leaves(value)] if isinstance(state, list | tuple) else [state]


def assert_same_run(a: Path, b: Path) -> None:
    """All files of two folders, bit for bit."""
    assert sorted(p.name for p in a.iterdir()) == sorted(p.name for p in b.iterdir()) == FILES
    assert contents(a) == contents(b)
    one, other = (leaves(torch.load(folder / "run.pt", weights_only=True)) for folder in (a, b))
    assert len(one) == len(other) > 50
    for x, y in zip(one, other, strict=True):
        assert torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y


def test_train_writes_a_whole_run(call, tmp_path) -> None:
    code, out, err = call("train", "minimax", "ring", "--steps", 30, "--every", 8, "--seed", 4, "--out", tmp_path / "a")
    assert code == 0
    folder = tmp_path / "a"
    assert sorted(path.name for path in folder.iterdir()) == FILES
    recipe = json.loads((folder / "recipe.json").read_text())
    assert (recipe["family"], recipe["data"]) == ("minimax", "ring")
    assert recipe["settings"] == {"steps": 30, "seed": 4, "device": cli.best_device().type, "precision": "fp32"}
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
    weights = {name: flat(recipes.load(tmp_path / name).run.objective) for name in words}
    assert 0 < (weights["half"] - weights["plain"]).abs().max() < 0.02
    assert (weights["seeded"] - weights["plain"]).abs().max() > 0.02


@pytest.mark.parametrize("data", ["ring", "shapes", "digits"])
@pytest.mark.parametrize(("number", "at"), [(signal.SIGINT, 13), (signal.SIGTERM, 14)])
def test_interrupted_and_resumed_equals_never_interrupted(call, tmp_path, monkeypatch, data, number, at) -> None:
    """Step 14 is one where the log gets a line, step 13 is not."""
    words = ["train", "minimax", data, "--steps", 20, "--every", 7, "--seed", 1, "--device", "cpu"]
    assert call(*words, "--out", tmp_path / "whole")[0] == 0
    update, steps = training.Progress.update, []

    def interrupt(progress: training.Progress, step: Step) -> None:
        update(progress, step)
        steps.append(step.n)
        if steps == list(range(1, at + 1)):
            signal.raise_signal(number)

    before = signal.getsignal(number)
    monkeypatch.setattr(training.Progress, "update", interrupt)
    code, out, _ = call(*words, "--out", tmp_path / "broken")
    assert code == 128 + number
    assert f"stopped at step {at} of 20, saved" in out
    assert signal.getsignal(number) is before
    assert not (tmp_path / "broken" / "result.json").exists()
    torch.rand(7)  # another process would find torch's global generator elsewhere
    (again,) = re.findall(r"python -m minigen (train .*)", out)
    assert call(*again.split(), "--every", 7)[0] == 0
    assert steps == list(range(1, 21)), "no step is taken twice"
    assert_same_run(tmp_path / "whole", tmp_path / "broken")


@pytest.mark.slow
def test_a_real_process_is_stopped_killed_and_resumed(call, tmp_path) -> None:
    """Ctrl-C, then a kill that leaves no time to save, then the rest."""
    words = ["train", "minimax", "ring", "--steps", 400, "--every", 10, "--device", "cpu"]
    folder, reached = tmp_path / "broken", 0
    for number in (signal.SIGINT, signal.SIGKILL):
        child = spawn(*words, "--out", folder, "--resume")
        while reached == (reached := _saved(folder, reached)):
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
        reached = _saved(folder, reached)
    assert not (folder / "result.json").exists()
    assert call(*words, "--out", folder, "--resume")[0] == 0
    assert call(*words, "--out", tmp_path / "whole")[0] == 0
    for left in folder.glob("*.tmp"):  # what the kill cut short was never moved into place
        left.unlink()
    assert_same_run(tmp_path / "whole", folder)


def _saved(folder: Path, default: int) -> int:
    """The step of the last log line: of a whole file, whenever it is read."""
    path = folder / "log.jsonl"
    return json.loads(path.read_text().splitlines()[-1])["step"] if path.exists() else default


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
    recipe, settings = RECIPES["minimax", "ring"], recipes.Settings(5, 0, "cpu", "fp32")
    training.begin(recipe, settings, tmp_path)
    code, _, err = call("train", "minimax", *changed, "--out", tmp_path, "--resume")
    assert code == 2
    assert f"was started with {named}." in err


@pytest.mark.slow
def test_two_processes_under_torchrun_equal_one(tmp_path, call) -> None:
    words = ["train", "minimax", "ring", "--steps", 6, "--every", 3, "--device", "cpu"]
    child = spawn(*words, "--out", tmp_path / "two", processes=2)
    out, err = child.communicate(timeout=200)
    assert child.returncode == 0, err
    assert (out.count("high quality share"), err.count("6/6")) == (1, 1), "rank 0 alone prints"
    assert call(*words, "--out", tmp_path / "one")[0] == 0
    one, two = (recipes.load(tmp_path / name).run for name in ("one", "two"))
    start = RECIPES["minimax", "ring"].build(steps=6, seed=0, device="cpu")
    difference, moved = ((flat(one.objective) - flat(run.objective)).abs() for run in (two, start))
    # Rounding shows where a gradient is near Adam's eps, and in more steps at a kink of LeakyReLU; wrong rows, in all.
    assert (difference < 2e-6).float().mean() > 0.999
    assert difference.max() < 2e-5 < 1e-2 < moved.max()
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == FILES


def test_the_processes_share_each_batch(call, tmp_path, monkeypatch) -> None:
    """Without it, N processes would do the whole work N times, and end with the right result."""
    shared: list[int] = []

    class Group:
        rank, world_size, device = 0, 2, torch.device("cpu")
        average_ = broadcast_ = staticmethod(lambda tensors: shared.append(0))

        @staticmethod
        def shard(batch: torch.Tensor) -> torch.Tensor:
            shared.append(len(batch))
            return batch[: len(batch) // 2]

    monkeypatch.setattr(cli.distributed, "setup", lambda backend: Group() if backend == "gloo" else None)
    assert call("train", "minimax", "ring", "--steps", 3, "--device", "cpu", "--out", tmp_path)[0] == 0
    assert shared == [0] + 3 * [128, 0, 0]  # broadcast; then each step a share, and an average for each player


def test_samples_are_those_of_the_python_interface(call, tmp_path) -> None:
    run, stream = recipes.plane_gan(GaussianMixture.ring(), steps=10, seed=2, **recipes.RING)
    list(run(stream, 10))
    expected = recipes.samples(run, 33, seed=7)
    call("train", "minimax", "ring", "--steps", 10, "--seed", 2, "--device", "cpu", "--out", tmp_path / "a")
    words = ["sample", tmp_path / "a", "-n", 33, "--seed", 7, "--device", "cpu", "--out"]
    for suffix in ("pt", "npz", "png"):
        code, out, _ = call(*words, tmp_path / "new" / f"x.{suffix}")
        assert code == 0
        assert "33 samples (33, 2) of minimax ring, step 10" in out
    assert torch.equal(torch.load(tmp_path / "new" / "x.pt", weights_only=True), expected)
    assert np.array_equal(np.load(tmp_path / "new" / "x.npz")["samples"], expected.numpy())
    assert (tmp_path / "new" / "x.png").read_bytes()[:4] == b"\x89PNG"
    assert call("sample", tmp_path / "a", "--seed", 9)[0] == 0
    assert (tmp_path / "a" / "sample-9.png").exists()


def test_evaluate_gives_what_the_metrics_give(call, tmp_path) -> None:
    call("train", "minimax", "ring", "--steps", 60, "--device", "cpu", "--out", tmp_path / "a")
    code, out, _ = call(
        "evaluate",
        tmp_path / "a",
        *["-n", "400", "--seed", "3", "--device", "cpu", "--json"],
        tmp_path / "new" / "e.json",
    )
    assert code == 0
    result = json.loads((tmp_path / "new" / "e.json").read_text())
    loaded = recipes.load(tmp_path / "a")
    report = metrics.modes(recipes.samples(loaded.run, 400, seed=3), GaussianMixture.ring())
    assert result["figures"] == {
        "modes_captured": {"model": report.captured, "exact": 8},
        "high_quality_share": {"model": report.high_quality, "exact": metrics.HIGH_QUALITY_CEILING},
    }
    assert result | {"figures": 0} == {"recipe": "minimax ring", "step": 60, "samples": 400, "seed": 3, "figures": 0}
    assert re.search(rf"modes captured +{report.captured} +8\n", out)
    call("evaluate", tmp_path / "a", "--device", "cpu", "--json", tmp_path / "same.json")
    assert (tmp_path / "same.json").read_bytes() == (tmp_path / "a" / "result.json").read_bytes()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("train minmax rign", "there is no family 'minmax'; did you mean 'minimax'?"),
        ("train minmax rign", "there is no data set 'rign'; did you mean 'ring'?"),
        ("train minimax fashion-mnist", "did you mean 'fashion_mnist'?"),
        ("train minimax quux", "there is no data set 'quux'; there are: ring, grid, shapes, digits, mnist"),
        ("trainn minimax ring", "there is no command 'trainn'; did you mean 'train'?"),
        ("train minimax ring --sed 3", "train takes no option '--sed'; did you mean '--seed'?"),
        ("train minimax ring --step=3 --oot x", "did you mean '--out'?"),
        ("evaluate here there", "evaluate takes no further argument 'there'"),
        ("train minimax ring --steps 0", "must be a whole number, 1 or more; got '0'"),
        ("train minimax ring --steps many", "1 or more; got 'many'"),
        ("train minimax ring --steps 3 --full", "give one of the two"),
        ("train minimax", "required: DATA"),
    ],
)
def test_a_wrong_word_gets_the_near_one_and_exit_code_2(call, tmp_path, monkeypatch, words, says) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = call(*words.split())
    assert (code, out) == (2, "")
    assert says in err
    assert not list(tmp_path.iterdir())


def test_folders_without_a_run_are_named(call, tmp_path) -> None:
    for command in ("sample", "evaluate"):
        code, _, err = call(command, tmp_path / "nowhere")
        assert code == 1
        assert f"no run in {tmp_path / 'nowhere'}" in err
    call("train", "minimax", "ring", "--steps", 2, "--out", tmp_path / "a")
    code, _, err = call("sample", tmp_path / "a", "--out", "x.gif")
    assert code == 2
    assert ".png, .pt or .npz; got x.gif" in err
    (tmp_path / "a" / "run.pt").write_bytes(b"nonsense")
    code, _, err = call("sample", tmp_path / "a", "--device", "cpu")
    assert code == 1
    assert "no readable checkpoint" in err


def test_missing_data_say_what_to_do_and_leave_nothing(call, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("MINIGEN_DATA", str(tmp_path / "data"))
    code, _, err = call("train", "minimax", "mnist", "--out", tmp_path / "a")
    assert code == 1
    assert "unset MINIGEN_DATA to download it" in err
    assert not (tmp_path / "a").exists()


def test_a_device_that_is_not_there_is_refused(call, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    code, _, err = call("train", "minimax", "ring", "--device", "cuda", "--out", tmp_path / "a")
    assert code == 2
    assert "no CUDA device" in err
    assert "--device cpu" in err


def test_divergence_ends_with_the_step_and_the_last_checkpoint(call, tmp_path, monkeypatch) -> None:
    recipe = RECIPES["minimax", "ring"]

    def batches(**given):
        for n, batch in enumerate(recipe.target.batches(**given), start=1):
            yield batch * float("nan") if n == 12 else batch

    target = type("Broken", (), {**vars(recipe.target), "batches": staticmethod(batches)})()
    monkeypatch.setitem(RECIPES, ("minimax", "ring"), replace(recipe, target=target))
    code, _, err = call("train", "minimax", "ring", "--steps", 30, "--every", 5, "--out", tmp_path)
    assert code == 1
    assert "minigen: step 12, player 'discriminator'" in err
    assert recipes.load(tmp_path).run.n == 10


def test_without_matplotlib_all_but_pictures_works(call, tmp_path, monkeypatch) -> None:
    find = cli.importlib.util.find_spec
    monkeypatch.setattr(cli.importlib.util, "find_spec", lambda name: None if name == "matplotlib" else find(name))
    code, _, err = call("train", "minimax", "ring", "--steps", 2, "--out", tmp_path / "a")
    assert code == 0
    assert 'pip install "minigen[notebook]"' in err
    assert not (tmp_path / "a" / "samples.png").exists()
    code, _, err = call("sample", tmp_path / "a")
    assert code == 2
    assert "--out FILE.pt" in err


def test_help_names_every_recipe_and_fits_80_columns(call) -> None:
    texts = {words: call(*words.split())[1] for words in ("", "--help", "list", *(f"{c} --help" for c in COMMANDS))}
    assert texts[""] == texts["--help"] != ""
    for words in ("", "list", "train --help"):
        for recipe in RECIPES.values():
            assert recipe.name in texts[words]
            assert f"{recipe.steps:,} steps" in texts[words]
    for words, text in texts.items():
        assert text.strip()
        assert max(map(len, text.splitlines())) <= 80, words
    assert all(f"  {command} " in texts[""] for command in COMMANDS)
    for example in re.findall(r"-m minigen ((?:train|sample|evaluate).*?)(?:   |$)", texts[""], flags=re.MULTILINE):
        cli._parsers()[0].parse_args(example.split())


def test_the_command_line_is_light() -> None:
    heavy = "matplotlib", "sklearn", "pooch", "ipywidgets", "IPython", "scipy"
    code = f"import sys, minigen.cli; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"


def test_without_torch_it_says_which_python_lacks_it() -> None:
    program = "import runpy, sys; sys.modules['torch'] = None; runpy.run_module('minigen', run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr == f"minigen: {sys.executable} has no torch; after `make book`: source .venv/bin/activate\n"
