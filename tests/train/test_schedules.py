"""Schedules and optimisers for players."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from minigen.train.optimizers import adam_per_player, per_player
from minigen.train.schedules import linear_decay


def test_linear_decay_at_its_ends() -> None:
    assert [linear_decay(100, hold=1.0)(n) for n in (1, 99, 100, 101)] == [1.0, 1.0, 0.0, 0.0]
    assert [linear_decay(4)(n) for n in (1, 2, 3, 4, 5)] == [0.75, 0.5, 0.25, 0.0, 0.0]
    with pytest.raises(ValueError, match="1 or more; got 0"):
        linear_decay(0)
    for hold in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match=r"at least 0 and at most 1; got"):
            linear_decay(10, hold=hold)


def test_one_optimiser_for_each_module_that_has_parameters() -> None:
    game = nn.ModuleDict({"a": nn.Linear(2, 1), "b": nn.Linear(2, 1), "still": nn.ReLU()})
    made = per_player(game, lambda p: torch.optim.SGD(p, 0.1))
    assert {name: [id(p) for p in o.param_groups[0]["params"]] for name, o in made.items()} == {
        name: [id(p) for p in game[name].parameters()] for name in "ab"
    }
    decayed = adam_per_player(game, 0.1, weight_decay=0.5)["a"]
    assert isinstance(decayed, torch.optim.AdamW)
    assert type(adam_per_player(game, 0.1)["a"]) is torch.optim.Adam
    before = game["a"].weight.detach().clone()
    for p in game["a"].parameters():
        p.grad = torch.zeros_like(p)
    decayed.step()
    assert torch.allclose(game["a"].weight, before * (1 - 0.1 * 0.5))  # decoupled: by the rate, not by Adam


def test_what_is_frozen_is_no_player() -> None:
    game = nn.ModuleDict({"a": nn.Linear(2, 1), "held": nn.Linear(2, 1).requires_grad_(False)})
    assert list(adam_per_player(game, 0.1)) == ["a"]
    game["held"].bias.requires_grad_()  # in part: it has something to learn
    assert list(adam_per_player(game, 0.1)) == ["a", "held"]


def test_parameters_that_are_no_players_are_refused() -> None:
    game = nn.ModuleDict({"a": nn.Linear(2, 1)})
    game.temperature = nn.Parameter(torch.ones(()))
    with pytest.raises(ValueError, match=r"\['temperature'\] stand directly on the objective"):
        adam_per_player(game, 0.1)
    with pytest.raises(ValueError, match="no module with parameters"):
        adam_per_player(nn.ModuleDict({"a": nn.ReLU()}), 0.1)
