"""Recurrent networks over images: fields of view by the Jacobian, and the skewing trick."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from minigen.nets import pixelrnn
from minigen.nets.pixelcnn import MaskedConv2d
from minigen.nets.pixelrnn import DiagonalBiLSTM, DiagonalLSTM, PixelRNN, RowLSTM, skew, unskew
from minigen.samplers import autoregressive as sampler

pytestmark = pytest.mark.usefixtures("float64")


def influence(net: nn.Module, channels: int, height: int, width: int) -> Tensor:
    """Whether the input at pixel b moves the output at pixel a, (H, W, H, W)."""
    x = torch.randn(1, channels, height, width)
    jacobian = torch.autograd.functional.jacobian(lambda x: net(x)[0].sum(0), x)  # (H, W, 1, C, H, W)
    return jacobian.abs().sum((2, 3)) > 0


@pytest.mark.parametrize("kind", ["row", "diagonal"])
def test_no_pixel_moves_its_own_logits_or_those_before_it(kind: str, monkeypatch) -> None:
    monkeypatch.setattr(pixelrnn, "one_hot", lambda x, levels, dtype: x)
    moved = influence(PixelRNN(3, kind=kind, width=16), 3, 5, 6).flatten(2).flatten(0, 1)
    assert not moved.triu().any()
    assert moved.tril(-1).any(1)[1:].all()


def test_the_context_of_a_row_lstm_is_a_triangle() -> None:
    seen = influence(RowLSTM(4), 4, 6, 9)[5, 4]
    up, left = torch.meshgrid(5 - torch.arange(6), 4 - torch.arange(9), indexing="ij")
    # The masked input adds one to the left in every row; going up, the state adds one to both sides.
    assert torch.equal(seen, (left <= up + 1) & (left >= -up))


def test_the_first_diagonal_pass_sees_up_and_left_and_both_see_all_before() -> None:
    up, left = torch.meshgrid(4 - torch.arange(6), 3 - torch.arange(7), indexing="ij")
    seen = influence(DiagonalLSTM(4), 4, 6, 7)[4, 3]
    assert torch.equal(seen, (up >= 0) & (left >= 0))
    both = influence(DiagonalBiLSTM(4), 4, 6, 7)[4, 3]
    assert torch.equal(both, (up > 0) | ((up == 0) & (left >= 0)))


def test_skewing_turns_diagonals_into_columns_and_back() -> None:
    x = torch.arange(1.0, 13).view(1, 1, 3, 4)
    expected = [[1, 2, 3, 4, 0, 0], [0, 5, 6, 7, 8, 0], [0, 0, 9, 10, 11, 12]]
    assert skew(x)[0, 0].tolist() == expected
    assert torch.equal(unskew(skew(x), 4), x)
    for height, width in ((1, 5), (5, 1), (4, 4)):
        y = torch.randn(2, 3, height, width)
        assert torch.equal(unskew(skew(y), width), y)


def test_a_diagonal_pass_is_the_recursion_over_pixels() -> None:
    """The same LSTM one pixel at a time, without skewing."""
    net, x = DiagonalLSTM(3), torch.randn(2, 3, 4, 5)
    whole, gates = net(x), net.input(x)
    zero = torch.zeros(2, 3, 1)
    hidden, cells = {}, {}
    for row in range(4):
        for column in range(5):
            above, left = hidden.get((row - 1, column), zero), hidden.get((row, column - 1), zero)
            given = gates[:, :, row, column, None] + net.state(torch.cat([above, left], dim=2))
            hidden[row, column], cells[row, column] = pixelrnn.lstm(given, cells.get((row, column - 1), zero))
            torch.testing.assert_close(hidden[row, column][..., 0], whole[:, :, row, column])


def test_a_step_of_the_lstm_is_pytorchs_with_its_gates_in_another_order() -> None:
    """Here output, forget, input, new, as in the paper; in PyTorch input, forget, new, output."""
    cell, x, hidden, before = nn.LSTMCell(5, 3), torch.randn(4, 5), torch.randn(4, 3), torch.randn(4, 3)
    i, f, g, o = (x @ cell.weight_ih.T + hidden @ cell.weight_hh.T + cell.bias_ih + cell.bias_hh).chunk(4, dim=1)
    gates = torch.cat([o, f, i, g], dim=1)[..., None]  # (B, 4C, L)
    found = pixelrnn.lstm(gates, before[..., None])
    for ours, theirs in zip(found, cell(x, (hidden, before)), strict=True):
        torch.testing.assert_close(ours[..., 0], theirs, atol=1e-13, rtol=0)


def test_the_input_of_a_row_lstm_sees_its_own_row_alone() -> None:
    seen = influence(RowLSTM(4).input, 4, 5, 6)
    for row in range(5):
        for column in range(6):
            expected = torch.zeros(5, 6, dtype=torch.bool)
            expected[row, max(0, column - 1) : column + 1] = True
            assert torch.equal(seen[row, column], expected)


@pytest.mark.parametrize("kind", ["row", "diagonal"])
def test_what_layers_find_is_added_to_what_they_were_given(kind: str) -> None:
    net = PixelRNN(3, kind=kind, width=8)
    x = torch.randint(3, (1, 1, 4, 5))
    changed = x.clone()
    changed[0, 0, 0, 0] = (x[0, 0, 0, 0] + 1) % 3
    for layer in net.layers:
        layer.register_forward_hook(lambda _, given, out: 0 * out)
    assert (net(changed) - net(x)).abs().max() > 1e-3


def test_a_row_pass_is_the_recursion_over_pixels() -> None:
    """PyTorch's LSTM cell one pixel at a time: the input of its own row, and the hidden states of three above."""
    net, x = RowLSTM(3), torch.randn(2, 3, 4, 5)
    whole, own, above = net(x), net.input.weight[:, :, 1], net.state.weight  # (4C, C, 3) both
    cell = nn.LSTMCell(12, 3, bias=False)
    order = torch.tensor([2, 1, 3, 0]).repeat_interleave(3) * 3 + torch.arange(3).repeat(4)  # theirs: i, f, g, o
    with torch.no_grad():
        cell.weight_ih.copy_(torch.eye(12)[order])
        cell.weight_hh.zero_()
    zero = torch.zeros(2, 3)
    hidden, cells = {}, {}
    for row in range(4):
        for column in range(5):
            gates = net.input.bias + x[:, :, row, column] @ own[..., 1].mT
            if column:
                gates = gates + x[:, :, row, column - 1] @ own[..., 0].mT
            for tap in range(3):
                gates = gates + hidden.get((row - 1, column + tap - 1), zero) @ above[..., tap].mT
            before = zero, cells.get((row - 1, column), zero)
            hidden[row, column], cells[row, column] = cell(gates, before)
            torch.testing.assert_close(hidden[row, column], whole[:, :, row, column], atol=1e-13, rtol=0)


def test_both_diagonal_passes_are_added_and_the_second_is_mirrored_and_a_row_late() -> None:
    net, x = DiagonalBiLSTM(3), torch.randn(2, 3, 4, 5)
    left, mirrored, whole = net.left(x), net.right(x[..., [4, 3, 2, 1, 0]]), net(x)
    for row in range(4):
        for column in range(5):
            late = mirrored[:, :, row - 1, 4 - column] if row else 0
            torch.testing.assert_close(whole[:, :, row, column], left[:, :, row, column] + late)


@pytest.mark.parametrize("kind", ["row", "diagonal"])
def test_what_stands_around_the_layers_is_its_formula(kind: str) -> None:
    """A 7x7 convolution that sees three rows above and three pixels to the left, sums, relu, 1x1, relu, 1x1."""
    net, x = PixelRNN(3, kind=kind, width=6), torch.randint(3, (2, 1, 5, 6))
    calls = []
    for layer in net.layers:
        layer.register_forward_hook(lambda _, given, out: calls.append((given[0], out)))
    logits, pixels = net(x), nn.functional.pad(nn.functional.one_hot(x[:, 0], 3).double(), (0, 0, 3, 3, 3, 0))
    h = net.first.bias.expand(2, 5, 6, 6)
    for up in range(4):
        for left in range(-3, 4) if up else range(1, 4):
            seen = pixels[:, 3 - up : 8 - up, 3 - left : 9 - left]  # (B, H, W, K)
            h = h + seen @ net.first.weight[:, :, 3 - up, 3 - left].mT
    assert len(calls) == 2
    for given, out in calls:
        torch.testing.assert_close(given, h.movedim(-1, 1))
        h = h + out.movedim(1, -1)
    for layer in (net.hidden, net.last):
        h = h.clamp(min=0) @ layer.weight[:, :, 0, 0].mT + layer.bias
    torch.testing.assert_close(logits, h.movedim(-1, 1))


@pytest.mark.parametrize("kind", ["row", "diagonal"])
def test_it_has_no_cached_pass_and_is_sampled_without(kind: str) -> None:
    net, uniform = PixelRNN(3, kind=kind, width=8), torch.rand(4, 3, 5)
    with pytest.raises(ValueError, match=r"PixelRNN has no cached pass.*cached=False"):
        next(sampler.sample(net, uniform))
    *_, drawn = sampler.sample(net, uniform, cached=False)
    again = sampler.draw(net(drawn).flatten(2).mT.flatten(0, 1), uniform.flatten())
    assert torch.equal(again, drawn.flatten()), "each pixel is the draw from the logits given those before it"


@pytest.mark.parametrize("kind", ["row", "diagonal"])
def test_every_parameter_that_is_not_masked_gets_a_gradient(kind: str) -> None:
    net, x = PixelRNN(3, kind=kind, width=8), torch.randint(3, (8, 1, 6, 7))
    nn.functional.cross_entropy(net(x), x[:, 0]).backward()
    for module in net.modules():
        for key, parameter in module.named_parameters(recurse=False):
            moved = parameter.grad != 0
            assert moved.any(), (module, key)
            if isinstance(module, MaskedConv2d) and key == "weight":
                assert torch.equal(moved.flatten(0, 1).any(0), module.mask > 0)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="one of row, diagonal; got 'column'"):
        PixelRNN(2, kind="column")
