"""The equations of chapter 05 against loops written out from the paper, and their likely wrong variants."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Categorical
from torch.nn.functional import cosine_similarity

from minigen.objectives import words
from minigen.objectives.contrastive import symmetric_loss

DRAW = torch.Generator().manual_seed(0)
WORDS = torch.randn(3, 5, 4, generator=DRAW, dtype=torch.float64)
REGIONS = torch.randn(3, 6, 4, generator=DRAW, dtype=torch.float64)
MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [0, 1, 0, 1, 1]]).bool()
G1, G2, G3 = 4.0, 3.0, 7.0


def close(a: Tensor, b: Tensor | float, tolerance: float = 1e-9) -> bool:
    return torch.allclose(a, torch.as_tensor(b, dtype=a.dtype), atol=tolerance, rtol=0)


# What each word finds: every sum by hand, one number after another, of the words that are there alone.


def found_by_hand(e: list[list[float]], v: list[list[float]], gamma1: float) -> tuple[list, list]:
    """Eqs 7 to 9 for the words e (T, D) of one caption and the regions v (N, D) of one image: contexts, attention."""
    s = [[sum(a * b for a, b in zip(word, region, strict=True)) for region in v] for word in e]
    sums = [sum(math.exp(row[j]) for row in s) for j in range(len(v))]
    claims = [[math.exp(row[j]) / sums[j] for j in range(len(v))] for row in s]
    weights = [[math.exp(gamma1 * c) / sum(math.exp(gamma1 * d) for d in row) for c in row] for row in claims]
    contexts = [
        [sum(w * region[k] for w, region in zip(row, v, strict=True)) for k in range(len(v[0]))] for row in weights
    ]
    return contexts, weights


def score_by_hand(e: list[list[float]], v: list[list[float]]) -> float:
    """Eq. 10."""
    total = 0.0
    for c, word in zip(found_by_hand(e, v, G1)[0], e, strict=True):
        dot = sum(a * b for a, b in zip(c, word, strict=True))
        lengths = math.sqrt(sum(a * a for a in c)) * math.sqrt(sum(b * b for b in word))
        total += math.exp(G2 * dot / lengths)
    return math.log(total ** (1 / G2))


def finds(function: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]) -> bool:
    context, attention = function(WORDS, REGIONS, MASK)
    for b in range(3):
        c, a = found_by_hand(WORDS[b, MASK[b]].tolist(), REGIONS[b].tolist(), G1)
        mine = context[b, MASK[b]], attention[b, MASK[b]]
        if not all(close(x, torch.tensor(y, dtype=torch.float64)) for x, y in zip(mine, (c, a), strict=True)):
            return False
    return True


right = partial(words.region_context, gamma1=G1)


def variant(claim: Callable[[Tensor, Tensor], Tensor], gamma1: float = G1, dim: int = -1) -> Callable[..., tuple]:
    """Contexts by other claims, made of similarities (B, T, N) and the mask (B, T, 1)."""

    def function(e: Tensor, v: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        attention = (gamma1 * claim(e @ v.mT, mask[..., None])).softmax(dim)
        return attention @ v, attention

    return function


def claimed(s: Tensor, mask: Tensor) -> Tensor:
    return s.masked_fill(~mask, -1e9).softmax(-2)


def test_what_a_word_finds_is_the_papers_and_wrong_variants_do_not_find_it() -> None:
    assert finds(lambda e, v, m: right(e, v, mask=m))
    assert finds(variant(claimed))
    for wrong in (
        variant(lambda s, m: s.softmax(-1)),  # over the regions twice
        variant(lambda s, m: s.softmax(-2)),  # padding claims regions
        variant(lambda s, m: (s * m).softmax(-2)),  # padding's similarity is 0, not its share
        variant(lambda s, m: s),  # no softmax over the words
        variant(claimed, gamma1=1.0),
        variant(claimed, gamma1=1 / G1),
        variant(claimed, dim=-2),
        variant(lambda s, m: claimed(s / 2, m)),  # 1/sqrt(d)
        variant(lambda s, m: claimed(G1 * s, m) / G1),  # gamma in the first softmax
        lambda e, v, m: right(nn.functional.normalize(e, dim=-1), v, mask=m),
        lambda e, v, m: (right(e, v, mask=m)[1] @ v.flip(1), right(e, v, mask=m)[1]),
    ):
        assert not finds(wrong)


def test_leading_dimensions_broadcast_and_order_says_nothing() -> None:
    every, attention = words.region_context(WORDS[None], REGIONS[:, None], gamma1=G1, mask=MASK[None])
    assert every.shape == (3, 3, 5, 4)
    for i in range(3):
        for j in range(3):
            context, weights = right(WORDS[j], REGIONS[i], mask=MASK[j])
            torch.testing.assert_close(every[i, j], context)
            torch.testing.assert_close(attention[i, j], weights)
    context, weights = right(WORDS, REGIONS)
    turned = right(WORDS.flip(1), REGIONS.roll(2, 1))
    torch.testing.assert_close(turned[0], context.flip(1))
    torch.testing.assert_close(turned[1], weights.flip(1).roll(2, 2))


def test_the_limits_of_gamma1_are_the_mean_of_all_regions_and_the_one_most_claimed() -> None:
    torch.testing.assert_close(
        words.region_context(WORDS, REGIONS, gamma1=0.0)[0], REGIONS.mean(1, keepdim=True).expand(3, 5, 4)
    )
    sharp, _ = words.region_context(WORDS, REGIONS, gamma1=1e6)
    most = (WORDS @ REGIONS.mT).softmax(1).argmax(2)
    torch.testing.assert_close(sharp, torch.stack([REGIONS[b, most[b]] for b in range(3)]))
    _, attention = words.region_context(1e3 * WORDS, REGIONS, gamma1=G1)  # claims of 0 and 1
    assert (attention.amax(2) / attention.amin(2)).max().item() <= math.exp(G1) + 1e-9


# The score of a pair.


def scored(function: Callable[[Tensor, Tensor, Tensor], Tensor]) -> bool:
    expected = [[score_by_hand(e[m].tolist(), v.tolist()) for e, m in zip(WORDS, MASK, strict=True)] for v in REGIONS]
    return close(function(WORDS, REGIONS, MASK), torch.tensor(expected, dtype=torch.float64))


def cosines(e: Tensor, v: Tensor, m: Tensor) -> Tensor:
    context, _ = words.region_context(e[None], v[:, None], gamma1=G1, mask=m[None])
    return cosine_similarity(context, e[None], dim=-1)  # (I, C, T)


def hidden(c: Tensor, m: Tensor) -> Tensor:
    return c.masked_fill(~m, -math.inf)


def test_the_score_of_every_image_with_every_caption_is_the_papers_and_that_of_wrong_variants_is_not() -> None:
    score = partial(words.matching_score, gamma1=G1, gamma2=G2)
    assert scored(lambda e, v, m: score(e, v, mask=m))
    for wrong in (
        lambda e, v, m: score(e, v),  # padding counts
        lambda e, v, m: score(e, v, mask=m).mT,  # images and captions swapped
        lambda e, v, m: words.matching_score(e, v, gamma1=G2, gamma2=G1, mask=m),
        lambda e, v, m: G2 * score(e, v, mask=m),  # the root left out
        lambda e, v, m: (cosines(e, v, m) * m).sum(2) / m.sum(1),  # a mean
        lambda e, v, m: hidden(cosines(e, v, m), m).amax(2),  # the best word
        lambda e, v, m: score(e, v, mask=m) - m.sum(1).double().log() / G2,  # a mean inside of the log
        lambda e, v, m: hidden(cosines(e, v, m), m).logsumexp(2),  # no gamma2
        lambda e, v, m: words.word_score(right(v, e)[0].expand(3, 3, 6, 4), v[:, None].expand(3, 3, 6, 4), gamma2=G2),
        lambda e, v, m: torch.where(m, cosines(e, v, m), 0.0).mul(G2).logsumexp(2) / G2,  # a masked word as cosine 0
    ):
        assert not scored(wrong)


def test_the_limits_of_gamma2_are_the_best_word_and_the_mean_with_the_number_of_words() -> None:
    context, _ = right(WORDS, REGIONS, mask=MASK)
    cosine = cosine_similarity(context, WORDS, dim=-1)
    best = torch.stack([cosine[b, MASK[b]].max() for b in range(3)])
    torch.testing.assert_close(words.word_score(context, WORDS, gamma2=1e6, mask=MASK), best, atol=1e-5, rtol=0)
    counts, small = MASK.sum(1), 1e-5
    mean = (cosine * MASK).sum(1) / counts
    found = words.word_score(context, WORDS, gamma2=small, mask=MASK) - counts.double().log() / small
    torch.testing.assert_close(found, mean, atol=1e-4, rtol=0)
    for gamma2 in (0.1, 1.0, 5.0):  # between the best word, and log T / gamma2 above it
        above = words.word_score(context, WORDS, gamma2=gamma2, mask=MASK) - best
        assert (above >= 0).all()
        assert (above <= counts.double().log() / gamma2).all()


def test_masked_words_and_words_of_zeros_change_nothing_and_leave_whole_gradients() -> None:
    e, v = WORDS.clone().requires_grad_(), REGIONS.clone().requires_grad_()
    score = partial(words.matching_score, regions=v, gamma1=G1, gamma2=G2, mask=MASK)
    found = score(e)
    torch.testing.assert_close(score(torch.where(MASK[..., None], e, 1e3 * e.flip(2))), found)
    slopes = torch.autograd.grad(score(torch.where(MASK[..., None], e, 0.0)).sum(), (e, v))
    assert all(slope.isfinite().all() for slope in slopes)
    assert not slopes[0][~MASK].any()
    assert slopes[0][MASK].all()
    (slope,) = torch.autograd.grad(score(e).sum(), e)
    assert not slope[~MASK].any(), "nor where padding holds numbers"
    assert torch.autograd.gradcheck(lambda e, v: words.matching_score(e, v, gamma1=G1, gamma2=G2, mask=MASK), (e, v))
    zero = torch.zeros(1, 2, 4, dtype=torch.float64, requires_grad=True)
    words.matching_score(zero, v, gamma1=G1, gamma2=G2).sum().backward()
    assert zero.grad.isfinite().all()


# The loss of a batch.

SCORES = torch.randn(5, 5, generator=DRAW, dtype=torch.float64)


def lost(function: Callable[[Tensor], Tensor]) -> bool:
    total = 0.0
    for i in range(5):
        total -= Categorical(logits=G3 * SCORES[i]).log_prob(torch.tensor(i)).item()
        total -= Categorical(logits=G3 * SCORES[:, i]).log_prob(torch.tensor(i)).item()
    return close(function(SCORES), total / 5)


def test_the_matching_loss_equals_its_definition_and_wrong_variants_do_not() -> None:
    assert lost(partial(words.matching_loss, gamma3=G3))
    for wrong in (
        lambda s: symmetric_loss(G3 * s),  # the mean of both
        lambda s: 5 * words.matching_loss(s, gamma3=G3),  # summed over the batch
        lambda s: words.matching_loss(s, gamma3=1.0),
        lambda s: words.matching_loss(s, gamma3=1 / G3),
        lambda s: -2 * (G3 * s).log_softmax(1).diagonal().mean(),  # one direction twice
        lambda s: -2 * (G3 * s).log_softmax(0).diagonal().mean(),
        lambda s: -words.matching_loss(s, gamma3=G3),
        lambda s: -2 * (G3 * s).flatten().log_softmax(0).view_as(s).diagonal().mean(),  # one softmax for all
    ):
        assert not lost(wrong)


def test_captions_that_stand_in_the_batch_twice_are_no_wrong_answers() -> None:
    same = torch.eye(5).bool()
    same[1, 3] = same[3, 1] = True
    expected = 0.0
    for i in range(5):
        there = [j for j in range(5) if j == i or not same[i, j]]
        for row in (SCORES[i], SCORES[:, i]):
            expected -= math.log(math.exp(G3 * row[i]) / sum(math.exp(G3 * row[j]) for j in there)) / 5
    leaf = SCORES.clone().requires_grad_()
    found = words.matching_loss(leaf, gamma3=G3, same=same)
    assert close(found.detach(), expected)
    found.backward()
    assert leaf.grad.isfinite().all()
    assert leaf.grad[1, 3] == leaf.grad[3, 1] == 0
    assert not close(words.matching_loss(SCORES, gamma3=G3), expected)


def test_wrong_arguments_are_named() -> None:
    for wrong, kind, says in (
        (lambda: right(WORDS.long(), REGIONS), TypeError, "words must be floating point"),
        (lambda: right(WORDS, REGIONS[..., :3]), ValueError, "of one space"),
        (lambda: words.region_context(WORDS, REGIONS, gamma1=-1.0), ValueError, "gamma1"),
        (lambda: right(WORDS, REGIONS, mask=MASK.long()), ValueError, r"mask must be bool \(3, 5\)"),
        (lambda: right(WORDS, REGIONS, mask=MASK[:2]), ValueError, r"mask must be bool \(3, 5\)"),
        (lambda: words.word_score(WORDS, WORDS, gamma2=0.0), ValueError, "gamma2"),
        (lambda: words.word_score(WORDS[:, :4], WORDS, gamma2=1.0), ValueError, "context and words"),
        (lambda: words.word_score(WORDS, WORDS, gamma2=1.0, mask=MASK & False), ValueError, "must have a word"),
        (lambda: words.matching_score(WORDS[0], REGIONS, gamma1=1.0, gamma2=1.0), ValueError, "words must be"),
        (lambda: words.matching_score(WORDS, REGIONS[0], gamma1=1.0, gamma2=1.0), ValueError, "regions must be"),
        (lambda: words.matching_loss(SCORES[:3], gamma3=1.0), ValueError, "scores must be"),
        (lambda: words.matching_loss(SCORES, gamma3=1.0, same=MASK), ValueError, "same"),
    ):
        with pytest.raises(kind, match=says):
            wrong()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_scores_of_half_precision_vectors_are_in_float32(dtype: torch.dtype) -> None:
    e, v = WORDS.to(dtype), REGIONS.to(dtype)
    found = words.matching_score(e, v, gamma1=G1, gamma2=G2, mask=MASK)
    assert found.dtype == torch.float32
    exact = words.matching_score(e.double(), v.double(), gamma1=G1, gamma2=G2, mask=MASK)
    torch.testing.assert_close(found.double(), exact, atol=1e-5, rtol=0)
