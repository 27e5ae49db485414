"""The equations of chapter 06 against loops and exact worlds; their likely wrong variants fail the same tests."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from minigen.nets import PatchDiscriminator, TranslationUNet
from minigen.nets.mlp import mlp
from minigen.objectives import minimax, paired
from minigen.objectives.paired import Paired, Regression
from minigen.train.loop import Run
from minigen.train.optimizers import adam_per_player
from minigen.train.rng import Rng
from minigen.worlds import Pairs, Shapes

DRAW = torch.Generator().manual_seed(0)
Y, G = torch.randn(2, 3, 2, 4, 5, generator=DRAW, dtype=torch.float64)  # three images of 2x4x5


def close(a: Tensor, b: Tensor | float, *, atol: float = 1e-9) -> bool:
    return torch.allclose(a, torch.as_tensor(b, dtype=a.dtype), atol=atol, rtol=0)


def by_loops(power: int) -> float:
    """The error, number by number."""
    total = 0.0
    for y, g in zip(Y, G, strict=True):
        total += sum(abs(a - b) ** power for a, b in zip(y.flatten().tolist(), g.flatten().tolist(), strict=True))
    return total / len(Y)


@pytest.mark.parametrize(("name", "power"), [("absolute", 1), ("squared", 2)])
def test_an_error_is_a_sum_over_an_image_and_a_mean_over_the_batch(name, power) -> None:
    error = paired.ERRORS[name]
    assert close(error(G, Y), by_loops(power))
    for wrong in (
        lambda g, y: (g - y).abs().pow(power).mean(),  # a mean over all numbers
        lambda g, y: (g - y).abs().pow(power).sum(),  # a sum over the batch, too
        lambda g, y: (g - y).flatten(1).norm(dim=1).mean(),  # a Euclidean distance
        lambda g, y: (g - y).abs().pow(3 - power).flatten(1).sum(1).mean(),  # the other one
        lambda g, y: (g - y).pow(power).flatten(1).sum(1).mean() / 2,  # half of it
        lambda g, y: (g.mean(0) - y.mean(0)).abs().pow(power).sum(),  # of mean images
    ):
        assert not close(wrong(G, Y), by_loops(power))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_errors_of_half_precision_are_summed_in_float32(dtype) -> None:
    y = torch.full((2, 3, 64, 64), 0.5, dtype=dtype)
    assert paired.absolute_error(torch.zeros_like(y), y).item() == 0.5 * 3 * 64 * 64
    assert paired.squared_error(torch.zeros_like(y), y).dtype == torch.float32


def test_the_mean_and_the_median_are_where_the_errors_have_no_slope() -> None:
    """Over every answer to one outline, weighed by the exact posterior."""
    pairs = Pairs(Shapes(8, kinds=("disc",), sizes=(5,), positions=(2, 1)), "outline", noise=0.3)
    x = pairs.inputs[:1].double()
    mean, median = pairs.mean(x)[0], pairs.median(x)[0]
    p = pairs.posterior(x)[0].exp()
    z = torch.linspace(-5, 5, 2001, dtype=torch.float64)
    weight = (-0.5 * z**2).exp() / (-0.5 * z**2).exp().sum()

    def slope(guess: Tensor, error: str, place: tuple[int, int, int]) -> float:
        g = guess[place].clone().requires_grad_()
        centres = pairs.answers.double()[(slice(None), *place)]
        y = centres[:, None] + pairs.noise * z  # (N, 2001)
        gap = (g - y).abs() if error == "absolute" else (g - y).square()
        (found,) = torch.autograd.grad((p[:, None] * weight * gap).sum(), g)
        return found.item()

    for place in ((0, 3, 3), (1, 4, 2), (2, 7, 7)):
        assert abs(slope(mean, "squared", place)) < 1e-6
        assert abs(slope(median, "absolute", place)) < 5e-3  # a step of the grid has so much mass
    assert abs(slope(median, "squared", (1, 4, 2))) > 0.05
    assert abs(slope(mean, "absolute", (1, 4, 2))) > 0.02


def test_a_published_weight_of_a_mean_is_a_small_one_of_a_sum() -> None:
    mean = (G - Y).abs().mean()
    for weight in (1.0, 100.0):
        assert close(paired.weight_of_sum(weight, Y.shape[1:]) * paired.absolute_error(G, Y), weight * mean)
    assert paired.weight_of_sum(100.0, (3, 256, 256)) == pytest.approx(100 / 196608)


def test_the_feature_loss_is_a_sum_of_means_by_layer() -> None:
    found, wanted = [
        [torch.randn(2, c, s, s, generator=DRAW, dtype=torch.float64) for c, s in ((4, 6), (8, 3))] for _ in "ab"
    ]
    by_hand = 0.0
    for a, b in zip(found, wanted, strict=True):
        n, c, h, w = a.shape
        by_hand += sum(float((a[i] - b[i]).square().sum()) for i in range(n)) / n / (c * h * w)
    assert close(paired.feature_loss(found, wanted), by_hand)
    for wrong in (
        lambda f, w: torch.stack(
            [(a - b).square().mean() for a, b in zip(f, w, strict=True)]
        ).mean(),  # a mean of layers
        lambda f, w: torch.stack(
            [paired.squared_error(a, b) for a, b in zip(f, w, strict=True)]
        ).sum(),  # without 1/CHW
        lambda f, w: torch.stack([(a - b).abs().mean() for a, b in zip(f, w, strict=True)]).sum(),  # of absolute values
        lambda f, w: torch.stack(
            [(a.mean((2, 3)) - b.mean((2, 3))).square().mean() for a, b in zip(f, w, strict=True)]
        ).sum(),
    ):
        assert not close(wrong(found, wanted), by_hand)


def test_the_best_discriminator_of_pairs_hears_what_one_of_answers_alone_cannot() -> None:
    """Answers drawn without regard to the input: D of pairs sees log p(y|x)/p(y), D of answers sees nothing."""
    pairs = Pairs(Shapes(8, kinds=("disc", "square"), sizes=(5,), positions=(2, 1)), "grey")
    x, y = pairs.sample(300, generator=torch.Generator().manual_seed(0))
    x, y = x.double(), y.double()
    other = y.roll(1, 0)  # answers of other inputs: the same marginal law
    alone = pairs.world.log_prob(y)
    logit = minimax.optimal_logit(pairs.log_prob(x, y), pairs.input_log_prob(x) + alone)
    assert close(logit, pairs.answer_log_prob(y, x) - alone, atol=1e-6)
    wrong = minimax.optimal_logit(pairs.log_prob(x, other), pairs.input_log_prob(x) + pairs.world.log_prob(other))
    value = minimax.value(logit, wrong)
    assert value > -0.2  # nearly 0, its largest
    assert minimax.value(torch.zeros(300), torch.zeros(300)).item() == pytest.approx(-math.log(4))


# The game.


def networks(noise: int = 0, beside: int = 1) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    generator = TranslationUNet(1, 2, width=4, depth=2, noise=noise).double()
    return generator, PatchDiscriminator(2, condition_channels=beside, width=4, layers=1).double()


def batch() -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(1)
    return (
        torch.randn(3, 2, 8, 8, generator=source, dtype=torch.float64).tanh(),
        torch.randn(3, 1, 8, 8, generator=source, dtype=torch.float64).tanh(),
    )


class Doubled(Rng):
    def normal(self, rows: int, *shape: int) -> Tensor:
        return super().normal(rows, *shape).double()


def test_both_losses_are_those_of_the_paper_averaged_over_patches() -> None:
    generator, judge = networks()
    y, x = batch()
    game = Paired(generator, judge, weight=0.3)
    turns = game.turns((y, x), Doubled())
    name, d_loss, _ = next(turns)
    assert name == "discriminator"
    fake = generator(x)
    real_logits, fake_logits = judge(y, x), judge(fake, x)
    assert real_logits.ndim == 3
    n = real_logits.numel()
    by_hand = (
        -(sum(logsigmoid(v) for v in real_logits.flatten()) + sum(logsigmoid(-v) for v in fake_logits.flatten())) / n
    )
    assert close(d_loss, by_hand)
    assert all(
        g is None for g in torch.autograd.grad(d_loss, generator.parameters(), allow_unused=True, retain_graph=True)
    )
    name, g_loss, logs = next(turns)
    assert name == "generator"
    wanted = -sum(logsigmoid(v) for v in fake_logits.flatten()) / n + 0.3 * (fake - y).abs().flatten(1).sum(1).mean()
    assert close(g_loss, wanted)
    assert close(logs["error"], (fake - y).abs().flatten(1).sum(1).mean())
    for wrong in (
        paired.absolute_error(fake, y) + 0.3 * minimax.non_saturating_loss(fake_logits),  # the weight on the other term
        minimax.non_saturating_loss(fake_logits) + 0.3 * (fake - y).abs().mean(),  # a mean for a sum
        minimax.non_saturating_loss(judge(fake, x.roll(1, 0))) + 0.3 * paired.absolute_error(fake, y),  # other inputs
        minimax.non_saturating_loss(judge(y, x)) + 0.3 * paired.absolute_error(fake, y),  # real images: no slope for G
        minimax.saturating_loss(fake_logits) + 0.3 * paired.absolute_error(fake, y),
        minimax.non_saturating_loss(fake_logits) * n + 0.3 * paired.absolute_error(fake, y),  # a sum over patches
    ):
        assert not close(g_loss, wrong)


def test_a_discriminator_that_does_not_see_the_input_cannot_tell_whose_answer_it_is() -> None:
    generator, judge = networks(beside=0)
    y, x = batch()
    game = Paired(generator, judge, weight=0.0, hears=False)
    assert torch.equal(game.logits(y, x), game.logits(y, x.roll(1, 0)))
    generator, judge = networks()
    assert not torch.equal(Paired(generator, judge, weight=0.0).logits(y, x), judge(y, x.roll(1, 0)))


def test_r1_is_of_the_mean_over_patches_by_the_answer() -> None:
    generator, judge = networks()
    y, x = batch()
    _, loss, logs = next(Paired(generator, judge, weight=1.0, r1=0.7).turns((y, x), Doubled()))
    total = 0.0
    for one, beside in zip(y, x, strict=True):
        point = one[None].clone().requires_grad_()
        (slope,) = torch.autograd.grad(judge(point, beside[None]).mean(), point)
        total += 0.5 * slope.square().sum().item()
    assert close(logs["r1"], total / 3)
    _, plain, _ = next(Paired(generator, judge, weight=1.0).turns((y, x), Doubled()))
    assert close(loss - plain, 0.7 * total / 3)


def test_the_encoder_looks_for_the_latent_and_both_are_told_how_far_it_is() -> None:
    generator, judge = networks(noise=2)
    y, x = batch()
    encoder = nn.Sequential(nn.Flatten(), mlp([128, 8, 2])).double()
    game = Paired(generator, judge, weight=0.3, encoder=encoder, latent_weight=0.25)
    z = Doubled().normal(3, 2)
    turns = list(game.turns((y, x), Doubled()))
    assert [name for name, _, _ in turns] == ["discriminator", "encoder", "generator"]
    fake = generator(x, z)
    apart = (encoder(fake) - z).abs().sum(1).mean()
    assert close(turns[1][1], apart)
    assert close(turns[2][2]["latent"], apart)
    wanted = minimax.non_saturating_loss(judge(fake, x)) + 0.3 * paired.absolute_error(fake, y) + 0.25 * apart
    assert close(turns[2][1], wanted)
    slopes = torch.autograd.grad(turns[1][1], generator.parameters(), allow_unused=True)
    assert all(slope is None for slope in slopes)


def test_a_network_without_a_latent_answers_alike_and_one_with_it_by_its_noise() -> None:
    _, x = batch()
    plain = Regression(networks()[0], error="squared")
    assert torch.equal(*(plain.draw(plain.generator, torch.empty(3, 0), x) for _ in range(2)))
    noisy = Regression(networks(noise=2)[0])
    a, b = (noisy.draw(noisy.generator, torch.full((3, 2), v, dtype=torch.float64), x) for v in (0.0, 1.0))
    assert not torch.equal(a, b)


def test_a_regression_learns_the_mean_of_two_answers() -> None:
    """One input, answers -1 and 1 by turns: the squared error is least between them, and draws neither."""
    torch.manual_seed(0)
    x = torch.zeros(64, 1, 4, 4)
    y = torch.ones(64, 1, 4, 4)
    y[::2] = -1
    game = Regression(TranslationUNet(1, 1, width=4, depth=2), error="squared")
    run = Run(game, adam_per_player(game, 1e-2), seed=0)
    *_, last = run([(y, x)], 100)
    assert game.draw(game.generator, torch.empty(1, 0), x[:1]).abs().max() < 0.05
    assert last.read()["error"] == pytest.approx(16, rel=0.01)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: paired.absolute_error(torch.zeros(2, 3), torch.zeros(2, 4)), ValueError, "answer"),
        (lambda: paired.absolute_error(torch.zeros(0, 3), torch.zeros(0, 3)), ValueError, "one image or more"),
        (lambda: paired.squared_error(torch.zeros(2, 3), torch.zeros(2, 3).long()), TypeError, "target"),
        (lambda: paired.weight_of_sum(-1.0, (3, 8, 8)), ValueError, "weight"),
        (lambda: paired.weight_of_sum(1.0, (3, 0, 8)), ValueError, "size of an image"),
        (lambda: paired.latent_error(torch.zeros(2, 3), torch.zeros(2, 3, 1)), ValueError, "z must"),
        (lambda: paired.feature_loss([], []), ValueError, "one or more"),
        (lambda: paired.feature_loss([Y], [Y, Y]), ValueError, "same layers"),
        (lambda: Regression(networks()[0], error="l1"), ValueError, "absolute, squared"),
        (lambda: Regression(nn.Linear(2, 2)), TypeError, "latent"),
        (lambda: Paired(*networks(), weight=-1.0), ValueError, "weight"),
        (lambda: Paired(*networks(), weight=1.0, error="l1"), ValueError, "absolute, squared"),
        (lambda: Paired(*networks(), weight=1.0, encoder=nn.Linear(2, 2)), ValueError, "latent is 0"),
        (
            lambda: next(Paired(*networks(), weight=1.0).turns((batch()[0].long(), batch()[1]), Rng())),
            TypeError,
            "answers",
        ),
        (
            lambda: next(Paired(*networks(), weight=1.0).turns((batch()[0][:, :1], batch()[1]), Rng())),
            ValueError,
            "the generator's answers",
        ),
    ],
)
def test_bad_input_is_refused(make, error, message) -> None:
    with pytest.raises(error, match=message):
        make()
