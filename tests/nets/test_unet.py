"""Denoising networks, U-Net and diffusion transformer: what they begin as, what they see, and what moves them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from minigen.nets.attention import record_attention
from minigen.nets.conditioning import Cond
from minigen.nets.dit import DiT
from minigen.nets.unet import AttentionBlock, ResidualBlock, UNet

NETS = {
    "unet": lambda **more: UNet(3, width=8, **more),
    "unet, two blocks": lambda **more: UNet(3, width=8, multipliers=(1, 2), blocks=2, attention=(0, -1), **more),
    "unet, patches": lambda **more: UNet(3, width=8, multipliers=(1, 2), patch=2, attention=(-1,), **more),
    "dit": lambda **more: DiT(3, size=(8, 12), width=16, depth=3, **more),
}
CONTEXT = {"context_dim": 6, "label_dim": 5}
SHAPE = (4, 3, 8, 12)

pytestmark = pytest.mark.usefixtures("float64")


def inputs() -> tuple[Tensor, ...]:
    """Images, levels, labels, words and which of those are there: some, all, one, none."""
    mask = torch.tensor([[True, True, False], [True, True, True], [False, True, False], [False, False, False]])
    return torch.randn(SHAPE), torch.tensor([-4.0, 0.0, 2.0, 7.0]), torch.randn(4, 5), torch.randn(4, 3, 6), mask


def awake(net: nn.Module) -> nn.Module:
    """The network with all that begins at 0 drawn at random, so that every part of it does something."""
    for parameter in net.parameters():
        if parameter.ndim > 1 and not parameter.any():
            nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    return net


@pytest.mark.parametrize("name", NETS)
def test_a_network_begins_as_zero(name: str) -> None:
    assert (NETS[name](**CONTEXT)(*inputs()) == 0).all()
    assert NETS[name]()(*inputs()[:2]).shape == SHAPE
    assert awake(NETS[name]())(*inputs()[:2]).std() > 0.1


@pytest.mark.parametrize("name", NETS)
def test_a_few_steps_from_there_move_every_parameter(name: str) -> None:
    """A zero in front of a zero has no slope: what lies behind moves when the one before has moved."""
    net = NETS[name](**CONTEXT)
    before = {key: parameter.detach().clone() for key, parameter in net.named_parameters()}
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(4):
        optimizer.zero_grad()
        (net(*inputs()) - torch.randn(SHAPE)).square().mean().backward()
        optimizer.step()
    for key, parameter in net.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.abs().max() > 0, key
        assert (parameter - before[key]).abs().max() > 0, key


def scales(net: nn.Module, kinds: tuple[type, ...], *given: Tensor) -> list[float]:
    """Root mean square of what each such module puts out, in the order of the calls."""
    found: list[float] = []
    for module in net.modules():
        if isinstance(module, kinds):
            module.register_forward_hook(lambda _, __, out: found.append(out.square().mean().sqrt().item()))
    net(*given)
    return found


@pytest.mark.parametrize("depth", [2, 5])
@pytest.mark.parametrize("blocks", [1, 3])
def test_a_unet_begins_at_scale_one_at_any_depth(depth: int, blocks: int) -> None:
    net = UNet(3, width=32, multipliers=[1, 2, 2, 2, 2][:depth], blocks=blocks, attention=(-1,))
    x, levels = torch.randn(8, 3, 32, 32), torch.linspace(-8, 8, 8)
    trunk = (nn.ConvTranspose2d, ResidualBlock, AttentionBlock)
    found = scales(net, trunk, x, levels)
    assert len(found) == depth * 2 * blocks + 1 + (depth - 1) + 2 * blocks
    assert min(found) > 0.75
    assert max(found) < 1.25
    grown = scales(awake(net), trunk, x, levels)[: len(found)]
    assert max(grown) < 2 * (len(found)) ** 0.5, "a branch adds its variance once"


@pytest.mark.parametrize("depth", [2, 12])
def test_a_transformer_begins_at_scale_one_at_any_depth(depth: int) -> None:
    net = DiT(3, size=16, width=64, depth=depth)
    x, levels = torch.randn(8, 3, 16, 16), torch.linspace(-8, 8, 8)
    found = scales(net, tuple({type(block) for block in net.blocks}), x, levels)
    assert len(found) == depth
    assert max(found) - min(found) < 1e-12, "every block begins as the identity"
    assert abs(found[0] - 1.5**0.5) < 0.1, "patches of variance 1, and positions: sines and cosines"
    assert max(scales(awake(net), tuple({type(net.blocks[0])}), x, levels)) < 2 * (2 * depth) ** 0.5


@pytest.mark.parametrize("name", NETS)
def test_the_images_of_a_batch_never_mix(name: str) -> None:
    net, (x, *told) = awake(NETS[name](**CONTEXT)), inputs()
    given = [x, *told[:-1]]
    for part in given:
        part.requires_grad_()
    for i, slope in enumerate(torch.autograd.grad(net(*given, told[-1])[1].square().sum(), given)):
        assert slope[1].abs().sum() > 0, i
        assert (slope[[0, 2, 3]] == 0).all(), i


@pytest.mark.parametrize("name", NETS)
def test_every_pixel_sees_every_other(name: str) -> None:
    net, (x, level, *_) = awake(NETS[name]()), inputs()
    jacobian = torch.autograd.functional.jacobian(
        lambda x: net(x, level[:1]).sum((0, 1)).flatten()[::7], x[:1], vectorize=True
    )
    assert (jacobian.abs().sum((1, 2)) > 0).all()


@pytest.mark.parametrize("name", NETS)
def test_level_label_and_words_matter_to_their_own_image(name: str) -> None:
    net, (x, level, label, words, mask) = awake(NETS[name](**CONTEXT)), inputs()
    before = net(x, level, label, words, mask)
    scale = before.std()
    first = torch.tensor([1.0, 0, 0, 0])[:, None]
    moved = {
        "level": net(x, level + first[:, 0], label, words, mask),
        "label": net(x, level, label + first, words, mask),
        "words": net(x, level, label, words + first[:, :, None], mask),
        "mask": net(x, level, label, words, mask ^ (first > 0)),
    }
    for part, after in moved.items():
        assert (after - before)[0].abs().max() > 1e-2 * scale, part
        assert torch.equal(after[1:], before[1:]), part


@pytest.mark.parametrize("name", NETS)
def test_what_is_masked_or_zero_says_nothing(name: str) -> None:
    net, (x, level, label, words, mask) = awake(NETS[name](**CONTEXT)), inputs()
    before = net(x, level, label, words, mask)
    others = torch.where(mask[..., None], words, 1e3 * torch.randn_like(words))
    assert torch.equal(net(x, level, label, others, mask), before)
    longer, more = torch.cat([words, torch.randn(4, 2, 6)], dim=1), torch.cat([mask, torch.zeros(4, 2).bool()], dim=1)
    torch.testing.assert_close(net(x, level, label, longer, more), before, atol=1e-12, rtol=0)
    nothing = net(x, level, 0 * label, words, torch.zeros_like(mask))
    assert torch.equal(net(x, level, 0 * label, 0 * words), nothing)
    assert torch.equal(net(x, level, 0 * label, 0 * words, mask), nothing)
    assert (nothing[:3] - before[:3]).abs().amax((1, 2, 3)).min() > 1e-2


def test_a_residual_block_is_its_formula_and_begins_as_its_skip() -> None:
    block, x = ResidualBlock(4, 6, 5), 3 + 2 * torch.randn(2, 4, 5, 7)
    told = Cond(torch.randn(2, 5), None, None)
    assert torch.equal(block(x, told), block.skip(x))
    awake(block)
    nn.init.normal_(block.norm.weight)
    nn.init.normal_(block.norm.bias)

    def normal(h: Tensor) -> Tensor:
        """Over the whole image."""
        flat = h.flatten(1)
        flat = (flat - flat.mean(1, keepdim=True)) / (flat.var(1, keepdim=True, correction=0) + 1e-5).sqrt()
        return flat.view(h.shape)

    def append_dims(values: Tensor) -> Tensor:
        return values[..., None, None]

    h = normal(x) * append_dims(block.norm.weight) + append_dims(block.norm.bias)
    scale, shift = block.modulation(told.embedding).split(6, dim=1)
    h = normal(block.first(h * h.sigmoid())) * (1 + append_dims(scale)) + append_dims(shift)
    expected = block.skip(x) + block.last(h * h.sigmoid())
    torch.testing.assert_close(block(x, told), expected, atol=1e-12, rtol=0)


def test_attention_in_a_unet_begins_as_nothing_and_adds_what_places_and_words_give() -> None:
    block, x, (_, _, _, words, mask) = AttentionBlock(8, 2, 6), torch.randn(4, 8, 2, 3), inputs()
    told = Cond(torch.randn(4, 5), words, mask)
    assert torch.equal(block(x, told), x)
    awake(block)
    tokens = torch.stack([block.norm(x)[:, :, i // 3, i % 3] for i in range(6)], dim=1)  # (B, T, D)
    added = block.places(tokens) + block.words(tokens, words, mask)
    for i in range(6):
        torch.testing.assert_close(block(x, told)[:, :, i // 3, i % 3], x[:, :, i // 3, i % 3] + added[:, i])


@pytest.mark.parametrize("step", [1, 2, 4])
@pytest.mark.parametrize("whole", ["pixels", "patches"])
def test_a_unet_moves_with_the_image_by_whole_pixels_of_its_lowest_resolution(step: int, whole: str) -> None:
    """On a torus, without the border that zeros around the image make: what goes down comes up in its place."""
    patch, multipliers = (1, (1, 2, 2)) if whole == "pixels" else (2, (1, 2))
    net = awake(UNet(2, width=8, multipliers=multipliers, attention=(1,), patch=patch))
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            module.padding_mode = "circular"
    x, level = torch.randn(2, 2, 8, 16), torch.zeros(2)
    shift = (4, step)
    error = net(x.roll(shift, (2, 3)), level) - net(x, level).roll(shift, (2, 3))
    assert (error.abs().max() < 1e-12) == (step == 4)


def test_each_block_on_the_way_up_is_given_the_one_opposite() -> None:
    net = UNet(1, width=4, multipliers=(1, 2), blocks=2, attention=())
    given, left = {}, {}
    for level in (0, 1):
        for i in (0, 1):
            net.down[level].blocks[i].register_forward_hook(lambda _, __, out, k=(level, i): left.update({k: out}))
            net.up[level].blocks[i].register_forward_hook(lambda _, x, __, k=(level, i): given.update({k: x[0]}))
    awake(net)(torch.randn(2, 1, 8, 8), torch.zeros(2))
    for level, width in ((0, 4), (1, 8)):
        assert torch.equal(given[level, 0][:, width:], left[level, 1])
        assert torch.equal(given[level, 1][:, width:], left[level, 0])
        assert (left[level, 0] - left[level, 1]).abs().max() > 0.1


def test_tokens_are_patches_in_their_place() -> None:
    """Blocks that are the identity leave each patch to itself; attention then brings in the others."""
    net = DiT(1, size=(6, 9), patch=3, width=16, depth=2, heads=2)
    awake(net)
    x, level = torch.randn(1, 1, 6, 9), torch.zeros(1)
    jacobian = torch.autograd.functional.jacobian(lambda x: net(x, level), x).view(6, 9, 6, 9)
    assert (jacobian != 0).all()
    for block in net.blocks:
        nn.init.zeros_(block.modulation.weight)
    jacobian = torch.autograd.functional.jacobian(lambda x: net(x, level), x).view(6, 9, 6, 9)
    patch = (torch.arange(6)[:, None] // 3) * 3 + torch.arange(9) // 3
    assert torch.equal(jacobian != 0, patch[:, :, None, None] == patch)


def test_a_transformer_knows_where_its_tokens_are() -> None:
    net, level = awake(DiT(2, size=8, width=16, depth=2)), torch.zeros(2)
    x = torch.randn(2, 2, 8, 8)
    shifted = net(x.roll(2, 3), level) - net(x, level).roll(2, 3)
    assert shifted.abs().max() > 1e-2
    nn.init.zeros_(net.places)
    shifted = net(x.roll(2, 3), level) - net(x, level).roll(2, 3)
    assert shifted.abs().max() < 1e-12, "it knows it from the positions alone"


@pytest.mark.parametrize("name", NETS)
def test_bf16_gives_the_numbers_of_float32_to_its_precision(name: str) -> None:
    net, (*given, mask) = awake(NETS[name](**CONTEXT)).float(), inputs()
    given = [part.float() for part in given]
    exact = net(*given, mask)
    with torch.autocast("cpu", torch.bfloat16):
        rough = net(*given, mask)
    assert rough.isfinite().all()
    error = (rough - exact).square().mean().sqrt() / exact.std()
    assert 1e-5 < error < 0.05
    rough.square().sum().backward()
    assert all(
        p.grad is not None and p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in net.parameters()
    )


def test_words_are_looked_at_where_there_is_attention() -> None:
    for name, places in (("unet", [2 * 3, 4 * 6]), ("dit", [4 * 6])):
        net, (*given, mask) = NETS[name](**CONTEXT), inputs()
        with record_attention(net) as seen:
            net(*given, mask)
        shapes = {tuple(weights.shape) for layer, weights in seen.items() if layer.endswith(".words")}
        assert shapes == {(4, 4, n, 3) for n in places}
        assert not any(weights[:, :, :, 0][2:].any() for layer, weights in seen.items() if layer.endswith(".words"))


def test_a_unet_takes_any_sides_that_halve() -> None:
    net, level = UNet(1, width=8, multipliers=(1, 1.5, 2), attention=(2,)), torch.zeros(1)
    assert [block.blocks[0].last.out_channels for block in net.down] == [8, 12, 16]
    patches = UNet(1, width=8, multipliers=(1, 2), attention=(), patch=2)
    for height, width in ((4, 4), (12, 28), (32, 8)):
        assert net(torch.randn(1, 1, height, width), level).shape == (1, 1, height, width)
        assert patches(torch.randn(1, 1, height, width), level).shape == (1, 1, height, width)
    for shape in ((1, 1, 6, 8), (1, 1, 8, 14), (1, 2, 8, 8), (1, 8, 8)):
        for unet in (net, patches):
            with pytest.raises(ValueError, match=r"H and W multiples of 4; got"):
                unet(torch.randn(shape), level)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match=r"resolutions 0\.\.2; got \(3,\)"):
        UNet(1, attention=(3,))
    with pytest.raises(ValueError, match="words need attention"):
        UNet(1, attention=(), context_dim=4)
    with pytest.raises(ValueError, match=r"multiples of patch 2; got 7 x 8"):
        DiT(1, size=(7, 8))
    net = DiT(3, size=8, width=16, depth=1)
    for shape in ((1, 3, 8, 6), (1, 1, 8, 8), (3, 8, 8)):
        with pytest.raises(ValueError, match=r"images must be \(B, 3, 8, 8\); got"):
            net(torch.randn(shape), torch.zeros(1))
    for name in NETS:
        with pytest.raises(ValueError, match=r"log_snr must be \(4,\)"):
            NETS[name]()(inputs()[0], torch.tensor(0.0))
        with pytest.raises(ValueError, match="label must be"):
            NETS[name](**CONTEXT)(*inputs()[:2])


@pytest.mark.parametrize(
    ("attention", "where"), [((), []), ((-1,), [2]), ((0,), [0]), ((-1, 0), [0, 2]), ((1, 2, -1), [1, 2])]
)
def test_attention_is_at_the_resolutions_that_are_named(attention: tuple[int, ...], where: list[int]) -> None:
    net = UNet(1, width=8, multipliers=(1, 1, 2), attention=attention)
    for stages in (net.down, net.up):
        assert [i for i, stage in enumerate(stages) if stage.attend] == where
    with record_attention(net) as seen:
        net(torch.randn(1, 1, 8, 8), torch.zeros(1))
    assert {weights.shape[2] for weights in seen.values()} == {(8 >> i) ** 2 for i in where}, "places there are"


TRANSLATORS = {
    "unet": lambda **more: UNet(3, width=8, multipliers=(1, 2), attention=(1,), **more),
    "unet, patches": lambda **more: UNet(3, width=8, patch=2, **more),
    "dit": lambda **more: DiT(3, size=(8, 12), width=16, depth=3, **more),
}
ALONE = {"out_channels": 1, "noise_level": False}


@pytest.mark.parametrize("name", TRANSLATORS)
def test_a_network_can_be_called_with_the_image_alone_and_give_other_channels(name: str) -> None:
    """It comes down to a translation that no scaling of the image is: the brightness of the pixels to the right."""
    torch.set_default_dtype(torch.float32)
    net = TRANSLATORS[name](**ALONE)
    assert (net.in_channels, net.out_channels) == (3, 1)
    shape = (4, 3, 8, 16) if "patches" in name else SHAPE
    x = torch.randn(shape)
    assert torch.equal(net(x), torch.zeros(4, 1, *shape[2:]))
    wanted = x.mean(1, keepdim=True).roll(-1, 3).tanh()
    before = {key: parameter.detach().clone() for key, parameter in net.named_parameters()}
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        loss = (net(x) - wanted).square().mean()
        loss.backward()
        optimizer.step()
    assert loss < 0.4 * wanted.square().mean()
    for key, parameter in net.named_parameters():
        assert (parameter - before[key]).abs().max() > 0, key
    with pytest.raises(ValueError, match="got 1 tensors, 1 too many"):
        net(x, torch.zeros(4))


@pytest.mark.parametrize("name", TRANSLATORS)
def test_without_a_level_label_and_words_still_matter_and_still_say_nothing_as_zeros(name: str) -> None:
    net, (x, _, label, words, mask) = awake(TRANSLATORS[name](**ALONE, **CONTEXT)), inputs()
    x = torch.randn(4, 3, 8, 16) if "patches" in name else x
    before = net(x, label, words, mask)
    assert (net(x, label + 1, words, mask) - before).abs().max() > 1e-2
    assert (net(x, label, words + 1, mask) - before).abs().max() > 1e-2
    nothing = net(x, 0 * label, 0 * words)
    assert torch.equal(net(x, torch.full((4,), -1), words, torch.zeros_like(mask)), nothing)


@pytest.mark.parametrize("name", NETS)
def test_a_label_may_be_a_class(name: str) -> None:
    net, (x, level, *_) = awake(NETS[name](label_dim=5)), inputs()
    classes = torch.tensor([4, -1, 0, 2])
    one_hot = nn.functional.one_hot(classes.clamp(min=0), 5) * (classes >= 0)[:, None]
    found = net(x, level, classes)
    assert torch.equal(found, net(x, level, one_hot.double()))
    assert (found - net(x, level, classes.roll(1))).abs().amax((1, 2, 3)).min() > 1e-3
    with pytest.raises(ValueError, match=r"classes of a label, or -1 for none, must be int64 in -1\.\.4; got 0\.\.5"):
        net(x, level, torch.tensor([0, 1, 2, 5]))
