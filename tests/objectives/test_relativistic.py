"""The game of pairs against other formulations, its value at equilibrium, its small games, and wrong variants."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid, softplus

from minigen.nets.mlp import MLPDiscriminator, MLPGenerator
from minigen.objectives import minimax, relativistic
from minigen.objectives.relativistic import Relativistic
from minigen.train import adam_per_player
from minigen.train.loop import Run
from minigen.train.rng import Rng

REAL = torch.tensor([-3.0, -0.5, 0.0, 2.0], dtype=torch.float64)
FAKE = torch.tensor([1.0, -2.0, 0.7, -0.1], dtype=torch.float64)


def test_losses_equal_their_definition_and_wrong_variants_do_not() -> None:
    chances = [1 / (1 + math.exp(f - r)) for r, f in zip(REAL.tolist(), FAKE.tolist(), strict=True)]
    d = -sum(map(math.log, chances)) / 4
    g = -sum(math.log(1 - chance) for chance in chances) / 4
    assert relativistic.discriminator_loss(REAL, FAKE).item() == pytest.approx(d, abs=1e-12)
    assert relativistic.generator_loss(REAL, FAKE).item() == pytest.approx(g, abs=1e-12)
    told = binary_cross_entropy_with_logits(REAL - FAKE, torch.ones(4).double())
    assert relativistic.discriminator_loss(REAL, FAKE).item() == pytest.approx(told.item(), abs=1e-12)
    for wrong in (
        lambda r, f: softplus(r - f).mean(),  # the two exchanged
        lambda r, f: -softplus(f - r).mean(),  # the sign
        lambda r, f: softplus(f - r).sum(),
        lambda r, f: softplus(f.mean() - r.mean()),  # means first
        lambda r, f: -(logsigmoid(r) - logsigmoid(f)).mean(),  # a difference of logs
        lambda r, f: minimax.discriminator_loss(r, f),  # each alone
        lambda r, f: (f - r).mean(),  # no log sigmoid
        lambda r, f: softplus(f.mean() - r).mean() + softplus(f - r.mean()).mean(),  # the relativistic average
    ):
        assert abs(wrong(REAL, FAKE).item() - d) > 1e-3
    assert torch.isfinite(relativistic.discriminator_loss(torch.tensor([-400.0]), torch.tensor([400.0])))
    with pytest.raises(ValueError, match=r"fake_logits must have the shape of real_logits, \(4,\); got \(3,\)"):
        relativistic.discriminator_loss(REAL, FAKE[:3])


def test_a_constant_changes_nothing_and_equal_heaps_cost_log_2_at_least() -> None:
    assert torch.allclose(
        relativistic.discriminator_loss(REAL + 7, FAKE + 7), relativistic.discriminator_loss(REAL, FAKE)
    )
    logits = torch.randn(200, generator=torch.Generator().manual_seed(0)).double()
    every = relativistic.discriminator_loss(logits.repeat_interleave(200), logits.repeat(200))
    assert every > math.log(2)
    assert relativistic.discriminator_loss(0 * logits, 0 * logits).item() == pytest.approx(math.log(2))


def test_r2_is_r1_at_generated_samples() -> None:
    torch.manual_seed(0)
    net, fake = MLPDiscriminator((2,), hidden=(8,)), torch.randn(5, 2, requires_grad=True)
    logits = net(fake)
    own = torch.stack([torch.autograd.functional.jacobian(lambda x: net(x[None])[0], x) for x in fake.detach()])
    assert torch.allclose(relativistic.r2_penalty(logits, fake), own.square().sum(1).mean() / 2, atol=1e-6)


def game(**options: float) -> Relativistic:
    torch.manual_seed(0)
    return Relativistic(
        MLPGenerator(2, (2,), hidden=(16,), bounded=False), MLPDiscriminator((2,), hidden=(16,)), **options
    )


def test_turns_alternate_detach_and_hold_each_penalty_once() -> None:
    real = torch.randn(6, 2)
    losses = {}
    for name, (r1, r2) in {"none": (0, 0), "r1": (3, 0), "r2": (0, 3), "both": (3, 3)}.items():
        objective = game(r1=r1, r2=r2)
        turns = objective.turns(real, Rng())
        player, loss, logs = next(turns)
        assert (player, set(logs)) == (
            "discriminator",
            {"logit/gap"} | {n for n in ("r1", "r2") if n in name or name == "both"},
        )
        losses[name] = (loss.item(), {k: v.item() for k, v in logs.items()})
        loss.backward()
        assert all(p.grad is None for p in objective.generator.parameters())
        player, loss, _ = next(turns)
        loss.backward()
        assert player == "generator"
        assert all(p.grad is not None for p in objective.generator.parameters())
        assert next(turns, None) is None
    base = losses["none"][0]
    for name in ("r1", "r2", "both"):
        total, logs = losses[name]
        assert total == pytest.approx(base + 3 * (logs.get("r1", 0) + logs.get("r2", 0)), rel=1e-5)
    assert losses["r1"][1]["r1"] != pytest.approx(losses["r2"][1]["r2"], rel=1e-3), "at other points"


def test_in_the_dirac_game_pairs_are_the_non_saturating_game() -> None:
    losses = (relativistic.discriminator_loss, lambda f: relativistic.generator_loss(torch.zeros_like(f), f))
    states = torch.randn(50, 2, dtype=torch.float64)
    pairs, single = minimax.DiracGAN(loss=losses, gamma=0.3), minimax.DiracGAN(loss="non-saturating", gamma=0.3)
    assert torch.allclose(pairs.velocity(states), single.velocity(states), atol=1e-12)


def test_every_parameter_learns() -> None:
    objective = game(r1=0.1, r2=0.1)
    before = {name: p.clone() for name, p in objective.named_parameters()}
    list(Run(objective, adam_per_player(objective, 1e-2))([torch.randn(8, 2)], 3))
    still = [name for name, p in objective.named_parameters() if torch.equal(p, before[name])]
    assert still == ["discriminator.net.2.bias"], "a constant added to all logits changes no loss"


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="r2, the weight of a penalty, must be a finite number, at least 0"):
        game(r2=-1.0)
    with pytest.raises(ValueError, match="generator's samples"):
        next(game().turns(torch.randn(4, 3), Rng()))
