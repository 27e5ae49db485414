"""Networks from image to image, and what holds for their judge too: what norms erase, what skips and noise carry."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from jacobians import moved, span
from torch import Tensor, nn
from torch.nn import functional

from minigen.nets import PatchDiscriminator, ResnetGenerator, TranslationUNet
from minigen.nets.field import positive
from minigen.nets.translation import ResnetBlock, normed

NETS = {
    "patches": lambda **more: PatchDiscriminator(3, **{"width": 8, "layers": 2, **more}),
    "patches, one layer": lambda **more: PatchDiscriminator(3, **{"width": 8, "layers": 1, **more}),
    "pixels": lambda **more: PatchDiscriminator(3, **{"width": 16, "layers": 0, **more}),
    "unet": lambda **more: TranslationUNet(3, 2, **{"width": 8, **more}),
    "unet, deep": lambda **more: TranslationUNet(3, 2, **{"width": 8, "depth": 4, **more}),
    "unet without skips": lambda **more: TranslationUNet(3, 2, **{"width": 8, "skips": False, **more}),
    "resnet": lambda **more: ResnetGenerator(3, 2, **{"width": 8, "blocks": 2, **more}),
}
NORMS = ["none", "instance"]
SHAPE = (3, 3, 16, 32)

pytestmark = pytest.mark.usefixtures("float64")


def conv_weights(sizes: list[tuple[int, int, int]]) -> int:
    """Of convolutions with (c_in, c_out, kernel)."""
    return sum(c_in * c_out * kernel**2 for c_in, c_out, kernel in sizes)


def count(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def test_numbers_of_parameters_are_those_of_the_published_architectures() -> None:
    """C64-C128-C256-C512; C64-C128-C256-C512 x 5 and back; c7s1-64, d128, d256, R256 x 6, u128, u64, c7s1-3."""
    with torch.device("meta"):  # shapes alone
        judge, judge_normed = PatchDiscriminator(3), PatchDiscriminator(3, norm="instance")
        pixels = PatchDiscriminator(3, condition_channels=3, layers=0)
        unet = TranslationUNet(3, 3, width=64, depth=8, norm="instance")
        resnet = ResnetGenerator(3, 3, width=64, blocks=6)
    sizes = [3, 64, 128, 256, 512, 1]
    weights = conv_weights([(a, b, 4) for a, b in pairwise(sizes)])
    assert count(judge) == weights + sum(sizes[1:]) == 2_764_737
    assert count(judge_normed) == weights + 64 + 1
    assert count(pixels) == 6 * 64 + 64 + 64 * 128 + 128 + 128 + 1
    down = [3, 64, 128, 256, 512, 512, 512, 512, 512]
    up = [(512, 512), (1024, 512), (1024, 512), (1024, 512), (1024, 256), (512, 128), (256, 64), (128, 3)]
    weights = conv_weights([(a, b, 4) for a, b in [*pairwise(down), *up]])
    assert count(unet) == weights + 64 + 512 + 3, "biases where no norm is behind"
    weights = conv_weights([(3, 64, 7), (64, 128, 3), (128, 256, 3), *[(256, 256, 3)] * 12])
    weights += conv_weights([(256, 128, 3), (128, 64, 3), (64, 3, 7)])
    assert count(resnet) == weights + 3
    erased = 64 + 128 + 256 + 12 * 256 + 128 + 64  # biases before a norm
    assert count(resnet) + erased == 7_837_699


def test_instance_norm_is_its_formula_and_erases_contrast_and_brightness() -> None:
    norm = normed(nn.Conv2d(3, 4, 1), "instance")[1]
    x = torch.randn(2, 4, 5, 6) * torch.rand(2, 4, 1, 1) + torch.randn(2, 4, 1, 1)
    expected = torch.empty_like(x)
    for i in range(2):
        for j in range(4):
            expected[i, j] = (x[i, j] - x[i, j].mean()) / (x[i, j].var(correction=0) + 1e-5).sqrt()
    torch.testing.assert_close(norm(x), expected, atol=1e-12, rtol=0)
    torch.testing.assert_close(nn.GroupNorm(4, 4, affine=False)(x), expected, atol=1e-12, rtol=0)
    assert not list(norm.parameters())
    assert torch.equal(norm.eval()(x), norm.train()(x)), "no statistics are kept"

    variance = x.var((2, 3), correction=0, keepdim=True)
    a, b = 0.1 + 3 * torch.rand(2, 4, 1, 1), 5 * torch.randn(2, 4, 1, 1)
    gone = expected * ((variance + 1e-5) / (variance + 1e-5 / a**2)).sqrt()  # but for eps nothing of a and b is left
    torch.testing.assert_close(norm(a * x + b), gone, atol=1e-9, rtol=0)
    torch.testing.assert_close(norm(-x), -expected, atol=1e-12, rtol=0)
    for other in (nn.GroupNorm(1, 4, affine=False), nn.BatchNorm2d(4, affine=False)):  # statistics of more than that
        assert (other(a * x + b) - other(x)).abs().max() > 0.1


@pytest.mark.parametrize("padding", ["reflect", "zeros"])
def test_a_resnet_generator_does_not_see_an_image_s_contrast_and_brightness(padding: str) -> None:
    """For a padding of zeros has its own brightness, and gives away that of the image."""
    net, x = ResnetGenerator(3, 2, width=8, blocks=1), torch.randn(2, 3, 16, 16)
    for module in net.modules():
        if isinstance(module, nn.Conv2d) and module.padding_mode == "reflect":
            module.padding_mode = padding
    a, b = torch.tensor([0.5, 3.0]).view(2, 1, 1, 1), torch.randn(2, 3, 1, 1)
    error = (net(a * x + b) - net(x)).abs().max()
    assert (error < 1e-3) == (padding == "reflect")
    assert (net(torch.tensor([1.0, 2, 3]).view(3, 1, 1) * x) - net(x)).abs().max() > 0.1, "channels apart"
    unet = TranslationUNet(3, 2, width=8, norm="instance")  # without a norm behind its first layer
    assert (unet(a * x + b) - unet(x)).abs().max() > 0.1


@pytest.mark.parametrize("norm", NORMS)
def test_a_residual_block_is_its_formula_and_wrong_variants_are_not(norm: str) -> None:
    block, x = ResnetBlock(4, norm=norm, share=0.5), torch.randn(2, 4, 5, 6)
    first, *_, last = (part for part in block.branch if not isinstance(part, nn.InstanceNorm2d))

    def by_hand(x: Tensor, padding: str) -> Tensor:
        h = functional.conv2d(functional.pad(x, (1, 1, 1, 1), mode=padding), first.weight)
        h = functional.group_norm(h, 4) if norm == "instance" else h
        h = functional.conv2d(functional.pad(h * (h > 0), (1, 1, 1, 1), mode=padding), last.weight)
        return x + (functional.group_norm(h, 4) if norm == "instance" else h)

    torch.testing.assert_close(block(x), by_hand(x, "reflect"), atol=1e-12, rtol=0)
    for wrong in (by_hand(x, "constant"), by_hand(x, "reflect").relu(), by_hand(x, "reflect") - x):
        assert (block(x) - wrong).abs().max() > 0.1


def test_a_resnet_generator_has_the_layers_of_the_paper() -> None:
    def seen(layer: nn.Module) -> object:
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            return layer.in_channels, layer.out_channels, layer.kernel_size[0], layer.stride[0]
        return type(layer)

    norm, relu = nn.InstanceNorm2d, nn.ReLU
    expected = [(3, 8, 7, 1), norm, relu, (8, 16, 3, 2), norm, relu, (16, 32, 3, 2), norm, relu, ResnetBlock]
    expected += [ResnetBlock, (32, 16, 3, 2), norm, relu, (16, 8, 3, 2), norm, relu, (8, 2, 7, 1)]
    for kind in NORMS:
        net = NETS["resnet"](norm=kind)
        assert [seen(layer) for layer in net.net] == [e for e in expected if kind == "instance" or e is not norm]


@pytest.mark.parametrize("skips", [True, False])
@pytest.mark.parametrize("depth", [2, 3, 4])
def test_skips_pass_by_the_bottleneck(depth: int, skips: bool) -> None:
    """With the bottleneck cut a pixel still moves itself, by the skips alone; by the first of them in 6x6 pixels."""
    net = positive(TranslationUNet(1, 1, width=6, depth=depth, skips=skips, bounded=False))
    x = torch.rand(1, 1, 32, 32, requires_grad=True)
    assert all(moved(net(x)[0, 0, i, j], x)[i, j] for i, j in ((0, 0), (15, 16), (31, 4))), "as a whole"
    for parameter in net.up[0].parameters():
        nn.init.zeros_(parameter)
    for i, j in ((0, 0), (15, 16), (31, 4)):
        seen = moved(net(x)[0, 0, i, j], x)
        assert bool(seen[i, j]) == bool(seen.any()) == skips
    if not skips:
        return
    with torch.no_grad():
        net.up[-1].weight[:6] = 0  # what comes from below stands before what stands beside
    for row, column in ((14, 17), (7, 8)):
        seen = moved(net(x)[0, 0, row, column], x)
        starts = tuple(n - 3 if n % 2 == 0 else n - 2 for n in (row, column))
        assert (span(seen.any(1)), span(seen.any(0))) == ((starts[0], 6), (starts[1], 6))
        assert seen.sum() == 36
        assert seen[row, column]


def test_each_layer_on_the_way_up_is_given_the_one_opposite() -> None:
    net = TranslationUNet(1, 1, width=4, depth=4, norm="instance")
    left, given = {}, {}
    for i in range(4):
        net.down[i].register_forward_hook(lambda _, x, out, i=i: left.update({i: (x[0], out)}))
        net.up[i].register_forward_hook(lambda _, x, __, i=i: given.update({i: x[0]}))
    net(torch.randn(2, 1, 16, 16))
    assert torch.equal(given[0], left[3][1].relu())
    for i in (1, 2, 3):
        opposite = left[3 - i][1]
        assert torch.equal(given[i][:, -opposite.shape[1] :], opposite.relu())
        assert torch.equal(left[4 - i][0], functional.leaky_relu(opposite, 0.2))
        assert opposite.abs().max() > 0.1
        assert given[i].min() == 0, "what comes from below passes a ReLU, too"


def test_without_skips_all_else_is_the_same() -> None:
    nets = [TranslationUNet(3, 1, width=8, depth=3, skips=skips, noise=2, norm="instance") for skips in (True, False)]
    shapes = [{key: tuple(value.shape) for key, value in net.named_parameters()} for net in nets]
    assert shapes[0].keys() == shapes[1].keys()
    apart = {key: (shape, shapes[1][key]) for key, shape in shapes[0].items() if shape != shapes[1][key]}
    assert apart == {"up.1.0.weight": ((32, 8, 4, 4), (16, 8, 4, 4)), "up.2.weight": ((16, 1, 4, 4), (8, 1, 4, 4))}


@pytest.mark.parametrize("norm", NORMS)
def test_noise_moves_its_own_image_everywhere(norm: str) -> None:
    net, x = TranslationUNet(3, 1, width=8, noise=5, norm=norm), torch.randn(2, 3, 32, 32)
    z = torch.randn(2, 5, requires_grad=True)
    assert net.latent == 5
    assert TranslationUNet(3, 1).latent == 0
    y = net(x, z)
    jacobian = torch.autograd.functional.jacobian(lambda z: net(x, z)[:, 0, ::5, ::5], z)  # (2, 7, 7, 2, 5)
    assert (jacobian[0, :, :, 1] == 0).all()
    assert (jacobian[1, :, :, 0] == 0).all()
    assert (jacobian[0, :, :, 0].abs().sum(2) > 0).all()
    assert (net(x, -z) - y).abs().max() > 1e-2
    for step in range(5):  # each channel of z, too
        assert jacobian[0, :, :, 0, step].abs().max() > 0

    means: list[Tensor] = []
    net.up[0].register_forward_hook(lambda _, __, out: means.append(out.mean((2, 3))))
    net(x, z), net(x, z + 10)
    assert ((means[1] - means[0]).abs().max() > 1) == (norm == "none"), "a norm takes away the mean over places"


def test_dropout_acts_in_training_mode_and_in_the_inner_layers_alone() -> None:
    net, x = TranslationUNet(3, 1, width=8, depth=5, dropout=0.5), torch.randn(2, 3, 32, 32)
    assert [any(isinstance(m, nn.Dropout) for m in up.modules()) for up in net.up] == [True, True, True, False, False]
    two = TranslationUNet(3, 1, width=8, depth=2, dropout=0.5)
    assert [any(isinstance(m, nn.Dropout) for m in up.modules()) for up in two.up] == [True, False]
    assert not any(isinstance(m, nn.Dropout) for m in TranslationUNet(3, 1).modules())
    assert (net.train()(x) - net(x)).abs().max() > 1e-2, "the only noise of the paper's generator"
    assert torch.equal(net.eval()(x), net(x))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", NETS)
def test_every_parameter_gets_a_gradient(name: str, norm: str) -> None:
    apart = {each: 2 + ("unet" in each) - (each == "resnet") for each in NETS}  # layers without a norm
    net = NETS[name](norm=norm)
    net(torch.randn(SHAPE)).pow(3).sum().backward()
    for key, parameter in net.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.abs().max() > 1e-6, key
    layers = [m for m in net.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    norms = sum(isinstance(m, nn.InstanceNorm2d) for m in net.modules())
    assert norms == sum(layer.bias is None for layer in layers) == (len(layers) - apart[name]) * (norm == "instance")


def test_a_bias_before_a_norm_would_get_none() -> None:
    layers = normed(nn.Conv2d(3, 4, 3), "instance")
    layers[0].bias = nn.Parameter(torch.randn(4))
    nn.Sequential(*layers)(torch.randn(2, 3, 8, 8)).pow(3).sum().backward()
    assert layers[0].bias.grad.abs().max() < 1e-12 < layers[0].weight.grad.abs().max()


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", NETS)
def test_the_images_of_a_batch_never_mix(name: str, norm: str) -> None:
    net, x = NETS[name](norm=norm), torch.randn(SHAPE, requires_grad=True)
    (slope,) = torch.autograd.grad(net(x)[1].square().sum(), x)
    assert slope[1].abs().sum() > 0
    assert (slope[[0, 2]] == 0).all()
    torch.testing.assert_close(net.train()(x)[:1], net.eval()(x[:1]))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", NETS)
def test_networks_begin_at_a_sensible_scale(name: str, norm: str) -> None:
    """Without tanh: the variance of the outputs over eight draws of the weights, that of the inputs being 1."""
    found = []
    for _ in range(8):
        net, outputs = NETS[name](norm=norm, width=16), []
        *_, last = (m for m in net.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d))
        last.register_forward_hook(lambda _, __, out, outputs=outputs: outputs.append(out))
        with torch.no_grad():
            net(torch.randn(2, 3, 32, 32))
        found.append(outputs[-1].var().item())
    assert 0.2 < sum(found) / len(found) < 5


@pytest.mark.parametrize("norm", NORMS)
def test_deep_and_noisy_networks_begin_at_that_scale_too(norm: str) -> None:
    x = torch.randn(2, 3, 32, 32)
    makers = {
        "depth": lambda: TranslationUNet(3, 2, width=16, depth=5, norm=norm, bounded=False),
        "noise": lambda: TranslationUNet(3, 2, width=8, noise=200, norm=norm, bounded=False),
    }
    for name, make in makers.items():
        found = []
        for _ in range(8):
            net = make()
            with torch.no_grad():
                found.append(net(x, torch.randn(2, net.latent)).var().item())
        assert 0.2 < sum(found) / len(found) < 5, name
    x = torch.randn(2, 32, 16, 16)
    added = (ResnetBlock(32, norm=norm, share=1 / 6)(x) - x).square().mean()
    assert abs(added - (1 if norm == "instance" else 1 / 6)) < 0.05


def test_outputs_are_bounded_where_asked_for() -> None:
    x = 100 * torch.randn(2, 3, 16, 16)
    assert 0.9 < TranslationUNet(3, 1, width=8)(x).abs().max() <= 1 < TranslationUNet(3, 1, bounded=False)(x).max()
    assert 0.9 < ResnetGenerator(3, 1, width=8, blocks=1)(x).abs().max() <= 1


@pytest.mark.parametrize("norm", NORMS)
def test_shapes(norm: str) -> None:
    for height, width in ((8, 8), (16, 8), (24, 32)):
        x = torch.randn(2, 3, height, width)
        for depth in (2, 3):
            for skips in (True, False):
                net = TranslationUNet(3, 4, width=4, depth=depth, skips=skips, norm=norm)
                assert net(x).shape == net(x, torch.empty(2, 0)).shape == (2, 4, height, width)
        assert ResnetGenerator(3, 4, width=4, blocks=1, norm=norm)(x).shape == (2, 4, height, width)
    assert ResnetGenerator(4, 4, width=4, blocks=2, norm=norm)(torch.randn(1, 4, 8, 12)).shape == (1, 4, 8, 12)
    assert [layer.stride for layer in TranslationUNet(1, 1).modules() if isinstance(layer, nn.Conv2d)] == [(2, 2)] * 3


def test_bf16_gives_the_numbers_of_float32_to_its_precision() -> None:
    for net in (TranslationUNet(3, 1, width=8, noise=4), ResnetGenerator(3, 1, width=8, blocks=1)):
        given = (torch.randn(2, 3, 16, 16), torch.randn(2, 4))[: 1 + hasattr(net, "latent")]
        exact = net.float()(*(part.float() for part in given))
        with torch.autocast("cpu", torch.bfloat16):
            rough = net(*(part.float() for part in given))
        assert 1e-6 < (rough - exact).square().mean().sqrt() < 0.05 * exact.std()


def test_what_cannot_be_is_refused() -> None:
    x = torch.randn(2, 3, 16, 16)
    for name in NETS:
        with pytest.raises(ValueError, match="norm must be one of none, instance; got 'batch'"):
            NETS[name](norm="batch")
        with pytest.raises(ValueError, match=r"images must be \(B, 3, H, W\); got \(2, 1, 16, 16\)"):
            NETS[name]()(x[:, :1])
        with pytest.raises(ValueError, match="width must be 1 or more; got 0"):
            NETS[name](width=0)
    with pytest.raises(ValueError, match="sides must be multiples of 8, 8 or more; got 16 x 12: pad them"):
        TranslationUNet(3, 1, width=2)(x[:, :, :, :12])
    with pytest.raises(ValueError, match="depth must be 2 or more; got 1"):
        TranslationUNet(3, 1, depth=1)
    with pytest.raises(ValueError, match="dropout must be a finite number, at least 0 and at most 1; got 2"):
        TranslationUNet(3, 1, dropout=2.0)
    with pytest.raises(ValueError, match=r"this network needs z, \(2, 4\); got none: draw it"):
        TranslationUNet(3, 1, width=2, noise=4)(x)
    for noise in (0, 4):
        with pytest.raises(ValueError, match=rf"z must be \(2, {noise}\); got \(2, 3\)"):
            TranslationUNet(3, 1, width=2, noise=noise)(x, torch.randn(2, 3))
    with pytest.raises(ValueError, match="sides must be multiples of 4, 8 or more; got 4 x 16"):
        ResnetGenerator(3, 1, width=2)(x[:, :, :4])
    with pytest.raises(ValueError, match="sides must be multiples of 4, 8 or more; got 16 x 10"):
        ResnetGenerator(3, 1, width=2)(x[:, :, :, :10])
    with pytest.raises(ValueError, match="blocks must be 1 or more; got 0"):
        ResnetGenerator(3, 1, blocks=0)
