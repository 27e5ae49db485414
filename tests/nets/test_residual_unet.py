"""The U-Net of residual blocks as a translator: noise, the change of an image, its first skip, and refusals."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from minigen.nets import ResidualUNet

pytestmark = pytest.mark.usefixtures("float64")


def awake(**settings) -> ResidualUNet:
    """A network none of whose layers begins at 0."""
    net = ResidualUNet(1, 2, width=4, attention=(), **settings)
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.2)
    return net


def test_images_of_a_batch_do_not_mix_and_every_parameter_learns() -> None:
    net, x = awake(), torch.randn(3, 1, 16, 16)
    torch.testing.assert_close(net(x[1:2])[0], net(x)[1], rtol=0, atol=1e-12)
    net(x).square().sum().backward()
    assert not [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]


def test_noise_moves_its_own_image_and_is_needed_where_it_is_asked_for() -> None:
    x, z, net = torch.randn(2, 1, 16, 16), torch.randn(2, 3), awake(noise=3)
    assert net.latent == 3
    moved = net(x, z) - net(x, torch.cat([z[:1], -z[1:]]))
    assert moved[0].abs().max() == 0
    assert moved[1].abs().max() > 1e-6
    with pytest.raises(ValueError, match="needs z"):
        net(x)
    with pytest.raises(ValueError, match="label"):
        net(x, z[:, :2])
    with pytest.raises(ValueError, match="takes no z"):
        awake()(x, z)


def test_the_change_of_an_image_begins_with_none() -> None:
    x = torch.randn(2, 3, 16, 16)
    assert torch.equal(ResidualUNet(3, 3, width=4, attention=(), change=True)(x), x)
    assert ResidualUNet(3, 3, width=4, attention=())(x).abs().max() == 0


def test_the_first_skip_has_the_resolution_of_the_image() -> None:
    """With all below the first resolution cut, a pixel still moves itself."""
    net = awake(multipliers=(1, 2))
    for parameter in net.shrink.parameters():
        nn.init.zeros_(parameter)
    x = torch.randn(1, 1, 16, 16, requires_grad=True)
    (slope,) = torch.autograd.grad(net(x)[0, 0, 7, 7], x)
    assert slope[0, 0, 7, 7] != 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ResidualUNet(1, 3, change=True), "has its channels"),
        (lambda: ResidualUNet(1, 3, noise=-1), "noise"),
    ],
)
def test_bad_input_is_refused(make, message) -> None:
    with pytest.raises(ValueError, match=message):
        make()
