"""The other commands, and what the command line says of wrong words."""

from __future__ import annotations

import importlib
import io
import json
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from minigen import cli, metrics, runs
from minigen.recipes import RECIPES
from minigen.worlds import GaussianMixture

COMMANDS = ("train", "sample", "evaluate", "export", "list")


def test_samples_are_those_of_the_python_interface(call, tmp_path) -> None:
    recipe = RECIPES["minimax", "ring"]
    run = recipe.build(steps=10, seed=2)
    list(run(recipe.batches(seed=2, device="cpu"), 10))
    expected = recipe.draw(run, 33, seed=7)
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
    loaded = runs.load(tmp_path / "a")
    report = metrics.modes(loaded.recipe.draw(loaded.run, 400, seed=3), GaussianMixture.ring())
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
        ("train minimax quux", "there is no data set 'quux'; there are: ring, grid, shapes, digits, faces, mnist"),
        ("trainn minimax ring", "there is no command 'trainn'; did you mean 'train'?"),
        ("train minimax ring --sed 3", "train takes no option '--sed'; did you mean '--seed'?"),
        ("train minimax ring --step=3 --oot x", "did you mean '--out'?"),
        ("evaluate here there", "evaluate takes no further argument 'there'"),
        ("train minimax ring --steps 0", "must be a whole number, 1 or more; got '0'"),
        ("train minimax ring --steps many", "1 or more; got 'many'"),
        ("train minimax ring --steps 3 --full", "give one of the two"),
        ("train minimax", "required: DATA"),
        (
            f"train minimax ring --seed {10**23}",
            "from 0 to 4,294,967,295; got '100000000000000000000000'",
        ),
        ("train minimax ring --seed -1", "a whole number from 0 to 4,294,967,295; got '-1'"),
        ("train minimax ring --seed 4294967296", "from 0 to 4,294,967,295"),
        (f"sample here --seed {10**23}", "a whole number from 0"),
        ("train minimax ring --precision half", "argument --precision: invalid choice: 'half'"),
        ("export here", "required: --out"),
    ],
)
def test_a_wrong_word_gets_the_near_one_and_exit_code_2(call, tmp_path, monkeypatch, words, says) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = call(*words.split())
    assert (code, out) == (2, "")
    assert says in err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "words",
    [
        ["train", "minimax", "ring", "--out", ""],
        ["train", "diffusion", "folder", "--data", ""],
        ["sample", "", "-n", "2"],
        ["evaluate", "here", "--json", ""],
        ["export", "here", "--out", ""],
    ],
)
def test_a_path_whose_variable_is_not_set_is_no_path(call, tmp_path, monkeypatch, words: list[str]) -> None:
    """It would be this folder, whose pictures would be trained on."""
    monkeypatch.chdir(tmp_path)
    code, out, err = call(*words)
    assert (code, out) == (2, "")
    assert "must be a path; got an empty text: is the variable set?" in err
    assert not list(tmp_path.iterdir())


def test_a_folder_that_the_console_cannot_spell_does_not_fail_a_command(call, tmp_path, monkeypatch) -> None:
    """On Windows a console often knows Western letters alone; what was trained was there, and exit code 1 as well."""
    folder = tmp_path / "тест"
    assert call("train", "minimax", "ring", "--steps", 3, "--out", folder)[0] == 0
    narrow = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    monkeypatch.setattr("sys.stdout", narrow)
    assert cli.main(["sample", str(folder), "-n", "2", "--out", str(folder / "ш.pt")]) == 0
    narrow.flush()
    assert rb"\u0448.pt: 2 samples" in narrow.buffer.getvalue()


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


def test_a_device_that_is_not_there_is_refused(call, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    code, _, err = call("train", "minimax", "ring", "--device", "cuda", "--out", tmp_path / "a")
    assert code == 2
    assert "no CUDA device" in err
    assert "--device cpu" in err


def test_without_matplotlib_all_but_pictures_works(call, tmp_path, monkeypatch) -> None:
    find = cli.commands.importlib.util.find_spec
    monkeypatch.setattr(
        cli.commands.importlib.util, "find_spec", lambda name: None if name == "matplotlib" else find(name)
    )
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
        cli.parsers.parser_and_options()[0].parse_args(example.split())


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


def test_more_samples_than_memory_holds_are_refused_before_they_are_drawn(call, tmp_path) -> None:
    call("train", "minimax", "ring", "--steps", 2, "--device", "cpu", "--out", tmp_path / "a")
    for command in ("sample", "evaluate"):
        code, out, err = call(command, tmp_path / "a", "-n", 10**11)
        assert (code, out) == (2, "")
        assert "100,000,000,000 samples of minimax ring take 1,490 GiB" in err
        assert "ask for fewer with -n" in err


def test_memory_that_runs_out_is_said(call, tmp_path, monkeypatch) -> None:
    call("train", "minimax", "ring", "--steps", 2, "--device", "cpu", "--out", tmp_path / "a")
    for error in (MemoryError(), RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried")):

        def draw(*given: object, error: Exception = error, **options: object) -> None:
            raise error

        monkeypatch.setitem(RECIPES, ("minimax", "ring"), replace(RECIPES["minimax", "ring"], draw=draw))
        code, _, err = call("sample", tmp_path / "a")
        assert code == 1
        assert "minigen: out of memory; ask for fewer samples with -n" in err


def test_export_leaves_the_books_checkpoints_alone(call, tmp_path, monkeypatch) -> None:
    shipped = tmp_path / "minigen" / "checkpoints"
    monkeypatch.setattr(importlib.import_module("minigen.runs.stored"), "FOLDER", shipped)
    call("train", "minimax", "ring", "--steps", 1, "--device", "cpu", "--out", tmp_path / "a")
    (tmp_path / "link").symlink_to(shipped)
    around = tmp_path / "x" / ".." / "minigen"
    for wrong in (shipped, tmp_path / "minigen", shipped / "deeper", around, tmp_path / "link"):
        code, _, err = call("export", tmp_path / "a", "--out", wrong)
        assert code == 1
        assert "belongs to minigen itself" in err
        assert "--into-package" in err
    assert not shipped.exists()
    assert call("export", tmp_path / "a", "--out", tmp_path / "mine")[0] == 0
    assert (tmp_path / "mine" / "minimax-ring.safetensors").exists()
    assert call("export", tmp_path / "a", "--out", shipped, "--into-package")[0] == 0
    assert (shipped / "minimax-ring.json").exists()


def test_small_networks_get_one_thread_unless_the_user_chose(call, tmp_path, monkeypatch) -> None:
    words = ["train", "minimax", "ring", "--steps", 1, "--device", "cpu", "--out"]
    for chosen, expected in ((None, 1), ("2", 2)):
        monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        if chosen:
            monkeypatch.setenv("OMP_NUM_THREADS", chosen)
        torch.set_num_threads(2)
        assert call(*words, tmp_path / str(chosen))[0] == 0
        assert torch.get_num_threads() == expected
