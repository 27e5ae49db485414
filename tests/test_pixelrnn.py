"""Recurrent networks over images: fields of view by the Jacobian, and the skewing trick."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from minigen.nets import masked, pixelrnn
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
            if isinstance(module, masked.MaskedConv2d) and key == "weight":
                assert torch.equal(moved.flatten(0, 1).any(0), module.mask > 0)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="one of row, diagonal; got 'column'"):
        PixelRNN(2, kind="column")
