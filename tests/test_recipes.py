"""The named recipes: each builds, trains and judges; figures are those of the metrics, and the truth reaches them."""

from __future__ import annotations

import json
import math
import pickle
import re

import numpy as np
import pytest
import torch

from games import flat
from minigen import data, metrics, recipes
from minigen.player import png
from minigen.recipes import RECIPES, training
from minigen.recipes.targets import RealImages
from minigen.train import Step
from minigen.worlds import GaussianMixture

HERE = [name for name in RECIPES if name[1] not in data.SOURCES]  # the others need files


@pytest.mark.parametrize("name", HERE)
def test_a_recipe_builds_trains_draws_and_is_judged(name) -> None:
    recipe = RECIPES[name]
    assert (recipe.family, recipe.target.name) == name
    run = recipe.build(steps=4, seed=3, device="cpu", precision="fp32")
    batches = recipe.batches(seed=3, device="cpu")
    batch = next(batches)
    images = batch[0] if isinstance(batch, tuple) else batch  # what it is drawn for comes second
    assert images.shape == (recipe.batch_size, *recipe.target.shape)
    counted = recipe.family in ("autoregressive", "contrastive", "captioner")
    assert images.dtype == (torch.int64 if counted else torch.float32)
    list(run(batches, 2))
    x = recipe.draw(run, 70, seed=5)
    assert x.shape == (70, *recipe.target.shape)
    figures = recipe.target.evaluate(x)
    for figure in figures.values():
        assert not math.isnan(figure.model)
        assert figure.yardstick is None or not math.isnan(figure.yardstick)
    assert png(recipe.target.picture(x))[:4] == b"\x89PNG"


@pytest.mark.parametrize("name", [name for name in RECIPES if name not in HERE])
def test_the_recipes_of_downloaded_images_build_without_them(name) -> None:
    recipe = RECIPES[name]
    run = recipe.build(steps=4, seed=3, device="cpu")
    assert recipe.draw(run, 2, seed=5).shape == (2, *recipe.target.shape)
    assert recipe.target.shape == ((3, 32, 32) if name[1] == "cifar10" else (1, 28, 28))


def test_the_named_recipes_are_the_books() -> None:
    """Chapter 02 calls plane_gan and digits_gan; the command line must give the same networks, bit for bit."""
    digits = data.to_float(data.digits("train").images)
    for name, (run, batches) in {
        ("minimax", "ring"): recipes.plane_gan(GaussianMixture.ring(), steps=20, seed=2, **recipes.RING),
        ("minimax", "grid"): recipes.plane_gan(GaussianMixture.grid(), steps=20, seed=2, **recipes.GRID),
        ("minimax", "digits"): recipes.digits_gan(digits, steps=20, seed=2),
    }.items():
        list(run(batches, 20))
        mine = RECIPES[name].build(steps=20, seed=2, device="cpu")
        list(mine(RECIPES[name].batches(seed=2, device="cpu"), 20))
        assert torch.equal(flat(run.objective), flat(mine.objective)), name
        assert torch.equal(recipes.samples(run, 9), RECIPES[name].draw(mine, 9, seed=1))


@pytest.mark.parametrize("name", ["ring", "grid"])
def test_exact_points_reach_the_yardstick_and_others_do_not(name: str) -> None:
    target = RECIPES["minimax", name].target
    figures = target.evaluate(target.world.sample(20_000))
    captured, share = figures["modes_captured"], figures["high_quality_share"]
    assert captured.model == captured.yardstick == {"ring": 8, "grid": 25}[name]
    assert share.model == pytest.approx(share.yardstick, abs=4e-3)
    assert target.evaluate(torch.randn(500, 2))["high_quality_share"].model < 0.2
    assert target.evaluate(target.world.means[:1].float().expand(50, 2))["modes_captured"].model == 1


def test_exact_shapes_reach_the_yardstick_and_others_do_not() -> None:
    target = RECIPES["minimax", "shapes"].target
    figures = target.evaluate(target.world.sample(3000))
    assert figures["valid_share"].model == figures["valid_share"].yardstick == 1
    coverage = figures["coverage_nats_from_even"]
    assert coverage.model == pytest.approx(coverage.yardstick, abs=0.006)
    one = target.evaluate(target.world.sample(200, index=torch.tensor([4])))
    assert one["coverage_nats_from_even"].model == pytest.approx(math.log(len(target.world)))
    assert target.evaluate(torch.zeros(50, 3, 8, 8))["valid_share"] == (0.0, 1.0)


def test_figures_of_real_images_are_those_of_the_metrics() -> None:
    target = RECIPES["minimax", "digits"].target
    train, test = (data.to_float(data.digits(split).images) for split in ("train", "test"))
    x = (train[:200] + 0.1 * torch.randn(200, 1, 8, 8)).clamp(-1, 1)
    figures = target.evaluate(x)
    assert figures["images_compared"] == (200, 200)
    assert figures["training_images_of_published"] == (1415, 1415)
    unseen, known = test[:200], train[torch.randperm(1415, generator=torch.Generator().manual_seed(0))[:200]]
    mean = {
        "distance_to_training_images": (metrics.nearest(x, train), metrics.nearest(unseen, train)),
        "distance_from_unseen_images": (metrics.nearest(unseen, x), metrics.nearest(unseen, known)),
    }
    for name, pair in mean.items():
        assert figures[name] == tuple(distance.mean().item() for distance, _ in pair)
    for name, function in {
        "pixel_frechet_distance": metrics.frechet_distance,
        "pixel_kernel_distance": metrics.kernel_distance,
    }.items():
        assert figures[name] == tuple(function(a.flatten(1), unseen.flatten(1)) for a in (x, known))
    pair = [metrics.precision_recall(unseen.flatten(1), a.flatten(1)) for a in (x, known)]
    assert figures["pixel_precision"] == tuple(p.precision for p in pair)
    assert figures["pixel_recall"] == tuple(p.recall for p in pair)
    copies = target.evaluate(train[:300])
    assert copies["distance_to_training_images"].model < 1e-2 < copies["distance_to_training_images"].yardstick


def test_a_subset_says_so() -> None:
    def few(split: str) -> data.Images:
        return data.Images(
            torch.randint(256, (50, 1, 4, 4)).to(torch.uint8), torch.zeros(50).long(), ("a",), "few", split, 9000
        )

    target = RealImages("few", "", few, shape=(1, 4, 4))
    assert target.evaluate(torch.zeros(40, 1, 4, 4))["training_images_of_published"] == (50, 9000)


@pytest.fixture
def folder(tmp_path):
    """A run of 12 steps of the ring, and the run itself."""
    recipe, settings = RECIPES["minimax", "ring"], recipes.Settings(steps=20, seed=6, device="cpu", precision="fp32")
    run = recipe.build(steps=20, seed=6, device="cpu")
    training.begin(recipe, settings, tmp_path)
    batches = recipe.batches(seed=6, device="cpu")
    list(run(batches, 12))
    run.save(tmp_path / "run.pt")
    return tmp_path, run, batches


def test_samples_come_from_the_average(folder) -> None:
    _, run, _ = folder
    game, z = run.objective, torch.randn(40, 2, generator=torch.Generator().manual_seed(8))
    with torch.no_grad():
        assert torch.equal(recipes.samples(run, 40, seed=8), run.average["generator"](z))
        assert not torch.allclose(game.generator(z), run.average["generator"](z), atol=1e-3)


def test_load_gives_the_run_which_goes_on_bit_exactly(folder) -> None:
    path, run, batches = folder
    loaded = recipes.load(path)
    assert loaded.recipe is RECIPES["minimax", "ring"]
    assert (loaded.settings.steps, loaded.settings.seed, loaded.run.n) == (20, 6, 12)
    for a, b in ((run.objective, loaded.run.objective), (run.average["generator"], loaded.run.average["generator"])):
        assert torch.equal(flat(a), flat(b))
    list(run(batches, 8))
    list(loaded.run(loaded.recipe.batches(seed=6, device="cpu"), 8))
    assert torch.equal(flat(run.objective), flat(loaded.run.objective))
    assert torch.equal(flat(run.average["generator"]), flat(loaded.run.average["generator"]))


def test_a_run_from_another_kind_of_device_is_loaded_for_sampling(folder) -> None:
    path, run, _ = folder
    text = (path / "recipe.json").read_text().replace('"cpu"', '"cuda"')
    (path / "recipe.json").write_text(text)
    state = torch.load(path / "run.pt", weights_only=True)
    state["noise"]["generator"] = torch.zeros(16, dtype=torch.uint8)  # as CUDA's, which a CPU generator refuses
    torch.save(state, path / "run.pt")
    loaded = recipes.load(path, device="cpu")
    assert loaded.run.n == 12
    assert torch.equal(recipes.samples(loaded.run, 30), recipes.samples(run, 30))
    assert torch.equal(flat(run.objective), flat(loaded.run.objective))


def test_log_lines_past_the_checkpoint_are_written_anew(folder) -> None:
    path, run, batches = folder
    recipe, checkpoint = RECIPES["minimax", "ring"], (path / "run.pt").read_bytes()
    assert training.fit(run, batches, 20, 3, recipe, path) is None
    log = (path / "log.jsonl").read_bytes()
    assert [json.loads(line)["step"] for line in log.splitlines()] == [15, 18, 20]
    (path / "run.pt").write_bytes(checkpoint)  # as if killed between the two files: the log is ahead
    again = recipes.load(path).run
    training.fit(again, recipe.batches(seed=6, device="cpu"), 20, 3, recipe, path)
    assert (path / "log.jsonl").read_bytes() == log


def test_a_run_begun_with_another_version_says_so(folder, capsys) -> None:
    path, _, _ = folder
    loaded, file = recipes.load(path), path / "recipe.json"
    training.begin(loaded.recipe, loaded.settings, path)
    assert capsys.readouterr().err == ""
    file.write_text(file.read_text().replace(torch.__version__, "1.0"))
    before = file.read_bytes()
    training.begin(loaded.recipe, loaded.settings, path)
    assert f"started with torch 1.0, now {torch.__version__}" in capsys.readouterr().err
    assert file.read_bytes() == before


def test_what_is_not_a_run_is_refused(folder, tmp_path_factory) -> None:
    path, _, _ = folder
    with pytest.raises(FileNotFoundError, match=r"no run in .* there is no recipe\.json"):
        recipes.load(tmp_path_factory.mktemp("empty"))
    written = json.loads((path / "recipe.json").read_text())
    for wrong in (written | {"data": "rings"}, written | {"settings": {"steps": 3}}, []):
        (path / "recipe.json").write_text(json.dumps(wrong))
        with pytest.raises(ValueError, match="not readable by this version"):
            recipes.load(path)
    (path / "run.pt").write_bytes(pickle.dumps(np.random.default_rng, protocol=2))  # unpickling it would run code
    for device in ("cuda", "cpu"):
        written["settings"]["device"] = device
        (path / "recipe.json").write_text(json.dumps(written))
        with pytest.raises(ValueError, match="no readable checkpoint"):
            recipes.load(path, device="cpu")
    (path / "run.pt").unlink()
    with pytest.raises(FileNotFoundError, match="no checkpoint yet"):
        recipes.load(path)


def test_files_are_whole_or_not_there(tmp_path, monkeypatch) -> None:
    training.write(tmp_path / "a", b"old")

    def dies(*paths: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(training.os, "replace", dies)
    with pytest.raises(KeyboardInterrupt):
        training.write(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"old"


def test_json_is_json_where_a_figure_is_not_finite(tmp_path) -> None:
    training.write_json(tmp_path / "new" / "a.json", {"a": {"b": math.inf, "c": 1.5}, "d": math.nan, "e": "text"})
    text = (tmp_path / "new" / "a.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail) == {"a": {"b": None, "c": 1.5}, "d": None, "e": "text"}


class Screen:
    def __init__(self, *, tty: bool) -> None:
        self.text, self.isatty = "", lambda: tty

    def write(self, text: str) -> None:
        self.text += text

    def flush(self) -> None: ...


@pytest.mark.parametrize(("tty", "lines"), [(True, 20), (False, 1)])
def test_progress_reads_logs_only_when_it_shows_them(monkeypatch, tty: bool, lines: int) -> None:
    """1,000 of 9,000 steps of a batch of 64, 10 ms each: 10 seconds."""
    clock, reads = [0.0], []
    monkeypatch.setattr(training.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(Step, "read", lambda step: reads.append(step.n) or {"generator/loss": 0.5, "r1": 3.0})
    screen = Screen(tty=tty)
    progress = training.Progress(0, 9_000, 64, screen)
    for n in range(1, 1001):
        clock[0] = n / 100
        progress.update(Step(n, {}))
    assert len(reads) == lines
    last = re.split(r"[\r\n]", screen.text.strip())[-1].strip()
    assert last == "1,000/9,000  generator 0.500  6,400 samples/s  1 min 20 s left"
    assert screen.text.startswith("\r" if tty else "1,000")


def test_durations_read_well() -> None:
    assert [training._duration(s) for s in (0.4, 59.4, 59.6, 3599.6, 7260)] == [
        "0 s", "59 s", "1 min 00 s", "1 h 00 min", "2 h 01 min",
    ]  # fmt: skip


@pytest.mark.parametrize(("name", "shape"), [("mnist", (1, 28, 28)), ("cifar10", (3, 32, 32))])
def test_diffusion_of_larger_images_takes_a_step(name: str, shape: tuple[int, ...]) -> None:
    recipe = RECIPES["diffusion", name]
    assert recipe.target.shape == shape
    run = recipe.build(steps=1, seed=0, device="cpu")
    (step,) = run([2 * torch.rand(2, *shape) - 1], 1)
    assert math.isfinite(step.read()["model/loss"])
    stored = torch.tensor([0, 128, 255], dtype=torch.uint8).expand(*shape[1:], 3).movedim(2, 0)[: shape[0]]
    seen = recipe.target._change(stored, torch.full(stored.shape, 0.5))
    assert torch.equal(seen[:, 0, 0], torch.tensor([-1 + 1 / 256, 1 / 256, 1 - 1 / 256])[: shape[0]])
