"""The exercise `prompts.masked_attention`: the same among the words alone, zeros without any."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from minigen.homework.contract import Contract, Function, Input, gradients
from minigen.homework.contracts.prompts._tables import attended, not_ahead, scaled_scores, tables
from minigen.homework.contracts.prompts.attention import attention
from minigen.homework.mistakes import CUT, softmax_with_one_shift


def masked_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """The same among the words alone, where the mask (S,) is True; zeros where there is no word."""
    return attended(q, k, v, mask[None])


def _captions() -> list[Input]:
    few, random, far, apart = (arguments for arguments, _ in tables())

    def words(*there: int) -> Tensor:
        return torch.tensor(there).bool()

    return [
        Input((*few, words(1, 0)), "two places, a word and padding"),
        Input((*random, words(1, 1, 1, 0, 0)), "three words and padding"),
        Input((*random, words(0, 1, 0, 1, 1)), "words that are not the first ones"),
        Input((*random, words(1, 1, 1, 1, 1)), "words alone"),
        Input((*random, words(0, 0, 0, 0, 0)), "padding alone"),
        Input((*far, words(0, 1, 1, 0)), "scores of size 500"),
        Input((*apart, words(1, 1, 0, 1)), "places whose scores are 1000 apart"),
    ]


def _masked(weigh: Callable[[Tensor, Tensor], Tensor]) -> Function:
    """Attention with weights that are made of the scaled scores and the mask in another way."""
    return lambda q, k, v, mask: weigh(scaled_scores(q, k), mask) @ v


def _filled(scores: Tensor, mask: Tensor, value: float = -math.inf) -> Tensor:
    return scores.masked_fill(~mask, value)


def _by_one_largest(scores: Tensor, mask: Tensor) -> Tensor:
    """Weights that are right but for rows far below the largest score of all."""
    weights = softmax_with_one_shift(_filled(scores, mask, -1e9), 1)
    return weights * mask


def _count(mask: Tensor) -> Tensor:
    """How many words there are, 1 at least."""
    return mask.sum().clamp(min=1)


def _first_words(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    count = int(mask.sum())
    return attention(q, k[:count], v[:count]) if count else q.new_zeros(len(q), v.shape[1])


CONTRACT = Contract(
    masked_attention,
    _captions,
    {
        "mask ignored": (
            lambda q, k, v, mask: attention(q, k, v),
            "ignores the mask, so that padding is attended to; its scores must become minus infinity",
        ),
        "mask inverted": (
            lambda q, k, v, mask: masked_attention(q, k, v, ~mask),
            "attends to the padding; the mask is True where a word is: fill where it is False, ~mask",
        ),
        "scores of 0": (
            _masked(lambda s, m: (s * m).softmax(1)),
            "sets the scores (or keys) of padding to 0, which is a score like any other; it must be minus infinity",
        ),
        "keys and values of 0": (
            _masked(lambda s, m: (s * m).softmax(1) * m),
            "multiplies keys and values by the mask; padding still takes weight, by its score of 0: mask the scores",
        ),
        "mask added": (
            _masked(lambda s, m: (s + m).softmax(1)),
            "adds the mask, 1 for a word and 0 for padding; add 0 for a word and minus infinity for padding",
        ),
        "infinity times 0": (
            _masked(lambda s, m: (s + (~m).to(s.dtype) * -math.inf).softmax(1)),
            "multiplies minus infinity by a mask, and infinity times 0 is nan; use masked_fill or where",
        ),
        "masked afterwards": (
            _masked(lambda s, m: s.softmax(1) * m),
            "masks the weights after the softmax (or the values): the others then sum to less than 1; mask the scores",
        ),
        "normalised again": (
            _masked(lambda s, m: (s.softmax(1) * m) / (s.softmax(1) * m).sum(1, keepdim=True).clamp(min=1e-9)),
            "masks after the softmax and divides by the rest, which is 0 where padding scores far higher; mask the"
            " scores",
        ),
        "nan without words": (
            _masked(lambda s, m: _filled(s, m).softmax(1)),
            "right where there are words; the softmax of minus infinities alone is nan: let there be zeros",
        ),
        "nan without words, added": (
            _masked(lambda s, m: (s + _filled(torch.zeros_like(s), m)).softmax(1)),
            "right where there are words; without any, minus infinity is added to every score, and the softmax is nan:"
            " let there be zeros",
        ),
        "the mean without words": (
            _masked(lambda s, m: _filled(s, m, -1e9).softmax(1)),
            "right where there are words; without any, all scores are equal, and it is padding's mean: multiply the"
            " weights by the mask",
        ),
        "nan as a gradient": (
            _masked(lambda s, m: (s + _filled(torch.zeros_like(s), m)).softmax(1).nan_to_num()),
            "the value is right, but without words the gradient is nan, which nan_to_num does not undo; fill with -1e9,"
            " then multiply the weights by the mask",
        ),
        "one largest for all": (
            _masked(_by_one_largest),
            "subtracts the largest score of the table, so that exp of a row far below is 0, and 0 / 0 nan; take the"
            " largest of each row, as softmax does",
        ),
        "not far enough": (
            _masked(lambda s, m: _filled(s, m, -100.0).softmax(1) * m),
            "puts -100 for minus infinity, and scores of words can be lower still; take -1e9 or minus infinity",
        ),
        "places masked": (
            lambda q, k, v, mask: attention(q, k, v) * mask[:, None],
            "applies the mask to the places, the rows of the table; it is of the words, its columns",
        ),
        "places filled": (
            _masked(lambda s, m: _filled(s, m[:, None]).softmax(1)),
            "fills the rows of the table, the places, and a row of minus infinities alone is nan; fill the columns, the"
            " words",
        ),
        "the first words": (
            _first_words,
            "takes as many words from the front as there are; the mask says which: k[mask], v[mask]",
        ),
        "the mean of the words": (
            _masked(lambda s, m: (m / _count(m)).expand_as(s)),
            "the mean of the words' values, whatever is asked; weigh them by the softmax of the scores",
        ),
        "divided by the words": (
            lambda q, k, v, mask: masked_attention(q, k, v, mask) / _count(mask),
            "divides by the number of words; the weights sum to 1 already",
        ),
        "root of the words": (
            lambda q, k, v, mask: masked_attention(q * math.sqrt(q.shape[1] / int(_count(mask))), k, v, mask),
            "divides the scores by the root of the number of words; take d, the features of a query",
        ),
        "not scaled": (
            lambda q, k, v, mask: masked_attention(q * math.sqrt(q.shape[1]), k, v, mask),
            "leaves out the scale; divide the scores by sqrt(d)",
        ),
        "over the places": (
            _masked(lambda s, m: s.softmax(0) * m),
            "takes the softmax over the places; each place has a weight of 1 to spend: over words, dim=1",
        ),
        "no word ahead": (
            _masked(lambda s, m: not_ahead(_filled(s, m, -1e9)).softmax(1) * m),
            "hides the words behind a place's own number, too, as where a text is written; hide padding alone",
        ),
        "no gradient": (lambda q, k, v, mask: masked_attention(q, k, v, mask).detach(), CUT),
    },
    gradients("q", "k", "v"),
)
