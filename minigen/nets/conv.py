"""Convolutional networks without batch statistics: to and from a latent vector, and to and from a grid of codes.

Strided 4x4 convolutions halve the sides, transposed ones double them (Radford et al. 2016, section 3); a window that is
a multiple of the stride covers every pixel equally often. Nothing mixes the images of a batch.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from minigen.data.checks import need_batch, need_scaled, need_shape
from minigen.nets.init import he_init

STOP = 4  # images are halved down to this side at most
LARGEST = 7  # the largest side that a linear layer takes over


def downsample(c_in: int, c_out: int, *, gain: float = 2.0) -> nn.Conv2d:
    """(B, c_in, 2h, 2w) to (B, c_out, h, w)."""
    return he_init(nn.Conv2d(c_in, c_out, 4, stride=2, padding=1), gain)


def upsample(c_in: int, c_out: int, *, gain: float = 2.0) -> nn.ConvTranspose2d:
    """(B, c_in, h, w) to (B, c_out, 2h, 2w)."""
    return he_init(nn.ConvTranspose2d(c_in, c_out, 4, stride=2, padding=1), gain)


def num_downsamples(shape: Sequence[int]) -> int:
    """How often images (C, H, W) are halved: while both sides are even and above 4, as 28, 14, 7 and 32, 16, 8, 4.

    Raises ValueError where that is never, or leaves more than 7 pixels a side.
    """
    if len(shape) != 3:
        raise ValueError(f"shape must be (C, H, W), such as (1, 28, 28); got {tuple(shape)}")
    sides, times = tuple(shape[1:]), 0
    while not any(n % 2 for n in sides) and min(sides) > STOP:
        sides, times = tuple(n // 2 for n in sides), times + 1
    if not times or max(sides) > LARGEST:
        raise ValueError(
            f"sides must halve at least once, and to {LARGEST} or fewer pixels, as 28, 14, 7 do; "
            f"got {shape[1]} x {shape[2]}: pad the images, or use nets.mlp"
        )
    return times


class Residual(nn.Module):
    """x + f(x), f being ReLU, a 3x3 convolution, ReLU, a 1x1 convolution; (B, width, h, w) to the same.

    share: of the variance that this block adds to what passes by it; 1 / n for each of n keeps the sum at 2.
    Source: van den Oord et al. 2017, section 4.1.
    """

    def __init__(self, width: int, *, share: float = 1.0) -> None:
        super().__init__()
        wide, narrow = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, width, 1)
        self.branch = nn.Sequential(nn.ReLU(), he_init(wide), nn.ReLU(), he_init(narrow, 2.0 * share))

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, h, w) to the same."""
        added: Tensor = x + self.branch(x)
        return added


class ConvEncoder(nn.Module):
    """Images (B, C, H, W) to mean and log_std of a diagonal Gaussian over latents, both (B, latent).

    width: features after the first convolution; each further one doubles them. ReLU between the layers.
    Sides must be 8, 12, 16, 28, 32 or others that halve to at most 7: see `num_downsamples` for the ValueError.
    """

    def __init__(self, shape: Sequence[int], latent: int, *, width: int = 32) -> None:
        super().__init__()
        times = num_downsamples(shape)
        channels, height, side = shape
        self.shape, self.latent = tuple(shape), latent
        layers: list[nn.Module] = [downsample(channels, width, gain=1.0), nn.ReLU()]
        for i in range(times - 1):
            layers += [downsample(width * 2**i, width * 2 ** (i + 1)), nn.ReLU()]
        features = width * 2 ** (times - 1) * (height >> times) * (side >> times)
        self.net = nn.Sequential(*layers, nn.Flatten(), nn.Linear(features, 2 * latent))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, H, W) to two of (B, latent). Another shape is a ValueError."""
        need_batch("images", x, *self.shape)
        mean, log_std = self.net(x).chunk(2, dim=1)
        return mean, log_std


class ConvGenerator(nn.Module):
    """Latent (B, latent) to images (B, C, H, W): a linear layer, then transposed convolutions, ReLU between them.

    width: features before the last convolution; each one before it has twice as many. Sides as for `ConvEncoder`.
    bounded: end in tanh, for images in [-1, 1]; off for logits.
    blocks: of residual layers at each size; with any of them a 3x3 convolution makes the image, at its full size.
    Source: Radford et al. 2016, section 3 and figure 1, here without batch normalisation.
    """

    def __init__(
        self, latent: int, shape: Sequence[int], *, width: int = 32, bounded: bool = True, blocks: int = 0
    ) -> None:
        super().__init__()
        times = num_downsamples(shape)
        channels, height, side = shape
        self.latent, self.shape, self.bounded = latent, tuple(shape), bounded
        widths = [width * 2**i for i in reversed(range(times))]
        first = (widths[0], height >> times, side >> times)

        def active(features: int) -> list[nn.Module]:
            return [*(Residual(features, share=1 / blocks) for _ in range(blocks)), nn.ReLU()]

        layers = [he_init(nn.Linear(latent, math.prod(first)), 1.0), nn.Unflatten(1, first), *active(widths[0])]
        for wide, narrow in itertools.pairwise(widths):
            layers += [upsample(wide, narrow), *active(narrow)]
        if blocks:
            layers += [upsample(width, width), *active(width), he_init(nn.Conv2d(width, channels, 3, padding=1), 1.0)]
        else:
            layers.append(upsample(width, channels))
        self.net = nn.Sequential(*layers)

    def forward(self, z: Tensor) -> Tensor:
        """(B, latent) to (B, C, H, W). Another shape is a ValueError."""
        need_shape("latent", z, "B", self.latent)
        x: Tensor = self.net(z)
        return torch.tanh(x) if self.bounded else x


class CodeEncoder(nn.Module):
    """Images (B, C, 4h, 4w) to a grid of vectors (B, size, h, w), for `objectives.elbo.VQVAE`.

    Two strided convolutions, then residual blocks. A vector sees 10 + 8 blocks pixels a side. width: 256 in the paper.
    Source: van den Oord et al. 2017, section 4.1; the 1x1 convolution to `size` at the end is not in its text.
    """

    def __init__(self, channels: int, size: int, *, width: int = 64, blocks: int = 2) -> None:
        super().__init__()
        self.channels = channels
        stem = [downsample(channels, width, gain=1.0), nn.ReLU(), downsample(width, width)]
        residual = [Residual(width, share=1 / blocks) for _ in range(blocks)]
        self.net = nn.Sequential(*stem, *residual, nn.ReLU(), he_init(nn.Conv2d(width, size, 1)))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, 4h, 4w) to (B, size, h, w). Another shape is a ValueError."""
        if x.ndim != 4 or x.shape[1] != self.channels or x.shape[2] % 4 or x.shape[3] % 4:
            raise ValueError(f"images must be (B, {self.channels}, H, W), H and W multiples of 4; got {tuple(x.shape)}")
        need_scaled("images", x)
        z: Tensor = self.net(x)
        return z


class CodeDecoder(nn.Module):
    """A grid of vectors (B, size, h, w) to images (B, C, 4h, 4w): the way of `CodeEncoder` back.

    bounded: end in tanh, for images in [-1, 1]; off for logits.
    Source: van den Oord et al. 2017, section 4.1; the 1x1 convolution from `size` at the start is not in its text.
    """

    def __init__(self, size: int, channels: int, *, width: int = 64, blocks: int = 2, bounded: bool = True) -> None:
        super().__init__()
        self.size, self.bounded = size, bounded
        residual = [Residual(width, share=1 / blocks) for _ in range(blocks)]
        out = [nn.ReLU(), upsample(width, width), nn.ReLU(), upsample(width, channels)]
        self.net = nn.Sequential(he_init(nn.Conv2d(size, width, 1), 1.0), *residual, *out)

    def forward(self, z: Tensor) -> Tensor:
        """(B, size, h, w) to (B, C, 4h, 4w). Another shape is a ValueError."""
        need_shape("codes", z, "B", self.size, "h", "w")
        x: Tensor = self.net(z)
        return torch.tanh(x) if self.bounded else x
