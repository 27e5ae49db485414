"""A small convolutional classifier of images, to judge samples by what they show."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from minigen.data.checks import need_shape


class ConvClassifier(nn.Module):
    """Images (B, C, H, W), sides multiples of 8, to logits (B, classes); `features` is what the last layer takes.

    Convolutions with batch normalisation and ReLU at a half, a quarter and an eighth of the sides, then the mean over
    places (He et al. 2016, section 3.3, without the shortcuts that a network of six layers does not need).
    """

    def __init__(self, shape: Sequence[int], classes: int, *, width: int = 32, dropout: float = 0.3) -> None:
        super().__init__()
        self.shape = tuple(shape)
        if len(self.shape) != 3 or self.shape[1] % 8 or self.shape[2] % 8:
            raise ValueError(f"shape must be (C, H, W), H and W multiples of 8; got {self.shape}")

        def block(c_in: int, c_out: int, size: int = 3, stride: int = 1) -> list[nn.Module]:
            return [nn.Conv2d(c_in, c_out, size, stride, padding=1, bias=False), nn.BatchNorm2d(c_out), nn.ReLU()]

        half = [*block(self.shape[0], width, 4, 2), *block(width, width), nn.MaxPool2d(2)]
        quarter = [*block(width, 2 * width), *block(2 * width, 2 * width), nn.MaxPool2d(2)]
        eighth = [*block(2 * width, 4 * width), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        self.body = nn.Sequential(*half, *quarter, *eighth)
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(4 * width, classes))

    def features(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, 4 width). Another shape is a ValueError, integer images a TypeError."""
        if not x.is_floating_point():
            raise TypeError(f"images must be floating point in [-1, 1]; got {x.dtype}: call data.to_float first")
        need_shape("images", x, "B", *self.shape)
        found: Tensor = self.body(x)
        return found

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to logits (B, classes)."""
        logits: Tensor = self.head(self.features(x))
        return logits


def warp(x: Tensor, *, generator: torch.Generator, turn: float = 0.2, zoom: float = 0.15, move: float = 0.12) -> Tensor:
    """Images (B, C, H, W) on white, each mirrored or not, turned by up to `turn` radians, scaled and moved.

    zoom, move: as shares of the image and of half its side. What comes in from outside is white, 1.
    """

    def even(reach: float) -> Tensor:
        return reach * (2 * torch.rand(len(x), generator=generator, device=generator.device) - 1)

    angle, size = even(turn), 1 + even(zoom)
    mirror = even(1.0).sign()
    c, s = angle.cos() * size, angle.sin() * size
    rows = [torch.stack([c * mirror, -s, even(move)], 1), torch.stack([s * mirror, c, even(move)], 1)]
    grid = nn.functional.affine_grid(torch.stack(rows, 1).to(x), list(x.shape), align_corners=False)
    return nn.functional.grid_sample(x - 1, grid, align_corners=False) + 1  # the zeros outside become white
