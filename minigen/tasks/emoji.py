"""Emoji by two artists, with style and subcategory; samples are judged by a classifier, and copies are counted."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, cross_entropy, one_hot

from minigen import data, show
from minigen.data.batches import Stream
from minigen.data.chunks import in_chunks
from minigen.data.emoji import STYLES
from minigen.data.vocabulary import Vocabulary
from minigen.nets.classifier import ConvClassifier, warp
from minigen.objectives.contrastive import recall_at_k
from minigen.tasks.captions import Described, Pairs, Score
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
        """Mean absolute difference of pictures (n, 3, 32, 32) to the nearest training picture, mirrored or not.

        Two pictures differ by at least as much as their means of 4x4 pixels do, so that most need no closer look.
        """
        known = self.pictures("train")[0]
        both = torch.cat([known, known.flip(3)])
        small = avg_pool2d(both, 4).flatten(1)

        def nearest(rows: Tensor) -> Tensor:
            bound = torch.cdist(avg_pool2d(rows, 4).flatten(1), small, p=1) / small.shape[1]
            bound, order = bound.sort(1)
            found = bound.new_full((len(rows),), torch.inf)
            for least, picked in zip(torch.split(bound, 16, 1), torch.split(order, 16, 1), strict=True):
                near = (least[:, 0] < found).nonzero()[:, 0]  # some of the 16 may be nearer than what is found
                apart = (both[picked[near]] - rows[near, None]).abs().flatten(2).mean(2)
                found[near] = found[near].minimum(apart.amin(1))
            return found

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
        return figures | self.originality(samples)

    def originality(self, samples: Tensor) -> dict[str, Measured]:
        """The share of copies and the mean distance to the training pictures, beside those of the test pictures."""
        mine, theirs = self.distance(samples), self.distance(self.pictures("test")[0])
        copies = Measured((mine < COPY).double().mean().item(), (theirs < COPY).double().mean().item())
        distance = Measured(mine.mean().item(), theirs.mean().item())
        return {"copied_share": copies, "distance_to_training_pictures": distance}

    def picture(self, samples: Tensor) -> Figure:
        """64 of the samples, (n, 3, 32, 32), spread over all."""
        return show.image_grid(samples[:: max(1, len(samples) // 64)][:64], columns=8)


UNKNOWN = "<unk>"


class NamedEmoji(Described, EmojiTask):
    """Emoji in both styles beside their names; judged on the unseen pictures whose names are of known words alone.

    A word is known where it names at least four training pictures, two emoji by two artists; any other is `<unk>`, and
    names of such alone are not trained on. Pictures are warped and mirrored, so that left and right mean nothing, and
    so that a test picture which mirrors a training one (walking, facing right) has been seen: such are not judged. The
    captions are the names that are judged.

    image: the shape of a picture.
    """

    length = 13  # tokens of a name with its two ends: every one there is has at most 11 words
    shape: tuple[int, ...] = (length,)  # of a sample, which is a name
    count, yardstick, image = 74, "chance", (3, 32, 32)

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The known words, and `<unk>`."""
        count = Counter(word for name in self._splits["train"][0].names for word in set(_words(name)))
        return Vocabulary(sorted([UNKNOWN, *(word for word, n in count.items() if n * len(STYLES) >= 4)]))

    def encode(self, names: Sequence[str]) -> Tensor:
        """Names as tokens, (n, 13)."""
        known = self.vocabulary.words
        said = [" ".join(word if word in known else UNKNOWN for word in _words(name)) for name in names]
        return self.vocabulary.encode(said, length=self.length)

    @cached_property
    def judged(self) -> Tensor:
        """Which emoji of the test split are judged, numbers (C,)."""
        names, known = self._splits["test"][0].names, set(self.vocabulary.words)
        said = torch.tensor([i for i, name in enumerate(names) if known.issuperset(_words(name))])
        x = self.pictures("test")[0].view(len(STYLES), -1, *self.image)[:, said]
        copied = self.distance(x.flatten(0, 1)) < COPY
        return said[~copied.view(len(STYLES), -1).any(0)]

    @property
    def captions(self) -> tuple[str, ...]:
        """The names that are judged."""
        return tuple(" ".join(_words(self._splits["test"][0].names[i])) for i in self.judged.tolist())

    @cached_property
    def tokens(self) -> Tensor:
        """The same as tokens, (C, 13)."""
        return self.encode(self.captions)

    def batches(self, *, batch_size: int, seed: int, device: torch.device | str) -> Stream:
        """Random training pictures and the tokens of their names, endless."""
        x, tokens = self.pictures("train")[0], self.encode(self._splits["train"][0].names).repeat(len(STYLES), 1)
        said = (tokens > self.vocabulary.encode([UNKNOWN])[0, 1]).any(1)
        x, tokens = x[said].to(device), tokens[said].to(device)

        def draw(n: int, /, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
            rows = torch.randint(len(x), (n,), generator=generator, device=x.device)
            return warp(x[rows], generator=generator), tokens[rows]

        return Stream(draw, batch_size=batch_size, seed=seed, device=device)

    def test_pairs(self, n: int) -> Pairs:
        """n unseen pictures of the names that are judged, style by style, over again where there are fewer."""
        rows, unseen = torch.arange(n), self.pictures("test")[0].view(len(STYLES), -1, *self.image)[:, self.judged]
        return Pairs(unseen.flatten(0, 1)[rows % (2 * len(self.judged))], rows % len(self.judged))

    def evaluate(self, samples: Tensor) -> dict[str, Measured]:
        """The share of names (n, T) that are right, beside chance."""
        return {"names_right": Measured(self._right(samples)[1].mean().item(), 1 / len(self.captions))}

    def bounds(self, score: Score) -> dict[str, Measured]:
        """How often pictures find their name, and names their picture of each style, among those that are judged."""
        n, figures = len(self.judged), {}
        pictures = self.test_pairs(2 * n).images
        both = torch.stack([score(x, self.tokens) for x in torch.split(pictures, n)])  # (2, n, n)
        for what, scores in (("name", both), ("picture", both.mT)):
            for k in (1, 5):
                found = torch.stack([recall_at_k(each, k) for each in scores]).mean().item()
                figures[f"{what}_found_in_{k}_of_{n}"] = Measured(found, k / n)
        return figures


class EmojiByName(NamedEmoji):
    """Pictures to be painted from the names of emoji; those wanted are the names that are judged, each in turn.

    Judged here by copies alone: whether a picture shows its name, encoders must say (`recipes.words`).
    """

    shape: tuple[int, ...] = NamedEmoji.image
    count, yardstick = 4 * 37, "real"

    def wanted(self, n: int) -> Tensor:  # type: ignore[override]
        """The numbers of the names that n pictures are for, (n,)."""
        return torch.arange(n) % len(self.captions)

    def evaluate(self, samples: Tensor) -> dict[str, Measured]:
        """Copies among pictures (n, 3, 32, 32), and their distance to the training pictures."""
        return self.originality(samples)

    def picture(self, samples: Tensor) -> Figure:
        """The first 64 pictures."""
        return show.image_grid(samples[:64], columns=8)


def _words(name: str) -> list[str]:
    """The words of a name, without punctuation around them."""
    return [word.strip(":,*") for word in name.split()]
