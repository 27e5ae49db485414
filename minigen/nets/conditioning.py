"""What a network over images is conditioned on beside the image: noise level, label, words (chapters 11 and 13).

A denoising network is called as `net(x_t, log_snr, *context)`: images (B, C, H, W) on the scale alpha^2 + sigma^2 = 1,
the noise level (B,) as log(alpha^2 / sigma^2) in nats, and the context that it was made for: a label, then words
(B, T, D) and, where sentences differ in length, a bool mask (B, T), True where a word is. One that was made with
`noise_level=False`, such as for translation, is called as `net(x, *context)`.

A label is a class, int64 (B,), or numbers (B, F), such as a one-hot. A label of zeros, class -1 (which is encoded as
zeros) and words of zeros say nothing: the network then does, exactly, what it does unconditionally.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from minigen.data.checks import need_entry, need_scaled
from minigen.nets.embeddings import FEATURES, sinusoidal


class Cond(NamedTuple):
    """What every block is given: embedding (B, features) of level and label; words (B, T, D) and their mask (B, T)."""

    embedding: Tensor
    context: Tensor | None
    mask: Tensor | None


class Conditioning(nn.Module):
    """Noise level and context, as a network's blocks take them.

    features: numbers that level and label become together. context_dim: features of a word; label_dim: of a label, or
    how many classes there are; None for neither. noise_level: off puts a learnt vector in the place of the level.
    """

    def __init__(
        self, features: int, *, noise_level: bool = True, context_dim: int | None = None, label_dim: int | None = None
    ) -> None:
        super().__init__()
        self.noise_level, self.context_dim, self.label_dim = noise_level, context_dim, label_dim
        if noise_level:
            self.level = nn.Sequential(nn.Linear(FEATURES, features), nn.SiLU(), nn.Linear(features, features))
        else:
            self.constant = nn.Parameter(torch.randn(features))
        self.add = nn.Linear(label_dim, features, bias=False) if label_dim else None

    def forward(self, x: Tensor, given: tuple[Tensor, ...]) -> Cond:
        """What goes with images x (B, ...): levels (B,) and context, in the order that the module's text names.

        ValueError for what the network is not for, and for what is missing.
        """
        rest = list(given)
        h = self._level(x, rest)
        if self.add is not None:
            label = rest.pop(0) if rest else x.new_empty(0)
            h = h + self.add(encode_label(label, len(x), self.label_dim or 0, x.dtype))
        words, mask = self._words(x, rest) if self.context_dim is not None else (None, None)
        if rest:
            raise ValueError(f"more than this network is for: got {len(given)} tensors, {len(rest)} too many")
        return Cond(functional.silu(h), words, mask)

    def _level(self, x: Tensor, rest: list[Tensor]) -> Tensor:
        """(B, features), by log-SNR (B,) if the network is for one."""
        if not self.noise_level:
            return self.constant.expand(len(x), -1)
        log_snr = rest.pop(0) if rest else x.new_empty(0)
        if log_snr.shape != (len(x),):
            raise ValueError(f"log_snr must be ({len(x)},), one for each image; got {tuple(log_snr.shape)}")
        level: Tensor = self.level(sinusoidal(log_snr.to(x.dtype), FEATURES))
        return level

    def _words(self, x: Tensor, rest: list[Tensor]) -> tuple[Tensor, Tensor | None]:
        """Words (B, T, D) and their mask, bool (B, T) or None."""
        words = rest.pop(0) if rest else x.new_empty(0)
        if words.ndim != 3 or (len(words), words.shape[2]) != (len(x), self.context_dim):
            raise ValueError(f"words must be ({len(x)}, T, {self.context_dim}); got {tuple(words.shape)}")
        need_scaled("words", words)
        mask = rest.pop(0) if rest else None
        if mask is not None and (mask.shape != words.shape[:2] or mask.dtype != torch.bool):
            wanted = f"({len(x)}, {words.shape[1]})"
            raise ValueError(f"mask must be bool {wanted}; got {mask.dtype} {tuple(mask.shape)}")
        return words, mask


def encode_label(label: Tensor | None, batch: int, features: int, dtype: torch.dtype, *, what: str = "label") -> Tensor:
    """A label as numbers (B, features): as it is given, or the one-hots of classes, int64 (B,), -1 giving zeros."""
    if label is not None and label.shape == (batch,) and not label.is_floating_point():
        need_entry(f"the classes of a {what}, or -1 for none,", label, features, first=-1)
        label = functional.one_hot(label + 1, features + 1)[:, 1:]
    if label is None or label.shape != (batch, features):
        got = "none" if label is None else f"{label.dtype} {tuple(label.shape)}"
        raise ValueError(f"{what} must be ({batch}, {features}), or classes, int64 ({batch},); got {got}")
    return label.to(dtype)


def encode_context(context: Tensor | None, batch: int, features: int, dtype: torch.dtype) -> Tensor | None:
    """What a network that draws pixels is conditioned on, as numbers (B, features); None where `features` is 0."""
    if features:
        return encode_label(context, batch, features, dtype, what="context")
    if context is not None:
        raise ValueError("this net takes no context; make it with context_dim=...")
    return None


def drop_context(context: Tensor, kept: Tensor) -> Tensor:
    """A context (B, ...) that says nothing where `kept`, bool (B,), is False.

    Classes, int64 (B,), become -1; labels, words and tokens become zeros, `PAD` being 0.
    """
    if context.ndim == 1 and context.dtype == torch.int64:
        return context.masked_fill(~kept, -1)
    return context * kept.view(-1, *[1] * (context.ndim - 1))
