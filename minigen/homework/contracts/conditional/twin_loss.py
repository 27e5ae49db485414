"""The exercise `conditional.twin_loss`: the generator's term with a classifier of its own images beside the other."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div

from minigen.homework.contract import Contract, Input, gradients
from minigen.homework.contracts.conditional._labels import classified, probability, right
from minigen.homework.mistakes import CUT, IN_BITS, SOFTMAX_EPSILON, SOFTMAX_TWICE, SUM
from minigen.objectives import conditional


def _two_classifiers() -> list[Input]:
    generator = torch.Generator().manual_seed(1)
    cases = []
    for case in classified():
        logits, label = case.arguments
        twin = logits.roll(1, 1) + torch.randn(logits.shape, generator=generator)
        cases.append(Input((logits, twin, label), case.description))
    return cases


def _guesses(class_logits: Tensor, twin_logits: Tensor) -> Tensor:
    return kl_div(class_logits.log_softmax(1), twin_logits.log_softmax(1), reduction="batchmean", log_target=True)


CONTRACT = Contract(
    conditional.twin_loss,
    _two_classifiers,
    {
        "the classifier alone": (
            lambda x, t, c: cross_entropy(x, c) + 0 * t.sum(),
            "leaves out the twin: then the generator also makes its classes easy to tell apart",
        ),
        "the twin alone": (
            lambda x, t, c: -cross_entropy(t, c) + 0 * x.sum(),
            "the twin's part alone, which only makes classes hard to tell apart; add -E log C of the classifier",
        ),
        "added": (
            lambda x, t, c: cross_entropy(x, c) + cross_entropy(t, c),
            "adds both cross-entropies, and so sharpens twice; the twin's is subtracted",
        ),
        "swapped": (
            lambda x, t, c: cross_entropy(t, c) - cross_entropy(x, c),
            "the sign, or the two swapped: the generator wants the classifier of real images to be right",
        ),
        "mean of the two": (
            lambda x, t, c: conditional.twin_loss(x, t, c) / 2,
            "halves the difference; leave it whole",
        ),
        "sum": (lambda x, t, c: len(c) * conditional.twin_loss(x, t, c), SUM),
        "logits": (
            lambda x, t, c: (right(t, c) - right(x, c)).mean(),
            "subtracts the logits; the normalisers of two softmaxes differ: use log_softmax of each",
        ),
        "probabilities": (
            lambda x, t, c: (probability(t, c) - probability(x, c)).mean(),
            "subtracts probabilities; it is their logarithms that make a divergence",
        ),
        "between the guesses": (
            lambda x, t, c: _guesses(x, t),
            "the KL of the two guesses, which never looks at the label; the average over labels comes from the batch",
        ),
        "softmax twice": (lambda x, t, c: conditional.twin_loss(x.softmax(1), t.softmax(1), c), SOFTMAX_TWICE),
        "a small number in the log": (
            lambda x, t, c: ((probability(t, c) + 1e-8).log() - (probability(x, c) + 1e-8).log()).mean(),
            SOFTMAX_EPSILON,
        ),
        "never negative": (
            lambda x, t, c: conditional.twin_loss(x, t, c).relu(),
            "cuts at 0: a batch's mean may be negative, and cut off it has no gradient",
        ),
        "in bits": (lambda x, t, c: conditional.twin_loss(x, t, c) / math.log(2), IN_BITS),
        "the twin detached": (
            lambda x, t, c: conditional.twin_loss(x, t.detach(), c),
            "the value is right, but no gradient passes through the twin to the images; leave out .detach()",
        ),
        "no gradient": (lambda x, t, c: conditional.twin_loss(x, t, c).detach(), CUT),
    },
    gradients("class_logits", "twin_logits"),
)
