"""The bound of a diffusion model: divergences of Gaussians, closed forms, and the entropy that it nears."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, Normal, kl_divergence

from minigen.metrics.divergences import gaussian_kl
from minigen.objectives import diffusion as d
from minigen.worlds import GaussianMixture, Shapes

pytestmark = pytest.mark.usefixtures("float64")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def levels(steps: int, *, low: float = -7.0, high: float = 9.0) -> d.Schedule:
    """Levels that are even in log-SNR, between `high` and `low` nats."""
    return d.Schedule(torch.sigmoid(torch.linspace(high, low, steps)))


def test_each_term_is_a_divergence_of_two_gaussians_or_a_log_density() -> None:
    schedule, x_0 = d.Schedule.linear(6, first=0.05, last=0.6), torch.randn(3, 1, 2, 2)
    calls: list[tuple[Tensor, Tensor, float]] = []  # x_t, the guess, and alpha_bar

    def denoise(x_t: Tensor, alpha: float, sigma: float) -> Tensor:
        calls.append((x_t, torch.tanh(x_t) * alpha, alpha**2))
        assert sigma == pytest.approx(math.sqrt(1 - alpha**2))
        return calls[-1][1]

    found = d.bound(denoise, x_0, schedule, generator=generator())
    assert found.steps.shape == (5, 3)
    calls.sort(key=lambda call: -call[2])
    assert torch.tensor([bar for *_, bar in calls]).allclose(schedule.alpha_bar)

    for (_, _, bar_before), (x_t, guess, bar), terms in zip(calls, calls[1:], found.steps, strict=False):
        beta = 1 - bar / bar_before
        for_image, for_noisy = (
            math.sqrt(bar_before) * beta / (1 - bar),
            math.sqrt(1 - beta) * (1 - bar_before) / (1 - bar),
        )
        cov = (1 - bar_before) / (1 - bar) * beta * torch.eye(4)
        for b in range(3):
            q, p = ((for_image * image[b] + for_noisy * x_t[b]).flatten() for image in (x_0, guess))
            assert terms[b].item() == pytest.approx(gaussian_kl(q, cov, p, cov).item(), rel=1e-9)

    last, first = schedule.alpha_bar[-1], schedule.alpha_bar[0]
    q, standard = Normal(last.sqrt() * x_0, (1 - last).sqrt()), Normal(torch.zeros(1, 2, 2), torch.ones(1, 2, 2))
    torch.testing.assert_close(found.prior, kl_divergence(q, standard).flatten(1).sum(1))
    decoder = Independent(Normal(calls[0][1], ((1 - first) / first).sqrt()), 3)
    torch.testing.assert_close(found.reconstruction, -decoder.log_prob(x_0))
    total = found.prior + sum(found.steps) + found.reconstruction
    torch.testing.assert_close(found.total, total)


def test_the_noise_of_each_term_is_fresh_and_normal() -> None:
    schedule, noises = levels(4), []

    def denoise(x_t: Tensor, alpha: float, sigma: float) -> Tensor:
        noises.append((x_t - 2.0 * alpha) / sigma)
        return x_t

    d.bound(denoise, torch.full((20_000, 1), 2.0), schedule, generator=generator())
    covariance = torch.cov(torch.cat(noises, 1).T)
    torch.testing.assert_close(covariance, torch.eye(4), atol=0.04, rtol=0)
    assert torch.cat(noises, 1).mean(0).abs().max() < 0.03
    again = d.bound(lambda x, a, s: x, torch.ones(2, 1), schedule, generator=generator()).total
    assert again.equal(d.bound(lambda x, a, s: x, torch.ones(2, 1), schedule, generator=generator()).total)
    assert not again.equal(d.bound(lambda x, a, s: x, torch.ones(2, 1), schedule, generator=generator(1)).total)


def gaussian_bound(
    schedule: d.Schedule, *, variance: float = 0.3, mean: float = 0.5, dims: int = 2
) -> tuple[Tensor, Tensor, Tensor]:
    """The mean of each term for data N(mean, variance I) and the exact denoiser, in closed form."""
    snr = schedule.alpha_bar / (1 - schedule.alpha_bar)
    error = dims * variance / (1 + variance * snr)  # of the posterior mean: the posterior's variance
    last = schedule.alpha_bar[-1]
    prior = 0.5 * dims * (last * (variance + mean**2) - last - (1 - last).log())
    steps = 0.5 * (snr[:-1] - snr[1:]) * error[1:]
    reconstruction = 0.5 * dims * (2 * math.pi / snr[0]).log() + 0.5 * snr[0] * error[0]
    return prior, steps, reconstruction


def test_on_a_gaussian_world_all_terms_have_their_closed_forms() -> None:
    world, schedule = GaussianMixture(torch.full((1, 2), 0.5), std=math.sqrt(0.3)), levels(12)
    found = d.bound(world.denoise, world.sample(20_000, generator=generator()), schedule, generator=generator(1))
    for terms, expected in zip(found, gaussian_bound(schedule), strict=True):
        assert ((terms.mean(-1) - expected).abs() < 4 * terms.std(-1) / math.sqrt(20_000)).all()


def test_the_bound_falls_to_the_entropy_as_one_over_the_number_of_steps() -> None:
    entropy = math.log(2 * math.pi * math.e * 0.3)
    gaps = []
    for steps in (20, 80, 320, 1280, 5120, 20480):
        prior, middle, last = gaussian_bound(levels(steps, low=-16.0, high=16.0))
        gaps.append(float(prior + middle.sum() + last) - entropy)
    assert all(0 < after < 0.3 * before for before, after in itertools.pairwise(gaps))
    assert gaps[-1] < 0.02
    assert gaps[-1] / gaps[-2] == pytest.approx(0.25, abs=0.01)


def test_on_a_mixture_the_bound_lies_above_the_entropy_and_nears_it() -> None:
    world = GaussianMixture.ring(modes=5, std=0.15)
    x_0, gaps = world.sample(6000, generator=generator()), []
    for steps in (25, 100):
        gap = d.bound(world.denoise, x_0, levels(steps), generator=generator(1)).total + world.log_prob(x_0)
        gaps.append(gap.mean())
        assert gap.mean() > 4 * gap.std() / math.sqrt(6000)
    assert gaps[1] < 0.3 * gaps[0]
    assert gaps[1] == pytest.approx(0.5, abs=0.1)


def test_images_sum_over_all_their_numbers() -> None:
    world, schedule = Shapes.preset("12x12"), levels(40)
    found = d.bound(world.denoise, world.sample(60, generator=generator()), schedule, generator=generator(1)).total
    prior, steps, reconstruction = gaussian_bound(schedule, variance=0.1**2, mean=0.0, dims=432)
    for_template = found.mean() - (prior + steps.sum() + reconstruction)  # what is left when the noise is paid for
    assert abs(for_template - math.log(len(world))) < 4 * found.std() / math.sqrt(60)


@pytest.mark.parametrize("term", ["squared_error", "reconstruction_term", "prior_term"])
def test_each_image_may_have_its_own_level(term: str) -> None:
    x_0, eps = torch.randn(2, 4, 1, 2, 4)
    a, s = d.alpha_sigma(torch.linspace(-2, 5, 4))

    def value(x_0: Tensor, eps: Tensor, a: Tensor | float, s: Tensor | float) -> Tensor:
        function: Callable[..., Tensor] = getattr(d, term)
        return function(x_0, a, s) if term == "prior_term" else function(lambda x, a, s: x / 2, x_0, eps, a, s)

    alone = [value(x_0[b : b + 1], eps[b : b + 1], float(a[b]), float(s[b])) for b in range(4)]
    torch.testing.assert_close(value(x_0, eps, a, s), torch.cat(alone))


def test_a_single_level_has_no_steps() -> None:
    found = d.bound(lambda x, a, s: x, torch.zeros(3, 2), levels(1, low=0.0), generator=generator())
    assert found.steps.shape == (0, 3)
    torch.testing.assert_close(found.total, found.prior + found.reconstruction)


def test_a_level_is_that_of_its_log_snr_at_both_ends() -> None:
    log_snr = torch.tensor([-800.0, -30.0, 0.0, 0.7, 30.0, 800.0])
    alpha, sigma = d.alpha_sigma(log_snr)
    torch.testing.assert_close(alpha.square() + sigma.square(), torch.ones(6))
    torch.testing.assert_close(2 * (alpha[1:5].log() - sigma[1:5].log()), log_snr[1:5])
    assert alpha[-1] == sigma[0] == 1
    assert alpha[0] == pytest.approx(math.exp(-400))
    assert d.alpha_sigma(0)[0].item() == pytest.approx(math.sqrt(0.5))


def test_the_last_step_takes_the_variance_that_it_is_given() -> None:
    x_0, eps = torch.randn(4, 1, 2, 2), torch.randn(4, 1, 2, 2)
    for variance in (0.3, 2.0):
        found = d.reconstruction_term(lambda x_t, a, s: 0.5 * x_t, x_0, eps, 0.8, 0.6, variance=variance)
        law = Independent(Normal(0.5 * (0.8 * x_0 + 0.6 * eps), math.sqrt(variance)), 3)
        torch.testing.assert_close(found, -law.log_prob(x_0))
    found = d.reconstruction_term(lambda x_t, a, s: 0.5 * x_t, x_0, eps, 0.8, 0.6)
    law = Independent(Normal(0.5 * (0.8 * x_0 + 0.6 * eps), 0.75), 3)
    torch.testing.assert_close(found, -law.log_prob(x_0))
