"""Metrics refuse what would give a figure that means nothing: NaN, integers, labels out of range, empty sets."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from refusals import refused

from minigen import metrics
from minigen.metrics import divergences
from minigen.show.figures import image_grid
from minigen.worlds import GaussianMixture, Shapes

NAN, INF = math.nan, math.inf
x, y = torch.zeros(6, 2), torch.zeros(5, 2)
whole = torch.zeros(6, 2, dtype=torch.int64)
ring = GaussianMixture.ring()
world = Shapes(8, sizes=(5,), positions=(2, 2))
mean, cov = torch.zeros(2), torch.eye(2)
weights, region = torch.zeros(1, 2, 2), torch.tensor([[[True, False], [False, False]]])

REFUSED: dict[str, tuple[Callable[[], object], str]] = {
    "features in integers, precision": (lambda: metrics.precision_recall(whole, whole), "floating point"),
    "features in integers, Fréchet": (lambda: metrics.frechet_distance(whole, x), "floating point"),
    "features in integers, kernel": (lambda: metrics.kernel_distance(x, whole), "floating point"),
    "features in integers, nearest": (lambda: metrics.nearest(whole, whole), "floating point"),
    "NaN features, precision": (lambda: metrics.precision_recall(x, y + NAN), "must be finite"),
    "NaN features, Fréchet": (lambda: metrics.frechet_distance(x + NAN, y), "must be finite"),
    "endless features, kernel": (lambda: metrics.kernel_distance(x, y + INF), "NaN or infinity in 10 of 10"),
    "NaN features, nearest": (lambda: metrics.nearest(x + NAN, y), "must be finite"),
    "no reference": (lambda: metrics.nearest(x, y[:0]), "N at least 1"),
    "references of another shape": (lambda: metrics.nearest(x, torch.zeros(5, 3)), "must be (N, 2); got (5, 3)"),
    "a degree of 0": (lambda: metrics.kernel_distance(x, y, degree=0), "1 or more; got 0"),
    "a degree of a half": (lambda: metrics.kernel_distance(x, y, degree=0.5), "whole number"),
    "features of no column, kernel": (lambda: metrics.kernel_distance(x[:, :0], y[:, :0]), "1 column; got (6, 0)"),
    "features of no column, precision": (lambda: metrics.precision_recall(x[:, :0], y[:, :0]), "1 column"),
    "half a neighbour": (lambda: metrics.precision_recall(x, y, k=2.5), "whole number"),
    "a negative correction": (lambda: metrics.moment_match(x, correction=-5), "0 or more; got -5"),
    "half a correction": (lambda: metrics.moment_match(x, correction=0.5), "whole number"),
    "complex covariances": (lambda: metrics.gaussian_kl(mean, cov, mean, cov * 1j), "cov_q must be floating point"),
    "a seed beyond 32 bits": (lambda: metrics.evenness(whole[:, 0], 3, seed=2**32), "0..4294967295"),
    "no dimension": (lambda: metrics.bits_per_dim(3.0, 0), "dims must be 1 or more; got 0"),
    "one level": (lambda: metrics.bits_per_dim(3.0, 4, levels=1), "2 or more; got 1"),
    "half a dimension": (lambda: metrics.bits_per_dim(3.0, 0.5), "whole number"),
    "log densities in integers": (lambda: metrics.nll(torch.zeros(3).long()), "floating point"),
    "a gap of NaN": (lambda: metrics.relative_gap(NAN, 1.0, 2.0), "nll must be a finite number; got nan"),
    "a gap over an endless NLL": (lambda: metrics.relative_gap(1.0, 0.0, INF), "above the floor"),
    "samples of NaN": (lambda: metrics.modes(x + NAN, ring), "must be finite"),
    "samples in space": (lambda: metrics.modes(torch.zeros(4, 3), ring), "must be (B, 2); got (4, 3)"),
    "no sample": (lambda: metrics.modes(x[:0], ring), "B at least 1"),
    "a radius of 0": (lambda: metrics.modes(x, ring, radius=0.0), "above 0; got 0.0"),
    "a mode of no sample": (lambda: metrics.modes(x, ring, least=0), "1 or more; got 0"),
    "labels out of range": (lambda: metrics.evenness(torch.tensor([5, 6, 7]), 3), "in 0..2; got 5..7"),
    "negative labels": (lambda: metrics.evenness(torch.tensor([-1, 0]), 3), "in 0..2; got -1..0"),
    "labels in floats": (lambda: metrics.evenness(torch.zeros(3), 3), "must be int64"),
    "labels of one draw": (lambda: metrics.evenness(torch.zeros(3).long(), 3, draws=1), "2 or more; got 1"),
    "one-hot labels": (lambda: metrics.evenness(torch.eye(3).long(), 3), "labels must be (n,)"),
    "a region in integers": (lambda: metrics.region_score(weights, region.long()), "must be bool"),
    "a region of another size": (lambda: metrics.region_score(weights, region[:, :1]), "shape of weights"),
    "weights of NaN": (lambda: metrics.region_score(weights + NAN, region), "must be finite"),
    "an empty region": (lambda: metrics.region_score(weights, region & False), "inside and outside"),
    "a tolerance of 2": (lambda: metrics.validity(world.sample(2), world, tolerance=2), "at most 1; got 2"),
    "a tolerance of NaN": (lambda: metrics.validity(world.sample(2), world, tolerance=NAN), "got nan"),
    "the share of no image": (lambda: metrics.validity(world.sample(2)[:0], world), "one image or more"),
    "images of NaN": (lambda: metrics.validity(world.sample(2) + NAN, world), "must be finite"),
    "grey images": (lambda: metrics.validity(world.sample(2)[:, :1], world), "must be (B, 3, 8, 8)"),
    "captions of other images": (lambda: metrics.obeyed_mask(world.sample(2), ["a red disc"], world), "got 1"),
    "samples of NaN on a line": (lambda: metrics.wasserstein_1d(x[:, 0] + NAN, y[:, 0]), "must be finite"),
    "samples in integers on a line": (lambda: metrics.wasserstein_1d(whole[:, 0], y[:, 0]), "floating point"),
    "the 0.5th power": (lambda: metrics.wasserstein_1d(x[:, 0], y[:, 0], p=0.5), "at least 1; got 0.5"),
    "moments of NaN": (lambda: metrics.moment_match(x + NAN), "must be finite"),
    "moments of integers": (lambda: metrics.moment_match(whole), "floating point"),
    "a mean of NaN": (lambda: divergences.gaussian_kl(mean + NAN, cov, mean, cov), "mean_p must be finite"),
    "an endless mean": (lambda: divergences.gaussian_w2_squared(mean, cov, mean + INF, cov), "mean_q must be finite"),
    "a covariance of NaN": (lambda: divergences.gaussian_kl(mean, cov * NAN, mean, cov), "cov_p is not finite"),
    "a grid of nothing": (lambda: image_grid(torch.zeros(0, 1, 8, 8)), "1 or more; got (0, 1, 8, 8)"),
    "a grid of one flat image": (lambda: image_grid(torch.zeros(8, 8)), "(B, 1 or 3, H, W)"),
    "a grid of no column": (lambda: image_grid(torch.zeros(2, 1, 8, 8), columns=-1), "B and columns 1 or more"),
}


@pytest.mark.parametrize(("call", "words"), REFUSED.values(), ids=REFUSED)
def test_it_is_refused(call: Callable[[], object], words: str) -> None:
    refused(call, words)
