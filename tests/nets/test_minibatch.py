"""Statistics of a batch and packs against loops and closed forms."""

from __future__ import annotations

import math

import pytest
import torch

from minigen.nets.minibatch import MinibatchDiscrimination, MinibatchStd, Packed, closeness, minibatch_std
from minigen.nets.mlp import MLPDiscriminator


def test_closeness_equals_a_loop_and_wrong_variants_do_not() -> None:
    rows = torch.randn(5, 3, 2, generator=torch.Generator().manual_seed(0)).double()
    expected = torch.zeros(5, 3).double()
    for i in range(5):
        for j in range(5):
            if i != j:
                expected[i] += torch.exp(-(rows[i] - rows[j]).abs().sum(1))
    assert torch.allclose(closeness(rows), expected, atol=1e-12)
    difference = rows[:, None] - rows[None]
    for wrong in (
        closeness(rows) + 1,  # itself counted
        torch.exp(-difference.norm(dim=3)).sum(1) - 1,  # another norm
        torch.exp(-difference.abs().sum(3)).mean(1),
        torch.exp(-difference.abs().sum((2, 3)))[..., None].sum(1).expand(5, 3) - 1,  # kernels mixed
    ):
        assert not torch.allclose(wrong, expected, atol=1e-3)


def test_minibatch_discrimination_appends_what_tells_copies_from_samples() -> None:
    torch.manual_seed(0)
    layer = MinibatchDiscrimination(4, kernels=6, dims=3)
    copies, varied = torch.ones(8, 4), torch.randn(8, 4) * 5
    assert layer(varied).shape == (8, 10)
    assert torch.equal(layer(varied)[:, :4], varied)
    assert torch.allclose(layer(copies)[:, 4:], torch.full((8, 6), 7.0), atol=1e-5)
    assert layer(varied)[:, 4:].mean() < 3
    with pytest.raises(ValueError, match=r"features must be \(B, 4\)"):
        layer(torch.ones(8, 5))


def test_minibatch_std_by_hand_and_its_gradient_at_copies() -> None:
    x = torch.tensor([[[0.0, 1.0]], [[4.0, 1.0]]])
    assert minibatch_std(x).item() == pytest.approx((2.0 + 0.0) / 2)
    copies = torch.ones(4, 3, requires_grad=True)
    minibatch_std(copies).backward()
    assert torch.equal(copies.grad, torch.zeros(4, 3))
    y = torch.randn(6, 2, 3, generator=torch.Generator().manual_seed(0))
    loop = sum(math.sqrt(sum((v - c.mean()) ** 2 for v in c) / 6) for c in y.flatten(1).T) / 6
    assert minibatch_std(y).item() == pytest.approx(float(loop), rel=1e-5)


def test_the_layer_adds_one_number_to_every_place_and_sees_copies() -> None:
    x = torch.randn(6, 2, 4, 5, generator=torch.Generator().manual_seed(0))
    y = MinibatchStd()(x)
    assert y.shape == (6, 3, 4, 5)
    assert torch.equal(y[:, :2], x)
    assert torch.equal(y[:, 2], minibatch_std(x).expand(6, 4, 5))
    assert (MinibatchStd()(x[:1].expand(6, -1, -1, -1))[:, 2] == 0).all()
    assert not torch.isclose(minibatch_std(x), x.std(correction=0), atol=1e-3)  # over everything at once
    assert not torch.isclose(minibatch_std(x), x.flatten(1).std(1, correction=0).mean(), atol=1e-3)  # of each sample
    with pytest.raises(ValueError, match=r"features must be \(B, F, h, w\)"):
        MinibatchStd()(x[0])


def test_packs_hold_neighbours_and_nothing_else() -> None:
    network = MLPDiscriminator((6,), hidden=(8,))
    packed = Packed(network, 3)
    x = torch.randn(12, 2)
    logits = packed(x)
    assert logits.shape == (4,)
    assert torch.equal(logits[1], network(x[3:6].flatten()[None])[0])
    images = torch.randn(4, 1, 2, 2)
    seen = Packed(MLPDiscriminator((2, 2, 2)), 2)(images)
    assert seen.shape == (2,)
    with pytest.raises(ValueError, match="multiple of pack = 3"):
        packed(torch.randn(10, 2))
