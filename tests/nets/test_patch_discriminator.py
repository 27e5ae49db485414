"""The judge of patches: which pixels a logit sees, how many logits there are, and what it refuses."""

from __future__ import annotations

import pytest
import torch
from jacobians import moved, span
from torch import nn

from minigen.nets import PatchDiscriminator, receptive_field
from minigen.nets.field import positive
from minigen.objectives.minimax import r1_penalty

NORMS = ["none", "instance"]

pytestmark = pytest.mark.usefixtures("float64")


@pytest.mark.parametrize(
    ("layers", "side"),
    [
        ([], 1),
        ([(1, 1), (1, 1), (1, 1)], 1),
        ([(3, 1)] * 3, 7),
        ([(4, 2), (4, 2)], 10),
        ([(7, 1), (3, 2), (3, 2)], 13),
        ([(2, 3), (3, 2), (5, 1), (1, 4), (2, 1)], 56),
        ([(4, 2), (4, 1), (4, 1)], 16),
        ([(4, 2), (4, 2), (4, 1), (4, 1)], 34),
        ([(4, 2), (4, 2), (4, 2), (4, 1), (4, 1)], 70),
    ],
)
def test_the_receptive_field_is_the_span_of_the_jacobian(layers: list[tuple[int, int]], side: int) -> None:
    assert receptive_field(layers) == side
    net = positive(nn.Sequential(*(nn.Conv2d(1, 1, k, stride=s) for k, s in layers)))
    x = torch.randn(1, 1, side + 5, side + 5, requires_grad=True)
    seen = moved(net(x)[0, 0, 0, 0], x)
    assert span(seen.any(1)) == span(seen.any(0)) == (0, side)
    assert net(x[:, :, :side, :side]).shape == (1, 1, 1, 1), "the smallest image that gives an output"


@pytest.mark.parametrize(("layers", "side"), [(0, 1), (1, 16), (2, 34), (3, 70)])
def test_a_logit_sees_a_square_of_the_published_side_and_the_next_one_a_stride_further(layers: int, side: int) -> None:
    net = PatchDiscriminator(2, condition_channels=1, width=3, layers=layers)
    assert net.receptive_field == side
    x, beside = torch.randn(1, 2, 96, 96, requires_grad=True), torch.randn(1, 1, 96, 96, requires_grad=True)
    logits = net(x, beside)
    first = len(logits[0]) // 2 - (layers == 3)
    starts = []
    for row, column in ((first, first), (first + 1, first), (first, first + 1)):
        for image in (x, beside):
            seen = moved(logits[0, row, column], image)
            (top, height), (left, width) = span(seen.any(1)), span(seen.any(0))
            assert height == width == side == int(seen.sum()) ** 0.5, "a full square"
        starts.append((top, left))
    stride = 2**layers
    assert starts[1:] == [(starts[0][0] + stride, starts[0][1]), (starts[0][0], starts[0][1] + stride)]


def test_a_norm_shows_every_logit_the_whole_image() -> None:
    x = torch.randn(1, 3, 48, 48, requires_grad=True)
    for norm in NORMS:
        seen = moved(PatchDiscriminator(3, width=4, layers=1, norm=norm)(x)[0, 10, 10], x)
        assert int(seen.sum()) == (16**2 if norm == "none" else 48**2)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(("layers", "height", "width"), [(1, 12, 12), (2, 12, 20), (2, 32, 32), (1, 7, 6), (3, 25, 32)])
def test_there_is_a_logit_for_each_patch(layers: int, height: int, width: int, norm: str) -> None:
    net = PatchDiscriminator(3, width=2, layers=layers, norm=norm)
    x = torch.randn(2, 3, height, width, requires_grad=True)
    logits = net(x)
    assert logits.shape == (2, height // 2**layers - 2, width // 2**layers - 2)
    assert moved(logits[0], x).all(), "no pixel is left out"
    assert PatchDiscriminator(3, width=2, layers=0, norm=norm)(x).shape == (2, height, width)


def test_layers_are_those_of_the_paper_with_a_norm_in_the_inner_ones() -> None:
    """Convolutions with (c_in, c_out, kernel, stride), LeakyReLU(0.2) and norms, in their order."""
    norm = [nn.InstanceNorm2d, "leaky"]
    two = [(4, 8, 4, 2), "leaky", (8, 16, 4, 2), *norm, (16, 32, 4, 1), *norm, (32, 1, 4, 1)]
    none = [(4, 8, 1, 1), "leaky", (8, 16, 1, 1), *norm, (16, 1, 1, 1)]
    for layers, expected in ((2, two), (0, none)):
        for kind in NORMS:
            found = []
            for layer in PatchDiscriminator(3, condition_channels=1, width=8, layers=layers, norm=kind).net:
                if isinstance(layer, nn.Conv2d):
                    found.append((layer.in_channels, layer.out_channels, layer.kernel_size[0], layer.stride[0]))
                else:
                    found.append("leaky" if getattr(layer, "negative_slope", None) == 0.2 else type(layer))
            assert found == [each for each in expected if kind == "instance" or each is not nn.InstanceNorm2d]


@pytest.mark.parametrize("norm", NORMS)
def test_a_penalty_on_the_gradient_of_a_judge_of_patches_is_its_finite_difference(norm: str) -> None:
    net, x = PatchDiscriminator(2, width=4, layers=1, norm=norm), torch.randn(1, 2, 8, 8, requires_grad=True)
    step = 1e-5 * torch.eye(128).view(128, 2, 8, 8)
    with torch.no_grad():
        slope = (net(x + step).sum((1, 2)) - net(x - step).sum((1, 2))) / 2e-5
    penalty = r1_penalty(net(x).sum((1, 2)), x)
    torch.testing.assert_close(penalty, 0.5 * slope.square().sum(), atol=0, rtol=1e-5)
    penalty.backward()
    assert all(layer.weight.grad.abs().max() > 0 for layer in net.net if isinstance(layer, nn.Conv2d))


def test_what_cannot_be_is_refused() -> None:
    x = torch.randn(2, 3, 16, 16)
    for layers in ([(0, 1)], [(3, 0)]):
        with pytest.raises(ValueError, match=r"a (kernel|stride) must be 1 or more; got 0"):
            receptive_field(layers)
    with pytest.raises(ValueError, match="sides must be 24 or more; got 16 x 16: pad them"):
        PatchDiscriminator(3, width=2)(x)
    with pytest.raises(ValueError, match="sides must be 2 or more; got 1 x 1"):
        PatchDiscriminator(3, width=2, layers=0, norm="instance")(x[:, :, :1, :1])
    assert PatchDiscriminator(3, width=2, layers=0)(x[:, :, :1, :1]).shape == (2, 1, 1)
    for layers in (1, 2, 3):  # the least is the least: one logit
        side = 3 * 2**layers
        assert PatchDiscriminator(1, width=2, layers=layers)(torch.randn(1, 1, side, side)).shape == (1, 1, 1)
        with pytest.raises(ValueError, match=f"sides must be {side} or more; got {side} x {side - 1}"):
            PatchDiscriminator(1, width=2, layers=layers)(torch.randn(1, 1, side, side - 1))
    beside = PatchDiscriminator(3, condition_channels=1, width=2, layers=1)
    with pytest.raises(ValueError, match="needs the image beside; got none: it has condition_channels=1"):
        beside(x)
    with pytest.raises(ValueError, match=r"the image beside must be \(2, 1, 16, 16\); got \(2, 1, 8, 8\)"):
        beside(x, x[:, :1, :8, :8])
    with pytest.raises(ValueError, match="the image beside must be floats"):
        beside(x, torch.zeros(2, 1, 16, 16, dtype=torch.uint8))
    with pytest.raises(ValueError, match="takes no image beside: it has condition_channels=0"):
        PatchDiscriminator(3, width=2, layers=1)(x, x)
