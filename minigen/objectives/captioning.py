"""Captions of images, word by word (chapter 14): maximum likelihood of every next word. Nats."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from minigen.data.checks import need_float, need_index
from minigen.data.vocabulary import PAD
from minigen.nets.text import Captioner
from minigen.train.loop import Objective
from minigen.train.rng import Rng
from minigen.worlds.precision import widen


def caption_log_prob(logits: Tensor, tokens: Tensor) -> Tensor:
    """log p(caption), nats, (B,), from the logits (B, T - 1, K) of all tokens but the first of `tokens` (B, T).

    The sum over words and the end; padding is no part of a caption.
    """
    if logits.ndim != 3 or logits.shape[:2] != (len(tokens), tokens.shape[1] - 1):
        shapes = f"{tuple(logits.shape)} and {tuple(tokens.shape)}"
        raise ValueError(f"logits must be (B, T - 1, K) for tokens (B, T); got {shapes}")
    need_float("logits", logits, todo="they are what a network puts out")
    need_index("tokens", tokens, logits.shape[2])
    wanted = tokens[:, 1:]
    own = widen(logits).log_softmax(2).gather(2, wanted[..., None])[..., 0]  # (B, T - 1)
    return own.masked_fill(wanted == PAD, 0.0).sum(1)


class Captioning(Objective):
    """Minus the log-likelihood of captions given their images, nats/caption: the cross-entropy of every next word.

    Its floor is H(caption | image). Batches are images (B, C, H, W) and what is said of them, captions (B, T).
    """

    def __init__(self, model: Captioner) -> None:
        super().__init__()
        self.model = model

    def log_prob(self, tokens: Tensor, x: Tensor) -> Tensor:
        """log p(caption | image), nats, (B,)."""
        return caption_log_prob(self.model(tokens, x), tokens)

    def turns(self, batch: tuple[Tensor, Tensor], rng: Rng) -> Iterator[tuple[str, Tensor, dict[str, Tensor]]]:
        x, tokens = batch
        yield "model", -self.log_prob(tokens, x).mean(), {}
