"""Pictures from words (chapter 05): regions that words are matched with, and a generator that looks at words.

Words are vectors (B, T, D) with a mask, bool (B, T), True where a word is; a sentence is one vector (B, D). Source: Xu
et al. 2018 (AttnGAN, arXiv:1711.10485), section 3; Zhang et al. 2017 (StackGAN, arXiv:1612.03242), section 3.2.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from minigen.data.checks import need_count, need_shape
from minigen.nets.attention import Attention, attend_places
from minigen.nets.conv import Residual, upsample
from minigen.nets.init import he_init, zero_init
from minigen.nets.text import ImageEncoder


class RegionEncoder(ImageEncoder):
    """An `ImageEncoder` whose tokens see a small part of the image each, and know which.

    blocks: of residual layers; none unless given, for each of them widens what a region sees by two places a side, and
    a region that sees the whole image can stand for any word.
    """

    def __init__(
        self, shape: Sequence[int], *, width: int = 64, num_downsamples: int = 1, blocks: int = 0, heads: int = 4
    ) -> None:
        super().__init__(shape, width=width, num_downsamples=num_downsamples, blocks=blocks, heads=heads)
        self.place = nn.Parameter(0.5 * torch.randn(1, math.prod(self.grid), width))

    def regions(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to tokens (B, h w, width), not checked."""
        return super().regions(x) + self.place


class ConditioningAugmentation(nn.Module):
    """A sentence (B, D) to mean and log_std of a Gaussian over conditions, both (B, size).

    The generator is given a sample of it, so that between the sentences of the data there are others, too. It begins as
    the standard normal. Zhang et al. 2017, section 3.2.
    """

    def __init__(self, sentence_dim: int, size: int) -> None:
        super().__init__()
        self.net = zero_init(nn.Linear(sentence_dim, 2 * size))

    def forward(self, sentence: Tensor) -> tuple[Tensor, Tensor]:
        """(B, D) to two of (B, size)."""
        mean, log_std = self.net(sentence).chunk(2, dim=1)
        return mean, log_std


class WordGenerator(nn.Module):
    """Latent (B, latent) and words to images of rising resolution, their sides doubling. Xu et al. 2018, eq. 1.

    A linear layer and a transposed convolution make the features of the smallest image. Each further stage lets every
    place look at the words, puts what it took beside its features, and doubles the sides. A 3x3 convolution and tanh
    make an image of the features of each stage.

    shape: (C, H, W) of the largest image; sides are multiples of 2^stages. latent: numbers of noise. word_dim: features
    of a word and of a sentence. condition: numbers that `augment` makes of the sentence; they come last in the latent,
    so that `latent` of the generator counts both. width: features of the last stage; each one before it has twice as
    many.

    >>> net = WordGenerator(8, (3, 12, 12), word_dim=6, condition=4, width=8)
    >>> words, mask = torch.randn(2, 5, 6), torch.ones(2, 5, dtype=torch.bool)
    >>> [tuple(x.shape) for x in net(torch.randn(2, net.latent), words, mask)]
    [(2, 3, 6, 6), (2, 3, 12, 12)]
    """

    def __init__(
        self,
        latent: int,
        shape: Sequence[int],
        *,
        word_dim: int,
        condition: int = 16,
        stages: int = 2,
        width: int = 32,
        heads: int = 1,
    ) -> None:
        super().__init__()
        need_count("stages", stages)
        channels, *sides = self.shape = tuple(shape)
        if len(sides) != 2 or any(side % 2**stages for side in sides):
            raise ValueError(f"shape must be (C, H, W), its sides multiples of {2**stages}; got {self.shape}")
        self.latent, self.condition = latent + condition, condition
        self.augment = ConditioningAugmentation(word_dim, condition)
        widths = [width * 2**i for i in reversed(range(stages))]
        first = (2 * widths[0], *(side >> stages for side in sides))
        enter = he_init(nn.Linear(self.latent, math.prod(first)), 1.0)
        self.start = nn.Sequential(enter, nn.Unflatten(1, first), nn.ReLU(), upsample(first[0], widths[0]))
        self.looks = nn.ModuleList(Attention(n, heads, context_dim=word_dim) for n in widths[:-1])
        self.stages = nn.ModuleList(
            nn.Sequential(Residual(2 * a), nn.ReLU(), upsample(2 * a, b)) for a, b in itertools.pairwise(widths)
        )
        self.images = nn.ModuleList(
            nn.Sequential(nn.ReLU(), he_init(nn.Conv2d(n, channels, 3, padding=1)), nn.Tanh()) for n in widths
        )

    def forward(self, z: Tensor, words: Tensor, mask: Tensor | None = None) -> tuple[Tensor, ...]:
        """(B, latent), words (B, T, D) and their mask (B, T) to images, the smallest first."""
        need_shape("latent", z, "B", self.latent)
        h = self.start(z)
        seen = [h]
        for look, stage in zip(self.looks, self.stages, strict=True):
            assert isinstance(look, Attention)
            h = stage(torch.cat([h, attend_places(look, h, words, mask)], dim=1))
            seen.append(h)
        return tuple(image(h) for image, h in zip(self.images, seen, strict=True))
