"""Fresh noise for stored levels: its law, and that it is an argument."""

from __future__ import annotations

import torch

from minigen.levels import binarise, dequantise, fresh
from minigen.streams import Stream


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
    x = dequantise(levels, u, levels_count=4)
    assert ((x + 1) * 2).floor().long().equal(levels)
    assert dequantise(levels, torch.full_like(u, 0.5), levels_count=4)[0].tolist() == [-0.75, -0.25, 0.25, 0.75]


def test_a_stream_draws_all_rows_anew_and_goes_on_where_it_stood() -> None:
    images = torch.arange(5, dtype=torch.uint8).view(5, 1, 1, 1)
    stream = Stream(fresh(images, lambda rows, u: dequantise(rows, u, levels_count=5)), batch_size=200, seed=1)
    first = next(stream)
    assert first.shape == (200, 1, 1, 1)
    assert set(((first + 1) * 2.5).floor().flatten().tolist()) == {0, 1, 2, 3, 4}
    assert len(first.unique()) == 200
    state = stream.state_dict()
    second = next(stream)
    assert not torch.equal(first, second)
    stream.load_state_dict(state)
    assert torch.equal(next(stream), second)
