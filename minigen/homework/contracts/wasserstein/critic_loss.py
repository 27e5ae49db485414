"""The exercise `wasserstein.critic_loss`: what the critic minimises."""

from __future__ import annotations

import torch
from torch.nn.functional import logsigmoid

from minigen.homework.contract import Contract, gradients
from minigen.homework.contracts.minimax._games import two_batches
from minigen.homework.mistakes import CUT, SUM
from minigen.objectives import minimax, wasserstein

CONTRACT = Contract(
    wasserstein.critic_loss,
    two_batches,
    {
        "sign": (
            lambda r, f: r.mean() - f.mean(),
            "this is the distance that the critic maximises; a loss is minimised: change the sign",
        ),
        "absolute value": (
            lambda r, f: (r.mean() - f.mean()).abs(),
            "takes the absolute value: the critic would then score real samples below the fakes as gladly as above",
        ),
        "logs": (
            lambda r, f: -(logsigmoid(r).mean() + logsigmoid(-f).mean()),
            "this is the loss of chapter 02, whose D gives probabilities; a critic's scores enter as they are",
        ),
        "hinge": (
            minimax.hinge_discriminator_loss,
            "this is the hinge loss, which stops at a margin of 1; the critic of a Wasserstein game has no margin",
        ),
        "probabilities": (
            lambda r, f: torch.sigmoid(f).mean() - torch.sigmoid(r).mean(),
            "takes the sigmoid of the scores; a critic's scores are no logits, and the slope of f would not be kept",
        ),
        "sum": (lambda r, f: (f - r).sum(), SUM),
        "fakes alone": (
            lambda r, f: f.mean(),
            "leaves out the real samples, so that a critic may score everything low; subtract E f(x)",
        ),
        "the generator's": (
            lambda r, f: -f.mean(),
            "this is the generator's loss; the critic wants its own samples apart: E f(G(z)) - E f(x)",
        ),
        "half": (
            lambda r, f: 0.5 * (f.mean() - r.mean()),
            "half of it: the two expectations are subtracted, not averaged",
        ),
        "no gradient": (lambda r, f: (f.mean() - r.mean()).detach(), CUT),
    },
    gradients("real_scores", "fake_scores"),
)
