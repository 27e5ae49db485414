"""The exercise `minimax.value`: value of the game."""

from __future__ import annotations

import torch
from torch.nn.functional import logsigmoid

from minigen.homework.contract import Contract
from minigen.homework.contracts.minimax._games import entropy, sigmoid_log, two_batches
from minigen.homework.mistakes import GENERATORS_TERM, PROBABILITIES, SIGMOID_CLAMPED, SIGMOID_OVERFLOWS, SUM
from minigen.objectives import minimax

CONTRACT = Contract(
    minimax.value,
    two_batches,
    {
        "min and max swapped": (
            minimax.discriminator_loss,
            "this is -V, which D minimises; V itself, which D maximises and G minimises, has the other sign",
        ),
        "swapped": (lambda r, f: minimax.value(f, r), "real and fake are swapped: D is 1 on data and 0 on fakes"),
        "the generator's term": (
            lambda r, f: logsigmoid(r).mean() + logsigmoid(f).mean(),
            GENERATORS_TERM,
        ),
        "minus between the terms": (
            lambda r, f: logsigmoid(r).mean() - logsigmoid(-f).mean(),
            "subtracts the second expectation; D gains from both, so add it",
        ),
        "mean of the two halves": (
            lambda r, f: minimax.value(r, f) / 2,
            "half of V: the two expectations are summed, not averaged",
        ),
        "sum": (lambda r, f: (logsigmoid(r) + logsigmoid(-f)).sum(), SUM),
        "overflow": (lambda r, f: sigmoid_log(r).mean() + torch.log(1 - torch.sigmoid(f)).mean(), SIGMOID_OVERFLOWS),
        "clamped": (lambda r, f: -entropy(r, 1.0) - entropy(f, 0.0), SIGMOID_CLAMPED),
        "probabilities": (lambda r, f: torch.log(r).mean() + torch.log(1 - f).mean(), PROBABILITIES),
        "no log": (
            lambda r, f: torch.sigmoid(r).mean() + (1 - torch.sigmoid(f)).mean(),
            "adds probabilities; V adds their logs",
        ),
    },
)
