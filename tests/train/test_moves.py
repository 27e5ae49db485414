"""What a move, a batch and an objective must be: limits, rates, players, numbers and seeds."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from games import Scripted, flat, points, sgd
from minigen.data.batches import Batches, Stream
from minigen.train.loop import Objective, Run
from minigen.train.rng import Rng


def test_each_player_has_its_own_limit() -> None:
    def script(self, batch, rng):
        for name in "abc":
            yield name, 100 * getattr(self, name)(batch).sum(), {}

    objective = Scripted(script, "a", "b", "c")
    before = [flat(getattr(objective, name)) for name in "abc"]
    list(Run(objective, sgd(objective, *"abc", lr=1.0), clip={"a": 0.25, "b": 2.0})([torch.ones(4, 2)], 1))
    moved = [(flat(getattr(objective, n)) - old).norm().item() for n, old in zip("abc", before, strict=True)]
    assert moved[:2] == pytest.approx([0.25, 2.0], rel=1e-4)
    assert moved[2] > 100


def test_clipping_is_that_of_torch_bit_for_bit() -> None:
    def script(self, batch, rng):
        yield "a", 100 * self.a(batch).square().sum(), {}

    torch.manual_seed(3)
    mine, batch = Scripted(script, "a"), torch.randn(4, 2)
    theirs = copy.deepcopy(mine.a)
    list(Run(mine, sgd(mine, "a"), clip=0.7)([batch], 1))
    (100 * theirs(batch).square().sum()).backward()
    nn.utils.clip_grad_norm_(theirs.parameters(), 0.7)
    torch.optim.SGD(theirs.parameters(), 0.1).step()
    assert torch.equal(flat(mine.a), flat(theirs))


def test_the_schedule_moves_every_optimiser_and_group_by_its_own_rate() -> None:
    def script(self, batch, rng):
        yield "a", self.a(batch).sum(), {}

    objective = Scripted(script, "a", "b")
    groups = [{"params": [objective.b.weight], "lr": 4.0}, {"params": [objective.b.bias], "lr": 8.0}]
    optimizers = {"a": torch.optim.SGD(objective.a.parameters(), 2.0), "b": torch.optim.SGD(groups, 1.0)}
    list(Run(objective, optimizers, schedule=lambda n: 0.5**n)([torch.ones(1, 2)], 3))
    rates = [group["lr"] for optimizer in optimizers.values() for group in optimizer.param_groups]
    assert rates == [0.25, 0.5, 1.0]
    for wrong in (float("nan"), -1.0, float("inf")):
        with pytest.raises(ValueError, match=f"the schedule gave {wrong} for step 1"):
            list(Run(objective, optimizers, schedule=lambda n, wrong=wrong: wrong)([torch.ones(1, 2)], 1))


def test_a_batch_of_one_tensor_in_a_list_is_that_tensor() -> None:
    seen = []

    def script(self, batch, rng):
        seen.append(batch)
        yield "a", self.a(batch if isinstance(batch, torch.Tensor) else batch[0]).sum(), {}

    objective = Scripted(script, "a")
    x, y = torch.randn(6, 2), torch.arange(6)
    for tensors in ((x,), (x, y)):
        data = torch.utils.data.TensorDataset(*tensors)
        list(Run(objective, sgd(objective, "a"))(torch.utils.data.DataLoader(data, batch_size=6), 1))
    assert torch.equal(seen[0], x)
    assert isinstance(seen[1], tuple)
    assert torch.equal(seen[1][1], y)


def test_raw_uint8_is_refused_unless_the_objective_takes_it() -> None:
    def script(self, batch, rng):
        x = batch[0] if isinstance(batch, tuple) else batch
        yield "a", self.a(x.float()).sum(), {}

    objective = Scripted(script, "a")
    raw = torch.ones(4, 2, dtype=torch.uint8)
    for batch in (raw, (raw, torch.zeros(4))):
        with pytest.raises(ValueError, match=r"raw uint8 of shape \(4, 2\).*to_float.*takes_uint8 = True"):
            list(Run(objective, sgd(objective, "a"))([batch], 1))
    objective.takes_uint8 = True
    assert len(list(Run(objective, sgd(objective, "a"))([raw], 1))) == 1


def test_every_parameter_belongs_to_a_player() -> None:
    def script(self, batch, rng):
        yield "a", self.a(batch).sum(), {}

    objective = Scripted(script, "a", "b")
    objective.temperature = nn.Parameter(torch.ones(()))
    with pytest.raises(ValueError, match=r"never be trained: temperature, b\.weight, b\.bias\. Give them"):
        Run(objective, sgd(objective, "a"))
    objective.temperature.requires_grad_(False)
    objective.b.requires_grad_(False)
    run = Run(objective, sgd(objective, "a"))
    assert len(list(run([torch.ones(1, 2)], 1))) == 1
    objective.b.requires_grad_(True)  # thawed later: the next call says so
    with pytest.raises(ValueError, match=r"b\.weight, b\.bias"):
        run([torch.ones(1, 2)], 1)


def test_wrong_arguments_are_named() -> None:
    def script(self, batch, rng):
        yield "a", self.a(batch).sum(), {}

    objective = Scripted(script, "a")
    with pytest.raises(TypeError, match=r"a module with `turns\(batch, rng\)`"):
        Run(nn.Linear(2, 1), torch.optim.SGD(nn.Linear(2, 1).parameters(), 0.1))
    with pytest.raises(ValueError, match="optimizers is empty"):
        Run(objective, {})
    for clip in (-1.0, 0.0, float("nan"), {"a": -1.0}):
        with pytest.raises(ValueError, match="above 0; got"):
            Run(objective, sgd(objective, "a"), clip=clip)
    with pytest.raises(ValueError, match=r"clip names \['gen'\]; the players are \['a'\]"):
        Run(objective, sgd(objective, "a"), clip={"gen": 1.0})
    with pytest.raises(ValueError, match="precision must be one of"):
        Run(objective, sgd(objective, "a"), precision="fp8")


def test_losses_and_logs_are_single_numbers() -> None:
    def vector(self, batch, rng):
        yield "a", self.a(batch), {}

    def text(self, batch, rng):
        yield "a", self.a(batch).sum(), {"much": 3.0}

    def constant(self, batch, rng):
        yield "a", torch.zeros(()), {}

    for script, match in (
        (vector, r"the loss of 'a' must be a tensor of one number; got a tensor of shape \(4, 1\)"),
        (text, "the log 'much' must be a tensor of one number; got <class 'float'>"),
        (constant, "check for a detach"),
    ):
        objective = Scripted(script, "a")
        with pytest.raises(ValueError, match=match):
            list(Run(objective, sgd(objective, "a"))([torch.ones(4, 2)], 1))


def test_a_log_is_the_number_of_its_moment() -> None:
    """A parameter that is logged as it is must not show the value that the move gave it."""

    def script(self, batch, rng):
        yield "a", self.a(batch).sum(), {"bias": self.a.bias}

    objective = Scripted(script, "a")
    before = objective.a.bias.item()
    (step,) = Run(objective, sgd(objective, "a"))([torch.ones(4, 2)], 1)
    assert step.read()["bias"] == before
    assert objective.a.bias.item() != before


def test_an_objective_must_say_its_turns() -> None:
    class Silent(Objective):
        pass

    class Loud(Objective):
        def __init__(self):
            super().__init__()
            self.model = nn.Linear(2, 1)

        def turns(self, batch, rng):
            yield "model", self.model(batch).square().mean(), {}

    with pytest.raises(TypeError, match="abstract method"):
        Silent()
    loud = Loud()
    assert loud.eager_players == ()
    assert len(list(Run(loud, torch.optim.SGD(loud.parameters(), 0.1))([torch.ones(4, 2)], 2))) == 2


def test_seeds_of_numpy_are_seeds() -> None:
    seed = np.int64(3)
    draw = [torch.arange(10), torch.arange(10)]
    assert torch.equal(Rng(seed=seed).normal(4), Rng(seed=3).normal(4))
    orders = [next(Batches(*draw, batch_size=np.int64(10), seed=s))[0] for s in (seed, 3)]
    assert torch.equal(*orders)
    assert torch.equal(*(next(Stream(points, batch_size=4, seed=s)) for s in (seed, 3)))
    assert type(Batches(*draw, batch_size=5, seed=seed).state_dict()["seed"]) is int
    with pytest.raises(TypeError, match="integer"):
        Batches(*draw, batch_size=5, seed=0.5)
