"""A causal transformer over pixels (chapter 10): each pixel is predicted from all before it, at any distance.

Sources: Vaswani et al. 2017, section 3 (attention); Chen et al. 2020 (Generative pretraining from pixels), section 2
(pixels as a sequence, normalisation before each part). Levels, logits and cached passes are those of `nets.masked`.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional


class CausalBlock(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)); attention to this position and those before it.

    groups: of heads that share their keys and values, from 1 (Shazeer 2019) to `heads`, each its own (Vaswani et al.
    2017). Fewer make a cached pass faster, which has to read all keys and values for every pixel.
    """

    def __init__(self, width: int, heads: int, groups: int) -> None:
        super().__init__()
        if width % heads or heads % groups:
            raise ValueError(f"width must be a multiple of heads, heads of groups; got {width}, {heads} and {groups}")
        self.heads, self.groups, self.size = heads, groups, width // heads
        self.norm_attention, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, (heads + 2 * groups) * self.size), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, width) to the same."""
        q, k, v = (part.transpose(1, 2) for part in self.split(x))  # (B, heads or groups, T, D)
        k, v = (part.repeat_interleave(self.heads // self.groups, dim=1) for part in (k, v))
        return self.finish(x, functional.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2))

    def split(self, x: Tensor) -> tuple[Tensor, ...]:
        """Queries (B, T, heads, D), keys and values (B, T, groups, D) of a block's input (B, T, width)."""
        found: Tensor = self.qkv(self.norm_attention(x))
        parts = found.view(*x.shape[:2], self.heads + 2 * self.groups, self.size)
        return torch.split(parts, [self.heads, self.groups, self.groups], dim=2)

    def finish(self, x: Tensor, attended: Tensor) -> Tensor:
        """What follows the attention, (B, T, heads, D), in a block whose input was x."""
        x = x + self.out(attended.flatten(2))
        added: Tensor = x + self.mlp(self.norm_mlp(x))
        return added


class PixelTransformer(nn.Module):
    """Levels (B, 1, H, W) to logits (B, K, H, W), each from all pixels before its own.

    The sequence is shifted by one: at each place stands the level of the pixel before, at the first a start token. A
    row and a column embedding say which pixel is to be predicted.

    levels: K. size: H and W. groups: of heads with common keys and values, see `CausalBlock`.
    context: number of features of what is drawn for, such as a label's one-hot; 0 is none.
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
        context: int = 0,
    ) -> None:
        super().__init__()
        self.levels, self.size, self.context = levels, size, context
        self.level = nn.Embedding(levels + 1, width)  # the last one is the start token
        self.row, self.column = nn.Embedding(size[0], width), nn.Embedding(size[1], width)
        self.given = nn.Linear(context, width, bias=False) if context else None
        self.blocks = nn.ModuleList(CausalBlock(width, heads, groups) for _ in range(blocks))
        self.norm, self.last = nn.LayerNorm(width), nn.Linear(width, levels)
        for embedding in (self.level, self.row, self.column):
            nn.init.normal_(embedding.weight, std=0.5)
        with torch.no_grad():  # the sum over blocks then stays at the scale of the embeddings
            for block in self._blocks():
                for layer in (block.out, block.mlp[2]):
                    assert isinstance(layer, nn.Linear)
                    layer.weight.div_((2 * blocks) ** 0.5)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Levels (B, 1, H, W), int64, and a context (B, features) to logits (B, K, H, W)."""
        if x.ndim != 4 or x.shape[1] != 1 or tuple(x.shape[2:]) != self.size or x.dtype != torch.int64:
            wanted = f"(B, 1, {self.size[0]}, {self.size[1]})"
            raise ValueError(f"levels must be int64 {wanted}; got {x.dtype} {tuple(x.shape)}")
        start = torch.full_like(x[:, 0, 0, :1], self.levels)
        shifted = torch.cat([start, x.flatten(1)[:, :-1]], dim=1)  # (B, T)
        places = (self.row.weight[:, None] + self.column.weight).flatten(0, 1)  # (T, width)
        h = self.level(shifted) + places + self.offset(context, len(x))[:, None]
        for block in self.blocks:
            h = block(h)
        return self.logits(h).mT.reshape(len(x), self.levels, *self.size)  # (B, T, K) to (B, K, H, W)

    def offset(self, context: Tensor | None, n: int) -> Tensor:
        """What the context adds to every token, (B, width)."""
        if (context is None) != (self.given is None):
            raise ValueError(f"context must be (B, {self.context})" if self.given else "this net takes no context")
        added: Tensor = self.given(context) if self.given is not None else self.last.weight.new_zeros(n, 1)
        return added

    def logits(self, h: Tensor) -> Tensor:
        """Features (..., width) to logits (..., K)."""
        found: Tensor = self.last(self.norm(h))
        return found

    def start(self, n: int, height: int, width: int, context: Tensor | None = None) -> TransformerPass:
        """A cached pass over n images: keys and values of the tokens so far."""
        if (height, width) != self.size:
            raise ValueError(f"this net is for images of {self.size}; got {(height, width)}")
        return TransformerPass(self, n, context)

    def _blocks(self) -> Iterator[CausalBlock]:
        for block in self.blocks:
            assert isinstance(block, CausalBlock)
            yield block


class TransformerPass:
    """The cached pass of a `PixelTransformer`: each block's keys (n groups, D, T) and values (n groups, T, D)."""

    @torch.no_grad()
    def __init__(self, net: PixelTransformer, n: int, context: Tensor | None) -> None:
        self.net, length, like = net, net.size[0] * net.size[1], net.last.weight
        self.before = torch.full((n,), net.levels, dtype=torch.int64, device=like.device)
        self.offset = net.offset(context, n)
        self.kept = []
        for block in net._blocks():
            rows = n * block.groups
            self.kept.append((like.new_zeros(rows, block.size, length), like.new_zeros(rows, length, block.size)))

    @torch.no_grad()
    def logits(self, row: int, column: int) -> Tensor:
        """Logits of this pixel, (n, K)."""
        net, t = self.net, row * self.net.size[1] + column
        h = (net.level(self.before) + net.row.weight[row] + net.column.weight[column] + self.offset)[:, None]
        for block, (keys, values) in zip(net._blocks(), self.kept, strict=True):
            q, k, v = block.split(h)
            q = q.reshape(len(keys), -1, block.size)  # (n groups, heads / groups, D)
            keys[:, :, t], values[:, t] = k.reshape(-1, block.size), v.reshape(-1, block.size)
            scores = torch.bmm(q / block.size**0.5, keys[:, :, : t + 1])  # (n groups, heads / groups, t + 1)
            attended = torch.bmm(scores.softmax(-1), values[:, : t + 1])
            h = block.finish(h, attended.view(len(h), 1, block.heads, block.size))
        return net.logits(h[:, 0])

    def put(self, levels: Tensor, row: int, column: int) -> None:
        """Set this pixel to levels (n,)."""
        self.before = levels
