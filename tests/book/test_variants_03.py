"""Chapter 3: what its bands must not let pass, and its formulas against other ways to them."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import logsigmoid

import records

BANDS = records.stored("03_distance")


@pytest.mark.parametrize(
    ("what", "wrong"),
    [
        ("penalty: earned over the exact distance", 1.0),  # "the penalty holds the slope at 1"
        ("penalty: median slope on the ways", 1.0),
        ("clipped: earned over the exact distance", 1.0),  # "clipping is harmless"
        ("normalised: earned over the exact distance", 1.02),
        ("clipped: share of the weights at the limit", 0.1),
        ("penalty around 1, lambda 1: least distance in the last 1,000 rounds", 0.0),  # "it converges"
        ("lambda 1/2: range of the distances there", 0.0),  # "it stops for every lambda"
        ("clipped at 0.1: what it earns, over that at 0.05", 2.0),  # "in proportion to the limit"
        ("claimed over exact distance at a shift of 3", 1.0),
        ("two-sided: critics of six that claim a negative distance after the crossing", 0),  # "both forms are the same"
        ("one-sided: the same", 1),
        ("one-sided: the least claim of the six, truth 1", -0.9),
        ("IS over that of the data: far away, where the classifier is sure", 1.0),
        ("barrier with all pairs", 0.0),  # "pairs have no bad basin"
        ("a coefficient a pixel: off the line, over the distance of the two", 0.0),
        ("the same with noise as wide as a level", 1.0),
        ("ring by pairs: modes captured, of 8", 7),
    ],
)
def test_a_band_leaves_out_what_is_false(what: str, wrong: float) -> None:
    assert BANDS[what].holds(BANDS[what].measured)
    assert not BANDS[what].holds(wrong)


def test_pairs_of_two_points_by_a_finer_search() -> None:
    """(3.23) and (3.24): the best mean of log sigmoid, by gradient ascent on free logits in place of a table."""

    def best(model: list[int], every: bool) -> float:
        logits = torch.zeros(3, dtype=torch.float64, requires_grad=True)  # at a, at b, elsewhere
        optimizer = torch.optim.Adam([logits], 0.5)
        for _ in range(400):
            real, fake = logits[:2], logits[model]
            gaps = real[:, None] - fake if every else real - fake
            value = logsigmoid(gaps).mean()
            optimizer.zero_grad()
            (-value).backward()
            optimizer.step()
        return value.item()

    ln2 = math.log(2)
    for model, fixed, drawn in (([0, 0], -ln2 / 2, -ln2 / 2), ([0, 2], -ln2 / 2, -ln2 / 4), ([0, 1], -ln2, -ln2)):
        assert best(model, every=False) == pytest.approx(fixed, abs=1e-3)
        assert best(model, every=True) == pytest.approx(drawn, abs=1e-3)
