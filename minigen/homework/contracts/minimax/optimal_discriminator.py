"""The exercise `minimax.optimal_discriminator`: best discriminator from log-densities."""

from __future__ import annotations

import torch

from minigen.homework.contract import Contract, Input
from minigen.homework.mistakes import softmax_with_one_shift
from minigen.objectives import minimax


def _densities() -> list[Input]:
    generator = torch.Generator().manual_seed(0)
    log_p, log_q = torch.randn(2, 5, generator=generator) * 2
    return [
        Input((torch.tensor([-1.0]), torch.tensor([-2.0])), "one point"),
        Input((log_p, log_q), "random log-densities"),
        Input((torch.tensor([-900.0, -1000.0]), torch.tensor([-1000.0, -900.0])), "log-densities near -1000"),
        Input((torch.tensor([1000.0, -1000.0, -1000.0]), torch.tensor([999.0, -1001.0, -999.0])), "points 1000 apart"),
    ]


CONTRACT = Contract(
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
        "one largest for all": (
            lambda p, q: softmax_with_one_shift(torch.stack([p, q]), 0)[0],
            "subtracts the largest log-density of all points, so that 0/0 is left where both are far below; use the"
            " difference of the logs at each point",
        ),
        "underflow": (
            lambda p, q: p.exp() / (p.exp() + q.exp()),
            "right for densities of moderate size, but 0/0 where both underflow; use the difference of the logs",
        ),
    },
)
