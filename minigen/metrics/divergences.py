"""Divergences and distances in closed form: between Gaussians, and between samples on a line.

Everything is computed in float64. Means are (D,), covariances (D, D).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from minigen.data.checks import need_count, need_float, need_numbers
from minigen.worlds.precision import exact


def moment_match(samples: Tensor, *, correction: int = 0) -> tuple[Tensor, Tensor]:
    """Mean (D,) and covariance (D, D) of samples (N, D): the Gaussian of greatest likelihood, divisor N.

    Of all Gaussians it has the smallest KL(samples || Gaussian): Bishop 2006, section 2.3.4. The divisor is
    N - correction: with correction=1 the covariance is unbiased.
    """
    need_count("correction", correction, least=0)
    if samples.ndim != 2 or len(samples) <= correction:
        raise ValueError(f"samples must be (N, D) with N above {correction}; got {tuple(samples.shape)}")
    need_numbers("samples", samples)
    x = exact(samples)
    mean = x.mean(0)
    return mean, (x - mean).T @ (x - mean) / (len(x) - correction)


def gaussian_kl(mean_p: Tensor, cov_p: Tensor, mean_q: Tensor, cov_q: Tensor) -> Tensor:
    """KL(N(mean_p, cov_p) || N(mean_q, cov_q)), nats. Rasmussen and Williams 2006, eq. A.23.

    1/2 [tr(C_q^-1 C_p) + (m_q - m_p)' C_q^-1 (m_q - m_p) - D + log det C_q - log det C_p]. Both covariances must be
    positive definite: ValueError otherwise. Differentiable.

    >>> zero, one = torch.zeros(2), torch.eye(2)
    >>> round(gaussian_kl(zero, one, zero + 1, one).item(), 6)  # half the squared distance of the means
    1.0
    """
    mean_p, cov_p, mean_q, cov_q = _gaussians(mean_p, cov_p, mean_q, cov_q)
    p, q = _cholesky(cov_p, "cov_p"), _cholesky(cov_q, "cov_q")
    spread: Tensor = torch.linalg.solve_triangular(q, p, upper=False)  # (D, D), its squared norm is tr(C_q^-1 C_p)
    shift: Tensor = torch.linalg.solve_triangular(q, (mean_q - mean_p)[:, None], upper=False)  # (D, 1)
    log_det = 2 * (q.diagonal().log() - p.diagonal().log()).sum()
    return 0.5 * (spread.square().sum() + shift.square().sum() - len(mean_p) + log_det)


def gaussian_w2_squared(mean_p: Tensor, cov_p: Tensor, mean_q: Tensor, cov_q: Tensor) -> Tensor:
    """The squared Wasserstein-2 distance of two Gaussians. Dowson and Landau 1982; Givens and Shortt 1984, prop. 7.

    |m_p - m_q|^2 + tr C_p + tr C_q - 2 tr (C_p^1/2 C_q C_p^1/2)^1/2. On a line this is (m_p - m_q)^2 + (s_p - s_q)^2,
    with standard deviations s. Covariances may be singular; a negative eigenvalue is a ValueError. Its gradient by a
    covariance is not defined where that one has equal eigenvalues.
    """
    mean_p, cov_p, mean_q, cov_q = _gaussians(mean_p, cov_p, mean_q, cov_q)
    # C_p^1/2 C_q C_p^1/2 = A A' with A = C_p^1/2 C_q^1/2, so its root's trace is the sum of A's singular values.
    # Its eigenvalues would do, but where a covariance is singular their roots keep half the digits only.
    overlap: Tensor = torch.linalg.svdvals(_root(cov_p, "cov_p") @ _root(cov_q, "cov_q")).sum()
    return (mean_p - mean_q).square().sum() + cov_p.trace() + cov_q.trace() - 2 * overlap


def wasserstein_1d(x: Tensor, y: Tensor, *, p: float = 1.0) -> Tensor:
    """The Wasserstein-p distance of two samples on a line, x (N,) and y (M,), in the units of x.

    (integral over u in (0, 1) of |F^-1(u) - G^-1(u)|^p)^(1/p), with the empirical quantile functions: the best plan on
    a line moves the u-quantile of one to the u-quantile of the other (Villani 2003, section 2.2). For N = M it pairs
    the sorted samples. p: at least 1; infinity gives the largest way that anything is moved.
    """
    if x.ndim != 1 or y.ndim != 1 or not len(x) or not len(y):
        raise ValueError(f"x and y must be samples on a line, (N,) and (M,); got {tuple(x.shape)} and {tuple(y.shape)}")
    if not p >= 1:
        raise ValueError(f"p must be at least 1; got {p}")
    for name, samples in (("x", x), ("y", y)):
        need_numbers(name, samples)
    x, y = exact(x).sort().values, exact(y).sort().values
    n, m = len(x), len(y)
    # Both quantile functions are constant between neighbours of {i/N} and {j/M}: exact in units of 1 / (N M).
    steps = torch.unique(torch.cat([torch.arange(n + 1) * m, torch.arange(m + 1) * n])).to(x.device)
    width, low = exact(steps.diff()) / (n * m), steps[:-1]
    gap: Tensor = x[low // m] - y[low // n]
    if math.isinf(p):
        return gap.abs().max()
    most = gap.abs().max()  # in whose units no power under- or overflows
    return most * (width * (gap.abs() / most) ** p).sum() ** (1 / p) if most > 0 else most


def _gaussians(mean_p: Tensor, cov_p: Tensor, mean_q: Tensor, cov_q: Tensor) -> list[Tensor]:
    shapes = [tuple(t.shape) for t in (mean_p, cov_p, mean_q, cov_q)]
    d = mean_p.numel()
    if shapes != [(d,), (d, d), (d,), (d, d)]:
        raise ValueError(f"means must be (D,) and covariances (D, D); got {', '.join(map(str, shapes))}")
    for name, mean in (("mean_p", mean_p), ("mean_q", mean_q)):
        need_numbers(name, mean, todo="a Gaussian has a mean")
    for name, cov in (("cov_p", cov_p), ("cov_q", cov_q)):
        need_float(name, cov, todo="a covariance is real")
        if not torch.isfinite(cov).all():
            raise ValueError(f"{name} is not finite: a covariance must be; got NaN or infinity")
        if not torch.allclose(cov, cov.T, rtol=1e-5, atol=1e-6 * float(cov.detach().abs().max())):
            raise ValueError(
                f"{name} is not symmetric, so it is no covariance; got entries that differ from their mirror images"
            )
    return [exact(t) for t in (mean_p, cov_p, mean_q, cov_q)]


def _cholesky(cov: Tensor, name: str) -> Tensor:
    factor: Tensor
    factor, failed = torch.linalg.cholesky_ex(cov)
    if failed:
        raise ValueError(
            f"{name} is not positive definite: the Gaussian has no density, and the divergence is infinite"
        )
    return factor


def _root(cov: Tensor, name: str) -> Tensor:
    """The symmetric root."""
    values: Tensor
    vectors: Tensor
    values, vectors = torch.linalg.eigh(cov)
    if values[0] < -1e-6 * values.abs().max():  # beyond the rounding of float32
        raise ValueError(f"{name} has a negative eigenvalue, {values[0].item():.3g}, so it is no covariance")
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T
