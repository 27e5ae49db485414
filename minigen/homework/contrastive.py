"""The exercises of chapter 14 about images and captions that belong together; those about wording are in `captions`."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, normalize

from minigen.homework.captions import CAPTION_NLL, RECALL
from minigen.homework.contract import Contract, Function, Input, gradients
from minigen.homework.elbo import tempered
from minigen.homework.latents import CUT
from minigen.objectives import contrastive


def info_nce(scores: Tensor) -> Tensor:
    """Minus the log-probability of the own caption among the N of its row, averaged: nats, from scores (N, N)."""
    return contrastive.info_nce(scores).mean()


def _others(scores: Tensor) -> Tensor:
    """The scores without those of the own pairs, which become minus infinity."""
    return scores.masked_fill(torch.eye(len(scores), dtype=torch.bool), -math.inf)


def _own_left_out(scores: Tensor) -> Tensor:
    return (_others(scores).logsumexp(1) - scores.diagonal()).mean()


def _own_twice(scores: Tensor) -> Tensor:
    twice = torch.cat([scores, scores.diagonal()[:, None]], dim=1)
    return (twice.logsumexp(1) - scores.diagonal()).mean()


def _over_everything(scores: Tensor) -> Tensor:
    return -scores.flatten().log_softmax(0).view_as(scores).diagonal().mean()


def _matrices() -> list[Input]:
    generator = torch.Generator().manual_seed(0)
    return [
        Input((torch.tensor([[1.0, -0.5], [0.25, 0.5]]),), "two pairs"),
        Input((2 * torch.randn(5, 5, generator=generator),), "random scores"),
        Input((torch.tensor([[-200.0, 200.0, 0.0], [0.0, 200.0, 199.0], [1.0, 2.0, -200.0]]),), "scores of size 200"),
    ]


INFO_NCE = Contract(
    info_nce,
    _matrices,
    {
        "sign": (
            lambda s: -info_nce(s),
            "this is the log-probability, which is maximised; a loss is minimised: change the sign",
        ),
        "columns": (
            lambda s: info_nce(s.mT),
            "takes the softmax down the columns: which image belongs to a caption; along a row the question is which"
            " caption belongs to an image",
        ),
        "both directions": (
            contrastive.symmetric_loss,
            "averages both directions; here the rows alone are asked for",
        ),
        "sum": (
            lambda s: len(s) * info_nce(s),
            "sums over the images, so that the loss grows with the batch; take the mean",
        ),
        "one number an image": (
            contrastive.info_nce,
            "gives one number for each image; a loss is one number: take their mean",
        ),
        "over everything": (
            _over_everything,
            "takes one softmax over all N^2 scores; each image has a choice of its own, among the captions of its row",
        ),
        "own left out": (
            _own_left_out,
            "leaves the own pair out of the sum; the choice is among all N, the own one included",
        ),
        "own twice": (
            _own_twice,
            "has the own pair in the sum twice, once more beside the N scores of the row, which hold it already",
        ),
        "mean in the denominator": (
            lambda s: info_nce(s) - math.log(len(s)),
            "divides by the mean of the row, not by its sum: that is minus the bound; the loss has no log N in it",
        ),
        "own scores alone": (
            lambda s: -s.diagonal().mean(),
            "takes the own scores alone, which any constant makes better; subtract the log-sum-exp of the row",
        ),
        "no log": (
            lambda s: -s.softmax(1).diagonal().mean(),
            "averages probabilities; the loss is minus the mean of their logs",
        ),
        "log of the mean": (
            lambda s: -s.softmax(1).diagonal().mean().log(),
            "takes the log of the mean probability; take the mean of the logs",
        ),
        "softmax twice": (
            lambda s: info_nce(s.softmax(1)),
            "takes the softmax before a loss that takes scores and does so itself; give it the scores",
        ),
        "the first caption": (
            lambda s: -s.log_softmax(1)[:, 0].mean(),
            "takes column 0 for the own caption, as where the positive stands first; here it stands on the diagonal",
        ),
        "the next caption": (
            lambda s: info_nce(s.roll(-1, 1)),
            "takes the caption of the next pair for the own one; own pairs stand on the diagonal",
        ),
        "yes or no": (
            lambda s: binary_cross_entropy_with_logits(s, torch.eye(len(s))),
            "asks of each pair alone whether it belongs together; here one of N captions is picked: a softmax",
        ),
        "in bits": (
            lambda s: info_nce(s) / math.log(2),
            "this is in bits; in nats, leave out the division by ln 2",
        ),
        "underflow": (
            lambda s: -s.softmax(1).diagonal().log().mean(),
            "underflows: the softmax of an own caption far behind is 0, and its log -inf; use log_softmax",
        ),
        "overflow": (
            lambda s: -(s.exp().diagonal() / s.exp().sum(1)).log().mean(),
            "overflows: exp(200) is infinite, and infinite by infinite is nan; use log_softmax",
        ),
        "a small number in the log": (
            lambda s: -(s.softmax(1).diagonal() + 1e-8).log().mean(),
            "the small number in the log stops the underflow but flattens the loss at log 1e-8; use log_softmax",
        ),
        "no gradient": (lambda s: info_nce(s).detach(), CUT),
    },
    gradients("scores"),
)


def clip_loss(images: Tensor, captions: Tensor, log_scale: Tensor) -> Tensor:
    """The symmetric loss of vectors (N, D) and (N, D), nats: cosines times exp(log_scale), both directions averaged."""
    return contrastive.symmetric_loss(contrastive.cosine_scores(images, captions, log_scale))


def _of_scores(score: Callable[..., Tensor], loss: Function = contrastive.symmetric_loss) -> Function:
    """The loss of other scores, or another loss of the same."""
    return lambda images, captions, log_scale: loss(score(images, captions, log_scale))


def _dots(images: Tensor, captions: Tensor, log_scale: Tensor) -> Tensor:
    return images @ captions.mT * log_scale.exp()


def _half(score: Callable[[Tensor], Tensor]) -> Function:
    return _of_scores(contrastive.cosine_scores, score)


def _one_sum(scores: Tensor) -> Tensor:
    every = torch.cat([scores, _others(scores).mT], dim=1)
    return (every.logsumexp(1) - scores.diagonal()).mean()


def _vectors() -> list[Input]:
    generator = torch.Generator().manual_seed(0)
    images, captions = torch.randn(2, 4, 3, generator=generator)
    small = torch.tensor([[1.0, 0.5], [-0.5, 2.0]]), torch.tensor([[0.5, -1.0], [1.5, 2.0]]), torch.tensor(0.7)
    lengths = torch.tensor([[1e-3], [1.0], [1e3], [30.0]])
    return [
        Input(small, "two pairs of vectors in the plane"),
        Input((images, captions, torch.tensor(1.2)), "random vectors"),
        Input((images * lengths, captions.flip(0) / lengths, torch.tensor(4.6)), "short and long vectors, scale 100"),
    ]


CLIP_LOSS = Contract(
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
            "this is the log-probability, which is maximised; a loss is minimised: change the sign",
        ),
        "temperature multiplied": (
            lambda x, y, t: clip_loss(x, y, -t),
            "divides by exp(log_scale); that is the scale, one over the temperature: multiply",
        ),
        "log_scale as scale": (
            lambda x, y, t: clip_loss(x, y, t.log()),
            "multiplies by log_scale itself; it is the logarithm of the scale: exp(log_scale)",
        ),
        "log_scale as temperature": (
            lambda x, y, t: clip_loss(x, y, -t.log()),
            "divides by log_scale; the cosines are multiplied by exp(log_scale)",
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
            _half(_over_everything),
            "takes one softmax over all N^2 scores; each row and each column is a choice of its own",
        ),
        "rows and columns in one sum": (
            _half(_one_sum),
            "puts other captions and other images into one sum, as SimCLR does; here each direction has its own",
        ),
        "in bits": (
            lambda x, y, t: clip_loss(x, y, t) / math.log(2),
            "this is in bits; in nats, leave out the division by ln 2",
        ),
        "scale does not learn": (
            lambda x, y, t: clip_loss(x, y, t.detach()),
            "the value is right, but no gradient reaches log_scale; leave out .item() and .detach()",
        ),
        "no gradient": (lambda x, y, t: clip_loss(x, y, t).detach(), CUT),
    },
    gradients("images", "captions", "log_scale"),
)


def information_bound(scores: Tensor) -> Tensor:
    """The lower bound of the mutual information by scores (N, N), own pairs on the diagonal: nats, a number."""
    return contrastive.information_bound(scores).mean()


def _donsker_varadhan(scores: Tensor) -> Tensor:
    pairs = len(scores) * (len(scores) - 1)
    return scores.diagonal().mean() - _others(scores).flatten().logsumexp(0) + math.log(pairs)


INFORMATION_BOUND = Contract(
    information_bound,
    _matrices,
    {
        "log N forgotten": (
            lambda s: -info_nce(s),
            "leaves out log N; without it the bound is never above 0, which is no news",
        ),
        "log N subtracted": (
            lambda s: -info_nce(s) - math.log(len(s)),
            "subtracts log N; it is added: log N minus the loss",
        ),
        "loss added": (
            lambda s: math.log(len(s)) + info_nce(s),
            "adds the loss, so that a bad critic would give a large bound; subtract it from log N",
        ),
        "sign": (
            lambda s: -information_bound(s),
            "this is minus the bound; it is log N minus the loss",
        ),
        "log(N - 1)": (
            lambda s: math.log(len(s) - 1) - info_nce(s),
            "takes log of the N - 1 others; the own one is among the N of the softmax: log N",
        ),
        "log N in bits": (
            lambda s: math.log2(len(s)) - info_nce(s),
            "takes log N in bits and the loss in nats; take both in nats",
        ),
        "in bits": (
            lambda s: information_bound(s) / math.log(2),
            "this is in bits; in nats, leave out the division by ln 2",
        ),
        "N^2": (
            lambda s: 2 * math.log(len(s)) - info_nce(s),
            "takes the log of all N^2 pairs; the choice is among the N of a row",
        ),
        "N divided": (
            lambda s: math.log(len(s)) - info_nce(s) / len(s),
            "divides a mean over rows by N once more",
        ),
        "sum": (
            lambda s: math.log(len(s)) - len(s) * info_nce(s),
            "sums the loss over the rows; take its mean",
        ),
        "one number an image": (
            contrastive.information_bound,
            "gives one number for each row; the bound is their mean",
        ),
        "columns": (
            lambda s: information_bound(s.mT),
            "takes the softmax down the columns; that is a bound too, but the rows are asked for",
        ),
        "both directions": (
            lambda s: math.log(len(s)) - contrastive.symmetric_loss(s),
            "averages both directions; that is a bound too, but the rows are asked for",
        ),
        "cut at 0": (
            lambda s: information_bound(s).clamp(min=0),
            "cuts the bound off at 0; a bad critic's is negative, and should say so",
        ),
        "own scores": (
            lambda s: s.diagonal().mean(),
            "the mean of the own scores is the information if they are the exact log ratio; of others it is nothing",
        ),
        "own left out": (
            lambda s: math.log(len(s) - 1) - _own_left_out(s),
            "leaves the own score out of the row's mean, and is then no lower bound: it can exceed log N and the truth",
        ),
        "own twice": (
            lambda s: math.log(len(s)) - _own_twice(s),
            "has the own score in the sum twice, once more beside the N of the row",
        ),
        "one mean for all rows": (
            _donsker_varadhan,
            "takes one mean over all other pairs, the bound of Donsker and Varadhan; here each row has its own mean",
        ),
        "no log": (
            lambda s: len(s) * s.softmax(1).diagonal().mean(),
            "the mean ratio, not the mean of its log",
        ),
        "log of the mean": (
            lambda s: math.log(len(s)) + s.softmax(1).diagonal().mean().log(),
            "takes the log of the mean probability, which is larger by Jensen; take the mean of the logs",
        ),
        "underflow": (
            lambda s: math.log(len(s)) + s.softmax(1).diagonal().log().mean(),
            "underflows: the softmax of an own caption far behind is 0, and its log -inf; use log_softmax",
        ),
        "no gradient": (lambda s: information_bound(s).detach(), CUT),
    },
    gradients("scores"),
)

CONTRACTS = {
    "info_nce": tempered(INFO_NCE, 0),
    "clip_loss": CLIP_LOSS,
    "information_bound": INFORMATION_BOUND,
    "recall": RECALL,
    "caption_nll": tempered(CAPTION_NLL, 0),
}
