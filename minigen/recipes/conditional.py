"""GANs that are asked for something: shapes by kind and colour, digits by name, emoji by subject (chapter 04)."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor

from minigen import data
from minigen.data.levels import dequantise
from minigen.nets.discriminators import (
    ConvDiscriminator,
    DenseDiscriminator,
    DenseGenerator,
    Judging,
    LabelledGenerator,
    Making,
)
from minigen.objectives.conditional import Auxiliary, Conditional
from minigen.recipes.diffusion import EMOJI
from minigen.recipes.minimax import samples
from minigen.recipes.recipe import Recipe, hold_half
from minigen.tasks.emoji import EmojiTask
from minigen.tasks.folder import LabelledFolder
from minigen.tasks.images import OF_DIGITS, Load
from minigen.tasks.labelled import LabelledImages, LabelledShapes
from minigen.tasks.shapes import small_shapes
from minigen.tasks.task import Task
from minigen.train.loop import Run

CHAPTER = 4


def dense_gan(
    task: Task,
    *,
    label_dim: int,
    latent: int = 32,
    hidden: tuple[int, ...] = (256, 256),
    judging: Judging = "projection",
    **settings: Any,
) -> Conditional:
    """The conditional game for small images of a task's shape, with fully connected networks.

    label_dim: classes, or numbers of a label. judging: how the discriminator takes the label in; "auxiliary" makes it
    the game with a classifier. settings: of the objective.
    """
    generator = DenseGenerator(latent, task.shape, label_dim=label_dim, hidden=hidden)
    discriminator = DenseDiscriminator(task.shape, hidden=hidden, label_dim=label_dim, condition=judging)
    return _game(judging)(generator, discriminator, **settings)


def conv_gan(
    task: Task,
    *,
    label_dim: int,
    latent: int = 64,
    width: int = 32,
    features: int = 128,
    judging: Judging = "projection",
    making: Making = "concatenation",
    **settings: Any,
) -> Conditional:
    """The same with convolutional networks. making: how the generator takes the label in."""
    generator = LabelledGenerator(latent, task.shape, width=width, label_dim=label_dim, condition=making)
    discriminator = ConvDiscriminator(
        task.shape, width=width, features=features, label_dim=label_dim, condition=judging
    )
    return _game(judging)(generator, discriminator, **settings)


def _game(judging: Judging) -> type[Conditional]:
    return Auxiliary if judging == "auxiliary" else Conditional


def draw_labels(run: Run, label: Tensor, *, seed: int = 1) -> Tensor:
    """A sample of a run's averaged generator for each label (n, ...), on the CPU; the same noise for the same seed."""
    return samples(run, len(label), label, seed=seed)


def draw_classes(run: Run, n: int, *, task: LabelledShapes | LabelledImages, seed: int = 1) -> Tensor:
    """n samples, for the classes that the task wants."""
    return draw_labels(run, task.wanted(n), seed=seed)


def draw_emoji(run: Run, n: int, *, task: EmojiTask, seed: int = 1) -> Tensor:
    """n pictures, for the styles and subcategories that the task wants."""
    return draw_labels(run, task.label(*task.wanted(n)), seed=seed)


_recipe = partial(
    Recipe,
    family="conditional",
    objective=dense_gan,
    schedule=hold_half,
    betas=(0.0, 0.99),
    ema={"generator": 0.995},
)
SHAPES = LabelledShapes(
    "shapes", "one coloured shape, 8x8, 72 templates, asked for by kind and colour", small_shapes, shape=(3, 8, 8)
)
DIGITS = LabelledImages(
    "digits",
    "1,415 handwritten digits, 8x8, asked for by name, no download",
    classes=tuple("0123456789"),
    **OF_DIGITS,
)


def by_name(name: str, title: str, load: Load, *, shape: tuple[int, ...]) -> LabelledImages:
    """A published data set of 256 levels, with noise between them, asked for by the names of its classes."""
    classes = data.SOURCES[name].classes
    change = partial(dequantise, num_levels=256)
    return LabelledImages(name, title, load, classes, shape=shape, change=change, levels=256)


def of_folder(path: str | None) -> Recipe:
    """The recipe of a folder of images, 64x64 in colour, a class for each folder in it; without a path, of none yet."""
    task = LabelledFolder(path)
    return _larger(
        task=task,
        settings={"label_dim": len(task.captions), "latent": 128, "width": 64, "features": 256, "r1": 1.0},
        steps=2_000,
        full_steps=200_000,
        draw=partial(draw_classes, task=task),
        reaches="not measured: it depends on the images",
        at=of_folder,
    )


_larger = partial(_recipe, objective=conv_gan, rate=5e-4, ema={"generator": 0.999}, batch_size=64)
MNIST = by_name("mnist", "60,000 handwritten digits, 28x28, asked for by name", data.mnist, shape=(1, 28, 28))
CIFAR10 = by_name("cifar10", "50,000 photographs, 32x32, asked for by name", data.cifar10, shape=(3, 32, 32))

RECIPES = [
    _recipe(
        task=SHAPES,
        settings={"label_dim": 9, "latent": 16, "r1": 1.0},
        rate=1e-3,
        betas=(0.5, 0.99),
        batch_size=128,
        steps=5_000,
        full_steps=60_000,
        draw=partial(draw_classes, task=SHAPES),
        reaches="2 min; 99.6 to 99.9 % of samples show what was asked for, 93 to 95 % are valid, with 98 to 99 % of "
        "the exact entropy of what is free (20 seeds of sampling)",
    ),
    _recipe(
        task=DIGITS,
        settings={"label_dim": 10, "r1": 0.1},
        rate=1e-3,
        batch_size=64,
        steps=1_500,
        full_steps=30_000,
        draw=partial(draw_classes, task=DIGITS),
        reaches="30 s; 92 to 96 % have the name of the nearest unseen digit (of real digits 92 %); two of one name "
        "are at 0.90 to 0.95 of the distance of real ones (20 seeds)",
    ),
    _recipe(
        task=EMOJI,
        objective=conv_gan,
        settings={"label_dim": EMOJI.label_dim, "width": 24, "features": 96, "r1": 1.0},
        rate=1e-3,
        ema={"generator": 0.998},
        batch_size=32,
        steps=2_500,
        full_steps=200_000,
        draw=partial(draw_emoji, task=EMOJI),
        reaches="5 min; the judge finds 58 and 52 % of the pictures in the category asked for (of real test pictures: "
        "61 %), 3.1 % are copies; faces, hearts, hands, people and signs can be told, animals and food are blots",
    ),
    _larger(
        task=MNIST,
        settings={"label_dim": 10, "r1": 0.1},
        steps=2_000,
        full_steps=50_000,
        draw=partial(draw_classes, task=MNIST),
        reaches="not measured on a CPU",
    ),
    _larger(
        task=CIFAR10,
        settings={"label_dim": 10, "latent": 128, "width": 64, "features": 256, "r1": 1.0},
        steps=2_000,
        full_steps=200_000,
        draw=partial(draw_classes, task=CIFAR10),
        reaches="not measured on a CPU",
    ),
    of_folder(None),
]
