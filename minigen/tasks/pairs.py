"""Pairs to translate: worlds whose right answers are all known, and emoji that two artists drew (chapter 06).

A batch is (answers, inputs). Samples are answers for the inputs that the task wants, which no training saw.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from minigen import data, show
from minigen.data.batches import Batches, Stream, held_out
from minigen.data.chunks import in_chunks
from minigen.data.emoji import STYLES
from minigen.nets.classifier import warp
from minigen.tasks.emoji import EmojiTask
from minigen.tasks.task import Measured
from minigen.worlds import Pairs

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ANSWERS = 50  # to each input, so that their variety can be seen


class PairedWorld:
    """A world of pairs, a fifth of whose inputs are held out: are answers to these right, and how many are given?

    make: the world. shape, input_shape: of an answer and of an input, (C, H, W).
    """

    count, yardstick = 2000, "exact"

    def __init__(
        self,
        name: str,
        title: str,
        make: Callable[[], Pairs],
        *,
        shape: tuple[int, ...],
        input_shape: tuple[int, ...],
    ) -> None:
        self.name, self.title, self.shape, self.input_shape = name, title, shape, input_shape
        self._make = cache(make)

    @property
    def world(self) -> Pairs:
        """Made when it is first needed."""
        return self._make()

    @cached_property
    def split(self) -> tuple[Tensor, Tensor]:
        """The numbers of the templates to train on, and of those whose inputs are held out."""
        number = self.world.input_number
        order = torch.randperm(int(number.max()) + 1, generator=torch.Generator().manual_seed(0))
        out = torch.isin(number, order[: len(order) // 5])
        return (~out).nonzero().flatten(), out.nonzero().flatten()

    def batches(self, *, batch_size: int, seed: int, device: torch.device | str) -> Stream:
        """Fresh answers and their inputs."""
        train = self.split[0]

        def draw(n: int, /, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
            x, y = self.world.sample(n, generator=generator, index=train)
            return y, x

        return Stream(draw, batch_size=batch_size, seed=seed, device=device)

    def wanted(self, n: int) -> Tensor:
        """The inputs that n answers are for, (n, *input_shape): each held-out input that is shown 50 times in turn."""
        x, _ = self.world.sample(-(-n // ANSWERS), generator=held_out(), index=self.split[1])
        return x.repeat_interleave(ANSWERS, 0)[:n]

    def evaluate(self, samples: Tensor) -> dict[str, Measured]:
        """The share of right answers (n, *shape) to `wanted(n)`, and the entropy of the right ones to one input, nats.

        Beside them what answers drawn from the exact conditional have, where as many are drawn.
        """
        x = self.wanted(len(samples))
        exact = self.world.sample_answers(x, generator=torch.Generator().manual_seed(0))
        mine, best = (self._figures(x, answers) for answers in (samples, exact))
        return {name: Measured(value, best[name]) for name, value in mine.items()}

    def _figures(self, x: Tensor, answers: Tensor) -> dict[str, float]:
        right = self.world.right(x, answers)
        number = self.world.world.nearest_template(answers)[0]
        entropies = []
        for rows, kept in zip(torch.split(number, ANSWERS), torch.split(right, ANSWERS), strict=True):
            share = torch.bincount(rows[kept]).double() / max(1, int(kept.sum()))
            entropies.append(torch.special.entr(share).sum())
        return {
            "right_share": right.double().mean().item(),
            "answer_entropy_nats": torch.stack(entropies).mean().item(),
        }

    def picture(self, samples: Tensor) -> Figure:
        """The inputs in the first column, seven answers to each beside them."""
        x = self.wanted(len(samples))[::ANSWERS][:8]
        x = x.expand(-1, 3, -1, -1) if x.shape[1] == 1 else x
        rows = [torch.cat([x[i : i + 1], samples[ANSWERS * i :][:7]]) for i in range(len(x))]
        return show.image_grid(torch.cat(rows), columns=8)


def detail(images: Tensor) -> Tensor:
    """The energy of an image's finest detail, (B,): the sum of squared differences to the means of 2x2 pixels.

    It is what Haar's wavelets of the finest scale carry; a blurred image has little of it. Images are (B, C, H, W).
    """
    coarse = interpolate(avg_pool2d(images, 2), scale_factor=2.0)
    return (images - coarse).square().flatten(1).sum(1)


def beside_nothing(samples: Tensor, x: Tensor, truth: Tensor) -> dict[str, Measured]:
    """Answers (n, C, H, W) to inputs x (N, C, H, W) in turn, and the inputs themselves, beside the true answers.

    The mean absolute difference to the true one; how often that is the nearest of all N; the energy of the finest
    detail as a share of the true ones'.
    """
    rows = torch.arange(len(samples)) % len(x)

    def figures(answers: Tensor) -> dict[str, float]:
        apart = in_chunks(lambda a: (a[:, None] - truth).abs().flatten(2).mean(2), answers, size=16)  # (n, N)
        return {
            "mean_absolute_error": apart[torch.arange(len(rows)), rows].mean().item(),
            "partner_found_share": (apart.argmin(1) == rows).double().mean().item(),
            "detail_ratio": (detail(answers).sum() / detail(truth[rows]).sum()).item(),
        }

    mine, nothing = figures(samples), figures(x[rows])
    return {name: Measured(value, nothing[name]) for name, value in mine.items()}


def triples(samples: Tensor, x: Tensor, truth: Tensor) -> Figure:
    """Inputs, answers and true answers of 24 test pictures, three rows of each, as a picture."""
    rows = torch.arange(min(len(samples), len(x)))[:: max(1, min(len(samples), len(x)) // 24)][:24]
    parts = [torch.cat([x[part], samples[part], truth[part]]) for part in torch.split(rows, 8)]
    return show.image_grid(torch.cat(parts), columns=min(8, len(rows)))


class PairedEmoji(EmojiTask):
    """Twemoji's and Noto's pictures of the same emoji: to draw one as the other artist did.

    Both pictures of a pair are mirrored, moved, scaled and turned alike, and so are their colours. Answers are
    judged on the 300 test pictures, beside doing nothing, which gives back the input.

    source: the style that is given; the other one is asked for. hues: whether colours are turned in training.
    """

    count, yardstick, input_shape = 300, "doing nothing", (3, 32, 32)

    def __init__(self, name: str, title: str, *, source: str = "twemoji", hues: bool = True) -> None:
        super().__init__(name, title)
        if source not in STYLES:
            raise ValueError(f"source must be one of {', '.join(STYLES)}; got {source!r}")
        self.source, self.hues = source, hues

    def images(self, split: str) -> tuple[Tensor, Tensor]:
        """The inputs of a split and the true answers, (N, 3, 32, 32) each, in [-1, 1]."""
        both = torch.chunk(self.pictures(split)[0], len(STYLES))
        first = STYLES.index(self.source)
        return both[first], both[1 - first]

    def batches(self, *, batch_size: int, seed: int, device: torch.device | str) -> Stream:
        """Random training pairs, (answers, inputs), endless."""
        x, y = (images.to(device) for images in self.images("train"))

        def draw(n: int, /, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
            rows = torch.randint(len(x), (n,), generator=generator, device=x.device)
            both = warp(torch.cat([y[rows], x[rows]], dim=1), generator=generator)
            pair = both.view(n, 2, 3, *both.shape[2:])  # answers and inputs, (n, 2, 3, 32, 32)
            if self.hues:
                angle = HUES * (2 * torch.rand(n, generator=generator, device=x.device) - 1)
                pair = torch.einsum("nij,npjhw->npihw", turn_hue(angle), pair)
            answers, inputs = pair.clamp(-1, 1).unbind(1)
            return answers, inputs

        return Stream(draw, batch_size=batch_size, seed=seed, device=device)

    def wanted(self, n: int) -> Tensor:  # type: ignore[override]
        """The inputs that n answers are for, (n, 3, 32, 32): the test pictures from the first, over again after all."""
        x = self.images("test")[0]
        return x[torch.arange(n) % len(x)]

    def evaluate(self, samples: Tensor) -> dict[str, Measured]:
        """Answers (n, 3, 32, 32) to `wanted(n)` beside the inputs themselves.

        The mean absolute difference to the true answer; how often that is the nearest of all test pictures of its
        style; the energy of the finest detail as a share of the true answers'.
        """
        return beside_nothing(samples, *self.images("test"))

    def picture(self, samples: Tensor) -> Figure:
        """Inputs, answers and true answers of 24 test pictures, three rows of each."""
        return triples(samples, *self.images("test"))


HUES = 0.6  # radians; colours of training pictures are turned by at most so much


def turn_hue(angle: Tensor) -> Tensor:
    """Rotations of colours about the axis of greys, which stay as they are, by angles (n,): (n, 3, 3). Rodrigues."""
    k = angle.new_tensor([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]) / 3**0.5
    c, s = angle.cos()[:, None, None], angle.sin()[:, None, None]
    return torch.eye(3, dtype=angle.dtype, device=angle.device) + s * k + (1 - c) * (k @ k)


class PairedFolder:
    """A reader's own pairs: the pictures of `PATH/inputs` and those of `PATH/answers`, one name for both of a pair.

    Pictures are read as `data.folder` does, as squares of (3, size, size); where a folder holds train/ and test/, these
    are the splits, else a hash of the name decides, so that both pictures of a pair are in one split. Answers are
    judged on the test pictures, beside doing nothing.

    path: the folder; None builds and draws, and says when data are asked for that a folder is missing.

    Raises ValueError, when images are asked for, for pictures without a partner and for those that cannot be read.
    """

    count, yardstick, name = 300, "doing nothing", "folder"

    def __init__(self, path: str | Path | None, *, size: int = 64) -> None:
        self.path, self.size = path, size
        self.shape: tuple[int, ...] = (3, size, size)
        self.input_shape = self.shape
        self.title = f"your own pairs, {size}x{size} in colour: --data PATH, with inputs/ and answers/ in it"
        self._load = cache(self._read)

    def _read(self, split: str) -> tuple[Tensor, Tensor]:
        """Inputs and answers of a split, uint8 (N, 3, size, size), mapped from a cache."""
        if self.path is None:
            raise ValueError("this recipe learns from your own pairs: say where they are, with --data PATH")
        top, names, found = Path(self.path), [], []
        for part in ("inputs", "answers"):
            if not (top / part).is_dir():
                raise FileNotFoundError(f"pairs need the folders inputs and answers in {top}; there is no {part}")
            files = (file.relative_to(top / part).with_suffix("") for file in (top / part).rglob("*.*"))
            names.append({str(file) for file in files if not file.name.startswith(".")})
            images = data.folder(top / part, self.size, split=split)
            if len(images) < images.published:
                raise ValueError(
                    f"{images.published - len(images)} pictures of {top / part} cannot be read: remove them"
                )
            found.append(images.images)
        if alone := sorted(names[0] ^ names[1]):
            listed = ", ".join(alone[:5])
            raise ValueError(f"{len(alone)} pictures of {top} have no partner of their name, such as {listed}")
        return found[0], found[1]

    def images(self, split: str) -> tuple[Tensor, Tensor]:
        """The inputs of a split and the true answers, (N, 3, size, size) each, in [-1, 1]."""
        x, y = self._load(split)
        return data.to_float(x), data.to_float(y)

    def batches(self, *, batch_size: int, seed: int, device: torch.device | str) -> Batches:
        """Training pairs, (answers, inputs), in a random order."""
        x, y = self._load("train")
        ways = (data.to_float, data.to_float)
        return Batches(y, x, batch_size=min(batch_size, len(x)), seed=seed, transform=ways, device=device)

    def wanted(self, n: int) -> Tensor:
        """The inputs that n answers are for, (n, 3, size, size): those of the test split, over again after all."""
        if self.path is None:
            return torch.zeros(n, *self.input_shape)
        x = self._load("test")[0]
        return data.to_float(x[torch.arange(n) % len(x)])

    def evaluate(self, samples: Tensor) -> dict[str, Measured]:
        """Answers to `wanted(n)`, see `beside_nothing`."""
        return beside_nothing(samples, *self.images("test"))

    def picture(self, samples: Tensor) -> Figure:
        """Inputs, answers and true answers of 24 test pictures, three rows of each."""
        return triples(samples, *self.images("test"))
