"""Half precision: what "auto" means, loss scaling for each player, and penalties that keep their digits."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from games import Scripted, flat, game, sgd
from minigen.data.batches import Batches
from minigen.train import precision
from minigen.train.guard import NonFiniteError
from minigen.train.loop import Run
from minigen.train.precision import FIRST_SCALE, LEAST_SCALE, full_precision, resolve
from minigen.train.rng import Rng


@pytest.mark.parametrize(("capability", "meant"), [((7, 5), "fp16"), ((8, 0), "bf16"), ((9, 0), "bf16")])
def test_auto_asks_a_gpu_for_its_capability(monkeypatch, capability, meant: str) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert resolve("auto", torch.device("cuda", 0)) == meant


@pytest.mark.parametrize(
    ("runs", "units", "meant"), [(True, True, "bf16"), (True, False, "fp32"), (False, True, "fp32")]
)
def test_auto_takes_bf16_on_a_cpu_only_where_it_has_units(monkeypatch, runs: bool, units: bool, meant: str) -> None:
    """Without units oneDNN says that it can run bf16, and emulates it."""
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: runs)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: units, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False, raising=False)
    assert resolve("auto", torch.device("cpu")) == meant


def test_other_devices_and_names() -> None:
    assert resolve("auto", torch.device("mps")) == "fp32"
    assert [resolve(name, torch.device("cpu")) for name in ("fp32", "bf16", "fp16")] == ["fp32", "bf16", "fp16"]
    with pytest.raises(ValueError, match="one of fp32, bf16, fp16, auto; got 'half'"):
        resolve("half", torch.device("cpu"))
    with pytest.raises(ValueError, match="needs a CUDA device or a CPU; got mps"):
        resolve("fp16", torch.device("mps"))


def regression(factor: float = 1.0):
    """A line to be found from 64 points; `factor` multiplies the loss."""
    torch.manual_seed(0)
    x = torch.randn(64, 2)
    y = x @ torch.tensor([[1.5], [-0.5]]) + 0.25

    def script(self, batch, rng):
        yield "a", factor * (self.a(batch[0]) - batch[1]).square().mean(), {}

    return Scripted(script, "a"), [(x, y)]


def test_a_run_that_overflows_at_the_start_recovers_and_ends_as_good_as_fp32() -> None:
    ends = {}
    for kind in ("fp32", "fp16"):
        objective, data = regression(factor=400.0)  # times the first scale, its gradients exceed 65504
        start = flat(objective.a)
        run = Run(objective, sgd(objective, "a", lr=2e-4), precision=kind, ema={"a": 0.9})
        skipped, moved, loss = [], [], math.inf
        for step in run(data, 120):
            numbers = step.read()
            skipped.append(numbers.get("a/skipped", 0.0))
            moved.append(not torch.equal(flat(objective.a), start))
            loss = numbers["a/loss"]
            if kind == "fp16" and sum(skipped) == step.n:
                assert run._emas["a"].updates == 0
        ends[kind] = loss
        assert run._emas["a"].updates == 120 - sum(skipped)
        if kind == "fp16":
            first = int(sum(skipped))
            assert 1 <= first <= 16
            assert skipped == [1.0] * first + [0.0] * (120 - first)
            assert moved == [False] * first + [True] * (120 - first)
            assert numbers["a/scale"] == FIRST_SCALE / 2**first
    assert ends["fp32"] < 400 * 0.05
    assert ends["fp16"] == pytest.approx(ends["fp32"], rel=0.1, abs=0.05)


def test_two_players_scale_apart_and_a_scale_grows_after_good_moves() -> None:
    def script(self, batch, rng):
        yield "a", 1e4 * self.a(batch).square().mean(), {}
        yield "b", 0.01 * self.b(batch).float().square().mean(), {}

    objective = Scripted(script, "a", "b")
    run = Run(objective, sgd(objective, "a", "b", lr=1e-6), precision="fp16")
    for scaler in run._scalers.values():
        scaler.interval = 4
    steps = [step.read() for step in run([torch.randn(8, 2)], 12)]
    assert sum(step["a/skipped"] for step in steps) >= 2
    assert sum(step["b/skipped"] for step in steps[:4]) == 0
    assert steps[0]["a/scale"] == FIRST_SCALE / 2
    assert [step["b/scale"] for step in steps[:5]] == [FIRST_SCALE] * 3 + [2 * FIRST_SCALE] * 2


def test_the_scale_follows_the_rule_of_torch() -> None:
    """`torch.amp.GradScaler` on the same gradients, good and bad."""
    scaler, mine = torch.amp.GradScaler("cpu", growth_interval=3), precision.LossScaler(torch.device("cpu"))
    mine.interval = 3
    weight = nn.Parameter(torch.zeros(3))
    optimizer = torch.optim.SGD([weight], 1.0)
    for bad in [0, 0, 0, 1, 0, 0, 1, 1, 0, 0, 0, 0]:
        gradient = torch.tensor([1.0, 2.0, math.inf if bad else 3.0])
        scaler.scale(torch.ones(()))
        weight.grad = gradient * scaler.get_scale()
        scaler.step(optimizer)
        scaler.update()
        gradients = [gradient * mine.scale]
        found = mine.unscale_(gradients)
        assert found.item() == bad
        assert torch.equal(gradients[0][:2], torch.tensor([1.0, 2.0]))
        assert mine.update(found).item() == 0
        assert mine.scale.item() == scaler.get_scale()


@pytest.mark.parametrize("deferred", [False, True])
def test_a_loss_that_stays_nan_stops_the_run_at_the_least_scale(deferred: bool) -> None:
    objective, data = regression(factor=math.nan)
    optimizers = {"a": torch.optim.Adam(objective.a.parameters(), 0.1, fused=True)}
    run, before = Run(objective, optimizers, precision="fp16", ema={"a": 0.9}), flat(objective.a)
    run._guard.deferred = deferred
    with pytest.raises(NonFiniteError, match="its loss is not finite"):
        list(run(data, 60))
    halvings = int(math.log2(FIRST_SCALE / LEAST_SCALE))
    assert run.n == halvings  # every move before was skipped
    assert torch.equal(flat(objective.a), before)
    assert run._emas["a"].updates == 0


def test_the_deferred_guard_gives_the_numbers_of_the_one_that_reads() -> None:
    ends = []
    for deferred in (False, True):
        objective, data = regression(factor=400.0)
        optimizers = {"a": torch.optim.Adam(objective.a.parameters(), 0.01, fused=True)}
        run = Run(objective, optimizers, precision="fp16", ema={"a": 0.9}, clip=10.0)
        run._guard.deferred = deferred
        steps = [step.read() for step in run(data, 20)]
        assert sum(step["a/skipped"] for step in steps) >= 1
        assert not hasattr(optimizers["a"], "found_inf")  # a later step by hand is not held up
        ends.append((flat(objective.a), run._emas["a"].updates, flat(run.ema["a"])))
    assert torch.equal(ends[0][0], ends[1][0])
    assert ends[0][1] == ends[1][1]
    assert torch.allclose(ends[0][2], ends[1][2], atol=1e-7)


def test_resume_under_fp16_is_bit_exact_scales_included(tmp_path) -> None:
    def make():
        objective, data = regression(factor=400.0)
        run = Run(objective, sgd(objective, "a", lr=1e-4), precision="fp16", ema={"a": 0.9})
        run._scalers["a"].interval = 5
        return run, Batches(*data[0], batch_size=64)

    whole, data = make()
    logs = [step.read() for step in whole(data, 30)]
    first, data = make()
    head = [step.read() for step in first(data, 13)]
    first.save(tmp_path / "run.pt")
    second, data = make()
    second.load(tmp_path / "run.pt")
    tail = [step.read() for step in second(data, 17)]
    assert head + tail == logs
    assert len({step["a/scale"] for step in logs}) > 2  # it fell, and grew
    assert torch.equal(flat(whole.objective), flat(second.objective))
    assert torch.equal(flat(whole.ema["a"]), flat(second.ema["a"]))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_gradient_penalty_is_that_of_fp32_under_autocast(dtype: torch.dtype) -> None:
    """To 1e-5 of its own value, and of its gradient; within autocast the error is a hundred times larger."""

    def penalty(objective, enabled: bool):
        with torch.autocast("cpu", dtype, enabled=enabled):
            _, _, logs = next(objective.turns(torch.randn(16, 2, generator=torch.Generator().manual_seed(1)), Rng()))
        slopes = torch.autograd.grad(logs["r1"], [p for p in objective.discriminator.parameters() if p.ndim > 1])
        return logs["r1"].detach(), torch.cat([slope.flatten() for slope in slopes])

    (exact, slope), (found, half) = (penalty(game(r1=0.1), enabled) for enabled in (False, True))
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(exact.item(), rel=1e-5)
    assert (half - slope).norm() < 1e-5 * slope.norm()


def test_full_precision_leaves_autocast_as_it_was() -> None:
    layer = nn.Linear(2, 2)
    with torch.autocast("cpu", torch.bfloat16):
        with full_precision("cpu"):
            assert layer(torch.ones(1, 2)).dtype == torch.float32
        assert layer(torch.ones(1, 2)).dtype == torch.bfloat16


def test_logs_are_float32_under_autocast() -> None:
    def script(self, batch, rng):
        out = self.a(batch)  # bfloat16
        yield "a", out[0, 0], {"out": out[0, 0], "count": torch.tensor(3)}

    objective = Scripted(script, "a")
    (step,) = Run(objective, sgd(objective, "a"), precision="bf16")([torch.ones(4, 2)], 1)
    assert {value.dtype for value in step.logs.values()} == {torch.float32}
    assert step.read()["count"] == 3.0


def test_of_two_moves_in_a_step_the_skipped_one_is_counted_and_the_average_follows_the_other() -> None:
    def script(self, batch, rng):
        for factor in (100.0, 0.1):  # times the first scale, only the first one's slope is above 65504
            yield "a", factor * self.a(batch).sum(), {}

    objective = Scripted(script, "a")
    start, run = flat(objective.a), Run(objective, sgd(objective, "a"), precision="fp16", ema={"a": 0.9})
    (step,) = run([torch.ones(1, 2)], 1)
    assert step.read()["a/skipped"] == 1
    assert step.read()["a/scale"] == FIRST_SCALE / 2
    assert torch.allclose(flat(objective.a), start - 0.1 * 0.1, atol=1e-4)
    assert run._emas["a"].updates == 1
    assert torch.equal(flat(run.ema["a"]), flat(objective.a))
