"""From pictures to words (chapter 14): telling which caption belongs to which image, and wording it.

Scores are (N, N): those of image i with caption j in row i, own pairs on the diagonal. Logarithms are natural: nats.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.functional import normalize

from minigen.nets.text import Captioner
from minigen.samplers.autoregressive import draw
from minigen.streams import Noise
from minigen.words import BEGIN, END, PADDING

SHARPEST = 100.0  # 1 / temperature at most: Radford et al. 2021, section 2.5


def info_nce(scores: Tensor) -> Tensor:
    """Minus the log-probability of picking the own one among all N of a row, nats, (N, N) to (N,).

    van den Oord et al. 2018, eq. 4, with scores for log f. In expectation over rows whose N - 1 others are drawn
    independently of the row, log N minus this is a lower bound on the mutual information, at most log N.
    """
    if scores.ndim != 2 or len(scores) != scores.shape[1]:
        raise ValueError(f"scores must be (N, N), own pairs on the diagonal; got {tuple(scores.shape)}")
    return -scores.log_softmax(1).diagonal()


def information_bound(scores: Tensor) -> Tensor:
    """log N - `info_nce`, nats, (N, N) to (N,): in expectation at most the mutual information.

    Poole et al. 2019, eq. 10, where N is their K.
    """
    return math.log(len(scores)) - info_nce(scores)


def symmetric_loss(scores: Tensor) -> Tensor:
    """The mean of both directions, which caption is this image's and which image is this caption's: nats, a number.

    Radford et al. 2021, figure 3.
    """
    return (info_nce(scores).mean() + info_nce(scores.mT).mean()) / 2


def cosine_scores(images: Tensor, captions: Tensor, log_scale: Tensor | float) -> Tensor:
    """Cosines of vectors (N, D) and (M, D), divided by the temperature exp(-log_scale): (N, M)."""
    cosines = normalize(images, dim=1) @ normalize(captions, dim=1).mT
    return cosines * torch.as_tensor(log_scale, dtype=cosines.dtype, device=cosines.device).exp()


def retrieval(scores: Tensor) -> Tensor:
    """Whether the own caption has the highest score of its row, (N, N) to (N,); k that share the top count 1/k each.

    So captions that stand in the batch twice, and scores that are all equal, are worth what a fair draw among them is.
    """
    best = scores == scores.max(1, keepdim=True).values  # (N, N)
    return best.diagonal().to(scores.dtype) / best.sum(1)


def caption_log_prob(logits: Tensor, tokens: Tensor) -> Tensor:
    """log p(caption), nats, (B,), from the logits (B, T - 1, K) of all tokens but the first of `tokens` (B, T).

    The sum over words and the end; padding is no part of a caption.
    """
    if logits.ndim != 3 or logits.shape[:2] != (len(tokens), tokens.shape[1] - 1):
        shapes = f"{tuple(logits.shape)} and {tuple(tokens.shape)}"
        raise ValueError(f"logits must be (B, T - 1, K) for tokens (B, T); got {shapes}")
    wanted = tokens[:, 1:]
    own = logits.log_softmax(2).gather(2, wanted[..., None])[..., 0]  # (B, T - 1)
    return own.masked_fill(wanted == PADDING, 0.0).sum(1)


class TwoTowers(nn.Module):
    """An image and a caption as vectors of one space, whose cosine says how well they fit. Radford et al. 2021.

    images, captions: encoders with a `width`, whose result has `pooled` (B, width). size: of the common space.
    temperature: at first; 1 / temperature is learnt as exp(log_scale).
    """

    def __init__(self, images: nn.Module, captions: nn.Module, *, size: int = 32, temperature: float = 0.07) -> None:
        super().__init__()
        if not temperature >= 1 / SHARPEST:
            raise ValueError(f"temperature must be at least {1 / SHARPEST}; got {temperature}")
        widths: Any = images.width, captions.width
        self.images, self.captions = images, captions
        self.from_images, self.from_captions = (nn.Linear(width, size, bias=False) for width in widths)
        self.log_scale = nn.Parameter(torch.tensor(-math.log(temperature)))

    def compile(self, *args: Any, **options: Any) -> None:
        """Compile both encoders in place: they are what is called, the model itself never is."""
        for part in (self.images, self.captions):
            part.compile(*args, **options)

    def embed_images(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) to unit vectors (B, size)."""
        return normalize(self.from_images(self.images(x).pooled), dim=1)

    def embed_captions(self, tokens: Tensor) -> Tensor:
        """Tokens (B, T) to unit vectors (B, size)."""
        return normalize(self.from_captions(self.captions(tokens).pooled), dim=1)

    def scores(self, x: Tensor, tokens: Tensor) -> Tensor:
        """Scores of images (N, C, H, W) with captions (M, T): (N, M)."""
        return cosine_scores(self.embed_images(x), self.embed_captions(tokens), self.log_scale)


class Contrastive(nn.Module):
    """The symmetric loss of a batch of pairs: tokens of captions (N, T), and their images (N, C, H, W).

    Under several processes the vectors of all ranks are gathered, so that N counts the whole batch and the result is
    that of one process up to rounding.

    Logs: "bound", log N minus the loss, nats; "temperature".
    """

    def __init__(self, model: TwoTowers) -> None:
        super().__init__()
        self.model = model

    def turns(self, batch: tuple[Tensor, Tensor], noise: Noise) -> Iterator[tuple[str, Tensor, dict[str, Tensor]]]:
        tokens, x = batch
        images, captions = gather(self.model.embed_images(x)), gather(self.model.embed_captions(tokens))
        scores = cosine_scores(images, captions, self.model.log_scale)
        loss = symmetric_loss(scores)
        yield "model", loss, {"bound": math.log(len(scores)) - loss, "temperature": (-self.model.log_scale).exp()}
        with torch.no_grad():
            self.model.log_scale.clamp_(max=math.log(SHARPEST))


class _Gather(torch.autograd.Function):
    """The rows of all ranks, each with its gradient times the number of ranks.

    Every rank computes the whole loss and keeps the gradient of its own rows; the mean over ranks, which the loop takes
    of all gradients, then divides by their number.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Tensor:
        ranks = dist.get_world_size()
        return slopes[0].chunk(ranks)[dist.get_rank()] * ranks


def gather(rows: Tensor) -> Tensor:
    """The rows (n, D) of all processes, (N, D), in the order of their ranks; as they are where there is one process."""
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return rows
    gathered: Tensor = _Gather.apply(rows)  # type: ignore[no-untyped-call]
    return gathered


class Captioning(nn.Module):
    """Minus the log-likelihood of captions given their images, nats/caption: the cross-entropy of every next word.

    Its floor is H(caption | image). Batches are captions (B, T) and what they are about, images (B, C, H, W).
    """

    def __init__(self, model: Captioner) -> None:
        super().__init__()
        self.model = model

    def log_prob(self, tokens: Tensor, x: Tensor) -> Tensor:
        """log p(caption | image), nats, (B,)."""
        return caption_log_prob(self.model(tokens, x), tokens)

    def turns(self, batch: tuple[Tensor, Tensor], noise: Noise) -> Iterator[tuple[str, Tensor, dict[str, Tensor]]]:
        tokens, x = batch
        yield "model", -self.log_prob(tokens, x).mean(), {}


@torch.no_grad()
def write(model: Captioner, x: Tensor, uniform: Tensor, *, temperature: float = 1.0) -> Tensor:
    """A caption for each image (n, C, H, W), word by word: tokens (n, T), T the model's length, int64.

    uniform: (n, T - 1) in [0, 1), what decides each word. temperature: as in `samplers.autoregressive.draw`; 0 takes
    the most probable next word each time, which need not end in the most probable caption. Captions are short, so
    earlier words are computed anew for each.
    """
    seen, tokens = model.see(x), torch.full((len(x), model.length), PADDING, device=x.device)
    tokens[:, 0], ended = BEGIN, torch.zeros(len(x), dtype=torch.bool, device=x.device)
    for place in range(1, model.length):
        logits = model.next_words(tokens[:, :place], seen)[:, -1]
        word = draw(logits, uniform[:, place - 1], temperature=temperature)
        tokens[:, place] = word.masked_fill(ended, PADDING)
        ended |= word == END
    return tokens


@torch.no_grad()
def score_captions(model: Captioner, x: Tensor, tokens: Tensor) -> Tensor:
    """log p(caption | image) of every image (n, C, H, W) with every caption (C, T), nats, (n, C)."""
    seen, rows = model.see(x), []
    for one in seen:
        logits = model.next_words(tokens[:, :-1], one.expand(len(tokens), -1, -1))
        rows.append(caption_log_prob(logits, tokens))
    return torch.stack(rows)
