"""Models that draw what a caption says, of a world and of digits, and codes to draw in (chapter 13).

A sample is an image for a caption: n samples are for n captions that are spread evenly over the list of all.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from minigen import data, metrics, show
from minigen.levels import fresh
from minigen.nets.conv import CodeDecoder, CodeEncoder
from minigen.nets.text import Prompted, TextEncoder
from minigen.nets.unet import UNet
from minigen.objectives.diffusion import Denoise, Schedule
from minigen.objectives.elbo import VQVAE, Gaussian, nearest_code
from minigen.recipes.captioned import Worded
from minigen.recipes.diffusion import diffusion_model, drawn
from minigen.recipes.recipe import Measured, Recipe
from minigen.recipes.scored import ScoredImages, noisy_digits
from minigen.recipes.targets import ShapesWorld
from minigen.samplers.guidance import classifier_free
from minigen.streams import Stream
from minigen.train import Run, adams, linear_decay
from minigen.words import name_captions
from minigen.worlds import ExactCaptions, Shapes
from minigen.worlds.shapes import Split

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DROP = 0.1  # share of captions that a network is not told, so that it learns to go without
GUIDANCE = 2.0  # guidance_scale of the samples that a recipe is judged by


class PromptedShapes(Worded, ShapesWorld):
    """A world's images with their captions; a fifth of all combinations of words is never trained on.

    captions: all, seen and unseen.
    """

    count = 1000

    @cached_property
    def exact(self) -> ExactCaptions:
        """The law of all captions."""
        return ExactCaptions(self.world)

    @property
    def captions(self) -> tuple[str, ...]:
        """Every caption, in the order of their numbers."""
        return self.exact.captions

    @cached_property
    def split(self) -> Split:
        """Template numbers of the captions that are trained on, and of the others."""
        return self.world.split()

    @cached_property
    def seen(self) -> Tensor:
        """Which captions are trained on, bool (C,)."""
        numbers = self.exact.number(self.world.factors(self.split.train))
        return torch.zeros(len(self.captions), dtype=torch.bool).index_fill(0, numbers, True)

    def pairs(self, n: int, /, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """n images (n, 3, H, W) of the captions that are trained on, and the captions' tokens (n, T)."""
        x, factors = self.world.sample_with_factors(n, generator=generator, index=self.split.train)
        return x, self.tokens.to(x.device)[self.exact.number(factors)]

    def batches(self, *, batch_size: int, seed: int, device: torch.device | str) -> Stream:
        return Stream(self.pairs, batch_size=batch_size, seed=seed, device=device)

    def wanted(self, n: int) -> Tensor:
        """The numbers of the captions that n samples are for, (n,)."""
        return torch.arange(n) * len(self.captions) // n

    def exact_images(self, numbers: Tensor, *, seed: int = 0) -> Tensor:
        """Images of the world itself for the captions of these numbers (n,), (n, 3, H, W): the yardstick."""
        source = torch.Generator().manual_seed(seed)
        parts = [
            self.world.sample(1, generator=source, index=self.world.caption_indices(self.captions[number]))
            for number in numbers.tolist()
        ]
        return torch.cat(parts)

    def places(self, images: Tensor, *, patch: int = 2) -> Tensor:
        """Which patches of patch x patch pixels show a shape in half of their pixels or more, bool (n, H / p, W / p).

        By the most probable template of each image (n, 3, H, W).
        """
        levels = self.world.to_levels(self.world.render(self.world.map_factors(images)))
        ground = levels.flatten(1).mode(dim=1).values.view(-1, 1, 1, 1)
        return nn.functional.avg_pool2d((levels != ground).double(), patch)[:, 0] >= 0.5

    def evaluate(self, samples: Tensor) -> dict[str, Measured]:
        """Valid, obeying and evenly spread samples (n, 3, H, W), beside the same share of exact images."""
        mine, exact = self._figures(samples), self._figures(self.exact_images(self.wanted(len(samples))))
        return {name: Measured(value, exact[name]) for name, value in mine.items()}

    def _figures(self, samples: Tensor) -> dict[str, float]:
        number = self.wanted(len(samples))
        obeyed = metrics.obeyed_mask(samples, [self.captions[i] for i in number], self.world).double()
        seen = self.seen[number]
        return {
            "valid_share": metrics.validity(samples, self.world),
            "seen_obeyed_share": obeyed[seen].mean().item(),
            "unseen_obeyed_share": obeyed[~seen].mean().item(),
            "places_nats_from_even": self.place_coverage(samples).divergence,
        }

    def place_coverage(self, images: Tensor) -> metrics.Coverage:
        """How evenly valid images (n, 3, H, W) use the places that captions leave open, all captions together."""
        factors = self.world.map_factors(images[metrics.valid_mask(images, self.world)])
        places, total = torch.zeros(len(factors), dtype=torch.int64), 1
        for column, (name, values) in enumerate(self.world.values.items()):
            if name.split()[-1] in ("row", "column"):
                places, total = places * len(values) + factors[:, column], total * len(values)
        return metrics.evenness(places, total)

    def picture(self, samples: Tensor) -> Figure:
        return show.image_grid(samples[:: max(1, len(samples) // 64)][:64], columns=8)


class CodedShapes(PromptedShapes):
    """The same images without their captions, for an autoencoder."""

    def batches(self, *, batch_size: int, seed: int, device: torch.device | str) -> Stream:
        def draw(n: int, /, *, generator: torch.Generator) -> Tensor:
            return self.pairs(n, generator=generator)[0]

        return Stream(draw, batch_size=batch_size, seed=seed, device=device)


class PromptedDigits(Worded, ScoredImages):
    """Digits with noise between their levels, and their names; judged by the nearest unseen digit, too."""

    captions = tuple(name_captions("0123456789"))
    count = 1000

    def batches(self, *, batch_size: int, seed: int, device: torch.device | str) -> Stream:  # type: ignore[override]
        """Random digits with fresh noise, (B, 1, 8, 8), and the tokens of their names."""
        train = self._load("train")
        draw = fresh(train.images.to(device), self._change, self.tokens[train.labels].to(device))
        return Stream(draw, batch_size=batch_size, seed=seed, device=device)

    def wanted(self, n: int) -> Tensor:
        """The numbers of the captions that n samples are for, (n,): each digit in turn."""
        return torch.arange(n) % len(self.captions)

    def evaluate(self, samples: Tensor) -> dict[str, Measured]:
        """Figures of `RealImages`, and the share whose nearest unseen digit has the name that was asked for."""
        train, test = self._load("train"), self._load("test")
        wanted = self.wanted(len(samples))

        def right(images: Tensor, labels: Tensor) -> float:
            return (test.labels[metrics.nearest(images, self.real("test"))[1]] == labels).double().mean().item()

        obeyed = Measured(right(samples, wanted), right(self.real("train"), train.labels))
        return super().evaluate(samples) | {"named_like_nearest_share": obeyed}


def _two() -> Shapes:
    return Shapes.preset("12x12", shapes=2)


def _patches() -> UNet:
    """A U-Net that takes and gives patches of 2x2 pixels: a quarter of the places, each with more features."""
    return UNet(3, width=64, multipliers=(1, 1), attention=(0, 1), patch=2, context=48, label=48)


SHAPES = PromptedShapes("captions", "two coloured shapes and their caption, 12x12", _two, shape=(3, 12, 12))
SHAPES16 = PromptedShapes(
    "captions16",
    "two coloured shapes of two sizes and their caption, 16x16",
    lambda: Shapes.preset("16x16", shapes=2),
    shape=(3, 16, 16),
)
CODED = CodedShapes("shapes", "two coloured shapes, 12x12, as a grid of 3x3 codes", _two, shape=(3, 12, 12))
DIGITS = PromptedDigits(
    "names",
    "1,415 handwritten digits and their names, 8x8, no download",
    data.digits,
    shape=(1, 8, 8),
    change=noisy_digits,
    view=lambda x: x,
)


def reading(net: Callable[[], nn.Module], target: PromptedShapes | PromptedDigits, *, width: int) -> nn.Module:
    """A denoising network that is told captions. net: makes one with context=width and label=width."""
    return Prompted(net(), TextEncoder(len(target.vocabulary), length=target.tokens.shape[1], width=width, blocks=1))


def draw_for(
    run: Run,
    tokens: Tensor,
    *,
    shape: tuple[int, ...],
    guidance_scale: float = GUIDANCE,
    steps: int = 20,
    seed: int = 1,
) -> Tensor:
    """An image for each caption (n, T) by a run's averaged network, (n, *shape) on the CPU: `steps` ancestral steps.

    guidance_scale: 1 is unguided; more takes two network calls a step.
    """

    def told(rows: Tensor) -> Denoise:
        context = tokens[rows].to(run.device)
        return classifier_free(run.average["model"], context, torch.zeros_like(context), guidance_scale=guidance_scale)

    return drawn(run, len(tokens), told, shape=shape, seed=seed, path=Schedule.even().path(steps), rows=250)


def vqvae(
    *,
    steps: int,
    codes: int,
    size: int,
    width: int,
    blocks: int,
    rate: float = 2e-3,
    commitment: float = 1.0,
    seed: int = 0,
    device: torch.device | str = "cpu",
    **options: Any,
) -> Run:
    """The run of an autoencoder whose codes are a grid of words, a quarter of the images' sides; options: of `Run`."""
    torch.manual_seed(seed)
    objective = VQVAE(
        CodeEncoder(3, size, width=width, blocks=blocks),
        CodeDecoder(size, 3, width=width, blocks=blocks, bounded=False),
        Gaussian(0.5, learned=True),
        codes=codes,
        size=size,
        commitment=commitment,
    )
    source = torch.Generator().manual_seed(seed)
    objective.spread_codes(CODED.pairs(512, generator=source)[0], generator=source)
    objective.to(device)
    options.setdefault("clip", 100.0)
    return Run(
        objective,
        adams(objective, rate),
        average={"model": 0.995},
        schedule=linear_decay(steps, hold=0.5),
        seed=seed,
        **options,
    )


@torch.no_grad()
def rebuilt(run: Run, n: int, *, seed: int = 1) -> Tensor:
    """What a run's codes keep of n images of the world, for captions spread evenly, (n, 3, H, W) on the CPU."""
    model: Any = run.average["model"]
    x = CODED.exact_images(CODED.wanted(n), seed=seed).to(run.device)
    index = nearest_code(model["encoder"](x).movedim(1, -1), model["codes"].weight)
    return model["decoder"](model["codes"](index).movedim(-1, 1)).cpu()  # type: ignore[no-any-return]


def _recipe(
    target: PromptedShapes | PromptedDigits,
    net: Callable[[], nn.Module],
    *,
    steps: int,
    full_steps: int,
    reaches: str,
    width: int,
    wanted: Callable[[int], Tensor],
    **settings: Any,
) -> Recipe:
    def build(**given: Any) -> Run:
        return diffusion_model(partial(reading, net, target, width=width), drop=DROP, **settings, **given)

    def draw(run: Run, n: int, *, seed: int = 1) -> Tensor:
        return draw_for(run, target.tokens[wanted(n)], shape=target.shape, seed=seed)

    return Recipe("diffusion", target, steps, full_steps, 64, build, draw, reaches)


PROMPTED = [
    *(
        _recipe(target, _patches, steps=9_000, full_steps=100_000, reaches=reaches, width=48, wanted=target.wanted)
        for target, reaches in (
            (SHAPES, "12 min; 98.6 % of images valid; all captions obeyed, those of unseen combinations, too"),
            (SHAPES16, "25 min; 98.8 % of images valid; 99.9 % of captions obeyed"),
        )
    ),
    _recipe(
        DIGITS,
        lambda: UNet(1, width=32, multipliers=(1, 2), attention=(1,), context=32, label=32),
        steps=1_500,
        full_steps=1_500,
        reaches="1 min; 99 % have the name of the nearest unseen digit (of real digits 92 %)",
        width=32,
        wanted=DIGITS.wanted,
        levels=partial(Schedule.normal, mean=0.0, std=3.0),
        average=0.995,
    ),
    Recipe(
        "codes",
        CODED,
        12_000,
        100_000,
        64,
        partial(vqvae, codes=256, size=8, width=64, blocks=2, commitment=2.0),
        rebuilt,
        "4 min; 99.8 % of images valid when rebuilt from nine code words",
    ),
]
