"""Attention over tokens against PyTorch's own, masks that hide exactly, and the features of levels and places."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from minigen.nets.attention import Attention, modulate, record_attention
from minigen.nets.embeddings import sinusoidal, sinusoidal_2d

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
    net, x, words = Attention(12, 3, context_dim=5), 3 * torch.randn(2, 7, 12), torch.randn(2, 5, 5)
    attend = None if mask is None else mask[:, None, None]
    expected = joined(net, scaled_dot_product_attention(*parts(net, x, words), attn_mask=attend))
    torch.testing.assert_close(net(x, words, mask), expected, atol=1e-13, rtol=0)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("heads", "groups"), [(1, 1), (4, 1), (4, 2), (4, 4)])
def test_attention_with_shared_keys_and_biases_is_its_formula(heads: int, groups: int, causal: bool) -> None:
    """Head by head and place by place, each head with the keys and values of its group."""
    net, x, d = Attention(12, heads, groups=groups, causal=causal, bias=True), 3 * torch.randn(2, 5, 12), 12 // heads
    q, kv = net.query(x), net.key_value(x)
    rows = torch.zeros(2, 5, 12)
    for head in range(heads):
        own, shared = slice(head * d, (head + 1) * d), head // (heads // groups)
        k, v = (kv[..., (part * groups + shared) * d :][..., :d] for part in (0, 1))
        for t in range(5):
            end = t + 1 if causal else 5
            scores = (q[:, t, None, own] * k[:, :end]).sum(2) / d**0.5  # (B, S)
            rows[:, t, own] = (scores.softmax(1)[..., None] * v[:, :end]).sum(1)
    torch.testing.assert_close(net(x), net.out(rows), atol=1e-12, rtol=0)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_a_cached_pass_of_attention_gives_the_numbers_of_the_whole(groups: int, bias: bool) -> None:
    net, x = Attention(12, 4, groups=groups, causal=True, bias=bias), 3 * torch.randn(2, 5, 12)
    whole, cache = net(x), net.init_cache(2, 5)
    for t in range(5):
        torch.testing.assert_close(cache.step(x[:, t], t), whole[:, t].detach(), atol=1e-12, rtol=0)


def test_words_that_hardly_match_are_still_before_those_that_are_masked() -> None:
    net, x, words = Attention(12, 3, context_dim=5), -1e4 * torch.ones(2, 7, 12), torch.rand(2, 5, 5)
    nn.init.ones_(net.query.weight)
    nn.init.ones_(net.key_value.weight[:12].data)
    q, k, v = parts(net, x, words)
    assert (q @ k.mT).max() < -1e4
    expected = joined(net, scaled_dot_product_attention(q, k, v, attn_mask=SOME[:, None, None]))
    torch.testing.assert_close(net(x, words, SOME), expected, atol=1e-12, rtol=0)


def test_wrong_attentions_are_told_apart() -> None:
    """What the two tests above would miss, they would miss here: each misprint moves the result by far more."""
    net, x, words = Attention(12, 3, context_dim=5), 3 * torch.randn(2, 7, 12), torch.randn(2, 5, 5)
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
    net, x, words = Attention(12, 3, context_dim=5), torch.randn(2, 7, 12), torch.randn(2, 5, 5)
    others = torch.where(SOME[..., None], words, 1e3 * torch.randn(2, 5, 5)).requires_grad_()
    found = net(x, others, SOME)
    assert torch.equal(found, net(x, words, SOME))
    (slope,) = torch.autograd.grad(found.square().sum(), others)
    assert (slope[~SOME] == 0).all()
    assert (slope[SOME].abs().sum(-1) > 0).all()


def test_padding_changes_nothing() -> None:
    net, x, words = Attention(12, 3, context_dim=5), torch.randn(2, 7, 12), torch.randn(2, 5, 5)
    longer = torch.cat([words, torch.randn(2, 4, 5)], dim=1)
    mask = torch.cat([SOME, torch.zeros(2, 4, dtype=torch.bool)], dim=1)
    torch.testing.assert_close(net(x, longer, mask), net(x, words, SOME), atol=1e-14, rtol=0)
    all_there = torch.ones(2, 5, dtype=torch.bool)
    torch.testing.assert_close(net(x, words, all_there), net(x, words), atol=0, rtol=0)


def test_a_sentence_without_words_gives_zeros_and_finite_slopes() -> None:
    net, x, words = Attention(12, 3, context_dim=5), torch.randn(2, 7, 12), torch.randn(2, 5, 5, requires_grad=True)
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
    net, words, order = Attention(12, 3, context_dim=5), torch.randn(2, 5, 5), torch.randperm(5)
    torch.testing.assert_close(net(x, words[:, order], SOME[:, order]), net(x, words, SOME), atol=1e-14, rtol=0)


def test_what_is_watched_are_the_weights() -> None:
    net = nn.ModuleDict({"places": Attention(12, 3), "words": Attention(12, 3, context_dim=5)})
    x, words = torch.randn(2, 7, 12), torch.randn(2, 5, 5)
    with record_attention(net) as seen:
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
    with pytest.raises(ZeroDivisionError), record_attention(net) as seen:
        raise ZeroDivisionError
    net["places"](x)
    assert seen == {}


def test_what_a_layer_is_not_for_is_refused() -> None:
    with pytest.raises(ValueError, match="multiple of heads, heads of groups; got 12, 5 and 5"):
        Attention(12, 5)
    for net, words in ((Attention(12, 3), torch.randn(1, 2, 5)), (Attention(12, 3, context_dim=5), None)):
        with pytest.raises(ValueError, match="made with context"):
            net(torch.randn(1, 4, 12), words)
    with pytest.raises(ValueError, match="heads of groups; got 12, 4 and 3"):
        Attention(12, 4, groups=3)
    with pytest.raises(ValueError, match="causal attention takes no context_dim"):
        Attention(12, 4, causal=True, context_dim=5)
    with pytest.raises(ValueError, match="causal attention takes no mask"):
        Attention(12, 4, causal=True)(torch.randn(1, 4, 12), mask=torch.ones(1, 4, dtype=torch.bool))
    with pytest.raises(ValueError, match="causal=True"):
        Attention(12, 4).init_cache(1, 4)


def test_every_level_has_its_own_features() -> None:
    """Levels of -20..20 are told apart, near ones by little and far ones never less than near ones."""
    levels = torch.arange(-20, 20.01, 0.1)
    features = sinusoidal(levels, 64)
    assert features.shape == (401, 64)
    torch.testing.assert_close(features.square().sum(1), torch.full((401,), 32.0))
    gaps = torch.cdist(features, features)
    apart = (levels[:, None] - levels).abs()
    assert gaps[(apart > 0.05) & (apart < 0.15)].min() > 0.5
    assert gaps[(apart > 0.05) & (apart < 0.15)].max() < 1.2, "and neighbours are alike"
    assert gaps[apart > 1.0].min() > 3.0, "far levels are not mistaken for each other"


def test_features_of_a_level_are_sines_of_known_frequencies() -> None:
    levels = torch.tensor([-7.0, 0.0, 0.3, 12.0])
    features = sinusoidal(levels, 6)
    frequencies = torch.tensor([1 / 20, (4 / 20) ** 0.5, 4.0])
    expected = torch.stack([levels[:, None] * f for f in frequencies], dim=1).squeeze(2)
    torch.testing.assert_close(features, torch.cat([expected.sin(), expected.cos()], dim=1))
    assert (sinusoidal(torch.linspace(-20, 20, 99), 8)[:, 0].diff() > 0).all(), "the slowest one is monotone"
    with pytest.raises(ValueError, match="even"):
        sinusoidal(levels, 7)


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (6, 6), (16, 16)])
def test_every_place_of_a_grid_has_its_own_features(size: tuple[int, int]) -> None:
    features = sinusoidal_2d(*size, 16)
    assert features.shape == (size[0] * size[1], 16)
    places = features.view(*size, 16)
    assert (places[:, :1, :8] == places[:, :, :8]).all(), "the first half tells the row"
    assert (places[:1, :, 8:] == places[:, :, 8:]).all(), "the second half the column"
    apart = torch.cdist(features, features) + 9 * torch.eye(len(features))
    assert apart.min() > 0.5
    with pytest.raises(ValueError, match="multiple of 4"):
        sinusoidal_2d(*size, 6)


def test_adaptive_norm_normalises_tokens_then_scales_and_shifts() -> None:
    x, shift, scale = 5 + 3 * torch.randn(2, 7, 64), torch.randn(2, 1, 64), torch.randn(2, 1, 64)
    normal = (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True, correction=0) + 1e-5).sqrt()
    torch.testing.assert_close(modulate(x, shift, scale), normal * (1 + scale) + shift)
    torch.testing.assert_close(modulate(x, torch.zeros(1), torch.zeros(1)), normal)
