"""The exercise `relativistic.discriminator_loss`: which of the two is the real one?"""

from __future__ import annotations

import torch
from torch.nn.functional import logsigmoid

from minigen.homework.contract import Contract, Input, gradients
from minigen.homework.contracts.minimax._games import sigmoid_log, two_batches
from minigen.homework.mistakes import CUT, SIGMOID_OVERFLOWS, SUM, tempered
from minigen.objectives import minimax, relativistic


def _pairs() -> list[Input]:
    sure = Input((torch.tensor([200.0, -200.0]), torch.tensor([-200.0, 200.0])), "pairs that differ by 400")
    return [*two_batches(), sure]


COMMON = Contract(
    relativistic.discriminator_loss,
    _pairs,
    {
        "the generator's": (
            relativistic.generator_loss,
            "this is the generator's loss: the difference has the other sign; D wants l(x) above l(G(z))",
        ),
        "separate": (
            minimax.discriminator_loss,
            "judges each sample alone, as in chapter 02; here the logits of a pair are subtracted first",
        ),
        "difference of logs": (
            lambda r, f: -(logsigmoid(r) - logsigmoid(f)).mean(),
            "subtracts the logs of two probabilities; subtract the logits, then take log sigmoid once",
        ),
        "difference of means": (
            lambda r, f: -logsigmoid(r.mean() - f.mean()),
            "averages before the log sigmoid, so that one pair is left; the mean over pairs comes last",
        ),
        "relativistic average": (
            lambda r, f: -(logsigmoid(r - f.mean()).mean() + logsigmoid(r.mean() - f).mean()),
            "compares each sample with the mean of the others: the relativistic average loss; here pairs are",
        ),
        "no log": (
            lambda r, f: -torch.sigmoid(r - f).mean(),
            "leaves out the log, so that a pair far on the wrong side has no slope",
        ),
        "Wasserstein": (
            lambda r, f: (f - r).mean(),
            "this is a critic's loss, without log sigmoid: it has no lower end",
        ),
        "sign": (
            lambda r, f: logsigmoid(r - f).mean(),
            "this is the log-likelihood, which is maximised; a loss is minimised: change the sign",
        ),
        "sum": (lambda r, f: -logsigmoid(r - f).sum(), SUM),
        "overflow": (lambda r, f: -sigmoid_log(r - f).mean(), SIGMOID_OVERFLOWS),
        "no gradient": (lambda r, f: relativistic.discriminator_loss(r, f).detach(), CUT),
    },
    gradients("real_logits", "fake_logits"),
)


CONTRACT = tempered(COMMON, 0, 1)
