"""Pixels as levels and as numbers: exact maps, and fresh noise: its law, and that it is an argument."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import pytest
import torch

from minigen import data
from minigen.data.batches import Stream
from minigen.data.levels import binarise, dequantise, fresh, to_float, to_levels


@pytest.mark.parametrize("count", [2, 3, 16, 17, 255, 256, 1000])
def test_float_is_the_bin_centre_and_comes_back(count: int) -> None:
    levels = torch.arange(count)
    exact = [float(Fraction(2 * k + 1, count) - 1) for k in range(count)]
    values = data.to_float(levels, num_levels=count)
    assert values.dtype == torch.float32
    torch.testing.assert_close(values, torch.tensor(exact), rtol=0, atol=6e-8)
    assert torch.equal(data.to_levels(values, num_levels=count), levels)
    assert torch.equal(data.to_levels(values.double(), num_levels=count), levels)


def test_float_of_uint8_has_the_default_ends() -> None:
    values = data.to_float(torch.arange(256, dtype=torch.uint8))
    assert values[0].item() == -255 / 256
    assert values[255].item() == 255 / 256
    assert values[128].item() == 1 / 256


def test_levels_are_those_of_the_nearest_centre() -> None:
    images = torch.rand(2, 3, 50, 50, generator=torch.Generator().manual_seed(0)) * 2.4 - 1.2
    centres = data.to_float(torch.arange(16), num_levels=16)
    nearest = (images[..., None] - centres).abs().argmin(-1)  # outside [-1, 1] that is the first or the last
    assert torch.equal(data.to_levels(images, num_levels=16), nearest)
    assert data.to_levels(torch.tensor([-1.0, 1.0, -9.0, 9.0])).tolist() == [0, 255, 0, 255]
    assert data.to_levels(images).dtype == torch.int64


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: data.to_float(torch.zeros(2)), TypeError, "uint8 or int64; got torch.float32"),
        (lambda: data.to_float(torch.zeros(2, dtype=torch.bool)), TypeError, "got torch.bool"),
        (lambda: data.to_float(torch.tensor([0, 16]), num_levels=16), ValueError, r"0\.\.15; got 0\.\.16"),
        (lambda: data.to_float(torch.tensor([-1, 3])), ValueError, r"got -1\.\.3"),
        (lambda: data.to_float(torch.tensor([0]), num_levels=1), ValueError, "at least 2; got 1"),
        (lambda: data.to_levels(torch.tensor([3])), TypeError, "floating point.*got torch.int64"),
        (lambda: data.to_levels(torch.tensor([0.0, float("nan")])), ValueError, "finite"),
        (lambda: data.to_levels(torch.zeros(1), num_levels=0), ValueError, "at least 2; got 0"),
    ],
)
def test_maps_refuse(call: Callable[[], object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_a_pixel_is_white_as_often_as_its_level_says() -> None:
    images = torch.tensor([0, 51, 128, 255], dtype=torch.uint8).view(1, 1, 2, 2).expand(40_000, 1, 2, 2)
    drawn = binarise(images, torch.rand(images.shape))
    assert drawn.dtype == torch.int64
    share = drawn.double().mean(0).flatten()
    assert share[0] == 0
    assert share[3] == 1
    torch.testing.assert_close(share[1:3], torch.tensor([0.2, 128 / 255], dtype=torch.float64), atol=0.01, rtol=0)


def test_every_level_has_its_own_cell() -> None:
    levels, u = torch.arange(4).repeat(1000, 1), torch.rand(1000, 4)
    x = dequantise(levels, u, num_levels=4)
    assert ((x + 1) * 2).floor().long().equal(levels)
    assert dequantise(levels, torch.full_like(u, 0.5), num_levels=4)[0].tolist() == [-0.75, -0.25, 0.25, 0.75]


def test_a_stream_draws_all_rows_anew_and_goes_on_where_it_stood() -> None:
    images = torch.arange(5, dtype=torch.uint8).view(5, 1, 1, 1)
    stream = Stream(fresh(images, lambda rows, u: dequantise(rows, u, num_levels=5)), batch_size=200, seed=1)
    first = next(stream)
    assert first.shape == (200, 1, 1, 1)
    assert set(((first + 1) * 2.5).floor().flatten().tolist()) == {0, 1, 2, 3, 4}
    assert len(first.unique()) == 200
    state = stream.state_dict()
    second = next(stream)
    assert not torch.equal(first, second)
    stream.load_state_dict(state)
    assert torch.equal(next(stream), second)


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda x, u: binarise(2 * x / 255.0 - 1, u), TypeError, r"uint8 or int64; got torch.float32: .*to_levels"),
        (lambda x, u: binarise(x.long() + 256, u), ValueError, r"images must be in 0\.\.255; got 256\.\."),
        (lambda x, u: binarise(x.tolist(), u), TypeError, "images must be a torch.Tensor; got list"),
        (lambda x, u: binarise(x, x), TypeError, "uniform must be floating point .*; got torch.uint8"),
        (lambda x, u: binarise(x, u[:1]), ValueError, r"shape \(2, 1, 3, 3\); got \(1, 1, 3, 3\)"),
        (lambda x, u: binarise(x, u * torch.nan), ValueError, r"uniform must be in \[0, 1\); got nan"),
        (lambda x, u: binarise(x, u - 1), ValueError, r"uniform must be in \[0, 1\).*not randn"),
        (lambda x, u: binarise(x, torch.ones_like(u)), ValueError, r"in \[0, 1\); got 1\.\.1"),
        (lambda x, u: dequantise(u, u, num_levels=256), TypeError, "levels must be uint8 or int64; got torch.float32"),
        (lambda x, u: dequantise(x, u, num_levels=8), ValueError, r"0\.\.7; got 0\.\.17: is num_levels right"),
        (lambda x, u: dequantise(x.long() - 1, u, num_levels=18), ValueError, r"0\.\.17; got -1\.\.16"),
        (lambda x, u: dequantise(x, u + 1, num_levels=18), ValueError, r"uniform must be in \[0, 1\)"),
        (lambda x, u: dequantise(x, u, num_levels=1), ValueError, "num_levels must be at least 2; got 1"),
        (lambda x, u: dequantise(x, u, num_levels=18.0), TypeError, "num_levels must be an integer; got 18.0"),
        (lambda x, u: to_float(x.bool()), TypeError, "got torch.bool"),
        (lambda x, u: to_float(x.numpy()), TypeError, "levels must be a torch.Tensor; got ndarray"),
        (lambda x, u: to_levels(x.float()), ValueError, r"whole numbers 0\.\.17, which are levels"),
        (lambda x, u: to_levels(x.numpy()), TypeError, "images must be a torch.Tensor; got ndarray"),
        (lambda x, u: fresh(x, binarise, x[:1]), ValueError, r"common length; got \[2, 1\]"),
        (lambda x, u: fresh(x[:0], binarise), ValueError, "one row or more; got none"),
        (lambda x, u: fresh(x, None), TypeError, "change must be a function"),
        (lambda x, u: fresh(x, binarise, ["a", "b"]), TypeError, "tensor 1 must be a torch.Tensor; got list"),
    ],
)
def test_what_is_no_level_or_no_uniform_number_is_refused(call, error: type[Exception], says: str) -> None:
    levels = torch.arange(18, dtype=torch.uint8).view(2, 1, 3, 3)
    with pytest.raises(error, match=says):
        call(levels, torch.rand(2, 1, 3, 3))


def test_int64_levels_are_levels_too() -> None:
    levels, u = torch.arange(256).view(1, 1, 16, 16), torch.rand(1, 1, 16, 16)
    assert torch.equal(binarise(levels, u), binarise(levels.to(torch.uint8), u))


@pytest.mark.parametrize("num_levels", [2, 3, 17, 256, 1000, 2**16 - 1, 2**22, 2**22 + 1, 2**31])
def test_floats_are_the_nearest_to_the_exact_centres(num_levels: int) -> None:
    edge = torch.arange(300).clamp(max=num_levels - 1)
    k = torch.cat([edge, num_levels - 1 - edge, (num_levels // 2 + edge - 150).clamp(0, num_levels - 1)])
    exact = (2 * k.double() + 1) / num_levels - 1
    assert (to_float(k, num_levels=num_levels).double() - exact).abs().max() <= 2**-24


def test_pictures_beyond_their_range_are_still_clamped() -> None:
    assert to_levels(torch.tensor([-1.5, 0.0, 1.5, 7.0])).tolist() == [0, 128, 255, 255]
    assert to_levels(torch.tensor([0.0, 1.0])).tolist() == [128, 255]
    assert to_levels(torch.zeros(0, 1)).shape == (0, 1)


def test_beside_what_belongs_to_a_row_stays_with_it() -> None:
    images = torch.arange(5, dtype=torch.uint8).view(5, 1)
    batch = next(Stream(fresh(images, lambda rows, u: rows, images.long() * 10, images[:, 0]), batch_size=50))
    assert torch.equal(batch[0].long() * 10, batch[1])
    assert torch.equal(batch[0][:, 0], batch[2])
