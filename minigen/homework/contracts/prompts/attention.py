"""The exercise `prompts.attention`: scaled dot-product attention."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import normalize, one_hot

from minigen.homework.contract import Contract, Function, Input, gradients
from minigen.homework.contracts.prompts._tables import attended, not_ahead, scaled_scores, tables
from minigen.homework.mistakes import CUT


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k' / sqrt(d)) v, (T, e): what places with queries (T, d) take of words, keys (S, d), values (S, e)."""
    return attended(q, k, v, None)


def _weighing(weigh: Callable[[Tensor], Tensor]) -> Function:
    """Attention with weights that are made of the scaled scores in another way."""
    return lambda q, k, v: weigh(scaled_scores(q, k)) @ v


def _softmax_of(scores: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Function:
    """Attention with other scores, made of q, k and v."""
    return lambda q, k, v: scores(q, k, v).softmax(1) @ v


def _by_exp(scores: Tensor) -> Tensor:
    """Softmax with nothing subtracted."""
    return scores.exp() / scores.exp().sum(1, keepdim=True)


def _hard(scores: Tensor) -> Tensor:
    return one_hot(scores.argmax(1), scores.shape[1]).to(scores.dtype)


CONTRACT = Contract(
    attention,
    lambda: [Input(arguments, text) for arguments, text in tables()],
    {
        "not scaled": (
            _softmax_of(lambda q, k, v: q @ k.mT),
            "leaves out the scale, so that scores grow with d and one word takes all; divide them by sqrt(d)",
        ),
        "divided by d": (
            _softmax_of(lambda q, k, v: q @ k.mT / q.shape[1]),
            "divides by d; the sum of d products has a deviation of sqrt(d): divide by that",
        ),
        "multiplied": (
            _softmax_of(lambda q, k, v: q @ k.mT * math.sqrt(q.shape[1])),
            "multiplies by sqrt(d), which makes large scores larger; divide",
        ),
        "the number of words": (
            _softmax_of(lambda q, k, v: q @ k.mT / math.sqrt(len(k))),
            "divides by the root of the number of words; take d, the features of a query",
        ),
        "the features of a value": (
            _softmax_of(lambda q, k, v: q @ k.mT / math.sqrt(v.shape[1])),
            "divides by the root of e, the features of a value; the products sum over d, those of a query",
        ),
        "scaled afterwards": (
            lambda q, k, v: (q @ k.mT).softmax(1) @ v / math.sqrt(q.shape[1]),
            "divides by sqrt(d) after the softmax, whose weights then sum to less than 1; divide the scores",
        ),
        "over the places": (
            _weighing(lambda s: s.softmax(0)),
            "takes the softmax over the places, so that each word spends 1; each place does: over words, dim=1",
        ),
        "over everything": (
            _weighing(lambda s: s.flatten().softmax(0).view_as(s)),
            "takes one softmax for the whole table; each place has weights of its own that sum to 1",
        ),
        "sign": (
            _weighing(lambda s: (-s).softmax(1)),
            "gives the words that fit least the most weight; a high score is a good fit: leave out the minus",
        ),
        "exp alone": (
            _weighing(torch.exp),
            "does not divide by the sum of the row; weights are positive and sum to 1: a softmax",
        ),
        "the scores": (
            _weighing(lambda s: s),
            "takes the scores for weights; they are any real numbers: take their softmax",
        ),
        "the scores by their sum": (
            _weighing(lambda s: s / s.sum(1, keepdim=True)),
            "divides the scores by their sum, which can be 0 or negative; take the exp of them first: a softmax",
        ),
        "overflow": (
            _weighing(_by_exp),
            "overflows: exp(500) is infinite, and infinite by infinite is nan; use softmax, which does not",
        ),
        "one largest for all": (
            _weighing(lambda s: _by_exp(s - s.max())),
            "subtracts the largest score of the table, so that exp of a row far below is 0, and 0 / 0 nan; take the"
            " largest of each row",
        ),
        "sigmoid": (
            _weighing(torch.sigmoid),
            "weighs each word alone by a sigmoid; words share a weight of 1 among them: a softmax",
        ),
        "the best word alone": (
            _weighing(_hard),
            "takes the best word alone, and nothing can learn which; the softmax mixes all",
        ),
        "softmax twice": (
            _weighing(lambda s: s.softmax(1).softmax(1)),
            "takes the softmax twice, which makes all weights nearly equal; once is enough",
        ),
        "log-softmax": (
            _weighing(lambda s: s.log_softmax(1)),
            "takes the logs of the weights, which are negative; use softmax",
        ),
        "cosine": (
            _softmax_of(lambda q, k, v: normalize(q, dim=1) @ normalize(k, dim=1).mT),
            "divides queries and keys by their lengths; the length of a query says how sharply it asks: divide by"
            " sqrt(d) alone",
        ),
        "distance": (
            _softmax_of(lambda q, k, v: -(q[:, None] - k).square().sum(2) / math.sqrt(q.shape[1])),
            "scores by minus the squared distance; take the product of query and key",
        ),
        "keys for values": (
            lambda q, k, v: attention(q, k, k),
            "mixes the keys; keys say which word fits, and what is taken of it is its value, v",
        ),
        "queries with themselves": (
            lambda q, k, v: attention(q, q, v),
            "compares the queries with each other; compare them with the keys",
        ),
        "keys with themselves": (
            lambda q, k, v: attention(k, k, v),
            "compares the keys with each other; it is the queries that ask",
        ),
        "queries and keys swapped": (
            lambda q, k, v: attention(k, q, v),
            "has the keys ask: k q' is the table on its side; take q k', one row for each place",
        ),
        "weights on their side": (
            lambda q, k, v: scaled_scores(q, k).softmax(1).mT @ v,
            "transposes the weights before they meet the values; row i holds the weights of place i: weights @ v",
        ),
        "the mean": (
            _weighing(lambda s: torch.ones_like(s) / s.shape[1]),
            "the mean of the values, whatever is asked; weigh them by the softmax of the scores",
        ),
        "no word ahead": (
            lambda q, k, v: not_ahead(scaled_scores(q, k)).softmax(1) @ v,
            "hides the words behind a place's own number, as where a text is written; here each place sees every word",
        ),
        "the weights": (
            lambda q, k, v: scaled_scores(q, k).softmax(1),
            "returns the weights, (T, S); multiply them with the values",
        ),
        "no gradient": (lambda q, k, v: attention(q, k, v).detach(), CUT),
    },
    gradients("q", "k", "v"),
)
