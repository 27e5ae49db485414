"""Attention over tokens, and what a denoising network is told besides the image (chapters 11 and 13).

Tokens are (B, T, D). A denoising network is called as `net(x_t, log_snr, *context)`: images (B, C, H, W) on the scale
signal^2 + noise^2 = 1, the noise level (B,) as log(signal^2 / noise^2) in nats, and the context that it was made for:
a label (B, F), then words (B, T, D) and, where sentences differ in length, a bool mask (B, T), True where a word is.
A label or words of zeros say nothing: the network then does, exactly, what it does without.

Sources: Vaswani et al. 2017, section 3 (attention, sinusoids); Peebles and Xie 2023, section 3.2 (adaptive norm).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

SLOWEST, FASTEST = 1 / 20, 4.0  # radians per nat
FEATURES = 64  # of the noise level, before the layers that are learnt


def embedding(log_snr: Tensor, width: int) -> Tensor:
    """Sines and cosines of log-SNR (B,), in nats: (B, width).

    Frequencies rise geometrically from 1/20 radian per nat, whose sine is monotone over -20..20 and so tells all levels
    apart, to 4, whose period of 1.6 nats is shorter than that in which the best denoiser changes.
    """
    if width % 2:
        raise ValueError(f"width must be even, for sines and cosines; got {width}")
    steps = torch.linspace(0, 1, width // 2, dtype=log_snr.dtype, device=log_snr.device)
    angles = log_snr[:, None] * (SLOWEST * (FASTEST / SLOWEST) ** steps)  # (B, width / 2)
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def grid(height: int, width: int, features: int) -> Tensor:
    """Sines and cosines of row and column, (height width, features) in raster order; features a multiple of 4.

    Frequencies rise geometrically from half a turn over the longer side, which tells all places apart, to half a turn
    from one place to the next.
    """
    if features % 4:
        raise ValueError(f"features must be a multiple of 4, for sines and cosines of row and column; got {features}")
    frequency = math.pi / max(height, width) * max(height, width, 2) ** torch.linspace(0, 1, features // 4)
    rows, columns = (torch.arange(side)[:, None] * frequency for side in (height, width))  # (side, features / 4)
    of_row, of_column = (torch.cat([angles.sin(), angles.cos()], dim=1) for angles in (rows, columns))
    both = [of_row[:, None].expand(-1, width, -1), of_column.expand(height, -1, -1)]
    return torch.cat(both, dim=2).flatten(0, 1)


def modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Adaptive layer norm of tokens (B, T, D): normalised, times 1 + scale, plus shift, both (B, 1, D).

    Peebles and Xie 2023, section 3.2.
    """
    return functional.layer_norm(x, x.shape[-1:]) * (1 + scale) + shift


class Weights(nn.Module):
    """Softmax over keys of scores (B, heads, T, S), 0 where the mask (B, S) is False; `watch` looks at its results."""

    def forward(self, scores: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, heads, T, S); rows sum to 1, or to 0 where every key is masked."""
        if mask is None:
            return scores.softmax(-1)
        there = mask[:, None, None]  # (B, 1, 1, S)
        return scores.masked_fill(~there, torch.finfo(scores.dtype).min).softmax(-1) * there


class Attention(nn.Module):
    """softmax(q k' / sqrt(d)) v over heads of size d: of tokens to each other, or to those of a context.

    width: features of the tokens, a multiple of heads. context: features of the tokens that are attended to; None for
    attention of the tokens to themselves. Without biases, so that values of 0 give 0.
    Source: Vaswani et al. 2017, eq. 1 and section 3.2.2.
    """

    def __init__(self, width: int, heads: int, *, context: int | None = None) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width must be a multiple of heads; got {width} and {heads}")
        self.heads, self.context = heads, context
        self.query = nn.Linear(width, width, bias=False)
        self.key_value = nn.Linear(context or width, 2 * width, bias=False)
        self.weights, self.out = Weights(), nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, words: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """(B, T, width) to the same; words (B, S, context), mask (B, S), True where there is something to attend to."""
        if (words is None) != (self.context is None):
            raise ValueError("words (B, S, context) are for a layer made with context=..., and it needs them")
        key, value = self.key_value(x if words is None else words).chunk(2, dim=-1)
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (self.query(x), key, value))
        scores = (q * q.shape[-1] ** -0.5) @ k.mT  # (B, heads, T, S)
        attended: Tensor = self.out((self.weights(scores, mask) @ v).transpose(1, 2).flatten(2))
        return attended


@contextmanager
def watch(net: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Inside, every call of the network leaves its attention weights here, (B, heads, T, S) by the layer's name.

    Those of the last call. The names are those of `net.named_modules()`.
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


class Told(NamedTuple):
    """What every block is told: (B, features) of level and label; words (B, T, D) and their mask (B, T)."""

    features: Tensor
    words: Tensor | None
    mask: Tensor | None


class Conditions(nn.Module):
    """Noise level and context, as a network's blocks take them.

    features: numbers that level and label become together. context: features of a word, label: of a label; None for
    neither.
    """

    def __init__(self, features: int, *, context: int | None = None, label: int | None = None) -> None:
        super().__init__()
        self.context, self.label = context, label
        self.level = nn.Sequential(nn.Linear(FEATURES, features), nn.SiLU(), nn.Linear(features, features))
        self.add = nn.Linear(label, features, bias=False) if label else None

    def forward(self, x: Tensor, log_snr: Tensor, context: tuple[Tensor, ...]) -> Told:
        """What is told about images x (B, ...) at levels (B,); ValueError for a context that the network is not for."""
        batch, given = len(x), list(context)
        if log_snr.shape != (batch,):
            raise ValueError(f"log_snr must be ({batch},), one for each image; got {tuple(log_snr.shape)}")
        h = self.level(embedding(log_snr.to(x.dtype), FEATURES))
        if self.add is not None:
            label = given.pop(0) if given else x.new_empty(0)
            if label.shape != (batch, self.label):
                raise ValueError(f"label must be ({batch}, {self.label}); got {tuple(label.shape)}")
            h = h + self.add(label)
        words = mask = None
        if self.context is not None:
            words = given.pop(0) if given else x.new_empty(0)
            if words.ndim != 3 or (len(words), words.shape[2]) != (batch, self.context):
                raise ValueError(f"words must be ({batch}, T, {self.context}); got {tuple(words.shape)}")
            mask = given.pop(0) if given else None
            if mask is not None and (mask.shape != words.shape[:2] or mask.dtype != torch.bool):
                wanted = f"({batch}, {words.shape[1]})"
                raise ValueError(f"mask must be bool {wanted}; got {mask.dtype} {tuple(mask.shape)}")
        if given:
            raise ValueError(f"more context than this network is for: {len(context)} tensors, {len(given)} too many")
        return Told(functional.silu(h), words, mask)
