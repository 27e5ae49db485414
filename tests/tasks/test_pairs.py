"""Tasks of pairs: held-out inputs, judged answers, pairs that stay pairs whatever is done to them."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import avg_pool2d

from minigen import data, runs
from minigen.cli import main
from minigen.recipes import RECIPES
from minigen.tasks.pairs import ANSWERS, PairedEmoji, PairedFolder, PairedWorld, detail, turn_hue
from minigen.worlds import Pairs, Shapes

pytest.importorskip("PIL")


@pytest.fixture(scope="module", params=["outline", "grey"])
def task(request) -> PairedWorld:
    def make() -> Pairs:
        return Pairs(Shapes(8, kinds=("disc", "square", "cross"), sizes=(5,), positions=(2, 2)), request.param)

    return PairedWorld("small", "a small world", make, shape=(3, 8, 8), input_shape=(1, 8, 8))


def test_no_input_that_is_judged_has_been_trained_on(task) -> None:
    number, (train, test) = task.world.input_number, task.split
    assert not set(number[train].tolist()) & set(number[test].tolist())
    assert torch.equal(torch.cat([train, test]).sort().values, torch.arange(len(task.world)))
    share = len(set(number[test].tolist())) / (int(number.max()) + 1)
    assert 0.1 < share <= 0.2


def test_a_batch_holds_answers_and_then_the_inputs_that_they_belong_to(task) -> None:
    y, x = next(task.batches(batch_size=40, seed=0, device="cpu"))
    assert (y.shape[1:], x.shape[1:]) == (task.shape, task.input_shape)
    assert task.world.right(x, y).double().mean() > 0.9  # a grey disc is now and then taken for another's
    train = set(task.world.input_number[task.split[0]].tolist())
    asked = task.world.posterior(x).argmax(1)
    found = [int(task.world.input_number[i]) in train for i in asked]
    assert sum(found) > 36


def test_exact_answers_have_the_figures_of_the_yardstick_and_others_fewer(task) -> None:
    n = 8 * ANSWERS
    x = task.wanted(n)
    assert all(torch.equal(x[i], x[i - i % ANSWERS]) for i in range(n))
    exact = task.world.sample_answers(x, generator=torch.Generator().manual_seed(7))
    figures = task.evaluate(exact)
    assert figures["right_share"].model == pytest.approx(figures["right_share"].yardstick, abs=0.02)
    assert figures["right_share"].yardstick > 0.95
    entropy = figures["answer_entropy_nats"]
    assert entropy.model == pytest.approx(entropy.yardstick, abs=0.1)
    true = task.world.answer_entropy(x[::ANSWERS].double()).mean().item()
    assert entropy.yardstick < true + 0.02  # of 50 answers the entropy comes out too small
    assert entropy.yardstick > true - 0.35

    same = task.evaluate(exact.view(-1, ANSWERS, *task.shape)[:, :1].expand(-1, ANSWERS, -1, -1, -1).flatten(0, 1))
    assert same["answer_entropy_nats"].model == 0
    assert task.evaluate(exact.roll(ANSWERS, 0))["right_share"].model < 0.8  # answers to other inputs
    assert task.evaluate(torch.zeros_like(exact))["right_share"].model == 0


def test_detail_is_what_the_means_of_four_pixels_leave_out() -> None:
    x = torch.randn(5, 3, 8, 8, dtype=torch.float64)
    coarse = 4 * avg_pool2d(x, 2).square().flatten(1).sum(1)
    torch.testing.assert_close(detail(x) + coarse, x.square().flatten(1).sum(1))  # Pythagoras
    assert detail(torch.ones(1, 3, 8, 8)).item() == 0


def test_colours_are_turned_about_the_greys() -> None:
    angle = torch.tensor([0.0, 0.3, 2 * math.pi / 3], dtype=torch.float64)
    turn = turn_hue(angle)
    torch.testing.assert_close(turn @ turn.mT, torch.eye(3, dtype=torch.float64).expand(3, 3, 3))
    assert torch.linalg.det(turn).tolist() == pytest.approx([1, 1, 1])
    torch.testing.assert_close(turn.sum(2), torch.ones(3, 3, dtype=torch.float64))  # greys stay
    torch.testing.assert_close(turn[2], torch.eye(3, dtype=torch.float64).roll(1, 0))  # a third: red becomes green


@pytest.fixture(scope="module")
def emoji() -> PairedEmoji:
    return RECIPES["paired", "emoji"].task


def test_inputs_and_answers_are_one_emoji_by_two_artists(emoji) -> None:
    x, y = emoji.images("test")
    assert torch.equal(x, data.to_float(data.emoji("twemoji", "test").images))
    assert torch.equal(y, data.to_float(data.emoji("noto", "test").images))
    back = PairedEmoji("back", "the other way", source="noto")
    assert torch.equal(back.images("test")[0], y)
    assert torch.equal(emoji.wanted(302)[300:], x[:2])


def test_what_is_done_to_one_picture_of_a_pair_is_done_to_the_other(emoji, monkeypatch) -> None:
    """With the same picture on both sides they stay the same, whatever is drawn."""
    x = emoji.images("train")[0]
    monkeypatch.setattr(emoji, "images", lambda split: (x, x))
    batches = emoji.batches(batch_size=16, seed=0, device="cpu")
    for _ in range(3):
        answers, inputs = next(batches)
        torch.testing.assert_close(answers, inputs, rtol=0, atol=1e-6)
    gaps = (inputs[:, None] - x).abs().flatten(2).mean(2).amin(1)
    assert (gaps > 0.02).all()  # moved, and their colours turned


def test_doing_nothing_and_the_truth_have_the_figures_that_are_known(emoji) -> None:
    x, y = emoji.images("test")
    nothing, truth = emoji.evaluate(x), emoji.evaluate(y)
    assert nothing["mean_absolute_error"].model == nothing["mean_absolute_error"].yardstick
    assert nothing["mean_absolute_error"].model == pytest.approx(0.352, abs=2e-3)
    assert nothing["partner_found_share"].model == pytest.approx(0.42, abs=0.01)
    assert [figure.model for figure in truth.values()] == [0, 1, 1]
    blurred = avg_pool2d(y, 3, stride=1, padding=1)
    assert emoji.evaluate(blurred)["detail_ratio"].model < 0.4
    with pytest.raises(ValueError, match="twemoji, noto"):
        PairedEmoji("emoji", "", source="apple")


def pairs_in(folder, *, count: int = 24, size: int = 20) -> None:
    """Pictures of one colour, and as answers the same with red and blue exchanged."""
    from PIL import Image

    for part in ("inputs", "answers"):
        (folder / part).mkdir(parents=True)
    for i in range(count):
        red, blue = 10 * i, 255 - 7 * i
        Image.new("RGB", (size, size), (red, 99, blue)).save(folder / "inputs" / f"{i:02}.png")
        Image.new("RGB", (size, size), (blue, 99, red)).save(folder / "answers" / f"{i:02}.png")


def test_a_folder_of_pairs_keeps_them_together(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("MINIGEN_CACHE", str(tmp_path / "cache"))
    pairs_in(tmp_path / "mine")
    task = PairedFolder(tmp_path / "mine", size=16)
    y, x = next(task.batches(batch_size=8, seed=0, device="cpu"))
    assert y.shape == (8, 3, 16, 16)
    torch.testing.assert_close(y, x.flip(1))
    inputs, truth = task.images("test")
    torch.testing.assert_close(truth, inputs.flip(1))
    assert task.evaluate(truth)["mean_absolute_error"].model == 0
    assert task.evaluate(task.wanted(len(truth)))["mean_absolute_error"].model > 0.1
    assert not {float(v) for v in task.images("train")[0][:, 0, 0, 0]} & {float(v) for v in inputs[:, 0, 0, 0]}


def test_pictures_without_a_partner_and_broken_ones_are_named(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("MINIGEN_CACHE", str(tmp_path / "cache"))
    with pytest.raises(ValueError, match="--data PATH"):
        PairedFolder(None).images("train")
    (tmp_path / "mine").mkdir()
    with pytest.raises(FileNotFoundError, match="inputs and answers"):
        PairedFolder(tmp_path / "mine").images("train")
    (tmp_path / "mine").rmdir()
    pairs_in(tmp_path / "mine")
    (tmp_path / "mine" / "answers" / "07.png").rename(tmp_path / "mine" / "answers" / "x7.png")
    with pytest.raises(ValueError, match=r"2 pictures .* no partner .* 07, x7"):
        PairedFolder(tmp_path / "mine", size=16).images("train")
    (tmp_path / "mine" / "answers" / "x7.png").rename(tmp_path / "mine" / "answers" / "07.png")
    (tmp_path / "mine" / "inputs" / "03.png").write_bytes(b"no picture")
    with pytest.warns(UserWarning, match="could not be read"), pytest.raises(ValueError, match="cannot be read"):
        PairedFolder(tmp_path / "mine", size=16).images("all")


def test_a_folder_of_pairs_is_trained_from_the_command_line_and_resumed(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("MINIGEN_CACHE", str(tmp_path / "cache"))
    pairs_in(tmp_path / "mine", size=64)
    made = RECIPES["paired", "folder"].at(str(tmp_path / "mine"))
    small = replace(made, settings={**made.settings, "width": 4, "judge_width": 4}, batch_size=4)
    monkeypatch.setitem(RECIPES, ("paired", "folder"), replace(small, at=lambda path: small))
    words = ["train", "paired", "folder", "--data", str(tmp_path / "mine"), "--device", "cpu"]
    assert main([*words, "--steps", "2", "--out", str(tmp_path / "run")]) == 0
    figures = json.loads((tmp_path / "run" / "result.json").read_text())["figures"]
    assert set(figures) == {"mean_absolute_error", "partner_found_share", "detail_ratio"}
    assert set(figures["detail_ratio"]) == {"model", "doing nothing"}
    run = runs.load(tmp_path / "run").run
    assert run.n == 2
