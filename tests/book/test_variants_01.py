"""Chapter 1: what its checks must not let pass."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from minigen.book import CheckError, band, check, refute
from minigen.metrics import divergences
from minigen.worlds import Line

DOUBLE = torch.float64


def gap_in_standard_errors(*, sharper: float) -> float:
    """(1.3) in a world of eight templates on a line of four numbers: -log P(drawn | x), less a posterior's entropy."""
    source = torch.Generator().manual_seed(0)
    templates = torch.randn(8, 4, generator=source, dtype=DOUBLE)
    drawn = torch.randint(8, (4000,), generator=source)
    x = templates[drawn] + torch.randn(4000, 4, generator=source, dtype=DOUBLE)
    log_each = Normal(templates, 1.0).log_prob(x[:, None]).sum(2)
    left_open = log_each.logsumexp(1) - log_each.gather(1, drawn[:, None])[:, 0]
    log_guess = (sharper * log_each).log_softmax(1)
    excess = left_open + (log_guess.exp() * log_guess).sum(1)
    return (excess.mean() / (excess.std() / math.sqrt(4000))).item()


@pytest.mark.parametrize("sharper", [0.8, 1.25])
def test_w4_a_posterior_that_is_wrong(sharper: float) -> None:
    band("the right one", gap_in_standard_errors(sharper=1.0), low=-4, high=4)
    with pytest.raises(CheckError):
        band("a wrong one", gap_in_standard_errors(sharper=sharper), low=-4, high=4)


def entropy_by_gaps(samples: Tensor, m: int = 100) -> Tensor:
    x, n = samples.sort().values, len(samples)
    return ((x[2 * m :] - x[: -2 * m]) * n / (2 * m)).log().mean()


@pytest.mark.parametrize("width", [0.5, 2.0])
def test_w6_noise_that_does_not_fill_a_step_changes_the_entropy(width: float) -> None:
    source = torch.Generator().manual_seed(0)
    weights = torch.tensor([1.0, 2, 4, 8, 8, 4, 2, 1], dtype=DOUBLE) / 30
    k = torch.multinomial(weights, 200_000, replacement=True, generator=source)
    u, floor = torch.rand(200_000, generator=source, dtype=DOUBLE), torch.special.entr(weights).sum()
    check("1.20", entropy_by_gaps(k + u), floor, atol=0.02)
    with pytest.raises(CheckError):
        check("1.20", entropy_by_gaps(k + width * u), floor, atol=0.02)


def test_a_half_of_js_is_not_log_2() -> None:
    line = Line()
    left, right = line.normal(-4.0, 0.5), line.normal(4.0, 0.5)
    half = line.kl(left, line.mixture(left, right)) / 2
    check("1.12", half, math.log(2) / 2, atol=1e-9)
    with pytest.raises(CheckError):
        check("1.12", half, math.log(2), atol=1e-9)


def test_an_alignment_that_is_transposed_is_not_the_best() -> None:
    roots = torch.randn(2, 3, 3, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    cov_p, cov_q = roots @ roots.mT + 0.1 * torch.eye(3, dtype=DOUBLE)
    zero = torch.zeros(3, dtype=DOUBLE)
    best = (cov_p.trace() + cov_q.trace() - divergences.gaussian_w2_squared(zero, cov_p, zero, cov_q)) / 2
    overlap = torch.linalg.cholesky(cov_q).T @ torch.linalg.cholesky(cov_p)
    V, _, Wt = torch.linalg.svd(overlap)
    check("1.17", (overlap @ Wt.T @ V.T).trace(), best, atol=1e-8)
    with pytest.raises(CheckError):
        check("1.17", (overlap @ V @ Wt).trace(), best, atol=1e-8)


def test_a_claim_that_is_too_small_is_not_refuted_as_too_large() -> None:
    with pytest.raises(CheckError):
        refute("the table's W2^2 = 1, where it is 9", 1.0, 9.0, by=7.9)
