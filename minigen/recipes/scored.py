"""The data sets of models with a likelihood: images of levels, and images of numbers, with a held-out score.

Levels are drawn pixel by pixel by chapter 10; numbers, and black-and-white images as -1 and 1, by chapter 09.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from minigen import data, metrics
from minigen.levels import dequantise, fresh
from minigen.recipes.recipe import Measured
from minigen.recipes.targets import RealImages, ShapesWorld
from minigen.streams import Stream, held_out

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HELD_OUT = 2000
DIGIT_LEVELS = 17


def digit_levels(images: Tensor) -> Tensor:
    """The stored uint8 digits of scikit-learn as their levels 0..16, int64."""
    return (images * (16 / 255)).round().long()


class ScoredWorld(ShapesWorld):
    """A world of shapes with its entropy as the floor of any likelihood."""

    def held_out(self) -> Tensor:
        """2,000 images of the world, the same at each call."""
        return self.world.sample(HELD_OUT, generator=held_out())

    def likelihood(self, nats: metrics.Estimate) -> dict[str, Measured]:
        """The score beside the floor, in bits of levels or nats of numbers, and as a share of the way to confetti."""
        floor, independent = self.world.entropy().value, self.world.independent_pixel_nll()
        bit = metrics.bits_per_dim(1.0, 1)
        unit, scale = ("bits", bit) if self.world.form == "discrete" else ("nats", 1.0)
        return {
            f"nll_{unit}_per_image": Measured(nats.mean * scale, floor * scale),
            f"nll_standard_error_{unit}": Measured(nats.standard_error * scale, None),
            "gap_of_independent_pixels": Measured(metrics.relative_gap(nats.mean, floor, independent), 0.0),
        }

    def picture(self, samples: Tensor) -> Figure:
        """Samples as a picture, levels in their colours."""
        return super().picture(samples if samples.is_floating_point() else self.world.to_rgb(samples))


class ScoredImages(RealImages):
    """Real images with fresh noise in each batch, held out from the test split; judged by samples as `RealImages` are.

    change: stored uint8 rows and uniform numbers to what a model sees. view: what it sees to images in [-1, 1].
    levels: of the stored images where a model's likelihood is a density on [-1, 1], for its offset in bits/dim.
    """

    def __init__(
        self,
        name: str,
        title: str,
        load: Callable[[str], data.Images],
        *,
        shape: tuple[int, ...],
        change: Callable[[Tensor, Tensor], Tensor],
        view: Callable[[Tensor], Tensor],
        levels: int | None = None,
    ) -> None:
        super().__init__(name, title, load, shape=shape)
        self._change, self._view, self._levels = change, view, levels

    def seen(self, split: str) -> Tensor:
        """Every image of a split once, with fixed noise, as a model sees it."""
        images = self._load(split).images
        return self._change(images, torch.rand(images.shape, generator=held_out()))

    def real(self, split: str) -> Tensor:
        """The images of a split as a model sees them, in [-1, 1]."""
        return self._view(self.seen(split))

    def batches(self, *, batch_size: int, seed: int, device: torch.device | str) -> Stream:  # type: ignore[override]
        """Random rows with fresh noise, endless, on a device."""
        draw = fresh(self._load("train").images.to(device), self._change)
        return Stream(draw, batch_size=batch_size, seed=seed, device=device)

    def evaluate(self, samples: Tensor) -> dict[str, Measured]:
        """Figures of quality of samples (N, *shape) on the CPU, in the range of `view`."""
        return super().evaluate(self._view(samples))

    def picture(self, samples: Tensor) -> Figure:
        """Samples as a picture."""
        return super().picture(self._view(samples))

    def held_out(self) -> Tensor:
        """The test split, with fixed noise."""
        return self.seen("test")

    def likelihood(self, nats: metrics.Estimate) -> dict[str, Measured]:
        """The score in nats/image and in bits/dim of the stored levels; nobody knows the floor."""
        dims = self.shape[0] * self.shape[1] * self.shape[2]
        bits = metrics.bits_per_dim(nats.mean, dims, levels=self._levels)
        return {
            "nll_nats_per_image": Measured(nats.mean, None),
            "nll_standard_error_nats": Measured(nats.standard_error, None),
            "nll_bits_per_dim": Measured(bits, None),
        }


def noisy_digits(images: Tensor, uniform: Tensor) -> Tensor:
    """The stored digits with uniform noise between their levels, floats in [-1, 1]."""
    return dequantise(digit_levels(images), uniform, levels_count=DIGIT_LEVELS)


NOISY_DIGITS = ScoredImages(
    "digits",
    "1,415 handwritten digits, 8x8, noise between their 17 levels, no download",
    data.digits,
    shape=(1, 8, 8),
    change=noisy_digits,
    view=lambda x: x,
    levels=DIGIT_LEVELS,
)
