"""The data sets of the recipes: batches, picture and figures of quality, whatever family learns them.

Every figure of quality stands beside its yardstick, the value that exact samples or unseen real images give.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from minigen import data, metrics, show
from minigen.recipes.recipe import Measured, Target
from minigen.streams import Batches, Stream
from minigen.worlds import GaussianMixture, Shapes

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Plane:
    """A mixture of Gaussians in the plane, drawn over [-reach, reach]^2; judged by the published 2,500 samples."""

    shape: tuple[int, ...] = (2,)
    count, yardstick = 2500, "exact"

    def __init__(self, name: str, title: str, world: GaussianMixture, *, reach: float) -> None:
        self.name, self.title, self.world, self.reach = name, title, world, reach

    def batches(self, *, batch_size: int, seed: int, device: torch.device | str) -> Stream:
        return Stream(self.world.sample, batch_size=batch_size, seed=seed, device=device)

    def evaluate(self, samples: Tensor) -> dict[str, Measured]:
        report = metrics.modes(samples, self.world)
        return {
            "modes_captured": Measured(report.captured, len(self.world)),
            "high_quality_share": Measured(report.high_quality, metrics.HIGH_QUALITY_CEILING),
        }

    def picture(self, samples: Tensor) -> Figure:
        from matplotlib import pyplot as plt

        r = self.reach
        figure, (left, right) = plt.subplots(1, 2, figsize=(8, 4.2), sharey=True, layout="constrained")
        right.scatter(*self.world.means.T, s=90, facecolors="none", edgecolors=show.COLOURS["data"], linewidths=0.8)
        show.field(left, lambda x: self.world.log_prob(x).exp(), (-r, r, -r, r), kind="density", resolution=400)
        left.set_title("data: density", fontsize=10)
        show.scatter(right, samples, "model", size=3)
        show.plane(right, (-r, r, -r, r), title=f"model: {len(samples):,} samples (circles: the spots)")
        return figure


class ShapesWorld:
    """A world of shapes, whose templates say which samples are valid and how evenly they cover the world."""

    count, yardstick = 2000, "exact"

    def __init__(self, name: str, title: str, make: Callable[[], Shapes], *, shape: tuple[int, ...]) -> None:
        self.name, self.title, self.shape = name, title, shape
        self._make = cache(make)

    @property
    def world(self) -> Shapes:
        """Made when it is first needed."""
        return self._make()

    def batches(self, *, batch_size: int, seed: int, device: torch.device | str) -> Stream:
        return Stream(self.world.sample, batch_size=batch_size, seed=seed, device=device)

    def evaluate(self, samples: Tensor) -> dict[str, Measured]:
        exact = self.world.sample(len(samples), generator=torch.Generator().manual_seed(0))
        coverage = metrics.coverage(samples, self.world)
        return {
            "valid_share": Measured(metrics.validity(samples, self.world), metrics.validity(exact, self.world)),
            "coverage_nats_from_even": Measured(coverage.divergence, coverage.exact),
        }

    def picture(self, samples: Tensor) -> Figure:
        return show.image_grid(samples[:64], columns=8)


class RealImages:
    """Real images, judged by distances between pixels against unseen ones; the yardstick is real images' own distances.

    That is: of unseen images to their nearest training image, and of as many training images in the samples' place.
    """

    count, yardstick = 1000, "real"

    def __init__(self, name: str, title: str, load: Callable[[str], data.Images], *, shape: tuple[int, ...]) -> None:
        self.name, self.title, self.shape = name, title, shape
        self._load = cache(load)

    def real(self, split: str) -> Tensor:
        """The images of a split, (N, C, H, W) in [-1, 1]."""
        return data.to_float(self._load(split).images)

    def batches(self, *, batch_size: int, seed: int, device: torch.device | str) -> Batches:
        images = self._load("train").images
        return Batches(images, batch_size=batch_size, seed=seed, device=device, transform=data.to_float)

    def evaluate(self, samples: Tensor) -> dict[str, Measured]:
        train, unseen = self.real("train"), self.real("test")
        n = min(len(samples), len(train), len(unseen))
        order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))
        made, unseen, known = samples[:n], unseen[:n], train[order[:n]]
        x, y, z = made.flatten(1), unseen.flatten(1), known.flatten(1)

        def nearest(a: Tensor, b: Tensor) -> float:
            return metrics.nearest(a, b)[0].mean().item()

        mine, real = metrics.precision_recall(y, x), metrics.precision_recall(y, z)
        return {
            "training_images_of_published": Measured(len(train), self._load("train").published),
            "images_compared": Measured(n, n),
            "distance_to_training_images": Measured(nearest(made, train), nearest(unseen, train)),
            "distance_from_unseen_images": Measured(nearest(unseen, made), nearest(unseen, known)),
            "pixel_frechet_distance": Measured(metrics.frechet_distance(x, y), metrics.frechet_distance(z, y)),
            "pixel_kernel_distance": Measured(metrics.kernel_distance(x, y), metrics.kernel_distance(z, y)),
            "pixel_precision": Measured(mine.precision, real.precision),
            "pixel_recall": Measured(mine.recall, real.recall),
        }

    def picture(self, samples: Tensor) -> Figure:
        return show.image_grid(samples[:64], columns=8)


def _real(name: str, title: str, shape: tuple[int, ...]) -> RealImages:
    return RealImages(name, title, lambda split: getattr(data, name)(split), shape=shape)


def small_shapes(*, form: Literal["continuous", "discrete"] = "continuous") -> Shapes:
    """72 templates of 8x8 pixels: small enough for fully connected networks to learn in seconds."""
    return Shapes(
        8,
        kinds=("disc", "square", "cross"),
        colours=("red", "green", "blue"),
        sizes=(5,),
        positions=(2, 2),
        backgrounds=("black", "white"),
        form=form,
    )


_ALL: list[Target] = [
    Plane("ring", "8 spots on a circle, in the plane", GaussianMixture.ring(), reach=1.3),
    Plane("grid", "25 spots on a grid, in the plane", GaussianMixture.grid(), reach=4.6),
    ShapesWorld("shapes", "one coloured shape, 8x8, 72 templates", small_shapes, shape=(3, 8, 8)),
    _real("digits", "1,415 handwritten digits, 8x8, no download", (1, 8, 8)),
    _real("mnist", "60,000 handwritten digits, 28x28", (1, 28, 28)),
    _real("fashion_mnist", "60,000 pictures of clothes, 28x28", (1, 28, 28)),
]
TARGETS: dict[str, Target] = {target.name: target for target in _ALL}
