"""The diffusion transformer around its blocks: tokens, places, and the last modulation, against its formula."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from minigen.nets.dit import DiT
from minigen.nets.embeddings import FEATURES, sinusoidal

pytestmark = pytest.mark.usefixtures("float64")


def net_and_inputs() -> tuple[DiT, Tensor, Tensor, Tensor]:
    """A network of random weights for 4x6 images of two channels and three classes; images, levels and labels."""
    net = DiT(2, size=(4, 6), out_channels=3, width=8, depth=3, heads=2, label_dim=3)
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.4)
    return net, torch.randn(2, 2, 4, 6), torch.tensor([-2.0, 3.0]), torch.randn(2, 3)


def test_the_network_around_its_blocks_is_its_formula() -> None:
    """Peebles and Xie 2023, figure 3, patch by patch."""
    net, x, level, label = net_and_inputs()
    calls = []
    for block in net.blocks:
        block.register_forward_hook(lambda part, given, out: calls.append((part, given[0], given[1].embedding, out)))
    found = net(x, level, label)
    told = functional.silu(net.conditioning.level(sinusoidal(level, FEATURES)) + label @ net.conditioning.add.weight.mT)
    patches = [x[:, :, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].flatten(1) for i in range(2) for j in range(3)]
    h = torch.stack(patches, dim=1) @ net.stem.weight.mT + net.stem.bias + net.places  # (B, T, width)
    assert [part for part, *_ in calls] == list(net.blocks)
    for _, given, embedding, out in calls:
        torch.testing.assert_close(given, h)
        torch.testing.assert_close(embedding, told)
        h = out
    shift, scale = (told @ net.modulation.weight.mT + net.modulation.bias).split(8, dim=1)
    h = (h - h.mean(2, keepdim=True)) / (h.var(2, keepdim=True, correction=0) + 1e-5).sqrt()
    h = (h * (1 + scale[:, None]) + shift[:, None]) @ net.last.weight.mT + net.last.bias  # (B, T, 3 * 4)
    expected = torch.empty(2, 3, 4, 6)
    for t in range(6):
        i, j = divmod(t, 3)
        expected[:, :, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2] = h[:, t].view(2, 3, 2, 2)
    torch.testing.assert_close(found, expected)
