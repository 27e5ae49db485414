"""How good a model is: its likelihood, its samples against worlds with known truth, and its samples against others.

Features are (N, D), one row an image: `images.flatten(1)` for pixels, or what a network makes of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from minigen.divergences import gaussian_w2_squared, moment_match
from minigen.worlds import GaussianMixture, Shapes
from minigen.worlds.precision import exact

# The share of exact samples of a round Gaussian in the plane that lies within 3 standard deviations of its mean.
HIGH_QUALITY_CEILING = 1.0 - math.exp(-4.5)


class ModeReport(NamedTuple):
    """captured: number of modes with enough high-quality samples. high_quality: share of samples, 0 to 1."""

    captured: int
    high_quality: float
    counts: Tensor  # (K,) high-quality samples at each mode


def modes(samples: Tensor, world: GaussianMixture, *, radius: float = 3.0, least: int = 1) -> ModeReport:
    """Modes captured and the share of high-quality samples, of samples (B, D) against a mixture.

    A sample is of high quality if its Mahalanobis distance to the nearest mean is below `radius`; a mode is captured
    if at least `least` such samples are nearest to it. The published protocol (Srivastava et al. 2017, section 4.1; Lin
    et al. 2018, section 4.1) takes 2,500 samples, radius 3 and least 1; exact samples then give 98.9 % (1 - exp(-9/2)).
    """
    distance, nearest = world.mahalanobis(samples).min(dim=1)
    good = distance < radius
    counts = torch.bincount(nearest[good], minlength=len(world))
    return ModeReport(int((counts >= least).sum()), good.double().mean().item(), counts)


def validity(images: Tensor, world: Shapes, *, tolerance: float = 0.01) -> float:
    """Share of images with valid structure, 0 to 1; noise of the world's own law does not make an image invalid.

    images: as the world gives them. Each pixel is set to its nearest palette colour; an image is valid if the pixels
    that then differ from the most probable template are at most `tolerance` of all. In the discrete form the noise
    itself changes pixels, 1 % of them by default, and that limit would refuse 4 in 10 exact samples: there the limit is
    the number of changed pixels that exact samples exceed in 1 of 1,000 cases, where that is larger.
    """
    return valid_mask(images, world, tolerance=tolerance).double().mean().item()


def valid_mask(images: Tensor, world: Shapes, *, tolerance: float = 0.01) -> Tensor:
    """Which images are valid, (B,) bool; see `validity`."""
    _, differing = world.nearest_template(images)
    pixels = world.size**2
    limit = int(tolerance * pixels)
    if world.form == "discrete":
        limit = max(limit, _binomial_quantile(pixels, world.flip, 0.999))
    return differing <= limit


def obeyed_mask(images: Tensor, captions: Sequence[str], world: Shapes) -> Tensor:
    """Which images show what their caption names, (B,) bool: with more than half of the world's exact posterior.

    captions: one for each image. That an image obeys does not make it valid: something of the right colours may do.
    """
    return world.caption_posterior(images, captions) > 0.5


def region_score(weights: Tensor, region: Tensor) -> Tensor:
    """How well weights (B, H, W) single out a region, bool (B, H, W): (B,), 0.5 by chance, 1 at best.

    The area under the ROC curve: the probability that a place inside has more weight than one outside, ties half.
    ValueError for a region that is empty or everything.
    """
    weights, region = weights.flatten(1), region.flatten(1)
    inside, outside = region.sum(1), (~region).sum(1)
    if not (inside.all() and outside.all()):
        raise ValueError("a region must have places inside and outside of it, in every image")
    difference = weights[:, :, None] - weights[:, None]  # (B, H W, H W)
    wins = (difference > 0).double() + 0.5 * (difference == 0).double()
    pairs = region[:, :, None] & ~region[:, None]
    return (wins * pairs).sum((1, 2)) / (inside * outside)


def _binomial_quantile(n: int, p: float, share: float) -> int:
    """The smallest m with P(Binomial(n, p) <= m) >= share."""
    k = torch.arange(n + 1, dtype=torch.float64)
    log_choose = math.lgamma(n + 1) - torch.lgamma(k + 1) - torch.lgamma(n - k + 1)
    cumulative = (log_choose + torch.xlogy(k, torch.tensor(p)) + (n - k) * math.log1p(-p)).exp().cumsum(0)
    return int((cumulative < share).sum())


class Coverage(NamedTuple):
    """Divergences in nats; `exact` and its standard deviation `spread` are what exact samples of the same size give."""

    divergence: float
    exact: float
    spread: float


def coverage(images: Tensor, world: Shapes, *, draws: int = 100, seed: int = 0) -> Coverage:
    """How evenly the valid images cover the world's factor tuples: KL(histogram || uniform), in nats.

    0 is even; log N is a single tuple of N. A finite sample is never even: for n exact samples the mean is about
    (N - 1) / 2n while n is much larger than N, and is simulated here from `draws` uniform histograms. Each valid image
    counts for its most probable tuple. With no valid image the divergence is infinite.
    """
    return evenness(
        world.index(world.map_factors(images[valid_mask(images, world)])), len(world), draws=draws, seed=seed
    )


def evenness(labels: Tensor, total: int, *, draws: int = 100, seed: int = 0) -> Coverage:
    """KL(histogram of labels (n,) in 0..total-1 || uniform), nats, beside what uniform labels give; see `coverage`."""
    n = len(labels)
    if not n:
        return Coverage(math.inf, 0.0, 0.0)
    generator = torch.Generator().manual_seed(seed)
    drawn = [_divergence(torch.randint(total, (n,), generator=generator), total) for _ in range(draws)]
    exact = torch.tensor(drawn, dtype=torch.float64)
    return Coverage(_divergence(labels.cpu(), total), exact.mean().item(), exact.std().item())


def _divergence(labels: Tensor, total: int) -> float:
    """KL(histogram of labels in 0..total-1 || uniform), nats."""
    share = torch.unique(labels, return_counts=True)[1].double() / len(labels)
    return float((share * share.log()).sum()) + math.log(total)


def nearest(queries: Tensor, references: Tensor) -> tuple[Tensor, Tensor]:
    """For each query (B, ...), the Euclidean distance to its nearest reference (N, ...), and that one's index, (B,)."""
    distance, index = torch.cdist(queries.flatten(1), references.flatten(1)).min(dim=1)
    return distance, index


class Estimate(NamedTuple):
    """A mean over images, and its standard error."""

    mean: float
    standard_error: float


def nll(log_prob: Tensor) -> Estimate:
    """Negative log-likelihood, nats/image, from the log-densities (N,) that a model gives to N held-out images."""
    if log_prob.ndim != 1 or len(log_prob) < 2:
        raise ValueError(f"log_prob must be (N,), one number an image, N at least 2; got {tuple(log_prob.shape)}")
    if not torch.isfinite(log_prob).all():
        bad = int((~torch.isfinite(log_prob)).sum())
        raise ValueError(f"{bad} of {len(log_prob)} log-densities are not finite; the model excludes these images")
    x = exact(-log_prob.detach())
    return Estimate(x.mean().item(), (x.std() / math.sqrt(len(x))).item())


def bits_per_dim(nats: float, dims: int, *, levels: int | None = None) -> float:
    """Nats an image to bits a dimension: nats / (dims log 2).

    levels: for a density on [-1, 1] of images with this many levels: adds log2(levels / 2), since the map from levels
    to [-1, 1] shrinks each dimension by 2 / levels. The result is then in bits/dim of the levels, as papers give it.
    """
    return nats / (dims * math.log(2)) + (0.0 if levels is None else math.log2(levels / 2))


def relative_gap(nll: float, floor: float, independent: float) -> float:
    """(NLL - floor) / (independent-pixel NLL - floor), all in nats an image: 0 is the truth, 1 knows no structure."""
    if not independent > floor:
        raise ValueError(f"the independent-pixel NLL must be above the floor; got {independent} and {floor}")
    return (nll - floor) / (independent - floor)


def frechet_distance(x: Tensor, y: Tensor) -> float:
    """Squared Wasserstein-2 distance of two Gaussians with the means and covariances of features x (N, D) and y (M, D).

    Heusel et al. 2017 (arXiv:1706.08500), eq. 6. It sees two moments and nothing else. Finite samples bias it upwards,
    about in proportion to 1/N, so that two numbers at different N do not compare (Chong and Forsyth 2020,
    arXiv:1911.07023): two samples of one Gaussian of unit variances are D (D + 5) / 2N apart on average, N much larger
    than D. With N <= D the covariances are singular and the distance is still defined.
    """
    x, y = _features(x, y)
    return gaussian_w2_squared(*moment_match(x, correction=1), *moment_match(y, correction=1)).item()


def kernel_distance(x: Tensor, y: Tensor, *, degree: int = 3) -> float:
    """Squared maximum mean discrepancy of features x (N, D) and y (M, D), unbiased: its mean over samples is the truth.

    Gretton et al. 2012, lemma 6, with the kernel (x'y / D + 1)^degree of the kernel inception distance (Binkowski et
    al. 2018, arXiv:1801.01401). Near zero it can be negative. With degree 3 it sees three moments and nothing else.
    """
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
    Compare at equal sizes only. One outlier has a large ball that admits what lies between it and the others (Naeem et
    al. 2020, arXiv:2002.09797), and copies of the training images score as exact samples do.
    """
    real, fake = _features(real, fake)
    if not 1 <= k < min(len(real), len(fake)):
        raise ValueError(f"k must be at least 1 and below both sizes, {len(real)} and {len(fake)}; got {k}")
    return PrecisionRecall(_within(fake, real, k), _within(real, fake, k))


def _within(queries: Tensor, references: Tensor, k: int) -> float:
    """The share of queries in the ball of some reference."""
    near = [torch.cdist(rows, references).topk(k + 1, largest=False).values for rows in torch.split(references, 1024)]
    radius = torch.cat(near)[:, k]  # column 0 is the point itself
    inside = [(torch.cdist(rows, references) <= radius).any(dim=1) for rows in torch.split(queries, 1024)]
    return torch.cat(inside).double().mean().item()


def _features(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Both in float64 where there is float64."""
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or min(len(x), len(y)) < 2:
        raise ValueError(
            f"features must be (N, D) and (M, D) with at least 2 rows; got {tuple(x.shape)} and {tuple(y.shape)}; "
            "for images (B, C, H, W) give images.flatten(1)"
        )
    return exact(x), exact(y)
