"""The exercises of chapter 14 about finding a caption and about wording one."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from minigen.homework.contract import Contract, Function, Input, gradients
from minigen.homework.latents import CUT
from minigen.objectives import contrastive
from minigen.words import END, PADDING


def recall(scores: Tensor, k: int) -> Tensor:
    """The share of rows of scores (N, N) whose own one, on the diagonal, is among the k highest; ties go before it."""
    return _found(scores, k).float().mean()


def _found(scores: Tensor, k: int) -> Tensor:
    return (scores >= scores.diagonal()[:, None]).sum(1) <= k


def _rank(scores: Tensor) -> Tensor:
    """1 for an own score that is the highest of its row, (N,)."""
    return (scores >= scores.diagonal()[:, None]).sum(1).float()


def _searches() -> list[Input]:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(12, 12, generator=generator) + 1.2 * torch.eye(12)
    tied = torch.zeros(6, 6)
    tied[2, 2], tied[3, 1] = 1.0, -1.0
    return [
        Input((torch.tensor([[1.0, 2.0, 3.0], [2.0, 1.0, 0.0], [0.0, 1.0, 2.0]]), 2), "three pairs"),
        Input((scores, 3), "random scores, k = 3"),
        Input((-scores, 1), "random scores, k = 1"),
        Input((tied, 5), "scores that are nearly all equal"),
    ]


RECALL = Contract(
    recall,
    _searches,
    {
        "columns": (
            lambda s, k: recall(s.mT, k),
            "ranks down the columns: the images of a caption; along a row stand the captions of an image",
        ),
        "both directions": (
            lambda s, k: (recall(s, k) + recall(s.mT, k)) / 2,
            "averages both directions; papers report each for itself, and here the rows are asked for",
        ),
        "k + 1": (
            lambda s, k: recall(s, k + 1),
            "one place too generous: with k others before it, the own caption is number k + 1",
        ),
        "k - 1": (
            lambda s, k: recall(s, k - 1),
            "one place too strict: the own caption may be number k itself",
        ),
        "the best alone": (
            lambda s, k: recall(s, 1),
            "counts only what is found in the first place; among the k highest is enough",
        ),
        "ties for the own": (
            lambda s, k: ((s > s.diagonal()[:, None]).sum(1) < k).float().mean(),
            "puts the own caption before those of equal score, so that scores that are all equal would be perfect",
        ),
        "the lowest": (
            lambda s, k: recall(-s, k),
            "looks among the k lowest; a high score means a good fit",
        ),
        "misses": (
            lambda s, k: 1 - recall(s, k),
            "this is the share of those that are not found",
        ),
        "count": (
            lambda s, k: _found(s, k).float().sum(),
            "counts those that are found; divide by the number of rows",
        ),
        "one number an image": (
            lambda s, k: _found(s, k).float(),
            "gives one number for each row; take their mean",
        ),
        "percent": (
            lambda s, k: 100 * recall(s, k),
            "this is in percent; a share lies in [0, 1]",
        ),
        "precision": (
            lambda s, k: recall(s, k) / k,
            "divides by k: that is the precision, the share of the k that are right",
        ),
        "k of N": (
            lambda s, k: _found(s, k).float().sum() / k,
            "divides the count by k; divide by the number of rows",
        ),
        "mean rank": (
            lambda s, k: _rank(s).mean(),
            "this is the mean rank; the share of ranks up to k is asked for",
        ),
        "reciprocal rank": (
            lambda s, k: (1 / _rank(s)).mean(),
            "this is the mean reciprocal rank; the share of ranks up to k is asked for",
        ),
        "order for rank": (
            lambda s, k: (s.argsort(dim=1, descending=True).diagonal() < k).float().mean(),
            "argsort says which caption stands at a place, not at which place a caption stands; compare the scores",
        ),
        "the own among the own": (
            lambda s, k: (s.diagonal() >= s.diagonal().topk(k).values[-1]).float().mean(),
            "compares the own scores with each other; each is compared with the other captions of its row",
        ),
        "the first caption": (
            lambda s, k: ((s >= s[:, :1]).sum(1) <= k).float().mean(),
            "takes column 0 for the own caption; own pairs stand on the diagonal",
        ),
    },
)


def caption_nll(logits: Tensor, tokens: Tensor) -> Tensor:
    """Minus the log-likelihood of captions, nats/caption, a number.

    tokens: (B, T): 1, which begins a caption, its words, 2, which ends it, then 0 as padding. logits: (B, T - 1, K), of
    all tokens but the first.
    """
    return -contrastive.caption_log_prob(logits, tokens).mean()


def _at(log_p: Tensor, wanted: Tensor) -> Tensor:
    """Minus the entries at the wanted tokens (B, t), without padding, summed over a caption, a mean over the batch."""
    return _each(log_p, wanted).sum(1).mean()


def _each(log_p: Tensor, wanted: Tensor) -> Tensor:
    own = -log_p.gather(2, wanted[..., None])[..., 0]
    return torch.where(wanted == PADDING, torch.zeros_like(own), own)


def _counted(count: Callable[[Tensor], Tensor]) -> Function:
    """The total divided by what is counted in tokens[:, 1:]."""
    return lambda logits, tokens: caption_nll(logits, tokens) * len(tokens) / count(tokens[:, 1:])


def _by_caption(logits: Tensor, tokens: Tensor) -> Tensor:
    return -contrastive.caption_log_prob(logits, tokens) / (tokens[:, 1:] != PADDING).sum(1)


def _without(logits: Tensor, tokens: Tensor, token: int) -> Tensor:
    """The loss that does not count this token."""
    own = _each(logits.log_softmax(2), tokens[:, 1:])
    return own.masked_fill(tokens[:, 1:] == token, 0.0).sum(1).mean()


def _texts() -> list[Input]:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.tensor([[1, 3, 5, 4, 2], [1, 4, 2, 0, 0], [1, 5, 5, 2, 0]])
    logits = 2 * torch.randn(3, 4, 6, generator=generator)
    extreme = torch.tensor([[[0.0, 0.0, -200.0, 200.0], [200.0, 0.0, -200.0, 0.0], [0.0, 9.0, 1.0, 0.0]]])
    small = torch.tensor([[[0.5, -1.0, 0.3], [1.0, 0.0, 2.0]]])
    return [
        Input((small, torch.tensor([[1, 2, 0]])), "one empty caption with padding"),
        Input((logits, tokens), "random captions of three lengths"),
        Input((extreme, torch.tensor([[1, 2, 2, 2]])), "logits of size 200"),
    ]


CAPTION_NLL = Contract(
    caption_nll,
    _texts,
    {
        "sign": (
            lambda o, w: -caption_nll(o, w),
            "this is the log-likelihood, which is maximised; a loss is minimised: change the sign",
        ),
        "padding counted": (
            lambda o, w: cross_entropy(o.mT, w[:, 1:], reduction="sum") / len(w),
            "counts the padding behind a caption's end; leave out the places where the token is 0",
        ),
        "mean over all places": (
            lambda o, w: cross_entropy(o.mT, w[:, 1:]),
            "averages over all places, padding included, as cross_entropy does; sum over a caption's own tokens, then"
            " average over captions",
        ),
        "mean over the words": (
            _counted(lambda wanted: (wanted != PADDING).sum()),
            "averages over all words, so that it is nats/word; sum over a caption, then average over captions",
        ),
        "divided by all places": (
            _counted(lambda wanted: torch.tensor(wanted.numel())),
            "leaves padding out of the sum but counts it when it divides; divide by the number of captions",
        ),
        "mean over each caption": (
            lambda o, w: _by_caption(o, w).mean(),
            "averages over each caption's words, so that long captions count less; sum over them",
        ),
        "sum over everything": (
            _counted(lambda wanted: torch.tensor(1)),
            "sums over the batch too, so that the loss grows with it; divide by the number of captions",
        ),
        "one number a caption": (
            lambda o, w: -contrastive.caption_log_prob(o, w),
            "gives one number for each caption; a loss is one number: take their mean",
        ),
        "one number a word": (
            lambda o, w: _each(o.log_softmax(2), w[:, 1:]),
            "gives one number for each word; sum over a caption, then average over captions",
        ),
        "not shifted": (
            lambda o, w: _at(o.log_softmax(2), w[:, :-1]),
            "asks the logits for the token that was read; those at a place are of the next one, tokens[:, 1:]",
        ),
        "shifted twice": (
            lambda o, w: _at(o.log_softmax(2)[:, :-1], w[:, 2:]),
            "shifts twice: the logits are of tokens[:, 1:] already, and the first word is never asked for",
        ),
        "the end not counted": (
            lambda o, w: _without(o, w, END),
            "leaves out the token that ends a caption; without it no caption ever ends, and probabilities do not sum to"
            " one",
        ),
        "the first word not counted": (
            lambda o, w: _at(o.log_softmax(2)[:, 1:], w[:, 2:]),
            "leaves out the first word; it follows the token that begins a caption",
        ),
        "the last words alone": (
            lambda o, w: _at(o.log_softmax(2)[:, -1:], w[:, -1:]),
            "takes the last place alone; a caption's log-likelihood is the sum over all of its places",
        ),
        "softmax over the places": (
            lambda o, w: _at(o.log_softmax(1), w[:, 1:]),
            "takes the softmax along the caption; probabilities are over the K tokens, the last dimension",
        ),
        "softmax over the batch": (
            lambda o, w: _at(o.log_softmax(0), w[:, 1:]),
            "takes the softmax over the batch; probabilities are over the K tokens, the last dimension",
        ),
        "in bits": (
            lambda o, w: caption_nll(o, w) / math.log(2),
            "this is in bits; in nats, leave out the division by ln 2",
        ),
        "perplexity": (
            lambda o, w: _counted(lambda wanted: (wanted != PADDING).sum())(o, w).exp(),
            "this is the perplexity, exp of the nats a word; nats/caption are asked for",
        ),
        "not normalised": (
            lambda o, w: _at(o, w[:, 1:]),
            "takes the logits for log-probabilities; their exp does not sum to one: use log_softmax over the tokens",
        ),
        "probabilities": (
            lambda o, w: _at(o.log(), w[:, 1:]),
            "takes the logits for probabilities; they are any real number: use log_softmax over the tokens",
        ),
        "no log": (
            lambda o, w: _at(o.softmax(2), w[:, 1:]),
            "adds probabilities; the chain rule multiplies them, so their logs are what adds up",
        ),
        "softmax twice": (
            lambda o, w: caption_nll(o.softmax(2), w),
            "takes the softmax before a loss that takes logits and does so itself; give it the logits",
        ),
        "underflow": (
            lambda o, w: _at(o.softmax(2).log(), w[:, 1:]),
            "underflows: an improbable word's softmax is 0, and its log is -inf; use log_softmax",
        ),
        "a small number in the log": (
            lambda o, w: _at((o.softmax(2) + 1e-8).log(), w[:, 1:]),
            "the small number in the log stops the underflow but flattens the loss at log 1e-8; use log_softmax",
        ),
        "no gradient": (lambda o, w: caption_nll(o, w).detach(), CUT),
    },
    gradients("logits"),
)
