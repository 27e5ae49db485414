"""The exercise `conditional.noisy_log_prob`: what the game learns where labels lie."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from minigen.homework.contract import Contract, Input
from minigen.homework.mistakes import EXP_UNDERFLOWS, ONE_LARGEST, doubles
from minigen.objectives import conditional

lies = conditional.noisy_log_prob


def _worlds() -> list[Input]:
    generator = torch.Generator().manual_seed(0)
    flips = torch.stack([doubles(0.8, 0.1, 0.1), doubles(0.3, 0.6, 0.1), doubles(0.2, 0.3, 0.5)])
    prior = doubles(0.5, 0.3, 0.2)
    log_p = 2 * torch.randn(5, 3, generator=generator, dtype=torch.float64)
    two = torch.stack([doubles(0.9, 0.1), doubles(0.4, 0.6)])
    return [
        Input((doubles(-1.0, -2.0)[None], two, doubles(0.7, 0.3)), "one image, two labels"),
        Input((log_p, flips, prior), "random log-densities, three labels"),
        Input((log_p[:3] - torch.tensor([[900.0], [-900.0], [0.0]]), flips, prior), "log-densities near -900 and 900"),
        Input((log_p[:3] - 900 * (1 - torch.eye(3)).roll(1, 0), flips, prior), "labels whose densities are 900 apart"),
    ]


def _mixed(weights: Tensor, log_prob: Tensor) -> Tensor:
    """The log of sums of densities with weights (true, observed)."""
    return torch.logsumexp(log_prob[:, :, None] + weights.log(), dim=1)


def _cause(transition: Tensor, prior: Tensor) -> Tensor:
    joint = prior[:, None] * transition
    return joint / joint.sum(0)


def _one_shift(log_prob: Tensor, transition: Tensor, prior: Tensor) -> Tensor:
    top = log_prob.max()
    return ((log_prob - top).exp() @ _cause(transition, prior)).log() + top


CONTRACT = Contract(
    lies,
    _worlds,
    {
        "the noise itself": (
            lambda x, t, p: _mixed(t, x),
            "weighs by P(observed | true); an observed label is given, so it is P(true | observed), by Bayes' rule",
        ),
        "the noise transposed": (
            lambda x, t, p: _mixed(t.mT, x),
            "weighs by the transposed noise, which leaves out how frequent the labels are; use Bayes' rule",
        ),
        "even labels": (
            lambda x, t, p: _mixed(t / t.sum(0), x),
            "takes all labels for equally frequent; the joint probability is the prior times P(observed | true)",
        ),
        "joint": (
            lambda x, t, p: _mixed(p[:, None] * t, x),
            "this is the joint density with the observed label; divide by the probability of that label",
        ),
        "divided by the true label's": (
            lambda x, t, p: _mixed(p[:, None] * t / p[:, None].sum(), x) - p.log(),
            "divides by the prior of the true label; divide by the probability of the observed one",
        ),
        "rows and columns": (
            lambda x, t, p: _mixed(_cause(t, p).mT, x),
            "sums over the observed label; the sum is over the true one, the row",
        ),
        "true label": (
            lambda x, t, p: x + 0 * _mixed(t, x),
            "gives back the density of the true label, as if no label lied",
        ),
        "the whole mixture": (
            lambda x, t, p: torch.logsumexp(x + p.log(), 1, keepdim=True).expand_as(x),
            "mixes all labels by the prior; the observed label still says something",
        ),
        "mean of logs": (
            lambda x, t, p: x @ _cause(t, p),
            "averages log-densities; densities are averaged, and the log comes last",
        ),
        "densities": (
            lambda x, t, p: _mixed(_cause(t, p), x).exp(),
            "gives densities; give their logarithms, which do not overflow",
        ),
        "in bits": (lambda x, t, p: lies(x, t, p) / math.log(2), "this is in bits; in nats, leave out the division"),
        "underflow": (lambda x, t, p: (x.exp() @ _cause(t, p)).log(), EXP_UNDERFLOWS),
        "one largest for all": (_one_shift, ONE_LARGEST.format("image")),
    },
)
