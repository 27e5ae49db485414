"""Variational autoencoders of a world and of digits, with what they were measured to reach (chapter 09)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from minigen import data
from minigen.data.levels import binarise
from minigen.nets.mlp import MLPEncoder, MLPGenerator
from minigen.objectives.elbo import ELBO, Bernoulli, Gaussian, LatentModel, Likelihood
from minigen.recipes.recipe import Recipe, hold_half
from minigen.tasks.images import NOISY_DIGITS, ScoredImages
from minigen.tasks.shapes import ScoredShapes, small_shapes
from minigen.tasks.task import Task
from minigen.train.loop import Run
from minigen.worlds import Shapes

CHAPTER = 9


def noisy() -> Gaussian:
    """Gaussian noise whose standard deviation is learned, 0.5 at first."""
    return Gaussian(0.5, learned=True)


def vae(
    task: Task,
    *,
    latent: int,
    encoder: tuple[int, ...],
    decoder: tuple[int, ...],
    likelihood: Callable[[], Likelihood],
) -> ELBO:
    """A fully connected autoencoder. encoder, decoder: widths of the hidden layers. likelihood: makes one."""
    reads = MLPEncoder(task.shape, latent, hidden=encoder)
    draws = MLPGenerator(latent, task.shape, hidden=decoder, bounded=False)
    return ELBO(LatentModel(reads, draws, likelihood(), latent=latent))


def model_of(run: Run) -> LatentModel:
    """A run's averaged model."""
    model = run.ema["model"]
    assert isinstance(model, LatentModel)
    return model


def samples(run: Run, n: int, *, seed: int = 1) -> Tensor:
    """n mean images of a run's averaged decoder at draws from the prior, on the CPU; the same for the same seed."""
    return model_of(run).sample(n, generator=torch.Generator(run.device).manual_seed(seed)).cpu()


def log_prob(run: Run, images: Tensor, *, seed: int = 1, draws: int = 500) -> Tensor:
    """A lower bound of the log-likelihood in expectation: importance sampling with `draws` codes, nats, (B,)."""
    source = torch.Generator(run.device).manual_seed(seed)
    return model_of(run).log_prob(images.to(run.device), samples=draws, generator=source).cpu()


_recipe = partial(
    Recipe, family="elbo", objective=vae, schedule=hold_half, ema={"model": 0.995}, draw=samples, log_prob=log_prob
)

RECIPES = [
    _recipe(
        task=ScoredShapes("shapes", "one coloured shape, 8x8, 72 templates", small_shapes, shape=(3, 8, 8)),
        settings={"latent": 6, "encoder": (256, 256), "decoder": (256, 256), "likelihood": noisy},
        rate=2e-3,
        batch_size=128,
        steps=3_000,
        full_steps=30_000,
        reaches="15 s; 9 nats above the floor, 39 % of mean images valid (exact samples: 100 %)",
    ),
    _recipe(
        task=ScoredShapes(
            "shapes12",
            "one coloured shape, 12x12, 1,530 templates",
            lambda: Shapes.preset("12x12"),
            shape=(3, 12, 12),
        ),
        settings={"latent": 6, "encoder": (256, 128), "decoder": (128, 512), "likelihood": noisy},
        rate=2e-3,
        ema={"model": 0.998},
        batch_size=128,
        steps=10_000,
        full_steps=100_000,
        reaches="1 min; 125 nats above the floor, 4 % valid; 100,000 steps (10 min): 56 nats, 4 %",
    ),
    _recipe(
        task=NOISY_DIGITS,
        settings={
            "latent": 8,
            "encoder": (256, 128),
            "decoder": (128, 256),
            "likelihood": partial(Gaussian, 0.5, learned=True, shape=(1, 8, 8)),
        },
        rate=1.5e-3,
        batch_size=64,
        steps=2_500,
        full_steps=2_500,
        reaches="5 s; most are legible; 2.8 bits/dim on the test set",
    ),
    _recipe(
        task=ScoredImages(
            "mnist",
            "60,000 handwritten digits, 28x28, black and white, drawn anew in each batch",
            data.mnist,
            shape=(1, 28, 28),
            change=lambda images, uniform: 2.0 * binarise(images, uniform) - 1,
        ),
        settings={"latent": 32, "encoder": (512, 512), "decoder": (512, 512), "likelihood": Bernoulli},
        rate=1e-3,
        batch_size=128,
        steps=5_000,
        full_steps=100_000,
        reaches="5 min on a busy core; at most 99.8 nats on the test set; measured with a subset of 10,000",
    ),
]
