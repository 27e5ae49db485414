"""Convolutional encoders and generators: shapes, what each output sees, and the scale at which they begin."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from minigen.data.batches import Batches
from minigen.nets.conv import (
    CodeDecoder,
    CodeEncoder,
    ConvEncoder,
    ConvGenerator,
    Residual,
    downsample,
    num_downsamples,
    upsample,
)
from minigen.objectives import elbo, vq
from minigen.train.loop import Run
from minigen.train.optimizers import adam_per_player

SHAPES = [(1, 8, 8), (3, 12, 12), (3, 16, 16), (1, 28, 28), (3, 32, 32), (2, 12, 8)]

NETS = {
    "encoder": (lambda: ConvEncoder((3, 16, 16), 5, width=8), (4, 3, 16, 16)),
    "generator": (lambda: ConvGenerator(5, (3, 16, 16), width=8), (4, 5)),
    "generator with blocks": (lambda: ConvGenerator(5, (3, 16, 16), width=8, blocks=2), (4, 5)),
    "code encoder": (lambda: CodeEncoder(3, 5, width=8), (4, 3, 16, 16)),
    "code decoder": (lambda: CodeDecoder(5, 3, width=8), (4, 5, 4, 4)),
}

pytestmark = pytest.mark.usefixtures("float64")


def outputs(net: nn.Module, x: Tensor) -> Tensor:
    """All that the network puts out, flat: (B, n)."""
    found = net(x)
    return torch.cat([t.flatten(1) for t in (found if isinstance(found, tuple) else (found,))], dim=1)


@pytest.mark.parametrize("shape", SHAPES)
def test_images_become_latents_and_back(shape: tuple[int, int, int]) -> None:
    mean, log_std = ConvEncoder(shape, 5, width=4)(torch.randn(2, *shape))
    assert mean.shape == log_std.shape == (2, 5)
    images = ConvGenerator(5, shape, width=4)(100 * torch.randn(2, 5))
    assert images.shape == (2, *shape)
    assert 0.9 < images.abs().max() <= 1
    assert ConvGenerator(5, shape, width=4, bounded=False)(100 * torch.randn(2, 5)).abs().max() > 1
    residual = ConvGenerator(5, shape, width=4, blocks=2)
    assert residual(torch.randn(2, 5)).shape == (2, *shape)
    assert sum(isinstance(layer, Residual) for layer in residual.net) == 2 * (num_downsamples(shape) + 1)
    codes = CodeEncoder(shape[0], 6, width=4)(torch.randn(2, *shape))
    assert codes.shape == (2, 6, shape[1] // 4, shape[2] // 4)
    assert CodeDecoder(6, shape[0], width=4)(codes).shape == (2, *shape)
    assert CodeDecoder(6, shape[0], width=4, bounded=False)(100 * codes).abs().max() > 1


def test_sides_are_halved_while_even_and_above_four() -> None:
    wanted = {8: 1, 12: 2, 16: 2, 28: 2, 32: 3, 64: 4, 10: 1, 14: 1}
    assert {side: num_downsamples((1, side, side)) for side in wanted} == wanted
    features = [m.out_channels for m in ConvEncoder((1, 32, 32), 5, width=3).net if isinstance(m, nn.Conv2d)]
    assert features == [3, 6, 12]
    features = [m.in_channels for m in ConvGenerator(5, (1, 32, 32), width=3).net if isinstance(m, nn.ConvTranspose2d)]
    assert features == [12, 6, 3]


@pytest.mark.parametrize("name", NETS)
def test_every_parameter_gets_a_gradient(name: str) -> None:
    make, shape = NETS[name]
    net = make()
    outputs(net, torch.randn(shape)).square().sum().backward()
    for key, parameter in net.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.abs().max() > 0, key


@pytest.mark.parametrize("name", NETS)
def test_the_images_of_a_batch_never_mix(name: str) -> None:
    make, shape = NETS[name]
    net, x = make(), torch.randn(shape, requires_grad=True)
    (slope,) = torch.autograd.grad(outputs(net, x)[1].square().sum(), x)
    assert slope[1].abs().sum() > 0
    assert (slope[[0, 2, 3]] == 0).all()


@pytest.mark.parametrize("make", [lambda: ConvEncoder((1, 28, 28), 3, width=8), lambda: ConvEncoder((1, 12, 8), 3)])
def test_every_pixel_is_seen_by_mean_and_log_std(make) -> None:
    net = make()
    jacobian = torch.autograd.functional.jacobian(lambda x: outputs(net, x)[0], torch.randn(1, *net.shape))
    assert (jacobian[:, 0, 0] != 0).all()


@pytest.mark.parametrize("blocks", [0, 1, 2])
def test_a_code_sees_a_square_and_paints_the_same_square(blocks: int) -> None:
    """10 pixels through two 4x4 windows of stride 2, and 8 more for each 3x3 window four pixels apart."""
    n = 12  # codes a side
    field = range(-3 - 4 * blocks, 7 + 4 * blocks)  # pixels from the code's own first pixel
    assert len(field) == 10 + 8 * blocks
    encoder, decoder = CodeEncoder(1, 2, width=16, blocks=blocks), CodeDecoder(2, 1, width=16, blocks=blocks)
    x, z = torch.randn(1, 1, 4 * n, 4 * n, requires_grad=True), torch.randn(1, 2, n, n)
    for row, column in ((6, 6), (0, 9)):
        expected = torch.zeros(4 * n, 4 * n, dtype=torch.bool)
        inside = [[4 * place + at for at in field if 0 <= 4 * place + at < 4 * n] for place in (row, column)]
        expected[inside[0][0] : inside[0][-1] + 1, inside[1][0] : inside[1][-1] + 1] = True
        (seen,) = torch.autograd.grad(encoder(x)[0, :, row, column].sum(), x)
        assert torch.equal(seen[0, 0] != 0, expected)
        step = torch.zeros_like(z)
        step[0, :, row, column] = 1
        _, painted = torch.autograd.functional.jvp(decoder, z, step)
        assert torch.equal(painted[0, 0] != 0, expected)


def rms(net: nn.Module, x: Tensor) -> dict[str, float]:
    """Root mean square of what each layer with weights puts out."""
    found: dict[str, float] = {}
    for name, layer in net.named_modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            layer.register_forward_hook(
                lambda _, __, out, name=name: found.update({name: out.square().mean().sqrt().item()})
            )
    net(x)
    return found


@pytest.mark.parametrize("side", [8, 28, 128])
def test_activations_begin_at_scale_one_at_any_depth(side: int) -> None:
    images, latents = torch.rand(16, 3, side, side) * 2 - 1, torch.randn(64, 16)
    *layers, head = rms(ConvEncoder((3, side, side), 16, width=16), images * 3**0.5).values()
    assert len(layers) == num_downsamples((3, side, side))
    assert all(0.5 < scale < 1.5 for scale in layers)
    assert 0.2 < head < 0.8  # PyTorch's own start, so that the first q is near the prior
    layers = rms(ConvGenerator(16, (3, side, side), width=16), latents).values()
    assert len(layers) == num_downsamples((3, side, side)) + 1
    assert all(0.5 < scale < 1.5 for scale in layers)


@pytest.mark.parametrize("blocks", [1, 2, 8])
def test_the_scale_does_not_grow_with_the_number_of_residual_blocks(blocks: int) -> None:
    encoder, decoder = CodeEncoder(3, 32, width=48, blocks=blocks), CodeDecoder(32, 3, width=48, blocks=blocks)
    for net, x in ((encoder, torch.randn(8, 3, 32, 32)), (decoder, torch.randn(8, 32, 8, 8))):
        for name, scale in rms(net, x).items():
            one = blocks**-0.5 if name.endswith("branch.3") else 1.0
            assert 0.5 * one < scale < 2 * one, name


def test_a_residual_block_adds_to_its_input_and_leaves_it_alone() -> None:
    block, x = Residual(3), torch.randn(2, 3, 5, 5)
    kept, (relu, wide, _, narrow) = x.clone(), block.branch
    assert isinstance(relu, nn.ReLU)
    torch.testing.assert_close(block(x) - x, narrow(wide(x.relu()).relu()))
    assert torch.equal(x, kept)


def test_every_pixel_is_covered_equally_often() -> None:
    """Else a constant becomes a checkerboard: a window that is a multiple of the stride does not."""
    down, up = downsample(1, 1), upsample(1, 1)
    for layer in (down, up):
        nn.init.ones_(layer.weight)
    ones = torch.ones(1, 1, 8, 8, requires_grad=True)
    assert (up(ones)[0, 0, 1:-1, 1:-1] == 4).all()
    (taken,) = torch.autograd.grad(down(ones).sum(), ones)
    assert (taken[0, 0, 1:-1, 1:-1] == 4).all()


def test_what_does_not_fit_is_named() -> None:
    for shape, given in (((1, 7, 7), "7 x 7"), ((1, 4, 4), "4 x 4"), ((1, 30, 30), "30 x 30"), ((1, 64, 8), "64 x 8")):
        for make in (lambda shape=shape: ConvEncoder(shape, 2), lambda shape=shape: ConvGenerator(2, shape)):
            with pytest.raises(ValueError, match=f"sides must halve at least once.*got {given}"):
                make()
    with pytest.raises(ValueError, match=r"shape must be \(C, H, W\).*got \(28, 28\)"):
        ConvEncoder((28, 28), 2)
    with pytest.raises(ValueError, match=r"images must be \(B, 1, 8, 8\); got \(2, 3, 8, 8\)"):
        ConvEncoder((1, 8, 8), 2)(torch.zeros(2, 3, 8, 8))
    with pytest.raises(ValueError, match=r"latent must be \(B, 2\); got \(3, 4\)"):
        ConvGenerator(2, (1, 8, 8))(torch.zeros(3, 4))
    for wrong in ((2, 3, 10, 8), (2, 1, 8, 8), (3, 8, 8)):
        with pytest.raises(ValueError, match=r"images must be \(B, 3, H, W\), H and W multiples of 4; got"):
            CodeEncoder(3, 2)(torch.zeros(wrong))
    with pytest.raises(ValueError, match=r"codes must be \(B, 2, h, w\); got \(1, 3, 2, 2\)"):
        CodeDecoder(2, 3)(torch.zeros(1, 3, 2, 2))


def test_a_vae_and_a_vqvae_of_these_nets_learn() -> None:
    """Eight images, a white column in each: pixel by pixel 24.1 nats, and all at once log 8 = 2.1."""
    torch.set_default_dtype(torch.float32)
    x = torch.eye(8).mul(2).sub(1)[:, None, None].expand(8, 1, 8, 8).repeat(8, 1, 1, 1)
    encoder, decoder = ConvEncoder((1, 8, 8), 4, width=16), ConvGenerator(4, (1, 8, 8), width=16, bounded=False)
    vae = elbo.ELBO(elbo.LatentModel(encoder, decoder, elbo.Bernoulli(), latent=4))
    run = Run(vae, adam_per_player(vae, 3e-3))
    bounds = [step.read()["distortion"] + step.read()["rate"] for step in run(Batches(x, batch_size=32), 200)]
    assert bounds[0] > 24
    assert sum(bounds[-10:]) / 10 < 10
    encoder, decoder = CodeEncoder(1, 4, width=16), CodeDecoder(4, 1, width=16)
    vqvae = vq.VQVAE(vq.VQModel(encoder, decoder, elbo.Gaussian(0.3), codes=16, size=4))
    for _ in Run(vqvae, adam_per_player(vqvae, 3e-3))(Batches(x, batch_size=32), 200):
        pass
    assert (vqvae.model.decode(vqvae.model.encode(x)) - x).square().mean() < 0.1  # 0.44 for the mean image
