"""The exercise `conditional.auxiliary_loss`: what a classifier minimises, from logits."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, logsigmoid

from minigen.homework.contract import Contract, gradients
from minigen.homework.contracts.conditional._labels import classified, hot, probability, right
from minigen.homework.mistakes import (
    CUT,
    IN_BITS,
    LOG_PROBABILITY,
    ONE_LARGEST,
    SOFTMAX_EPSILON,
    SOFTMAX_OVERFLOWS,
    SOFTMAX_TWICE,
    SUM,
    lse_with_one_shift,
)
from minigen.objectives import conditional


def _over_batch(class_logits: Tensor, label: Tensor) -> Tensor:
    return -right(class_logits.log_softmax(0), label).mean()


def _each_alone(class_logits: Tensor, label: Tensor) -> Tensor:
    own = hot(class_logits, label)
    return -(own * logsigmoid(class_logits) + (1 - own) * logsigmoid(-class_logits)).sum(1).mean()


def _plain(class_logits: Tensor, label: Tensor) -> Tensor:
    weights = class_logits.exp()
    return -(right(weights, label) / weights.sum(1)).log().mean()


CONTRACT = Contract(
    conditional.auxiliary_loss,
    classified,
    {
        "sign": (lambda x, c: -cross_entropy(x, c), LOG_PROBABILITY),
        "sum": (lambda x, c: cross_entropy(x, c, reduction="sum"), SUM),
        "mean over classes, too": (
            lambda x, c: -(hot(x, c) * x.log_softmax(1)).mean(),
            "averages over the classes as well; only the own label's log-probability counts: sum over classes",
        ),
        "logits alone": (
            lambda x, c: -right(x, c).mean(),
            "minus the logit of the label; without the softmax all logits may grow together for ever",
        ),
        "probability": (
            lambda x, c: -probability(x, c).mean(),
            "minus the probability of the label; its logarithm is missing",
        ),
        "accuracy": (
            lambda x, c: (x.argmax(1) != c).float().mean() + 0 * x.sum(),
            "the share of errors, which has no gradient; take -log of the probability of the label",
        ),
        "softmax over the batch": (_over_batch, "takes the softmax over the images; each image chooses among classes"),
        "one question for each class": (
            _each_alone,
            "asks of every class alone whether it fits, by a sigmoid; one label excludes the others: use the softmax",
        ),
        "softmax twice": (lambda x, c: cross_entropy(x.softmax(1), c), SOFTMAX_TWICE),
        "the entropy": (
            lambda x, c: -torch.special.xlogy(x.softmax(1), x.softmax(1)).sum(1).mean(),
            "the entropy of the classifier's own guess; it never looks at the label",
        ),
        "overflow": (_plain, SOFTMAX_OVERFLOWS),
        "a small number in the log": (lambda x, c: -(probability(x, c) + 1e-8).log().mean(), SOFTMAX_EPSILON),
        "one largest for all": (
            lambda x, c: (lse_with_one_shift(x, 1)[:, 0] - right(x, c)).mean(),
            ONE_LARGEST.format("image"),
        ),
        "in bits": (lambda x, c: cross_entropy(x, c) / math.log(2), IN_BITS),
        "no gradient": (lambda x, c: cross_entropy(x, c).detach(), CUT),
    },
    gradients("class_logits"),
)
