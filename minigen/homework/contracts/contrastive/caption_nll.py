"""The exercise `contrastive.caption_nll`: negative log-likelihood of captions."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from minigen.data.vocabulary import EOS, PAD
from minigen.homework.contract import Contract, Function, Input, gradients
from minigen.homework.mistakes import (
    CUT,
    IN_BITS,
    LOG_LIKELIHOOD,
    NO_LOG,
    ONE_LARGEST,
    SOFTMAX_EPSILON,
    SOFTMAX_TWICE,
    lse_with_one_shift,
    tempered,
)
from minigen.objectives import captioning


def caption_nll(logits: Tensor, tokens: Tensor) -> Tensor:
    """Minus the log-likelihood of captions, nats/caption, a number.

    tokens: (B, T): 1, which begins a caption, its words, 2, which ends it, then 0 as padding. logits: (B, T - 1, K), of
    all tokens but the first.
    """
    return -captioning.caption_log_prob(logits, tokens).mean()


def _at(log_p: Tensor, wanted: Tensor) -> Tensor:
    """Minus the entries at the wanted tokens (B, t), without padding, summed over a caption, a mean over the batch."""
    return _each(log_p, wanted).sum(1).mean()


def _each(log_p: Tensor, wanted: Tensor) -> Tensor:
    own = -log_p.gather(2, wanted[..., None])[..., 0]
    return torch.where(wanted == PAD, torch.zeros_like(own), own)


def _counted(count: Callable[[Tensor], Tensor]) -> Function:
    """The total divided by what is counted in tokens[:, 1:]."""
    return lambda logits, tokens: caption_nll(logits, tokens) * len(tokens) / count(tokens[:, 1:])


def _by_caption(logits: Tensor, tokens: Tensor) -> Tensor:
    return -captioning.caption_log_prob(logits, tokens) / (tokens[:, 1:] != PAD).sum(1)


def _without(logits: Tensor, tokens: Tensor, token: int) -> Tensor:
    """The loss that does not count this token."""
    own = _each(logits.log_softmax(2), tokens[:, 1:])
    return own.masked_fill(tokens[:, 1:] == token, 0.0).sum(1).mean()


def _texts() -> list[Input]:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.tensor([[1, 3, 5, 4, 2], [1, 4, 2, 0, 0], [1, 5, 5, 2, 0]])
    logits = 2 * torch.randn(3, 4, 6, generator=generator)
    extreme = torch.tensor([[[0.0, 0.0, -200.0, 200.0], [200.0, 0.0, -200.0, 0.0], [0.0, 9.0, 1.0, 0.0]]])
    apart = torch.tensor([[[0.0, -1e3, -1e3, 1e3], [-2e3, -1e3, -2e3, -2e3], [-1e3, 0.0, -1e3, -1e3]]])
    small = torch.tensor([[[0.5, -1.0, 0.3], [1.0, 0.0, 2.0]]])
    return [
        Input((small, torch.tensor([[1, 2, 0]])), "one empty caption with padding"),
        Input((logits, tokens), "random captions of three lengths"),
        Input((extreme, torch.tensor([[1, 2, 2, 2]])), "logits of size 200"),
        Input((apart, torch.tensor([[1, 3, 1, 2]])), "places whose logits are 1000 apart"),
    ]


COMMON = Contract(
    caption_nll,
    _texts,
    {
        "sign": (
            lambda o, w: -caption_nll(o, w),
            LOG_LIKELIHOOD,
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
            _counted(lambda wanted: (wanted != PAD).sum()),
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
            lambda o, w: -captioning.caption_log_prob(o, w),
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
            lambda o, w: _without(o, w, EOS),
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
            IN_BITS,
        ),
        "perplexity": (
            lambda o, w: _counted(lambda wanted: (wanted != PAD).sum())(o, w).exp(),
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
            NO_LOG,
        ),
        "softmax twice": (
            lambda o, w: caption_nll(o.softmax(2), w),
            SOFTMAX_TWICE,
        ),
        "underflow": (
            lambda o, w: _at(o.softmax(2).log(), w[:, 1:]),
            "underflows: an improbable word's softmax is 0, and its log is -inf; use log_softmax",
        ),
        "one largest for all": (
            lambda o, w: _at(o - lse_with_one_shift(o, 2), w[:, 1:]),
            ONE_LARGEST.format("place"),
        ),
        "a small number in the log": (
            lambda o, w: _at((o.softmax(2) + 1e-8).log(), w[:, 1:]),
            SOFTMAX_EPSILON,
        ),
        "no gradient": (lambda o, w: caption_nll(o, w).detach(), CUT),
    },
    gradients("logits"),
)


CONTRACT = tempered(COMMON, 0)
