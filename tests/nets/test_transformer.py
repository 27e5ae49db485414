"""The blocks of transformers against PyTorch's own layer, and against their formulas with random weights."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from minigen.nets.conditioning import Cond
from minigen.nets.transformer import ModulatedBlock, TransformerBlock

pytestmark = pytest.mark.usefixtures("float64")


def random(net: nn.Module) -> nn.Module:
    """The network with every parameter at random, those too that begin as 0 or 1."""
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.4)
    return net


@pytest.mark.parametrize("causal", [False, True])
def test_a_block_is_pytorchs_encoder_layer(causal: bool) -> None:
    block, x = random(TransformerBlock(12, 3, causal=causal, bias=True)), 2 * torch.randn(2, 6, 12)
    layer = nn.TransformerEncoderLayer(12, 3, 48, 0.0, functional.gelu, batch_first=True, norm_first=True)
    attention, up, down = block.attention, block.mlp[0], block.mlp[2]
    pairs = {
        "self_attn.in_proj_weight": torch.cat([attention.query.weight, attention.key_value.weight]),
        "self_attn.in_proj_bias": torch.cat([attention.query.bias, attention.key_value.bias]),
        "self_attn.out_proj.weight": attention.out.weight,
        "self_attn.out_proj.bias": attention.out.bias,
        "linear1.weight": up.weight,
        "linear1.bias": up.bias,
        "linear2.weight": down.weight,
        "linear2.bias": down.bias,
        "norm1.weight": block.norm_attention.weight,
        "norm1.bias": block.norm_attention.bias,
        "norm2.weight": block.norm_mlp.weight,
        "norm2.bias": block.norm_mlp.bias,
    }
    layer.load_state_dict(pairs)
    hidden = torch.ones(6, 6, dtype=torch.bool).triu(1) if causal else None
    torch.testing.assert_close(block(x), layer(x, src_mask=hidden), atol=1e-12, rtol=0)
    if not causal:
        there = torch.tensor([[True, True, False, True, True, False], [True] * 6])
        torch.testing.assert_close(block(x, there), layer(x, src_key_padding_mask=~there), atol=1e-12, rtol=0)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_a_cached_pass_of_a_block_gives_the_numbers_of_the_whole(groups: int) -> None:
    block, x = random(TransformerBlock(12, 4, groups=groups, causal=True, bias=True)), torch.randn(3, 5, 12)
    whole, cache = block(x), block.init_cache(3, 5)
    for t in range(5):
        torch.testing.assert_close(cache.step(x[:, t], t).detach(), whole[:, t].detach(), atol=1e-12, rtol=0)
    with pytest.raises(ValueError, match="causal=True"):
        TransformerBlock(12, 4).init_cache(3, 5)


MASK = torch.tensor([[True, True, False], [False, True, True]])


def modulated(block: ModulatedBlock, x: Tensor, cond: Cond, **wrong: bool) -> Tensor:
    """Peebles and Xie 2023, figure 3, with words after the places; or a misprint of it."""

    def normal(h: Tensor) -> Tensor:
        return (h - h.mean(-1, keepdim=True)) / (h.var(-1, keepdim=True, correction=0) + 1e-5).sqrt()

    rows = (cond.embedding @ block.modulation.weight.mT + block.modulation.bias)[:, None]  # (B, 1, 6 width)
    shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = rows.split(x.shape[2], dim=2)
    if wrong.get("one gate"):
        gate_2 = gate_1

    def words(h: Tensor) -> Tensor:
        return h + block.words(h if wrong.get("words on raw tokens") else normal(h), cond.context, cond.mask)

    h = words(x) if wrong.get("words first") else x
    h = h + gate_1 * block.places(normal(h) * (1 + scale_1) + shift_1)
    h = h if wrong.get("words first") else words(h)
    return h + gate_2 * block.mlp(normal(h) * (1 + scale_2) + shift_2)


def test_a_modulated_block_is_its_formula_and_its_misprints_are_told_apart() -> None:
    block, x = random(ModulatedBlock(12, 3, context_dim=5)), 1 + 2 * torch.randn(2, 6, 12)
    cond = Cond(torch.randn(2, 12), torch.randn(2, 3, 5), MASK)
    found = block(x, cond)
    torch.testing.assert_close(found, modulated(block, x, cond), atol=1e-11, rtol=0)
    for name in ("one gate", "words first", "words on raw tokens"):
        assert (found - modulated(block, x, cond, **{name: True})).abs().max() > 1e-2, name


def test_a_modulated_block_begins_as_the_identity() -> None:
    block, x = ModulatedBlock(12, 3, context_dim=5), torch.randn(2, 6, 12)
    assert torch.equal(block(x, Cond(torch.randn(2, 12), torch.randn(2, 3, 5), None)), x)


def test_its_small_network_has_the_papers_gelu() -> None:
    """By tanh, as in the papers' own code; the plain block has the exact one. They differ by 1e-3, not by rounding."""
    x = torch.randn(50, 8)
    for block, approximate in ((TransformerBlock(8, 2), "none"), (ModulatedBlock(8, 2), "tanh")):
        up, down = block.mlp[0], block.mlp[2]
        assert up.out_features == 32
        torch.testing.assert_close(block.mlp(x), down(functional.gelu(up(x), approximate=approximate)))


def test_gradients_reach_every_part_of_a_block() -> None:
    cond = Cond(torch.randn(2, 12), torch.randn(2, 3, 5), MASK)
    plain, block = random(TransformerBlock(12, 3)), random(ModulatedBlock(12, 3, context_dim=5))
    (plain(torch.randn(2, 6, 12)).pow(3).sum() + block(torch.randn(2, 6, 12), cond).pow(3).sum()).backward()
    for name, parameter in itertools.chain(plain.named_parameters(), block.named_parameters()):
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name
