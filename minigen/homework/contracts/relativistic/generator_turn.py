"""The exercise `relativistic.generator_turn`: the loss of the other turn needs real samples, too."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from minigen.homework.contract import Contract, gradients
from minigen.homework.contracts.minimax._games import games, sigmoid_log
from minigen.homework.mistakes import SIGMOID_OVERFLOWS, SIGMOID_TWICE, SUM
from minigen.objectives import minimax, relativistic


def generator_turn(discriminator: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
    """The loss that G minimises in its turn, on pairs (B, ...); its gradient passes through D to the fakes."""
    return relativistic.generator_loss(discriminator(real), discriminator(fake))


CONTRACT = Contract(
    generator_turn,
    games,
    {
        "detached": (
            lambda d, x, g: relativistic.generator_loss(d(x), d(g.detach())),
            "no gradient reaches the fakes, so that the generator cannot learn; detach belongs in D's turn alone",
        ),
        "the discriminator's": (
            lambda d, x, g: relativistic.discriminator_loss(d(x), d(g)),
            "this is D's loss: minimising it makes the fakes easier to tell; exchange the two logits",
        ),
        "minus the discriminator's": (
            lambda d, x, g: -relativistic.discriminator_loss(d(x), d(g)),
            "the saturating form: its slope vanishes where D tells the pair; use log sigmoid(l(G(z)) - l(x))",
        ),
        "fakes alone": (
            lambda d, x, g: minimax.non_saturating_loss(d(g)),
            "judges the fake alone, as in chapter 02; the pair has a real sample, whose logit is subtracted",
        ),
        "one real sample for all": (
            lambda d, x, g: relativistic.generator_loss(d(x)[:1].expand(len(g)), d(g)),
            "pairs every fake with the first real sample; pair the i-th with the i-th",
        ),
        "mean of the real": (
            lambda d, x, g: minimax.non_saturating_loss(d(g) - d(x).mean()),
            "compares with the mean of the real logits: the relativistic average loss; here pairs are compared",
        ),
        "means first": (
            lambda d, x, g: minimax.non_saturating_loss((d(g).mean() - d(x).mean())[None]),
            "averages the logits before the log sigmoid, so that one pair is left; the mean over pairs comes last",
        ),
        "no log": (
            lambda d, x, g: -torch.sigmoid(d(g) - d(x)).mean(),
            "leaves out the log, so that a pair far on the wrong side has no slope",
        ),
        "Wasserstein": (
            lambda d, x, g: (d(x) - d(g)).mean(),
            "this is a Wasserstein game's, without log sigmoid: a fake that is far ahead is still pushed",
        ),
        "sigmoid twice": (
            lambda d, x, g: relativistic.generator_loss(torch.sigmoid(d(x)), torch.sigmoid(d(g))),
            SIGMOID_TWICE,
        ),
        "overflow": (lambda d, x, g: -sigmoid_log(d(g) - d(x)).mean(), SIGMOID_OVERFLOWS),
        "sum": (lambda d, x, g: len(g) * relativistic.generator_loss(d(x), d(g)), SUM),
    },
    gradients("fake"),
)
