"""The U-Net (chapter 11): convolutions at several resolutions, for denoising with the noise level in every block.

Sources: Ronneberger et al. 2015 (down, up, and skips between); Ho et al. 2020, appendix B (residual blocks, attention
at low resolution, the level in every block); Dhariwal and Nichol 2021, section 3 (the level as scale and shift).
How it is called: see `nets.conditioning`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from minigen.data.checks import need_scaled
from minigen.nets.attention import Attention
from minigen.nets.conditioning import Cond, Conditioning
from minigen.nets.init import he_init, zero_init


class ResidualBlock(nn.Module):
    """x + f(x): norm, SiLU, 3x3; norm, scale and shift by the conditioning, SiLU, 3x3, which begins at 0.

    Norms are over a whole image, GroupNorm(1). The second one's scale and shift, another for each image, go through the
    same operation, with each image as one group of the batch's channels: half the time of two more passes over h.
    """

    def __init__(self, c_in: int, c_out: int, features: int) -> None:
        super().__init__()
        self.norm, self.first = nn.GroupNorm(1, c_in), nn.Conv2d(c_in, c_out, 3, padding=1)
        self.modulation = nn.Linear(features, 2 * c_out)
        self.last = zero_init(nn.Conv2d(c_out, c_out, 3, padding=1))
        self.skip = nn.Identity() if c_in == c_out else he_init(nn.Conv2d(c_in, c_out, 1), 1.0)

    def forward(self, x: Tensor, cond: Cond) -> Tensor:
        """(B, c_in, H, W) to (B, c_out, H, W)."""
        scale, shift = (part.flatten() for part in self.modulation(cond.embedding).chunk(2, dim=1))  # (B c_out,)
        h = self.first(functional.silu(self.norm(x)))
        h = functional.group_norm(h.reshape(1, -1, *h.shape[2:]), len(h), 1 + scale, shift).view(h.shape)
        added: Tensor = self.skip(x) + self.last(functional.silu(h))
        return added


class AttentionBlock(nn.Module):
    """Every place attends to all places, then to the words if there are any; both are added and begin at 0."""

    def __init__(self, width: int, heads: int, context_dim: int | None) -> None:
        super().__init__()
        self.norm, self.places = nn.GroupNorm(1, width), Attention(width, heads)
        self.words = Attention(width, heads, context_dim=context_dim) if context_dim else None
        for attention in (self.places, self.words):
            if attention is not None:
                zero_init(attention.out)

    def forward(self, x: Tensor, cond: Cond) -> Tensor:
        """(B, width, H, W) to the same."""
        tokens = self.norm(x).flatten(2).mT  # (B, H W, width)
        added: Tensor = self.places(tokens)
        if self.words is not None:
            added = added + self.words(tokens, cond.context, cond.mask)
        return x + added.mT.reshape(x.shape)


class Stage(nn.Module):
    """Residual blocks at one resolution, each followed by attention where asked for."""

    def __init__(
        self, c_in: Sequence[int], c_out: int, features: int, *, heads: int | None, context_dim: int | None
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(ResidualBlock(c, c_out, features) for c in c_in)
        attend = [AttentionBlock(c_out, heads, context_dim) for _ in c_in] if heads else []
        self.attend = nn.ModuleList(attend)

    def forward(self, x: Tensor, cond: Cond, skips: Sequence[Tensor] = ()) -> list[Tensor]:
        """What each block puts out, (B, c_out, H, W), from x; a skip, where there is one, is joined to its input."""
        found: list[Tensor] = []
        for i, block in enumerate(self.blocks):
            x = block(torch.cat([x, skips[i]], dim=1) if skips else x, cond)
            x = self.attend[i](x, cond) if self.attend else x
            found.append(x)
        return found


class UNet(nn.Module):
    """Images (B, in_channels, H, W) to (B, out_channels, H, W), zeros at the start, for a noise level and a context.

    out_channels: as many as in_channels unless given. noise_level: off for a network that is called without one, as
    for translation. context_dim: features of a word; label_dim: of a label, or the number of classes; None for
    neither. How the network is called, and what says nothing: see `nets.conditioning`.

    width: features at the first resolution, times the multipliers at each halving. blocks: residual blocks at each
    resolution on the way down, and as many on the way up, each of which is given the one opposite, its skip.
    attention: resolutions that have it, 0 being the first; -1 is the lowest. heads: of attention.
    patch: pixels a side that the first convolution takes, and the last gives, as features of one place; 1 is the
        images' own resolution.
    H and W must be multiples of patch 2^(len(multipliers) - 1); other shapes are a ValueError.

    >>> x, log_snr = torch.randn(2, 3, 16, 16), torch.zeros(2)
    >>> UNet(3, width=8)(x, log_snr).shape
    torch.Size([2, 3, 16, 16])
    >>> UNet(3, width=8, label_dim=10)(x, log_snr, torch.tensor([7, -1])).shape  # a class, and none
    torch.Size([2, 3, 16, 16])
    >>> UNet(3, out_channels=1, width=8, noise_level=False)(x).shape
    torch.Size([2, 1, 16, 16])
    """

    def __init__(
        self,
        in_channels: int,
        *,
        out_channels: int | None = None,
        noise_level: bool = True,
        width: int = 32,
        multipliers: Sequence[float] = (1, 2, 4),
        blocks: int = 1,
        attention: Sequence[int] = (1, 2),
        heads: int = 4,
        patch: int = 1,
        context_dim: int | None = None,
        label_dim: int | None = None,
    ) -> None:
        super().__init__()
        depth = len(multipliers)
        if any(not -depth <= i < depth for i in attention):
            raise ValueError(f"attention names resolutions 0..{depth - 1}; got {tuple(attention)}")
        if context_dim and not attention:
            raise ValueError("words need attention at one resolution at least; got attention=()")
        self.in_channels, self.out_channels = in_channels, in_channels if out_channels is None else out_channels
        self.patch, features = patch, 4 * width
        self.conditioning = Conditioning(
            features, noise_level=noise_level, context_dim=context_dim, label_dim=label_dim
        )
        widths = [round(width * m) for m in multipliers]
        where = {i % depth for i in attention}

        def stage(c_in: Sequence[int], i: int) -> Stage:
            return Stage(c_in, widths[i], features, heads=heads if i in where else None, context_dim=context_dim)

        self.stem = he_init(nn.Conv2d(in_channels * patch**2, widths[0], 3, padding=1), 1.0)
        self.down = nn.ModuleList(stage([c] * blocks, i) for i, c in enumerate(widths))
        self.middle = ResidualBlock(widths[-1], widths[-1], features)
        self.up = nn.ModuleList(stage([2 * c] * blocks, i) for i, c in enumerate(widths))
        self.shrink = nn.ModuleList(he_init(nn.Conv2d(a, b, 2, stride=2), 1.0) for a, b in pairwise(widths))
        self.grow = nn.ModuleList(he_init(nn.ConvTranspose2d(b, a, 2, stride=2), 1.0) for a, b in pairwise(widths))
        self.norm = nn.GroupNorm(1, widths[0])
        self.last = zero_init(nn.Conv2d(widths[0], self.out_channels * patch**2, 3, padding=1))

    def forward(self, x: Tensor, *given: Tensor) -> Tensor:
        """(B, in_channels, H, W), levels (B,) and the context to (B, out_channels, H, W)."""
        multiple = self.patch * 2 ** len(self.shrink)
        if x.ndim != 4 or x.shape[1] != self.in_channels or x.shape[2] % multiple or x.shape[3] % multiple:
            wanted = f"(B, {self.in_channels}, H, W) with H and W multiples of {multiple}"
            raise ValueError(f"images must be {wanted}; got {tuple(x.shape)}: pad them, or halve less often")
        need_scaled("images", x)
        cond = self.conditioning(x, given)
        h, skips = self.stem(functional.pixel_unshuffle(x, self.patch)), []
        for i, stage in enumerate(self.down):
            h = self.shrink[i - 1](h) if i else h
            skips.append(stage(h, cond))
            h = skips[-1][-1]
        h = self.middle(h, cond)
        for i, stage in reversed(list(enumerate(self.up))):
            *_, h = stage(h, cond, skips[i][::-1])
            h = self.grow[i - 1](h) if i else h
        return functional.pixel_shuffle(self.last(functional.silu(self.norm(h))), self.patch)
