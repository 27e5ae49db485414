"""The exercise `elbo.kl_to_prior`: KL of a diagonal Gaussian to the standard normal."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from minigen.homework.contract import Contract, Input, gradients
from minigen.homework.mistakes import CUT, HALF_SUBTRACTED_ONCE, IN_BITS, KL_AVERAGED, KL_SUMMED, KL_TWICE
from minigen.objectives import elbo


def kl_to_prior(mean: Tensor, log_std: Tensor) -> Tensor:
    """KL(N(mean, diag std^2) || N(0, I)) of each latent in nats, (B, L) to (B,)."""
    return elbo.kl_to_prior(mean, log_std).sum(1)


def _latents() -> list[Input]:
    generator = torch.Generator().manual_seed(0)
    mean, log_std = torch.randn(2, 3, 4, generator=generator)
    return [
        Input((torch.tensor([[1.5]]), torch.tensor([[0.5]])), "one latent dimension"),
        Input((mean, log_std / 2), "random latents"),
        Input((torch.zeros(2, 3), torch.zeros(2, 3)), "latents that are the prior's"),
        Input((torch.tensor([[30.0, -40.0]]), torch.tensor([[-9.0, 3.0]])), "a latent far from the prior"),
    ]


CONTRACT = Contract(
    kl_to_prior,
    _latents,
    {
        "sign": (
            lambda m, s: -kl_to_prior(m, s),
            "this is minus the KL, which is never negative; change the sign (the bound subtracts it afterwards)",
        ),
        "twice": (
            lambda m, s: 2 * kl_to_prior(m, s),
            KL_TWICE,
        ),
        "1/2 missing before the squares": (
            lambda m, s: (m.square() + (2 * s).exp() - 1 - s).sum(1),
            "mean^2 + std^2 - 1 lacks its factor 1/2; the log of the deviation alone has none",
        ),
        "half of the log": (
            lambda m, s: 0.5 * (m.square() + (2 * s).exp() - 1 - s).sum(1),
            "the formula with 1/2 before everything has log std^2 = 2 log_std in it; log_std is the log of std",
        ),
        "log_std as log variance": (
            lambda m, s: kl_to_prior(m, s / 2),
            "takes log_std for the log of the variance; the variance is exp(2 log_std)",
        ),
        "std not squared": (
            lambda m, s: (0.5 * (m.square() + s.exp() - 1) - s).sum(1),
            "puts the standard deviation where the variance belongs; std^2 = exp(2 log_std)",
        ),
        "log_std as std": (
            lambda m, s: (0.5 * (m.square() + s.square() - 1) - s.abs().log()).sum(1),
            "takes log_std for the standard deviation itself; that is exp(log_std)",
        ),
        "the log's sign": (
            lambda m, s: kl_to_prior(m, s) + 2 * s.sum(1),
            "the log has the wrong sign; a narrow posterior costs more: subtract log_std",
        ),
        "no log": (
            lambda m, s: kl_to_prior(m, s) + s.sum(1),
            "leaves out the log; without it the posterior would be free to shrink to a point: subtract log_std",
        ),
        "-1 forgotten": (
            lambda m, s: kl_to_prior(m, s) + 0.5 * m.shape[1],
            "the KL of the prior to itself must be 0; subtract 1/2 for each dimension",
        ),
        "-1 once": (
            lambda m, s: kl_to_prior(m, s) + 0.5 * (m.shape[1] - 1),
            HALF_SUBTRACTED_ONCE,
        ),
        "mean not squared": (
            lambda m, s: kl_to_prior(torch.zeros_like(m), s) + m.sum(1) / 2,
            "the mean is not squared, so that its sign changes the KL; take mean^2",
        ),
        "mean ignored": (
            lambda m, s: kl_to_prior(torch.zeros_like(m), s),
            "the mean does not enter; add mean^2 / 2",
        ),
        "reversed": (
            lambda m, s: (0.5 * ((1 + m.square()) * (-2 * s).exp() - 1) + s).sum(1),
            "this is KL(prior || q); the bound has KL(q || prior), an expectation under q",
        ),
        "mean over the dimensions": (
            lambda m, s: kl_to_prior(m, s) / m.shape[1],
            "averages over the latent dimensions; independent dimensions' divergences add up: take the sum",
        ),
        "not summed": (elbo.kl_to_prior, "gives one divergence for each latent dimension; sum over them"),
        "mean over the batch": (
            lambda m, s: kl_to_prior(m, s).mean(),
            KL_AVERAGED,
        ),
        "sum over the batch": (
            lambda m, s: kl_to_prior(m, s).sum(),
            KL_SUMMED,
        ),
        "in bits": (
            lambda m, s: kl_to_prior(m, s) / math.log(2),
            IN_BITS,
        ),
        "no gradient": (lambda m, s: kl_to_prior(m, s).detach(), CUT),
    },
    gradients("mean", "log_std"),
)
