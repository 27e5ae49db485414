"""The exercise `contrastive.information_bound`: lower bound of the mutual information."""

from __future__ import annotations

import math

from torch import Tensor

from minigen.homework.contract import Contract, gradients
from minigen.homework.contracts.contrastive._pairs import matrices, others, own_left_out, own_twice
from minigen.homework.contracts.contrastive.info_nce import info_nce
from minigen.homework.mistakes import CAPTION_UNDERFLOWS, CUT, IN_BITS, ONE_LARGEST, lse_with_one_shift
from minigen.objectives import contrastive


def information_bound(scores: Tensor) -> Tensor:
    """The lower bound of the mutual information by scores (N, N), own pairs on the diagonal: nats, a number."""
    return contrastive.information_bound(scores).mean()


def _donsker_varadhan(scores: Tensor) -> Tensor:
    pairs = len(scores) * (len(scores) - 1)
    return scores.diagonal().mean() - others(scores).flatten().logsumexp(0) + math.log(pairs)


CONTRACT = Contract(
    information_bound,
    matrices,
    {
        "log N forgotten": (
            lambda s: -info_nce(s),
            "leaves out log N; without it the bound is never above 0, which is no news",
        ),
        "log N subtracted": (
            lambda s: -info_nce(s) - math.log(len(s)),
            "subtracts log N; it is added: log N minus the loss",
        ),
        "loss added": (
            lambda s: math.log(len(s)) + info_nce(s),
            "adds the loss, so that a bad critic would give a large bound; subtract it from log N",
        ),
        "sign": (
            lambda s: -information_bound(s),
            "this is minus the bound; it is log N minus the loss",
        ),
        "log(N - 1)": (
            lambda s: math.log(len(s) - 1) - info_nce(s),
            "takes log of the N - 1 others; the own one is among the N of the softmax: log N",
        ),
        "log N in bits": (
            lambda s: math.log2(len(s)) - info_nce(s),
            "takes log N in bits and the loss in nats; take both in nats",
        ),
        "in bits": (
            lambda s: information_bound(s) / math.log(2),
            IN_BITS,
        ),
        "N^2": (
            lambda s: 2 * math.log(len(s)) - info_nce(s),
            "takes the log of all N^2 pairs; the choice is among the N of a row",
        ),
        "N divided": (
            lambda s: math.log(len(s)) - info_nce(s) / len(s),
            "divides a mean over rows by N once more",
        ),
        "sum": (
            lambda s: math.log(len(s)) - len(s) * info_nce(s),
            "sums the loss over the rows; take its mean",
        ),
        "one number an image": (
            contrastive.information_bound,
            "gives one number for each row; the bound is their mean",
        ),
        "columns": (
            lambda s: information_bound(s.mT),
            "takes the softmax down the columns; that is a bound too, but the rows are asked for",
        ),
        "both directions": (
            lambda s: math.log(len(s)) - contrastive.symmetric_loss(s),
            "averages both directions; that is a bound too, but the rows are asked for",
        ),
        "cut at 0": (
            lambda s: information_bound(s).clamp(min=0),
            "cuts the bound off at 0; a bad critic's is negative, and should say so",
        ),
        "own scores": (
            lambda s: s.diagonal().mean(),
            "the mean of the own scores is the information if they are the exact log ratio; of others it is nothing",
        ),
        "own left out": (
            lambda s: math.log(len(s) - 1) - own_left_out(s),
            "leaves the own score out of the row's mean, and is then no lower bound: it can exceed log N and the truth",
        ),
        "own twice": (
            lambda s: math.log(len(s)) - own_twice(s),
            "has the own score in the sum twice, once more beside the N of the row",
        ),
        "one mean for all rows": (
            _donsker_varadhan,
            "takes one mean over all other pairs, the bound of Donsker and Varadhan; here each row has its own mean",
        ),
        "no log": (
            lambda s: len(s) * s.softmax(1).diagonal().mean(),
            "the mean ratio, not the mean of its log",
        ),
        "log of the mean": (
            lambda s: math.log(len(s)) + s.softmax(1).diagonal().mean().log(),
            "takes the log of the mean probability, which is larger by Jensen; take the mean of the logs",
        ),
        "one largest for all": (
            lambda s: math.log(len(s)) - (lse_with_one_shift(s, 1)[:, 0] - s.diagonal()).mean(),
            ONE_LARGEST.format("row"),
        ),
        "underflow": (
            lambda s: math.log(len(s)) + s.softmax(1).diagonal().log().mean(),
            CAPTION_UNDERFLOWS,
        ),
        "no gradient": (lambda s: information_bound(s).detach(), CUT),
    },
    gradients("scores"),
)
