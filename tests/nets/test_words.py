"""The networks of chapter 05: attention over an image against loops, what sees what by Jacobian, and how all begins."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from minigen.nets import (
    ConditioningAugmentation,
    RegionEncoder,
    SelfAttention,
    TextEncoder,
    WordGenerator,
    record_attention,
)
from minigen.nets.attention import Attention, attend_places, masked_softmax

pytestmark = pytest.mark.usefixtures("float64")


def opened(width: int = 6, gate: float = 0.7, heads: int = 1) -> SelfAttention:
    block = SelfAttention(width, heads=heads)
    nn.init.constant_(block.gate, gate)
    return block


# The softmax of what is there.


def test_a_masked_softmax_is_the_softmax_of_the_rest_over_any_dimension() -> None:
    scores, mask = 5 * torch.randn(3, 4, 5), torch.rand(3, 4, 1) > 0.4
    mask[0], mask[1] = True, False
    leaf = scores.clone().requires_grad_()
    found = masked_softmax(leaf, mask, dim=1)
    for b in range(3):
        there = mask[b, :, 0]
        torch.testing.assert_close(found[b, there], scores[b, there].softmax(0))
        assert not found[b, ~there].any()
    assert torch.equal(masked_softmax(scores, None, dim=1), scores.softmax(1))
    (slope,) = torch.autograd.grad((found * torch.randn(3, 4, 5)).sum(), leaf)
    assert slope.isfinite().all()
    assert not slope[(~mask).expand_as(slope)].any()


# Attention over the places of an image.


def by_loops(block: SelfAttention, x: Tensor) -> Tensor:
    """Zhang et al. 2019, eqs 1 to 3, with the scale: place by place."""
    net, out = block.attention, torch.zeros_like(x)
    width = x.shape[1]
    to_key, to_value = net.key_value.weight.split(width)
    for b in range(len(x)):
        places = x[b].flatten(1).T  # (N, C)
        for j in range(len(places)):
            scores = torch.stack([(net.query.weight @ places[j]) @ (to_key @ p) for p in places]) / math.sqrt(width)
            weights = scores.exp() / scores.exp().sum()
            taken = sum(w * (to_value @ p) for w, p in zip(weights, places, strict=True))
            out[b].view(width, -1)[:, j] = net.out.weight @ taken
    return x + block.gate * out


def equals(function: Callable[[SelfAttention, Tensor], Tensor]) -> bool:
    torch.manual_seed(0)
    block, x = opened(), 2 * torch.randn(2, 6, 3, 4)
    return torch.allclose(function(block, x), by_loops(block, x), atol=1e-12)


def test_the_block_equals_its_formula_and_wrong_variants_do_not() -> None:
    assert equals(lambda block, x: block(x))
    for wrong in (
        lambda block, x: x + attend_places(block.attention, x),  # no gate
        lambda block, x: block.gate * attend_places(block.attention, x),  # nothing passes by
        lambda block, x: block.gate * x + attend_places(block.attention, x),
        lambda block, x: x + block.gate * attend_places(block.attention, math.sqrt(6) * x) / math.sqrt(6),  # no scale
        lambda block, x: block(x.mT.reshape(x.shape).contiguous()).mT.reshape(x.shape),  # rows for columns
        lambda block, x: x + block.gate * block.attention(x.flatten(2).mT).reshape(x.shape),  # features for places
    ):
        assert not equals(wrong)


def test_a_gate_of_zero_is_the_identity_and_learns_first() -> None:
    block, x = SelfAttention(6), torch.randn(2, 6, 3, 4)
    assert torch.equal(block(x), x)
    block(x).square().sum().backward()
    assert block.gate.grad.abs() > 0
    assert all(not p.grad.any() for p in block.attention.parameters()), "the maps wait until it is open"


def test_attention_knows_no_places_until_they_are_told_apart() -> None:
    block, x = opened(heads=2), torch.randn(2, 6, 3, 4)
    order = torch.randperm(12)
    turned = x.flatten(2)[:, :, order].view(x.shape)
    torch.testing.assert_close(block(turned), block(x).flatten(2)[:, :, order].view(x.shape))
    convolution = nn.Conv2d(6, 6, 3, padding=1)
    assert not torch.allclose(convolution(turned), convolution(x).flatten(2)[:, :, order].view(x.shape))


def test_one_block_reaches_every_place_where_a_convolution_reaches_its_neighbours() -> None:
    x = torch.randn(1, 6, 5, 5, requires_grad=True)
    for net, reached in ((opened(), 25), (nn.Conv2d(6, 6, 3, padding=1), 4)):
        (slope,) = torch.autograd.grad(net(x)[0, :, 0, 0].sum(), x)
        assert (slope[0].abs().sum(0) > 0).sum() == reached


def test_weights_of_the_block_are_recorded() -> None:
    block, x = opened(), torch.randn(2, 6, 3, 4)
    with record_attention(block) as seen:
        block(x)
    assert seen["attention"].shape == (2, 1, 12, 12)
    torch.testing.assert_close(seen["attention"].sum(3), torch.ones(2, 1, 12))


def test_places_take_of_words_what_attention_gives_them_place_by_place() -> None:
    look, h = Attention(6, 2, context_dim=5), torch.randn(2, 6, 3, 4)
    words, mask = torch.randn(2, 4, 5), torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0]]).bool()
    taken = attend_places(look, h, words, mask)
    for r in range(3):
        for c in range(4):
            torch.testing.assert_close(taken[:, :, r, c], look(h[:, None, :, r, c], words, mask)[:, 0])


# Regions.


def test_a_region_sees_its_neighbourhood_and_knows_its_place() -> None:
    net = RegionEncoder((3, 12, 12), width=8)
    x = torch.randn(1, 3, 12, 12, requires_grad=True)
    found = net(x)
    assert found.tokens.shape == (1, 36, 8)
    assert found.pooled.shape == (1, 8)
    (slope,) = torch.autograd.grad(found.tokens[0, 14].sum() + found.tokens[0, 14, 0], x)  # row 2, column 2
    seen = slope[0].abs().sum(0) > 0
    rows, columns = seen.any(1).nonzero().flatten(), seen.any(0).nonzero().flatten()
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (2, 7, 2, 7)
    same = net(torch.zeros(1, 3, 12, 12)).tokens[0]
    torch.testing.assert_close(same[14] - same[15], net.place[0, 14] - net.place[0, 15])
    assert not torch.allclose(same[14], same[15])
    wide = RegionEncoder((3, 12, 12), width=8, blocks=2)
    (slope,) = torch.autograd.grad(wide(x).tokens[0, 14].square().sum(), x)
    assert (slope[0].abs().sum(0) > 0).sum() > seen.sum()


# A condition in place of a sentence.


def test_the_condition_begins_as_the_standard_normal_and_depends_on_the_sentence_afterwards() -> None:
    net, sentence = ConditioningAugmentation(5, 3), torch.randn(4, 5)
    mean, log_std = net(sentence)
    assert mean.shape == log_std.shape == (4, 3)
    assert not mean.any()
    assert not log_std.any()
    nn.init.normal_(net.net.weight)
    mean, log_std = net(sentence)
    torch.testing.assert_close(mean, sentence @ net.net.weight[:3].T)
    torch.testing.assert_close(log_std, sentence @ net.net.weight[3:].T)


# The generator.


def painter(stages: int = 3) -> WordGenerator:
    return WordGenerator(4, (3, 16, 16), word_dim=5, condition=2, stages=stages, width=4)


def test_images_of_every_size_in_range() -> None:
    net = painter()
    images = net(10 * torch.randn(2, 6), torch.randn(2, 3, 5))
    assert [tuple(x.shape) for x in images] == [(2, 3, 4, 4), (2, 3, 8, 8), (2, 3, 16, 16)]
    assert all(x.abs().max() <= 1 for x in images)
    assert len(painter(1)(torch.randn(2, 6), torch.randn(2, 3, 5))) == 1
    assert (net.latent, net.condition) == (6, 2)


def test_words_reach_all_images_but_the_smallest_and_padding_none() -> None:
    net, z = painter(), torch.randn(2, 6)
    words, mask = torch.randn(2, 3, 5), torch.tensor([[1, 1, 0], [1, 1, 1]]).bool()
    first = net(z, words, mask)
    other = words.clone()
    other[0, 2] += 1
    assert all(map(torch.equal, first, net(z, other, mask)))
    other[0, 1] += 1
    changed = net(z, other, mask)
    assert torch.equal(first[0], changed[0])
    for a, b in zip(first[1:], changed[1:], strict=True):
        assert not torch.allclose(a[0], b[0])
        torch.testing.assert_close(a[1], b[1])  # of its own caption alone
    turned = net(z, words.roll(1, 1), mask.roll(1, 1))
    for a, b in zip(first, turned, strict=True):
        torch.testing.assert_close(a, b)  # the order of words is in their vectors or nowhere


def test_features_begin_at_one_size_through_the_stages() -> None:
    torch.manual_seed(0)
    net = WordGenerator(16, (3, 32, 32), word_dim=32, stages=3, width=16)
    words = TextEncoder(9, length=6, width=32)(torch.randint(3, 9, (32, 6))).tokens
    sizes: list[float] = []
    for part in (net.start, *net.stages):
        part.register_forward_hook(lambda _, __, out: sizes.append(out.std().item()))
    images = net(torch.randn(32, net.latent), words)
    assert all(0.4 < size < 2.5 for size in sizes), sizes
    assert all(0.1 < x.std() < 0.9 for x in images)


def test_wrong_arguments_are_named() -> None:
    net = painter()
    for wrong, says in (
        (lambda: WordGenerator(4, (3, 12, 12), word_dim=5, stages=3), "multiples of 8"),
        (lambda: WordGenerator(4, (12, 12), word_dim=5), r"shape must be \(C, H, W\)"),
        (lambda: WordGenerator(4, (3, 12, 12), word_dim=5, stages=0), "stages"),
        (lambda: net(torch.randn(2, 4), torch.randn(2, 3, 5)), r"latent must be \(B, 6\)"),
        (lambda: RegionEncoder((3, 9, 9)), "multiples of 2"),
    ):
        with pytest.raises(ValueError, match=says):
            wrong()
