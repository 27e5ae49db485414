"""The diffusion transformer (chapter 13): a denoising network whose tokens are patches of the image.

Source: Peebles and Xie 2023, section 3.2 and figure 3 (adaLN-Zero). How it is called: see `nets.conditioning`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from minigen.data.checks import need_batch
from minigen.nets.attention import modulate
from minigen.nets.conditioning import Conditioning
from minigen.nets.embeddings import sinusoidal_2d
from minigen.nets.init import he_init, zero_init
from minigen.nets.transformer import ModulatedBlock


class DiT(nn.Module):
    """Images (B, in_channels, H, W) to (B, out_channels, H, W), zeros at the start, for a noise level and a context.

    out_channels: as many as in_channels unless given. noise_level: off for a network that is called without one.
    size: H and W, or one number for both, multiples of patch. patch: pixels a side of what becomes a token.
    context_dim: features of a word; label_dim: of a label, or the number of classes; None for neither. How the network
    is called, and what says nothing: see `nets.conditioning`.

    >>> net = DiT(3, size=8, width=16, depth=2, label_dim=10)
    >>> net(torch.randn(2, 3, 8, 8), torch.zeros(2), torch.tensor([7, -1])).shape  # a class, and none
    torch.Size([2, 3, 8, 8])
    """

    def __init__(
        self,
        in_channels: int,
        *,
        size: int | tuple[int, int],
        out_channels: int | None = None,
        noise_level: bool = True,
        patch: int = 2,
        width: int = 128,
        depth: int = 6,
        heads: int = 4,
        context_dim: int | None = None,
        label_dim: int | None = None,
    ) -> None:
        super().__init__()
        self.shape = (in_channels, *((size, size) if isinstance(size, int) else size))
        height, side = self.shape[1:]
        if height % patch or side % patch:
            raise ValueError(f"size must be multiples of patch {patch}; got {height} x {side}")
        self.in_channels, self.out_channels = in_channels, in_channels if out_channels is None else out_channels
        self.patch, self.grid = patch, (height // patch, side // patch)
        self.conditioning = Conditioning(width, noise_level=noise_level, context_dim=context_dim, label_dim=label_dim)
        self.stem = he_init(nn.Linear(in_channels * patch**2, width), 1.0)
        self.places = nn.Parameter(sinusoidal_2d(*self.grid, width).to(torch.get_default_dtype()))
        self.blocks = nn.ModuleList(ModulatedBlock(width, heads, context_dim=context_dim) for _ in range(depth))
        self.modulation = zero_init(nn.Linear(width, 2 * width))
        self.last = zero_init(nn.Linear(width, self.out_channels * patch**2))

    def forward(self, x: Tensor, *given: Tensor) -> Tensor:
        """(B, in_channels, H, W), levels (B,) and the context to (B, out_channels, H, W)."""
        need_batch("images", x, *self.shape)
        cond = self.conditioning(x, given)
        h = self.stem(functional.pixel_unshuffle(x, self.patch).flatten(2).mT) + self.places  # (B, T, width)
        for block in self.blocks:
            h = block(h, cond)
        shift, scale = self.modulation(cond.embedding)[:, None].chunk(2, dim=2)
        patches = self.last(modulate(h, shift, scale)).mT.unflatten(2, self.grid)  # (B, out_channels patch^2, H', W')
        return functional.pixel_shuffle(patches, self.patch)
