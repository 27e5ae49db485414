"""Samples against other samples, by their features.

Features are (N, D), one row an image: `images.flatten(1)` for pixels, or what a network makes of them.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from minigen.data.checks import need_count, need_numbers, need_shape
from minigen.metrics.divergences import gaussian_w2_squared, moment_match
from minigen.worlds.precision import exact, like

ROWS = 256  # of one set against all of the other at once


def nearest(queries: Tensor, references: Tensor) -> tuple[Tensor, Tensor]:
    """For each query (B, ...), the Euclidean distance to its nearest reference (N, ...), and that one's index, (B,).

    A copy is at distance 0. Of references that are equally near, the index is that of any.
    """
    need_shape("references", references, "N", *queries.shape[1:])
    if queries.ndim < 2 or not len(references):
        got = f"{tuple(queries.shape)} and {tuple(references.shape)}"
        raise ValueError(f"queries must be (B, ...) and references (N, ...), N at least 1; got {got}")
    for name, x in (("queries", queries), ("references", references)):
        need_numbers(name, x)
    x, y = exact(queries.flatten(1)), exact(references.flatten(1))
    half = y.square().sum(1) / 2
    found = [(half - rows @ y.T).argmin(1) for rows in torch.split(x, ROWS)]
    index = torch.cat(found)
    distance = (x - y[index]).square().sum(1).sqrt()  # anew: the square, expanded, keeps half the digits
    return like(distance, queries), index.to(queries.device)


def frechet_distance(x: Tensor, y: Tensor) -> float:
    """Squared Wasserstein-2 distance of two Gaussians with the means and covariances of features x (N, D) and y (M, D).

    Heusel et al. 2017 (arXiv:1706.08500), eq. 6. It sees two moments and nothing else. Finite samples bias it upwards,
    about in proportion to 1/N, so that two numbers at different N do not compare (Chong and Forsyth 2020,
    arXiv:1911.07023): two samples of one Gaussian of unit variances are D (D + 5) / 2N apart on average, N much larger
    than D. With N <= D the covariances are singular and the distance is still defined. Where all samples are fewer than
    D, it is taken in the space that they span, which keeps it and needs no D x D matrix.

    >>> x = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0], [2.0, 2.0]])
    >>> round(frechet_distance(x, x + torch.tensor([3.0, 0.0])), 6)  # the means are 3 apart, the covariances the same
    9.0
    """
    x, y = _features(x, y)
    if len(x) + len(y) < x.shape[1]:
        axes = torch.linalg.qr(torch.cat([x, y]).T).Q  # (D, N + M), orthonormal
        x, y = x @ axes, y @ axes
    squared = gaussian_w2_squared(*moment_match(x, correction=1), *moment_match(y, correction=1)).item()
    return max(0.0, squared)  # of a set and itself it may round to less


def kernel_distance(x: Tensor, y: Tensor, *, degree: int = 3) -> float:
    """Squared maximum mean discrepancy of features x (N, D) and y (M, D), unbiased: its mean over samples is the truth.

    Gretton et al. 2012, lemma 6, with the kernel (x'y / D + 1)^degree of the kernel inception distance (Binkowski et
    al. 2018, arXiv:1801.01401). Near zero it can be negative. With degree 3 it sees three moments and nothing else.
    """
    need_count("degree", degree)
    x, y = _features(x, y)
    n, m = len(x), len(y)

    def total(a: Tensor, b: Tensor) -> Tensor:  # sums of the kernel over all pairs, a block of rows at a time
        return torch.stack([(rows @ b.T / x.shape[1] + 1).pow(degree).sum() for rows in torch.split(a, 1024)]).sum()

    def own(a: Tensor) -> Tensor:  # the kernel of each sample with itself, which the unbiased estimate leaves out
        return (a.square().sum(1) / x.shape[1] + 1).pow(degree).sum()

    within = (total(x, x) - own(x)) / (n * (n - 1)) + (total(y, y) - own(y)) / (m * (m - 1))
    return (within - 2 * total(x, y) / (n * m)).item()


class PrecisionRecall(NamedTuple):
    """Both are shares, 0 to 1."""

    precision: float
    recall: float


def precision_recall(real: Tensor, fake: Tensor, *, k: int = 3) -> PrecisionRecall:
    """Precision: the share of fakes within the real ones' reach; recall: the share of real ones within the fakes'.

    real (N, D), fake (M, D): features. A set reaches what lies in the ball around one of its points that touches the
    k-th nearest other point of the set: Kynkaanniemi et al. 2019 (arXiv:1904.06991), eq. 1 and 2, with their k = 3.
    Distances that differ by no more than the rounding of the features count as equal, so that scaling keeps ties.
    Compare at equal sizes only. One outlier has a large ball that admits what lies between it and the others (Naeem et
    al. 2020, arXiv:2002.09797), and copies of the training images score as exact samples do.
    """
    rounding = torch.finfo(real.dtype).eps if real.is_floating_point() else 0.0
    real, fake = _features(real, fake)
    need_count("k", k)
    if not 1 <= k < min(len(real), len(fake)):
        raise ValueError(f"k must be at least 1 and below both sizes, {len(real)} and {len(fake)}; got {k}")
    return PrecisionRecall(_within(fake, real, k, rounding), _within(real, fake, k, rounding))


def inception_score(probabilities: Tensor) -> float:
    """exp of the mutual information of sample and class, by a classifier's probabilities (N, K). Between 1 and K.

    exp(E KL(p(c|x) || p(c))), p(c) the mean of the rows: Salimans et al. 2016, section 4, over all N at once and not in
    parts of them. Chapter 03, (3.18). It never looks at real samples.

    >>> inception_score(torch.eye(4))
    4.0
    """
    need_shape("probabilities", probabilities, "N", "K")
    need_numbers("probabilities", probabilities)
    p = exact(probabilities)
    if not len(p) or bool((p < 0).any()) or bool(((p.sum(1) - 1).abs() > 1e-4).any()):
        raise ValueError("probabilities must be (N, K), N at least 1, each row adding up to 1: use softmax, not logits")
    mean = p.mean(0)
    return math.exp(float((torch.special.xlogy(p, p) - torch.special.xlogy(p, mean)).sum(1).mean()))


def _within(queries: Tensor, references: Tensor, k: int, rounding: float) -> float:
    """The share of queries in the ball of some reference."""
    near = [_squared(rows, references).topk(k + 1, largest=False).values for rows in torch.split(references, ROWS)]
    radius = torch.cat(near)[:, k]  # squared; column 0 is the point itself
    size = torch.cat([queries, references]).square().sum(1).max()  # of the largest point, squared
    # The features' own rounding moves a distance by its share of their size; that of the products moves its square.
    slack = 4 * rounding * (size * radius).sqrt() + 64 * torch.finfo(size.dtype).eps * size
    inside = [(_squared(rows, references) <= radius + slack).any(dim=1) for rows in torch.split(queries, ROWS)]
    return torch.cat(inside).double().mean().item()


def _squared(x: Tensor, y: Tensor) -> Tensor:
    """Squared distances of points (N, D) and (M, D), (N, M), by the expanded square."""
    return x.square().sum(1)[:, None] + y.square().sum(1) - 2 * x @ y.T


def _features(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Both in float64 where there is float64."""
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or min(len(x), len(y)) < 2 or not x.shape[1]:
        raise ValueError(
            f"features must be (N, D) and (M, D) with at least 2 rows and 1 column; got {tuple(x.shape)} and "
            f"{tuple(y.shape)}; for images (B, C, H, W) give images.flatten(1)"
        )
    for name, features in (("x", x), ("y", y)):
        need_numbers(f"features {name}", features)
    return exact(x), exact(y)
