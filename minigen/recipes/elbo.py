"""Variational autoencoders of a world and of digits, with what they were measured to reach (chapter 09)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from minigen import data
from minigen.levels import binarise
from minigen.nets.mlp import MLPEncoder, MLPGenerator
from minigen.objectives import elbo
from minigen.objectives.elbo import Bernoulli, Gaussian, LatentModel, Likelihood
from minigen.recipes.recipe import Recipe, Scored
from minigen.recipes.scored import NOISY_DIGITS, ScoredImages, ScoredWorld
from minigen.recipes.targets import small_shapes
from minigen.train import Run, adams, linear_decay
from minigen.worlds import Shapes

TARGETS: dict[str, Scored] = {
    "shapes": ScoredWorld("shapes", "one coloured shape, 8x8, 72 templates", small_shapes, shape=(3, 8, 8)),
    "shapes12": ScoredWorld(
        "shapes12", "one coloured shape, 12x12, 1,530 templates", lambda: Shapes.preset("12x12"), shape=(3, 12, 12)
    ),
    "digits": NOISY_DIGITS,
    "mnist": ScoredImages(
        "mnist",
        "60,000 handwritten digits, 28x28, black and white, drawn anew in each batch",
        data.mnist,
        shape=(1, 28, 28),
        change=lambda images, uniform: 2.0 * binarise(images, uniform) - 1,
        view=lambda x: x,
    ),
}


def noisy() -> Gaussian:
    """Gaussian noise whose standard deviation is learned, 0.5 at first."""
    return Gaussian(0.5, learned=True)


def vae(
    shape: tuple[int, ...],
    *,
    steps: int,
    latent: int,
    encoder: tuple[int, ...],
    decoder: tuple[int, ...],
    likelihood: Callable[[], Likelihood],
    rate: float = 1e-3,
    average: float = 0.995,
    warmup: int = 0,
    free: float = 0.0,
    beta: float = 1.0,
    seed: int = 0,
    device: torch.device | str = "cpu",
    **options: Any,
) -> Run:
    """A fully connected autoencoder's run: Adam, decay in the second half, averaged weights. options: of `Run`.

    encoder, decoder: widths of the hidden layers. likelihood: makes one.
    """
    torch.manual_seed(seed)
    reads = MLPEncoder(shape, latent, hidden=encoder)
    draws = MLPGenerator(latent, shape, hidden=decoder, bounded=False)
    model = LatentModel(reads, draws, likelihood(), latent=latent)
    objective = elbo.ELBO(model, beta=beta, warmup=warmup, free=free).to(device)
    decay = linear_decay(steps, hold=0.5)
    return Run(objective, adams(objective, rate), average={"model": average}, schedule=decay, seed=seed, **options)


def samples(run: Run, n: int, *, seed: int = 1) -> Tensor:
    """n mean images of a run's averaged decoder at draws from the prior, on the CPU; the same for the same seed."""
    model: Any = run.average["model"]
    return model.sample(n, generator=torch.Generator(run.device).manual_seed(seed)).cpu()  # type: ignore[no-any-return]


def log_prob(run: Run, images: Tensor, *, seed: int = 1, draws: int = 500) -> Tensor:
    """A lower bound of the log-likelihood in expectation: importance sampling with `draws` codes, nats, (B,)."""
    model: Any = run.average["model"]
    source = torch.Generator(run.device).manual_seed(seed)
    return model.log_prob(images.to(run.device), samples=draws, generator=source).cpu()  # type: ignore[no-any-return]


def _recipe(name: str, *, steps: int, full_steps: int, batch_size: int, reaches: str, **settings: Any) -> Recipe:
    target = TARGETS[name]

    def build(**given: Any) -> Run:
        return vae(target.shape, **settings, **given)

    return Recipe("elbo", target, steps, full_steps, batch_size, build, samples, reaches, log_prob)


ELBO = [
    _recipe(
        "shapes",
        steps=3_000,
        full_steps=30_000,
        batch_size=128,
        reaches="15 s; 9 nats above the floor, 39 % of mean images valid (exact samples: 100 %)",
        latent=6,
        encoder=(256, 256),
        decoder=(256, 256),
        likelihood=noisy,
        rate=2e-3,
    ),
    _recipe(
        "shapes12",
        steps=10_000,
        full_steps=100_000,
        batch_size=128,
        reaches="1 min; 125 nats above the floor, 4 % valid; 100,000 steps (10 min): 65 nats, 4 %",
        latent=6,
        encoder=(256, 128),
        decoder=(128, 512),
        likelihood=noisy,
        rate=2e-3,
        average=0.998,
    ),
    _recipe(
        "digits",
        steps=2_500,
        full_steps=2_500,
        batch_size=64,
        reaches="5 s; most are legible; 2.8 bits/dim on the test set",
        latent=8,
        encoder=(256, 128),
        decoder=(128, 256),
        rate=1.5e-3,
        likelihood=lambda: Gaussian(0.5, learned=True, shape=(1, 8, 8)),
    ),
    _recipe(
        "mnist",
        steps=5_000,
        full_steps=100_000,
        batch_size=128,
        reaches="5 min on a busy core; at most 99.8 nats on the test set; measured with a subset of 10,000",
        latent=32,
        encoder=(512, 512),
        decoder=(512, 512),
        likelihood=Bernoulli,
    ),
]
