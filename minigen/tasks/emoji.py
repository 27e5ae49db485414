"""Emoji by two artists, with style and subcategory; samples are judged by a classifier, and copies are counted."""

from __future__ import annotations

import math
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, cross_entropy, one_hot

from minigen import data, show
from minigen.data.batches import Stream
from minigen.data.chunks import in_chunks
from minigen.data.emoji import STYLES
from minigen.nets.classifier import ConvClassifier, warp
from minigen.tasks.task import Measured

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def faces(split: str) -> data.Images:
    """The faces of Twemoji at 16x16, means of 2x2 pixels; those to train on are mirrored, too.

    split: "train" (102 faces and their mirror images) or "test". Labels are subcategories.
    """
    pictures = data.emoji("twemoji", split)
    names = pictures.subcategory_names
    rows = torch.tensor([names[i].startswith("face-") for i in pictures.subcategories.tolist()])
    images = avg_pool2d(pictures.images[rows].float(), 2).round().to(torch.uint8)
    labels = pictures.subcategories[rows]
    if split == "train":
        images, labels = torch.cat([images, images.flip(3)]), labels.repeat(2)
    return data.Images(images, labels, names, "faces", split, len(images))


COPY = 0.071  # mean absolute difference in [-1, 1]; of the test pictures, too, one in 27 is that near to a training one


class EmojiTask:
    """Emoji in both styles, (3, 32, 32), each beside a label that says style and subcategory.

    A label (B, 97) is one-hot in its 2 styles and in its 95 subcategories, scaled so that its mean square is 1, as is
    that of what else a network sees; zeros say nothing. Pictures are mirrored in half of the cases, but for symbols.

    judge_steps: of training the classifier, when samples are first judged.
    """

    shape: tuple[int, ...] = (3, 32, 32)
    count, yardstick = 256, "real"
    licence = "CC-BY-4.0 (Twemoji, copyright Twitter, Inc. and other contributors) AND Apache-2.0 (Noto, Google)"

    def __init__(self, name: str, title: str, *, judge_steps: int = 700) -> None:
        self.name, self.title, self.judge_steps = name, title, judge_steps

    @cached_property
    def _splits(self) -> dict[str, tuple[data.Emoji, ...]]:
        return {split: tuple(data.emoji(style, split) for style in STYLES) for split in ("train", "test")}

    @property
    def label_dim(self) -> int:
        """Numbers of a label."""
        return len(STYLES) + len(self._splits["train"][0].subcategory_names)

    def label(self, style: Tensor, subcategory: Tensor) -> Tensor:
        """Numbers of styles and of subcategories, (n,) each, as labels (n, 97)."""
        both = torch.cat([one_hot(style, len(STYLES)), one_hot(subcategory, self.label_dim - len(STYLES))], dim=1)
        return math.sqrt(self.label_dim / 2) * both.float()

    def pictures(self, split: str) -> tuple[Tensor, Tensor]:
        """All pictures of a split in [-1, 1], (2 N, 3, 32, 32), style by style, and their categories, (2 N,)."""
        styles = self._splits[split]
        return data.to_float(torch.cat([e.images for e in styles])), torch.cat([e.labels for e in styles])

    def labels(self, split: str) -> Tensor:
        """The labels of all pictures of a split, (2 N, 97)."""
        styles = self._splits[split]
        number = torch.arange(len(STYLES)).repeat_interleave(len(styles[0]))
        return self.label(number, torch.cat([e.subcategories for e in styles]))

    def batches(self, *, batch_size: int, seed: int, device: torch.device | str) -> Stream:
        """Random training pictures and their labels, endless."""
        stored = self._splits["train"]
        images, labels = torch.cat([e.images for e in stored]).to(device), self.labels("train").to(device)
        free = torch.cat([e.labels for e in stored]).to(device) != stored[0].classes.index("Symbols")

        def draw(n: int, /, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
            rows = torch.randint(len(images), (n,), generator=generator, device=images.device)
            coin = torch.rand(n, generator=generator, device=images.device) < 0.5
            x = images[rows]
            mirrored = torch.where((coin & free[rows])[:, None, None, None], x.flip(3), x)
            return (2 * mirrored.float() - 255) / 256, labels[rows]  # `to_float`, for images that are uint8 for sure

        return Stream(draw, batch_size=batch_size, seed=seed, device=device)

    def wanted(self, n: int) -> tuple[Tensor, Tensor]:
        """Styles and subcategories that n samples are for, (n,) each: in both styles, as often as training has them."""
        pool = self._splits["train"][0].subcategories.sort().values
        half = (n + 1) // 2
        row = torch.arange(n) % half
        return torch.arange(n) // half, pool[row * len(pool) // half]

    def categories(self, subcategory: Tensor) -> Tensor:
        """The category of each subcategory, (n,)."""
        train = self._splits["train"][0]
        table = torch.zeros(len(train.subcategory_names), dtype=torch.int64)
        table[train.subcategories] = train.labels
        return table[subcategory]

    @cached_property
    def judge(self) -> ConvClassifier:
        """A classifier of the eight categories, trained on the training pictures of both styles; the same each time."""
        x, y = self.pictures("train")
        source = torch.Generator().manual_seed(0)
        with torch.random.fork_rng(devices=()), torch.enable_grad():
            torch.manual_seed(0)
            net = ConvClassifier(self.shape, len(self._splits["train"][0].classes))
            optimizer = torch.optim.AdamW(net.parameters(), 3e-3, weight_decay=0.02)
            for step in range(1, self.judge_steps + 1):
                share = step / self.judge_steps  # up over the first fifth, then down to 0
                optimizer.param_groups[0]["lr"] = 3e-3 * min(5 * share, 1.25 * (1 - share))
                rows = torch.randint(len(x), (64,), generator=source)
                loss = cross_entropy(net(warp(x[rows], generator=source)), y[rows], label_smoothing=0.1)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
        return net.eval()

    def decided(self, x: Tensor) -> Tensor:
        """The category that the judge sees in pictures (n, 3, 32, 32), (n,): the mean of each and its mirror image."""

        def probabilities(rows: Tensor) -> Tensor:
            both: Tensor = self.judge(rows).softmax(1) + self.judge(rows.flip(3)).softmax(1)
            return both

        return in_chunks(probabilities, x).argmax(1)

    def distance(self, x: Tensor) -> Tensor:
        """Mean absolute difference of pictures (n, 3, 32, 32) to the nearest training picture, mirrored or not."""
        known = self.pictures("train")[0]
        both = torch.cat([known, known.flip(3)]).flatten(1)

        def nearest(rows: Tensor) -> Tensor:
            return torch.cdist(rows.flatten(1), both, p=1).min(1).values / both.shape[1]

        return in_chunks(nearest, x, size=64)

    def evaluate(self, samples: Tensor) -> dict[str, Measured]:
        """Figures of samples (n, 3, 32, 32) for `wanted(n)`, beside the same of the test pictures.

        The share that the judge finds in the category asked for, of each style; the share of copies, nearer than 0.071
        to a training picture, as few test pictures are; and the mean distance to the nearest training picture.
        """
        style, subcategory = self.wanted(len(samples))
        right = (self.decided(samples) == self.categories(subcategory)).double()
        real, categories = self.pictures("test")
        seen = (self.decided(real) == categories).double().view(len(STYLES), -1).mean(1).tolist()
        figures = {
            f"category_as_asked_share_{name}": Measured(right[style == i].mean().item(), seen[i])
            for i, name in enumerate(STYLES)
        }
        mine, theirs = self.distance(samples), self.distance(real)
        copies = Measured((mine < COPY).double().mean().item(), (theirs < COPY).double().mean().item())
        distance = Measured(mine.mean().item(), theirs.mean().item())
        return figures | {"copied_share": copies, "distance_to_training_pictures": distance}

    def picture(self, samples: Tensor) -> Figure:
        """64 of the samples, (n, 3, 32, 32), spread over all."""
        return show.image_grid(samples[:: max(1, len(samples) // 64)][:64], columns=8)
