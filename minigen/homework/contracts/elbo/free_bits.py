"""The exercise `elbo.free_bits`: rate with a floor for each latent dimension."""

from __future__ import annotations

import torch

from minigen.homework.contract import Contract, Input, gradients
from minigen.homework.mistakes import CUT
from minigen.objectives import elbo


def _rates() -> list[Input]:
    generator = torch.Generator().manual_seed(0)
    kl = torch.rand(4, 5, generator=generator) * torch.tensor([0.1, 0.6, 1.0, 2.0, 4.0])
    return [
        Input((torch.tensor([[0.1], [0.7]]), 0.25), "two images and one latent dimension"),
        Input((kl, 0.5), "random divergences in 5 dimensions"),
        Input((torch.zeros(3, 4), 0.125), "latents that say nothing"),
        Input((torch.tensor([[900.0, 0.0, 0.01], [1100.0, 0.25, 0.02]]), 2.0), "one dimension that says everything"),
    ]


CONTRACT = Contract(
    elbo.free_bits,
    _rates,
    {
        "no floor": (lambda kl, least: kl.mean(0).sum(), "the plain rate; each dimension must count at least `least`"),
        "before the mean over the batch": (
            lambda kl, least: kl.clamp(min=least).mean(0).sum(),
            "puts the floor under each image's KL; it belongs under the mean over the batch: average first, then clamp",
        ),
        "under the sum": (
            lambda kl, least: kl.mean(0).sum().clamp(min=least),
            "puts one floor under the sum, which a single dimension can pay for; clamp each dimension, then sum",
        ),
        "the whole floor under the sum": (
            lambda kl, least: kl.mean(0).sum().clamp(min=least * kl.shape[1]),
            "puts the floor of all dimensions together under the sum; clamp each dimension, then sum",
        ),
        "under each image's sum": (
            lambda kl, least: kl.sum(1).clamp(min=least).mean(),
            "puts the floor under each image's sum; average over the batch, clamp each dimension, then sum",
        ),
        "ceiling": (
            lambda kl, least: kl.mean(0).clamp(max=least).sum(),
            "takes the smaller of the two, a ceiling; the floor is the larger: clamp(min=least)",
        ),
        "floor subtracted": (
            lambda kl, least: (kl.mean(0) - least).clamp(min=0).sum(),
            "the gradient is right, but the value is too small by `least` for each dimension; take max(least, KL)",
        ),
        "floor added": (
            lambda kl, least: (kl.mean(0) + least).sum(),
            "adds the floor to every dimension, which changes no gradient; take max(least, KL)",
        ),
        "set to zero": (
            lambda kl, least: torch.where(kl.mean(0) > least, kl.mean(0), 0.0).sum(),
            "a dimension below the floor counts 0 here, so that the rate jumps; it counts `least`",
        ),
        "sum over the batch": (
            lambda kl, least: kl.shape[0] * elbo.free_bits(kl, least),
            "multiplies by the number of images; the floor is under a mean over the batch, and the result is for one"
            " image",
        ),
        "the batch summed first": (
            lambda kl, least: kl.sum(0).clamp(min=least).sum(),
            "sums over the batch before the floor, so that a larger batch lies above it; average",
        ),
        "mean over the dimensions": (
            lambda kl, least: kl.mean(0).clamp(min=least).mean(),
            "averages over the latent dimensions; their divergences add up: take the sum",
        ),
        "mean over the latents, not the batch": (
            lambda kl, least: kl.mean(1).clamp(min=least).sum(),
            "averages over the latent dimensions and sums over the batch; the batch is dimension 0",
        ),
        "not summed": (
            lambda kl, least: kl.mean(0).clamp(min=least),
            "gives one number for each latent dimension; sum them",
        ),
        "no gradient": (lambda kl, least: elbo.free_bits(kl, least).detach(), CUT),
    },
    gradients("kl"),
)
