"""The linear-Gaussian model against quadrature, Bayes' rule, search and sampling."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import MultivariateNormal, Normal

from minigen.metrics import divergences
from minigen.worlds import Line, LinearGaussian
from minigen.worlds.linear import Guess

pytestmark = pytest.mark.usefixtures("float64")


def model(dims: int = 5, latent: int = 3) -> LinearGaussian:
    return LinearGaussian(torch.randn(dims, latent), torch.randn(dims), 0.7)


def test_the_evidence_is_the_integral_over_codes() -> None:
    one, line, x = model(2, 1), Line(-9, 9, 4001), torch.tensor([0.4, -1.1])
    inside = one.log_likelihood(x, line.x[:, None]) + line.normal()
    assert line.integral(inside.exp()).log().item() == pytest.approx(one.log_prob(x).item(), abs=1e-9)
    posterior = one.posterior(x)
    exact = line.normal(posterior.mean[0], posterior.cov.sqrt().squeeze())
    torch.testing.assert_close(inside - one.log_prob(x), exact, atol=1e-7, rtol=0)


def test_bayes_rule_holds_for_every_code() -> None:
    world, x, z = model(), torch.randn(4, 5), torch.randn(4, 3)
    posterior = world.posterior(x)
    found = MultivariateNormal(posterior.mean, posterior.cov).log_prob(z)
    joint = Normal(0.0, 1.0).log_prob(z).sum(1) + world.log_likelihood(x, z)
    torch.testing.assert_close(found, joint - world.log_prob(x))


def test_the_bound_misses_the_divergence_of_the_guess() -> None:
    world, x = model(), torch.randn(4, 5)
    root = torch.randn(3, 3)
    guess = Guess(torch.randn(4, 3), root @ root.T + 0.1 * torch.eye(3))
    bound, best = -world.distortion(x, guess) - world.rate(guess), world.posterior(x)
    gaps = torch.stack(
        [divergences.gaussian_kl(m, guess.cov, n, best.cov) for m, n in zip(*(guess.mean, best.mean), strict=True)]
    )
    torch.testing.assert_close(world.log_prob(x) - bound, gaps)


def test_distortion_and_rate_are_those_of_samples() -> None:
    world, x = model(), torch.randn(1, 5)
    guess = Guess(torch.randn(1, 3), 0.3 * torch.eye(3))
    q = MultivariateNormal(guess.mean[0], guess.cov)
    z = q.sample((200_000,))
    drawn = -world.log_likelihood(x, z)
    assert drawn.mean().item() == pytest.approx(world.distortion(x, guess).item(), abs=5 * drawn.std().item() / 447)
    ratio = q.log_prob(z) - Normal(0.0, 1.0).log_prob(z).sum(1)
    assert ratio.mean().item() == pytest.approx(world.rate(guess).item(), abs=5 * ratio.std().item() / 447)


@pytest.mark.parametrize("beta", [0.3, 1.0, 4.0])
def test_no_guess_near_the_best_one_is_better(beta) -> None:
    world, x = model(), torch.randn(2, 5)
    best = world.posterior(x, beta=beta)

    def cost(guess: Guess) -> torch.Tensor:
        return (world.distortion(x, guess) + beta * world.rate(guess)).sum()

    mean, root = best.mean.clone().requires_grad_(), torch.linalg.cholesky(best.cov).requires_grad_()
    slopes = torch.autograd.grad(cost(Guess(mean, root @ root.T)), (mean, root))
    for slope in slopes:
        assert slope.tril().abs().max() < 1e-9 if slope.ndim == 2 and slope.shape[0] == 3 else slope.abs().max() < 1e-9


def test_the_fit_has_the_published_likelihood_and_no_gradient() -> None:
    x = torch.randn(300, 6) @ torch.randn(6, 6)
    world = LinearGaussian.fit(x, 2)
    values = torch.linalg.eigvalsh(torch.cov(x.T, correction=0)).flip(0)
    rest = values[2:].mean()
    best = -0.5 * (6 * math.log(2 * math.pi) + values[:2].log().sum() + 4 * rest.log() + 6)
    assert world.log_prob(x).mean().item() == pytest.approx(best.item(), abs=1e-9)
    parts = [part.clone().requires_grad_() for part in (world.A, world.b, world.std)]
    slopes = torch.autograd.grad(LinearGaussian(*parts).log_prob(x).mean(), parts)
    assert max(slope.abs().max() for slope in slopes) < 1e-8
    gram = world.A.T @ world.A
    torch.testing.assert_close(gram, torch.diag(gram.diagonal()))
    turned = world.rotate(torch.linalg.qr(torch.randn(2, 2)).Q)
    torch.testing.assert_close(turned.log_prob(x), world.log_prob(x))
    with pytest.raises(ValueError, match=r"1\.\.5, below the number of entries; got 6"):
        LinearGaussian.fit(x, 6)
