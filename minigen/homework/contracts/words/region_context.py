"""The exercise `words.region_context`: what each word of a caption finds in an image."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import normalize

from minigen.homework.contract import Contract, Function, Input, gradients
from minigen.homework.mistakes import CUT, softmax_with_one_shift
from minigen.objectives import words as objective


def region_context(words: Tensor, regions: Tensor, gamma1: float) -> Tensor:
    """What words (T, D) find among regions (N, D): contexts (T, D)."""
    return objective.region_context(words, regions, gamma1=gamma1)[0]


def _captions() -> list[Input]:
    """As many words as regions in one case, so that a softmax over the wrong side still runs."""
    generator = torch.Generator().manual_seed(0)
    few = torch.tensor([[1.0, 0.5], [-0.5, 1.0]]), torch.tensor([[0.5, 1.0], [2.0, -1.0], [-1.0, 0.25]])
    square, others = torch.randn(2, 4, 3, generator=generator)
    e, v = torch.randn(3, 5, generator=generator), torch.randn(7, 5, generator=generator)
    far = torch.tensor([[500.0, 0, 500, 0], [0, 500, -500, 500], [0, 0, 500, 500]])
    apart = torch.tensor([[0.0, -2000, 1000], [0, -1000, 0], [1, -1000, 0]])
    return [
        Input((*few, 2.0), "two words and three regions"),
        Input((square, others, 5.0), "as many words as regions"),
        Input((e, v, 4.0), "random words and regions"),
        Input((e, v, 0.5), "the same, gamma1 below 1"),
        Input((far / 16, 16 * torch.eye(4), 3.0), "similarities of size 500"),
        Input((apart / 8, 8 * torch.eye(3), 2.0), "regions whose similarities are 1000 apart"),
    ]


def _claiming(claim: Callable[[Tensor], Tensor], dim: int = 1) -> Function:
    """Contexts by other claims, made of the similarities (T, N)."""
    return lambda e, v, gamma1: (gamma1 * claim(e @ v.mT)).softmax(dim) @ v


def _weights(e: Tensor, v: Tensor, gamma1: float) -> Tensor:
    return objective.region_context(e, v, gamma1=gamma1)[1]


def _by_exp(s: Tensor) -> Tensor:
    return s.exp() / s.exp().sum(0)


CONTRACT = Contract(
    region_context,
    _captions,
    {
        "over the regions twice": (
            _claiming(lambda s: s.softmax(1)),
            "takes the first softmax over the regions, too; there the words compete for each region, dim=0",
        ),
        "over the words twice": (
            _claiming(lambda s: s.softmax(0), 0),
            "takes the second softmax over the words, too; there each word has a weight of 1 to spend, dim=1",
        ),
        "the two exchanged": (
            _claiming(lambda s: s.softmax(1), 0),
            "has both axes exchanged; first over the words for each region, then over the regions for each word",
        ),
        "no competition": (
            _claiming(lambda s: s),
            "leaves out the softmax over the words, so that no word takes a region from another",
        ),
        "claims alone": (
            lambda e, v, gamma1: gamma1 * (e @ v.mT).softmax(0) @ v,
            "weighs regions by the claims of a word, which need not sum to 1; take the softmax of gamma1 times them",
        ),
        "claims by their sum": (
            lambda e, v, gamma1: normalize((e @ v.mT).softmax(0), p=1, dim=1) @ v + 0 * gamma1,
            "divides the claims of a word by their sum; take the exp of gamma1 times them first: a softmax",
        ),
        "no gamma": (
            lambda e, v, gamma1: region_context(e, v, 1.0),
            "leaves out gamma1; claims are at most 1, so that without it all regions weigh nearly the same",
        ),
        "gamma in the first softmax": (
            lambda e, v, gamma1: (gamma1 * e @ v.mT).softmax(0).softmax(1) @ v,
            "multiplies the similarities by gamma1; it sharpens the second softmax: it multiplies the claims",
        ),
        "gamma in both": (
            lambda e, v, gamma1: region_context(gamma1 * e, v, gamma1),
            "multiplies by gamma1 before both softmaxes; it stands before the second alone",
        ),
        "divided by gamma": (
            lambda e, v, gamma1: region_context(e, v, 1 / gamma1),
            "divides by gamma1, as if it were a temperature; multiply",
        ),
        "gamma afterwards": (
            lambda e, v, gamma1: gamma1 * region_context(e, v, 1.0),
            "multiplies the contexts by gamma1; it belongs into the softmax",
        ),
        "cosines": (
            lambda e, v, gamma1: region_context(normalize(e, dim=1), 1.0 * v, gamma1),
            "divides the words by their lengths; the similarity is the plain product, and cosines come with the score",
        ),
        "scaled": (
            lambda e, v, gamma1: region_context(e / e.shape[1] ** 0.5, v, gamma1),
            "divides by sqrt(d), as attention in a transformer does; here the similarity is the plain product",
        ),
        "sign": (
            lambda e, v, gamma1: region_context(-e, v, gamma1),
            "gives a region to the word that fits least; leave out the minus",
        ),
        "the most claimed": (
            lambda e, v, gamma1: v[(e @ v.mT).softmax(0).argmax(1)] + 0 * e * gamma1,
            "takes the region that is claimed most alone, and nothing can learn which; the softmax mixes all",
        ),
        "the mean": (
            lambda e, v, gamma1: v.mean(0).expand_as(e) + 0 * e * gamma1,
            "the mean of all regions, whatever the word; weigh them by the second softmax",
        ),
        "averaged over the regions": (
            lambda e, v, gamma1: region_context(e, v, gamma1) / len(v),
            "divides by the number of regions; the weights sum to 1 already",
        ),
        "words for regions": (
            lambda e, v, gamma1: _weights(e, v, gamma1).sum(1, keepdim=True) * e,
            "mixes the word's own vector; a context is made of regions: weights @ regions",
        ),
        "one largest for all": (
            _claiming(lambda s: softmax_with_one_shift(s, 0)),
            "subtracts the largest similarity of the table, so that a region far below has 0 / 0; take the largest of"
            " each region",
        ),
        "overflow": (
            _claiming(_by_exp),
            "overflows: exp(500) is infinite, and infinite by infinite is nan; use softmax, which does not",
        ),
        "no gradient": (lambda e, v, gamma1: region_context(e, v, gamma1).detach(), CUT),
    },
    gradients("words", "regions"),
)
