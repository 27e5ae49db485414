"""What a run refuses: a wrong set-up, turns that are none, logs and parameters that would be lost without a word."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from refusals import refused
from torch import Tensor, nn

from minigen.data import Batches, Stream
from minigen.train import Objective, Rng, Run

x = torch.linspace(-1, 1, 8)[:, None]
BATCHES = [(x, 3 * x)]


class Fit(Objective):
    """A line, or whatever `play` makes of it."""

    def __init__(self, play: Callable[..., Any] | None = None) -> None:
        super().__init__()
        self.model, self.play = nn.Linear(1, 1), play

    def loss(self, batch: Any) -> Tensor:
        return (self.model(batch[0]) - batch[1]).square().mean()

    def turns(self, batch: Any, rng: Rng) -> Iterator[Any]:
        return self.play(self, batch) if self.play else iter([("model", self.loss(batch), {})])


def run(play: Callable[..., Any] | None = None, *, optimizer: Any = torch.optim.SGD, **options: Any) -> Run:
    fit = Fit(play)
    return Run(fit, optimizer(fit.parameters(), 0.1), **options)


def train(made: Run, steps: Any = 3) -> None:
    for _ in made(BATCHES, steps):
        pass


def pair(fit: Fit, batch: Any) -> Iterator[Any]:
    yield "model", fit.loss(batch)


def bare(fit: Fit, batch: Any) -> Iterator[Any]:
    yield fit.loss(batch)


def returned(fit: Fit, batch: Any) -> Any:
    return "model", fit.loss(batch), {}


def list_of_logs(fit: Fit, batch: Any) -> Iterator[Any]:
    yield "model", fit.loss(batch), [1]


def no_turn(fit: Fit, batch: Any) -> Iterator[Any]:
    yield from ()


def nothing(fit: Fit, batch: Any) -> None:
    return None


def own_log(fit: Fit, batch: Any) -> Iterator[Any]:
    yield "model", fit.loss(batch), {"model/loss": torch.tensor(5.0)}


CASES: dict[str, tuple[Callable[[], object], str]] = {
    "half a step": (lambda: train(run(), 2.5), "got 2.5"),
    "NaN steps": (lambda: train(run(), math.nan), "got nan"),
    "steps in words": (lambda: train(run(), "3"), "got '3'"),
    "fewer than no steps": (lambda: train(run(), -1), "0 or more"),
    "a seed beyond 32 bits": (lambda: run(seed=2**32), "0..4294967295"),
    "a negative seed": (lambda: run(seed=-1), "0..4294967295"),
    "a seed that is no integer": (lambda: run(seed=1.5), "got 1.5, a float"),
    "no seed": (lambda: run(seed=None), "got None"),
    "clip in words": (lambda: run(clip="1"), "got '1'"),
    "clip of a player that is none": (lambda: run(clip={"model": None}), "got None"),
    "one decay for all": (lambda: run(ema=0.9), "{player: decay}"),
    "a list of players": (lambda: run(ema=["model"]), "{player: decay}"),
    "a decay in words": (lambda: run(ema={"model": "0.9"}), "got '0.9'"),
    "a number for a schedule": (lambda: run(schedule=0.5), "function of the step number"),
    "torch's scheduler": (
        lambda: run(schedule=torch.optim.lr_scheduler.StepLR(torch.optim.SGD([nn.Parameter(x)], 0.1), 1)),
        "got StepLR",
    ),
    "a list of optimisers": (lambda: run(optimizer=lambda p, rate: [torch.optim.SGD(p, rate)]), "got list"),
    "a rate for an optimiser": (lambda: run(optimizer=lambda p, rate: {"model": rate}), "got float"),
    "LBFGS": (lambda: run(optimizer=torch.optim.LBFGS), "take Adam or SGD"),
    "a turn without logs": (lambda: train(run(pair)), "got (str, Tensor)"),
    "a loss alone": (lambda: train(run(bare)), "got Tensor"),
    "a turn that is returned": (lambda: train(run(returned)), "does not return"),
    "logs in a list": (lambda: train(run(list_of_logs)), "got (str, Tensor, list)"),
    "no turn": (lambda: train(run(no_turn)), "nothing was trained"),
    "turns that return nothing": (lambda: train(run(nothing)), "nothing was trained"),
    "a log in the place of the loss": (lambda: train(run(own_log)), "'model/loss'"),
}


@pytest.mark.parametrize(("call", "words"), CASES.values(), ids=CASES)
def test_bad_input(call: Callable[[], object], words: str) -> None:
    refused(call, words)


def test_numbers_of_numpy_are_numbers() -> None:
    made = run(seed=np.int64(3), clip=np.float32(1.0), ema={"model": np.float64(0.5)})
    train(made, np.int64(2))
    assert made.n == 2


@pytest.mark.parametrize("inside", [False, True])
def test_a_group_that_is_added_later_is_trained(inside: bool) -> None:
    """Layers that are thawed one after another, in the loop or between two calls of it."""
    fit = Fit()
    fit.model.bias.requires_grad_(False)
    made, before = Run(fit, torch.optim.SGD([fit.model.weight], 0.1)), fit.model.bias.item()

    def thaw() -> None:
        fit.model.bias.requires_grad_(True)
        made.optimizers["model"].add_param_group({"params": [fit.model.bias]})

    for step in made([(x, 3 * x + 1)], 4):
        if step.n == 2 and inside:
            thaw()
    assert (fit.model.bias.item() != before) == inside
    if not inside:
        thaw()
        list(made([(x, 3 * x + 1)], 1))
    assert fit.model.bias.item() != before


def test_a_layer_that_is_replaced_inside_of_the_loop_does_not_go_unnoticed() -> None:
    fit = Fit()
    made = Run(fit, torch.optim.SGD(fit.parameters(), 0.1))
    steps = made(BATCHES, 5)
    next(steps)
    fit.model = nn.Sequential(nn.Linear(1, 1), fit.model)
    with pytest.raises(ValueError, match=r"no player's and would never be trained: model\.0\.weight"):
        list(steps)


def test_a_run_that_goes_on_in_another_precision_says_so(tmp_path) -> None:
    made = run(precision="bf16")
    made.save(tmp_path / "run.pt")
    with pytest.warns(RuntimeWarning, match="trained in bf16 and goes on here in fp32: the run is not bit-exact"):
        run().load(tmp_path / "run.pt")


def test_batches_of_another_kind_are_refused_on_resuming(tmp_path) -> None:
    made = run()
    for _ in made(Batches(x, 3 * x, batch_size=4), 3):
        pass
    made.save(tmp_path / "run.pt")
    other = run().load(tmp_path / "run.pt")
    stream = Stream(lambda n, generator: (x[:n], x[:n]), batch_size=4)
    refused(lambda: next(other(stream, 1)), "were no Stream")
