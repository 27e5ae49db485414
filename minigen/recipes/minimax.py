"""GANs that were measured to work: in the plane, and of small images with fully connected networks (chapter 02)."""

from __future__ import annotations

from typing import Any, TypedDict

import torch
from torch import Tensor, nn

from minigen.nets.mlp import MLPDiscriminator, MLPGenerator
from minigen.objectives.minimax import Minimax
from minigen.recipes.recipe import Recipe
from minigen.recipes.targets import TARGETS, Plane
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
    **options: Any,
) -> tuple[Run, Stream]:
    """A GAN in the plane, and its endless data: non-saturating loss, R1, averaged generator, decay in the second half.

    scale: multiplies the discriminator's input. bounded: the generator ends in tanh. options: of `Run`, such as sync.
    """
    torch.manual_seed(seed)
    generator = MLPGenerator(2, (2,), hidden=(64,) * 3, bounded=bounded, activation=nn.Tanh, scale=2.0)
    discriminator = MLPDiscriminator((2,), hidden=(64,) * 3, scale=scale)
    game = Minimax(generator, discriminator, r1=r1).to(device)
    decay, optimizers = linear_decay(steps, hold=0.5), adams(game, rate, betas=betas)
    run = Run(game, optimizers, average={"generator": 0.998}, schedule=decay, seed=seed, **options)
    return run, Stream(world.sample, batch_size=batch_size, seed=seed, device=device)


def image_gan(
    shape: tuple[int, ...],
    *,
    steps: int,
    latent: int = 32,
    hidden: tuple[int, ...] = (256, 256),
    rate: float = 1e-3,
    r1: float = 0.1,
    seed: int = 0,
    device: torch.device | str = "cpu",
    **options: Any,
) -> Run:
    """The same game for small images of a shape (C, H, W) in [-1, 1]. options: of `Run`, such as sync and precision."""
    torch.manual_seed(seed)
    game = Minimax(MLPGenerator(latent, shape, hidden=hidden), MLPDiscriminator(shape, hidden=hidden), r1=r1).to(device)
    decay, optimizers = linear_decay(steps, hold=0.5), adams(game, rate, betas=(0.5, 0.99))
    return Run(game, optimizers, average={"generator": 0.995}, schedule=decay, seed=seed, **options)


def digits_gan(images: Tensor, *, steps: int, seed: int = 0, device: torch.device | str = "cpu") -> tuple[Run, Batches]:
    """An `image_gan` of images (N, C, H, W) in [-1, 1], and its batches of 64."""
    run = image_gan(tuple(images.shape[1:]), steps=steps, seed=seed, device=device)
    return run, Batches(images, batch_size=64, seed=seed, device=device)


def samples(run: Run, n: int, *, seed: int = 1) -> Tensor:
    """n samples of a GAN run's averaged generator, on the CPU; the same noise for the same seed."""
    game = run.objective
    assert isinstance(game, Minimax)
    source = torch.Generator(run.device).manual_seed(seed)
    return game.sample(n, generator=source, network=run.average["generator"]).cpu()


def _plane(name: str, settings: PlaneSettings, *, steps: int, full_steps: int, reaches: str) -> Recipe:
    target = TARGETS[name]
    assert isinstance(target, Plane)

    def build(**given: Any) -> Run:
        return plane_gan(target.world, **settings, **given)[0]

    return Recipe("minimax", target, steps, full_steps, settings["batch_size"], build, samples, reaches)


def _images(name: str, *, steps: int, full_steps: int, batch_size: int, reaches: str, **settings: Any) -> Recipe:
    target = TARGETS[name]

    def build(**given: Any) -> Run:
        return image_gan(target.shape, **settings, **given)

    return Recipe("minimax", target, steps, full_steps, batch_size, build, samples, reaches)


MINIMAX = [
    _plane(
        "ring",
        RING,
        steps=5_000,
        full_steps=20_000,
        reaches="15 s; all 8 spots, 97 to 99 % of samples within 3 standard deviations (exact samples: 99 %; 20 seeds)",
    ),
    _plane(
        "grid",
        GRID,
        steps=5_000,
        full_steps=30_000,
        reaches="20 s; all 25 spots, 87 to 93 % within 3 standard deviations (exact samples: 99 %; 20 seeds)",
    ),
    _images(
        "shapes",
        steps=6_000,
        full_steps=60_000,
        batch_size=128,
        reaches="50 s; 56 to 61 % of samples valid (exact samples: 100 %), at least 71 of 72 templates hit (3 seeds)",
        latent=16,
        r1=1.0,
    ),
    _images(
        "digits",
        steps=3_000,
        full_steps=30_000,
        batch_size=64,
        reaches="15 s; most are legible, none is a copy; less varied than real ones: pixel recall 0.29 (real: 0.81)",
    ),
    _images(
        "mnist",
        steps=10_000,
        full_steps=100_000,
        batch_size=64,
        reaches="90 s; most are legible, some smeared; pixel precision 0.73, recall 0.60 (real: 0.86, 0.87); measured "
        "with a subset of 10,000",
    ),
    _images(
        "fashion_mnist",
        steps=10_000,
        full_steps=100_000,
        batch_size=64,
        reaches="the settings of mnist; not measured",
    ),
]
