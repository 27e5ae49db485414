"""The recipes of captions: what they are trained on and judged by; the truth reaches the yardstick, others do not."""

from __future__ import annotations

import math

import pytest
import torch

from minigen import data, runs
from minigen.data.batches import Batches
from minigen.recipes import RECIPES
from minigen.recipes.contrastive import DIGITS, FOG, SHAPES, scores
from minigen.tasks.captions import DescribedImages, DescribedShapes, blocks
from minigen.worlds import Shapes


def test_both_families_share_their_data() -> None:
    for name in ("shapes", "digits"):
        assert RECIPES["contrastive", name].task is RECIPES["captioner", name].task
    assert SHAPES.world.noise == FOG > Shapes.preset("12x12").noise
    assert (len(SHAPES.captions), SHAPES.tokens.shape[1], len(SHAPES.vocabulary)) == (170, 8, 20)
    assert DIGITS.vocabulary.decode(DIGITS.tokens)[8] == "an eight"


def test_training_never_shows_what_is_held_out() -> None:
    x, tokens = next(SHAPES.batches(batch_size=4000, seed=1, device="cpu"))
    said = set(SHAPES.vocabulary.decode(tokens))
    assert said == set(SHAPES.seen.captions)
    assert len(said) == 136
    assert {word for text in said for word in text.split()} == set(SHAPES.vocabulary.words)
    right = SHAPES.exact.log_posterior(x[:500]).argmax(1)
    assert (SHAPES.tokens[right] == tokens[:500]).all(1).double().mean() > 0.99


def test_every_second_image_is_of_an_unseen_combination() -> None:
    pairs, again = SHAPES.test_pairs(301), SHAPES.test_pairs(301)
    assert torch.equal(pairs.images, again.images)
    texts = [SHAPES.captions[i] for i in pairs.number]
    assert set(texts[::2]) <= set(SHAPES.seen.captions)
    assert set(texts[1::2]) <= set(SHAPES.unseen.captions)
    sure = SHAPES.exact.log_posterior(pairs.images).argmax(1)
    assert (sure == pairs.number).double().mean() > 0.98


def test_the_truth_reaches_the_yardstick_and_others_do_not() -> None:
    pairs = SHAPES.test_pairs(600)
    figures = SHAPES.evaluate(SHAPES.tokens[pairs.number])
    assert figures["captions_of_the_world"] == (1.0, 1.0)
    assert figures["seen_captions_right"].model == figures["unseen_captions_right"].model == 1
    bayes = SHAPES.evaluate(SHAPES.tokens[SHAPES.exact.log_posterior(pairs.images).argmax(1)])
    for name in ("seen_captions_right", "unseen_captions_right"):
        assert bayes[name].model == bayes[name].yardstick > 0.98
    trained = [SHAPES.captions.index(text) for text in SHAPES.seen.captions]
    narrow = SHAPES.tokens[torch.tensor(trained)][SHAPES.seen.log_posterior(pairs.images).argmax(1)]
    figures = SHAPES.evaluate(narrow)
    assert figures["seen_captions_right"].model > 0.98
    assert figures["unseen_captions_right"].model == 0, "what never occurs has no probability"
    nonsense = torch.full_like(narrow, 4)
    assert SHAPES.evaluate(nonsense)["captions_of_the_world"].model == 0


def test_the_exact_critic_scores_the_exact_bounds() -> None:
    def exact(x: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        column = [SHAPES.seen.captions.index(text) for text in SHAPES.vocabulary.decode(tokens)]
        return SHAPES.seen.log_ratio(x)[:, torch.tensor(column)]

    figures = SHAPES.bounds(exact)
    for name in ("bound_nats_among_64", "bound_nats_among_2048", "found_among_64"):
        assert figures[name].model == figures[name].yardstick
    small, large, information = (
        figures["bound_nats_among_64"].model,
        figures["bound_nats_among_2048"].model,
        figures["information_nats"].yardstick,
    )
    assert small < math.log(64) < large < information < math.log(136)
    # Among clear images: log N - E log(1 + K), K ~ Binomial(N - 1, 1 / 136).
    p, n = 1 / 136, 64
    mean = sum(math.comb(n - 1, k) * p**k * (1 - p) ** (n - 1 - k) * math.log(1 + k) for k in range(n))
    assert small == pytest.approx(math.log(n) - mean, abs=0.03)
    nothing = SHAPES.bounds(lambda x, tokens: torch.zeros(len(x), len(tokens)))
    assert nothing["bound_nats_among_64"].model == pytest.approx(0, abs=1e-6)
    assert nothing["found_among_64"].model == pytest.approx(1 / 64, rel=1e-5)


def test_the_exact_posterior_scores_the_floor() -> None:
    def exact(tokens: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        texts = SHAPES.vocabulary.decode(tokens)
        law = SHAPES.seen if set(texts) <= set(SHAPES.seen.captions) else SHAPES.unseen
        column = torch.tensor([law.captions.index(text) for text in texts])
        return law.log_posterior(x)[torch.arange(len(x)), column]

    for nll in SHAPES.nll(exact).values():
        assert nll.model == pytest.approx(nll.yardstick, abs=0.01)
    uniform = SHAPES.nll(lambda tokens, x: torch.full((len(x),), -math.log(136)))
    assert uniform["seen_nll_nats_per_caption"].model == pytest.approx(SHAPES.seen.entropy())


def test_digits_are_judged_on_the_test_split() -> None:
    test = data.digits("test")
    pairs = DIGITS.test_pairs(400)
    assert torch.equal(pairs.number, torch.cat([test.labels, test.labels[:18]]))
    assert DIGITS.count == len(test)
    assert DIGITS.evaluate(DIGITS.tokens[pairs.number])["names_right"].model == 1
    wrong = DIGITS.evaluate(DIGITS.tokens[(pairs.number + 1) % 10])
    assert (wrong["names_right"].model, wrong["names_of_a_class"].model) == (0, 1)
    batches = DIGITS.batches(batch_size=32, seed=0, device="cpu")
    assert isinstance(batches, Batches)
    assert batches.size == 1415
    x, tokens = next(batches)
    train = data.to_float(data.digits("train").images)
    for row, image in zip(tokens[:5], x, strict=False):
        labels = data.digits("train").labels[(train == image).flatten(1).all(1)]
        assert DIGITS.vocabulary.decode(row[None]) == [DIGITS.captions[i] for i in labels.unique()]


@pytest.mark.parametrize("family", ["contrastive", "captioner"])
@pytest.mark.parametrize("name", ["shapes", "digits"])
def test_the_result_of_a_run_has_its_nats_beside_the_floor(family: str, name: str) -> None:
    recipe = RECIPES[family, name]
    run = recipe.build(steps=3, seed=0, device="cpu")
    list(run(recipe.batches(seed=0, device="cpu"), 3))
    samples = recipe.draw(run, 30, seed=1)
    assert samples.dtype == torch.int64
    assert torch.equal(samples, recipe.draw(run, 30, seed=2))
    figures = runs.judge(run, recipe, samples, 1)["figures"]
    nats = [key for key in figures if "nats" in key]
    assert nats
    assert all(math.isfinite(figures[key]["model"]) for key in nats)
    yardsticks = [figures[key][recipe.task.yardstick] for key in nats]
    assert all(isinstance(number, float) for number in yardsticks) == (name == "shapes")


def test_blocks_lie_on_the_diagonal_and_a_rest_is_left_out() -> None:
    matrix = torch.arange(49.0).view(7, 7)
    assert blocks(lambda s: s.flatten()[0], matrix, 3) == (0 + 24) / 2
    assert blocks(lambda s: s.diagonal(), matrix, 7) == 24


def test_scores_come_from_the_average() -> None:
    recipe = RECIPES["contrastive", "digits"]
    run = recipe.build(steps=20, seed=0, device="cpu")
    list(run(recipe.batches(seed=0, device="cpu"), 12))
    x = DIGITS.test_pairs(9).images
    with torch.no_grad():
        expected = run.ema["model"].scores(x, DIGITS.tokens)
    torch.testing.assert_close(scores(run, x, DIGITS.tokens), expected)
    assert not torch.allclose(run.objective.model.scores(x, DIGITS.tokens), expected, atol=1e-3)
    assert isinstance(SHAPES, DescribedShapes)
    assert isinstance(DIGITS, DescribedImages)
