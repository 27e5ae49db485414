"""The diffusion transformer (chapter 13): a denoising network whose tokens are patches of the image.

Source: Peebles and Xie 2023, section 3.2 and figure 3 (adaLN-Zero); words by cross-attention between attention and
MLP, as in Chen et al. 2024 (PixArt-alpha), figure 4. How it is called: see `nets.attention`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from minigen.nets.attention import Attention, Conditions, Told, grid, modulated
from minigen.nets.conv import scaled, zeroed


class Block(nn.Module):
    """x + gate attention(norm(x)), x + attention to words, x + gate mlp(norm(x)); all gates begin at 0.

    Norms are scaled and shifted, and gates set, by a linear map of what is told, which begins at 0 (adaLN-Zero).
    """

    def __init__(self, width: int, heads: int, context: int | None) -> None:
        super().__init__()
        self.told = zeroed(nn.Linear(width, 6 * width))
        self.places = Attention(width, heads)
        self.words = Attention(width, heads, context=context) if context else None
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU("tanh"), nn.Linear(4 * width, width))
        if self.words is not None:
            zeroed(self.words.out)

    def forward(self, x: Tensor, told: Told) -> Tensor:
        """(B, T, width) to the same."""
        shift, scale, gate, shift_mlp, scale_mlp, gate_mlp = self.told(told.features)[:, None].chunk(6, dim=2)
        x = x + gate * self.places(modulated(x, shift, scale))
        if self.words is not None:
            x = x + self.words(functional.layer_norm(x, x.shape[-1:]), told.words, told.mask)
        added: Tensor = x + gate_mlp * self.mlp(modulated(x, shift_mlp, scale_mlp))
        return added


class DiT(nn.Module):
    """Images (B, C, H, W), a level and a context to (B, C, H, W), which begins at 0.

    size: H and W, or one number for both, multiples of patch. patch: pixels a side of what becomes a token.
    context: features of a word; label: of a label; None for neither.
    """

    def __init__(
        self,
        channels: int,
        *,
        size: int | tuple[int, int],
        patch: int = 2,
        width: int = 128,
        depth: int = 6,
        heads: int = 4,
        context: int | None = None,
        label: int | None = None,
    ) -> None:
        super().__init__()
        self.shape = (channels, *((size, size) if isinstance(size, int) else size))
        height, side = self.shape[1:]
        if height % patch or side % patch:
            raise ValueError(f"size must be multiples of patch {patch}; got {height} x {side}")
        self.patch, self.grid = patch, (height // patch, side // patch)
        self.conditions = Conditions(width, context=context, label=label)
        self.stem = scaled(nn.Linear(channels * patch**2, width), 1.0)
        self.places = nn.Parameter(grid(*self.grid, width).to(torch.get_default_dtype()))
        self.blocks = nn.ModuleList(Block(width, heads, context) for _ in range(depth))
        self.told, self.last = zeroed(nn.Linear(width, 2 * width)), zeroed(nn.Linear(width, channels * patch**2))

    def forward(self, x: Tensor, log_snr: Tensor, *context: Tensor) -> Tensor:
        """(B, C, H, W), levels (B,) and the context to (B, C, H, W)."""
        if x.shape[1:] != self.shape:
            raise ValueError(f"images must be (B, {', '.join(map(str, self.shape))}); got {tuple(x.shape)}")
        told = self.conditions(x, log_snr, context)
        h = self.stem(functional.pixel_unshuffle(x, self.patch).flatten(2).mT) + self.places  # (B, T, width)
        for block in self.blocks:
            h = block(h, told)
        shift, scale = self.told(told.features)[:, None].chunk(2, dim=2)
        patches = self.last(modulated(h, shift, scale)).mT.unflatten(2, self.grid)  # (B, C patch^2, H', W')
        return functional.pixel_shuffle(patches, self.patch)
