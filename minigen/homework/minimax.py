"""The exercises of chapter 02."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from minigen.homework.contract import Contract, Input
from minigen.objectives import minimax


def _two_batches() -> list[Input]:
    generator = torch.Generator().manual_seed(0)
    real, fake = torch.randn(2, 5, generator=generator) * 2
    return [
        Input((torch.tensor([1.0]), torch.tensor([-2.0])), "real logit 1, fake logit -2"),
        Input((real, fake), "random logits"),
        Input((torch.tensor([200.0, -200.0]), torch.tensor([200.0, -200.0])), "logits of size 200"),
    ]


def _one_batch() -> list[Input]:
    return [Input(case.arguments[1:], case.description) for case in _two_batches()]


def _densities() -> list[Input]:
    generator = torch.Generator().manual_seed(0)
    log_p, log_q = torch.randn(2, 5, generator=generator) * 2
    return [
        Input((torch.tensor([-1.0]), torch.tensor([-2.0])), "log-densities -1 and -2"),
        Input((log_p, log_q), "random log-densities"),
        Input((torch.tensor([-900.0, -1000.0]), torch.tensor([-1000.0, -900.0])), "log-densities near -1000"),
    ]


def _sigmoid_log(logits: Tensor) -> Tensor:
    return torch.log(torch.sigmoid(logits))


_OVERFLOW = (
    "overflows: log(sigmoid(l)) is -inf for a large negative l, and 1 - sigmoid(l) is 0 for a large l; use logsigmoid"
)
_PROBABILITIES = "takes the arguments for probabilities; they are logits, any real number"

CONTRACTS = {
    "discriminator_loss": Contract(
        minimax.discriminator_loss,
        _two_batches,
        {
            "sign": (
                lambda r, f: minimax.value(r, f),
                "this is V, which D maximises; a loss is minimised: change the sign",
            ),
            "mean of the two halves": (
                lambda r, f: minimax.discriminator_loss(r, f) / 2,
                "half of -V: the two expectations are summed, not averaged (a mean over the joined batch halves it)",
            ),
            "sum": (
                lambda r, f: -(logsigmoid(r) + logsigmoid(-f)).sum(),
                "sums over the batch; an expectation is a mean",
            ),
            "swapped": (
                lambda r, f: minimax.discriminator_loss(f, r),
                "real and fake are swapped: D is asked to call fakes real",
            ),
            "the generator's term": (
                lambda r, f: -(logsigmoid(r).mean() + logsigmoid(f).mean()),
                "the second term is log D(G(z)); it should be log(1 - D(G(z))) = logsigmoid(-l)",
            ),
            "overflow": (lambda r, f: -(_sigmoid_log(r).mean() + torch.log(1 - torch.sigmoid(f)).mean()), _OVERFLOW),
            "probabilities": (lambda r, f: -(torch.log(r).mean() + torch.log(1 - f).mean()), _PROBABILITIES),
        },
    ),
    "non_saturating_loss": Contract(
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
            "sum": (lambda f: -logsigmoid(f).sum(), "sums over the batch; an expectation is a mean"),
            "the misprint": (
                lambda f: 1 - logsigmoid(f).mean(),
                "1 - log D in place of -log D: its gradient is right, its value is off by 1",
            ),
            "overflow": (lambda f: -_sigmoid_log(f).mean(), _OVERFLOW),
            "probabilities": (lambda f: -torch.log(f).mean(), _PROBABILITIES),
        },
    ),
    "optimal_discriminator": Contract(
        minimax.optimal_discriminator,
        _densities,
        {
            "the model's share": (
                lambda p, q: torch.sigmoid(q - p),
                "this is p_g / (p_data + p_g), the probability of being generated",
            ),
            "ratio": (lambda p, q: torch.exp(p - q), "this is the ratio p_data / p_g; D is p_data / (p_data + p_g)"),
            "logit": (minimax.optimal_logit, "this is the logit of D*; apply the sigmoid"),
            "log-densities as densities": (
                lambda p, q: p / (p + q),
                "takes the log-densities for densities: exponentiate, or better, take the sigmoid of their difference",
            ),
            "underflow": (
                lambda p, q: p.exp() / (p.exp() + q.exp()),
                "right for densities of moderate size, but 0/0 where both underflow; use the difference of the logs",
            ),
        },
    ),
}
