"""Closed forms against torch.distributions, scipy, quadrature, brute-force assignment; and their misprints fail."""

import itertools
import math

import pytest
import torch
from scipy import linalg, stats
from torch import Tensor
from torch.distributions import MultivariateNormal, kl_divergence

from minigen.metrics.divergences import gaussian_kl, gaussian_w2_squared, moment_match, wasserstein_1d
from minigen.worlds import Line


def gaussians(d: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Two means and two covariances that do not commute."""
    generator = torch.Generator().manual_seed(seed)
    a, b = torch.randn(2, d, d, generator=generator, dtype=torch.float64)
    means = torch.randn(2, d, generator=generator, dtype=torch.float64)
    eye = torch.eye(d, dtype=torch.float64)
    return means[0], a @ a.T + 0.3 * eye, means[1], b @ b.T + 0.3 * eye


@pytest.mark.parametrize("d", [1, 2, 7])
def test_gaussian_kl_is_that_of_torch_distributions(d: int) -> None:
    m, c, n, k = gaussians(d)
    expected = kl_divergence(MultivariateNormal(m, c), MultivariateNormal(n, k))
    assert gaussian_kl(m, c, n, k) == pytest.approx(expected.item(), rel=1e-10)
    assert gaussian_kl(n, k, m, c) != pytest.approx(expected.item(), rel=0.01), "the direction matters"
    assert gaussian_kl(m, c, m, c) == pytest.approx(0, abs=1e-10)


def test_gaussian_kl_is_the_integral_on_a_line() -> None:
    line = Line()
    by_quadrature = line.kl(line.normal(0.5, 0.8), line.normal(-0.3, 1.1))
    one = [torch.tensor([v], dtype=torch.float64) for v in (0.5, 0.64, -0.3, 1.21)]
    assert gaussian_kl(one[0], one[1][:, None], one[2], one[3][:, None]) == pytest.approx(
        by_quadrature.item(), abs=1e-9
    )


def test_gaussian_kl_has_its_gradient() -> None:
    m, c, n, k = gaussians(3)
    n.requires_grad_()
    (gradient,) = torch.autograd.grad(gaussian_kl(m, c, n, k), n)
    torch.testing.assert_close(gradient, torch.linalg.solve(k, n.detach() - m))


@pytest.mark.parametrize("d", [1, 2, 6])
def test_w2_is_that_of_scipys_matrix_root(d: int) -> None:
    m, c, n, k = gaussians(d)
    overlap = linalg.sqrtm((c @ k).numpy()).real.trace()  # the product's root has the same trace
    expected = (m - n).square().sum() + c.trace() + k.trace() - 2 * overlap
    assert gaussian_w2_squared(m, c, n, k) == pytest.approx(expected.item(), rel=1e-8)
    assert gaussian_w2_squared(n, k, m, c) == pytest.approx(expected.item(), rel=1e-8), "it is symmetric"


def test_w2_on_a_line_is_the_integral_over_quantiles() -> None:
    u = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
    z = math.sqrt(2) * torch.erfinv(2 * u - 1)
    m, s, n, t = 0.5, 0.8, -0.3, 1.7
    by_quantiles = ((m + s * z) - (n + t * z)).square().mean().item()
    one = [torch.tensor([v], dtype=torch.float64) for v in (m, s**2, n, t**2)]
    found = gaussian_w2_squared(one[0], one[1][:, None], one[2], one[3][:, None]).item()
    assert found == pytest.approx(by_quantiles, abs=1e-3)
    for misprint in (s + t - 2 * math.sqrt(s * t), s**2 + t**2 - s * t, (s**2 - t**2) ** 2):
        assert (m - n) ** 2 + misprint != pytest.approx(by_quantiles, abs=0.05)


def test_w2_is_defined_for_singular_covariances() -> None:
    zero, eye = torch.zeros(3), torch.eye(3)
    flat = torch.diag(torch.tensor([4.0, 0.0, 0.0]))
    assert gaussian_w2_squared(zero, flat, zero, eye) == pytest.approx(1 + 1 + 1)
    assert gaussian_w2_squared(zero, 0 * eye, torch.ones(3), 0 * eye) == pytest.approx(3)


def test_w2_keeps_its_digits_where_covariances_are_singular() -> None:
    """Of covariances A A' and B B' with few columns it is known without a root: the overlap is the nuclear norm of A'B.
    Roots of the eigenvalues of C_p^1/2 C_q C_p^1/2, which rounding leaves near 1e-16 and not 0, are wrong by 1e-6."""
    a, b = torch.randn(2, 60, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    zero = torch.zeros(60)
    expected = a.square().sum() + b.square().sum() - 2 * torch.linalg.matrix_norm(a.T @ b, "nuc")
    assert gaussian_w2_squared(zero, a @ a.T, zero, b @ b.T).item() == pytest.approx(expected.item(), abs=1e-9)
    assert gaussian_w2_squared(zero, a @ a.T, zero, a @ a.T).item() == pytest.approx(0, abs=1e-9)


def test_w2_has_its_gradient() -> None:
    """Of the covariance: I - C_p^-1 # C_q, the matrix of the optimal transport map (# is the geometric mean)."""
    m, c, n, k = gaussians(3)
    m.requires_grad_(), c.requires_grad_()
    by_mean, by_cov = torch.autograd.grad(gaussian_w2_squared(m, c, n, k), (m, c))
    root = torch.from_numpy(linalg.sqrtm(c.detach().numpy()).real)
    inner = torch.from_numpy(linalg.sqrtm((root @ k @ root).numpy()).real)
    transport = torch.linalg.solve(root, torch.linalg.solve(root, inner).T).T
    torch.testing.assert_close(by_mean, 2 * (m - n).detach())
    torch.testing.assert_close((by_cov + by_cov.T) / 2, torch.eye(3).double() - transport)


def test_the_matched_gaussian_has_the_greatest_likelihood() -> None:
    x = torch.randn(50, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) @ torch.tensor(
        [[1.0, 0.4], [0.0, 0.3]], dtype=torch.float64
    )
    mean, cov = moment_match(x)
    best = MultivariateNormal(mean, cov).log_prob(x).mean()
    for scale in (0.97, 50 / 49, 1.03):
        assert MultivariateNormal(mean, cov * scale).log_prob(x).mean() < best
    assert MultivariateNormal(mean + 0.05, cov).log_prob(x).mean() < best
    torch.testing.assert_close(moment_match(x, correction=1)[1], torch.cov(x.T))


@pytest.mark.parametrize(("n", "m"), [(5, 5), (7, 3), (40, 64), (1, 9)])
def test_wasserstein_1_is_scipys(n: int, m: int) -> None:
    generator = torch.Generator().manual_seed(n)
    x, y = torch.randn(n, generator=generator), torch.rand(m, generator=generator) * 3
    expected = stats.wasserstein_distance(x.double().numpy(), y.double().numpy())
    assert wasserstein_1d(x, y).item() == pytest.approx(expected, rel=1e-12)
    assert wasserstein_1d(y, x).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("p", [1, 2, 3])
def test_wasserstein_p_is_the_best_assignment(p: int) -> None:
    x, y = torch.randn(2, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    best = min((x - y[list(order)]).abs().pow(p).mean() for order in itertools.permutations(range(6)))
    assert wasserstein_1d(x, y, p=p) == pytest.approx(best.item() ** (1 / p))
    assert wasserstein_1d(x.repeat(2), y.repeat(3), p=p) == pytest.approx(best.item() ** (1 / p)), (
        "copies change nothing"
    )


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: gaussian_kl(torch.zeros(2), torch.eye(3), torch.zeros(2), torch.eye(2)), r"\(2,\), \(3, 3\)"),
        (lambda: gaussian_kl(torch.zeros(2), torch.eye(2), torch.zeros(2), torch.zeros(2, 2)), "cov_q is not positive"),
        (
            lambda: gaussian_w2_squared(*[torch.zeros(1), torch.eye(1)] * 1, torch.zeros(1), torch.ones(1)),
            "covariances",
        ),
        (lambda: gaussian_kl(*[torch.zeros(2), torch.tensor([[1.0, 0.9], [0.0, 1.0]])] * 2), "not symmetric"),
        (lambda: gaussian_kl(*[torch.zeros(2), torch.eye(2) * math.nan] * 2), "cov_p is not finite"),
        (lambda: gaussian_w2_squared(*[torch.zeros(2), torch.eye(2)], torch.zeros(2), -torch.eye(2)), "cov_q .* -1"),
        (lambda: wasserstein_1d(torch.zeros(2, 2), torch.zeros(2)), r"got \(2, 2\)"),
        (lambda: wasserstein_1d(torch.zeros(0), torch.zeros(2)), r"got \(0,\)"),
        (lambda: wasserstein_1d(torch.zeros(2), torch.zeros(2), p=0.5), "at least 1; got 0.5"),
        (lambda: moment_match(torch.zeros(3)), r"\(N, D\)"),
        (lambda: moment_match(torch.zeros(1, 3), correction=1), r"N above 1; got \(1, 3\)"),
    ],
)
def test_errors_say_what_was_given(call, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        call()


def test_the_endless_power_gives_the_largest_way() -> None:
    x, y = torch.tensor([0.0, 1.0, 5.0]), torch.tensor([0.5, 3.0, 4.0])
    assert wasserstein_1d(x, y, p=math.inf).item() == 2.0
    assert wasserstein_1d(x, y, p=200.0).item() == pytest.approx(2.0, rel=0.01)


@pytest.mark.parametrize(("gap", "p"), [(0.5, 2000.0), (1e-8, 50.0), (1e200, 2.0), (0.0, 3.0)])
def test_a_power_neither_under_nor_overflows(gap: float, p: float) -> None:
    """Two point masses are their gap apart, whatever the power."""
    x = torch.zeros(3, dtype=torch.float64)
    assert wasserstein_1d(x, x + gap, p=p).item() == pytest.approx(gap, rel=1e-12)
