"""Models that find and write captions, of shapes in fog and of digits, as they were measured (chapter 14)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from minigen import data
from minigen.nets.text import Captioner, ImageEncoder, TextEncoder
from minigen.objectives import contrastive as objective
from minigen.recipes.captioned import Captioned, FoggyShapes, NamedImages
from minigen.recipes.recipe import Measured, Recipe
from minigen.train import Run, adams, linear_decay
from minigen.worlds import Shapes

FOG = 0.5  # standard deviation of the noise, where the other chapters' images have 0.1

SHAPES, DIGITS = (
    FoggyShapes("shapes", "a coloured shape in fog and its caption, 12x12", lambda: Shapes.preset("12x12", noise=FOG)),
    NamedImages(
        "digits",
        "1,415 handwritten digits and their names, 8x8, no download",
        data.digits,
        tuple("0123456789"),
        image=(1, 8, 8),
        count=382,
    ),
)


def run_of(
    make: Callable[[], torch.nn.Module],
    *,
    steps: int,
    rate: float,
    average: float = 0.99,
    seed: int = 0,
    device: torch.device | str = "cpu",
    **options: Any,
) -> Run:
    """A run of an objective with one player: Adam, decay after a third, averaged weights. options: of `Run`.

    make: the objective, after the seed is set.
    """
    torch.manual_seed(seed)
    game, decay = make().to(device), linear_decay(steps, hold=0.3)
    options.setdefault("clip", 1.0)
    return Run(game, adams(game, rate), average={"model": average}, schedule=decay, seed=seed, **options)


def towers(target: Captioned, *, width: int, halvings: int, size: int = 32) -> objective.Contrastive:
    """An encoder of images and one of captions, and the loss that brings them together."""
    images = ImageEncoder(target.image, width=width, halvings=halvings)
    words = TextEncoder(len(target.vocabulary), length=target.tokens.shape[1], width=width, blocks=1)
    return objective.Contrastive(objective.TwoTowers(images, words, size=size))


def captioner(target: Captioned, *, width: int, halvings: int) -> objective.Captioning:
    """A network that words what it sees."""
    images = ImageEncoder(target.image, width=width, halvings=halvings)
    length = target.tokens.shape[1]
    return objective.Captioning(Captioner(images, len(target.vocabulary), length=length, blocks=1))


@torch.no_grad()
def scores(run: Run, x: Tensor, tokens: Tensor) -> Tensor:
    """Scores of images (n, C, H, W) with captions (m, T) by a run's averaged encoders, (n, m) on the CPU."""
    model: Any = run.average["model"]
    captions = model.embed_captions(tokens.to(run.device))
    images = torch.cat([model.embed_images(part.to(run.device)) for part in torch.split(x, 500)])
    return objective.cosine_scores(images, captions, model.log_scale).cpu()


def picked(run: Run, n: int, *, target: Captioned, seed: int = 1) -> Tensor:
    """The caption with the highest score for each of n unseen images, (n, T). No chance is in it: seed does nothing."""
    return target.tokens[scores(run, target.told(n).images, target.tokens).argmax(1)]


def written(run: Run, n: int, *, target: Captioned, seed: int = 1) -> Tensor:
    """Captions of n unseen images, each next word the most probable, (n, T). No chance is in it: seed does nothing."""
    model: Any = run.average["model"]
    x, unused = target.told(n).images, torch.zeros(n, target.tokens.shape[1] - 1)
    parts = zip(torch.split(x, 500), torch.split(unused, 500), strict=True)
    return torch.cat(
        [objective.write(model, a.to(run.device), u.to(run.device), temperature=0).cpu() for a, u in parts]
    )


@torch.no_grad()
def log_prob(run: Run, tokens: Tensor, x: Tensor) -> Tensor:
    """log p(caption | image) of a run's averaged captioner, nats, (n,) on the CPU; tokens (n, T), x (n, C, H, W)."""
    model: Any = run.average["model"]
    parts = zip(torch.split(tokens, 500), torch.split(x, 500), strict=True)
    on_device = ((a.to(run.device), b.to(run.device)) for a, b in parts)
    return torch.cat([objective.caption_log_prob(model(a, b), a).cpu() for a, b in on_device])


def _both(
    target: Captioned,
    *,
    steps: int,
    full_steps: int,
    batch_size: int,
    width: int,
    halvings: int,
    finds: str,
    writes: str,
    rate: float = 2e-3,
) -> list[Recipe]:
    """The recipes of a finder and of a writer of the same data, with the same settings; what each reaches."""

    def recipe(family: str, game: Callable[..., torch.nn.Module], draw: Callable[..., Tensor], reaches: str) -> Recipe:
        def build(**given: Any) -> Run:
            return run_of(partial(game, target, width=width, halvings=halvings), rate=rate, **given)

        def measure(run: Run) -> dict[str, Measured]:
            return target.bounds(partial(scores, run)) if game is towers else target.nll(partial(log_prob, run))

        samples = partial(draw, target=target)
        return Recipe(family, target, steps, full_steps, batch_size, build, samples, reaches, measure=measure)

    return [recipe("contrastive", towers, picked, finds), recipe("captioner", captioner, written, writes)]


FINDERS_AND_WRITERS = (
    _both(
        SHAPES,
        steps=4_000,
        full_steps=100_000,
        batch_size=128,
        width=64,
        halvings=2,
        finds="2 min; shows 4.84 of 4.91 nats among 2,048; 99 % of captions right, 73 % of new combinations",
        writes="2 min; 0.03 nats/caption above the floor; 99 % of captions right, 58 % of new combinations",
    ),
    _both(
        DIGITS,
        steps=600,
        full_steps=600,
        batch_size=64,
        width=32,
        halvings=1,
        finds="7 s; 95 % of names right; shows 1.9 nats among 64, where 2.23 are the most",
        writes="7 s; 94 % of names right; 0.29 nats/name on unseen digits",
    ),
)
CONTRASTIVE = [recipe for kind in zip(*FINDERS_AND_WRITERS, strict=True) for recipe in kind]
