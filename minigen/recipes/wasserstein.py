"""Wasserstein games with the gradient penalty, in the plane and of small images (chapter 03)."""

from __future__ import annotations

from functools import partial

from torch import nn

from minigen.nets.mlp import MLPDiscriminator, MLPGenerator
from minigen.objectives.wasserstein import Wasserstein
from minigen.recipes.minimax import CIFAR10, DIGITS, MNIST, RING, conv_players, samples
from minigen.recipes.recipe import Recipe, hold_half
from minigen.tasks.folder import FolderImages
from minigen.tasks.task import Task

CHAPTER = 3


def plane_critic(task: Task, *, critic_steps: int, penalty: float, scale: float = 1.0) -> Wasserstein:
    """The networks of chapter 02's games in the plane. scale: multiplies the critic's input."""
    generator = MLPGenerator(2, (2,), hidden=(64,) * 3, bounded=False, activation=nn.Tanh, scale=2.0)
    critic = MLPDiscriminator((2,), hidden=(64,) * 3, scale=scale)
    return Wasserstein(generator, critic, critic_steps=critic_steps, penalty=penalty)


def image_critic(
    task: Task, *, latent: int = 32, hidden: tuple[int, ...] = (256, 256), critic_steps: int = 5, penalty: float = 10.0
) -> Wasserstein:
    """The game of Gulrajani et al. 2017 for small images (C, H, W) in [-1, 1], with their numbers."""
    networks = MLPGenerator(latent, task.shape, hidden=hidden), MLPDiscriminator(task.shape, hidden=hidden)
    return Wasserstein(*networks, critic_steps=critic_steps, penalty=penalty)


def conv_critic(task: Task, *, critic_steps: int = 5, penalty: float = 10.0, **networks: int) -> Wasserstein:
    """The same game for larger images. networks: what `conv_players` takes."""
    return Wasserstein(*conv_players(task, **networks), critic_steps=critic_steps, penalty=penalty)


def of_folder(path: str | None) -> Recipe:
    """The recipe of a folder of images, 64x64 in colour; without a path, of one that is to be named."""
    return _larger(
        task=FolderImages(path), reaches="the settings of cifar10; not measured: it depends on the images", at=of_folder
    )


_recipe = partial(Recipe, family="wasserstein", schedule=hold_half, draw=samples)
_images = partial(
    _recipe, objective=image_critic, rate=5e-4, betas=(0.0, 0.9), ema={"generator": 0.995}, batch_size=5 * 64
)
_larger = partial(
    _recipe,
    objective=conv_critic,
    rate=2e-4,
    betas=(0.0, 0.9),
    ema={"generator": 0.999},
    batch_size=5 * 64,
    steps=2_000,
    full_steps=100_000,
)

# A batch is dealt out among the critic's moves: 5 * 64 is 64 for each.
RECIPES = [
    _recipe(
        task=RING,
        objective=plane_critic,
        settings={"critic_steps": 3, "penalty": 1.0},
        rate=2e-3,
        betas=(0.0, 0.9),
        ema={"generator": 0.998},
        batch_size=3 * 128,
        steps=3_000,
        full_steps=20_000,
        reaches="not measured",
    ),
    _images(task=DIGITS, steps=2_000, full_steps=30_000, reaches="not measured"),
    _images(task=MNIST, steps=10_000, full_steps=100_000, reaches="the settings of digits; not measured"),
    _larger(task=CIFAR10, reaches="not measured on a CPU"),
    of_folder(None),
]
