"""Real images, of any loader that gives `data.Images`: judged against unseen ones, and by a held-out score."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from minigen import data, metrics, show
from minigen.data.batches import Batches, Stream, held_out
from minigen.data.levels import dequantise, fresh
from minigen.tasks.task import Measured

DIGIT_LEVELS = 17
Load = Callable[[str], data.Images]  # a split, "train" or "test", to its images


class RealImages:
    """Real images, judged by distances between pixels against unseen ones; the yardstick is real images' own distances.

    That is: of unseen images to their nearest training image, and of as many training images in the samples' place.

    load: called with "train" and "test" when they are first needed.
    """

    count, yardstick = 1000, "real"

    def __init__(self, name: str, title: str, load: Load, *, shape: tuple[int, ...]) -> None:
        self.name, self.title, self.shape = name, title, shape
        self._load = cache(load)

    def split(self, name: str) -> data.Images:
        """The stored images and labels of a split, "train" or "test"; loaded once."""
        return self._load(name)

    def real(self, split: str) -> Tensor:
        """The images of a split, (N, C, H, W) in [-1, 1]."""
        return data.to_float(self.split(split).images)

    def batches(self, *, batch_size: int, seed: int, device: torch.device | str) -> Batches | Stream:
        """The training images in random order, anew for each epoch."""
        images = self.split("train").images
        return Batches(images, batch_size=batch_size, seed=seed, device=device, transform=data.to_float)

    def evaluate(self, samples: Tensor) -> dict[str, Measured]:
        """Distances of samples (N, C, H, W) in [-1, 1] to training and to unseen images."""
        train, unseen = self.real("train"), self.real("test")
        n = min(len(samples), len(train), len(unseen))
        if n < 2:
            raise ValueError(f"samples are judged beside at least 2 training and 2 unseen images; got {n} to compare")
        order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))
        made, unseen, known = samples[:n], unseen[:n], train[order[:n]]
        x, y, z = made.flatten(1), unseen.flatten(1), known.flatten(1)

        def nearest(a: Tensor, b: Tensor) -> float:
            return metrics.nearest(a, b)[0].mean().item()

        figures = {
            "training_images_of_published": Measured(len(train), self.split("train").published),
            "images_compared": Measured(n, n),
            "distance_to_training_images": Measured(nearest(made, train), nearest(unseen, train)),
            "distance_from_unseen_images": Measured(nearest(unseen, made), nearest(unseen, known)),
            "pixel_frechet_distance": Measured(metrics.frechet_distance(x, y), metrics.frechet_distance(z, y)),
            "pixel_kernel_distance": Measured(metrics.kernel_distance(x, y), metrics.kernel_distance(z, y)),
        }
        if n > 3:  # fewer have no third neighbour
            mine, real = metrics.precision_recall(y, x), metrics.precision_recall(y, z)
            figures["pixel_precision"] = Measured(mine.precision, real.precision)
            figures["pixel_recall"] = Measured(mine.recall, real.recall)
        return figures

    def picture(self, samples: Tensor) -> show.Figure:
        """Samples as a picture."""
        return show.image_grid(samples[:64], columns=8)


class ScoredImages(RealImages):
    """Real images with fresh noise in each batch, held out from the test split; judged by samples as `RealImages` are.

    change: stored uint8 rows and uniform numbers to what a model sees. view: what it sees to images in [-1, 1].
    levels: of the stored images where a model's likelihood is a density on [-1, 1], for its offset in bits/dim.
    fixed: `change` ignores the uniform numbers; then each epoch has every image once.
    """

    def __init__(
        self,
        name: str,
        title: str,
        load: Load,
        *,
        shape: tuple[int, ...],
        change: Callable[[Tensor, Tensor], Tensor],
        view: Callable[[Tensor], Tensor] = lambda x: x,
        levels: int | None = None,
        fixed: bool = False,
    ) -> None:
        super().__init__(name, title, load, shape=shape)
        self.change, self.view, self.levels, self.fixed = change, view, levels, fixed

    def seen(self, split: str) -> Tensor:
        """Every image of a split once, with fixed noise, as a model sees it."""
        images = self.split(split).images
        return self.change(images, torch.rand(images.shape, generator=held_out()))

    def real(self, split: str) -> Tensor:
        """The images of a split as a model sees them, in [-1, 1]."""
        return self.view(self.seen(split))

    def batches(self, *, batch_size: int, seed: int, device: torch.device | str) -> Batches | Stream:
        """Random training images with fresh noise, and their conditions."""
        beside = self.conditions("train")
        if self.fixed:
            return Batches(self.seen("train"), *beside, batch_size=batch_size, seed=seed, device=device)
        draw = fresh(self.split("train").images.to(device), self.change, *(part.to(device) for part in beside))
        return Stream(draw, batch_size=batch_size, seed=seed, device=device)

    def conditions(self, split: str) -> tuple[Tensor, ...]:
        """What stands beside each image of a split; nothing here."""
        return ()

    def evaluate(self, samples: Tensor) -> dict[str, Measured]:
        """Figures of quality of samples (N, *shape) on the CPU, in the range that a model sees."""
        return super().evaluate(self.view(samples))

    def picture(self, samples: Tensor) -> show.Figure:
        """Samples as a picture."""
        return super().picture(self.view(samples))

    def held_out(self) -> Tensor:
        """The test split, with fixed noise."""
        return self.seen("test")

    def likelihood(self, nats: metrics.Estimate) -> dict[str, Measured]:
        """The score in nats/image and in bits/dim of the stored levels; nobody knows the floor."""
        dims = self.shape[0] * self.shape[1] * self.shape[2]
        bits = metrics.bits_per_dim(nats.mean, dims, levels=self.levels)
        return {
            "nll_nats_per_image": Measured(nats.mean, None),
            "nll_standard_error_nats": Measured(nats.standard_error, None),
            "nll_bits_per_dim": Measured(bits, None),
        }


def digit_levels(images: Tensor) -> Tensor:
    """The stored uint8 digits of scikit-learn as their levels 0..16, int64."""
    return (images * (16 / 255)).round().long()


def noisy_digits(images: Tensor, uniform: Tensor) -> Tensor:
    """The stored digits with uniform noise between their levels, floats in [-1, 1]."""
    return dequantise(digit_levels(images), uniform, num_levels=DIGIT_LEVELS)


def dequantised(name: str, title: str, load: Load, shape: tuple[int, ...]) -> ScoredImages:
    """Images of 256 levels, with noise between them."""
    return ScoredImages(name, title, load, shape=shape, change=partial(dequantise, num_levels=256), levels=256)


OF_DIGITS: dict[str, Any] = {"load": data.digits, "shape": (1, 8, 8), "change": noisy_digits, "levels": DIGIT_LEVELS}
NOISY_DIGITS = ScoredImages(
    "digits", "1,415 handwritten digits, 8x8, noise between their 17 levels, no download", **OF_DIGITS
)
