"""Worlds as tasks: exact samples reach the yardstick, others do not."""

from __future__ import annotations

import math

import pytest
import torch

from minigen.recipes import RECIPES


@pytest.mark.parametrize("name", ["ring", "grid"])
def test_exact_points_reach_the_yardstick_and_others_do_not(name: str) -> None:
    task = RECIPES["minimax", name].task
    figures = task.evaluate(task.world.sample(20_000))
    captured, share = figures["modes_captured"], figures["high_quality_share"]
    assert captured.model == captured.yardstick == {"ring": 8, "grid": 25}[name]
    assert share.model == pytest.approx(share.yardstick, abs=4e-3)
    assert task.evaluate(torch.randn(500, 2))["high_quality_share"].model < 0.2
    assert task.evaluate(task.world.means[:1].float().expand(50, 2))["modes_captured"].model == 1


def test_exact_shapes_reach_the_yardstick_and_others_do_not() -> None:
    task = RECIPES["minimax", "shapes"].task
    figures = task.evaluate(task.world.sample(3000))
    assert figures["valid_share"].model == figures["valid_share"].yardstick == 1
    coverage = figures["coverage_nats_from_even"]
    assert coverage.model == pytest.approx(coverage.yardstick, abs=0.006)
    one = task.evaluate(task.world.sample(200, index=torch.tensor([4])))
    assert one["coverage_nats_from_even"].model == pytest.approx(math.log(len(task.world)))
    assert task.evaluate(torch.zeros(50, 3, 8, 8))["valid_share"] == (0.0, 1.0)
