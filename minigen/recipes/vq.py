"""Codes to draw in: an autoencoder whose codes are a grid of words (chapters 09 and 13), as it was measured.

A sample is an image that was put into codes and back: n samples are of n captions, spread evenly over the list of all.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from minigen.data.chunks import in_chunks
from minigen.nets.conv import CodeDecoder, CodeEncoder
from minigen.objectives.elbo import Gaussian
from minigen.objectives.vq import VQVAE, VQModel
from minigen.recipes.recipe import Recipe, hold_half
from minigen.tasks.captions import PromptedShapes
from minigen.tasks.task import Task
from minigen.train.loop import Run
from minigen.worlds import Shapes

CHAPTER = 13
SHAPES = PromptedShapes(
    "shapes",
    "two coloured shapes, 12x12, as a grid of 3x3 codes",
    lambda: Shapes.preset("12x12", shapes=2),
    shape=(3, 12, 12),
    condition=None,
)


def vqvae(task: Task, *, codes: int, size: int, width: int, blocks: int, commitment: float) -> VQVAE:
    """An autoencoder whose codes are a grid of words, a quarter of the images' sides."""
    encoder = CodeEncoder(task.shape[0], size, width=width, blocks=blocks)
    decoder = CodeDecoder(size, task.shape[0], width=width, blocks=blocks, bounded=False)
    model = VQModel(encoder, decoder, Gaussian(0.5, learned=True), codes=codes, size=size)
    return VQVAE(model, commitment=commitment)


def spread(objective: VQVAE, seed: int, *, task: PromptedShapes, **options: Any) -> None:
    """Put the codes where the new encoder puts 512 images of the task."""
    source = torch.Generator().manual_seed(seed)
    objective.model.spread_codes(task.pairs(512, generator=source)[0], generator=source)


def rebuilt(run: Run, n: int, *, task: PromptedShapes, seed: int = 1) -> Tensor:
    """What a run's codes keep of n images of the world, for captions spread evenly, (n, 3, H, W) on the CPU."""
    model = run.ema["model"]
    assert isinstance(model, VQModel)
    x = task.exact_images(task.wanted(n), seed=seed)
    return in_chunks(lambda part: model.decode(model.encode(part)), x, device=run.device)


RECIPES = [
    Recipe(
        family="codes",
        task=SHAPES,
        objective=vqvae,
        settings={"codes": 256, "size": 8, "width": 64, "blocks": 2, "commitment": 2.0},
        prepare=partial(spread, task=SHAPES),
        rate=2e-3,
        schedule=hold_half,
        ema={"model": 0.995},
        clip=100.0,
        batch_size=64,
        steps=12_000,
        full_steps=100_000,
        draw=partial(rebuilt, task=SHAPES),
        reaches="4 min; 99.8 % of images valid when rebuilt from nine code words",
    ),
]
