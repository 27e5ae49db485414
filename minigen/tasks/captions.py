"""Labelled and captioned data, of worlds and of real images, in both directions.

`CaptionedShapes` and `CaptionedImages` are the data: batches (images, condition), judged as images without a caption.
`Prompted...` are judged by images that were drawn for captions (chapter 13), `Described...` by captions that were
written for images (chapter 14): there a sample is a caption, (T,) tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, one_hot

from minigen import data, metrics, show
from minigen.data.batches import Stream, held_out
from minigen.data.vocabulary import Vocabulary, name_captions
from minigen.objectives.contrastive import information_bound, recall_at_k
from minigen.tasks.images import Load, ScoredImages
from minigen.tasks.shapes import ScoredShapes
from minigen.tasks.task import Measured
from minigen.worlds import ExactCaptions, Shapes
from minigen.worlds.shapes import Split

Condition = Literal["tokens", "words", "labels"]
Score = Callable[[Tensor, Tensor], Tensor]  # images (n, C, H, W) and tokens (n, T) to scores (n, n)
LogProb = Callable[[Tensor, Tensor], Tensor]  # tokens (n, T) and images (n, C, H, W) to nats, (n,)


class Pairs(NamedTuple):
    """Images (n, C, H, W) and the numbers of their captions, (n,)."""

    images: Tensor
    number: Tensor


def blocks(function: Callable[[Tensor], Tensor], scores: Tensor, size: int) -> float:
    """The mean of a function of (size, size) over such blocks along the diagonal of larger scores."""
    starts = range(0, len(scores) - size + 1, size)
    return torch.stack([function(scores[i : i + size, i : i + size]).mean() for i in starts]).mean().item()


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


class Captioned:
    """Data with a list of captions, each with a number."""

    @property
    def captions(self) -> tuple[str, ...]:
        """Every caption, in the order of their numbers."""
        raise NotImplementedError

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The words that occur in captions."""
        return Vocabulary.of(self.captions)

    @cached_property
    def tokens(self) -> Tensor:
        """Every caption as tokens, (C, T)."""
        return self.vocabulary.encode(self.captions)


class CaptionedShapes(Captioned, ScoredShapes):
    """A world of shapes with its captions.

    condition: what stands beside the images of a batch: "tokens" (B, T); "words", (B, words) of `caption_words`, which
    are zeros for every second image, so that both are learnt; nothing for None.
    hold_out: a fifth of all combinations of words is never trained on, though each word is; see `Shapes.split`.
    """

    def __init__(
        self,
        name: str,
        title: str,
        make: Callable[[], Shapes],
        *,
        shape: tuple[int, ...],
        condition: Condition | None = "tokens",
        hold_out: bool = True,
    ) -> None:
        if condition not in ("tokens", "words", None):
            raise ValueError(f"condition must be 'tokens', 'words' or None for shapes; got {condition!r}")
        super().__init__(name, title, make, shape=shape)
        self.condition, self.hold_out = condition, hold_out

    @cached_property
    def exact(self) -> ExactCaptions:
        """The law of all captions."""
        return ExactCaptions(self.world)

    @cached_property
    def split(self) -> Split:
        """Template numbers of the captions that are trained on, and of the others."""
        return self.world.split()

    @cached_property
    def seen(self) -> ExactCaptions:
        """The law of the captions that are trained on."""
        return ExactCaptions(self.world, index=self.split.train)

    @cached_property
    def unseen(self) -> ExactCaptions:
        """The law of those that are not."""
        return ExactCaptions(self.world, index=self.split.test)

    @cached_property
    def is_seen(self) -> Tensor:
        """Which captions are trained on, bool (C,)."""
        numbers = self.exact.number(self.world.factors(self.split.train))
        return torch.zeros(len(self.captions), dtype=torch.bool).index_fill(0, numbers, True)

    @property
    def captions(self) -> tuple[str, ...]:
        """Every caption, seen or unseen, in the order of their numbers."""
        return self.exact.captions

    def pairs(self, n: int, /, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """n images (n, C, H, W) of the captions that are trained on, and the captions' tokens (n, T)."""
        x, factors = self._draw(n, generator)
        return x, self.tokens.to(x.device)[self.exact.number(factors)]

    def batches(self, *, batch_size: int, seed: int, device: torch.device | str) -> Stream:
        """Fresh images of the captions that are trained on, with their condition."""

        def images(n: int, /, *, generator: torch.Generator) -> Tensor:
            return self._draw(n, generator)[0]

        def with_words(n: int, /, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
            x, factors = self._draw(n, generator)
            words = caption_words(self.world, self.world.caption(factors))
            words[::2] = 0
            return x, words.to(x.device)

        draw = {"tokens": self.pairs, "words": with_words, None: images}[self.condition]
        return Stream(draw, batch_size=batch_size, seed=seed, device=device)

    def _draw(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        index = self.split.train if self.hold_out else None
        return self.world.sample_with_factors(n, generator=generator, index=index)


class PromptedShapes(CaptionedShapes):
    """The same, judged by images for captions that are spread evenly over the list of all, seen and unseen."""

    count = 1000

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
        return avg_pool2d((levels != ground).double(), patch)[:, 0] >= 0.5

    def evaluate(self, samples: Tensor) -> dict[str, Measured]:
        """Valid, obeying and evenly spread samples (n, 3, H, W), beside the same share of exact images."""
        mine, exact = self._figures(samples), self._figures(self.exact_images(self.wanted(len(samples))))
        return {name: Measured(value, exact[name]) for name, value in mine.items()}

    def _figures(self, samples: Tensor) -> dict[str, float]:
        number = self.wanted(len(samples))
        obeyed = metrics.obeyed_mask(samples, [self.captions[i] for i in number], self.world).double()
        seen = self.is_seen[number]
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

    def picture(self, samples: Tensor) -> show.Figure:
        """Samples of all captions as a picture."""
        return show.image_grid(samples[:: max(1, len(samples) // 64)][:64], columns=8)


class CaptionedImages(Captioned, ScoredImages):
    """Real images with the names of their classes.

    condition: what stands beside the images of a batch: "tokens" (B, T) of the names, or "labels", one-hot (B, C)
    floats.
    """

    def __init__(
        self,
        name: str,
        title: str,
        load: Load,
        classes: Sequence[str],
        *,
        condition: Condition = "tokens",
        **settings: Any,
    ) -> None:
        if condition not in ("tokens", "labels"):
            raise ValueError(f"condition must be 'tokens' or 'labels' for images; got {condition!r}")
        super().__init__(name, title, load, **settings)
        self.condition, self._captions = condition, tuple(name_captions(classes))

    @property
    def captions(self) -> tuple[str, ...]:
        """The names, one for each class, in the order of the labels."""
        return self._captions

    def conditions(self, split: str) -> tuple[Tensor, ...]:
        """What stands beside each image of a split: one tensor, its rows in the order of the images."""
        labels = self.split(split).labels
        if self.condition == "labels":
            return (one_hot(labels.long(), len(self.captions)).float(),)
        return (self.tokens[labels],)


class PromptedImages(CaptionedImages):
    """The same, judged by images for each name in turn, by the nearest unseen image, too."""

    def wanted(self, n: int) -> Tensor:
        """The numbers of the captions that n samples are for, (n,): each class in turn."""
        return torch.arange(n) % len(self.captions)

    def evaluate(self, samples: Tensor) -> dict[str, Measured]:
        """Figures of `RealImages`, and the share whose nearest unseen image has the name that was asked for."""
        train, test = self.split("train"), self.split("test")
        wanted = self.wanted(len(samples))

        def right(images: Tensor, labels: Tensor) -> float:
            return (test.labels[metrics.nearest(images, self.real("test"))[1]] == labels).double().mean().item()

        obeyed = Measured(right(samples, wanted), right(self.real("train"), train.labels))
        return super().evaluate(samples) | {"named_like_nearest_share": obeyed}


class Described(Captioned):
    """The other direction: a sample is what a model says of an image that it has not been trained on, (T,) tokens."""

    def test_pairs(self, n: int) -> Pairs:
        """n images that no training saw, and what they show; the same at each call."""
        raise NotImplementedError

    def _right(self, samples: Tensor) -> tuple[Pairs, Tensor, Tensor]:
        """The images that samples (n, T) are about, whether each is the caption, and whether it is any caption."""
        pairs = self.test_pairs(len(samples))
        match = (samples[:, None] == self.tokens).all(2)  # (n, C)
        return pairs, match[torch.arange(len(samples)), pairs.number].double(), match.any(1).double()

    def picture(self, samples: Tensor) -> show.Figure:
        """Images and what was said of them; in colour where it is wrong."""
        from matplotlib import pyplot as plt

        n = min(len(samples), 20)
        rows = math.ceil(n / 4)
        pairs, right, _ = self._right(samples)
        figure, axes = plt.subplots(rows, 4, figsize=(9, 1.8 * rows), squeeze=False, layout="constrained")
        for ax in axes.flat:
            ax.set_axis_off()
        texts = self.vocabulary.decode(samples[:n])
        for ax, image, text, fits in zip(axes.flat, pairs.images[:n], texts, right.tolist(), strict=False):
            shown = (image.permute(1, 2, 0) / 2 + 0.5).clamp(0, 1)
            ax.imshow(shown.squeeze(2) if image.shape[0] == 1 else shown, cmap="gray")
            ax.set_title(text, fontsize=9, color=show.COLOURS["exact" if fits else "model"])
        return figure


class DescribedShapes(Described, CaptionedShapes):
    """Shapes with their captions; of the images that it is judged on, every second one shows an unseen combination.

    image: the shape of an image.
    """

    def __init__(
        self, name: str, title: str, make: Callable[[], Shapes], *, shape: tuple[int, ...], image: tuple[int, ...]
    ) -> None:
        super().__init__(name, title, make, shape=shape)
        self.image = image

    def test_pairs(self, n: int) -> Pairs:
        """n images of seen and unseen combinations in turn; the same at each call."""
        random, both = held_out(), []
        for rows, index in zip((n - n // 2, n // 2), self.split, strict=True):
            x, factors = self.world.sample_with_factors(rows, generator=random, index=index)
            both.append(Pairs(x, self.exact.number(factors)))
        order = torch.cat([torch.arange(len(part.number)) for part in both]).argsort(stable=True)
        return Pairs(*(torch.cat(parts)[order] for parts in zip(*both, strict=True)))

    def evaluate(self, samples: Tensor) -> dict[str, Measured]:
        """The share of captions (n, T) that are right, beside that of the most probable ones."""
        pairs, right, real = self._right(samples)
        best = (self.exact.log_posterior(pairs.images).argmax(1) == pairs.number).double()
        figures = {"captions_of_the_world": Measured(real.mean().item(), 1.0)}
        for part, name in enumerate(("seen", "unseen")):
            mine, exact = right[part::2].mean().item(), best[part::2].mean().item()
            figures[f"{name}_captions_right"] = Measured(mine, exact)
        return figures

    def bounds(self, score: Score) -> dict[str, Measured]:
        """What scores of images with captions say of the information, in nats, and how often they find the own one.

        Among 64 pairs and among 2,048 of seen combinations, beside the exact critic on the same pairs.
        """
        n = 2048
        x, factors = self.world.sample_with_factors(n, generator=held_out(), index=self.split.train)
        mine = score(x, self.tokens[self.exact.number(factors)])
        best = self.seen.log_ratio(x)[:, self.seen.number(factors)]
        figures = {
            f"bound_nats_among_{size}": Measured(*(blocks(information_bound, s, size) for s in (mine, best)))
            for size in (64, n)
        }
        shown, there = figures[f"bound_nats_among_{n}"].model, self.seen.information(x).mean().item()
        figures["information_nats"] = Measured(shown, there)
        found = (blocks(recall_at_k, s, 64) for s in (mine, best))
        return figures | {"found_among_64": Measured(*found)}

    def nll(self, log_prob: LogProb) -> dict[str, Measured]:
        """Minus the log-likelihood of captions, nats, beside H(caption | image), of seen and of unseen combinations."""
        figures = {}
        for name, law, index in zip(("seen", "unseen"), (self.seen, self.unseen), self.split, strict=True):
            x, factors = self.world.sample_with_factors(1000, generator=held_out(), index=index)
            reached = -log_prob(self.tokens[self.exact.number(factors)], x).mean().item()
            floor = law.entropy() - law.information(x).mean().item()
            figures[f"{name}_nll_nats_per_caption"] = Measured(reached, floor)
        return figures


class DescribedImages(Described, CaptionedImages):
    """Real images with the names of their classes; judged on the test split. image: the shape of an image."""

    def __init__(
        self, name: str, title: str, load: Load, classes: Sequence[str], *, image: tuple[int, ...], count: int
    ) -> None:
        super().__init__(
            name, title, load, classes, shape=(), change=lambda images, _: data.to_float(images), fixed=True
        )
        self.image, self.count, self.shape = image, count, (max(len(text.split()) for text in self.captions) + 2,)

    def test_pairs(self, n: int) -> Pairs:
        """n images of the test split, from its beginning, over again where it is shorter."""
        test = self.split("test")
        rows = torch.arange(n) % len(test)
        return Pairs(data.to_float(test.images[rows]), test.labels[rows])

    def evaluate(self, samples: Tensor) -> dict[str, Measured]:
        """The share of captions (n, T) that are right, of unseen images."""
        _, right, real = self._right(samples)
        shares = {"names_right": right, "names_of_a_class": real}
        return {name: Measured(share.mean().item(), None) for name, share in shares.items()}

    def bounds(self, score: Score) -> dict[str, Measured]:
        """The lower bound of the information in nats by the test split, in batches of 64; nobody knows the truth."""
        pairs = self.test_pairs(self.count)
        mine = score(pairs.images, self.tokens[pairs.number])
        return {"bound_nats_among_64": Measured(blocks(information_bound, mine, 64), None)}

    def nll(self, log_prob: LogProb) -> dict[str, Measured]:
        """Minus the log-likelihood of the names of the test split, nats."""
        pairs = self.test_pairs(self.count)
        reached = -log_prob(self.tokens[pairs.number], pairs.images).mean().item()
        return {"nll_nats_per_caption": Measured(reached, None)}
