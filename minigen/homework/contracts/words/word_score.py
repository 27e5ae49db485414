"""The exercise `words.word_score`: how well the words of a caption fit what they found in an image."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from minigen.homework.contract import Contract, Input, gradients
from minigen.homework.mistakes import CUT
from minigen.objectives import words as objective


def word_score(context: Tensor, words: Tensor, mask: Tensor, gamma2: float) -> Tensor:
    """log(sum of exp(gamma2 cosine)) / gamma2 over the words (T, D) where the mask (T,) is True, a number."""
    return objective.word_score(context, words, gamma2=gamma2, mask=mask)


def _cosine(c: Tensor, e: Tensor) -> Tensor:
    return cosine_similarity(c, e, dim=1)


def _score(cosine: Tensor, gamma2: float) -> Tensor:
    return (gamma2 * cosine).logsumexp(0) / gamma2


def _there(x: Tensor, mask: Tensor) -> Tensor:
    return x.masked_fill(~mask, -math.inf)


def _captions() -> list[Input]:
    generator = torch.Generator().manual_seed(0)
    few = torch.tensor([[1.0, 0.5], [-0.5, 1.0]]), torch.tensor([[0.5, 1.0], [1.0, 0.25]])
    c, e = torch.randn(2, 5, 3, generator=generator)
    fits = torch.tensor([[2.0, 0, 0, 0], [4, -3, 0, 0], [0, 3, -4, 0], [0, 0, 3, -4]])  # cosines of 1, -0.6 and -0.8
    lengths = torch.tensor([[0.25], [1.0], [3.0], [1.5], [0.5]])

    def words(*there: int) -> Tensor:
        return torch.tensor(there).bool()

    return [
        Input((*few, words(1, 1), 2.0), "two words"),
        Input((c, e, words(1, 1, 1, 0, 0), 5.0), "three words and padding"),
        Input((c * lengths, e, words(1, 0, 1, 1, 1), 0.5), "contexts of different lengths, gamma2 below 1"),
        Input((c, e * lengths, words(0, 1, 0, 1, 1), 3.0), "words of different lengths"),
        Input((c, e, words(0, 0, 1, 0, 0), 4.0), "one word"),
        Input((fits, torch.eye(4), words(0, 1, 1, 1), 2000.0), "padding that fits, words that do not, gamma2 2000"),
    ]


CONTRACT = Contract(
    word_score,
    _captions,
    {
        "padding counts": (
            lambda c, e, m, g: _score(_cosine(c, e), g),
            "adds up padding, too; fill its cosines with minus infinity before the sum",
        ),
        "padding as 0": (
            lambda c, e, m, g: _score(_cosine(c, e) * m, g),
            "multiplies padding's cosines by 0, which counts as exp(0) = 1 in the sum; fill in minus infinity",
        ),
        "only padding": (
            lambda c, e, m, g: _score(_there(_cosine(c, e), m if m.all() else ~m), g),
            "hides the words and keeps the padding; the mask is True where a word is",
        ),
        "mean of cosines": (
            lambda c, e, m, g: _cosine(c, e)[m].mean() + 0 * g,
            "averages the cosines; the words that fit best are to count most: take the log of the sum of exp",
        ),
        "sum of cosines": (
            lambda c, e, m, g: _cosine(c, e)[m].sum() + 0 * g,
            "adds up the cosines, so that long captions fit better; take the log of the sum of exp",
        ),
        "the best word": (
            lambda c, e, m, g: _cosine(c, e)[m].amax() + 0 * g,
            "the largest cosine alone, the limit of a large gamma2; take the log of the sum of exp",
        ),
        "mean inside": (
            lambda c, e, m, g: _score(_cosine(c, e)[m], g) - m.sum().log() / g,
            "divides by the number of words inside of the log; it is a sum",
        ),
        "no root": (
            lambda c, e, m, g: g * _score(_cosine(c, e)[m], g),
            "leaves out the power 1/gamma2; divide the log by gamma2, so that the score is as large as a cosine",
        ),
        "no gamma": (
            lambda c, e, m, g: _score(_cosine(c, e)[m], 1.0),
            "leaves out gamma2, which says how much the best word counts",
        ),
        "gamma outside": (
            lambda c, e, m, g: _score(_cosine(c, e)[m], 1.0) / g,
            "divides by gamma2 without having multiplied the cosines by it",
        ),
        "divided by gamma": (
            lambda c, e, m, g: _score(_cosine(c, e)[m], 1 / g),
            "takes gamma2 for a temperature; multiply the cosines by it, and divide the log",
        ),
        "no log": (
            lambda c, e, m, g: (g * _cosine(c, e)[m]).softmax(0).sum() * _score(_cosine(c, e)[m], g).exp(),
            "the exponential of the score; the log is missing",
        ),
        "dot products": (
            lambda c, e, m, g: _score((c * e).sum(1)[m], g),
            "takes products of context and word; their cosine has both divided by their lengths",
        ),
        "contexts not normalised": (
            lambda c, e, m, g: _score((_cosine(c, e) * c.norm(dim=1))[m], g),
            "divides by the length of the word, but not by that of the context",
        ),
        "words not normalised": (
            lambda c, e, m, g: _score((_cosine(c, e) * e.norm(dim=1))[m], g),
            "divides by the length of the context, but not by that of the word",
        ),
        "cosine over the words": (
            lambda c, e, m, g: _score(cosine_similarity(c[m], e[m], dim=0), g),
            "compares feature by feature over the words; a cosine is of one word and its context, over D",
        ),
        "every word with every context": (
            lambda c, e, m, g: (g * cosine_similarity(c[m][:, None], e[m], dim=2)).flatten().logsumexp(0) / g,
            "compares every word with the context of every other; each has its own",
        ),
        "distances": (
            lambda c, e, m, g: _score(-(c - e).norm(dim=1)[m], g),
            "takes minus the distances; the score is made of cosines",
        ),
        "sign": (
            lambda c, e, m, g: -word_score(c, e, m, g),
            "a score is high where the words fit; leave out the minus",
        ),
        "the worst word": (
            lambda c, e, m, g: -_score(-_cosine(c, e)[m], g),
            "lets the words that fit least count most; no minus within the exponential and none before the log",
        ),
        "overflow": (
            lambda c, e, m, g: (g * _cosine(c, e))[m].exp().sum().log() / g,
            "overflows: exp(2000) is infinite and exp(-2000) is 0; use logsumexp",
        ),
        "largest of padding": (
            lambda c, e, m, g: (
                (((g * _cosine(c, e) - (g * _cosine(c, e)).max()).exp() * m).sum().log() + (g * _cosine(c, e)).max())
                / g
            ),
            "subtracts the largest of all, padding included, so that words far below it sum to 0 and its log is -inf",
        ),
        "no gradient": (lambda c, e, m, g: word_score(c, e, m, g).detach(), CUT),
    },
    gradients("context", "words"),
)
