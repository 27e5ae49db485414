"""Whole turns of chapter 03's games, sample by sample as the papers' algorithms are printed."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from minigen.nets.mlp import MLPDiscriminator, MLPGenerator
from minigen.objectives import Relativistic, Wasserstein
from minigen.train.rng import Rng

X = torch.randn(6, 2, generator=torch.Generator().manual_seed(5))


def players() -> tuple[MLPGenerator, MLPDiscriminator]:
    torch.manual_seed(1)
    return MLPGenerator(2, (2,), hidden=(8,), bounded=False), MLPDiscriminator((2,), hidden=(8,))


def slope(network: nn.Module, point: torch.Tensor) -> torch.Tensor:
    return torch.autograd.functional.jacobian(lambda x: network(x[None])[0], point)


def test_the_critics_loss_is_that_of_algorithm_1_of_gulrajani() -> None:
    generator, critic = players()
    game = Wasserstein(generator, critic, critic_steps=2, penalty=10.0)
    losses = [loss.item() for _, loss, _ in game.turns(X, Rng(seed=3))]
    rng = Rng(seed=3)
    for k in range(2):  # two moves of the critic, each with real samples of its own
        real = X[k::2]
        fakes = generator(rng.normal(3, 2)).detach()
        u = rng.uniform(3)
        total = 0.0
        for x, fake, share in zip(real, fakes, u, strict=True):
            hat = share * x + (1 - share) * fake
            norm = math.sqrt(float((slope(critic, hat) ** 2).sum()))
            total += (critic(fake[None]) - critic(x[None])).item() + 10 * (norm - 1) ** 2
        assert losses[k] == pytest.approx(total / 3, abs=1e-6)
    last = generator(rng.normal(3, 2))
    assert losses[2] == pytest.approx(-sum(critic(x[None]).item() for x in last) / 3, abs=1e-6)


def test_the_discriminators_loss_is_that_of_huang() -> None:
    generator, discriminator = players()
    game = Relativistic(generator, discriminator, r1=0.7, r2=0.3)
    losses = [loss.item() for _, loss, _ in game.turns(X, Rng(seed=3))]
    fakes = generator(Rng(seed=3).normal(6, 2)).detach()
    d = g = 0.0
    for x, fake in zip(X, fakes, strict=True):
        gap = (discriminator(x[None]) - discriminator(fake[None])).item()
        penalties = 0.7 / 2 * (slope(discriminator, x) ** 2).sum() + 0.3 / 2 * (slope(discriminator, fake) ** 2).sum()
        d += math.log(1 + math.exp(-gap)) + float(penalties)
        g += math.log(1 + math.exp(gap))
    assert losses == [pytest.approx(d / 6, abs=1e-6), pytest.approx(g / 6, abs=1e-6)]
