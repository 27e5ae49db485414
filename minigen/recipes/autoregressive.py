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
from minigen.levels import binarise
from minigen.nets.gated import GatedPixelCNN
from minigen.nets.masked import PixelCNN
from minigen.nets.transformer import PixelTransformer
from minigen.objectives.autoregressive import Autoregressive
from minigen.recipes.recipe import Recipe, Scored
from minigen.recipes.scored import DIGIT_LEVELS, ScoredImages, ScoredWorld, digit_levels
from minigen.samplers import autoregressive as sampler
from minigen.streams import Batches, Stream
from minigen.train import Run, adams, linear_decay
from minigen.worlds import Shapes

CLASSES = 10
WORDS = 16  # of the captions of 12x12 shapes


class LabelledDigits(ScoredImages):
    """Digits in pairs with their labels' one-hots, what a network is told to draw; judged without their labels."""

    def batches(self, *, batch_size: int, seed: int, device: torch.device | str) -> Batches:  # type: ignore[override]
        labels = one_hot(self._load("train").labels.long(), CLASSES).float()
        return Batches(self.seen("train"), labels, batch_size=batch_size, seed=seed, device=device)


class CaptionedShapes(ScoredWorld):
    """A world's images in pairs with their captions' words; in every second pair without, so that both are learnt."""

    def batches(self, *, batch_size: int, seed: int, device: torch.device | str) -> Stream:
        def draw(n: int, /, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
            levels, factors = self.world.sample_with_factors(n, generator=generator)
            words = caption_words(self.world, self.world.caption(factors))
            words[::2] = 0
            return levels, words.to(levels.device)

        return Stream(draw, batch_size=batch_size, seed=seed, device=device)


def caption_words(world: Shapes, captions: Sequence[str]) -> Tensor:
    """What captions of a world of one shape say, as 0 and 1 for each word that there is, (B, words); 0 is unsaid.

    The words are those for kind, colour, size and background, in this order.
    """
    names = ("kind", "colour", "size", "background")
    starts, total = {}, 0
    for name in names:
        starts[name], total = total, total + len(world.values[name])
    words = torch.zeros(len(captions), total)
    for row, caption in zip(words, captions, strict=True):
        for name, value in world.parse(caption).items():
            row[starts[name] + value] = 1
    return words


def _small() -> Shapes:
    return Shapes.preset("12x12", form="discrete")


TARGETS: dict[str, Scored] = {
    "shapes": ScoredWorld(
        "shapes", "one coloured shape in 8 flat colours, 12x12, 1,530 templates", _small, shape=(1, 12, 12)
    ),
    "tokens": ScoredWorld("tokens", "the same shapes, by a transformer", _small, shape=(1, 12, 12)),
    "captions": CaptionedShapes(
        "captions", "the same shapes and their captions, by a gated network", _small, shape=(1, 12, 12)
    ),
    "shapes16": ScoredWorld(
        "shapes16",
        "one coloured shape in 8 flat colours, 16x16, 4,080 templates",
        lambda: Shapes.preset("16x16", form="discrete"),
        shape=(1, 16, 16),
    ),
    "digits": LabelledDigits(
        "digits",
        "1,415 handwritten digits and their labels, 8x8, 17 levels, no download",
        data.digits,
        shape=(1, 8, 8),
        change=lambda images, uniform: digit_levels(images),
        view=lambda levels: data.to_float(levels, levels_count=DIGIT_LEVELS),
    ),
    "mnist": ScoredImages(
        "mnist",
        "60,000 handwritten digits, 28x28, black and white, drawn anew in each batch",
        data.mnist,
        shape=(1, 28, 28),
        change=binarise,
        view=lambda levels: 2.0 * levels - 1,
    ),
}


def pixel_model(
    net: Callable[[], nn.Module],
    *,
    steps: int,
    rate: float,
    average: float = 0.995,
    clip: float | None = 1.0,
    seed: int = 0,
    device: torch.device | str = "cpu",
    **options: Any,
) -> Run:
    """An autoregressive network's run: Adam, decay after a third, averaged weights. options: of `Run`, such as sync.

    net: makes a network from levels (B, 1, H, W) to logits (B, K, H, W), after the seed is set.
    """
    torch.manual_seed(seed)
    objective = Autoregressive(net()).to(device)
    decay = linear_decay(steps, hold=0.3)
    return Run(
        objective,
        adams(objective, rate),
        average={"model": average},
        schedule=decay,
        clip=clip,
        seed=seed,
        **options,
    )


def samples(run: Run, n: int, *, size: Sequence[int], seed: int = 1, context: Tensor | None = None) -> Tensor:
    """n images of a run's averaged network, levels (n, 1, *size) on the CPU; the same noise for the same seed.

    context: what to draw for, (n, features), for a network that takes one.
    """
    network: Any = run.average["model"]
    uniform = torch.rand(n, *size, generator=torch.Generator().manual_seed(seed))
    parts = []
    for rows in torch.split(torch.arange(n), 500):
        given = None if context is None else context[rows].to(run.device)
        *_, last = sampler.sample(network, uniform[rows].to(run.device), context=given)
        parts.append(last.cpu())
    return torch.cat(parts)


def labelled_samples(run: Run, n: int, *, size: Sequence[int], seed: int = 1) -> Tensor:
    """The same of a network that is told a label: the labels 0, 1, ... 9, 0, 1, ... in turn."""
    return samples(run, n, size=size, seed=seed, context=one_hot(torch.arange(n) % CLASSES, CLASSES).float())


@torch.no_grad()
def log_prob(run: Run, images: Tensor, *context: Tensor, seed: int = 1) -> Tensor:
    """Log-likelihood of levels (B, 1, H, W) under a run's averaged network, nats, (B,) on the CPU; exact.

    context: (B, features), for a network that takes one.
    """
    given = (part.to(run.device) for part in context)
    return Autoregressive(run.average["model"]).log_prob(images.to(run.device), *given).cpu()


def captioned_samples(run: Run, n: int, *, size: Sequence[int], seed: int = 1) -> Tensor:
    """The same of a network that may be told a caption, without one."""
    return samples(run, n, size=size, seed=seed, context=torch.zeros(n, WORDS))


def caption_log_prob(run: Run, images: Tensor, words: Tensor | None = None, *, seed: int = 1) -> Tensor:
    """log p(image | caption), nats, (B,) on the CPU; words: (B, 16) of `caption_words`, none unless given."""
    return log_prob(run, images, torch.zeros(len(images), WORDS) if words is None else words)


def label_log_probs(run: Run, images: Tensor) -> Tensor:
    """log p(image | label) for each label, nats, (B, 10) on the CPU, of a network that is told a label."""
    told = torch.eye(CLASSES)[:, None].expand(-1, len(images), -1)
    return torch.stack([log_prob(run, images, label) for label in told], dim=1)


def unlabelled_log_prob(run: Run, images: Tensor, *, seed: int = 1) -> Tensor:
    """log p(image) where the label is not known and each is equally likely: the log of a mean over labels, (B,)."""
    return label_log_probs(run, images).logsumexp(1) - math.log(CLASSES)


def _recipe(
    name: str,
    net: Callable[[], nn.Module],
    *,
    steps: int,
    full_steps: int,
    batch_size: int,
    rate: float,
    reaches: str,
    draw: Callable[..., Tensor] = samples,
    score: Callable[..., Tensor] = log_prob,
) -> Recipe:
    """A recipe of this family.

    reaches: bits above a floor are the mean of log p - log p_theta over the held-out images, which has far less noise
    than the likelihood that a card gives, less the floor.
    """
    target = TARGETS[name]

    def build(**given: Any) -> Run:
        return pixel_model(net, rate=rate, **given)

    return Recipe(
        "autoregressive",
        target,
        steps,
        full_steps,
        batch_size,
        build,
        partial(draw, size=target.shape[1:]),
        reaches,
        score,
    )


AUTOREGRESSIVE = [
    _recipe(
        "shapes",
        lambda: PixelCNN(8, width=32, blocks=6),
        steps=360,
        full_steps=20_000,
        batch_size=64,
        rate=4e-3,
        reaches="30 s; 10 bits/image above the floor of 26.26 (8,000 steps: 15 min, 0.8 bits, 86 % of samples valid)",
    ),
    _recipe(
        "captions",
        lambda: GatedPixelCNN(8, width=32, layers=7, context=WORDS),
        steps=3_000,
        full_steps=20_000,
        batch_size=64,
        rate=4e-3,
        reaches="9 min; 0.6 bits/image above the floor of 26.26, without a caption; 92 % of samples valid",
        draw=captioned_samples,
        score=caption_log_prob,
    ),
    _recipe(
        "tokens",
        lambda: PixelTransformer(8, size=(12, 12), width=64, blocks=3, heads=4),
        steps=1_500,
        full_steps=20_000,
        batch_size=64,
        rate=2e-3,
        reaches="6 min; 1.6 bits/image above the floor of 26.26; 83 % of samples valid",
    ),
    _recipe(
        "shapes16",
        lambda: PixelCNN(8, width=32, blocks=8),
        steps=2_500,
        full_steps=20_000,
        batch_size=64,
        rate=4e-3,
        reaches="15 min; 4.3 bits/image above the floor of 39.86; 19 % of samples valid",
    ),
    _recipe(
        "digits",
        lambda: GatedPixelCNN(17, width=32, layers=5, context=CLASSES),
        steps=600,
        full_steps=600,
        batch_size=64,
        rate=2e-3,
        reaches="50 s; 1.81 bits/dim on unseen digits; more steps overfit",
        draw=labelled_samples,
        score=unlabelled_log_prob,
    ),
    _recipe(
        "mnist",
        lambda: GatedPixelCNN(2, width=32, layers=8),
        steps=1_000,
        full_steps=100_000,
        batch_size=64,
        rate=2e-3,
        reaches="not measured on a CPU",
    ),
]
