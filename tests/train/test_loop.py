"""Every rule that the loop keeps, each with a test that a loop without it fails."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from games import PLAYERS, Scripted, adam_per_player, flat, game, points, sgd
from minigen.data.batches import Stream
from minigen.objectives.minimax import discriminator_loss, non_saturating_loss
from minigen.train.ema import EMA
from minigen.train.loop import Run
from minigen.train.rng import Rng
from minigen.train.schedules import linear_decay


def test_equals_the_loop_written_by_hand_bit_for_bit() -> None:
    mine, theirs = game(), game()
    for _ in Run(mine, adam_per_player(mine), seed=5)(Stream(points, batch_size=8), 20):
        pass
    opt, stream, noise = adam_per_player(theirs), Stream(points, batch_size=8), Rng(seed=5)
    for _ in range(20):
        real = next(stream).requires_grad_()
        fake = theirs.generator(noise.normal(8, 2))
        real_logits = theirs.discriminator(real)
        loss = discriminator_loss(real_logits, theirs.discriminator(fake.detach()))
        (gradient,) = torch.autograd.grad(real_logits.sum(), real, create_graph=True)
        loss = loss + 0.1 * (0.5 * gradient.square().sum(1).mean())
        opt["discriminator"].zero_grad()
        loss.backward()
        opt["discriminator"].step()
        opt["generator"].zero_grad()
        non_saturating_loss(theirs.discriminator(fake)).backward()
        opt["generator"].step()
    for name in PLAYERS:
        assert torch.equal(flat(getattr(mine, name)), flat(getattr(theirs, name)))


def test_only_the_mover_gets_gradients_and_learns() -> None:
    seen = []

    def script(self, batch, noise):
        before = flat(self.a), flat(self.b)
        yield "a", (self.a(batch) * self.b(batch)).sum(), {}
        seen.append((torch.equal(before[0], flat(self.a)), torch.equal(before[1], flat(self.b)), self.b.weight.grad))

    objective = Scripted(script, "a", "b")
    for _ in Run(objective, sgd(objective, "a", "b"))([torch.ones(4, 2)], 1):
        pass
    assert seen == [(False, True, None)]


def test_a_frozen_parameter_stays_and_may_be_thawed() -> None:
    class Objective(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = nn.Linear(2, 1)

        def turns(self, batch, noise):
            yield "model", self.model(batch).square().mean(), {}

    objective = Objective()
    weight, bias = objective.model.weight, objective.model.bias
    run = Run(objective, torch.optim.Adam(objective.model.parameters(), 0.1))
    bias.requires_grad_(False)
    before = weight.detach().clone(), bias.detach().clone()
    list(run([torch.ones(3, 2)], 1))
    assert not torch.equal(weight, before[0])
    assert torch.equal(bias, before[1])
    bias.requires_grad_(True)
    list(run([torch.ones(3, 2)], 1))
    assert not torch.equal(bias, before[1])
    objective.model.requires_grad_(False)
    with pytest.raises(ValueError, match="every parameter of 'model' is frozen"):
        list(run([torch.ones(3, 2)], 1))


def test_code_after_a_yield_sees_the_player_moved() -> None:
    values = []

    def script(self, batch, noise):
        values.append(self.a.weight.clone())
        yield "a", self.a(batch).sum(), {}
        values.append(self.a.weight.clone())

    objective = Scripted(script, "a")
    list(Run(objective, sgd(objective, "a"))([torch.ones(4, 2)], 1))
    assert torch.allclose(values[1], values[0] - 0.1 * 4)


def test_step_is_yielded_after_all_turns_and_averages() -> None:
    objective = game()
    run = Run(objective, adam_per_player(objective), ema={"generator": 0.9})
    before = flat(objective.generator)
    for step in run(Stream(points, batch_size=8), 1):
        assert set(step.logs) >= {"discriminator/loss", "generator/loss"}
        assert not torch.equal(before, flat(objective.generator))
        assert torch.equal(flat(run.ema["generator"]), flat(objective.generator))  # the first update copies


def test_autocast_is_entered_anew_for_each_turn() -> None:
    """Inside one context its weight cache gives a layer's output before the other player's update."""

    def second_output(one_context: bool) -> tuple[float, float]:
        out = []

        def script(self, batch, noise):
            yield "a", self.a(batch).sum(), {}
            out.append(self.a(batch).sum().item())

        torch.manual_seed(0)
        objective = Scripted(script, "a")
        batch = torch.ones(4, 2)
        if one_context:  # the loop that the design warns of
            opt = sgd(objective, "a", lr=1.0)["a"]
            with torch.autocast("cpu", torch.bfloat16):
                for _, loss, _ in objective.turns(batch, None):
                    loss.backward()
                    opt.step()
        else:
            list(Run(objective, sgd(objective, "a", lr=1.0), precision="bf16")([batch], 1))
        with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
            return out[0], objective.a(batch).sum().item()

    seen, true = second_output(one_context=False)
    assert seen == true
    stale, true = second_output(one_context=True)
    assert abs(stale - true) > 1.0


def test_autocast_does_not_leak_and_bf16_computes_in_bf16() -> None:
    types = []

    def script(self, batch, noise):
        y = self.a(batch)
        types.append(y.dtype)
        yield "a", y.float().sum(), {}

    objective = Scripted(script, "a")
    for _ in Run(objective, sgd(objective, "a"), precision="bf16")([torch.ones(4, 2)], 2):
        assert not torch.is_autocast_enabled("cpu")
    assert types == [torch.bfloat16] * 2
    assert objective.a.weight.dtype == torch.float32


def test_logs_are_detached_tensors_and_read_gives_numbers() -> None:
    objective = game()
    for step in Run(objective, adam_per_player(objective))(Stream(points, batch_size=8), 3):
        assert all(isinstance(v, torch.Tensor) and not v.requires_grad for v in step.logs.values())
    numbers = step.read()
    assert numbers.keys() == step.logs.keys()
    assert numbers["generator/loss"] == pytest.approx(step.logs["generator/loss"].item())


@pytest.mark.parametrize("decay", [0.5, 0.99])
def test_average_equals_torch_averaged_model_with_warm_up(decay: float) -> None:
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    mine = EMA(net, decay)

    def warmed(averaged, current, count):
        d = min(decay, (1 + int(count)) / (10 + int(count)))
        torch._foreach_lerp_(averaged, current, 1 - d)

    theirs = AveragedModel(net, multi_avg_fn=warmed)
    without_warm_up = copy.deepcopy(net)
    for _ in range(30):
        net(torch.randn(8, 3))
        with torch.no_grad():
            for p in net.parameters():
                p.add_(torch.randn_like(p))
            for a, p in zip(without_warm_up.parameters(), net.parameters(), strict=True):
                a.lerp_(p, 1 - decay)
        mine.update()
        theirs.update_parameters(net)
    assert torch.allclose(flat(mine.module), flat(theirs.module), atol=1e-6)
    if decay == 0.99:
        assert not torch.allclose(flat(mine.module), flat(without_warm_up), atol=1e-2)
    assert torch.equal(mine.module[1].running_mean, net[1].running_mean)  # buffers are copied
    assert not mine.module.training
    assert not any(p.requires_grad for p in mine.module.parameters())


def test_frozen_average_stays_and_unfrozen_equals_lerp() -> None:
    net = nn.Linear(3, 2)
    plain, gated = EMA(net, 0.9), EMA(net, 0.9)
    for _ in range(5):
        with torch.no_grad():
            net.weight.add_(torch.randn_like(net.weight))
        plain.update()
        gated.update(frozen=torch.tensor(0.0))
    assert torch.allclose(flat(plain.module), flat(gated.module), atol=1e-6)
    before = flat(gated.module)
    gated.update(frozen=torch.tensor(1.0))
    assert torch.equal(before, flat(gated.module))


def test_every_player_may_have_an_average() -> None:
    objective = game()
    run = Run(objective, adam_per_player(objective), ema={"generator": 0.5, "discriminator": 0.9})
    theirs = {
        name: EMA(getattr(objective, name), decay) for name, decay in (("generator", 0.5), ("discriminator", 0.9))
    }
    for _ in run(Stream(points, batch_size=8), 12):
        for name, average in theirs.items():
            average.update()
            assert torch.equal(flat(run.ema[name]), flat(average.module)), name
    assert not torch.equal(flat(run.ema["discriminator"]), flat(objective.discriminator))


def test_run_takes_more_steps_and_starts_a_finite_source_again() -> None:
    objective = game()
    run = Run(objective, adam_per_player(objective))
    data = [torch.randn(4, 2) for _ in range(3)]
    assert [step.n for step in run(data, 5)] == [1, 2, 3, 4, 5]
    assert [step.n for step in run(data, 2)] == [6, 7]
    assert list(run(data, 0)) == []
    with pytest.raises(ValueError, match="gave no batch"):
        list(run([], 1))
    with pytest.raises(ValueError, match="0 or more"):
        run(data, -1)


def test_clip_limits_the_gradient_norm() -> None:
    def script(self, batch, noise):
        yield "a", 100 * self.a(batch).sum(), {}

    objective = Scripted(script, "a")
    before = flat(objective.a)
    list(Run(objective, sgd(objective, "a", lr=1.0), clip={"a": 0.25})([torch.ones(4, 2)], 1))
    assert (flat(objective.a) - before).norm().item() == pytest.approx(0.25, rel=1e-4)


def test_schedule_scales_the_rates_by_the_step_number() -> None:
    objective = game()
    optimizers = adam_per_player(objective, lr=0.5)
    run = Run(objective, optimizers, schedule=linear_decay(10, hold=0.5))
    rates = [optimizers["generator"].param_groups[0]["lr"] for _ in run(Stream(points, batch_size=4), 10)]
    assert rates == pytest.approx([0.5] * 5 + [0.4, 0.3, 0.2, 0.1, 0.0])


def test_compile_is_in_place_and_spares_eager_players(monkeypatch) -> None:
    compiled = []
    monkeypatch.setattr(nn.Module, "compile", lambda self, *a, **k: compiled.append(self))
    plain, penalised = game(r1=0.0), game(r1=0.1)
    keys = list(plain.state_dict())
    Run(plain, adam_per_player(plain), compile=True)
    assert {id(m) for m in compiled} == {id(plain.generator), id(plain.discriminator)}
    assert list(plain.state_dict()) == keys
    compiled.clear()
    Run(penalised, adam_per_player(penalised), compile=True)
    assert compiled == [penalised.generator]
    compiled.clear()
    Run(plain, adam_per_player(plain))
    assert compiled == []  # off by default on a CPU


def test_a_compiled_run_gives_the_same_parameters() -> None:
    mine, theirs = game(r1=0.0), game(r1=0.0)
    for name in PLAYERS:
        getattr(mine, name).compile(backend="aot_eager")
    for objective in (mine, theirs):
        list(Run(objective, adam_per_player(objective))(Stream(points, batch_size=8), 5))
    assert torch.allclose(flat(mine), flat(theirs), atol=1e-6)


def test_wrong_set_ups_are_named() -> None:
    objective, other = game(), game()
    with pytest.raises(ValueError, match="precision must be"):
        Run(objective, adam_per_player(objective), precision="half")
    with pytest.raises(ValueError, match="not the objective's"):
        Run(objective, adam_per_player(other))
    with pytest.raises(ValueError, match="no module 'critic'"):
        Run(objective, adam_per_player(objective), ema={"critic": 0.9})
    with pytest.raises(ValueError, match=r"decay must be in \[0, 1\)"):
        Run(objective, adam_per_player(objective), ema={"generator": 1.0})

    def stranger(self, batch, noise):
        yield "c", self.a(batch).sum(), {}

    def detached(self, batch, noise):
        yield "a", self.b(batch).sum(), {}

    for script, error, match in ((stranger, KeyError, "turn to 'c'"), (detached, ValueError, "check for a detach")):
        objective = Scripted(script, "a", "b")
        with pytest.raises(error, match=match):
            list(Run(objective, sgd(objective, "a", "b"))([torch.ones(4, 2)], 1))


def test_one_optimiser_stands_for_the_player_model() -> None:
    def script(self, batch, noise):
        yield "model", self.model(batch).square().mean(), {"nats/image": torch.tensor(1.0)}

    objective = Scripted(script, "model")
    (step,) = Run(objective, torch.optim.SGD(objective.parameters(), 0.1))([torch.ones(4, 2)], 1)
    assert list(step.logs) == ["model/loss", "nats/image"]


def test_progress_writes_to_stderr_only_when_asked(capsys) -> None:
    objective = game()
    run = Run(objective, adam_per_player(objective))
    list(run(Stream(points, batch_size=4), 3))
    assert capsys.readouterr().err == ""
    list(run(Stream(points, batch_size=4), 3, progress=True))
    assert "6/6" in capsys.readouterr().err
