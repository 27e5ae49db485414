"""Networks of translation: what an output sees by its Jacobian, what skips and norms pass, sizes by formula."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from minigen.nets import PatchDiscriminator, ResidualUNet, ResnetGenerator, TranslationUNet, receptive_field

pytestmark = pytest.mark.usefixtures("float64")


def sees(net: nn.Module, x: Tensor, *rest: Tensor, at: tuple[int, ...]) -> Tensor:
    """Which pixels of the first image move this entry of the output, bool (H, W)."""
    x = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(net(x, *rest)[at], x)
    return slope[0].abs().sum(0) > 0


def side(seen: Tensor) -> tuple[int, int]:
    rows, columns = seen.any(1).nonzero().flatten(), seen.any(0).nonzero().flatten()
    return int(rows.max() - rows.min()) + 1, int(columns.max() - columns.min()) + 1


@pytest.mark.parametrize(("layers", "pixels"), [(0, 1), (1, 16), (2, 34), (3, 70)])
def test_a_logit_sees_as_many_pixels_as_the_paper_says(layers, pixels) -> None:
    judge = PatchDiscriminator(2, width=2, layers=layers)
    assert judge.receptive_field == pixels
    size = max(24, 2 * pixels)
    x = torch.randn(1, 2, size - size % 8, size - size % 8)
    logits = judge(x)
    middle = logits.shape[1] // 2
    assert side(sees(judge, x, at=(0, middle, middle))) == (pixels, pixels)


def test_the_formula_of_the_receptive_field_is_that_of_the_jacobian_for_any_stack() -> None:
    for layers in ([(3, 1), (3, 1)], [(4, 2), (3, 1), (4, 2)], [(5, 3), (1, 1), (2, 2)], [(1, 2), (3, 1)]):
        net = nn.Sequential(*(nn.Conv2d(1, 1, kernel, stride) for kernel, stride in layers))
        x = torch.randn(1, 1, 48, 48)
        assert side(sees(net, x, at=(0, 0, 0, 0))) == (receptive_field(layers),) * 2
    published = [(4, 2)] * 3 + [(4, 1)] * 2
    for wrong in (
        1 + sum(k - 1 for k, _ in published),  # strides left out
        1 + sum((k - 1) * 2**i for i, (k, _) in enumerate(published)),  # every layer strided
        sum(k for k, _ in published),
        receptive_field(published[::-1]),  # from the wrong end
    ):
        assert wrong != receptive_field(published) == 70
    for bad in ([(0, 1)], [(3, 0)]):
        with pytest.raises(ValueError, match=r"kernel|stride"):
            receptive_field(bad)


def test_the_image_beside_is_seen_and_belongs_to_its_row() -> None:
    judge = PatchDiscriminator(3, condition_channels=1, width=4, layers=1)
    x, beside = torch.randn(2, 3, 12, 12), torch.randn(2, 1, 12, 12)
    logits = judge(x, beside)
    assert logits.shape == (2, 4, 4)
    other = beside.clone()
    other[1] = -other[1]
    again = judge(x, other)
    assert torch.equal(again[0], logits[0])
    assert not torch.equal(again[1], logits[1])
    with pytest.raises(ValueError, match="got none"):
        judge(x)
    with pytest.raises(ValueError, match="takes no image beside"):
        PatchDiscriminator(3, width=4, layers=1)(x, beside)


NETS = {
    "patches": lambda norm: PatchDiscriminator(1, width=4, layers=1, norm=norm),
    "u-net": lambda norm: TranslationUNet(1, 2, width=4, norm=norm),
    "resnet": lambda norm: ResnetGenerator(1, 2, width=4, blocks=2, norm=norm),
    "residual": lambda norm: ResidualUNet(1, 2, width=4, multipliers=(1, 2), attention=()),
}


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("norm", ["none", "instance"])
def test_images_of_a_batch_do_not_mix_and_every_parameter_learns(name, norm) -> None:
    net = NETS[name](norm)
    x = torch.randn(3, 1, 16, 16)
    whole = net(x)
    torch.testing.assert_close(net(x[1:2])[0], whole[1], rtol=0, atol=1e-12)
    x.requires_grad_()
    (slope,) = torch.autograd.grad(net(x)[0].square().sum(), x)
    assert slope[1:].abs().max() == 0
    net(x).square().sum().backward()
    silent = [n for n, p in net.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    allowed = {"residual"} if name == "residual" else set()  # its last layer begins at 0
    assert not silent or name in allowed, silent


@pytest.mark.parametrize("name", ["u-net", "resnet"])
def test_outputs_begin_with_the_scale_of_images(name) -> None:
    torch.manual_seed(0)
    made = {
        "u-net": lambda: TranslationUNet(3, 3, width=16, bounded=False),
        "resnet": lambda: ResnetGenerator(3, 3, width=8, blocks=3, norm="none"),
    }[name]
    x = torch.randn(8, 3, 32, 32)
    stds = [made()(x).std().item() for _ in range(4)]
    assert 0.3 < min(stds) < max(stds) < 2.0


def cut(net: TranslationUNet) -> TranslationUNet:
    """The bottleneck passes nothing."""
    for parameter in net.down[-1].parameters():
        nn.init.zeros_(parameter)
    return net


def test_with_the_bottleneck_cut_only_skips_pass_what_the_input_shows() -> None:
    x = torch.randn(1, 1, 16, 16)
    with_skips, without = cut(TranslationUNet(1, 1, width=4)), cut(TranslationUNet(1, 1, width=4, skips=False))
    seen = sees(with_skips, x, at=(0, 0, 7, 7))
    assert seen[7, 7]
    assert 4 < seen.sum() < 256
    assert not sees(without, x, at=(0, 0, 7, 7)).any()
    assert sees(TranslationUNet(1, 1, width=4, skips=False), x, at=(0, 0, 7, 7)).any()


def test_without_skips_the_layers_are_the_same_but_for_what_stood_beside() -> None:
    def shapes(skips: bool) -> list[list[int]]:
        net = TranslationUNet(3, 3, width=4, skips=skips)
        return [list(p.shape) for p in net.parameters() if p.ndim == 4]

    with_skips, without = shapes(True), shapes(False)
    assert len(with_skips) == len(without) == 6
    assert [a == b for a, b in zip(with_skips, without, strict=True)] == [True] * 4 + [False] * 2
    assert with_skips[4][0] == 2 * without[4][0]


def test_noise_is_the_same_at_every_place_and_needed_where_it_is_asked_for() -> None:
    x, z = torch.randn(2, 1, 16, 16), torch.randn(2, 3)
    for net in (TranslationUNet(1, 2, width=4, noise=3), ResidualUNet(1, 2, width=4, attention=(), noise=3)):
        for parameter in net.parameters():  # some of one network begin at 0
            nn.init.normal_(parameter, std=0.2)
        assert net.latent == 3
        moved = net(x, z) - net(x, torch.cat([z[:1], -z[1:]]))
        assert moved[0].abs().max() == 0
        assert moved[1].abs().max() > 1e-6
        with pytest.raises(ValueError, match="needs z"):
            net(x)
        with pytest.raises(ValueError, match=r"z must|label"):
            net(x, z[:, :2])
    with pytest.raises(ValueError, match="takes no z"):
        ResidualUNet(1, 2, width=4, attention=())(x, z)


def test_an_instance_norm_erases_contrast_and_brightness_of_the_input() -> None:
    x = torch.randn(2, 1, 16, 16)
    net = ResnetGenerator(1, 1, width=4, blocks=1)
    torch.testing.assert_close(net(3.0 * x + 0.5), net(x), rtol=0, atol=1e-3)  # up to the norm's eps
    assert (net(-x) - net(x)).abs().max() > 0.01
    plain = ResnetGenerator(1, 1, width=4, blocks=1, norm="none")
    assert (plain(3.0 * x + 0.5) - plain(x)).abs().max() > 0.1


def test_dropout_acts_in_training_alone_and_never_in_the_last_layer() -> None:
    x, net = torch.randn(1, 1, 32, 32), TranslationUNet(1, 1, width=4, depth=4, dropout=0.5)
    assert not torch.equal(net(x), net(x))
    net.eval()
    assert torch.equal(net(x), net(x))
    assert [any(isinstance(part, nn.Dropout) for part in up.modules()) for up in net.up] == [True, True, True, False]


def test_the_resnet_has_the_papers_layers() -> None:
    """c7s1-64, d128, d256, R256 six times, u128, u64, c7s1-3: weights by formula; biases only where no norm follows."""
    weights = (
        49 * 3 * 64 + 9 * (64 * 128 + 128 * 256) + 6 * 2 * 9 * 256 * 256 + 9 * (256 * 128 + 128 * 64) + 49 * 64 * 3
    )
    net = ResnetGenerator(3, 3, width=64, blocks=6)
    assert sum(p.numel() for p in net.parameters()) == weights + 3
    flat = ResnetGenerator(3, 3, width=4, blocks=1, norm="none")
    assert all(m.bias is not None for m in flat.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d))


def test_the_change_of_an_image_begins_with_none() -> None:
    x = torch.randn(2, 3, 16, 16)
    assert torch.equal(ResidualUNet(3, 3, width=4, attention=(), change=True)(x), x)
    assert ResidualUNet(3, 3, width=4, attention=())(x).abs().max() == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PatchDiscriminator(0), "channels"),
        (lambda: PatchDiscriminator(1, layers=-1), "layers"),
        (lambda: PatchDiscriminator(1, norm="batch"), "none, instance"),  # type: ignore[arg-type]
        (lambda: PatchDiscriminator(1, width=2, layers=3)(torch.zeros(1, 1, 16, 16)), "24 or more"),
        (lambda: PatchDiscriminator(1, condition_channels=1, layers=1)(*torch.zeros(2, 1, 1, 12, 4)), "6 or more"),
        (lambda: TranslationUNet(1, 1, depth=1), "depth"),
        (lambda: TranslationUNet(1, 1, dropout=1.5), "dropout"),
        (lambda: TranslationUNet(1, 1, width=2)(torch.zeros(1, 1, 12, 12)), "multiples of 8"),
        (lambda: TranslationUNet(1, 1, width=2)(torch.zeros(1, 2, 16, 16)), "images must"),
        (lambda: ResnetGenerator(1, 1, blocks=0), "blocks"),
        (lambda: ResnetGenerator(1, 1, width=2)(torch.zeros(1, 1, 10, 12)), "multiples of 4"),
        (lambda: ResidualUNet(1, 3, change=True), "has its channels"),
        (lambda: ResidualUNet(1, 3, noise=-1), "noise"),
    ],
)
def test_bad_input_is_refused(make, message) -> None:
    with pytest.raises(ValueError, match=message):
        make()
