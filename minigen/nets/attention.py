"""Attention over tokens (B, T, D).

Sources: Vaswani et al. 2017, section 3; Peebles and Xie 2023, section 3.2 (adaptive norm); Zhang et al. 2019 (SAGAN,
arXiv:1805.08318), section 3 (over the places of an image, with a gate).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Adaptive layer norm of tokens (B, T, D): normalised, times 1 + scale, plus shift, both (B, 1, D).

    Peebles and Xie 2023, section 3.2.
    """
    return functional.layer_norm(x, x.shape[-1:]) * (1 + scale) + shift


def masked_softmax(scores: Tensor, mask: Tensor | None, dim: int = -1) -> Tensor:
    """Softmax over a dimension of scores (...), 0 where the mask, bool, is False; all 0 where it is False throughout.

    The mask broadcasts to the scores. What is masked gets no gradient, and none is NaN.
    """
    if mask is None:
        return scores.softmax(dim)
    return scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(dim) * mask


class MaskedSoftmax(nn.Module):
    """Softmax over keys of scores (B, heads, T, S), 0 where the mask (B, S) is False; see `record_attention`."""

    def forward(self, scores: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, heads, T, S); rows sum to 1, or to 0 where every key is masked."""
        return masked_softmax(scores, None if mask is None else mask[:, None, None])  # (B, 1, 1, S)


class Attention(nn.Module):
    """softmax(q k' / sqrt(d)) v over heads of size d: of tokens to each other, or to those of a context.

    width: features of the tokens, a multiple of heads. context_dim: features of the tokens that are attended to; None
    for attention of the tokens to themselves. causal: a token sees itself and those before it. bias: of the four linear
    maps; without it values of 0 give 0, so that words of zeros say nothing.
    groups: of heads that share their keys and values, as many as heads unless given. 1 is one set for all heads
    (Shazeer 2019), what lies between is of Ainslie et al. 2023 (GQA, arXiv:2305.13245), section 2.2. Fewer make a
    cached pass faster, which has to read all keys and values for every token.
    Source: Vaswani et al. 2017, eq. 1 and section 3.2.2.

    >>> net = Attention(8, heads=2, context_dim=5)
    >>> net(torch.randn(3, 7, 8), torch.randn(3, 4, 5)).shape
    torch.Size([3, 7, 8])
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        context_dim: int | None = None,
        groups: int | None = None,
        causal: bool = False,
        bias: bool = False,
    ) -> None:
        super().__init__()
        groups = heads if groups is None else groups
        if width % heads or heads % groups:
            raise ValueError(f"width must be a multiple of heads, heads of groups; got {width}, {heads} and {groups}")
        if causal and context_dim is not None:
            raise ValueError("tokens and a context have no common order: causal attention takes no context_dim")
        self.heads, self.groups, self.causal, self.context_dim = heads, groups, causal, context_dim
        self.query = nn.Linear(width, width, bias=bias)
        self.key_value = nn.Linear(context_dim or width, 2 * width * groups // heads, bias=bias)
        self.weights, self.out = MaskedSoftmax(), nn.Linear(width, width, bias=bias)

    def forward(self, x: Tensor, words: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """(B, T, width) to the same; words (B, S, context), mask (B, S), True where there is something to attend to."""
        if (words is None) != (self.context_dim is None):
            raise ValueError("words (B, S, context) are for a layer made with context_dim=..., and it needs them")
        q, (k, v) = self.query(x), self.key_value(x if words is None else words).chunk(2, dim=-1)
        q = q.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, heads, T, D)
        k, v = (self._for_each_head(part.unflatten(-1, (self.groups, -1)).transpose(1, 2)) for part in (k, v))
        if self.causal:
            if mask is not None:
                raise ValueError("causal attention takes no mask: what comes later is hidden, and padding comes last")
            # PyTorch's own kernel takes 0.6 of the time at 144 tokens; it shows no weights to `record_attention`.
            attended = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            attended = self.weights((q * q.shape[-1] ** -0.5) @ k.mT, mask) @ v  # from scores (B, heads, T, S)
        out: Tensor = self.out(attended.transpose(1, 2).flatten(2))
        return out

    def _for_each_head(self, x: Tensor) -> Tensor:
        """Keys or values (B, groups, S, D) as (B, heads, S, D)."""
        return x if self.groups == self.heads else x.repeat_interleave(self.heads // self.groups, dim=1)

    def init_cache(self, n: int, length: int) -> AttentionCache:
        """A cached pass over n sequences of at most this length; ValueError for a layer that is not causal."""
        if not self.causal:
            raise ValueError("only causal attention has a cached pass: make the layer with causal=True")
        return AttentionCache(self, n, length)


def attend_places(attention: Attention, h: Tensor, words: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
    """What the places of h (B, width, H, W) take of each other, or of words (B, S, context): (B, width, H, W)."""
    taken: Tensor = attention(h.flatten(2).mT, words, mask)  # (B, H W, width)
    return taken.mT.reshape(h.shape)


class SelfAttention(nn.Module):
    """x + gate * attention of all places to all, for features (B, width, H, W); the gate begins at 0.

    So it begins as the identity, and a network learns from its neighbours first. Zhang et al. 2019, eqs 1 to 3; their
    queries, keys and values have an eighth of the features, and their scores are not divided by sqrt(d).

    >>> block, h = SelfAttention(8), torch.randn(2, 8, 3, 3)
    >>> torch.equal(block(h), h)
    True
    """

    def __init__(self, width: int, *, heads: int = 1) -> None:
        super().__init__()
        self.attention, self.gate = Attention(width, heads), nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, H, W) to the same."""
        return x + self.gate * attend_places(self.attention, x)


class AttentionCache:
    """Causal attention, a token at a time, with the keys so far (n groups, D, T) and the values (n groups, T, D).

    For so few tokens a call of a module takes as long as its arithmetic. So the weights are looked up once, here, and
    those of the queries have the scale of the scores, 1/sqrt(D).
    """

    @torch.no_grad()
    def __init__(self, layer: Attention, n: int, length: int) -> None:
        weight = layer.query.weight
        width, self.size = len(weight), len(weight) // layer.heads
        scale, shared = self.size**-0.5, layer.groups * self.size
        self.parts = [width, shared, shared]
        self.qkv = (
            torch.cat([weight * scale, layer.key_value.weight]),
            torch.cat([layer.query.bias * scale, layer.key_value.bias]) if layer.query.bias is not None else None,
        )
        self.out = layer.out.weight, layer.out.bias
        rows = n * layer.groups
        self.keys, self.values = weight.new_zeros(rows, self.size, length), weight.new_zeros(rows, length, self.size)

    def step(self, x: Tensor, t: int) -> Tensor:
        """The output at place t, (n, width), from the input there, (n, width), and those of earlier steps."""
        q, k, v = torch.split(functional.linear(x, *self.qkv), self.parts, dim=1)
        self.keys[:, :, t], self.values[:, t] = k.reshape(-1, self.size), v.reshape(-1, self.size)
        q = q.reshape(len(self.keys), -1, self.size)  # (n groups, heads / groups, D)
        scores = torch.bmm(q, self.keys[:, :, : t + 1])  # (n groups, heads / groups, t + 1)
        attended = torch.bmm(scores.softmax(-1), self.values[:, : t + 1])  # (n groups, heads / groups, D)
        return functional.linear(attended.view(x.shape), *self.out)


@contextmanager
def record_attention(net: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Inside, every call of the network leaves its attention weights here, (B, heads, T, S) by the layer's name.

    Those of the last call; causal layers leave none. The names are those of `net.named_modules()`.
    """
    seen: dict[str, Tensor] = {}
    layers = {name: layer for name, layer in net.named_modules() if isinstance(layer, Attention)}
    hooks = [
        layer.weights.register_forward_hook(lambda _, __, out, name=name: seen.update({name: out.detach()}))
        for name, layer in layers.items()
    ]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()
