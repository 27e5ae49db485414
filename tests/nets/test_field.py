"""The field of view against finite changes of the input, and networks whose view is known."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from minigen.nets.field import field_of_view, positive
from minigen.nets.pixelcnn import GatedPixelCNN, MaskedConv2d

pytestmark = pytest.mark.usefixtures("float64")


def test_rows_are_outputs_and_columns_inputs() -> None:
    """A convolution that looks one pixel to the left, and one row down."""
    conv = nn.Conv2d(2, 3, 3, padding=1, bias=False)
    with torch.no_grad():
        conv.weight.zero_()
        conv.weight[:, :, 1, 0] = conv.weight[:, :, 2, 1] = 1.0
    seen = field_of_view(lambda x: conv(x.double().expand(-1, 2, -1, -1)), conv, torch.rand(1, 2, 4, 5))
    i, j = torch.arange(20) // 5, torch.arange(20) % 5
    left = (i[:, None] == i) & (j[:, None] - 1 == j)
    below = (i[:, None] + 1 == i) & (j[:, None] == j)
    assert torch.equal(seen, left | below)


def test_it_is_what_a_change_of_one_pixel_moves() -> None:
    """A network of two inputs that are the same image, and one that is no tensor."""
    net = GatedPixelCNN(2, width=6, layers=3)
    x = torch.randint(2, (1, 1, 5, 6))
    changed = ((x.flatten() + torch.eye(30).long()) % 2).view(30, 1, 5, 6)
    moved = (net(changed) - net(x)).abs().sum(1).flatten(1).T > 1e-12
    assert torch.equal(field_of_view(net, net.layers[0], torch.rand(1, 2, 5, 6)), moved)


def test_logits_of_opposite_signs_do_not_hide_each_other() -> None:
    conv = nn.Conv2d(1, 2, 1, bias=False)
    with torch.no_grad():
        conv.weight.copy_(torch.tensor([1.0, -1.0]).view(2, 1, 1, 1))
    seen = field_of_view(lambda x: conv(x.double()), conv, torch.rand(1, 1, 2, 3))
    assert torch.equal(seen, torch.eye(6, dtype=torch.bool))


def test_the_hook_is_gone_afterwards() -> None:
    conv = MaskedConv2d(1, 1, 3, mask="A")
    x = torch.rand(1, 1, 3, 3)
    before = conv(x)
    field_of_view(lambda levels: conv(levels.double()), conv, torch.rand(1, 1, 3, 3))
    assert torch.equal(conv(x), before)


def test_positive_weights_are_those_of_the_network() -> None:
    conv = MaskedConv2d(1, 2, 3, mask="B")
    before = [parameter.detach().clone() for parameter in conv.parameters()]
    assert positive(conv) is conv
    for parameter, old in zip(conv.parameters(), before, strict=True):
        assert torch.equal(parameter, old.abs())
    assert any((old < 0).any() for old in before)
