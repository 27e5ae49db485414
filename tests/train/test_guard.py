"""The guard's edges: what only looks bad, what is bad in the loss alone, and a second failure after a first."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from games import Scripted, flat, sgd
from minigen.train.guard import NonFiniteError
from minigen.train.loop import Run

HUGE = 3e38  # near the largest float32: two of them overflow in a sum, and one in a square


class Slopes(nn.Module):
    """A loss of any value with any gradient, (2,), for each step."""

    def __init__(self, *steps: tuple[float, list[float]]) -> None:
        super().__init__()
        self.model = nn.Module()
        self.model.w = nn.Parameter(torch.zeros(2))
        self.steps = iter(steps)

    def turns(self, batch, rng):
        value, slope = next(self.steps)
        w = self.model.w * 1
        w.register_hook(lambda _: torch.tensor(slope))
        yield "model", 0 * w.sum() + value, {}


@pytest.mark.parametrize("clip", [None, 1.0])
@pytest.mark.parametrize("slope", [[HUGE, HUGE], [HUGE, -HUGE], [1e25, 1e25]])
def test_a_finite_gradient_whose_sum_or_square_overflows_is_taken(clip: float | None, slope: list[float]) -> None:
    objective = Slopes((1.0, slope))
    run = Run(objective, torch.optim.SGD(objective.parameters(), 1e-38), clip=clip)
    (step,) = run([torch.zeros(1)], 1)
    assert step.n == 1
    direction = torch.tensor(slope, dtype=torch.float64)
    expected = direction if clip is None else direction / direction.norm()
    assert torch.allclose(objective.model.w.double() / -1e-38, expected, rtol=1e-3)


@pytest.mark.parametrize("clip", [None, 1.0])
@pytest.mark.parametrize("deferred", [False, True])
@pytest.mark.parametrize(
    ("value", "slope", "what"),
    [
        (math.inf, [1.0, 1.0], "loss"),
        (-math.inf, [1.0, 1.0], "loss"),
        (math.nan, [1.0, 1.0], "loss"),
        (1.0, [1.0, math.nan], "gradient"),
        (1.0, [math.inf, -math.inf], "gradient"),
        (1.0, [-math.inf, 1.0], "gradient"),
    ],
)
def test_a_bad_loss_or_gradient_is_found(clip, deferred: bool, value: float, slope: list[float], what: str) -> None:
    objective = Slopes((2.0, [1.0, 2.0]), (value, slope))
    run = Run(objective, torch.optim.Adam(objective.parameters(), 0.1, fused=True), clip=clip, ema={"model": 0.5})
    run._guard.deferred = deferred
    kept = []
    with pytest.raises(NonFiniteError, match=f"step 2, player 'model': its {what} is not finite"):
        kept.extend(flat(objective) for _ in run([torch.zeros(1)], 2))
    assert run.n == 1
    assert torch.isfinite(flat(objective)).all()
    assert torch.equal(flat(objective), flat(run.ema["model"]))
    if kept:
        assert torch.equal(flat(objective), kept[0])


@pytest.mark.parametrize("deferred", [False, True])
def test_a_failure_after_a_failure_is_found_and_named(deferred: bool) -> None:
    good, bad = (1.0, [1.0, 1.0]), (math.nan, [1.0, 1.0])
    objective = Slopes(good, bad, good, good, (1.0, [math.nan, 0.0]), good)
    run = Run(objective, torch.optim.Adam(objective.parameters(), 0.1, fused=True))
    run._guard.deferred = deferred
    with pytest.raises(NonFiniteError, match=r"step 2, .*its loss"):
        list(run([torch.zeros(1)], 2))
    after = flat(objective)
    with pytest.raises(NonFiniteError, match=r"step 4, .*its gradient .*Last finite losses: model/loss = 1 at step 3"):
        list(run([torch.zeros(1)], 3))
    assert run.n == 3
    assert not torch.equal(flat(objective), after)  # the two good moves between were made
    assert torch.isfinite(flat(objective)).all()
    assert len(list(run([torch.zeros(1)], 1))) == 1


def test_one_player_failing_leaves_the_other_as_its_move_left_it() -> None:
    def script(self, batch, rng):
        yield "a", self.a(batch).sum(), {}
        yield "b", self.b(batch).sum() * math.inf, {}

    objective = Scripted(script, "a", "b")
    before = flat(objective.b)
    with pytest.raises(NonFiniteError) as error:
        list(Run(objective, sgd(objective, "a", "b"))([torch.ones(1, 2)], 1))
    assert (error.value.step, error.value.player) == (1, "b")
    assert torch.equal(flat(objective.b), before)


class Several(nn.Module):
    """A loss of 1 with given gradients for two parameters."""

    def __init__(self, *slopes: list[float]) -> None:
        super().__init__()
        self.model = nn.ParameterList([nn.Parameter(torch.zeros(2)) for _ in slopes])
        self.slopes = slopes

    def turns(self, batch, rng):
        total = torch.ones(())
        for parameter, slope in zip(self.model, self.slopes, strict=True):
            used = parameter * 1
            used.register_hook(lambda _, slope=slope: torch.tensor(slope))
            total = total + 0 * used.sum()
        yield "model", total, {}


@pytest.mark.parametrize("deferred", [False, True])
@pytest.mark.parametrize("bad", [0, 1])
def test_one_bad_entry_of_one_parameter_among_good_ones_is_found(deferred: bool, bad: int) -> None:
    slopes = [[1.0, 2.0], [3.0, 4.0]]
    slopes[bad][1] = math.nan
    objective = Several(*slopes)
    run = Run(objective, torch.optim.Adam(objective.parameters(), 0.1, fused=True))
    run._guard.deferred = deferred
    with pytest.raises(NonFiniteError, match="step 1, player 'model': its gradient"):
        list(run([torch.zeros(1)], 1))
    assert not flat(objective).any()


def test_a_norm_that_overflows_stops_a_run_that_does_not_wait_for_its_device() -> None:
    """There the norm is not computed anew in float64: the move would shrink every gradient to 0, and say nothing."""
    objective = Slopes((1.0, [1e25, 1e25]))
    run = Run(objective, torch.optim.Adam(objective.parameters(), 0.1, fused=True), clip=1.0)
    run._guard.deferred = True
    with pytest.raises(NonFiniteError, match="step 1, player 'model': its gradient"):
        list(run([torch.zeros(1)], 1))
    assert not flat(objective).any()


def test_losses_that_were_not_finite_are_not_called_the_last_finite_ones() -> None:
    """Under fp16 bad moves are skipped before the run is stopped: the last finite loss is from before them."""
    objective = Slopes((1.5, [1.0, 1.0]), *[(math.nan, [1.0, 1.0])] * 60)
    run = Run(objective, torch.optim.SGD(objective.parameters(), 0.1), precision="fp16")
    with pytest.raises(NonFiniteError, match=r"Last finite losses: model/loss = 1\.5 at step 1\."):
        list(run([torch.zeros(1)], 61))
