"""The exercise `conditional.matching_aware_loss`: three kinds of pairs for the discriminator."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from minigen.homework.contract import Contract, Input, gradients
from minigen.homework.contracts.minimax._games import entropy, sigmoid_log
from minigen.homework.mistakes import (
    CUT,
    REAL_AND_FAKE_SWAPPED,
    SIGMOID_CLAMPED,
    SIGMOID_EPSILON,
    SIGMOID_OVERFLOWS,
    SIGMOID_TWICE,
    SUM,
    tempered,
)
from minigen.objectives import conditional, minimax

loss = conditional.matching_aware_loss


def _three_batches() -> list[Input]:
    generator = torch.Generator().manual_seed(0)
    real, fake, wrong = torch.randn(3, 5, generator=generator) * 2
    ends = torch.tensor([200.0, -200.0])
    return [
        Input((torch.tensor([1.0]), torch.tensor([-2.0]), torch.tensor([0.5])), "one pair of each kind"),
        Input((real, fake, wrong), "random logits"),
        Input((ends, ends, ends.flip(0)), "logits of size 200"),
    ]


def _terms(real: Tensor, fake: Tensor, wrong: Tensor, half: float) -> Tensor:
    return -(logsigmoid(real).mean() + half * logsigmoid(-fake).mean() + half * logsigmoid(-wrong).mean())


CONTRACT = tempered(
    Contract(
        loss,
        _three_batches,
        {
            "sign": (lambda r, f, w: -loss(r, f, w), "this is what D maximises; a loss is minimised: change the sign"),
            "no halves": (
                lambda r, f, w: _terms(r, f, w, 1.0),
                "counts each kind of fake fully, so that fakes outweigh real pairs two to one; each has weight 1/2",
            ),
            "thirds": (
                lambda r, f, w: _terms(r, f, w, 1.0) / 3,
                "averages over the three kinds; real pairs have weight 1 and each kind of fake 1/2",
            ),
            "all halved": (lambda r, f, w: loss(r, f, w) / 2, "halves the real pairs, too; only the fakes are halved"),
            "wrong pairs left out": (
                lambda r, f, w: minimax.discriminator_loss(r, f) + 0 * w.sum(),
                "leaves out real images with wrong labels; give them to D as fakes, with weight 1/2",
            ),
            "wrong pairs for real": (
                lambda r, f, w: -0.5 * (logsigmoid(r).mean() + logsigmoid(w).mean()) - logsigmoid(-f).mean(),
                "calls real images with wrong labels real: then D cannot hear the label",
            ),
            "wrong pairs alone": (
                lambda r, f, w: minimax.discriminator_loss(r, w) + 0 * f.sum(),
                "leaves out the generated pairs, so that D does not answer the generator",
            ),
            "real and fake swapped": (lambda r, f, w: loss(f, r, w), REAL_AND_FAKE_SWAPPED),
            "real and wrong swapped": (
                lambda r, f, w: loss(w, f, r),
                "takes the pairs with wrong labels for the real ones; the order is real, fake, mismatched",
            ),
            "log D of the fakes": (
                lambda r, f, w: -logsigmoid(r).mean() - 0.5 * (logsigmoid(f).mean() + logsigmoid(w).mean()),
                "the last two terms are log D; they should be log(1 - D) = logsigmoid(-l)",
            ),
            "sum": (lambda r, f, w: len(r) * loss(r, f, w), SUM),
            "overflow": (
                lambda r, f, w: (
                    -sigmoid_log(r).mean()
                    - 0.5 * (torch.log(1 - torch.sigmoid(f)) + torch.log(1 - torch.sigmoid(w))).mean()
                ),
                SIGMOID_OVERFLOWS,
            ),
            "clamped": (lambda r, f, w: entropy(r, 1.0) + 0.5 * (entropy(f, 0.0) + entropy(w, 0.0)), SIGMOID_CLAMPED),
            "a small number in the log": (
                lambda r, f, w: (
                    -(torch.sigmoid(r) + 1e-8).log().mean()
                    - 0.5 * ((1 - torch.sigmoid(f) + 1e-8).log() + (1 - torch.sigmoid(w) + 1e-8).log()).mean()
                ),
                SIGMOID_EPSILON,
            ),
            "sigmoid twice": (lambda r, f, w: loss(*map(torch.sigmoid, (r, f, w))), SIGMOID_TWICE),
            "no gradient": (lambda r, f, w: loss(r, f, w).detach(), CUT),
        },
        gradients("real_logits", "fake_logits", "mismatched_logits"),
    ),
    0,
    1,
    2,
)
