"""Masked networks see what they may and nothing else: by the Jacobian, and by sampling with a cache and without."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from minigen.nets import pixelcnn
from minigen.nets.pixel_transformer import PixelTransformer
from minigen.nets.pixelcnn import GatedPixelCNN, MaskedConv2d, PixelCNN
from minigen.objectives.autoregressive import LogisticMixture
from minigen.samplers import autoregressive

NETS = {
    "pixelcnn": lambda: PixelCNN(3, width=8, blocks=2),
    "gated": lambda: GatedPixelCNN(3, width=8, layers=3),
    "gated, reach 1": lambda: GatedPixelCNN(3, width=8, layers=2, reach=1),
    "transformer": lambda: PixelTransformer(3, size=(6, 7), width=12, blocks=2, heads=2),
    "transformer, two groups": lambda: PixelTransformer(3, size=(6, 7), width=16, blocks=2, heads=4, groups=2),
    "transformer, all heads": lambda: PixelTransformer(3, size=(6, 7), width=12, blocks=2, heads=2, groups=2),
}

CONTEXTS = {
    "gated, context": lambda: GatedPixelCNN(3, width=8, layers=3, context_dim=4),
    "transformer, context": lambda: PixelTransformer(3, size=(6, 7), width=16, heads=4, groups=2, context_dim=4),
}
MIXTURES = {
    "pixelcnn, mixture": lambda: LogisticMixture(PixelCNN(3, width=8, blocks=2, outputs=6), 3),
    "gated, context, mixture": lambda: LogisticMixture(
        GatedPixelCNN(3, width=8, layers=3, context_dim=4, outputs=6), 3
    ),
    "transformer, mixture": lambda: LogisticMixture(PixelTransformer(3, size=(6, 7), width=12, heads=2, outputs=6), 3),
}
SAMPLED = NETS | CONTEXTS | MIXTURES

pytestmark = pytest.mark.usefixtures("float64")


def influence(net: nn.Module, height: int, width: int, monkeypatch) -> Tensor:
    """Whether pixel b's input moves pixel a's logits, (H W, H W), by the Jacobian of the network from its one-hots."""
    if isinstance(net, PixelTransformer):
        return influence_on_tokens(net)
    given = torch.rand(1, 3, height, width)
    for module in (pixelcnn,):
        monkeypatch.setattr(module, "one_hot", lambda x, levels, dtype: x)
    jacobian = torch.autograd.functional.jacobian(lambda x: net(x)[0].sum(0), given)  # (H, W, 1, K, H, W)
    return jacobian.abs().sum((2, 3)).flatten(2).flatten(0, 1) > 0


def influence_on_tokens(net: PixelTransformer) -> Tensor:
    """The same by the Jacobian from the levels' embeddings, of which that at place t + 1 is pixel t's."""
    x = torch.randint(3, (1, 1, *net.size))

    def logits(embedded: Tensor) -> Tensor:
        hook = net.level.register_forward_hook(lambda *_: embedded)
        try:
            return net(x)[0].sum(0).flatten()
        finally:
            hook.remove()

    jacobian = torch.autograd.functional.jacobian(logits, net.level(torch.randint(3, (1, 42)))).abs().sum((1, 3))
    assert jacobian.diagonal().min() > 0, "the place itself holds the pixel before"
    return nn.functional.pad(jacobian[:, 1:], (0, 1)) > 0


@pytest.mark.parametrize("name", NETS)
def test_no_pixel_moves_its_own_logits_or_those_before_it(name: str, monkeypatch) -> None:
    moved = influence(NETS[name](), 6, 7, monkeypatch)
    assert not moved.triu().any()
    assert moved.tril(-1).any(1)[1:].all(), "every pixel but the first sees some"


def offsets(size: int, mask: str) -> set[tuple[int, int]]:
    """(up, left) of what one masked convolution sees."""
    reach = size // 2
    square = [(up, left) for up in range(reach + 1) for left in range(-reach, reach + 1)]
    return {(up, left) for up, left in square if up > 0 or left > 0 or (left == 0 and mask == "B")}


def test_the_field_of_view_of_a_pixelcnn_has_a_blind_spot(monkeypatch) -> None:
    """It is the sum of the fields of its layers, and lacks what lies to the right, just above."""
    field = {
        (first[0] + second[0] + third[0], first[1] + second[1] + third[1])
        for first in offsets(7, "A")
        for second in offsets(3, "B")
        for third in offsets(3, "B")
    }
    net = PixelCNN(3, width=16, blocks=2)
    seen = influence(net, 9, 13, monkeypatch)[8 * 13 + 6].view(9, 13)
    expected = torch.tensor([[(8 - row, 6 - column) in field for column in range(13)] for row in range(9)])
    assert torch.equal(seen, expected)
    assert not seen[7, 10:].any(), "the blind spot: the row above, from four to the right on"
    assert seen[5, 11]


def test_masks_count_the_positions_before() -> None:
    a, b = MaskedConv2d(1, 1, 5, mask="A"), MaskedConv2d(1, 1, 5, mask="B")
    assert a.mask.tolist() == [[1] * 5, [1] * 5, [1, 1, 0, 0, 0], [0] * 5, [0] * 5]
    assert b.mask.tolist() == [[1] * 5, [1] * 5, [1, 1, 1, 0, 0], [0] * 5, [0] * 5]
    for size, mask in ((4, "A"), (3, "C")):
        with pytest.raises(ValueError, match="size must be odd and mask"):
            MaskedConv2d(1, 1, size, mask=mask)


@pytest.mark.parametrize("mask", ["A", "B"])
@pytest.mark.parametrize("size", [1, 3, 5])
def test_a_cached_convolution_gives_the_numbers_of_the_whole(mask: str, size: int) -> None:
    conv, x = MaskedConv2d(2, 4, size, mask=mask), torch.randn(3, 2, 5, 6)
    whole, cache = conv(x), conv.init_cache(3, 5, 6)
    for row in range(5):
        for column in range(6):
            if mask == "B":
                cache.append(x[:, :, row, column], row, column)
            torch.testing.assert_close(cache.at(row, column), whole[:, :, row, column], atol=1e-12, rtol=0)
            cache.append(x[:, :, row, column], row, column)
    again = torch.stack([cache.at(row, column) for row in range(5) for column in range(6)], dim=2)
    torch.testing.assert_close(again.view_as(whole), whole, atol=1e-12, rtol=0, msg="what comes later is masked")


@pytest.mark.parametrize("name", NETS)
def test_a_cached_pass_gives_the_logits_of_the_whole(name: str) -> None:
    net, x = NETS[name](), torch.randint(3, (2, 1, 6, 7))
    whole, cache = net(x), net.init_cache(2, 6, 7)
    for row in range(6):
        for column in range(7):
            torch.testing.assert_close(cache.logits(row, column), whole[:, :, row, column], atol=1e-11, rtol=0)
            cache.append(x[:, 0, row, column], row, column)


def sharp(name: str, n: int) -> tuple[nn.Module, Tensor | None]:
    """A network whose logits move by 1 with the pixels before (of an untrained one: hardly), and a context."""
    net = SAMPLED[name]()
    context = torch.randn(n, 4) if ", context" in name else None
    inner = net.net if isinstance(net, LogisticMixture) else net
    with torch.no_grad():
        found = inner(torch.randint(3, (n, 1, 6, 7)), *(() if context is None else (context,)))
        factor = 1 / found.std(0).mean()
        inner.last.weight.mul_(factor)
        inner.last.bias.sub_(found.mean((0, 2, 3))).mul_(factor)
    return net, context


@pytest.mark.parametrize("name", SAMPLED)
def test_cached_and_naive_samples_are_the_same_pixel_by_pixel(name: str) -> None:
    (net, context), uniform = sharp(name, 20), torch.rand(20, 6, 7)
    last = {}
    for temperature in (1.0, 0.5, 0.0):
        options = {"temperature": temperature, "context": context}
        cached = list(autoregressive.sample(net, uniform, **options))
        naive = list(autoregressive.sample(net, uniform, **options, cached=False))
        assert len(cached) == 6
        assert all(torch.equal(a, b) for a, b in zip(cached, naive, strict=True))
        last[temperature] = cached[-1]
    assert len(last[1.0].unique()) == 3
    assert len(last[1.0].unique(dim=0)) == 20
    assert not torch.equal(last[1.0], last[0.5])
    assert not torch.equal(last[0.5], last[0.0])
    if context is not None:
        *_, other = autoregressive.sample(net, uniform, context=-context)
        assert not torch.equal(other, last[1.0])


@pytest.mark.parametrize("name", SAMPLED)
def test_a_cached_sampling_computes_about_as_much_as_one_forward_pass(name: str) -> None:
    """The naive loop over 42 pixels computes 42 times as much. Of a forward pass, attention itself is not counted."""
    net, context = sharp(name, 4)
    uniform, given = torch.rand(4, 6, 7), () if context is None else (context,)
    with FlopCounterMode(display=False) as once:
        net(torch.zeros(4, 1, 6, 7, dtype=torch.int64), *given)
    with FlopCounterMode(display=False) as cached:
        list(autoregressive.sample(net, uniform, context=context))
    assert 0 < cached.get_total_flops() < 1.5 * once.get_total_flops()


def test_sampled_levels_are_the_callers_to_use() -> None:
    """Between rows gradients are on, and what was yielded can take part in them and be changed."""
    net, rows = PixelCNN(3, width=8, blocks=1), []
    for levels in autoregressive.sample(net, torch.rand(2, 3, 3)):
        assert torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()
        net(levels).sum().backward()
        rows.append(levels.add_(1))
    assert (rows[0] >= 1).all()
    assert (rows[0][:, :, 1:] == 1).all(), "the rows to come are 0 at first, whatever becomes of those yielded later"


def test_samples_follow_the_networks_distribution() -> None:
    """Of two pixels of two levels, all four images, against the product of their conditionals."""
    net = PixelCNN(2, width=4, blocks=1)
    every = torch.cartesian_prod(torch.arange(2), torch.arange(2)).view(4, 1, 1, 2)
    log_p = net(every).log_softmax(1).gather(1, every).sum((1, 2, 3))
    assert log_p.exp().sum().item() == pytest.approx(1, abs=1e-12)
    (drawn,) = autoregressive.sample(net, torch.rand(20_000, 1, 2))
    share = torch.bincount((drawn * torch.tensor([2, 1])).sum((1, 2, 3)), minlength=4) / 20_000
    torch.testing.assert_close(share, log_p.exp().detach(), atol=0.015, rtol=0)


@pytest.mark.parametrize("name", SAMPLED)
def test_known_pixels_stay_and_change_what_follows(name: str) -> None:
    (net, context), uniform = sharp(name, 20), torch.rand(20, 6, 7)
    given, upper = torch.randint(3, (20, 1, 6, 7)), torch.arange(6)[:, None].expand(6, 7) < 3
    *_, free = autoregressive.sample(net, uniform, context=context)
    for known in (upper, torch.rand(6, 7) < 0.5):
        *_, completed = autoregressive.sample(net, uniform, context=context, known=(given, known))
        assert torch.equal(completed[:, :, known], given[:, :, known])
        assert not torch.equal(completed[:, :, ~known], free[:, :, ~known])
        *_, again = autoregressive.sample(net, uniform, context=context, known=(given, known), cached=False)
        assert torch.equal(again, completed)


def test_the_gated_network_has_no_blind_spot(monkeypatch) -> None:
    """All pixels before, within the reach of its layers: the rows above to both sides, and the row to the left."""
    seen = influence(GatedPixelCNN(3, width=16, layers=3, reach=3), 9, 13, monkeypatch)[8 * 13 + 6].view(9, 13)
    up, left = torch.meshgrid(8 - torch.arange(9), 6 - torch.arange(13), indexing="ij")
    before = (up > 0) | (left > 0)
    assert torch.equal(seen, before & (up <= 5) & (left.abs() <= 5))


@pytest.mark.parametrize(
    "make",
    [
        lambda c: GatedPixelCNN(3, width=8, layers=3, context_dim=c),
        lambda c: PixelTransformer(3, size=(6, 7), width=12, heads=2, context_dim=c),
    ],
)
def test_a_context_moves_the_logits_and_the_cached_pass(make) -> None:
    net, x = make(4), torch.randint(3, (2, 1, 6, 7))
    context = torch.randn(2, 4)
    whole, cache = net(x, context), net.init_cache(2, 6, 7, context)
    for row in range(6):
        for column in range(7):
            torch.testing.assert_close(cache.logits(row, column), whole[:, :, row, column].detach(), atol=1e-11, rtol=0)
            cache.append(x[:, 0, row, column], row, column)
    assert ((whole - net(x, context + 1)).abs().amax((0, 1)) > 0).all()
    for wrong in (lambda: net(x), lambda: make(0)(x, context), lambda: net.init_cache(2, 6, 7)):
        with pytest.raises(ValueError, match="context"):
            wrong()


def test_the_transformer_keeps_its_scale_across_depth() -> None:
    torch.manual_seed(0)
    net, scales = PixelTransformer(3, size=(6, 7), width=64, blocks=12), []
    for block in net.blocks:
        block.register_forward_hook(lambda _module, _given, out: scales.append(out.std().item()))
    net(torch.randint(3, (4, 1, 6, 7)))
    assert len(scales) == 12
    assert max(scales) < 3 * min(scales)
    with pytest.raises(ValueError, match=r"\(B, 1, 6, 7\); got torch.int64 \(4, 1, 7, 6\)"):
        net(torch.randint(3, (4, 1, 7, 6)))
    with pytest.raises(ValueError, match="multiple of heads"):
        PixelTransformer(3, size=(6, 7), width=10, heads=4)


def test_draw_inverts_the_cumulated_probability() -> None:
    logits = torch.tensor([0.2, 0.3, 0.5]).log().expand(6, 3)
    uniform = torch.tensor([0.0, 0.1999, 0.2001, 0.4999, 0.5001, 1 - 1e-12])
    assert autoregressive.draw(logits, uniform).tolist() == [0, 0, 1, 1, 2, 2]
    assert autoregressive.draw(logits, uniform, temperature=0).tolist() == [2] * 6
    squares = torch.tensor([0.1052, 0.1053, 0.3421, 0.3422])  # 0.04, 0.09, 0.25, of 0.38
    assert autoregressive.draw(logits[:4], squares, temperature=0.5).tolist() == [0, 1, 1, 2]
    with pytest.raises(ValueError, match="at least 0; got -1"):
        autoregressive.draw(logits, uniform, temperature=-1)


@pytest.mark.parametrize("name", NETS)
def test_every_parameter_that_is_not_masked_gets_a_gradient(name: str) -> None:
    net, x = NETS[name](), torch.randint(3, (8, 1, 6, 7))
    nn.functional.cross_entropy(net(x), x[:, 0]).backward()
    for module in net.modules():
        for key, parameter in module.named_parameters(recurse=False):
            moved = parameter.grad != 0
            assert moved.any(), (module, key)
            if key == "weight" and hasattr(module, "mask"):
                assert torch.equal(moved.flatten(0, 1).any(0), module.mask > 0), module


def test_levels_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"int64 \(B, 1, H, W\); got torch.float64 \(2, 1, 3, 3\)"):
        PixelCNN(3)(torch.rand(2, 1, 3, 3))


def test_a_residual_block_sees_its_own_pixel_and_a_gate_is_tanh_times_a_logistic() -> None:
    """Mask A in a block would lose a pixel of context in each; its own features come through the identity as well."""
    block = pixelcnn.ResidualBlock(4)
    assert block.masked.mask.tolist() == [[1, 1, 1], [1, 1, 0], [0, 0, 0]]
    x = torch.rand(1, 8, 5, 6)
    branch = torch.autograd.functional.jacobian(lambda x: (block(x) - x)[0, :, 2, 3].sum(), x)[0].abs().sum(0) > 0
    rows, columns = branch.nonzero().T.tolist()
    assert {(r - 2, c - 3) for r, c in zip(rows, columns, strict=True)} == {(-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 0)}
    assert [layer.masked.mask[1, 1].item() for layer in PixelCNN(3, width=4, blocks=3).blocks] == [1, 1, 1]
    assert PixelCNN(3, width=4).first.mask[3, 3] == 0, "the first layer alone hides the pixel itself"
    f, g = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    expected = (f.exp() - (-f).exp()) / (f.exp() + (-f).exp()) / (1 + (-g).exp())
    torch.testing.assert_close(pixelcnn.gate(torch.cat([f, g], dim=1)), expected)


@pytest.mark.parametrize("first", [True, False])
def test_a_gated_layer_is_its_formula(first: bool) -> None:
    """van den Oord et al. 2016, figure 2 and eq. 4, pixel by pixel with random weights."""
    layer = pixelcnn.GatedLayer(2, 3, reach=1, context_dim=4, first=first)
    v, h, context = torch.randn(2, 2, 3, 4), torch.randn(2, 2, 3, 4), torch.randn(2, 4)
    if not first:
        h = torch.randn(2, 3, 3, 4)
        layer.horizontal = nn.Conv2d(3, 6, (1, 2))
    for_v, for_h = (layer.context.weight @ context[0]).split(6)
    new_v, new_h = layer(v, h, context)
    end = 0 if first else 1  # the rows and pixels that are seen end one earlier in the first layer
    for row in range(3):
        for column in range(4):
            rows, pixels = layer.vertical.bias.clone(), layer.horizontal.bias.clone()
            for i in range(layer.vertical.weight.shape[2]):
                for j in range(3):
                    y, x = row + end - layer.vertical.weight.shape[2] + i, column + j - 1
                    if y >= 0 and 0 <= x < 4:
                        rows = rows + layer.vertical.weight[:, :, i, j] @ v[0, :, y, x]
            for j in range(layer.horizontal.weight.shape[3]):
                x = column + end - layer.horizontal.weight.shape[3] + j
                if x >= 0:
                    pixels = pixels + layer.horizontal.weight[:, :, 0, j] @ h[0, :, row, x]
            pixels = pixels + layer.down.weight[:, :, 0, 0] @ rows + layer.down.bias + for_h
            rows = rows + for_v
            gated_v = torch.tanh(rows[:3]) * torch.sigmoid(rows[3:])
            gated_h = (
                layer.out.weight[:, :, 0, 0] @ (torch.tanh(pixels[:3]) * torch.sigmoid(pixels[3:])) + layer.out.bias
            )
            torch.testing.assert_close(new_v[0, :, row, column], gated_v)
            torch.testing.assert_close(new_h[0, :, row, column], gated_h if first else gated_h + h[0, :, row, column])


@pytest.mark.parametrize("make", [lambda: PixelCNN(3), NETS["gated"], NETS["transformer"]])
def test_levels_out_of_range_and_of_another_kind_are_refused(make) -> None:
    net, x = make(), torch.randint(3, (2, 1, 6, 7))
    for wrong, says in (
        (x.index_fill(3, torch.tensor([2]), 3), r"levels must be int64 in 0\.\.2; got 0\.\.3"),
        (x - 1, r"0\.\.2; got -1\.\.1"),
        (x.byte(), "torch.uint8"),
        (x / 2, "torch.float64"),
    ):
        with pytest.raises(ValueError, match=says):
            net(wrong)
