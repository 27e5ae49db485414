"""Complete set-ups that were measured to work: networks, optimisers, schedule, data. Each gives a run and its batches.

run, batches = plane_gan(GaussianMixture.ring(), steps=5000, **RING)
for step in run(batches, 5000): ...
x = samples(run, 2500)
"""

from __future__ import annotations

from typing import TypedDict

import torch
from torch import Tensor, nn

from minigen.nets.mlp import MLPDiscriminator, MLPGenerator
from minigen.objectives.minimax import Minimax
from minigen.streams import Batches, Stream
from minigen.train import Run, adams, linear_decay
from minigen.worlds import GaussianMixture


class PlaneSettings(TypedDict):
    """What `plane_gan` needs to know of a world: its scale, and how fast to learn."""

    scale: float
    batch_size: int
    rate: float
    betas: tuple[float, float]
    r1: float


# For the published ring (std 0.01, unit circle) and grid (std 0.05). Over 20 seeds: benchmarks/results/bands_02.json.
RING: PlaneSettings = {"scale": 3.0, "batch_size": 128, "rate": 4e-3, "betas": (0.0, 0.99), "r1": 0.001}
GRID: PlaneSettings = {"scale": 1.0, "batch_size": 256, "rate": 2e-3, "betas": (0.0, 0.9), "r1": 0.3}


def plane_gan(
    world: GaussianMixture,
    *,
    steps: int,
    scale: float,
    batch_size: int,
    rate: float,
    betas: tuple[float, float],
    r1: float,
    bounded: bool = False,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> tuple[Run, Stream]:
    """A GAN in the plane, and its endless data: non-saturating loss, R1, averaged generator, decay in the second half.

    scale: multiplies the discriminator's input. bounded: the generator ends in tanh.
    """
    torch.manual_seed(seed)
    generator = MLPGenerator(2, (2,), hidden=(64,) * 3, bounded=bounded, activation=nn.Tanh, scale=2.0)
    discriminator = MLPDiscriminator((2,), hidden=(64,) * 3, scale=scale)
    game = Minimax(generator, discriminator, r1=r1).to(device)
    decay = linear_decay(steps, hold=0.5)
    run = Run(game, adams(game, rate, betas=betas), average={"generator": 0.998}, schedule=decay, seed=seed)
    return run, Stream(world.sample, batch_size=batch_size, seed=seed, device=device)


def digits_gan(images: Tensor, *, steps: int, seed: int = 0, device: torch.device | str = "cpu") -> tuple[Run, Batches]:
    """The same game for small images (N, C, H, W) in [-1, 1]: 32 noise numbers, two hidden layers of 256."""
    torch.manual_seed(seed)
    shape = tuple(images.shape[1:])
    game = Minimax(MLPGenerator(32, shape), MLPDiscriminator(shape), r1=0.1).to(device)
    decay = linear_decay(steps, hold=0.5)
    run = Run(game, adams(game, 1e-3, betas=(0.5, 0.99)), average={"generator": 0.995}, schedule=decay, seed=seed)
    return run, Batches(images, batch_size=64, seed=seed, device=device)


def samples(run: Run, n: int, *, seed: int = 1) -> Tensor:
    """n samples of a GAN run's averaged generator, on the CPU; the same noise for the same seed."""
    game = run.objective
    assert isinstance(game, Minimax)
    source = torch.Generator(run.device).manual_seed(seed)
    return game.sample(n, generator=source, network=run.average["generator"]).cpu()
