"""Levels and places as sines and cosines: by the formula, and that they tell all levels and places apart."""

from __future__ import annotations

import math

import pytest
import torch

from minigen.nets.embeddings import sinusoidal, sinusoidal_2d

pytestmark = pytest.mark.usefixtures("float64")


def test_a_level_is_sines_and_cosines_of_geometric_frequencies() -> None:
    """From 1/20 to 4 radians per nat; their geometric mean is in the middle."""
    frequencies = [1 / 20, math.sqrt(4 / 20), 4.0]
    for level in (-20.0, -1.3, 0.0, 7.0):
        expected = [math.sin(level * f) for f in frequencies] + [math.cos(level * f) for f in frequencies]
        torch.testing.assert_close(sinusoidal(torch.tensor([level]), 6)[0], torch.tensor(expected))
    slowest = sinusoidal(torch.linspace(-20, 20, 500), 64)[:, 0]
    assert (slowest.diff() > 0).all(), "it tells all levels apart"
    with pytest.raises(ValueError, match="must be even, for sines and cosines; got 5"):
        sinusoidal(torch.zeros(1), 5)


def test_a_place_is_sines_and_cosines_of_its_row_then_of_its_column() -> None:
    """Half a turn over the longer side, then half a turn from one place to the next, in raster order."""
    found, frequencies = sinusoidal_2d(2, 3, 8), [math.pi / 3, math.pi]
    for row in range(2):
        for column in range(3):
            expected = [
                wave(place * f) for place in (row, column) for wave in (math.sin, math.cos) for f in frequencies
            ]
            torch.testing.assert_close(found[3 * row + column], torch.tensor(expected))
    many = sinusoidal_2d(12, 9, 16)
    assert (torch.cdist(many, many) + 9 * torch.eye(108)).min() > 0.1, "it tells all places apart"
    with pytest.raises(ValueError, match="multiple of 4, for sines and cosines of row and column; got 6"):
        sinusoidal_2d(2, 2, 6)
