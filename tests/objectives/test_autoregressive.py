"""Likelihoods of levels against other ways to compute them, and a training run against a world's entropy."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor, nn

from minigen.data.batches import Stream
from minigen.nets.pixelcnn import PixelCNN
from minigen.objectives import autoregressive as objective
from minigen.samplers import autoregressive as sampler
from minigen.train.loop import Run
from minigen.train.optimizers import adam_per_player
from minigen.train.rng import Rng

pytestmark = pytest.mark.usefixtures("float64")


def test_the_log_likelihood_sums_over_pixels_and_is_pytorchs_cross_entropy() -> None:
    logits, levels = torch.randn(4, 5, 3, 2), torch.randint(5, (4, 1, 3, 2))
    theirs = -nn.functional.cross_entropy(logits, levels[:, 0], reduction="none").sum((1, 2))
    torch.testing.assert_close(objective.categorical_log_prob(logits, levels), theirs)
    for wrong in ((logits, levels[:, 0]), (logits[:, :, :2], levels), (logits[:1], levels)):
        with pytest.raises(ValueError, match=r"must be \(B, K, H, W\) and levels \(B, 1, H, W\)"):
            objective.categorical_log_prob(*wrong)


def test_the_chain_rule_gives_a_distribution_over_all_images() -> None:
    net = objective.Autoregressive(PixelCNN(2, width=4, blocks=1))
    every = torch.tensor(list(itertools.product((0, 1), repeat=6))).view(64, 1, 2, 3)
    assert net.log_prob(every).exp().sum().item() == pytest.approx(1, abs=1e-12)


def naive_masses(parameters: Tensor, count: int) -> Tensor:
    """One pixel's masses by differences of the logistic function: (3M,) to (K,)."""
    logits, mean, log_scale = parameters.view(3, -1)
    edges = torch.cat([torch.tensor([-math.inf]), 2 * torch.arange(1, count) / count - 1, torch.tensor([math.inf])])
    cdf = torch.sigmoid((edges[:, None] - mean) * torch.exp(-log_scale))
    return (cdf.diff(dim=0) * logits.softmax(0)).sum(1)


@pytest.mark.parametrize("count", [2, 3, 17, 256])
def test_a_mixture_of_discretised_logistics_is_the_mass_of_each_cell(count: int) -> None:
    parameters = torch.randn(2, 9, 2, 2)
    log_p = objective.logistic_mixture_log_probs(parameters, count)
    assert log_p.shape == (2, count, 2, 2)
    for b, i, j in itertools.product(range(2), repeat=3):
        expected = naive_masses(parameters[b, :, i, j], count)
        torch.testing.assert_close(log_p[b, :, i, j].exp(), expected, atol=1e-12, rtol=0)
    torch.testing.assert_close(log_p.exp().sum(1), torch.ones(2, 2, 2), atol=1e-12, rtol=0)


@pytest.mark.parametrize(("mean", "log_scale"), [(0.0, -12.0), (50.0, -3.0), (-50.0, 0.0), (0.3, 9.0)])
def test_logistics_stay_finite_where_differences_cancel(mean: float, log_scale: float) -> None:
    parameters = torch.tensor([0.0, mean, log_scale]).view(1, 3, 1, 1).requires_grad_()
    log_p = objective.logistic_mixture_log_probs(parameters, 256)
    assert log_p.isfinite().all()
    assert log_p.exp().sum().item() == pytest.approx(1, abs=1e-9)
    (slope,) = torch.autograd.grad(log_p.sum(), parameters)
    assert slope.isfinite().all()


def test_logistics_have_the_gradient_of_finite_differences() -> None:
    parameters = torch.randn(1, 6, 1, 1, requires_grad=True)
    assert torch.autograd.gradcheck(lambda p: objective.logistic_mixture_log_probs(p, 5), (parameters,))
    with pytest.raises(ValueError, match=r"\(B, 3M, H, W\); got \(1, 4, 1, 1\)"):
        objective.logistic_mixture_log_probs(torch.zeros(1, 4, 1, 1), 5)


def test_log1mexp_is_precise_at_both_ends() -> None:
    x = torch.tensor([1e-300, 1e-12, 0.5, math.log(2), 1.0, 40.0, 800.0])
    expected = torch.tensor([math.log(1e-300), math.log(1e-12), math.log(-math.expm1(-0.5)), -math.log(2),
                             math.log1p(-math.exp(-1)), -math.exp(-40), 0.0])  # fmt: skip
    torch.testing.assert_close(objective.log1mexp(x), expected, atol=0, rtol=1e-11)


def test_a_logistic_network_is_sampled_with_a_cache_as_without() -> None:
    net, uniform = objective.LogisticMixture(PixelCNN(7, width=6, blocks=2, outputs=9), 7), torch.rand(5, 4, 4)
    cached = list(sampler.sample(net, uniform))
    assert torch.equal(cached[-1], list(sampler.sample(net, uniform, cached=False))[-1])
    torch.testing.assert_close(net(cached[-1]).exp().sum(1), torch.ones(5, 4, 4))


def test_a_wrong_shift_a_mean_for_a_sum_and_a_seen_pixel_are_told_apart() -> None:
    """What people get wrong, each with a number that gives it away on an image that is easy to predict."""
    stripes = (torch.arange(6) % 2).expand(3, 1, 4, 6)  # alternating columns
    logits = nn.functional.one_hot(stripes[:, 0], 2).movedim(-1, 1) * 20.0
    right = objective.categorical_log_prob(logits, stripes)
    assert right.max() > -1e-6
    shifted = objective.categorical_log_prob(logits.roll(1, 3), stripes)
    assert shifted.max() < -400
    assert (objective.categorical_log_prob(logits * 0, stripes) + 24 * math.log(2)).abs().max() < 1e-9


def test_training_comes_down_to_the_entropy_of_a_world() -> None:
    """Two-pixel rows that copy their left neighbour with probability 0.9: 3 log 2 + 3 h(0.9) nats an image."""
    torch.set_default_dtype(torch.float32)

    def draw(n: int, *, generator: torch.Generator) -> Tensor:
        left = torch.randint(2, (n, 1, 3, 1), generator=generator)
        flips = (torch.rand(n, 1, 3, 1, generator=generator) < 0.1).long()
        return torch.cat([left, (left + flips) % 2], dim=3)

    floor = 3 * math.log(2) - 3 * (0.9 * math.log(0.9) + 0.1 * math.log(0.1))
    torch.manual_seed(0)
    game = objective.Autoregressive(PixelCNN(2, width=8, blocks=1))
    run = Run(game, adam_per_player(game, 5e-3), ema={"model": 0.98})
    for _ in run(Stream(draw, batch_size=256), 300):
        pass
    test = draw(20_000, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        nll = -objective.categorical_log_prob(run.ema["model"](test), test)
    assert abs(nll.mean().item() - floor) < 0.03
    *_, images = sampler.sample(run.ema["model"], torch.rand(4000, 3, 2))
    assert (images[..., 0] == images[..., 1]).float().mean().item() == pytest.approx(0.9, abs=0.03)


def test_batches_may_hold_a_context() -> None:
    class Net(nn.Module):
        def forward(self, x: Tensor, context: Tensor) -> Tensor:
            return context[:, :, None, None].expand(-1, -1, *x.shape[2:])

    game, levels, context = objective.Autoregressive(Net()), torch.randint(3, (4, 1, 2, 2)), torch.randn(4, 3)
    ((player, loss, _),) = list(game.turns((levels, context), Rng()))
    assert player == "model"
    torch.testing.assert_close(loss, -game.log_prob(levels, context).mean())
