"""The exercise `contrastive.clip_loss`: the same both ways, with a temperature."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import normalize

from minigen.homework.contract import Contract, Function, Input, gradients
from minigen.homework.contracts.contrastive._pairs import others, over_everything
from minigen.homework.contracts.contrastive.info_nce import info_nce
from minigen.homework.mistakes import CUT, IN_BITS, LOG_PROBABILITY, ONE_LARGEST, lse_with_one_shift
from minigen.objectives import contrastive


def clip_loss(images: Tensor, captions: Tensor, logit_scale: Tensor) -> Tensor:
    """The symmetric loss of vectors (N, D) and (N, D), nats: cosines times exp(logit_scale), both directions."""
    return contrastive.symmetric_loss(contrastive.cosine_scores(images, captions, logit_scale))


def _of_scores(score: Callable[..., Tensor], loss: Function = contrastive.symmetric_loss) -> Function:
    """The loss of other scores, or another loss of the same."""
    return lambda images, captions, logit_scale: loss(score(images, captions, logit_scale))


def _dots(images: Tensor, captions: Tensor, logit_scale: Tensor) -> Tensor:
    return images @ captions.mT * logit_scale.exp()


def _half(score: Callable[[Tensor], Tensor]) -> Function:
    return _of_scores(contrastive.cosine_scores, score)


def _one_sum(scores: Tensor) -> Tensor:
    every = torch.cat([scores, others(scores).mT], dim=1)
    return (every.logsumexp(1) - scores.diagonal()).mean()


def _rows(scores: Tensor) -> Tensor:
    return (lse_with_one_shift(scores, 1)[:, 0] - scores.diagonal()).mean()


def _vectors() -> list[Input]:
    generator = torch.Generator().manual_seed(0)
    images, captions = torch.randn(2, 4, 3, generator=generator)
    small = torch.tensor([[1.0, 0.5], [-0.5, 2.0]]), torch.tensor([[0.5, -1.0], [1.5, 2.0]]), torch.tensor(0.7)
    apart = [[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]], [[1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]  # cosines of -1, 0 and 1
    lengths = torch.tensor([[1e-3], [1.0], [1e3], [30.0]])
    return [
        Input(small, "two pairs of vectors in the plane"),
        Input((images, captions, torch.tensor(1.2)), "random vectors"),
        Input((images * lengths, captions.flip(0) / lengths, torch.tensor(4.6)), "short and long vectors, scale 100"),
        Input((*torch.tensor(apart), torch.tensor(7.0)), "scores 1000 apart"),
    ]


CONTRACT = Contract(
    clip_loss,
    _vectors,
    {
        "images alone": (
            _half(info_nce),
            "asks in one direction alone, a caption for each image; average with an image for each caption",
        ),
        "captions alone": (
            _half(lambda s: info_nce(s.mT)),
            "asks in one direction alone, an image for each caption; average with a caption for each image",
        ),
        "both added": (
            lambda x, y, t: 2 * clip_loss(x, y, t),
            "adds both directions; take their mean",
        ),
        "sum over the batch": (
            lambda x, y, t: len(x) * clip_loss(x, y, t),
            "sums over the batch, so that the loss grows with it; take the mean",
        ),
        "sign": (
            lambda x, y, t: -clip_loss(x, y, t),
            LOG_PROBABILITY,
        ),
        "temperature multiplied": (
            lambda x, y, t: clip_loss(x, y, -t),
            "divides by exp(logit_scale); that is the scale, one over the temperature: multiply",
        ),
        "logit_scale as scale": (
            lambda x, y, t: clip_loss(x, y, t.log()),
            "multiplies by logit_scale itself; it is the logarithm of the scale: exp(logit_scale)",
        ),
        "logit_scale as temperature": (
            lambda x, y, t: clip_loss(x, y, -t.log()),
            "divides by logit_scale; the cosines are multiplied by exp(logit_scale)",
        ),
        "no temperature": (
            lambda x, y, t: clip_loss(x, y, 0 * t),
            "leaves out the scale; cosines alone lie in [-1, 1] and can prefer the own pair by a factor of e^2 at most",
        ),
        "scale squared": (
            lambda x, y, t: clip_loss(x, y, 2 * t),
            "multiplies both vectors by the scale, which squares it; multiply the cosines once",
        ),
        "not normalised": (
            _of_scores(_dots),
            "takes products of the vectors as they are; a cosine has both divided by their lengths",
        ),
        "images not normalised": (
            _of_scores(lambda x, y, t: _dots(x, normalize(y, dim=1), t)),
            "divides the captions by their lengths, but not the images",
        ),
        "captions not normalised": (
            _of_scores(lambda x, y, t: _dots(normalize(x, dim=1), y, t)),
            "divides the images by their lengths, but not the captions",
        ),
        "normalised over the batch": (
            _of_scores(lambda x, y, t: _dots(normalize(x, dim=0), normalize(y, dim=0), t)),
            "normalises each feature over the batch; it is each vector, dim=1, that gets length 1",
        ),
        "squared lengths": (
            _of_scores(
                lambda x, y, t: _dots(x / x.square().sum(1, keepdim=True), y / y.square().sum(1, keepdim=True), t)
            ),
            "divides by the squared lengths; the root is missing",
        ),
        "distances": (
            _of_scores(lambda x, y, t: -torch.cdist(normalize(x, dim=1), normalize(y, dim=1)) * t.exp()),
            "takes minus the distances of the unit vectors for scores; CLIP takes their cosines",
        ),
        "own pairs alone": (
            lambda x, y, t: (1 - (normalize(x, dim=1) * normalize(y, dim=1)).sum(1)).mean() + 0 * t,
            "pulls own pairs together and pushes no others apart, so that one point for all is best; take the softmax",
        ),
        "one softmax for all": (
            _half(over_everything),
            "takes one softmax over all N^2 scores; each row and each column is a choice of its own",
        ),
        "rows and columns in one sum": (
            _half(_one_sum),
            "puts other captions and other images into one sum, as SimCLR does; here each direction has its own",
        ),
        "one largest for all": (
            _half(lambda s: (_rows(s) + _rows(s.mT)) / 2),
            ONE_LARGEST.format("row and of each column"),
        ),
        "in bits": (
            lambda x, y, t: clip_loss(x, y, t) / math.log(2),
            IN_BITS,
        ),
        "scale does not learn": (
            lambda x, y, t: clip_loss(x, y, t.detach()),
            "the value is right, but no gradient reaches logit_scale; leave out .item() and .detach()",
        ),
        "no gradient": (lambda x, y, t: clip_loss(x, y, t).detach(), CUT),
    },
    gradients("images", "captions", "logit_scale"),
)
