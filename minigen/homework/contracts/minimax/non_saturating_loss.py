"""The exercise `minimax.non_saturating_loss`: loss of the generator that does not starve."""

from __future__ import annotations

import torch
from torch.nn.functional import logsigmoid

from minigen.homework.contract import Contract, Input, gradients
from minigen.homework.contracts.minimax._games import entropy, sigmoid_log, two_batches
from minigen.homework.mistakes import (
    CUT,
    PROBABILITIES,
    SIGMOID_CLAMPED,
    SIGMOID_EPSILON,
    SIGMOID_OVERFLOWS,
    SIGMOID_TWICE,
    SUM,
    tempered,
)
from minigen.objectives import minimax


def _one_batch() -> list[Input]:
    return [Input(case.arguments[1:], case.description) for case in two_batches()]


COMMON = Contract(
    minimax.non_saturating_loss,
    _one_batch,
    {
        "saturating": (
            minimax.saturating_loss,
            "this is the saturating loss, E log(1 - D); it starves the generator",
        ),
        "the value's sign": (
            lambda f: -minimax.saturating_loss(f),
            "this is -E log(1 - D): minimising it makes the fakes easier to recognise",
        ),
        "sign": (
            lambda f: -minimax.non_saturating_loss(f),
            "the sign: E log D is maximised by G, so minus it is the loss",
        ),
        "sum": (lambda f: -logsigmoid(f).sum(), SUM),
        "the logits' mean": (
            lambda f: -f.mean(),
            "minus the mean logit: that is the loss of a Wasserstein game; here the logit goes through log sigmoid",
        ),
        "sign and overflow": (lambda f: sigmoid_log(f).mean(), f"the sign, and it {SIGMOID_OVERFLOWS}"),
        "the misprint": (
            lambda f: 1 - logsigmoid(f).mean(),
            "1 - log D in place of -log D: its gradient is right, its value is off by 1",
        ),
        "overflow": (lambda f: -sigmoid_log(f).mean(), SIGMOID_OVERFLOWS),
        "clamped": (lambda f: entropy(f, 1.0), SIGMOID_CLAMPED),
        "a small number in the log": (lambda f: -(torch.sigmoid(f) + 1e-8).log().mean(), SIGMOID_EPSILON),
        "probabilities": (lambda f: -torch.log(f).mean(), PROBABILITIES),
        "sigmoid twice": (lambda f: minimax.non_saturating_loss(torch.sigmoid(f)), SIGMOID_TWICE),
        "no gradient": (lambda f: minimax.non_saturating_loss(f).detach(), CUT),
    },
    gradients("fake_logits"),
)


CONTRACT = tempered(COMMON, 0)
