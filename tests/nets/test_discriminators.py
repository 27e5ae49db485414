"""Discriminators and generators with a label: what each form hears, by hand and by Jacobian, and what it refuses."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from minigen.nets import (
    ConditionalNorm,
    ConvDiscriminator,
    DenseDiscriminator,
    DenseGenerator,
    Discriminator,
    LabelledGenerator,
)
from minigen.nets.discriminators import labels

SHAPES = [(3, 8, 8), (1, 8, 8), (3, 12, 12), (3, 16, 16), (1, 28, 28), (3, 32, 32)]
WAYS = ["projection", "concatenation", "auxiliary"]

pytestmark = pytest.mark.usefixtures("float64")


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_of_every_form(shape: tuple[int, int, int]) -> None:
    x, c = torch.randn(2, *shape), torch.tensor([1, 4])
    for way in WAYS:
        net = ConvDiscriminator(shape, width=4, features=8, label_dim=5, condition=way)
        assert (net(x) if way == "auxiliary" else net(x, c)).shape == (2,)
    assert [t.shape for t in net.judge(x)] == [(2,), (2, 5)]
    assert ConvDiscriminator(shape, width=4)(x).shape == (2,)
    for way in ("concatenation", "normalisation"):
        images = LabelledGenerator(6, shape, width=4, label_dim=5, condition=way)(100 * torch.randn(2, 6), c)
        assert images.shape == (2, *shape)
        assert images.abs().max() <= 1
    assert LabelledGenerator(6, shape, width=4)(torch.randn(2, 6)).shape == (2, *shape)
    assert DenseGenerator(6, shape, label_dim=5)(torch.randn(2, 6), c).shape == (2, *shape)
    assert DenseDiscriminator(shape, label_dim=5)(x, c).shape == (2,)


def projection(net: Discriminator, x: Tensor, c: Tensor) -> Tensor:
    """The formula by a loop over images."""
    phi, rows = net.trunk(x), []
    for i in range(len(x)):
        hot = torch.zeros(net.label_dim)
        hot[c[i]] = math.sqrt(net.label_dim)
        vector = net.label.weight @ hot + net.label.bias
        rows.append(net.head.weight[0] @ phi[i] + net.head.bias[0] + vector @ phi[i] / math.sqrt(len(phi[i])))
    return torch.stack(rows)


def test_projection_equals_the_formula_and_wrong_variants_do_not() -> None:
    net = ConvDiscriminator((3, 8, 8), width=4, features=8, label_dim=5)
    nn.init.normal_(net.label.bias)
    x, c = torch.randn(6, 3, 8, 8), torch.tensor([0, 1, 2, 3, 4, 1])
    right = net(x, c)
    torch.testing.assert_close(right, projection(net, x, c))
    phi = net.trunk(x)
    vectors = net.label(labels(c, 6, 5, x.dtype))
    head, inner = net.head(phi)[:, 0], (vectors * phi).sum(1)
    for wrong in (
        head + inner,  # not divided by sqrt(features)
        head + inner / phi.shape[1],  # a mean
        inner / math.sqrt(phi.shape[1]),  # no part without the label
        head + vectors.sum(1),  # added, not multiplied
        head - inner / math.sqrt(phi.shape[1]),
        projection(net, x, (c + 1) % 5),
    ):
        assert (wrong - right).abs().max() > 1e-3


def test_the_label_moves_the_slope_of_a_projection_and_of_a_concatenation() -> None:
    """What reaches the generator is the gradient by the image: it must depend on the label, other than in (4.1)."""
    x = torch.randn(3, 3, 8, 8, requires_grad=True)
    for way in WAYS[:2]:
        net = ConvDiscriminator((3, 8, 8), width=4, label_dim=5, condition=way)
        slopes = [torch.autograd.grad(net(x, torch.full((3,), c)).sum(), x)[0] for c in (0, 1)]
        assert (slopes[0] - slopes[1]).abs().max() > 1e-4


def test_a_concatenated_label_is_constant_over_places() -> None:
    net = ConvDiscriminator((3, 8, 8), width=4, label_dim=2, condition="concatenation")
    seen: list[Tensor] = []
    net.trunk.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    net(torch.randn(2, 3, 8, 8), torch.tensor([0, 1]))
    told = seen[0][:, 3:]
    expected = math.sqrt(2) * torch.eye(2)[:, :, None, None].expand(2, 2, 8, 8)
    torch.testing.assert_close(told, expected)


def test_images_of_a_batch_do_not_mix() -> None:
    x, c = torch.randn(4, 3, 8, 8), torch.tensor([0, 1, 2, 0])
    z = torch.randn(4, 6)
    made = LabelledGenerator(6, (3, 8, 8), width=4, label_dim=3, condition="normalisation")
    nn.init.normal_(made.norms[0].affine.weight)
    for net, first in ((ConvDiscriminator((3, 8, 8), width=4, label_dim=3), x), (made, z)):
        torch.testing.assert_close(net(first, c)[:1], net(first[:1], c[:1]))


@pytest.mark.parametrize("condition", ["projection", "concatenation", "auxiliary"])
def test_details_and_the_spread_of_a_batch_join_a_discriminator(condition) -> None:
    settings = {"width": 4, "features": 8, "label_dim": 3, "condition": condition}
    x, label = torch.randn(5, 3, 12, 8), torch.tensor([0, 1, 2, 0, -1])
    seen = () if condition == "auxiliary" else (label,)
    plain, net = (ConvDiscriminator((3, 12, 8), detail=d, **settings) for d in (False, True))
    assert net(x, *seen).shape == plain(x, *seen).shape == (5,)
    sizes = [tuple(layer.weight.shape[:2]) for layer in net.trunk if isinstance(layer, torch.nn.Conv2d)]
    first = 6 if condition == "concatenation" else 3
    assert sizes == [(4, first), (8, 4), (8, 8)]
    torch.testing.assert_close(net(x[:2], *(c[:2] for c in seen)), net(x, *seen)[:2])
    mixing = ConvDiscriminator((3, 12, 8), detail=True, minibatch=True, **settings)
    assert not torch.allclose(mixing(x[:2], *(c[:2] for c in seen)), mixing(x, *seen)[:2], atol=1e-4)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_conditional_normalisation_by_hand(groups: int) -> None:
    norm = ConditionalNorm(4, 3, groups=groups)
    h, c = 3 + 2 * torch.randn(5, 4, 6, 6), torch.randn(5, 3)
    torch.testing.assert_close(norm(h, c), nn.functional.group_norm(h, groups), msg="the label says nothing at first")
    nn.init.normal_(norm.affine.weight)
    parts = h.view(5, groups, -1)
    mean, var = parts.mean(2, keepdim=True), parts.var(2, keepdim=True, correction=0)
    normal = ((parts - mean) / (var + 1e-5).sqrt()).view_as(h)
    gamma, beta = (c @ norm.affine.weight.mT).chunk(2, dim=1)
    right = (1 + gamma)[:, :, None, None] * normal + beta[:, :, None, None]
    found = norm(h, c)
    torch.testing.assert_close(found, right)
    g, b = gamma[:, :, None, None], beta[:, :, None, None]
    batch = (h - h.mean((0, 2, 3), keepdim=True)) / (h.var((0, 2, 3), keepdim=True, correction=0) + 1e-5).sqrt()
    for wrong in (g * normal + b, (1 + b) * normal + g, (1 + g) * h + b, (1 + g) * (normal + b), (1 + g) * batch + b):
        assert (found - wrong).abs().max() > 1e-2


def test_labels_of_classes_have_mean_square_one_and_numbers_stay() -> None:
    hot = labels(torch.tensor([2, -1]), 2, 4)
    torch.testing.assert_close(hot, torch.tensor([[0.0, 0, 2, 0], [0, 0, 0, 0]]).float())
    numbers = torch.randn(2, 4)
    assert labels(numbers, 2, 4, numbers.dtype).equal(numbers)


def test_a_network_begins_at_the_scale_of_its_input() -> None:
    torch.manual_seed(0)
    c = torch.arange(512) % 5
    for way in WAYS[:2]:
        logits = ConvDiscriminator((3, 16, 16), label_dim=5, condition=way)(torch.randn(512, 3, 16, 16), c)
        assert 0.2 < logits.std() < 3
    for way in ("concatenation", "normalisation"):
        images = LabelledGenerator(32, (3, 16, 16), label_dim=5, condition=way)(torch.randn(512, 32), c)
        assert 0.2 < images.std() < 0.8


def test_what_is_refused() -> None:
    net = DenseDiscriminator((2,), label_dim=3)
    x = torch.zeros(4, 2)
    with pytest.raises(ValueError, match=r"samples must be \(B, 2\); got \(4, 3\)"):
        net(torch.zeros(4, 3), torch.zeros(4, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"label must be \(4, 3\), or classes"):
        net(x)
    with pytest.raises(ValueError, match="label"):
        net(x, torch.tensor([0, 1, 2, 3]))
    with pytest.raises(ValueError, match="takes no label"):
        DenseDiscriminator((2,))(x, torch.zeros(4, dtype=torch.int64))
    with pytest.raises(ValueError, match="takes no label"):
        DenseDiscriminator((2,), label_dim=3, condition="auxiliary")(x, torch.zeros(4, dtype=torch.int64))
    with pytest.raises(ValueError, match='condition="auxiliary"'):
        net.judge(x)
    with pytest.raises(ValueError, match="condition must be one of projection"):
        DenseDiscriminator((2,), label_dim=3, condition="attention")
    with pytest.raises(ValueError, match="condition must be one of concatenation, normalisation"):
        LabelledGenerator(2, (3, 8, 8), label_dim=3, condition="projection")
    with pytest.raises(ValueError, match="for no label"):
        LabelledGenerator(2, (3, 8, 8))(x, torch.zeros(4, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"latent must be \(B, 3\)"):
        DenseGenerator(3, (2,), label_dim=3)(x, torch.zeros(4, dtype=torch.int64))
    with pytest.raises(ValueError, match="groups must divide"):
        ConditionalNorm(4, 3, groups=3)
    with pytest.raises(ValueError, match="sides must halve"):
        ConvDiscriminator((3, 9, 9))


def test_a_pair_of_logits_is_without_the_label_and_with_it() -> None:
    net = ConvDiscriminator((3, 8, 8), width=4, features=8, label_dim=5)
    nn.init.normal_(net.label.bias)
    x, c = torch.randn(6, 3, 8, 8), torch.tensor([0, 1, 2, 3, 4, 1])
    alone, paired = net.pair(x, c).unbind(1)
    torch.testing.assert_close(alone, net.head(net.trunk(x))[:, 0])
    torch.testing.assert_close(paired, net(x, c))
    torch.testing.assert_close(net.pair(x, c.roll(1))[:, 0], alone)
    assert not torch.allclose(net.pair(x, c.roll(1))[:, 1], paired)
    for way in ("concatenation", "auxiliary"):
        with pytest.raises(ValueError, match='condition="projection" judges'):
            ConvDiscriminator((3, 8, 8), label_dim=5, condition=way).pair(x, c)
