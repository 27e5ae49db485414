"""Captions for images, word by word, and the probabilities of given ones (chapter 14)."""

from __future__ import annotations

import torch
from torch import Tensor

from minigen.data.checks import need_float, need_shape
from minigen.data.vocabulary import BOS, EOS, PAD
from minigen.nets.text import Captioner
from minigen.objectives.captioning import caption_log_prob
from minigen.samplers.autoregressive import draw


@torch.no_grad()
def generate(model: Captioner, x: Tensor, uniform: Tensor, *, temperature: float = 1.0) -> Tensor:
    """A caption for each image (n, C, H, W), word by word: tokens (n, T), T the model's length, int64.

    uniform: (n, T - 1) in [0, 1), what decides each word. temperature: as in `samplers.autoregressive.draw`; 0 takes
    the most probable next word each time, which need not end in the most probable caption. Captions are short, so
    earlier words are computed anew for each.
    """
    need_float("images", x)
    need_shape("uniform", uniform, len(x), model.length - 1)
    seen, tokens = model.see(x), torch.full((len(x), model.length), PAD, device=x.device)
    tokens[:, 0], ended = BOS, torch.zeros(len(x), dtype=torch.bool, device=x.device)
    for place in range(1, model.length):
        logits = model.next_words(tokens[:, :place], seen)[:, -1]
        word = draw(logits, uniform[:, place - 1], temperature=temperature)
        tokens[:, place] = word.masked_fill(ended, PAD)
        ended |= word == EOS
    return tokens


@torch.no_grad()
def score_captions(model: Captioner, x: Tensor, tokens: Tensor) -> Tensor:
    """log p(caption | image) of every image (n, C, H, W) with every caption (C, T), nats, (n, C)."""
    need_float("images", x)
    need_shape("tokens", tokens, "C", "T")
    seen, rows = model.see(x), []
    for one in seen:
        logits = model.next_words(tokens[:, :-1], one.expand(len(tokens), -1, -1))
        rows.append(caption_log_prob(logits, tokens))
    return torch.stack(rows)
