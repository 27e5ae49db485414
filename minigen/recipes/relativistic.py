"""Games of pairs that were measured to work, in the plane and of small images (chapter 03)."""

from __future__ import annotations

from functools import partial

from torch import nn

from minigen.nets.conv import ConvGenerator
from minigen.nets.discriminators import ConvDiscriminator
from minigen.nets.mlp import MLPDiscriminator, MLPGenerator
from minigen.objectives.relativistic import Relativistic
from minigen.recipes.minimax import CIFAR10, DIGITS, FACES, GRID, MNIST, RING, SHAPES, conv_players, samples
from minigen.recipes.recipe import Recipe, hold_half
from minigen.tasks.folder import FolderImages
from minigen.tasks.task import Task

CHAPTER = 3


def plane_pairs(task: Task, *, width: int, latent_scale: float, scale: float, r1: float, r2: float) -> Relativistic:
    """The networks of chapter 02's games in the plane, with the loss of pairs, R1 and R2.

    latent_scale: multiplies the generator's noise; scale: the discriminator's input.
    """
    hidden = (width,) * 3
    generator = MLPGenerator(2, (2,), hidden=hidden, bounded=False, activation=nn.Tanh, scale=latent_scale)
    return Relativistic(generator, MLPDiscriminator((2,), hidden=hidden, scale=scale), r1=r1, r2=r2)


def image_pairs(
    task: Task, *, latent: int = 32, hidden: tuple[int, ...] = (256, 256), r1: float = 0.1, r2: float = 0.1
) -> Relativistic:
    """The same game for small images of a task's shape (C, H, W) in [-1, 1]."""
    networks = MLPGenerator(latent, task.shape, hidden=hidden), MLPDiscriminator(task.shape, hidden=hidden)
    return Relativistic(*networks, r1=r1, r2=r2)


def conv_pairs(task: Task, *, r1: float = 1.0, r2: float = 1.0, **networks: int) -> Relativistic:
    """The same game for larger images. networks: what `conv_players` takes."""
    return Relativistic(*conv_players(task, **networks), r1=r1, r2=r2)


def residual_pairs(
    task: Task, *, latent: int = 32, width: int = 32, features: int = 256, minibatch: bool = True, r1: float, r2: float
) -> Relativistic:
    """The same game with more convolutions at each size, and a discriminator that sees how much a batch varies."""
    discriminator = ConvDiscriminator(task.shape, width=width, features=features, detail=True, minibatch=minibatch)
    return Relativistic(ConvGenerator(latent, task.shape, width=width, blocks=1), discriminator, r1=r1, r2=r2)


def of_folder(path: str | None) -> Recipe:
    """The recipe of a folder of images, 64x64 in colour; without a path, of one that is to be named."""
    return _larger(
        task=FolderImages(path), reaches="the settings of cifar10; not measured: it depends on the images", at=of_folder
    )


_recipe = partial(Recipe, family="relativistic", schedule=hold_half, draw=samples)
_plane = partial(_recipe, objective=plane_pairs, ema={"generator": 0.998})
_images = partial(_recipe, objective=image_pairs, rate=1e-3, betas=(0.0, 0.99), ema={"generator": 0.995}, batch_size=64)
_larger = partial(
    _recipe,
    objective=conv_pairs,
    rate=5e-4,
    betas=(0.0, 0.99),
    ema={"generator": 0.999},
    batch_size=64,
    steps=2_000,
    full_steps=200_000,
)

RECIPES = [
    _plane(
        task=RING,
        settings={"width": 64, "latent_scale": 2.0, "scale": 3.0, "r1": 0.01, "r2": 0.01},
        rate=2e-3,  # at 4e-3 seed 11 ended with 56 % of high quality
        betas=(0.0, 0.99),
        batch_size=128,
        steps=4_000,
        full_steps=20_000,
        reaches="15 s; all 8 spots, 96 to 98 % of samples within 3 standard deviations (exact samples: 99 %; 20 seeds)",
    ),
    _plane(
        task=GRID,
        settings={"width": 128, "latent_scale": 4.0, "scale": 1.0, "r1": 0.1, "r2": 0.1},
        rate=3e-3,
        betas=(0.0, 0.9),
        batch_size=128,
        steps=10_000,
        full_steps=60_000,
        reaches="1 min; all 25 spots, 91 to 97 % within 3 standard deviations (exact samples: 99 %; 20 seeds)",
    ),
    _recipe(
        task=SHAPES,
        objective=residual_pairs,
        settings={"r1": 0.03, "r2": 0.03},
        rate=2e-3,
        betas=(0.0, 0.99),
        ema={"generator": 0.998},
        batch_size=64,
        steps=21_000,
        full_steps=200_000,
        reaches="20 min; 82 % of samples valid, spread over all 72 templates as evenly as exact ones (one run)",
    ),
    _images(task=DIGITS, steps=3_000, full_steps=30_000, reaches="not measured"),
    _images(
        task=FACES,
        settings={"latent": 64},
        rate=2e-3,
        steps=1_500,
        full_steps=30_000,
        reaches="the settings of chapter 02's; not measured",
    ),
    _images(task=MNIST, steps=10_000, full_steps=100_000, reaches="the settings of digits; not measured"),
    _larger(task=CIFAR10, reaches="not measured on a CPU"),
    of_folder(None),
]
