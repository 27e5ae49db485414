"""Images with captions to learn from, and how to judge what a model says of images (chapter 14).

A sample is a caption, (T,) tokens: what a model says of an image that it has not been trained on.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, cached_property
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from minigen import data
from minigen.objectives.contrastive import information_bound, retrieval
from minigen.recipes.recipe import Measured
from minigen.streams import Batches, Stream, held_out
from minigen.words import Vocabulary, name_captions
from minigen.worlds import ExactCaptions, Shapes

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Told(NamedTuple):
    """Images (n, C, H, W) and the numbers of their captions, (n,)."""

    images: Tensor
    number: Tensor


Score = Callable[[Tensor, Tensor], Tensor]  # images (n, C, H, W) and tokens (n, T) to scores (n, n)
LogProb = Callable[[Tensor, Tensor], Tensor]  # tokens (n, T) and images (n, C, H, W) to nats, (n,)


def blocks(function: Callable[[Tensor], Tensor], scores: Tensor, size: int) -> float:
    """The mean of a function of (size, size) over such blocks along the diagonal of larger scores."""
    starts = range(0, len(scores) - size + 1, size)
    return torch.stack([function(scores[i : i + size, i : i + size]).mean() for i in starts]).mean().item()


class Worded:
    """Data with a list of captions. tokens: the same as numbers, (C, T); vocabulary: the words that occur."""

    @property
    def captions(self) -> tuple[str, ...]:
        """Every caption, in the order of their numbers."""
        raise NotImplementedError

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The words of the captions."""
        return Vocabulary.of(self.captions)

    @cached_property
    def tokens(self) -> Tensor:
        """Every caption as tokens, (C, T)."""
        return self.vocabulary.encode(self.captions)


class Captioned(Worded):
    """Images with one caption each, out of a list: what the two kinds of data have in common.

    captions: every caption. tokens: the same as numbers, (C, T). image: the shape of an image. `shape` is a caption's.
    """

    yardstick = "exact"
    shape: tuple[int, ...]
    count: int

    def __init__(self, name: str, title: str, captions: Callable[[], tuple[str, ...]], image: tuple[int, ...]) -> None:
        self.name, self.title, self.image = name, title, image
        self._captions = cache(captions)

    @property
    def captions(self) -> tuple[str, ...]:
        """Every caption, in the order of their numbers."""
        return self._captions()

    def told(self, n: int) -> Told:
        """n images that no training saw, and what they show; the same at each call."""
        raise NotImplementedError

    def batches(self, *, batch_size: int, seed: int, device: torch.device | str) -> Batches | Stream:
        """Endless pairs of tokens (B, T) and images (B, C, H, W)."""
        raise NotImplementedError

    def evaluate(self, samples: Tensor) -> dict[str, Measured]:
        """The share of captions (n, T) of `told(n)` that are right."""
        raise NotImplementedError

    def bounds(self, score: Score) -> dict[str, Measured]:
        """Figures of a model that scores images and captions."""
        raise NotImplementedError

    def nll(self, log_prob: LogProb) -> dict[str, Measured]:
        """Figures of a model that gives captions a probability."""
        raise NotImplementedError

    def _right(self, samples: Tensor) -> tuple[Told, Tensor, Tensor]:
        """The images that samples (n, T) are about, whether each is the caption, and whether it is any caption."""
        told = self.told(len(samples))
        match = (samples[:, None] == self.tokens).all(2)  # (n, C)
        return told, match[torch.arange(len(samples)), told.number].double(), match.any(1).double()

    def picture(self, samples: Tensor) -> Figure:
        """Images and what was said of them; in colour where it is wrong."""
        from matplotlib import pyplot as plt

        from minigen import show

        n = min(len(samples), 20)
        rows = math.ceil(n / 4)
        told, right, _ = self._right(samples)
        figure, axes = plt.subplots(rows, 4, figsize=(9, 1.8 * rows), squeeze=False, layout="constrained")
        for ax in axes.flat:
            ax.set_axis_off()
        texts = self.vocabulary.decode(samples[:n])
        for ax, image, text, fits in zip(axes.flat, told.images[:n], texts, right.tolist(), strict=False):
            shown = (image.permute(1, 2, 0) / 2 + 0.5).clamp(0, 1)
            ax.imshow(shown.squeeze(2) if image.shape[0] == 1 else shown, cmap="gray")
            ax.set_title(text, fontsize=9, color=show.COLOURS["exact" if fits else "model"])
        return figure


class FoggyShapes(Captioned):
    """Shapes under heavy noise with their captions; a fifth of all combinations of words is never trained on.

    Of the images that it is judged on, every second one shows such an unseen combination.
    """

    shape: tuple[int, ...] = (8,)
    count = 2000

    def __init__(self, name: str, title: str, make: Callable[[], Shapes]) -> None:
        self._make = cache(make)
        super().__init__(name, title, lambda: self.exact.captions, (3, 12, 12))

    @property
    def world(self) -> Shapes:
        """Made when it is first needed."""
        return self._make()

    @cached_property
    def exact(self) -> ExactCaptions:
        """The law of all captions."""
        return ExactCaptions(self.world)

    @cached_property
    def seen(self) -> ExactCaptions:
        """The law of those that are trained on."""
        return ExactCaptions(self.world, index=self.world.split().train)

    @cached_property
    def unseen(self) -> ExactCaptions:
        """The law of those that are not."""
        return ExactCaptions(self.world, index=self.world.split().test)

    def told(self, n: int) -> Told:
        """n images of seen and unseen combinations in turn; the same at each call."""
        random, both = held_out(), []
        for rows, index in zip((n - n // 2, n // 2), self.world.split(), strict=True):
            x, factors = self.world.sample_with_factors(rows, generator=random, index=index)
            both.append(Told(x, self.exact.number(factors)))
        order = torch.cat([torch.arange(len(part.number)) for part in both]).argsort(stable=True)
        return Told(*(torch.cat(parts)[order] for parts in zip(*both, strict=True)))

    def batches(self, *, batch_size: int, seed: int, device: torch.device | str) -> Stream:
        """Fresh pairs of seen combinations: tokens (B, T) and images (B, 3, 12, 12)."""
        train, tokens = self.world.split().train, self.tokens.to(device)

        def draw(n: int, /, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
            x, factors = self.world.sample_with_factors(n, generator=generator, index=train)
            return tokens[self.exact.number(factors)], x

        return Stream(draw, batch_size=batch_size, seed=seed, device=device)

    def evaluate(self, samples: Tensor) -> dict[str, Measured]:
        """The share of captions (n, T) that are right, beside that of the most probable ones."""
        told, right, real = self._right(samples)
        best = (self.exact.log_posterior(told.images).argmax(1) == told.number).double()
        figures = {"captions_of_the_world": Measured(real.mean().item(), 1.0)}
        for part, name in enumerate(("seen", "unseen")):
            mine, exact = right[part::2].mean().item(), best[part::2].mean().item()
            figures[f"{name}_captions_right"] = Measured(mine, exact)
        return figures

    def bounds(self, score: Score) -> dict[str, Measured]:
        """What scores of images with captions say of the information, in nats, and how often they find the own one.

        Among 64 pairs and among 2,048 of seen combinations, beside the exact critic on the same pairs.
        """
        train, n = self.world.split().train, 2048
        x, factors = self.world.sample_with_factors(n, generator=held_out(), index=train)
        mine = score(x, self.tokens[self.exact.number(factors)])
        best = self.seen.log_ratio(x)[:, self.seen.number(factors)]
        figures = {
            f"bound_nats_among_{size}": Measured(*(blocks(information_bound, s, size) for s in (mine, best)))
            for size in (64, n)
        }
        figures["information_nats"] = Measured(
            figures[f"bound_nats_among_{n}"].model, self.seen.information(x).mean().item()
        )
        found = (blocks(retrieval, s, 64) for s in (mine, best))
        return figures | {"found_among_64": Measured(*found)}

    def nll(self, log_prob: LogProb) -> dict[str, Measured]:
        """Minus the log-likelihood of captions, nats, beside H(caption | image), of seen and of unseen combinations."""
        figures = {}
        for name, law, index in zip(("seen", "unseen"), (self.seen, self.unseen), self.world.split(), strict=True):
            x, factors = self.world.sample_with_factors(1000, generator=held_out(), index=index)
            reached = -log_prob(self.tokens[self.exact.number(factors)], x).mean().item()
            floor = law.entropy() - law.information(x).mean().item()
            figures[f"{name}_nll_nats_per_caption"] = Measured(reached, floor)
        return figures


class NamedImages(Captioned):
    """Real images with the names of their classes as captions; judged on the test split."""

    yardstick = "real"

    def __init__(
        self,
        name: str,
        title: str,
        load: Callable[[str], data.Images],
        classes: tuple[str, ...],
        *,
        image: tuple[int, ...],
        count: int,
    ) -> None:
        super().__init__(name, title, lambda: tuple(name_captions(classes)), image)
        self.count, self.shape, self._load = count, (max(len(text.split()) for text in self.captions) + 2,), cache(load)

    def told(self, n: int) -> Told:
        """n images of the test split, from its beginning, over again where it is shorter."""
        test = self._load("test")
        rows = torch.arange(n) % len(test)
        return Told(data.to_float(test.images[rows]), test.labels[rows])

    def batches(self, *, batch_size: int, seed: int, device: torch.device | str) -> Batches:
        """Pairs of the training split: tokens (B, T) and images (B, C, H, W) in [-1, 1]."""
        train = self._load("train")
        tokens, images = self.tokens[train.labels], data.to_float(train.images)
        return Batches(tokens, images, batch_size=batch_size, seed=seed, device=device)

    def evaluate(self, samples: Tensor) -> dict[str, Measured]:
        """The share of captions (n, T) that are right, of unseen images."""
        _, right, real = self._right(samples)
        return {
            "names_right": Measured(right.mean().item(), None),
            "names_of_a_class": Measured(real.mean().item(), None),
        }

    def bounds(self, score: Score) -> dict[str, Measured]:
        """The lower bound of the information in nats by the test split, in batches of 64; nobody knows the truth."""
        told = self.told(self.count)
        mine = score(told.images, self.tokens[told.number])
        return {"bound_nats_among_64": Measured(blocks(information_bound, mine, 64), None)}

    def nll(self, log_prob: LogProb) -> dict[str, Measured]:
        """Minus the log-likelihood of the names of the test split, nats."""
        told = self.told(self.count)
        return {"nll_nats_per_caption": Measured(-log_prob(self.tokens[told.number], told.images).mean().item(), None)}
