"""The exercises of chapter 13 about obeying a caption: images that show what it names, attention that finds it."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from minigen import metrics
from minigen.homework.contract import Contract, Function, Input


def obedience(log_posterior: Tensor, wanted: Tensor) -> Tensor:
    """The share of images that have more than half of log p(caption | image), (B, C), on their own caption, (B,)."""
    return _obeyed(log_posterior, wanted).float().mean()


def _own(log_posterior: Tensor, wanted: Tensor) -> Tensor:
    return log_posterior.gather(1, wanted[:, None])[:, 0]


def _obeyed(log_posterior: Tensor, wanted: Tensor) -> Tensor:
    return _own(log_posterior, wanted) > math.log(0.5)


def _images() -> list[Input]:
    generator = torch.Generator().manual_seed(0)
    logits = 4 * torch.randn(24, 5, generator=generator)
    wanted = torch.where(torch.rand(24, generator=generator) < 0.8, logits.argmax(1), torch.arange(24) % 5)
    half = math.log(0.5)
    sure = torch.tensor(
        [[0.0, -math.inf, -900.0], [half, half, -math.inf], [-math.inf, 0.0, -math.inf], [half, -math.inf, half]]
    )
    flat = (0.3 * torch.randn(8, 12, generator=generator)).log_softmax(1)
    return [
        Input((torch.tensor([[0.6, 0.3, 0.1], [0.3, 0.36, 0.34]]).log(), torch.tensor([0, 1])), "two images"),
        Input((logits.log_softmax(1), wanted), "24 images and five captions"),
        Input((sure, torch.tensor([0, 1, 2, 0])), "images that leave no doubt, or show two captions equally"),
        Input((flat, flat.argmax(1)), "images that show nothing clearly"),
    ]


def _share(obeyed: Callable[[Tensor, Tensor], Tensor]) -> Function:
    """The share of another kind of images."""
    return lambda p, w: obeyed(p, w).float().mean()


OBEDIENCE = Contract(
    obedience,
    _images,
    {
        "the best caption": (
            _share(lambda p, w: p.argmax(1) == w),
            "asks whether the own caption is the most probable one; an image that shows nothing clearly has one, too:"
            " more than half",
        ),
        "at least half": (
            _share(lambda p, w: _own(p, w) >= math.log(0.5)),
            "counts an image that is as likely another caption's; more than half is asked for: >",
        ),
        "mean probability": (
            lambda p, w: _own(p, w).exp().mean(),
            "averages the probabilities of the own captions; count those above 0.5",
        ),
        "mean log-probability": (
            lambda p, w: _own(p, w).mean(),
            "averages log-probabilities, which one impossible caption makes -inf; count the probabilities above 0.5",
        ),
        "mean above half": (
            lambda p, w: (_own(p, w).exp().mean() > 0.5).float(),
            "averages first and compares then, which says yes or no to all; compare each image, then average",
        ),
        "no exp": (
            _share(lambda p, w: _own(p, w) > 0.5),
            "compares log-probabilities with 0.5, and none is above 0; take their exp, or log(0.5)",
        ),
        "half of a nat": (
            _share(lambda p, w: _own(p, w) > -0.5),
            "compares with -0.5; the log of a half is -0.693",
        ),
        "a bit": (
            _share(lambda p, w: _own(p, w) > -1),
            "compares with -1, the log of a half to the base 2; these are natural logarithms: -0.693",
        ),
        "more than chance": (
            _share(lambda p, w: _own(p, w) > -math.log(p.shape[1])),
            "counts what is above chance, 1 / C; more than half is asked for",
        ),
        "any caption": (
            _share(lambda p, w: p.exp().amax(1) > 0.5),
            "counts images that show any caption clearly; it must be the one that was asked for",
        ),
        "every image with every caption": (
            _share(lambda p, w: p[:, w].exp() > 0.5),
            "takes the columns of all captions for every image, (B, B); each has one of its own: gather",
        ),
        "on the diagonal": (
            _share(lambda p, w: p.diagonal().exp() > 0.5),
            "takes the diagonal, as where image i belongs to caption i; here `wanted` says which column",
        ),
        "the whole table": (
            _share(lambda p, w: p.exp() > 0.5),
            "counts over the whole table, other captions and all; it is one number of each row, the own caption's",
        ),
        "yes or no": (
            _share(lambda p, w: (p.exp() > 0.5) == one_hot(w, p.shape[1]).bool()),
            "counts captions that are rightly not shown, too, nearly all where there are many; take the own one alone",
        ),
        "captions averaged": (
            lambda p, w: torch.stack([_obeyed(p, w)[w == c].float().mean() for c in w.unique()]).mean(),
            "averages within each caption, then over captions; every image counts the same here",
        ),
        "softmax over the images": (
            lambda p, w: obedience(p.log_softmax(0), w),
            "takes a softmax over the images; each row holds log-probabilities of one image, which sum to 1 already",
        ),
        "disobedience": (
            lambda p, w: 1 - obedience(p, w),
            "this is the share of images that do not obey",
        ),
        "count": (
            lambda p, w: len(p) * obedience(p, w),
            "counts the images that obey; divide by how many there are",
        ),
        "percent": (
            lambda p, w: 100 * obedience(p, w),
            "this is in percent; a share lies in [0, 1]",
        ),
        "one number an image": (
            lambda p, w: _obeyed(p, w).float(),
            "says which images obey, (B,); take the mean",
        ),
    },
)


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


REGION_SCORE = Contract(
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
