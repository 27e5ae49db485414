"""Pairs of images: densities against sums over templates, Bayes, means and medians against their definitions."""

from __future__ import annotations

import math

import pytest
import torch

from minigen.worlds import Pairs, Shapes
from minigen.worlds.pairs import grey, outline

SMALL = {"kinds": ("disc", "square"), "colours": ("red", "green", "cyan"), "sizes": (5,), "positions": (2, 1)}


@pytest.fixture(scope="module", params=["outline", "grey"])
def pairs(request) -> Pairs:
    return Pairs(Shapes(8, backgrounds=("black", "white"), **SMALL), request.param, noise=0.3)


def log_normal(x: torch.Tensor, mean: torch.Tensor, std: float) -> torch.Tensor:
    """The log-density of images (B, ...) at means (N, ...), number by number, (B, N)."""
    z = (x.double()[:, None] - mean.double()[None]) / std
    return (-0.5 * z**2 - math.log(std * math.sqrt(2 * math.pi))).flatten(2).sum(2)


def by_sums(pairs: Pairs, x: torch.Tensor, y: torch.Tensor) -> dict[str, torch.Tensor]:
    """All laws from the definition, p(x, y) = 1/N sum_T N(x; a_T) N(y; b_T)."""
    of_x, of_y = log_normal(x, pairs.inputs, pairs.noise), log_normal(y, pairs.answers, pairs.noise)
    n = math.log(len(pairs))
    joint, alone = (of_x + of_y).logsumexp(1) - n, of_x.logsumexp(1) - n
    return {"joint": joint, "input": alone, "answer": joint - alone, "posterior": of_x.log_softmax(1)}


def test_every_law_is_the_sum_over_templates(pairs) -> None:
    x, y = pairs.sample(40, generator=torch.Generator().manual_seed(0))
    want = by_sums(pairs, x, y)
    for name, got in {
        "joint": pairs.log_prob(x.double(), y.double()),
        "input": pairs.input_log_prob(x.double()),
        "answer": pairs.answer_log_prob(y.double(), x.double()),
        "posterior": pairs.posterior(x.double()),
    }.items():
        torch.testing.assert_close(got, want[name], rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda w: w["joint"],  # the joint law for the conditional
        lambda w: w["joint"] + w["input"],  # multiplied by p(x)
        lambda w: w["answer"] - math.log(24),  # divided by N once more
        lambda w: w["posterior"].logsumexp(1) + w["joint"],  # a posterior that sums to 1 changes nothing
    ],
)
def test_a_wrong_conditional_is_noticed(pairs, wrong) -> None:
    x, y = pairs.sample(40, generator=torch.Generator().manual_seed(0))
    want = by_sums(pairs, x, y)
    assert (wrong(want) - pairs.answer_log_prob(y.double(), x.double())).abs().max() > 0.1


def test_an_answer_that_does_not_belong_to_the_input_is_less_probable_by_what_the_input_says(pairs) -> None:
    """E log p(y|x) - log p(y) is the mutual information: not negative, at most the entropy of the input's kind."""
    x, y = pairs.sample(4000, generator=torch.Generator().manual_seed(1))
    gain = pairs.answer_log_prob(y.double(), x.double()) - pairs.world.log_prob(y.double())
    share = torch.bincount(pairs.input_number).double() / len(pairs)
    assert pairs.world.noise != pairs.noise  # so that the world's law is another: take that of the answers
    marginal = log_normal(y[:200], pairs.answers, pairs.noise).logsumexp(1) - math.log(len(pairs))
    gain = pairs.answer_log_prob(y[:200].double(), x[:200].double()) - marginal
    error = gain.std().item() / math.sqrt(len(gain))
    assert -3 * error < gain.mean().item() < torch.special.entr(share).sum().item() + 3 * error


def test_the_density_of_answers_has_integral_one(pairs) -> None:
    """By importance sampling from all answers, with a little more noise."""
    x, _ = pairs.sample(1, generator=torch.Generator().manual_seed(2))
    source, n, wide = torch.Generator().manual_seed(3), 4000, 1.02 * pairs.noise
    number = torch.randint(len(pairs), (n,), generator=source)
    y = pairs.answers[number] + wide * torch.randn(n, *pairs.answers.shape[1:], generator=source)
    log_q = log_normal(y, pairs.answers, wide).logsumexp(1) - math.log(len(pairs))
    weight = (pairs.answer_log_prob(y.double(), x.double().expand(n, -1, -1, -1)) - log_q).exp()
    assert abs(weight.mean().item() - 1) < 4 * weight.std().item() / math.sqrt(n) < 0.4


def test_answers_are_drawn_as_the_posterior_says() -> None:
    pairs = Pairs(Shapes(8, backgrounds=("black", "white"), **SMALL), "outline")
    x, _, _ = pairs.sample_with_index(1, generator=torch.Generator().manual_seed(0))
    y = pairs.sample_answers(x.expand(3000, -1, -1, -1), generator=torch.Generator().manual_seed(1))
    number, differing = pairs.world.nearest_template(y)
    assert differing.max() == 0
    share = torch.bincount(number, minlength=len(pairs)).double() / 3000
    want = pairs.posterior(x.double())[0].exp()
    assert (share - want).abs().max() < 4 * math.sqrt(0.25 / 3000)
    assert pairs.answer_entropy(x.double()).item() == pytest.approx(math.log((want > 1e-9).sum().item()), abs=1e-6)


def test_mean_and_median_are_what_least_squares_and_least_absolute_errors_choose(pairs) -> None:
    """Against many answers drawn for one input: no shift of either makes its own error smaller."""
    x, _ = pairs.sample(1, generator=torch.Generator().manual_seed(4))
    source = torch.Generator().manual_seed(5)
    number = torch.multinomial(pairs.posterior(x.double()).exp(), 6000, replacement=True, generator=source)[0]
    noise = pairs.noise * torch.randn(6000, *pairs.answers.shape[1:], generator=source)
    y = (pairs.answers[number] + noise).double()
    mean, median = pairs.mean(x.double())[0], pairs.median(x.double())[0]
    assert (mean - y.mean(0)).abs().max() < 5 * y.std(0).max() / math.sqrt(6000)
    below = (y < median).double().mean(0)
    assert (below - 0.5).abs().max() < 5 * 0.5 / math.sqrt(6000)
    squared, absolute = (y - mean).square().mean(), (y - median).abs().mean()
    for other in (mean + 0.05, mean - 0.05, y[0], y[1]):
        assert (y - other).square().mean() > squared
    for other in (median + 0.4, median - 0.4, y[0], mean + 0.2):
        assert (y - other).abs().mean() > absolute


def test_the_median_is_where_the_distribution_function_is_one_half(pairs) -> None:
    x, _ = pairs.sample(3, generator=torch.Generator().manual_seed(6))
    p = pairs.posterior(x.double()).exp()
    median = pairs.median(x.double())
    z = (median[:, None] - pairs.answers.double()[None]) / pairs.noise
    half = torch.einsum("bn,bnchw->bchw", p, torch.special.ndtr(z))
    torch.testing.assert_close(half, torch.full_like(half, 0.5), rtol=0, atol=1e-9)


def test_right_answers_are_of_the_input_and_valid() -> None:
    pairs = Pairs(Shapes(8, backgrounds=("black", "white"), **SMALL), "outline")
    x, y, number = pairs.sample_with_index(50, generator=torch.Generator().manual_seed(0))
    assert pairs.right(x, y).all()
    others = pairs.input_number[number] != pairs.input_number[number.roll(1)]
    assert (pairs.right(x, y.roll(1, 0)) == ~others).all()
    assert 0 < others.sum() < len(others)
    broken = y.clone()
    broken[:, :, :3] = -y[:, :, 5:]
    assert pairs.right(x, broken).double().mean() < 0.3
    assert not pairs.right(x, pairs.mean(x)).any()


def test_outlines_are_borders_by_another_way() -> None:
    """A pixel is on the border where it belongs to the shape and not all of its neighbours do, one by one."""
    world = Shapes.preset("12x12")
    images = world.render(world.factors(torch.arange(0, len(world), 37)))
    lines = outline(images)
    for image, line in zip(images, lines[:, 0], strict=True):
        pixels = [tuple(image[:, r, c].tolist()) for r in range(12) for c in range(12)]
        ground = max(set(pixels), key=pixels.count)
        inside = {(i // 12, i % 12) for i, colour in enumerate(pixels) if colour != ground}
        border = {(r, c) for r, c in inside if {(r + 1, c), (r - 1, c), (r, c + 1), (r, c - 1)} - inside}
        assert border == {(r, c) for r, c in (line > 0).nonzero().tolist()}
    assert lines.unique().tolist() == pytest.approx([-0.8, 0.8])


def test_grey_values_are_weighted_sums_that_tell_all_colours_apart() -> None:
    image = torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1)
    assert grey(image).item() == pytest.approx(0.299)
    assert grey(torch.ones(1, 3, 2, 2)).flatten().tolist() == pytest.approx([1.0] * 4)
    world = Shapes.preset("12x12")
    values = grey(world.palette[:, :, None, None]).flatten().sort().values
    assert values.diff().min() > 0.1  # one standard deviation of the noise; a shape has many pixels


def test_one_input_in_grey_has_one_answer_and_an_outline_has_as_many_as_colours() -> None:
    world = Shapes(8, backgrounds=("black", "white"), **SMALL)
    clean = {kind: Pairs(world, kind) for kind in ("outline", "grey")}
    for kind, answers in (("outline", 6), ("grey", 1)):
        x = clean[kind].inputs
        assert clean[kind].answer_entropy(x.double()).exp().tolist() == pytest.approx([answers] * len(world), abs=0.02)


def test_a_function_may_make_the_inputs_and_devices_and_types_are_kept() -> None:
    pairs = Pairs(Shapes(8, backgrounds=("black",), **SMALL), lambda images: images[:, :1, ::2])
    x, y = pairs.sample(3, generator=torch.Generator().manual_seed(0), index=torch.tensor([2]))
    assert (x.shape, y.shape) == ((3, 1, 4, 8), (3, 3, 8, 8))
    assert (pairs.mean(x).dtype, pairs.median(x.double()).dtype) == (torch.float32, torch.float64)
    assert pairs.right(x, y).all()


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Pairs(Shapes(8, form="discrete", **SMALL)), ValueError, "continuous"),
        (lambda: Pairs(Shapes.preset("12x12", shapes=2)), ValueError, "one shape"),
        (lambda: Pairs(Shapes(8, **SMALL), "sketch"), ValueError, "outline, grey"),  # type: ignore[arg-type]
        (lambda: Pairs(Shapes(8, **SMALL), lambda x: x.flatten(1)), ValueError, "inputs must be"),
        (lambda: Pairs(Shapes(8, **SMALL), noise=0.0), ValueError, "positive"),
        (lambda: Pairs(Shapes(8, **SMALL)).sample(-1), ValueError, "n must"),
        (lambda: Pairs(Shapes(8, **SMALL)).sample(1, index=torch.tensor([999])), ValueError, "index of a template"),
        (lambda: Pairs(Shapes(8, **SMALL)).sample(1, index=torch.tensor([], dtype=torch.int64)), ValueError, "no temp"),
        (lambda: Pairs(Shapes(8, **SMALL)).posterior(torch.zeros(2, 3, 8, 8)), ValueError, "x must be"),
        (lambda: Pairs(Shapes(8, **SMALL)).posterior(torch.zeros(2, 1, 8, 8).long()), TypeError, "floats"),
        (lambda: Pairs(Shapes(8, **SMALL)).median(torch.zeros(2, 1, 8, 8), steps=0), ValueError, "steps"),
        (
            lambda: Pairs(Shapes(8, **SMALL)).right(torch.zeros(2, 1, 8, 8), torch.zeros(2, 3, 8, 8), tolerance=2),
            ValueError,
            "tolerance",
        ),
    ],
)
def test_bad_input_is_refused(make, error, message) -> None:
    with pytest.raises(error, match=message):
        make()
