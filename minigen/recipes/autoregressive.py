"""Models that draw one pixel at a time, measured to work, of a world's levels and of digits (chapter 10)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from minigen import data
from minigen.data.chunks import in_chunks
from minigen.data.levels import binarise
from minigen.nets.pixel_transformer import PixelTransformer
from minigen.nets.pixelcnn import GatedPixelCNN, PixelCNN
from minigen.objectives.autoregressive import Autoregressive
from minigen.recipes.recipe import Recipe, hold_third
from minigen.samplers import autoregressive as sampler
from minigen.tasks.captions import CaptionedImages, CaptionedShapes
from minigen.tasks.images import DIGIT_LEVELS, ScoredImages, digit_levels
from minigen.tasks.shapes import ScoredShapes
from minigen.tasks.task import Task
from minigen.train.loop import Run
from minigen.worlds import Shapes

CHAPTER = 10
CLASSES = 10
WORDS = 16  # of the captions of 12x12 shapes


def pixel_model(task: Task, *, net: Callable[[], nn.Module]) -> Autoregressive:
    """The likelihood of a network. net: makes one from levels (B, 1, H, W) to logits (B, K, H, W)."""
    return Autoregressive(net())


def samples(run: Run, n: int, *, size: Sequence[int], seed: int = 1, context: Tensor | None = None) -> Tensor:
    """n images of a run's averaged network, levels (n, 1, *size) on the CPU; the same noise for the same seed.

    context: what to draw for, (n, features), for a network that takes one.
    """
    network: Any = run.ema["model"]
    uniform = torch.rand(n, *size, generator=torch.Generator().manual_seed(seed))

    def last(uniform: Tensor, *context: Tensor) -> Tensor:
        *_, levels = sampler.sample(network, uniform, context=context[0] if context else None)
        return levels

    return in_chunks(last, uniform, *(() if context is None else (context,)), device=run.device)


def labelled_samples(run: Run, n: int, *, size: Sequence[int], seed: int = 1) -> Tensor:
    """The same of a network that takes a label: the labels 0, 1, ... 9, 0, 1, ... in turn."""
    return samples(run, n, size=size, seed=seed, context=one_hot(torch.arange(n) % CLASSES, CLASSES).float())


def captioned_samples(run: Run, n: int, *, size: Sequence[int], seed: int = 1) -> Tensor:
    """The same of a network that may be given a caption, without one."""
    return samples(run, n, size=size, seed=seed, context=torch.zeros(n, WORDS))


@torch.no_grad()
def log_prob(run: Run, images: Tensor, *context: Tensor, seed: int = 1) -> Tensor:
    """Log-likelihood of levels (B, 1, H, W) under a run's averaged network, nats, (B,) on the CPU; exact.

    context: (B, features), for a network that takes one.
    """
    given = (part.to(run.device) for part in context)
    return Autoregressive(run.ema["model"]).log_prob(images.to(run.device), *given).cpu()


def caption_log_prob(run: Run, images: Tensor, words: Tensor | None = None, *, seed: int = 1) -> Tensor:
    """log p(image | caption), nats, (B,) on the CPU; words: (B, 16) of `caption_words`, none unless given."""
    return log_prob(run, images, torch.zeros(len(images), WORDS) if words is None else words)


def label_log_probs(run: Run, images: Tensor) -> Tensor:
    """log p(image | label) for each label, nats, (B, 10) on the CPU, of a network that takes a label."""
    labels = torch.eye(CLASSES)[:, None].expand(-1, len(images), -1)
    return torch.stack([log_prob(run, images, label) for label in labels], dim=1)


def unlabelled_log_prob(run: Run, images: Tensor, *, seed: int = 1) -> Tensor:
    """log p(image) where the label is not known and each is equally likely: the log of a mean over labels, (B,)."""
    return label_log_probs(run, images).logsumexp(1) - math.log(CLASSES)


def _small() -> Shapes:
    return Shapes.preset("12x12", form="discrete")


def _recipe(
    task: Task, net: Callable[[], nn.Module], *, draw: Callable[..., Tensor] = samples, **settings: Any
) -> Recipe:
    """A recipe of this family.

    reaches: bits above a floor are the mean of log p - log p_theta over the held-out images, which has far less noise
    than the likelihood that a card gives, less the floor.
    """
    common: dict[str, Any] = {"schedule": hold_third, "ema": {"model": 0.995}, "clip": 1.0, "batch_size": 64}
    return Recipe(
        family="autoregressive",
        task=task,
        objective=pixel_model,
        settings={"net": net},
        draw=partial(draw, size=task.shape[1:]),
        **common | {"log_prob": log_prob} | settings,
    )


RECIPES = [
    _recipe(
        ScoredShapes(
            "shapes", "one coloured shape in 8 flat colours, 12x12, 1,530 templates", _small, shape=(1, 12, 12)
        ),
        partial(PixelCNN, 8, width=32, blocks=6),
        rate=4e-3,
        steps=360,
        full_steps=20_000,
        reaches="30 s; 10 bits/image above the floor of 26.26 (8,000 steps: 15 min, 0.8 bits, 86 % of samples valid)",
    ),
    _recipe(
        CaptionedShapes(
            "captions",
            "the same shapes and their captions, by a gated network",
            _small,
            shape=(1, 12, 12),
            condition="words",
            hold_out=False,
        ),
        partial(GatedPixelCNN, 8, width=32, layers=7, context_dim=WORDS),
        rate=4e-3,
        steps=3_000,
        full_steps=20_000,
        reaches="9 min; 0.6 bits/image above the floor of 26.26, without a caption; 92 % of samples valid",
        draw=captioned_samples,
        log_prob=caption_log_prob,
    ),
    _recipe(
        ScoredShapes("tokens", "the same shapes, by a transformer", _small, shape=(1, 12, 12)),
        partial(PixelTransformer, 8, size=(12, 12), width=64, blocks=3, heads=4),
        rate=2e-3,
        steps=1_500,
        full_steps=20_000,
        reaches="6 min; 1.6 bits/image above the floor of 26.26; 83 % of samples valid",
    ),
    _recipe(
        ScoredShapes(
            "shapes16",
            "one coloured shape in 8 flat colours, 16x16, 4,080 templates",
            lambda: Shapes.preset("16x16", form="discrete"),
            shape=(1, 16, 16),
        ),
        partial(PixelCNN, 8, width=32, blocks=8),
        rate=4e-3,
        steps=2_500,
        full_steps=20_000,
        reaches="15 min; 4.3 bits/image above the floor of 39.86; 19 % of samples valid",
    ),
    _recipe(
        CaptionedImages(
            "digits",
            "1,415 handwritten digits and their labels, 8x8, 17 levels, no download",
            data.digits,
            tuple("0123456789"),
            condition="labels",
            shape=(1, 8, 8),
            change=lambda images, uniform: digit_levels(images),
            view=partial(data.to_float, num_levels=DIGIT_LEVELS),
            fixed=True,
        ),
        partial(GatedPixelCNN, 17, width=32, layers=5, context_dim=CLASSES),
        rate=2e-3,
        steps=600,
        full_steps=600,
        reaches="50 s; 1.81 bits/dim on unseen digits; more steps overfit",
        draw=labelled_samples,
        log_prob=unlabelled_log_prob,
    ),
    _recipe(
        ScoredImages(
            "mnist",
            "60,000 handwritten digits, 28x28, black and white, drawn anew in each batch",
            data.mnist,
            shape=(1, 28, 28),
            change=binarise,
            view=lambda levels: 2.0 * levels - 1,
        ),
        partial(GatedPixelCNN, 2, width=32, layers=8),
        rate=2e-3,
        steps=1_000,
        full_steps=100_000,
        reaches="not measured on a CPU",
    ),
]
