"""Chapter 5: what its bands must not let pass, and its formulas against other ways to them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, Normal
from torch.nn.functional import normalize, scaled_dot_product_attention

import records
from minigen.book import CheckError, check
from minigen.nets import SelfAttention
from minigen.objectives import words

BANDS = records.stored("05_words")


@pytest.mark.parametrize(
    ("what", "wrong"),
    [
        ("one 3 x 3 convolution: largest slope of the left shape by a coin at the right", 0.0),  # "only attention can"
        ("JS of the best of 20 searches, over that of three kinds", 1.0138),  # that of two kinds, or of four
        ("its agreement", 0.3536),  # one over the root of eight: as if m need not be whole
        ("its number of kinds at the left", 2.828),
        ("its number of kinds at the left", 8.0),  # "a good discriminator keeps all kinds"
        ("with attention: agreement", 0.6857),  # no better than convolution
        ("with attention: mean agreement of a kind", 0.6857),
        ("with attention: number of kinds", 6.0),  # "it, too, drops kinds"
        ("with attention: nats that one half says about the other", 1.609),  # log 5: "of five kinds"
        ("convolution alone: agreement, less (5.1)", 0.5607),  # less 1/8: "by chance it agrees in one case of eight"
        ("convolution alone: agreement, less (5.1)", 0.05),  # "a little of it has been learnt"
        ("convolution alone: mean agreement of a kind", 0.6857),  # "what agrees so often has learnt to"
        ("convolution alone: number of kinds", 7.0),  # nearly all kinds are kept
        ("convolution alone: nats that one half says about the other", 0.659),  # log 1.93: all that its kinds could say
        ("variance of a score, over 1 with the root, over d without: furthest from 1, of six", 0.5),  # as root d
        ("d = 256: sum of slopes without the root, over that with it", 0.5),  # half of the slopes are left
        ("two columns exchanged: how far a convolution is from equivariant", 0.0),  # "as attention is"
        ("all columns shifted: the same", 1e-3),  # not even under shifts
        ("the gate, away from 0 by", 0.0),  # "a gate that begins at 0 stays there"
        ("weight that places give to the other half, the larger of both halves", 0.05),  # each looks at its own half
        ("largest quotient of weights, over its bound", 0.0067),  # "claims as of cosines, from -1 to 1": exp(2 gamma1)
        ("score less the best cosine, over log(n) / gamma2", -0.4822),  # a mean within the log: less 1
        ("colour: area under the curve of its word's map", 0.8827),  # no better than a kind
        ("colour: the same before training", 0.9519),  # "the architecture finds it"
        ("kind: area under the curve of its word's map", 0.641),  # as on the shape that it does not name
        ("kind: the same before training", 0.8827),
        ("background: area under the curve of its word's map", 0.8827),
        ("background: the same before training", 0.9296),
        ("colour: regions that its word looks at, of 36", 24.5),  # as many as a ground's
        ("kind: regions that its word looks at, of 36", 8.548),  # "as few as a colour's": what Figure 5.7 suggests
        ("background: regions that its word looks at, of 36", 35.77),
        ("colour: own shape's area less the other shape's", 0.4519),  # "of the other shape it knows nothing": 1/2
        ("colour: the other shape's area", 0.5),
        ("kind: own shape's area less the other shape's", 0.0),  # "it tells shapes from ground alone"
        ("kind: the other shape's area", 0.5),
        ("own caption found among 64, by words", 0.9171),  # what is found of combinations that were never trained on
        ("the same, a twin's caption counting as right", 0.9551),  # "twins make no difference"
        ("found by words, gamma1 = 0, below that with 5 by", 0.1012),  # no worse than a large gamma1
        ("found by words, gamma1 = 20, below that with 5 by", 0.0),  # "the sharper the better"
        ("background: area without competition", 0.9296),  # "its vector is like the ground's regions"
        ("background: area without competition", 0.5),
        ("colour: area with competition, less that without", 0.0),  # competition is for the ground alone
        ("gamma1 = 20, colour: regions that its word looks at", 1.0),  # "the best region alone"
        ("gamma1 = 20, kind: regions that its word looks at", 35.77),  # as with 5
        ("gamma1 = 20, background: regions that its word looks at", 24.5),
        ("nats at the start", 0.5),  # a mean of 1 in one entry
        ("JS of images, less that of the images at half the size, least of 200", -0.01),  # "a small picture shows more"
        ("d = 256: median slope by the query without the root, over that with it", 1.0),  # "only another temperature"
        ("d = 256: root mean square of the slopes, likewise", 0.2291),  # all slopes fall as the median does
    ],
)
def test_a_band_leaves_out_what_is_false(what: str, wrong: float) -> None:
    assert BANDS[what].holds(BANDS[what].measured)
    assert not BANDS[what].holds(wrong)


HALVES = {  # (5.2), and what is easily written in its place; m kinds of K at both ends, r = K / m^2
    "right": lambda m, K, r: math.log(2) - (m / K * math.log(1 + r) + math.log(1 + 1 / r) / m) / 2,
    "no half": lambda m, K, r: math.log(2) - m / K * math.log(1 + r) - math.log(1 + 1 / r) / m,
    "shares exchanged": lambda m, K, r: math.log(2) - (m / K * math.log(1 + 1 / r) + math.log(1 + r) / m) / 2,
    "m kinds of pairs, not m^2": lambda m, K, r: (
        math.log(2) - (m / K * math.log(1 + K / m) + math.log(1 + m / K) / m) / 2
    ),
    "one share for both": lambda m, K, r: math.log(2) - m / K * (math.log(1 + r) + math.log(1 + 1 / r)) / 2,
    "bits": lambda m, K, r: 1 - (m / K * math.log2(1 + r) + math.log2(1 + 1 / r) / m) / 2,
}


@pytest.mark.parametrize("name", HALVES)
def test_what_independent_halves_leave_over_is_a_difference_of_entropies(name: str) -> None:
    """(5.2) for twelve kinds: the entropy of the mean of both, less the mean of their entropies, by torch's own."""
    found = []
    for m in range(1, 13):
        half = (torch.arange(12) < m).double() / m
        pairs = torch.stack([torch.eye(12, dtype=torch.float64) / 12, torch.outer(half, half)]).flatten(1)
        found.append(Categorical(pairs.mean(0)).entropy() - Categorical(pairs).entropy().mean())
    claimed = [HALVES[name](m, 12, 12 / m**2) for m in range(1, 13)]
    if name == "right":
        check("5.2", torch.stack(found), claimed, atol=1e-12)
        check("5.2", claimed, [HALVES[name](12 / m, 12, m**2 / 12) for m in range(1, 13)], atol=1e-12)
        return
    with pytest.raises(CheckError):
        check("5.2", torch.stack(found), claimed, atol=1e-3)


@pytest.mark.parametrize("name", ["right", "the root of d", "no half", "keys of other lengths"])
def test_attention_weighs_by_a_normal_density_around_the_query(name: str) -> None:
    """(5.6): of standard deviation d^(1/4) along each axis, by torch's density, and only for keys of one length."""
    generator = torch.Generator().manual_seed(0)
    u, k, v = (torch.randn(n, 16, generator=generator, dtype=torch.float64) for n in (1, 30, 30))
    k = k if name == "keys of other lengths" else 4 * normalize(k, dim=1)
    std = {"the root of d": 4.0, "no half": 2.0 / math.sqrt(2)}.get(name, 2.0)
    weights = Normal(u, std).log_prob(k).sum(1).exp()
    attended = scaled_dot_product_attention(u[None], k[None], v[None])[0, 0]
    if name == "right":
        check("5.6", attended, weights @ v / weights.sum(), atol=1e-12)
        return
    with pytest.raises(CheckError):
        check("5.6", attended, weights @ v / weights.sum(), atol=0.01)


def test_a_gate_at_0_moves_and_what_stands_behind_it_does_not() -> None:
    """(5.8) by differences in place of autograd; the slope by the gate is no product with x or with the output."""
    torch.manual_seed(0)
    block = SelfAttention(8).double()
    x, target = torch.randn(2, 2, 8, 2, 3, dtype=torch.float64)

    @torch.no_grad()
    def loss(gate: float, nudge: float = 0.0) -> Tensor:
        block.gate.fill_(gate)
        for weight in block.attention.parameters():
            weight += nudge
        value = (block(x) - target).square().sum()
        for weight in block.attention.parameters():
            weight -= nudge
        return value

    with torch.no_grad():
        block.gate.fill_(1.0)
        taken = block(x) - x
    by_gate = (loss(1e-6) - loss(-1e-6)) / 2e-6
    check("5.8", by_gate, (2 * (x - target) * taken).sum(), atol=1e-6)
    for wrong in ((2 * (x - target) * x).sum(), (2 * (x + taken - target) * taken).sum(), 0 * by_gate, by_gate / 96):
        with pytest.raises(CheckError):
            check("5.8", by_gate, wrong, atol=0.01)
    check("5.8", loss(0.0, 0.1) - loss(0.0), 0.0, atol=0)
    with pytest.raises(CheckError):
        check("5.8", loss(0.1, 0.1) - loss(0.1), 0.0, atol=0.01)


LEAST = {  # (5.14), and what is easily written in its place
    "right": lambda B, g, d: 2 * math.log(1 + (B - 1) * math.exp(-g * d)),
    "one way": lambda B, g, d: math.log(1 + (B - 1) * math.exp(-g * d)),
    "the own pair twice": lambda B, g, d: 2 * math.log(1 + B * math.exp(-g * d)),
    "both ends of the interval": lambda B, g, d: 2 * math.log(1 + (B - 1) * math.exp(-2 * g * d)),
    "no gamma": lambda B, g, d: 2 * math.log(1 + (B - 1) * math.exp(-d)),
    "a hardest pair": lambda B, g, d: 2 * math.log(1 + math.exp(-g * d)),
}


@pytest.mark.parametrize("name", LEAST)
def test_scores_of_an_interval_cannot_make_the_loss_small(name: str) -> None:
    """(5.14): the library's loss, brought down over all tables of five pairs with scores from 0.2 to 0.9."""
    gamma, width, size = 4.0, 0.7, 5
    scores = 0.2 + width * torch.rand(size, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for _ in range(60):
        scores = scores.requires_grad_()
        (slope,) = torch.autograd.grad(words.matching_loss(scores, gamma3=gamma), scores)
        scores = (scores.detach() - slope).clamp(0.2, 0.2 + width)
    found = words.matching_loss(scores, gamma3=gamma)
    if name == "right":
        check("5.14", found, LEAST[name](size, gamma, width), atol=1e-9)
        return
    with pytest.raises(CheckError):
        check("5.14", found, LEAST[name](size, gamma, width), atol=0.01)
