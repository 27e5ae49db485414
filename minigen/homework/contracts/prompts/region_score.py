"""The exercise `prompts.region_score`: how well attention singles out a region."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from minigen import metrics
from minigen.homework.contract import Contract, Function, Input


def region_score(weights: Tensor, region: Tensor) -> Tensor:
    """The probability that a place of the region has more of the weights (H, W) than one outside of it, ties half.

    region: (H, W) bool, with places inside and outside of it.
    """
    return metrics.region_score(weights[None], region[None])[0]


def _maps() -> list[Input]:
    generator = torch.Generator().manual_seed(0)
    region = torch.zeros(6, 7, dtype=torch.bool)
    region[1:4, 2:5] = True
    weights = torch.rand(6, 7, generator=generator) + 0.2 * region
    peak = torch.where(region, 0.01 * weights, 0.1 * weights)
    peak[2, 3] = 40.0
    rounded = (4 * weights).round() / 4
    few = torch.tensor([[0.75, 0.25, 0.5], [0.5, 0.0, 0.25]]), torch.tensor([[1, 0, 1], [0, 0, 0]]).bool()
    return [
        Input(few, "six places"),
        Input((weights, region), "random weights, more of them inside"),
        Input((rounded, region), "weights of which many are equal"),
        Input((peak, region), "one large weight inside, and small ones around it"),
        Input((torch.full((6, 7), 0.25), region), "weights that are all equal"),
        Input((weights * 10.0 ** torch.linspace(-30, 0, 42).view(6, 7), ~region), "weights from 1e-30 to 1"),
    ]


def _chance(win: Callable[[Tensor], Tensor]) -> Function:
    """A mean over pairs of a place inside and one outside, made of the difference of their weights."""
    return lambda w, r: win(w[r][:, None] - w[~r]).double().mean()


def _wins(w: Tensor, r: Tensor) -> Tensor:
    """The number of pairs that the inside wins."""
    return region_score(w, r) * r.sum() * (~r).sum()


def _overlap(w: Tensor, r: Tensor) -> Tensor:
    high = w > w.mean()
    return (high & r).sum() / (high | r).sum()


def _highest(w: Tensor, r: Tensor) -> Tensor:
    """Whether each of the highest weights, as many as the region has places, is inside."""
    return r.flatten()[w.flatten().topk(int(r.sum())).indices].float()


def _ranks(w: Tensor) -> Tensor:
    """1 for the lowest weight, up to their number for the highest; ties share their mean rank."""
    flat = w.flatten()
    below, equal = (flat[:, None] > flat).sum(1), (flat[:, None] == flat).sum(1)
    return (below + (equal + 1) / 2).view_as(w)


CONTRACT = Contract(
    region_score,
    _maps,
    {
        "share of the weight": (
            lambda w, r: w[r].sum() / w.sum(),
            "the share of the weight inside, which grows with the region and hangs on one large weight; compare places"
            " in pairs",
        ),
        "weight inside": (
            lambda w, r: w[r].sum(),
            "adds up the weight inside; compare each place inside with each outside",
        ),
        "by the mean of all": (
            lambda w, r: w[r].mean() / w.mean(),
            "the mean inside by the mean of all; one large weight decides it: compare places in pairs",
        ),
        "ratio of means": (
            lambda w, r: w[r].mean() / w[~r].mean(),
            "the mean inside by the mean outside; one large weight decides it: compare places in pairs",
        ),
        "difference of means": (
            _chance(lambda difference: difference),
            "averages the differences of weights; it is how often they are positive that counts",
        ),
        "overlap": (
            _overlap,
            "the overlap of the region and the weights above their mean, by the union of both; compare places in pairs,"
            " without a limit",
        ),
        "accuracy": (
            lambda w, r: ((w > 0.5) == r).float().mean(),
            "counts places where the region and a weight above 0.5 agree; compare places in pairs, without a limit",
        ),
        "the highest": (
            lambda w, r: _highest(w, r).mean(),
            "the share of the highest weights that are inside; the order of all others counts, too",
        ),
        "the peak": (
            lambda w, r: r.flatten()[w.argmax()].float(),
            "asks whether the largest weight is inside; the order of all others counts, too",
        ),
        "mean against all": (
            lambda w, r: (w[r].mean() > w[~r]).float().mean(),
            "compares the mean inside with each place outside; compare each place inside",
        ),
        "ties lose": (
            _chance(lambda difference: difference > 0),
            "counts ties as lost, so that equal weights have a score of 0; they count half",
        ),
        "ties win": (
            _chance(lambda difference: difference >= 0),
            "counts ties as won, so that equal weights have a score of 1; they count half",
        ),
        "ties whole and half": (
            _chance(lambda difference: (difference >= 0) + 0.5 * (difference == 0)),
            "counts ties once with >= and half a time again; they count half",
        ),
        "inverted": (
            lambda w, r: region_score(w, ~r),
            "has inside and outside swapped: it is the inside that should have more weight",
        ),
        "count": (
            _wins,
            "counts the pairs; divide by how many there are, places inside times places outside",
        ),
        "by all pairs": (
            lambda w, r: _wins(w, r) / w.numel() ** 2,
            "divides by all pairs of places; only those with one inside and one outside are compared",
        ),
        "against everything": (
            lambda w, r: ((w[r][:, None] > w.flatten()) + 0.5 * (w[r][:, None] == w.flatten())).mean(),
            "compares places inside with all places, the region's own included; compare with those outside",
        ),
        "mean rank": (
            lambda w, r: _ranks(w)[r].mean(),
            "this is the mean rank inside; subtract (n + 1) / 2, that of its n places among themselves, and divide by"
            " the number outside",
        ),
        "rank sum": (
            lambda w, r: _ranks(w)[r].sum() / (r.sum() * (~r).sum()),
            "divides the whole sum of ranks; subtract n (n + 1) / 2 first, the ranks of the n places among themselves",
        ),
        "Gini": (
            lambda w, r: 2 * region_score(w, r) - 1,
            "twice the score less 1, which is 0 by chance; a probability is asked for, 0.5 by chance",
        ),
        "correlation": (
            lambda w, r: torch.corrcoef(torch.stack([w.flatten(), r.flatten().to(w.dtype)]))[0, 1],
            "the correlation of weights and region, which one large weight decides; compare places in pairs",
        ),
    },
)
