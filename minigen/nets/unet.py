"""The U-Net as a denoising network (chapter 11): convolutions at several resolutions, told the noise level.

Sources: Ronneberger et al. 2015 (down, up, and skips between); Ho et al. 2020, appendix B (residual blocks, attention
at low resolution, the level in every block); Dhariwal and Nichol 2021, section 3 (the level as scale and shift).
How it is called: see `nets.attention`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from minigen.nets.attention import Attention, Conditions, Told
from minigen.nets.conv import scaled, zeroed


class ResidualBlock(nn.Module):
    """x + f(x): norm, SiLU, 3x3; norm, scale and shift by what is told, SiLU, 3x3, which begins at 0.

    Norms are over a whole image, GroupNorm(1). The second one's scale and shift, another for each image, go through the
    same operation, with each image as one group of the batch's channels: half the time of two more passes over h.
    """

    def __init__(self, c_in: int, c_out: int, features: int) -> None:
        super().__init__()
        self.norm, self.first = nn.GroupNorm(1, c_in), nn.Conv2d(c_in, c_out, 3, padding=1)
        self.told = nn.Linear(features, 2 * c_out)
        self.last = zeroed(nn.Conv2d(c_out, c_out, 3, padding=1))
        self.skip = nn.Identity() if c_in == c_out else scaled(nn.Conv2d(c_in, c_out, 1), 1.0)

    def forward(self, x: Tensor, told: Told) -> Tensor:
        """(B, c_in, H, W) to (B, c_out, H, W)."""
        scale, shift = (part.flatten() for part in self.told(told.features).chunk(2, dim=1))  # (B c_out,)
        h = self.first(functional.silu(self.norm(x)))
        h = functional.group_norm(h.reshape(1, -1, *h.shape[2:]), len(h), 1 + scale, shift).view(h.shape)
        added: Tensor = self.skip(x) + self.last(functional.silu(h))
        return added


class AttentionBlock(nn.Module):
    """Every place attends to all places, then to the words if there are any; both are added and begin at 0."""

    def __init__(self, width: int, heads: int, context: int | None) -> None:
        super().__init__()
        self.norm, self.places = nn.GroupNorm(1, width), Attention(width, heads)
        self.words = Attention(width, heads, context=context) if context else None
        for attention in (self.places, self.words):
            if attention is not None:
                zeroed(attention.out)

    def forward(self, x: Tensor, told: Told) -> Tensor:
        """(B, width, H, W) to the same."""
        tokens = self.norm(x).flatten(2).mT  # (B, H W, width)
        added: Tensor = self.places(tokens)
        if self.words is not None:
            added = added + self.words(tokens, told.words, told.mask)
        return x + added.mT.reshape(x.shape)


class Level(nn.Module):
    """Residual blocks at one resolution, each followed by attention where asked for."""

    def __init__(
        self, c_in: Sequence[int], c_out: int, features: int, *, heads: int | None, context: int | None
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(ResidualBlock(c, c_out, features) for c in c_in)
        attend = [AttentionBlock(c_out, heads, context) for _ in c_in] if heads else []
        self.attend = nn.ModuleList(attend)

    def forward(self, x: Tensor, told: Told, passed: Sequence[Tensor] = ()) -> list[Tensor]:
        """What each block puts out, (B, c_out, H, W), from x and, joined to each one's input, what was passed over."""
        found: list[Tensor] = []
        for i, block in enumerate(self.blocks):
            x = block(torch.cat([x, passed[i]], dim=1) if passed else x, told)
            x = self.attend[i](x, told) if self.attend else x
            found.append(x)
        return found


class UNet(nn.Module):
    """Images (B, C, H, W), a level and a context to (B, C, H, W), which begins at 0.

    width: features at the first resolution, times the multipliers at each halving. blocks: residual blocks at each
    resolution on the way down, and as many on the way up, each of which is given the one opposite.
    attention: resolutions that have it, 0 being the first; -1 is the lowest. heads: of attention.
    patch: pixels a side that the first convolution takes, and the last gives, as features of one place; 1 is the
        images' own resolution. context: features of a word; label: of a label; None for neither.
    H and W must be multiples of patch 2^(len(multipliers) - 1); other shapes are a ValueError.
    """

    def __init__(
        self,
        channels: int,
        *,
        width: int = 32,
        multipliers: Sequence[float] = (1, 2, 4),
        blocks: int = 1,
        attention: Sequence[int] = (1, 2),
        heads: int = 4,
        patch: int = 1,
        context: int | None = None,
        label: int | None = None,
    ) -> None:
        super().__init__()
        depth = len(multipliers)
        if any(not -depth <= i < depth for i in attention):
            raise ValueError(f"attention names resolutions 0..{depth - 1}; got {tuple(attention)}")
        if context and not attention:
            raise ValueError("words need attention at one resolution at least; got attention=()")
        self.channels, self.patch, features = channels, patch, 4 * width
        self.conditions = Conditions(features, context=context, label=label)
        widths = [round(width * m) for m in multipliers]
        where = {i % depth for i in attention}

        def level(c_in: Sequence[int], i: int) -> Level:
            return Level(c_in, widths[i], features, heads=heads if i in where else None, context=context)

        self.stem = scaled(nn.Conv2d(channels * patch**2, widths[0], 3, padding=1), 1.0)
        self.down = nn.ModuleList(level([c] * blocks, i) for i, c in enumerate(widths))
        self.middle = ResidualBlock(widths[-1], widths[-1], features)
        self.up = nn.ModuleList(level([2 * c] * blocks, i) for i, c in enumerate(widths))
        self.shrink = nn.ModuleList(scaled(nn.Conv2d(a, b, 2, stride=2), 1.0) for a, b in pairwise(widths))
        self.grow = nn.ModuleList(scaled(nn.ConvTranspose2d(b, a, 2, stride=2), 1.0) for a, b in pairwise(widths))
        self.norm = nn.GroupNorm(1, widths[0])
        self.last = zeroed(nn.Conv2d(widths[0], channels * patch**2, 3, padding=1))

    def forward(self, x: Tensor, log_snr: Tensor, *context: Tensor) -> Tensor:
        """(B, C, H, W), levels (B,) and the context to (B, C, H, W)."""
        multiple = self.patch * 2 ** len(self.shrink)
        if x.ndim != 4 or x.shape[1] != self.channels or x.shape[2] % multiple or x.shape[3] % multiple:
            wanted = f"(B, {self.channels}, H, W) with H and W multiples of {multiple}"
            raise ValueError(f"images must be {wanted}; got {tuple(x.shape)}: pad them, or halve less often")
        told = self.conditions(x, log_snr, context)
        h, passed = self.stem(functional.pixel_unshuffle(x, self.patch)), []
        for i, level in enumerate(self.down):
            h = self.shrink[i - 1](h) if i else h
            passed.append(level(h, told))
            h = passed[-1][-1]
        h = self.middle(h, told)
        for i, level in reversed(list(enumerate(self.up))):
            *_, h = level(h, told, passed[i][::-1])
            h = self.grow[i - 1](h) if i else h
        return functional.pixel_shuffle(self.last(functional.silu(self.norm(h))), self.patch)
