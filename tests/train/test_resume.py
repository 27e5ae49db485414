"""Nothing is lost: bit-exact resume, atomic checkpoints, and a guard against NaN."""

from __future__ import annotations

import math

import pytest
import torch

from games import PLAYERS, Scripted, adam_per_player, flat, game, points
from minigen.data.batches import Batches, Stream
from minigen.nets.mlp import MLPDiscriminator, MLPGenerator
from minigen.objectives.minimax import Minimax
from minigen.train.guard import Guard, NonFiniteError
from minigen.train.loop import Run
from minigen.train.schedules import linear_decay


@pytest.mark.parametrize("data", ["stream", "batches"])
def test_save_and_load_resume_bit_exactly(tmp_path, data: str) -> None:
    images = torch.randn(50, 2)

    def make(seed: int):
        objective = game(seed)
        run = Run(
            objective,
            adam_per_player(objective),
            ema={"generator": 0.99},
            clip=1.0,
            schedule=linear_decay(60),
            seed=seed,
        )
        batches = Stream(points, batch_size=8) if data == "stream" else Batches(images, batch_size=8, seed=3)
        return run, batches

    whole, batches = make(0)
    draws = [torch.rand(1) for _ in whole(batches, 40)]  # the global generator is part of the state
    torch.manual_seed(0)
    first, batches = make(0)
    head = [torch.rand(1) for _ in first(batches, 17)]
    first.save(tmp_path / "run.pt")
    torch.manual_seed(99)
    second, batches = make(7)
    second.load(tmp_path / "run.pt")
    tail = [torch.rand(1) for _ in second(batches, 23)]
    assert second.n == whole.n == 40
    assert torch.equal(torch.cat(head + tail), torch.cat(draws))
    assert torch.equal(flat(second.objective), flat(whole.objective))
    assert torch.equal(flat(second.ema["generator"]), flat(whole.ema["generator"]))
    for name in PLAYERS:
        mine, theirs = second.optimizers[name].state_dict(), whole.optimizers[name].state_dict()
        assert mine["param_groups"] == theirs["param_groups"]
        for key, state in theirs["state"].items():
            assert all(torch.equal(state[k], mine["state"][key][k]) for k in state)


def test_a_loaded_position_is_saved_again_before_the_next_step(tmp_path) -> None:
    objective = game()
    run = Run(objective, adam_per_player(objective))
    batches = Batches(torch.randn(50, 2), batch_size=8)
    list(run(batches, 2))
    run.save(tmp_path / "early.pt")
    list(run(batches, 3))
    run.load(tmp_path / "early.pt").save(tmp_path / "again.pt")
    saved = [torch.load(tmp_path / name, weights_only=True)["batches"] for name in ("early.pt", "again.pt")]
    assert saved[0] == saved[1]
    assert saved[0]["index"] == 2


def test_an_interrupted_save_leaves_the_old_checkpoint(tmp_path, monkeypatch) -> None:
    objective = game()
    run = Run(objective, adam_per_player(objective))
    list(run(Stream(points, batch_size=8), 3))
    run.save(tmp_path / "run.pt")
    good = (tmp_path / "run.pt").read_bytes()

    def dies(state, file):
        file.write(b"half a checkpoint")
        raise KeyboardInterrupt

    list(run(Stream(points, batch_size=8), 3))
    monkeypatch.setattr(torch, "save", dies)
    with pytest.raises(KeyboardInterrupt):
        run.save(tmp_path / "run.pt")
    assert (tmp_path / "run.pt").read_bytes() == good


def test_load_errors_say_what_is_wrong(tmp_path) -> None:
    objective = game()
    run = Run(objective, adam_per_player(objective))
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        run.load(tmp_path / "none.pt")
    run.save(tmp_path / "run.pt")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "run.pt").read_bytes()[:-200])
    with pytest.raises(ValueError, match="no readable checkpoint"):
        run.load(tmp_path / "cut.pt")
    torch.save({"model": 1}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match="not written by this version"):
        run.load(tmp_path / "other.pt")
    torch.manual_seed(0)
    wide = Minimax(MLPGenerator(2, (2,), hidden=(17,)), MLPDiscriminator((2,), hidden=(16,)))
    with pytest.raises(ValueError, match="another objective or network"):
        Run(wide, adam_per_player(wide)).load(tmp_path / "run.pt")
    averaged = Run(objective, adam_per_player(objective), ema={"generator": 0.9})
    with pytest.raises(ValueError, match="averages"):
        averaged.load(tmp_path / "run.pt")
    (tmp_path / "evil.pt").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(ValueError, match="no readable checkpoint"):
        run.load(tmp_path / "evil.pt")


def bad_at(step: int, kind: str):
    """An objective for SGD or Adam whose player b fails in step `step`."""
    count = [0]

    def script(self, batch, noise):
        count[0] += 1
        yield "a", self.a(batch).square().mean(), {}
        out = self.b(batch).square().mean()
        if count[0] == step:
            out = out * math.nan if kind == "loss" else out + (self.b.weight.sum() * 0).sqrt()
        yield "b", out, {}

    return Scripted(script, "a", "b")


@pytest.mark.parametrize("kind", ["loss", "gradient"])
@pytest.mark.parametrize("deferred", [False, True])
def test_non_finite_stops_before_it_reaches_a_parameter(monkeypatch, kind: str, deferred: bool) -> None:
    """The deferred guard is that of accelerators; here the host hears of it only after three more steps."""
    torch.manual_seed(0)
    objective = bad_at(5, kind)
    optimizers = {n: torch.optim.Adam(getattr(objective, n).parameters(), 1e-2, fused=True) for n in "ab"}
    run = Run(objective, optimizers, ema={"b": 0.9})
    run._guard.deferred = deferred
    if deferred:
        monkeypatch.setattr(Guard, "told", property(lambda self: self.count >= 16 and bool(self.flag.item())))
    b, average, moments = [], [], []

    def train() -> None:
        for _ in run([torch.randn(4, 2)], 20):
            b.append(flat(objective.b))
            average.append(flat(run.ema["b"]))
            moments.append(optimizers["b"].state[objective.b.weight]["exp_avg"].clone())

    with pytest.raises(NonFiniteError) as error:
        train()
    text = str(error.value)
    assert "step 5" in text
    assert "player 'b'" in text
    assert f"its {kind} is not finite" in text
    assert "b/loss = " in text
    assert "at step 4" in text
    assert run.n == 4
    assert torch.equal(flat(objective.b), b[3])
    assert torch.equal(optimizers["b"].state[objective.b.weight]["exp_avg"], moments[3])
    assert torch.equal(flat(run.ema["b"]), average[3])
    run._guard.deferred = False
    assert len(list(run([torch.randn(4, 2)], 3))) == 3  # and the run can go on
