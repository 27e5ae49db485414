"""Images that come with a class, and judges of images that were asked for by class (chapter 04)."""

from __future__ import annotations

from functools import cached_property
from itertools import product

import torch
from torch import Tensor

from minigen import metrics
from minigen.data.batches import Stream
from minigen.tasks.captions import PromptedImages
from minigen.tasks.shapes import ShapesWorld
from minigen.tasks.task import Measured


class LabelledShapes(ShapesWorld):
    """A world of one shape, each image beside its class, int64: what is said of kind and colour; the rest is free.

    Samples are judged by the world's exact posterior: whether they show what their class says, and how much of what it
    leaves free they vary.
    """

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """What a class says, such as "a red disc", in the order of the numbers."""
        values = self.world.values
        return tuple(f"a {colour} {kind}" for kind, colour in product(values["kind"], values["colour"]))

    def label(self, factors: Tensor) -> Tensor:
        """The classes (n,) of factors (n, F)."""
        kind, colour = (factors[:, self.world.factor_names.index(name)] for name in ("kind", "colour"))
        return kind * len(self.world.values["colour"]) + colour

    def batches(self, *, batch_size: int, seed: int, device: torch.device | str) -> Stream:
        """Fresh images of the world and their classes."""

        def draw(n: int, /, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
            x, factors = self.world.sample_with_factors(n, generator=generator)
            return x, self.label(factors)

        return Stream(draw, batch_size=batch_size, seed=seed, device=device)

    def wanted(self, n: int) -> Tensor:
        """The classes that n samples are for, (n,): each in turn."""
        return torch.arange(n) % len(self.classes)

    def evaluate(self, samples: Tensor) -> dict[str, Measured]:
        """Obeying, valid and varied samples (n, *shape) for `wanted(n)`, beside exact images of the same classes."""
        wanted, source = self.wanted(len(samples)), torch.Generator().manual_seed(0)
        exact = torch.empty_like(samples)
        for number, text in enumerate(self.classes):
            rows = wanted == number
            index = self.world.caption_indices(text)
            exact[rows] = self.world.sample(int(rows.sum()), generator=source, index=index)
        mine, best = (self._figures(images, wanted) for images in (samples, exact))
        return {name: Measured(value, best[name]) for name, value in mine.items()}

    def _figures(self, images: Tensor, wanted: Tensor) -> dict[str, float]:
        captions = [self.classes[i] for i in wanted.tolist()]
        return {
            "obeyed_share": metrics.obeyed_mask(images, captions, self.world).double().mean().item(),
            "valid_share": metrics.validity(images, self.world),
            "free_entropy_ratio": metrics.free_entropy(images, captions, self.world).share,
        }


class LabelledImages(PromptedImages):
    """Real images beside their classes, int64; judged as `PromptedImages` are, by the nearest unseen image, too."""

    def conditions(self, split: str) -> tuple[Tensor, ...]:
        """The class of each image of a split."""
        return (self.split(split).labels.long(),)
