"""How good samples are: against worlds with known truth."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from minigen.worlds import GaussianMixture, Shapes

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
    tuples = world.index(world.map_factors(images[valid_mask(images, world)]))
    n, total = len(tuples), len(world)
    if not n:
        return Coverage(math.inf, 0.0, 0.0)
    generator = torch.Generator().manual_seed(seed)
    drawn = [_divergence(torch.randint(total, (n,), generator=generator), total) for _ in range(draws)]
    exact = torch.tensor(drawn, dtype=torch.float64)
    return Coverage(_divergence(tuples.cpu(), total), exact.mean().item(), exact.std().item())


def _divergence(labels: Tensor, total: int) -> float:
    """KL(histogram of labels in 0..total-1 || uniform), nats."""
    share = torch.unique(labels, return_counts=True)[1].double() / len(labels)
    return float((share * share.log()).sum()) + math.log(total)


def nearest(queries: Tensor, references: Tensor) -> tuple[Tensor, Tensor]:
    """For each query (B, ...), the Euclidean distance to its nearest reference (N, ...), and that one's index, (B,)."""
    distance, index = torch.cdist(queries.flatten(1), references.flatten(1)).min(dim=1)
    return distance, index


def bits_per_dim(nats: float, dims: int) -> float:
    """Nats an image to bits a dimension: nats / (dims log 2)."""
    return nats / (dims * math.log(2))


def relative_gap(nll: float, floor: float, independent: float) -> float:
    """(NLL - floor) / (independent-pixel NLL - floor), all in nats an image: 0 is the truth, 1 knows no structure."""
    if not independent > floor:
        raise ValueError(f"the independent-pixel NLL must be above the floor; got {independent} and {floor}")
    return (nll - floor) / (independent - floor)
