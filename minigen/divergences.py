"""Divergences and distances in closed form: between Gaussians, and between samples on a line.

Everything is computed in float64. Means are (D,), covariances (D, D).
"""

from __future__ import annotations

import torch
from torch import Tensor

from minigen.worlds.precision import exact


def moment_match(samples: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (D,) and covariance (D, D) of samples (N, D): the Gaussian of greatest likelihood, divisor N.

    Of all Gaussians it has the smallest KL(samples || Gaussian): Bishop 2006, section 2.3.4.
    """
    x = _samples(samples)
    mean = x.mean(0)
    return mean, (x - mean).T @ (x - mean) / len(x)


def gaussian_kl(mean_p: Tensor, cov_p: Tensor, mean_q: Tensor, cov_q: Tensor) -> Tensor:
    """KL(N(mean_p, cov_p) || N(mean_q, cov_q)), nats.

    1/2 [tr(C_q^-1 C_p) + (m_q - m_p)' C_q^-1 (m_q - m_p) - D + log det C_q - log det C_p]. Both covariances must be
    positive definite: ValueError otherwise. Differentiable.
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
    with standard deviations s. Covariances may be singular.
    """
    mean_p, cov_p, mean_q, cov_q = _gaussians(mean_p, cov_p, mean_q, cov_q)
    values, vectors = torch.linalg.eigh(cov_p)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    overlap: Tensor = torch.linalg.eigvalsh(root @ cov_q @ root).clamp(min=0).sqrt().sum()
    return (mean_p - mean_q).square().sum() + cov_p.trace() + cov_q.trace() - 2 * overlap


def wasserstein_1d(x: Tensor, y: Tensor, *, p: float = 1.0) -> Tensor:
    """The Wasserstein-p distance of two samples on a line, x (N,) and y (M,), in the units of x.

    (integral over u in (0, 1) of |F^-1(u) - G^-1(u)|^p)^(1/p), with the empirical quantile functions: the best plan on
    a line moves the u-quantile of one to the u-quantile of the other (Villani 2003, theorem 2.18). For N = M it pairs
    the sorted samples. p: at least 1.
    """
    if x.ndim != 1 or y.ndim != 1 or not len(x) or not len(y):
        raise ValueError(f"x and y must be samples on a line, (N,) and (M,); got {tuple(x.shape)} and {tuple(y.shape)}")
    if not p >= 1:
        raise ValueError(f"p must be at least 1; got {p}")
    n, m = len(x), len(y)
    # Both quantile functions are constant between neighbours of {i/N} and {j/M}: exact in units of 1 / (N M).
    steps = torch.unique(torch.cat([torch.arange(n + 1) * m, torch.arange(m + 1) * n]))
    steps = steps.to(x.device)
    width = exact(steps.diff()) / (n * m)
    low = steps[:-1]
    gap = exact(x).sort().values[low // m] - exact(y).sort().values[low // n]
    return (width * gap.abs() ** p).sum() ** (1 / p)


def _samples(x: Tensor) -> Tensor:
    if x.ndim != 2 or not len(x):
        raise ValueError(f"samples must be (N, D) with N at least 1; got {tuple(x.shape)}")
    return exact(x)


def _gaussians(mean_p: Tensor, cov_p: Tensor, mean_q: Tensor, cov_q: Tensor) -> list[Tensor]:
    shapes = [tuple(t.shape) for t in (mean_p, cov_p, mean_q, cov_q)]
    d = mean_p.numel()
    if shapes != [(d,), (d, d), (d,), (d, d)]:
        raise ValueError(f"means must be (D,) and covariances (D, D); got {', '.join(map(str, shapes))}")
    for name, cov in (("cov_p", cov_p), ("cov_q", cov_q)):
        if not torch.allclose(cov, cov.T, rtol=1e-5, atol=1e-6 * float(cov.abs().max())):
            raise ValueError(f"{name} is not symmetric, so it is no covariance")
    return [exact(t) for t in (mean_p, cov_p, mean_q, cov_q)]


def _cholesky(cov: Tensor, name: str) -> Tensor:
    factor: Tensor
    factor, failed = torch.linalg.cholesky_ex(cov)
    if failed:
        raise ValueError(
            f"{name} is not positive definite: the Gaussian has no density, and the divergence is infinite"
        )
    return factor
