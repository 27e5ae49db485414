"""The exercises of chapter 13 about attention; the others are in `prompts` and `obeying`."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import normalize, one_hot

from minigen.homework.contract import Contract, Function, Input, gradients
from minigen.homework.latents import CUT
from minigen.nets.attention import Weights


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k' / sqrt(d)) v, (T, e): what places with queries (T, d) take of words, keys (S, d), values (S, e)."""
    return _attended(q, k, v, None)


def masked_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """The same among the words alone, where the mask (S,) is True; zeros where there is no word."""
    return _attended(q, k, v, mask[None])


def _attended(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    weights: Tensor = Weights()(_scores(q, k)[None, None], mask)[0, 0]
    return weights @ v


def _scores(q: Tensor, k: Tensor) -> Tensor:
    """(T, S), scaled."""
    return q @ k.mT / math.sqrt(q.shape[1])


def _weighing(weigh: Callable[[Tensor], Tensor]) -> Function:
    """Attention with weights that are made of the scaled scores in another way."""
    return lambda q, k, v: weigh(_scores(q, k)) @ v


def _softmax_of(scores: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Function:
    """Attention with other scores, made of q, k and v."""
    return lambda q, k, v: scores(q, k, v).softmax(1) @ v


def _by_exp(scores: Tensor) -> Tensor:
    """Softmax with nothing subtracted."""
    return scores.exp() / scores.exp().sum(1, keepdim=True)


def _hard(scores: Tensor) -> Tensor:
    return one_hot(scores.argmax(1), scores.shape[1]).to(scores.dtype)


def _not_ahead(scores: Tensor) -> Tensor:
    """Minus infinity where the word's number is above the place's."""
    return scores.masked_fill(torch.ones_like(scores).triu(1).bool(), -math.inf)


def _tables() -> list[tuple[tuple[Tensor, Tensor, Tensor], str]]:
    """As many places as words, so that a table of weights fits on its side, too.

    Extreme scores are equal or far from each other: rounding does not show.
    """
    generator = torch.Generator().manual_seed(0)
    q, k = 1.5 * torch.randn(2, 5, 3, generator=generator)
    few = torch.tensor([[1.0, 2.0], [-1.0, 0.5]]), torch.tensor([[0.5, 1.0], [1.0, -0.5]]), torch.tensor([[1.0], [3.0]])
    scores = torch.tensor(
        [[500.0, 500.0, -500.0, -500.0], [-500.0, -500.0, -450.0, -500.0], [0, 0, 1, -1], [500, 0, -1, 400]]
    )
    far = scores / 8, 16 * torch.eye(4), torch.randn(4, 2, generator=generator)
    return [
        (few, "two places and two words"),
        ((q, k, torch.randn(5, 4, generator=generator)), "random queries, keys and values"),
        (far, "scores of size 500"),
    ]


ATTENTION = Contract(
    attention,
    lambda: [Input(arguments, text) for arguments, text in _tables()],
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
            lambda q, k, v: _scores(q, k).softmax(1).mT @ v,
            "transposes the weights before they meet the values; row i holds the weights of place i: weights @ v",
        ),
        "the mean": (
            _weighing(lambda s: torch.ones_like(s) / s.shape[1]),
            "the mean of the values, whatever is asked; weigh them by the softmax of the scores",
        ),
        "no word ahead": (
            lambda q, k, v: _not_ahead(_scores(q, k)).softmax(1) @ v,
            "hides the words behind a place's own number, as where a text is written; here each place sees every word",
        ),
        "the weights": (
            lambda q, k, v: _scores(q, k).softmax(1),
            "returns the weights, (T, S); multiply them with the values",
        ),
        "no gradient": (lambda q, k, v: attention(q, k, v).detach(), CUT),
    },
    gradients("q", "k", "v"),
)


def _captions() -> list[Input]:
    few, random, far = (arguments for arguments, _ in _tables())

    def words(*there: int) -> Tensor:
        return torch.tensor(there).bool()

    return [
        Input((*few, words(1, 0)), "two places, a word and padding"),
        Input((*random, words(1, 1, 1, 0, 0)), "three words and padding"),
        Input((*random, words(0, 1, 0, 1, 1)), "words that are not the first ones"),
        Input((*random, words(1, 1, 1, 1, 1)), "words alone"),
        Input((*random, words(0, 0, 0, 0, 0)), "padding alone"),
        Input((*far, words(0, 1, 1, 0)), "scores of size 500"),
    ]


def _masked(weigh: Callable[[Tensor, Tensor], Tensor]) -> Function:
    """Attention with weights that are made of the scaled scores and the mask in another way."""
    return lambda q, k, v, mask: weigh(_scores(q, k), mask) @ v


def _filled(scores: Tensor, mask: Tensor, value: float = -math.inf) -> Tensor:
    return scores.masked_fill(~mask, value)


def _count(mask: Tensor) -> Tensor:
    """How many words there are, 1 at least."""
    return mask.sum().clamp(min=1)


def _first_words(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    count = int(mask.sum())
    return attention(q, k[:count], v[:count]) if count else q.new_zeros(len(q), v.shape[1])


MASKED_ATTENTION = Contract(
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
            _masked(lambda s, m: _not_ahead(_filled(s, m, -1e9)).softmax(1) * m),
            "hides the words behind a place's own number, too, as where a text is written; hide padding alone",
        ),
        "no gradient": (lambda q, k, v, mask: masked_attention(q, k, v, mask).detach(), CUT),
    },
    gradients("q", "k", "v"),
)
