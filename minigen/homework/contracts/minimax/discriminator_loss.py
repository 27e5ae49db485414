"""The exercise `minimax.discriminator_loss`: loss of the discriminator."""

from __future__ import annotations

import torch
from torch.nn.functional import logsigmoid

from minigen.homework.contract import Contract, gradients
from minigen.homework.contracts.minimax._games import entropy, sigmoid_log, two_batches
from minigen.homework.mistakes import (
    CUT,
    GENERATORS_TERM,
    PROBABILITIES,
    REAL_AND_FAKE_SWAPPED,
    SIGMOID_CLAMPED,
    SIGMOID_EPSILON,
    SIGMOID_OVERFLOWS,
    SIGMOID_TWICE,
    SUM,
    tempered,
)
from minigen.objectives import minimax

COMMON = Contract(
    minimax.discriminator_loss,
    two_batches,
    {
        "sign": (minimax.value, "this is V, which D maximises; a loss is minimised: change the sign"),
        "mean of the two halves": (
            lambda r, f: minimax.discriminator_loss(r, f) / 2,
            "half of -V: the two expectations are summed, not averaged (a mean over the joined batch halves it)",
        ),
        "sum": (lambda r, f: -(logsigmoid(r) + logsigmoid(-f)).sum(), SUM),
        "swapped": (
            lambda r, f: minimax.discriminator_loss(f, r),
            REAL_AND_FAKE_SWAPPED,
        ),
        "the generator's term": (
            lambda r, f: -(logsigmoid(r).mean() + logsigmoid(f).mean()),
            GENERATORS_TERM,
        ),
        "minus between the terms": (
            lambda r, f: -(logsigmoid(r).mean() - logsigmoid(-f).mean()),
            "subtracts the second expectation; D gains from both, so add them and change the sign of the sum",
        ),
        "overflow": (lambda r, f: -(sigmoid_log(r).mean() + torch.log(1 - torch.sigmoid(f)).mean()), SIGMOID_OVERFLOWS),
        "clamped": (lambda r, f: entropy(r, 1.0) + entropy(f, 0.0), SIGMOID_CLAMPED),
        "a small number in the log": (
            lambda r, f: -((torch.sigmoid(r) + 1e-8).log().mean() + (1 - torch.sigmoid(f) + 1e-8).log().mean()),
            SIGMOID_EPSILON,
        ),
        "probabilities": (lambda r, f: -(torch.log(r).mean() + torch.log(1 - f).mean()), PROBABILITIES),
        "sigmoid twice": (lambda r, f: minimax.discriminator_loss(torch.sigmoid(r), torch.sigmoid(f)), SIGMOID_TWICE),
        "no gradient": (lambda r, f: minimax.discriminator_loss(r, f).detach(), CUT),
    },
    gradients("real_logits", "fake_logits"),
)


CONTRACT = tempered(COMMON, 0, 1)
