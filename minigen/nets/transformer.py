"""The blocks of transformers: attention, then a small network for each token, each added to what came in.

Sources: Vaswani et al. 2017, section 3; Chen et al. 2020 (Generative pretraining from pixels), section 2 (normalisation
before each part); Peebles and Xie 2023, section 3.2 and figure 3 (adaLN-Zero).

There are two, since each then reads as its formula: `TransformerBlock` has two lines, and a block with gates, shifts
and words that most callers do not have would hide them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from minigen.nets.attention import Attention, AttentionCache, modulate
from minigen.nets.conditioning import Cond
from minigen.nets.init import zero_init


def feed_forward(width: int, *, approximate: str = "none") -> nn.Sequential:
    """Tokens (..., width) to the same, each by itself: four times as wide within, with a GELU. Vaswani 2017, eq. 2."""
    return nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(approximate), nn.Linear(4 * width, width))


class TransformerBlock(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)), for tokens (B, T, width).

    options: of `Attention`, such as causal=True, groups=1, bias=True.

    >>> block = TransformerBlock(8, heads=2, causal=True)
    >>> x = torch.randn(1, 5, 8)
    >>> torch.allclose(block(x)[:, :3], block(x[:, :3]), atol=1e-6)  # what comes later changes nothing
    True
    """

    def __init__(
        self, width: int, heads: int, *, groups: int | None = None, causal: bool = False, bias: bool = False
    ) -> None:
        super().__init__()
        self.norm_attention, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads, groups=groups, causal=causal, bias=bias)
        self.mlp = feed_forward(width)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, T, width) to the same; mask: bool (B, T), False for tokens that are not to be seen."""
        x = x + self.attention(self.norm_attention(x), mask=mask)
        added: Tensor = x + self.mlp(self.norm_mlp(x))
        return added

    def init_cache(self, n: int, length: int) -> BlockCache:
        """A cached pass over n sequences of at most this length, for a causal block."""
        return BlockCache(self, n, length)


class BlockCache:
    """A causal `TransformerBlock`, a token at a time; weights are looked up once, as in `AttentionCache`."""

    @torch.no_grad()
    def __init__(self, block: TransformerBlock, n: int, length: int) -> None:
        layers: list[Any] = [block.mlp[0], block.mlp[2]]
        self.attention: AttentionCache = block.attention.init_cache(n, length)
        self.up, self.down = ((layer.weight, layer.bias) for layer in layers)
        self.norm_attention, self.norm_mlp = (
            (norm.normalized_shape, norm.weight, norm.bias, norm.eps) for norm in (block.norm_attention, block.norm_mlp)
        )

    def step(self, x: Tensor, t: int) -> Tensor:
        """The output at place t, (n, width), from the input there, (n, width), and those of earlier steps."""
        x = x + self.attention.step(functional.layer_norm(x, *self.norm_attention), t)
        hidden = functional.gelu(functional.linear(functional.layer_norm(x, *self.norm_mlp), *self.up))
        return x + functional.linear(hidden, *self.down)


class ModulatedBlock(nn.Module):
    """x + gate attention(norm(x)), x + attention to words, x + gate mlp(norm(x)); all gates begin at 0.

    Norms are scaled and shifted, and gates set, by a linear map of the conditioning, which begins at 0 (adaLN-Zero).
    The words, if there are any, come between attention and MLP, as in Chen et al. 2024 (PixArt-alpha), figure 4.
    """

    def __init__(self, width: int, heads: int, *, context_dim: int | None = None) -> None:
        super().__init__()
        self.modulation = zero_init(nn.Linear(width, 6 * width))
        self.places = Attention(width, heads)
        self.words = Attention(width, heads, context_dim=context_dim) if context_dim else None
        self.mlp = feed_forward(width, approximate="tanh")
        if self.words is not None:
            zero_init(self.words.out)

    def forward(self, x: Tensor, cond: Cond) -> Tensor:
        """(B, T, width) to the same."""
        shift, scale, gate, shift_mlp, scale_mlp, gate_mlp = self.modulation(cond.embedding)[:, None].chunk(6, dim=2)
        x = x + gate * self.places(modulate(x, shift, scale))
        if self.words is not None:
            x = x + self.words(functional.layer_norm(x, x.shape[-1:]), cond.context, cond.mask)
        added: Tensor = x + gate_mlp * self.mlp(modulate(x, shift_mlp, scale_mlp))
        return added
