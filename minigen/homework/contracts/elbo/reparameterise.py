"""The exercise `elbo.reparameterise`: sample of a Gaussian, with its gradients."""

from __future__ import annotations

import torch
from torch.nn.functional import softplus

from minigen.homework.contract import Contract, Input, gradients
from minigen.objectives import elbo


def _samples() -> list[Input]:
    generator = torch.Generator().manual_seed(0)
    mean, log_std, noise = torch.randn(3, 4, 3, generator=generator)
    one = torch.tensor([[1.5]]), torch.tensor([[0.5]]), torch.tensor([[-2.0]])
    far = torch.tensor([[30.0, -40.0]]), torch.tensor([[-12.0, 3.0]]), torch.tensor([[2.5, -2.5]])
    return [
        Input(one, "one latent dimension"),
        Input((mean, log_std, noise), "random latents"),
        Input(far, "a needle and a wide posterior"),
    ]


CONTRACT = Contract(
    elbo.reparameterise,
    _samples,
    {
        "log_std as std": (
            lambda m, s, e: m + s * e,
            "multiplies the noise by log_std; the standard deviation is exp(log_std)",
        ),
        "variance for deviation": (
            lambda m, s, e: m + (2 * s).exp() * e,
            "multiplies the noise by the variance; it is the standard deviation, exp(log_std), that scales a sample",
        ),
        "log_std as log variance": (
            lambda m, s, e: m + (s / 2).exp() * e,
            "halves log_std, as for the log of a variance; it is the log of the deviation already: exp(log_std)",
        ),
        "divided by std": (
            lambda m, s, e: m + (-s).exp() * e,
            "divides the noise by the standard deviation; multiply by exp(log_std)",
        ),
        "softplus": (
            lambda m, s, e: m + softplus(s) * e,
            "softplus makes a positive number as well, but log_std is a logarithm: exp(log_std)",
        ),
        "standard noise": (
            lambda m, s, e: m + e,
            "adds the noise as it is; scale it by the standard deviation, exp(log_std)",
        ),
        "noise on everything": (
            lambda m, s, e: (m + s.exp()) * e,
            "multiplies the mean by the noise as well; it shifts the sample: mean + std * noise",
        ),
        "no noise": (
            lambda m, s, e: m + 0 * s,
            "gives the mean of q and no sample of it; add std * noise",
        ),
        "noise subtracted": (
            lambda m, s, e: m - s.exp() * e,
            "subtracts the noise; the law is the same, but this exercise is about mean + std * noise",
        ),
        "mean detached": (
            lambda m, s, e: m.detach() + s.exp() * e,
            "the value is right, but no gradient reaches the mean; do not detach it",
        ),
        "std detached": (
            lambda m, s, e: m + s.exp().detach() * e,
            "the value is right, but no gradient reaches log_std; do not detach the deviation",
        ),
        "detached": (
            lambda m, s, e: elbo.reparameterise(m, s, e).detach(),
            "the value is right, but no gradient reaches the encoder, which is what the formula is for; do not detach,"
            " and no torch.no_grad()",
        ),
    },
    gradients("mean", "log_std"),
)
