"""Attention over tokens against PyTorch's own, masks that hide exactly, and the features of levels and places."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from minigen.nets.attention import FEATURES, Attention, Conditions, embedding, grid, modulated, watch

pytestmark = pytest.mark.usefixtures("float64")

SOME = torch.tensor([[True, True, False, True, False], [False, True, True, True, True]])  # (B, S)
NONE = torch.tensor([[True, True, False, True, False], [False] * 5])


def heads_of(x: Tensor, heads: int) -> Tensor:
    """(B, T, D) to (B, heads, T, D / heads)."""
    return x.view(*x.shape[:2], heads, -1).transpose(1, 2)


def parts(net: Attention, x: Tensor, source: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values of every head, (B, heads, T, D / heads)."""
    width = net.query.in_features
    key, value = source @ net.key_value.weight[:width].mT, source @ net.key_value.weight[width:].mT
    q, k, v = (heads_of(part, net.heads) for part in (x @ net.query.weight.mT, key, value))
    return q, k, v


def joined(net: Attention, attended: Tensor) -> Tensor:
    """What the layer makes of what its heads have found."""
    return attended.transpose(1, 2).flatten(2) @ net.out.weight.mT


@pytest.mark.parametrize("heads", [1, 3])
def test_attention_of_tokens_to_themselves_is_pytorchs(heads: int) -> None:
    net, x = Attention(12, heads), 2 * torch.randn(2, 7, 12)
    expected = joined(net, scaled_dot_product_attention(*parts(net, x, x)))
    torch.testing.assert_close(net(x), expected, atol=1e-13, rtol=0)


@pytest.mark.parametrize("mask", [None, SOME])
def test_attention_to_words_is_pytorchs(mask: Tensor | None) -> None:
    net, x, words = Attention(12, 3, context=5), 3 * torch.randn(2, 7, 12), torch.randn(2, 5, 5)
    attend = None if mask is None else mask[:, None, None]
    expected = joined(net, scaled_dot_product_attention(*parts(net, x, words), attn_mask=attend))
    torch.testing.assert_close(net(x, words, mask), expected, atol=1e-13, rtol=0)


def test_words_that_hardly_match_are_still_before_those_that_are_masked() -> None:
    net, x, words = Attention(12, 3, context=5), -1e4 * torch.ones(2, 7, 12), torch.rand(2, 5, 5)
    nn.init.ones_(net.query.weight)
    nn.init.ones_(net.key_value.weight[:12].data)
    q, k, v = parts(net, x, words)
    assert (q @ k.mT).max() < -1e4
    expected = joined(net, scaled_dot_product_attention(q, k, v, attn_mask=SOME[:, None, None]))
    torch.testing.assert_close(net(x, words, SOME), expected, atol=1e-12, rtol=0)


def test_wrong_attentions_are_told_apart() -> None:
    """What the two tests above would miss, they would miss here: each misprint moves the result by far more."""
    net, x, words = Attention(12, 3, context=5), 3 * torch.randn(2, 7, 12), torch.randn(2, 5, 5)
    q, k, v = parts(net, x, words)
    scores, there = q @ k.mT, SOME[:, None, None]
    scale = (12 / 3) ** -0.5
    low = -math.inf

    def result(weights: Tensor) -> Tensor:
        return joined(net, weights @ v)

    right = result((scale * scores).masked_fill(~there, low).softmax(-1))
    torch.testing.assert_close(net(x, words, SOME), right, atol=1e-13, rtol=0)
    wrong = {
        "softmax over queries": result((scale * scores).masked_fill(~there, low).softmax(-2).nan_to_num()),
        "no scale": result(scores.masked_fill(~there, low).softmax(-1)),
        "scale of all heads": result((12**-0.5 * scores).masked_fill(~there, low).softmax(-1)),
        "scale squared": result((scale**2 * scores).masked_fill(~there, low).softmax(-1)),
        "mask inverted": result((scale * scores).masked_fill(there, low).softmax(-1)),
        "no mask": result((scale * scores).softmax(-1)),
        "masked after softmax": result((scale * scores).softmax(-1) * there),
    }
    for name, found in wrong.items():
        assert (found - right).abs().max() > 1e-2, name


def test_masked_words_have_no_influence() -> None:
    net, x, words = Attention(12, 3, context=5), torch.randn(2, 7, 12), torch.randn(2, 5, 5)
    others = torch.where(SOME[..., None], words, 1e3 * torch.randn(2, 5, 5)).requires_grad_()
    found = net(x, others, SOME)
    assert torch.equal(found, net(x, words, SOME))
    (slope,) = torch.autograd.grad(found.square().sum(), others)
    assert (slope[~SOME] == 0).all()
    assert (slope[SOME].abs().sum(-1) > 0).all()


def test_padding_changes_nothing() -> None:
    net, x, words = Attention(12, 3, context=5), torch.randn(2, 7, 12), torch.randn(2, 5, 5)
    longer = torch.cat([words, torch.randn(2, 4, 5)], dim=1)
    mask = torch.cat([SOME, torch.zeros(2, 4, dtype=torch.bool)], dim=1)
    torch.testing.assert_close(net(x, longer, mask), net(x, words, SOME), atol=1e-14, rtol=0)
    all_there = torch.ones(2, 5, dtype=torch.bool)
    torch.testing.assert_close(net(x, words, all_there), net(x, words), atol=0, rtol=0)


def test_a_sentence_without_words_gives_zeros_and_finite_slopes() -> None:
    net, x, words = Attention(12, 3, context=5), torch.randn(2, 7, 12), torch.randn(2, 5, 5, requires_grad=True)
    found = net(x, words, NONE)
    assert (found[1] == 0).all()
    assert found[0].abs().min() > 0
    (slope,) = torch.autograd.grad(found.square().sum() + found.sum(), words)
    assert slope.isfinite().all()
    assert (slope[1] == 0).all()
    assert (net(x, torch.zeros(2, 5, 5)) == 0).all(), "nor do words of zeros say anything"
    for dtype in (torch.bfloat16, torch.float16):
        assert net.to(dtype)(x.to(dtype), words.detach().to(dtype), NONE).isfinite().all()


def test_order_says_nothing_without_positions() -> None:
    net, x, order = Attention(12, 3), torch.randn(2, 7, 12), torch.randperm(7)
    torch.testing.assert_close(net(x[:, order]), net(x)[:, order], atol=1e-14, rtol=0)
    net, words, order = Attention(12, 3, context=5), torch.randn(2, 5, 5), torch.randperm(5)
    torch.testing.assert_close(net(x, words[:, order], SOME[:, order]), net(x, words, SOME), atol=1e-14, rtol=0)


def test_what_is_watched_are_the_weights() -> None:
    net = nn.ModuleDict({"places": Attention(12, 3), "words": Attention(12, 3, context=5)})
    x, words = torch.randn(2, 7, 12), torch.randn(2, 5, 5)
    with watch(net) as seen:
        net["places"](x)
        found = net["words"](x, words, NONE)
    assert {name: tuple(weights.shape) for name, weights in seen.items()} == {
        "places": (2, 3, 7, 7),
        "words": (2, 3, 7, 5),
    }
    assert not seen["words"].requires_grad
    q, k, v = parts(net["words"], x, words)
    expected = (q @ k.mT / 2).masked_fill(~NONE[:, None, None], -math.inf).softmax(-1).nan_to_num()
    torch.testing.assert_close(seen["words"], expected, atol=1e-14, rtol=0)
    torch.testing.assert_close(joined(net["words"], seen["words"] @ v), found, atol=1e-14, rtol=0)
    torch.testing.assert_close(seen["words"].sum(-1), NONE.any(1).double()[:, None, None].expand(2, 3, 7))
    before = dict(seen)
    net["words"](x + 1, words, NONE)
    assert all(seen[name] is before[name] for name in before), "nothing is watched outside"
    with pytest.raises(ZeroDivisionError), watch(net) as seen:
        raise ZeroDivisionError
    net["places"](x)
    assert seen == {}


def test_what_a_layer_is_not_for_is_refused() -> None:
    with pytest.raises(ValueError, match="multiple of heads; got 12 and 5"):
        Attention(12, 5)
    for net, words in ((Attention(12, 3), torch.randn(1, 2, 5)), (Attention(12, 3, context=5), None)):
        with pytest.raises(ValueError, match="made with context"):
            net(torch.randn(1, 4, 12), words)


def test_every_level_has_its_own_features() -> None:
    """Levels of -20..20 are told apart, near ones by little and far ones never less than near ones."""
    levels = torch.arange(-20, 20.01, 0.1)
    features = embedding(levels, 64)
    assert features.shape == (401, 64)
    torch.testing.assert_close(features.square().sum(1), torch.full((401,), 32.0))
    gaps = torch.cdist(features, features)
    apart = (levels[:, None] - levels).abs()
    assert gaps[(apart > 0.05) & (apart < 0.15)].min() > 0.5
    assert gaps[(apart > 0.05) & (apart < 0.15)].max() < 1.2, "and neighbours are alike"
    assert gaps[apart > 1.0].min() > 3.0, "far levels are not mistaken for each other"


def test_features_of_a_level_are_sines_of_known_frequencies() -> None:
    levels = torch.tensor([-7.0, 0.0, 0.3, 12.0])
    features = embedding(levels, 6)
    frequencies = torch.tensor([1 / 20, (4 / 20) ** 0.5, 4.0])
    expected = torch.stack([levels[:, None] * f for f in frequencies], dim=1).squeeze(2)
    torch.testing.assert_close(features, torch.cat([expected.sin(), expected.cos()], dim=1))
    assert (embedding(torch.linspace(-20, 20, 99), 8)[:, 0].diff() > 0).all(), "the slowest one is monotone"
    with pytest.raises(ValueError, match="even"):
        embedding(levels, 7)


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (6, 6), (16, 16)])
def test_every_place_of_a_grid_has_its_own_features(size: tuple[int, int]) -> None:
    features = grid(*size, 16)
    assert features.shape == (size[0] * size[1], 16)
    places = features.view(*size, 16)
    assert (places[:, :1, :8] == places[:, :, :8]).all(), "the first half tells the row"
    assert (places[:1, :, 8:] == places[:, :, 8:]).all(), "the second half the column"
    apart = torch.cdist(features, features) + 9 * torch.eye(len(features))
    assert apart.min() > 0.5
    with pytest.raises(ValueError, match="multiple of 4"):
        grid(*size, 6)


def test_adaptive_norm_normalises_tokens_then_scales_and_shifts() -> None:
    x, shift, scale = 5 + 3 * torch.randn(2, 7, 64), torch.randn(2, 1, 64), torch.randn(2, 1, 64)
    normal = (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True, correction=0) + 1e-5).sqrt()
    torch.testing.assert_close(modulated(x, shift, scale), normal * (1 + scale) + shift)
    torch.testing.assert_close(modulated(x, torch.zeros(1), torch.zeros(1)), normal)


def test_conditions_take_what_the_network_is_for_and_nothing_else() -> None:
    x, levels, label, words = torch.randn(2, 3, 4, 4), torch.randn(2), torch.randn(2, 7), torch.randn(2, 5, 6)
    plain, labelled = Conditions(16), Conditions(16, label=7)
    worded, both = Conditions(16, context=6), Conditions(16, context=6, label=7)
    for net, context in ((plain, ()), (labelled, (label,)), (worded, (words,)), (both, (label, words, SOME))):
        told = net(x, levels, context)
        assert told.features.shape == (2, 16)
        assert told.words is (words if net.context else None)
        assert told.mask is (SOME if len(context) == 3 else None)
    refused = {
        "log_snr must be": (plain, levels[:1], ()),
        "1 too many": (plain, levels, (label,)),
        "label must be": (labelled, levels, ()),
        r"label must be \(2, 7\)": (labelled, levels, (label[:, :3],)),
        "words must be": (worded, levels, ()),
        r"words must be \(2, T, 6\)": (worded, levels, (label,)),
        "mask must be bool": (worded, levels, (words, SOME.double())),
        r"mask must be bool \(2, 5\)": (worded, levels, (words, SOME[:, :3])),
        "4 tensors, 1 too many": (both, levels, (label, words, SOME, SOME)),
    }
    for message, (net, at, context) in refused.items():
        with pytest.raises(ValueError, match=message):
            net(x, at, context)


def test_level_and_label_are_told_and_a_label_of_zeros_says_nothing() -> None:
    net, x = Conditions(16, label=3), torch.randn(2, 3, 4, 4)
    levels, label = torch.tensor([-3.0, 4.0]), torch.randn(2, 3)
    nothing = net(x, levels, (torch.zeros(2, 3),)).features
    torch.testing.assert_close(nothing, nn.functional.silu(net.level(embedding(levels, FEATURES))))
    assert (net(x, levels, (label,)).features - nothing).abs().amax(1).min() > 1e-2
    assert (nothing[0] - nothing[1]).abs().max() > 1e-2
