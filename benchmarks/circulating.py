"""Training scripts in circulation, taken as they stand: what is before the loop, and the body of the loop.

For scripts of PyTorch-GAN whose loop reads `for i, (imgs, _) in enumerate(dataloader)` and whose images are those of
torchvision's MNIST, in the place of which others are given. Nothing of theirs is rewritten.
"""

from __future__ import annotations

import ast
import contextlib
import copy
import itertools
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

try:
    try:
        from torchvision import datasets
    except RuntimeError:  # its compiled part is for another torch: what is called here does without
        stubs = torch.library.Library("torchvision", "DEF")
        for operator in ("nms", "qnms"):
            stubs.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        from torchvision import datasets
except ImportError as error:
    raise SystemExit(f"the scripts need torchvision ({error}); the first lines of benchmarks/gan.py say how") from error

Take = Callable[[int], None]


def strokes(n: int) -> Tensor:
    """A bent white stroke on black in each image, (n, 28, 28) uint8."""
    generator, t = torch.Generator().manual_seed(0), torch.linspace(0, 1, 12)[:, None]
    bend = torch.stack([(1 - t) ** 2, 2 * t * (1 - t), t**2])  # of a quadratic Bezier curve
    pixels = torch.cartesian_prod(torch.arange(28.0), torch.arange(28.0))
    images = []
    for rows in torch.arange(n).split(1000):
        points = 6 + 16 * torch.rand(3, len(rows), 1, 2, generator=generator)
        curves = (bend[:, None] * points).sum(0)  # (B, 12, 2)
        far = torch.cdist(pixels.expand(len(rows), -1, -1), curves).amin(2)
        images.append((255 * torch.exp(-((far / 1.2) ** 2))).to(torch.uint8).view(-1, 28, 28))
    return torch.cat(images)


def halves(path: Path) -> list[Any]:
    """What stands before the training loop of a script, and the body of that loop, compiled."""
    if not path.is_file():
        raise SystemExit(f"there is no {path}; expected a clone of https://github.com/eriklindernoren/PyTorch-GAN")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    wanted = ast.parse("for i, (imgs, _) in enumerate(dataloader): ...").body[0]
    for k, epochs in enumerate(tree.body):
        for loop in epochs.body if isinstance(epochs, ast.For) else ():
            if isinstance(loop, ast.For) and all(
                ast.dump(getattr(loop, part)) == ast.dump(getattr(wanted, part)) for part in ("target", "iter")
            ):
                parts = (ast.Module(part, type_ignores=[]) for part in (tree.body[:k], loop.body))
                return [compile(part, str(path), "exec") for part in parts]
    raise SystemExit(f"{path} has no loop `for i, (imgs, _) in enumerate(dataloader)`")


class Script:
    """A script of theirs: what stands before its loop has been run, and the body of its loop takes steps."""

    def __init__(self, path: Path, images: Tensor, folder: str) -> None:
        class Strokes(datasets.MNIST):
            """Takes the place of MNIST; an item is made as MNIST's is."""

            def __init__(self, *_: object, transform: Callable[[Any], Tensor], **__: object) -> None:
                self.data, self.targets = images, torch.zeros(len(images), dtype=torch.int64)
                self.transform, self.target_transform = transform, None

        before, self.body = halves(path)
        self.place = Path(tempfile.mkdtemp(dir=folder)) / "implementations" / path.stem
        self.place.mkdir(parents=True)
        self.names: dict[str, Any] = {"__name__": path.stem}
        torch.manual_seed(0)
        with patch.object(datasets, "MNIST", Strokes), patch.object(sys, "argv", [path.name]), self.aside():
            exec(before, self.names)

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """In its folder, with what it prints thrown away."""
        with open(os.devnull, "w") as null, contextlib.redirect_stdout(null), contextlib.chdir(self.place):
            yield

    def networks(self) -> tuple[nn.Module, nn.Module]:
        """Copies of its generator, which says its latent size, and of its discriminator, as it gives logits (B,)."""
        g, d = (copy.deepcopy(self.names[name]) for name in ("generator", "discriminator"))
        g.latent = self.names["opt"].latent_dim
        for module in d.modules():
            if isinstance(module, nn.Sequential) and isinstance(module[-1], nn.Sigmoid):
                module[-1] = nn.Identity()
        return g, nn.Sequential(d, nn.Flatten(0))

    def levels(self) -> Tensor:
        """Its images as its transforms give them, (N, 1, H, W), back in uint8: the rounding is checked."""
        dataset = self.names["dataloader"].dataset
        images = torch.stack([dataset[k][0] for k in range(len(dataset))])
        levels = ((images + 1) * 127.5).round().to(torch.uint8)
        torch.testing.assert_close(scaled(levels), images, atol=1e-6, rtol=0)
        return levels

    def step(self, epoch: int, i: int, batch: Iterable[Tensor]) -> None:
        imgs, labels = batch
        self.names |= {"epoch": epoch, "i": i, "imgs": imgs, "_": labels}
        exec(self.body, self.names)

    def take(self, ready: list[Iterable[Tensor]] | None = None) -> Take:
        """Steps on the batches of its loader, or on those that are ready."""
        loader = self.names["dataloader"]

        def numbered() -> Iterator[tuple[int, int, Iterable[Tensor]]]:
            for epoch in itertools.count():
                batches = loader if ready is None else itertools.islice(itertools.cycle(ready), len(loader))
                yield from ((epoch, i, batch) for i, batch in enumerate(batches))

        steps_of = numbered()

        def take(steps: int) -> None:
            with self.aside():
                for _ in range(steps):
                    self.step(*next(steps_of))

        return take

    def pictures(self, after: int) -> int:
        """Number of pictures that it saved after so many steps."""
        return sum(int(path.stem) >= after for path in (self.place / "images").glob("*.png"))


def scaled(levels: Tensor) -> Tensor:
    """uint8 to [-1, 1], as their transforms do it."""
    return levels.float().div_(127.5).sub_(1)
