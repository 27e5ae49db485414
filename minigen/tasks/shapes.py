"""Worlds of shapes, whose templates say which samples are valid and whose entropy is the floor of any likelihood."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Literal

import torch
from torch import Tensor

from minigen import metrics, show
from minigen.data.batches import Stream, held_out
from minigen.tasks.task import Measured
from minigen.worlds import Shapes

HELD_OUT = 2000


class ShapesWorld:
    """A world of shapes: which samples are valid, and how evenly they cover it."""

    count, yardstick = 2000, "exact"

    def __init__(self, name: str, title: str, make: Callable[[], Shapes], *, shape: tuple[int, ...]) -> None:
        self.name, self.title, self.shape = name, title, shape
        self._make = cache(make)

    @property
    def world(self) -> Shapes:
        """Made when it is first needed."""
        return self._make()

    def batches(self, *, batch_size: int, seed: int, device: torch.device | str) -> Stream:
        """Fresh images of the world."""
        return Stream(self.world.sample, batch_size=batch_size, seed=seed, device=device)

    def evaluate(self, samples: Tensor) -> dict[str, Measured]:
        """The share of valid samples (N, *shape), and how unevenly these use the templates."""
        exact = self.world.sample(len(samples), generator=torch.Generator().manual_seed(0))
        coverage = metrics.coverage(samples, self.world)
        return {
            "valid_share": Measured(metrics.validity(samples, self.world), metrics.validity(exact, self.world)),
            "coverage_nats_from_even": Measured(coverage.divergence, coverage.exact),
        }

    def picture(self, samples: Tensor) -> show.Figure:
        """Samples as a picture, levels in their colours."""
        images = samples[:64]
        return show.image_grid(images if images.is_floating_point() else self.world.to_rgb(images), columns=8)


class ScoredShapes(ShapesWorld):
    """The same for a model with a likelihood, beside its floor."""

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
