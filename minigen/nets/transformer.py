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

    groups: of heads that share their keys and values. 1 is one set for all heads (Shazeer 2019), `heads` a set for each
    (Vaswani et al. 2017), what lies between is of Ainslie et al. 2023 (GQA, arXiv:2305.13245), section 2.2. Fewer make
    a cached pass faster, which has to read all keys and values for every pixel.
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
        found = self.qkv(self.norm_attention(x))
        parts = found.view(*x.shape[:2], self.heads + 2 * self.groups, self.size).transpose(1, 2)
        q, k, v = torch.split(parts, [self.heads, self.groups, self.groups], dim=1)  # (B, heads or groups, T, D)
        k, v = (part.repeat_interleave(self.heads // self.groups, dim=1) for part in (k, v))
        attended = functional.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2)  # (B, T, heads, D)
        x = x + self.out(attended.flatten(2))
        added: Tensor = x + self.mlp(self.norm_mlp(x))
        return added

    def start(self, n: int, length: int) -> BlockPass:
        """A cached pass over n sequences of at most this length."""
        return BlockPass(self, n, length)


class BlockPass:
    """One block, a token at a time, with the keys so far (n groups, D, T) and the values (n groups, T, D).

    For so few tokens a call of a module takes as long as its arithmetic. So the weights are looked up once, here, and
    those of the queries have the scale of the scores, 1/sqrt(D).
    """

    @torch.no_grad()
    def __init__(self, block: CausalBlock, n: int, length: int) -> None:
        up, down = block.mlp[0], block.mlp[2]
        assert isinstance(up, nn.Linear)
        assert isinstance(down, nn.Linear)
        rows, width, self.size = n * block.groups, block.heads * block.size, block.size
        self.parts = [width, block.groups * block.size, block.groups * block.size]
        scale = torch.ones_like(block.qkv.bias)
        scale[:width] = block.size**-0.5
        self.qkv = block.qkv.weight * scale[:, None], block.qkv.bias * scale
        self.out, self.up, self.down = ((layer.weight, layer.bias) for layer in (block.out, up, down))
        self.norm_attention, self.norm_mlp = (
            (norm.normalized_shape, norm.weight, norm.bias, norm.eps) for norm in (block.norm_attention, block.norm_mlp)
        )
        self.keys, self.values = scale.new_zeros(rows, self.size, length), scale.new_zeros(rows, length, self.size)

    def step(self, x: Tensor, t: int) -> Tensor:
        """The output at place t, (n, width), from the input there, (n, width), and those of earlier steps."""
        found = functional.linear(functional.layer_norm(x, *self.norm_attention), *self.qkv)
        q, k, v = torch.split(found, self.parts, dim=1)
        self.keys[:, :, t], self.values[:, t] = k.reshape(-1, self.size), v.reshape(-1, self.size)
        q = q.reshape(len(self.keys), -1, self.size)  # (n groups, heads / groups, D)
        scores = torch.bmm(q, self.keys[:, :, : t + 1])  # (n groups, heads / groups, t + 1)
        attended = torch.bmm(scores.softmax(-1), self.values[:, : t + 1])  # (n groups, heads / groups, D)
        x = x + functional.linear(attended.view(x.shape), *self.out)
        hidden = functional.gelu(functional.linear(functional.layer_norm(x, *self.norm_mlp), *self.up))
        return x + functional.linear(hidden, *self.down)


class PixelTransformer(nn.Module):
    """Levels (B, 1, H, W) to logits (B, K, H, W), each from all pixels before its own.

    The sequence is shifted by one: at each place stands the level of the pixel before, at the first a start token. A
    row and a column embedding say which pixel is to be predicted.

    levels: K. size: H and W. groups: of heads with common keys and values, see `CausalBlock`.
    context: number of features of what is drawn for, such as a label's one-hot; 0 is none. outputs: channels of the
    result; K unless given.
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
        outputs: int | None = None,
    ) -> None:
        super().__init__()
        self.levels, self.size, self.context = levels, size, context
        self.level = nn.Embedding(levels + 1, width)  # the last one is the start token
        self.row, self.column = nn.Embedding(size[0], width), nn.Embedding(size[1], width)
        self.given = nn.Linear(context, width, bias=False) if context else None
        self.blocks = nn.ModuleList(CausalBlock(width, heads, groups) for _ in range(blocks))
        self.norm, self.last = nn.LayerNorm(width), nn.Linear(width, outputs or levels)
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
        h = self.level(shifted) + self.places() + self.offset(context)[:, None]
        for block in self.blocks:
            h = block(h)
        return self.logits(h).mT.reshape(len(x), -1, *self.size)  # (B, T, K) to (B, K, H, W)

    def places(self) -> Tensor:
        """What says which pixel is to be predicted, (T, width)."""
        return (self.row.weight[:, None] + self.column.weight).flatten(0, 1)

    def offset(self, context: Tensor | None) -> Tensor:
        """What the context adds to every token, (B, width); (1, 1) without one."""
        if (context is None) != (self.given is None):
            raise ValueError(f"context must be (B, {self.context})" if self.given else "this net takes no context")
        added: Tensor = self.given(context) if self.given is not None else self.last.weight.new_zeros(1, 1)
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
    """The cached pass of a `PixelTransformer`: one token through every block."""

    @torch.no_grad()
    def __init__(self, net: PixelTransformer, n: int, context: Tensor | None) -> None:
        self.net, self.level = net, net.level.weight
        self.before = torch.full((n,), net.levels, dtype=torch.int64, device=self.level.device)
        self.places = net.places()[:, None] + net.offset(context)  # (T, n or 1, width)
        self.blocks = [block.start(n, len(self.places)) for block in net._blocks()]

    @torch.no_grad()
    def logits(self, row: int, column: int) -> Tensor:
        """Logits of this pixel, (n, K)."""
        t = row * self.net.size[1] + column
        h = self.level[self.before] + self.places[t]  # (n, width)
        for block in self.blocks:
            h = block.step(h, t)
        return self.net.logits(h)

    def put(self, levels: Tensor, row: int, column: int) -> None:
        """Set this pixel to levels (n,)."""
        self.before = levels
