"""From pictures to words (chapter 14): telling which caption belongs to which image, and wording it.

Scores are (N, N): those of image i with caption j in row i, own pairs on the diagonal. Logarithms are natural: nats.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from minigen.data.checks import need_count, need_float, need_number, need_shape
from minigen.train.distributed import gather
from minigen.train.loop import Objective
from minigen.train.rng import Rng
from minigen.worlds.precision import widen

MAX_SCALE = 100.0  # 1 / temperature at most: Radford et al. 2021, section 2.5


def info_nce(scores: Tensor) -> Tensor:
    """Minus the log-probability of picking the own one among all N of a row, nats, (N, N) to (N,).

    van den Oord et al. 2018, eq. 4, with scores for log f. In expectation over rows whose N - 1 others are drawn
    independently of the row, log N minus this is a lower bound on the mutual information, at most log N.

    >>> info_nce(torch.zeros(3, 3))  # nothing is known: log 3
    tensor([1.0986, 1.0986, 1.0986])
    """
    _need_scores(scores)
    return -widen(scores).log_softmax(1).diagonal()


def _need_scores(scores: Tensor) -> None:
    need_float("scores", scores, todo="they are cosines over a temperature, or logarithms of a critic")
    if scores.ndim != 2 or len(scores) != scores.shape[1] or not len(scores):
        raise ValueError(f"scores must be (N, N), own pairs on the diagonal; got {tuple(scores.shape)}")


def information_bound(scores: Tensor) -> Tensor:
    """log N - `info_nce`, nats, (N, N) to (N,): in expectation at most the mutual information.

    Poole et al. 2019, eq. 10, where N is their K.
    """
    _need_scores(scores)
    return math.log(len(scores)) - info_nce(scores)


def symmetric_loss(scores: Tensor) -> Tensor:
    """The mean of both directions, which caption is this image's and which image is this caption's: nats, a number.

    Radford et al. 2021, figure 3.
    """
    return (info_nce(scores).mean() + info_nce(scores.mT).mean()) / 2


def cosine_scores(images: Tensor, captions: Tensor, logit_scale: Tensor | float) -> Tensor:
    """Cosines of vectors (N, D) and (M, D), divided by the temperature exp(-logit_scale): (N, M)."""
    need_shape("images' vectors", images, "N", "D")
    need_shape("captions' vectors", captions, "M", images.shape[1])
    images, captions = widen(images), widen(captions)
    cosines = normalize(images, dim=1) @ normalize(captions, dim=1).mT
    return cosines * torch.as_tensor(logit_scale, dtype=cosines.dtype, device=cosines.device).exp()


def recall_at_k(scores: Tensor, k: int = 1) -> Tensor:
    """Whether the own caption is among the k highest scores of its row, (N, N) to (N,); ties count as a fair draw.

    So captions that stand in the batch twice, and scores that are all equal, are worth what a draw among them is: of t
    equal scores below b better ones, each is among the first k with probability (k - b) / t, within 0 and 1. NaN is a
    ValueError.
    """
    _need_scores(scores)
    if not 1 <= k <= len(scores):
        raise ValueError(f"k must be in 1..{len(scores)}, the captions that there are; got {k}")
    if scores.isnan().any():
        raise ValueError(
            "scores must be numbers; got NaN, to which nothing is higher or lower: look for the step that diverged"
        )
    own = scores.diagonal()[:, None]
    better, tied = (scores > own).sum(1), (scores == own).sum(1)
    return ((k - better) / tied).clamp(0, 1).to(scores.dtype)


class DualEncoder(nn.Module):
    """An image and a caption as vectors of one space, whose cosine says how well they fit. Radford et al. 2021.

    images, captions: encoders with a `width`, whose result has `pooled` (B, width). size: of the common space.
    temperature: at first; 1 / temperature is learnt as exp(logit_scale).
    """

    def __init__(self, images: nn.Module, captions: nn.Module, *, size: int = 32, temperature: float = 0.07) -> None:
        super().__init__()
        need_number("temperature", temperature, low=1 / MAX_SCALE)
        need_count("size", size)
        widths: Any = images.width, captions.width
        self.images, self.captions = images, captions
        self.from_images, self.from_captions = (nn.Linear(width, size, bias=False) for width in widths)
        self.logit_scale = nn.Parameter(torch.tensor(-math.log(temperature)))

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
        return cosine_scores(self.embed_images(x), self.embed_captions(tokens), self.logit_scale)


class Contrastive(Objective):
    """The symmetric loss of a batch of pairs: images (N, C, H, W), and the tokens of their captions (N, T).

    Under several processes the vectors of all ranks are gathered, so that N counts the whole batch and the result is
    that of one process up to rounding.

    Logs: "bound", log N minus the loss, nats; "temperature".
    """

    def __init__(self, model: DualEncoder) -> None:
        super().__init__()
        self.model = model

    def turns(self, batch: tuple[Tensor, Tensor], rng: Rng) -> Iterator[tuple[str, Tensor, dict[str, Tensor]]]:
        x, tokens = batch
        images, captions = gather(self.model.embed_images(x)), gather(self.model.embed_captions(tokens))
        scores = cosine_scores(images, captions, self.model.logit_scale)
        loss = symmetric_loss(scores)
        yield "model", loss, {"bound": math.log(len(scores)) - loss, "temperature": (-self.model.logit_scale).exp()}
        with torch.no_grad():
            self.model.logit_scale.clamp_(max=math.log(MAX_SCALE))
