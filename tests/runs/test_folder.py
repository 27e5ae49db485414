"""A run in a folder: read, loaded, gone on with, and what is refused."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
import torch

from games import flat
from minigen import runs
from minigen.recipes import RECIPES
from minigen.recipes.minimax import samples
from minigen.train import checkpoint


@pytest.fixture
def folder(tmp_path):
    """A run of 12 steps of the ring, and the run itself."""
    recipe, settings = RECIPES["minimax", "ring"], runs.Settings(steps=20, seed=6, device="cpu", precision="fp32")
    run = recipe.build(steps=20, seed=6, device="cpu")
    runs.begin(recipe, settings, tmp_path)
    batches = recipe.batches(seed=6, device="cpu")
    list(run(batches, 12))
    run.save(tmp_path / "run.pt")
    return tmp_path, run, batches


def test_samples_come_from_the_average(folder) -> None:
    _, run, _ = folder
    game, z = run.objective, torch.randn(40, 2, generator=torch.Generator().manual_seed(8))
    with torch.no_grad():
        assert torch.equal(samples(run, 40, seed=8), run.ema["generator"](z))
        assert not torch.allclose(game.generator(z), run.ema["generator"](z), atol=1e-3)


def test_load_gives_the_run_which_goes_on_bit_exactly(folder) -> None:
    path, run, batches = folder
    loaded = runs.load(path)
    assert loaded.recipe is RECIPES["minimax", "ring"]
    assert (loaded.settings.steps, loaded.settings.seed, loaded.run.n) == (20, 6, 12)
    for a, b in ((run.objective, loaded.run.objective), (run.ema["generator"], loaded.run.ema["generator"])):
        assert torch.equal(flat(a), flat(b))
    list(run(batches, 8))
    list(loaded.run(loaded.recipe.batches(seed=6, device="cpu"), 8))
    assert torch.equal(flat(run.objective), flat(loaded.run.objective))
    assert torch.equal(flat(run.ema["generator"]), flat(loaded.run.ema["generator"]))


def test_a_run_from_another_kind_of_device_is_loaded_for_sampling(folder) -> None:
    path, run, _ = folder
    text = (path / "recipe.json").read_text().replace('"cpu"', '"cuda"')
    (path / "recipe.json").write_text(text)
    state = checkpoint.read(path / "run.pt") | {"device": "cuda"}
    state["rng"]["generator"] = torch.zeros(16, dtype=torch.uint8)  # as CUDA's, which a CPU generator refuses
    checkpoint.write(path / "run.pt", state)
    loaded = runs.load(path, device="cpu")
    assert loaded.run.n == 12
    assert torch.equal(samples(loaded.run, 30), samples(run, 30))
    assert torch.equal(flat(run.objective), flat(loaded.run.objective))


def test_log_lines_past_the_checkpoint_are_written_anew(folder) -> None:
    path, run, batches = folder
    recipe, checkpoint = RECIPES["minimax", "ring"], (path / "run.pt").read_bytes()
    assert runs.fit(run, batches, 20, 3, recipe, path) is None
    log = (path / "log.jsonl").read_bytes()
    assert [json.loads(line)["step"] for line in log.splitlines()] == [15, 18, 20]
    (path / "run.pt").write_bytes(checkpoint)  # as if killed between the two files: the log is ahead
    again = runs.load(path).run
    runs.fit(again, recipe.batches(seed=6, device="cpu"), 20, 3, recipe, path)
    assert (path / "log.jsonl").read_bytes() == log


def test_a_run_begun_with_another_version_says_so(folder, capsys) -> None:
    path, _, _ = folder
    loaded, file = runs.load(path), path / "recipe.json"
    runs.begin(loaded.recipe, loaded.settings, path)
    assert capsys.readouterr().err == ""
    file.write_text(file.read_text().replace(torch.__version__, "1.0"))
    before = file.read_bytes()
    runs.begin(loaded.recipe, loaded.settings, path)
    assert f"started with torch 1.0, now {torch.__version__}" in capsys.readouterr().err
    assert file.read_bytes() == before


def test_what_is_not_a_run_is_refused(folder, tmp_path_factory) -> None:
    path, _, _ = folder
    with pytest.raises(FileNotFoundError, match=r"no run in .* there is no recipe\.json"):
        runs.load(tmp_path_factory.mktemp("empty"))
    written = json.loads((path / "recipe.json").read_text())
    for wrong in (written | {"data": "rings"}, written | {"settings": {"steps": 3}}, []):
        (path / "recipe.json").write_text(json.dumps(wrong))
        with pytest.raises(ValueError, match="not readable by this version"):
            runs.load(path)
    (path / "run.pt").write_bytes(pickle.dumps(np.random.default_rng, protocol=2))  # unpickling it would run code
    for device in ("cuda", "cpu"):
        written["settings"]["device"] = device
        (path / "recipe.json").write_text(json.dumps(written))
        with pytest.raises(ValueError, match="no readable checkpoint"):
            runs.load(path, device="cpu")
    (path / "run.pt").unlink()
    with pytest.raises(FileNotFoundError, match="no checkpoint yet"):
        runs.load(path)
