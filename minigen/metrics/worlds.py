"""Samples against worlds whose truth is known: modes, valid structure, coverage, obedience."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from minigen.data.checks import (
    need_count,
    need_finite,
    need_float,
    need_index,
    need_number,
    need_same,
    need_seed,
    need_shape,
)
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

    >>> world = GaussianMixture.ring()
    >>> report = modes(world.sample(2500, generator=torch.Generator().manual_seed(0)), world)
    >>> report.captured, report.high_quality > 0.98
    (8, True)
    """
    need_number("radius", radius, low=0, open=True)
    need_count("least", least)
    need_shape("samples", samples, "B", world.dim)
    need_finite("samples", samples)
    if not len(samples):
        raise ValueError("samples must be (B, D), B at least 1; got none")
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
    if not len(images):
        raise ValueError(f"a share needs one image or more; got {tuple(images.shape)}")
    return valid_mask(images, world, tolerance=tolerance).double().mean().item()


def valid_mask(images: Tensor, world: Shapes, *, tolerance: float = 0.01) -> Tensor:
    """Which images are valid, (B,) bool; see `validity`."""
    need_number("tolerance", tolerance, low=0, high=1)
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


def varied_entropy(posteriors: Tensor) -> Tensor:
    """H of the mean of posteriors (n, m), nats: how much n samples vary over m templates. Each row has sum 1."""
    need_shape("posteriors", posteriors, "n", "m")
    need_float("posteriors", posteriors, todo="probabilities, each row of sum 1")
    if not len(posteriors):
        raise ValueError("an entropy needs the posterior of one sample or more; got none")
    share = posteriors.double().mean(0)
    entropy: Tensor = -torch.special.xlogy(share, share).sum()
    return entropy


class FreeEntropy(NamedTuple):
    """H(what is free | caption), nats, the mean over captions; exact: of the world; share: the first by the second."""

    entropy: float
    exact: float
    share: float


def free_entropy(images: Tensor, captions: Sequence[str], world: Shapes) -> FreeEntropy:
    """How much images (B, C, H, W) vary within their captions, one for each: by the world's exact posterior.

    The posteriors of the images that obey a caption, averaged and kept to the templates that fit it, are what a model
    draws for it. A caption that no image obeys has entropy 0. n images of m equally likely templates have on average
    about (m - 1) / 2n nats less than log m. Worlds of one shape; ValueError for a caption that leaves nothing free.
    """
    if world.shapes != 1:
        raise ValueError(f"the entropy of what is free is for worlds of one shape; got {world.shapes}")
    if len(captions) != len(images) or not len(images):
        raise ValueError(f"need one caption for each of one image or more; got {len(captions)} for {len(images)}")
    obeyed = obeyed_mask(images, captions, world)
    found, exact = [], []
    for text in dict.fromkeys(captions):
        fits = world.caption_indices(text)
        rows = torch.tensor([caption == text for caption in captions]) & obeyed.cpu()
        within = world.posterior(images[rows])[:, fits].exp()
        found.append(varied_entropy(within / within.sum(1, keepdim=True)).item() if rows.any() else 0.0)
        exact.append(math.log(len(fits)))
    mean, best = sum(found) / len(found), sum(exact) / len(exact)
    if not best > 0:
        raise ValueError("these captions leave nothing free: no entropy can be compared")
    return FreeEntropy(mean, best, mean / best)


def region_score(weights: Tensor, region: Tensor) -> Tensor:
    """How well weights (B, H, W) single out a region, bool (B, H, W): (B,), 0.5 by chance, 1 at best.

    The area under the ROC curve: the probability that a place inside has more weight than one outside, ties half.
    ValueError for a region that is empty or everything.
    """
    need_float("weights", weights, todo="weights of a softmax, such as attention's")
    need_finite("weights", weights)
    need_same("region", region, "weights", weights)
    if weights.ndim < 2:
        raise ValueError(f"weights must be (B, H, W), or (B, ...); got {tuple(weights.shape)}")
    if region.dtype != torch.bool:
        raise TypeError(f"region must be bool, True inside; got {region.dtype}: compare it, as by region > 0")
    weights, region = weights.flatten(1), region.flatten(1)
    inside, outside = region.sum(1), (~region).sum(1)
    if not (inside.all() and outside.all()):
        raise ValueError("a region must have places inside and outside of it, in every image; got one without")
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
    """How evenly valid images (B, C, H, W) cover the world's factor tuples: KL(histogram || uniform), in nats.

    0 is even; log N is a single tuple of N. A finite sample is never even: for n exact samples the mean is about
    (N - 1) / 2n while n is much larger than N, and is simulated here from `draws` uniform histograms. Each valid image
    counts for its most probable tuple. With no valid image the divergence is infinite.
    """
    labels = world.index(world.map_factors(images[valid_mask(images, world)]))
    return evenness(labels, len(world), draws=draws, seed=seed)


def evenness(labels: Tensor, total: int, *, draws: int = 100, seed: int = 0) -> Coverage:
    """KL(histogram of labels (n,) in 0..total-1 || uniform), nats, beside what uniform labels give; see `coverage`."""
    need_count("total", total)
    need_count("draws", draws, least=2)
    seed = need_seed(seed)
    need_shape("labels", labels, "n")
    need_index("labels", labels, total)
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
