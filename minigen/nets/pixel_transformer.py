"""A causal transformer over pixels (chapter 10): each pixel is predicted from all before it, at any distance.

Sources: Vaswani et al. 2017, section 3 (attention); Chen et al. 2020 (Generative pretraining from pixels), section 2
(pixels as a sequence, normalisation before each part). Levels, logits and cached passes are those of `nets.pixelcnn`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from minigen.data.checks import need_entry
from minigen.nets.conditioning import encode_context
from minigen.nets.transformer import TransformerBlock


class PixelTransformer(nn.Module):
    """Levels (B, 1, H, W) to logits (B, K, H, W), each from all pixels before its own.

    The sequence is shifted by one: at each place stands the level of the pixel before, at the first a start token. A
    row and a column embedding say which pixel is to be predicted.

    levels: K. size: H and W. groups: of heads with common keys and values, see `Attention`.
    context_dim: number of features of what is drawn for, or of classes; 0 is none. A context of zeros, or class -1,
    says nothing. outputs: channels of the result; K unless given.

    >>> net = PixelTransformer(8, size=(4, 4), width=16, blocks=1)
    >>> net(torch.zeros(2, 1, 4, 4, dtype=torch.int64)).shape
    torch.Size([2, 8, 4, 4])
    """

    def __init__(
        self,
        levels: int,
        *,
        size: tuple[int, int],
        width: int = 128,
        blocks: int = 4,
        heads: int = 4,
        groups: int = 1,
        context_dim: int = 0,
        outputs: int | None = None,
    ) -> None:
        super().__init__()
        self.levels, self.size, self.context_dim = levels, size, context_dim
        self.level = nn.Embedding(levels + 1, width)  # the last one is the start token
        self.row, self.column = nn.Embedding(size[0], width), nn.Embedding(size[1], width)
        self.given = nn.Linear(context_dim, width, bias=False) if context_dim else None
        made = [TransformerBlock(width, heads, groups=groups, causal=True, bias=True) for _ in range(blocks)]
        self.blocks: Any = nn.ModuleList(made)
        self.norm, self.last = nn.LayerNorm(width), nn.Linear(width, outputs or levels)
        for embedding in (self.level, self.row, self.column):
            nn.init.normal_(embedding.weight, std=0.5)
        with torch.no_grad():  # the sum over blocks then stays at the scale of the embeddings
            for block in made:
                for layer in (block.attention.out, block.mlp[2]):
                    assert isinstance(layer, nn.Linear)
                    layer.weight.div_((2 * blocks) ** 0.5)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Levels (B, 1, H, W), int64, and a context (B, features), or classes (B,), to logits (B, K, H, W)."""
        if x.ndim != 4 or x.shape[1] != 1 or tuple(x.shape[2:]) != self.size or x.dtype != torch.int64:
            wanted = f"(B, 1, {self.size[0]}, {self.size[1]})"
            raise ValueError(f"levels must be int64 {wanted}; got {x.dtype} {tuple(x.shape)}")
        need_entry("levels", x, self.levels)
        start = torch.full_like(x[:, 0, 0, :1], self.levels)
        shifted = torch.cat([start, x.flatten(1)[:, :-1]], dim=1)  # (B, T)
        h = self.level(shifted) + self.places() + self.offset(context, len(x))[:, None]
        for block in self.blocks:
            h = block(h)
        return self.logits(h).mT.reshape(len(x), -1, *self.size)  # (B, T, K) to (B, K, H, W)

    def places(self) -> Tensor:
        """What says which pixel is to be predicted, (T, width)."""
        return (self.row.weight[:, None] + self.column.weight).flatten(0, 1)

    def offset(self, context: Tensor | None, n: int) -> Tensor:
        """What the context adds to every token of n images, (n, width); (1, 1) without one."""
        numbers = encode_context(context, n, self.context_dim, self.last.weight.dtype)
        added: Tensor = self.last.weight.new_zeros(1, 1) if self.given is None else self.given(numbers)
        return added

    def logits(self, h: Tensor) -> Tensor:
        """Features (..., width) to logits (..., K)."""
        found: Tensor = self.last(self.norm(h))
        return found

    def init_cache(self, n: int, height: int, width: int, context: Tensor | None = None) -> TransformerCache:
        """A cached pass over n images: keys and values of the tokens so far."""
        if (height, width) != self.size:
            raise ValueError(f"this net is for images of {self.size}; got {(height, width)}")
        return TransformerCache(self, n, context)


class TransformerCache:
    """The cached pass of a `PixelTransformer`: one token through every block."""

    @torch.no_grad()
    def __init__(self, net: PixelTransformer, n: int, context: Tensor | None) -> None:
        self.net, self.level = net, net.level.weight
        self.before = torch.full((n,), net.levels, dtype=torch.int64, device=self.level.device)
        self.places = net.places()[:, None] + net.offset(context, n)  # (T, n or 1, width)
        self.blocks = [block.init_cache(n, len(self.places)) for block in net.blocks]

    @torch.no_grad()
    def logits(self, row: int, column: int) -> Tensor:
        """Logits of this pixel, (n, K)."""
        t = row * self.net.size[1] + column
        h = self.level[self.before] + self.places[t]  # (n, width)
        for block in self.blocks:
            h = block.step(h, t)
        return self.net.logits(h)

    def append(self, levels: Tensor, row: int, column: int) -> None:
        """Set this pixel to levels (n,)."""
        self.before = levels
