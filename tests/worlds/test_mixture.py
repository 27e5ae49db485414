"""GaussianMixture against torch.distributions, autograd, quadrature, closed forms and its own samples."""

import itertools
import math

import pytest
import torch
from scipy.integrate import quad
from torch import Tensor
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from minigen.worlds import GaussianMixture

MEANS = torch.tensor([[0.0, 0.0], [1.5, -0.5], [-1.0, 1.0]], dtype=torch.float64)
COVARIANCES = torch.tensor(
    [[[0.5, 0.2], [0.2, 0.3]], [[0.2, -0.1], [-0.1, 0.4]], [[0.8, 0.0], [0.0, 0.1]]], dtype=torch.float64
)
WEIGHTS = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)


def skewed() -> GaussianMixture:
    """Overlapping, correlated, unequal weights: nothing cancels by symmetry."""
    return GaussianMixture(MEANS, covariances=COVARIANCES, weights=WEIGHTS)


def points(n: int = 50) -> Tensor:
    return 1.5 * torch.randn(n, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def plane(limit: float, step: float) -> Tensor:
    line = torch.arange(-limit, limit, step, dtype=torch.float64)
    return torch.cartesian_prod(line, line)


def test_log_prob_and_posterior_equal_torch_distributions():
    mixture, x = skewed(), points()
    components = MultivariateNormal(MEANS, COVARIANCES)
    reference = MixtureSameFamily(Categorical(WEIGHTS), components)
    torch.testing.assert_close(mixture.log_prob(x), reference.log_prob(x), rtol=0, atol=1e-12)
    joint = WEIGHTS * components.log_prob(x[:, None]).exp()
    torch.testing.assert_close(mixture.posterior(x), joint / joint.sum(1, keepdim=True), rtol=0, atol=1e-12)
    torch.testing.assert_close(mixture.posterior(x).sum(1), torch.ones(len(x), dtype=torch.float64))


def test_density_integrates_to_one():
    grid = plane(8, 0.05)
    assert float(skewed().log_prob(grid).exp().sum() * 0.05**2) == pytest.approx(1, abs=1e-9)


def test_mahalanobis_distance():
    x = points()
    difference = x[:, None] - MEANS
    squared = (difference * torch.linalg.solve(COVARIANCES, difference[..., None]).squeeze(-1)).sum(-1)
    torch.testing.assert_close(skewed().mahalanobis(x), squared.sqrt())
    far = GaussianMixture.ring(std=0.1).mahalanobis(torch.tensor([[1.3, 0.0]]))
    assert far[0, 0] == pytest.approx(3, rel=1e-5)


def test_score_is_the_gradient_of_log_prob():
    x = points().requires_grad_()
    (gradient,) = torch.autograd.grad(skewed().log_prob(x).sum(), x)
    torch.testing.assert_close(skewed().score(x.detach()), gradient, rtol=0, atol=1e-11)


def test_far_away_everything_stays_finite_and_right():
    ring = GaussianMixture.ring(std=0.01)
    x = torch.tensor([[2.0, 0.0], [40.0, 0.0]], dtype=torch.float64)  # 100 and 3,900 std from the mean (1, 0)
    torch.testing.assert_close(ring.score(x), -(x - torch.tensor([1.0, 0.0])) / 0.01**2)
    expected = -math.log(8) - math.log(2 * math.pi * 1e-4) - torch.tensor([1.0, 39.0]).double() ** 2 / 2e-4
    torch.testing.assert_close(ring.log_prob(x), expected)
    assert (ring.posterior(x)[:, 0] == 1).all()


def test_float32_points_lose_nothing_but_their_own_rounding():
    grid = GaussianMixture.grid(std=0.01)
    x = grid.sample(200, generator=torch.Generator().manual_seed(0))
    assert x.dtype == grid.log_prob(x).dtype == grid.score(x).dtype == grid.posterior(x).dtype == torch.float32
    torch.testing.assert_close(grid.log_prob(x).double(), grid.log_prob(x.double()), rtol=1e-6, atol=0)
    assert grid.log_prob(x.view(10, 20, 2)).shape == (10, 20)
    assert grid.denoise(x.view(10, 20, 2), 1.0, 0.5).shape == (10, 20, 2)


@pytest.mark.parametrize(("alpha", "sigma"), [(0.8, 0.6), (1.0, 0.3), (0.3, 1.0)])
def test_marginal_and_denoise_equal_bayes_by_quadrature(alpha: float, sigma: float):
    mixture, x_t, x_0 = skewed(), points(10), plane(7, 0.04)
    likelihood = MultivariateNormal(torch.zeros(2).double(), sigma**2 * torch.eye(2).double())
    joint = (mixture.log_prob(x_0) + likelihood.log_prob(x_t[:, None] - alpha * x_0)).exp() * 0.04**2
    evidence = joint.sum(1)
    marginal = mixture.marginal(alpha, sigma)
    torch.testing.assert_close(marginal.log_prob(x_t), evidence.log(), rtol=0, atol=1e-8)
    denoised = mixture.denoise(x_t, alpha, sigma)
    torch.testing.assert_close(denoised, joint @ x_0 / evidence[:, None], rtol=0, atol=1e-8)
    tweedie = (x_t + sigma**2 * marginal.score(x_t)) / alpha
    torch.testing.assert_close(denoised, tweedie, rtol=0, atol=1e-10)


def test_each_point_may_have_a_level_of_its_own():
    mixture, x_t = skewed(), points(4)
    alpha, sigma = torch.tensor([0.9, 0.3, 0.9, 0.5]), torch.tensor([0.2, 0.7, 0.2, 0.2])
    each = zip(x_t.split(1), alpha.tolist(), sigma.tolist(), strict=True)
    torch.testing.assert_close(mixture.denoise(x_t, alpha, sigma), torch.cat([mixture.denoise(*one) for one in each]))
    torch.testing.assert_close(mixture.denoise(x_t, 1.0, sigma)[1:2], mixture.denoise(x_t[1:2], 1.0, sigma[1].item()))
    torch.testing.assert_close(mixture.denoise(x_t, torch.tensor(0.3), 0.7), mixture.denoise(x_t, 0.3, 0.7))


def test_denoise_at_the_ends():
    mixture, x = skewed(), points()
    torch.testing.assert_close(mixture.denoise(x, 1.0, 0.0), x)
    mean = (WEIGHTS[:, None] * MEANS).sum(0)
    torch.testing.assert_close(mixture.denoise(x, 0.0, 1.0), mean.expand_as(x))


@pytest.mark.parametrize("std", [0.01, 0.5, 3.0])
def test_entropy_of_one_gaussian(std: float):
    one = GaussianMixture(torch.tensor([[3.0, -1.0]]), std=std)
    assert one.entropy() == pytest.approx(math.log(2 * math.pi * math.e * std**2), abs=1e-9)


def test_entropy_of_correlated_and_of_separate_components():
    one = GaussianMixture(MEANS[:1], covariances=COVARIANCES[:1])
    closed = float(MultivariateNormal(MEANS[0], COVARIANCES[0]).entropy())
    assert one.entropy() == pytest.approx(closed, abs=1e-9)
    ring = math.log(8) + math.log(2 * math.pi * math.e * 0.01**2)
    assert GaussianMixture.ring().entropy() == pytest.approx(ring, abs=1e-9)
    unequal = GaussianMixture(torch.tensor([[0.0, 0.0], [9.0, 0.0]]), std=0.1, weights=torch.tensor([3.0, 1.0]))
    mixing = -0.75 * math.log(0.75) - 0.25 * math.log(0.25)
    assert unequal.entropy() == pytest.approx(mixing + math.log(2 * math.pi * math.e * 0.01), abs=1e-9)


@pytest.mark.parametrize("mixture", [skewed(), GaussianMixture.ring(std=0.15), GaussianMixture.ring(std=0.3)])
def test_entropy_of_overlapping_components_equals_a_dense_grid(mixture: GaussianMixture):
    log_p = mixture.log_prob(plane(7, 0.02))
    assert mixture.entropy() == pytest.approx(-float((log_p.exp() * log_p).sum()) * 0.02**2, abs=1e-8)


def test_entropy_resolves_a_narrow_component_inside_a_wide_one():
    mixture = GaussianMixture(torch.zeros(2, 2), std=torch.tensor([1.0, 0.01], dtype=torch.float64))

    def ring_of_radius(r: float) -> float:
        p = sum(math.exp(-(r**2) / (2 * s**2)) / (2 * math.pi * s**2) / 2 for s in (1.0, 0.01))
        return -2 * math.pi * r * p * math.log(p) if p > 0 else 0.0

    cuts = [0, 0.02, 0.04, 0.06, 0.1, 1, 3, 6, 10]
    radial = sum(quad(ring_of_radius, a, b, epsabs=1e-12)[0] for a, b in itertools.pairwise(cuts))
    assert mixture.entropy() == pytest.approx(radial, abs=1e-8)


def test_entropy_on_the_line_and_its_limit():
    line = GaussianMixture(torch.tensor([[0.0], [1.0]]), std=0.4)

    def integrand(x: float) -> float:
        log_p = float(line.log_prob(torch.tensor([x], dtype=torch.float64)))
        return -math.exp(log_p) * log_p

    assert line.entropy() == pytest.approx(quad(integrand, -4, 5, epsabs=1e-10)[0], abs=1e-8)
    with pytest.raises(ValueError, match="D = 1 or 2, not D = 3"):
        GaussianMixture(torch.zeros(2, 3), std=1.0).entropy()


def test_entropy_is_the_mean_of_minus_log_prob():
    mixture = GaussianMixture.ring(std=0.25)
    nats = -mixture.log_prob(mixture.sample(100_000, generator=torch.Generator().manual_seed(0)))
    assert abs(float(nats.mean()) - mixture.entropy()) < 4 * float(nats.std()) / 100_000**0.5


def test_samples_follow_the_density():
    mixture, n = skewed(), 100_000
    x, labels = mixture.sample_with_labels(n, generator=torch.Generator().manual_seed(0))
    frequencies = torch.bincount(labels).double() / n
    assert ((frequencies - WEIGHTS).abs() < 4 * (WEIGHTS * (1 - WEIGHTS) / n).sqrt()).all()
    for k in range(3):
        own = x[labels == k].double()
        torch.testing.assert_close(own.mean(0), MEANS[k], rtol=0, atol=0.03)
        torch.testing.assert_close(own.T.cov(), COVARIANCES[k], rtol=0, atol=0.03)
    again = mixture.sample(n, generator=torch.Generator().manual_seed(0))
    assert torch.equal(x, again)


def test_optimal_logit_gives_the_best_discriminator():
    p, q, x = skewed(), GaussianMixture.ring(std=0.5), points()
    ratio = p.log_prob(x).exp() / (p.log_prob(x).exp() + q.log_prob(x).exp())
    torch.testing.assert_close(p.optimal_logit(x, q).sigmoid(), ratio)
    torch.testing.assert_close(p.optimal_logit(x, q.log_prob(x)), p.optimal_logit(x, q))
    with pytest.raises(ValueError, match=r"\(50,\) of the points; got \(50, 1\)"):
        p.optimal_logit(x, q.log_prob(x)[:, None])


def test_published_settings():
    ring, grid = GaussianMixture.ring(), GaussianMixture.grid()
    torch.testing.assert_close(ring.means.norm(dim=1), torch.ones(8).double())
    torch.testing.assert_close(ring.means[1], torch.tensor([0.5, 0.5]).double().sqrt())
    torch.testing.assert_close(ring.covariances, 1e-4 * torch.eye(2).double().expand(8, 2, 2))
    assert {tuple(m) for m in grid.means.tolist()} == {(a, b) for a in (-4, -2, 0, 2, 4) for b in (-4, -2, 0, 2, 4)}
    torch.testing.assert_close(grid.covariances, 0.0025 * torch.eye(2).double().expand(25, 2, 2))


def test_spiral_is_archimedean_with_even_steps():
    means = GaussianMixture.spiral(modes=40, turns=3.0, radius=2.0).means
    radius, angle = means.norm(dim=1), torch.atan2(means[:, 1], means[:, 0])
    turns = radius / 2 * 3  # radius grows in proportion to the angle
    torch.testing.assert_close(torch.sin(angle - 2 * math.pi * turns), torch.zeros(40).double(), rtol=0, atol=1e-12)
    steps = means.diff(dim=0).norm(dim=1)[5:]
    assert steps.max() / steps.min() < 1.1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"means": torch.zeros(3), "std": 1.0}, r"means must be \(K, D\); got \(3,\)"),
        ({"means": torch.zeros(3, 2)}, "exactly one"),
        ({"means": torch.zeros(3, 2), "std": 1.0, "covariances": torch.eye(2).expand(3, 2, 2)}, "exactly one"),
        ({"means": torch.zeros(3, 2), "std": 0.0}, "std must be positive"),
        ({"means": torch.zeros(3, 2), "std": torch.ones(2)}, r"or \(3,\) of them"),
        ({"means": torch.zeros(3, 2), "covariances": torch.eye(2)}, r"covariances must be \(3, 2, 2\); got \(2, 2\)"),
        ({"means": torch.zeros(3, 2), "covariances": -torch.eye(2).expand(3, 2, 2)}, "positive definite"),
        ({"means": torch.zeros(3, 2), "std": 1.0, "weights": torch.tensor([1.0, 1.0, -1.0])}, "none negative"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict, message: str):
    with pytest.raises(ValueError, match=message):
        GaussianMixture(**arguments)


def test_points_of_the_wrong_kind_are_named():
    with pytest.raises(ValueError, match=r"points must be floats \(\.\.\., 2\); got torch.float32 \(4, 3\)"):
        skewed().log_prob(torch.zeros(4, 3))
