"""The exercise `contrastive.info_nce`: loss of finding the own caption among those of a batch."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from minigen.homework.contract import Contract, gradients
from minigen.homework.contracts.contrastive._pairs import matrices, over_everything, own_left_out, own_twice
from minigen.homework.mistakes import (
    CAPTION_UNDERFLOWS,
    CUT,
    IN_BITS,
    LOG_PROBABILITY,
    NO_MEAN,
    ONE_LARGEST,
    SOFTMAX_EPSILON,
    SOFTMAX_OVERFLOWS,
    lse_with_one_shift,
    tempered,
)
from minigen.objectives import contrastive


def info_nce(scores: Tensor) -> Tensor:
    """Minus the log-probability of the own caption among the N of its row, averaged: nats, from scores (N, N)."""
    return contrastive.info_nce(scores).mean()


COMMON = Contract(
    info_nce,
    matrices,
    {
        "sign": (
            lambda s: -info_nce(s),
            LOG_PROBABILITY,
        ),
        "columns": (
            lambda s: info_nce(s.mT),
            "takes the softmax down the columns: which image belongs to a caption; along a row the question is which"
            " caption belongs to an image",
        ),
        "both directions": (
            contrastive.symmetric_loss,
            "averages both directions; here the rows alone are asked for",
        ),
        "sum": (
            lambda s: len(s) * info_nce(s),
            "sums over the images, so that the loss grows with the batch; take the mean",
        ),
        "one number an image": (
            contrastive.info_nce,
            NO_MEAN,
        ),
        "over everything": (
            over_everything,
            "takes one softmax over all N^2 scores; each image has a choice of its own, among the captions of its row",
        ),
        "own left out": (
            own_left_out,
            "leaves the own pair out of the sum; the choice is among all N, the own one included",
        ),
        "own twice": (
            own_twice,
            "has the own pair in the sum twice, once more beside the N scores of the row, which hold it already",
        ),
        "mean in the denominator": (
            lambda s: info_nce(s) - math.log(len(s)),
            "divides by the mean of the row, not by its sum: that is minus the bound; the loss has no log N in it",
        ),
        "own scores alone": (
            lambda s: -s.diagonal().mean(),
            "takes the own scores alone, which any constant makes better; subtract the log-sum-exp of the row",
        ),
        "no log": (
            lambda s: -s.softmax(1).diagonal().mean(),
            "averages probabilities; the loss is minus the mean of their logs",
        ),
        "log of the mean": (
            lambda s: -s.softmax(1).diagonal().mean().log(),
            "takes the log of the mean probability; take the mean of the logs",
        ),
        "softmax twice": (
            lambda s: info_nce(s.softmax(1)),
            "takes the softmax before a loss that takes scores and does so itself; give it the scores",
        ),
        "the first caption": (
            lambda s: -s.log_softmax(1)[:, 0].mean(),
            "takes column 0 for the own caption, as where the positive stands first; here it stands on the diagonal",
        ),
        "the next caption": (
            lambda s: info_nce(s.roll(-1, 1)),
            "takes the caption of the next pair for the own one; own pairs stand on the diagonal",
        ),
        "yes or no": (
            lambda s: binary_cross_entropy_with_logits(s, torch.eye(len(s))),
            "asks of each pair alone whether it belongs together; here one of N captions is picked: a softmax",
        ),
        "in bits": (
            lambda s: info_nce(s) / math.log(2),
            IN_BITS,
        ),
        "underflow": (
            lambda s: -s.softmax(1).diagonal().log().mean(),
            CAPTION_UNDERFLOWS,
        ),
        "overflow": (
            lambda s: -(s.exp().diagonal() / s.exp().sum(1)).log().mean(),
            SOFTMAX_OVERFLOWS,
        ),
        "one largest for all": (
            lambda s: (lse_with_one_shift(s, 1)[:, 0] - s.diagonal()).mean(),
            ONE_LARGEST.format("row"),
        ),
        "a small number in the log": (
            lambda s: -(s.softmax(1).diagonal() + 1e-8).log().mean(),
            SOFTMAX_EPSILON,
        ),
        "no gradient": (lambda s: info_nce(s).detach(), CUT),
    },
    gradients("scores"),
)


CONTRACT = tempered(COMMON, 0)
