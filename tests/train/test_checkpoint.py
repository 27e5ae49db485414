"""A checkpoint is read only as it was written, fits before anything changes, and says where it is not exact."""

from __future__ import annotations

import errno
import os
import resource
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from games import PLAYERS, Scripted, adam_per_player, flat, game, points, sgd
from minigen.data.batches import Batches, Stream
from minigen.train import checkpoint
from minigen.train.loop import Run


def line(seed: int = 0, *, width: int = 1, lr: float = 0.1, **options) -> Run:
    torch.manual_seed(seed)

    def script(self, batch, rng):
        yield "a", (self.a(batch) + rng.normal(len(batch), 1)).square().mean(), {}

    objective = Scripted(script)
    objective.a = nn.Linear(2, width)
    return Run(objective, sgd(objective, "a", lr=lr), **options)


def state_of(run: Run) -> list[torch.Tensor]:
    parts = [flat(run.objective), run.rng.state_dict()["generator"], torch.get_rng_state(), torch.tensor(run.n)]
    parts += [flat(average) for average in run.ema.values()]
    for optimizer in run.optimizers.values():
        parts += [
            v.clone() for state in optimizer.state.values() for v in state.values() if isinstance(v, torch.Tensor)
        ]
        parts += [torch.tensor(group["lr"]) for group in optimizer.param_groups]
    return parts


def test_every_single_changed_byte_is_refused(tmp_path) -> None:
    """The least state that `read` takes, so that all of its bytes can be tried."""
    path = tmp_path / "run.pt"
    checkpoint.write(path, {"format": checkpoint.FORMAT, "n": 3, "objective": {"weight": torch.arange(5.0)}})
    good = path.read_bytes()
    assert checkpoint.read(path)["n"] == 3
    accepted = []
    with open(path, "r+b", buffering=0) as file:
        for at, byte in enumerate(good):
            for bits in (0x40, 0xFF):
                os.pwrite(file.fileno(), bytes([byte ^ bits]), at)
                try:
                    checkpoint.read(path)
                    accepted.append(at)
                except ValueError:
                    pass
            os.pwrite(file.fileno(), bytes([byte]), at)
    assert path.read_bytes() == good
    assert accepted == []


def test_a_damaged_run_changes_nothing(tmp_path) -> None:
    run = line()
    list(run(Stream(points, batch_size=4), 2))
    run.save(tmp_path / "run.pt")
    good = bytearray((tmp_path / "run.pt").read_bytes())
    other = line(seed=1)
    before = state_of(other)
    for at in (len(good) // 2, len(good) // 3, 700, len(good) - 1):
        damaged = bytearray(good)
        damaged[at] ^= 0x40
        (tmp_path / "bad.pt").write_bytes(damaged)
        with pytest.raises(ValueError, match="no readable checkpoint"):
            other.load(tmp_path / "bad.pt")
    (tmp_path / "empty.pt").write_bytes(b"")
    with pytest.raises(ValueError, match="no readable checkpoint"):
        other.load(tmp_path / "empty.pt")
    assert all(torch.equal(a, b) for a, b in zip(before, state_of(other), strict=True))


def test_torch_reads_the_file_too(tmp_path) -> None:
    line().save(tmp_path / "run.pt")
    assert torch.load(tmp_path / "run.pt", weights_only=True)["format"] == checkpoint.FORMAT


def test_the_format_before_is_refused_with_what_to_do(tmp_path) -> None:
    run = line()
    torch.save({"format": 1, "objective": run.objective.state_dict()}, tmp_path / "run.pt")
    with pytest.raises(ValueError, match=r"format 1, of minigen 0\.1.*objective\.load_state_dict"):
        run.load(tmp_path / "run.pt")


def test_numbers_of_numpy_are_saved_as_plain_ones(tmp_path) -> None:
    """A cosine schedule by numpy puts np.float64 into the rates; others come with a dataset's own state."""

    def make() -> Run:
        return line(schedule=lambda n: 0.5 * (1 + np.cos(np.pi * n / 100)))

    class Source(Stream):
        def state_dict(self):
            return super().state_dict() | {"more": [np.float32(0.5), np.int64(3), np.bool_(True), np.str_("a")]}

    run, batches = make(), Source(points, batch_size=4)
    list(run(batches, 3))
    run.optimizers["a"].param_groups[0]["lr"] = np.float64(0.25)
    run.save(tmp_path / "run.pt")
    state = checkpoint.read(tmp_path / "run.pt")
    kept = [state["optimizers"]["a"]["param_groups"][0]["lr"], *state["batches"]["more"]]
    assert kept == [0.25, 0.5, 3, True, "a"]
    assert [type(value) for value in kept] == [float, float, int, bool, str]
    other = make().load(tmp_path / "run.pt")
    list(run(batches, 2))
    list(other(Source(points, batch_size=4), 2))
    assert torch.equal(flat(run.objective), flat(other.objective))


def test_what_cannot_be_read_again_is_refused_when_saving(tmp_path) -> None:
    run = line()
    run.save(tmp_path / "run.pt")
    good = (tmp_path / "run.pt").read_bytes()
    for value in (np.zeros(3), print, {1, 2}):
        run.optimizers["a"].param_groups[0]["extra"] = [value]
        with pytest.raises(TypeError, match=r"optimizers\['a'\]\['param_groups'\]\[0\]\['extra'\]\[0\] is a "):
            run.save(tmp_path / "run.pt")
    assert (tmp_path / "run.pt").read_bytes() == good
    assert [path.name for path in tmp_path.iterdir()] == ["run.pt"]


def other_network() -> Run:
    return line(width=2)


def other_optimizer() -> Run:
    run = line()
    return Run(run.objective, {"a": torch.optim.Adam(run.objective.a.parameters(), 0.1)})


def other_groups() -> Run:
    run = line()
    groups = [{"params": [p]} for p in run.objective.a.parameters()]
    return Run(run.objective, {"a": torch.optim.SGD(groups, 0.1)})


def other_type() -> Run:
    run = line()
    run.objective.double()
    return run


def other_average() -> Run:
    return line(ema={"a": 0.9})


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (other_network, r"a\.weight is \(1, 2\) torch\.float32 there and \(2, 2\) torch\.float32 here"),
        (other_optimizer, "optimiser of 'a' is SGD there and Adam here"),
        (other_groups, r"groups of \[2\] parameters there and of \[1, 1\] here"),
        (other_type, "float32 there and .* torch.float64 here"),
        (other_average, "averages"),
    ],
)
def test_a_refused_load_has_changed_nothing(tmp_path, make, match: str) -> None:
    run = line()
    list(run(Stream(points, batch_size=4), 2))
    run.save(tmp_path / "run.pt")
    other = make()
    before = state_of(other)
    with pytest.raises(ValueError, match=match):
        other.load(tmp_path / "run.pt")
    assert all(torch.equal(a, b) for a, b in zip(before, state_of(other), strict=True))
    assert other._position is None


def test_a_state_without_a_part_is_refused(tmp_path) -> None:
    run = line()
    checkpoint.write(tmp_path / "run.pt", {k: v for k, v in (run._state() | {"batches": None}).items() if k != "rng"})
    with pytest.raises(ValueError, match=r"it has no \['rng'\]"):
        run.load(tmp_path / "run.pt")


def test_a_checkpoint_of_another_device_gives_all_but_the_noise_and_says_so(tmp_path) -> None:
    run = line(ema={"a": 0.9})
    list(run(Stream(points, batch_size=4), 5))
    cuda = torch.zeros(16, dtype=torch.uint8)  # of the size that CUDA generators have
    state = run._state() | {"batches": None, "device": "cuda", "rng": {"generator": cuda}, "device_generator": cuda}
    checkpoint.write(tmp_path / "run.pt", state)
    other = line(seed=1, ema={"a": 0.9})
    with pytest.warns(RuntimeWarning, match="saved on cuda and goes on here on cpu with other noise"):
        other.load(tmp_path / "run.pt")
    assert other.n == 5
    assert torch.equal(flat(other.objective), flat(run.objective))
    assert torch.equal(flat(other.ema["a"]), flat(run.ema["a"]))


def test_an_optimiser_keeps_its_own_manner_of_computing(tmp_path) -> None:
    ends = []
    for fused in (False, True):
        objective = game()
        run = Run(objective, adam_per_player(objective, fused=fused))
        if fused:
            run.load(tmp_path / "run.pt")
            assert run.optimizers["generator"].param_groups[0]["fused"] is True
        list(run(Stream(points, batch_size=8, seed=fused), 3))
        run.save(tmp_path / "run.pt")
        ends.append(run.n)
    assert ends == [3, 6]


def test_a_full_disk_leaves_the_old_checkpoint_and_nothing_else(tmp_path) -> None:
    run = line()
    run.save(tmp_path / "run.pt")
    good = (tmp_path / "run.pt").read_bytes()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(good) // 2, before[1]))  # as a full disk, half-way
    try:
        with pytest.raises(OSError, match=r"cannot write the checkpoint .*is unchanged\. Is the disk full"):
            run.save(tmp_path / "run.pt")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (tmp_path / "run.pt").read_bytes() == good
    assert [path.name for path in tmp_path.iterdir()] == ["run.pt"]
    with pytest.raises(OSError, match=r"cannot write the checkpoint .*folder missing"):
        run.save(tmp_path / "nowhere" / "run.pt")


def test_an_interrupted_save_leaves_no_other_file(tmp_path, monkeypatch) -> None:
    def dies(state, file):
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", dies)
    with pytest.raises(KeyboardInterrupt):
        line().save(tmp_path / "run.pt")
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_the_disk_keeps_its_cause(tmp_path, monkeypatch) -> None:
    def full(state, file):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space left on device"):
        line().save(tmp_path / "run.pt")


def test_a_step_that_was_broken_off_is_said_to_be_so(tmp_path) -> None:
    calls = [0]

    def script(self, batch, rng):
        yield "a", self.a(batch).square().mean(), {}
        calls[0] += 1
        if calls[0] == 3:
            raise KeyboardInterrupt
        yield "b", self.b(batch).square().mean(), {}

    objective = Scripted(script, "a", "b")
    run, batches = Run(objective, sgd(objective, "a", "b")), Stream(points, batch_size=4)
    with pytest.raises(KeyboardInterrupt):
        list(run(batches, 5))
    assert run.n == 2
    with pytest.warns(RuntimeWarning, match="step 3 was broken off"):
        run.save(tmp_path / "run.pt")
    other = Run(objective, sgd(objective, "a", "b"))
    with pytest.warns(RuntimeWarning, match="saved within a step"):
        other.load(tmp_path / "run.pt")
    list(run(batches, 1))  # whole again
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run.save(tmp_path / "run.pt")
        other.load(tmp_path / "run.pt")


class Loader:
    """torchdata's StatefulDataLoader, as far as a run sees it: finite, shuffled, resumable in the middle of an epoch.

    Its state is asked for while it is iterated; a loaded one takes effect at the next `iter`.
    """

    def __init__(self, x: torch.Tensor) -> None:
        self.x, self.generator, self.taken, self.loaded = x, torch.Generator().manual_seed(3), 0, None
        self.begin = self.generator.get_state()

    def __iter__(self):
        skip = 0
        if self.loaded is not None:
            self.generator.set_state(self.loaded["begin"])
            skip, self.loaded = self.loaded["taken"], None
        self.begin = self.generator.get_state()
        order = torch.randperm(len(self.x), generator=self.generator)
        for i in range(skip, len(self.x) // 4):
            self.taken = i + 1
            yield [self.x[order[4 * i : 4 * i + 4]]]

    def state_dict(self):
        return {"begin": self.begin, "taken": self.taken}

    def load_state_dict(self, state) -> None:
        self.loaded = state


@pytest.mark.parametrize("stop", [1, 5, 6, 12, 13])  # six batches an epoch: in its middle, and at its very end
def test_a_loader_with_a_state_resumes_exactly(tmp_path, stop: int) -> None:
    x = torch.randn(24, 2)
    whole = line()
    list(whole(Loader(x), 20))
    first = line()
    list(first(Loader(x), stop))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first.save(tmp_path / "run.pt")
        second = line(seed=5).load(tmp_path / "run.pt")
        list(second(Loader(x), 20 - stop))
    assert torch.equal(flat(whole.objective), flat(second.objective))


@pytest.mark.parametrize("kind", ["loader", "zip"])
def test_batches_without_a_state_are_warned_of_once_when_saved_and_when_resumed(tmp_path, kind: str) -> None:
    x = torch.randn(24, 2)

    def make():
        if kind == "zip":
            return (pair for pair in zip(Batches(x, batch_size=4), strict=False))
        return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x), batch_size=4)

    run = line()
    list(run(make(), 3))
    with pytest.warns(RuntimeWarning, match="no state_dict.*will go on with the first batches again"):
        run.save(tmp_path / "run.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run.save(tmp_path / "run.pt")  # once is enough
        other = line().load(tmp_path / "run.pt")
    with pytest.warns(RuntimeWarning, match="goes on with the first batches again, and not bit-exactly"):
        other(make(), 1)
    run = line()
    list(run(Batches(x, batch_size=4), 3))
    run.save(tmp_path / "run.pt")
    with pytest.warns(RuntimeWarning, match="not bit-exactly"):
        line().load(tmp_path / "run.pt")(make(), 1)


def test_averages_in_half_precision_resume_with_their_masters(tmp_path) -> None:
    def make() -> Run:
        run = line(lr=0.01)
        run.objective.bfloat16()
        return Run(run.objective, run.optimizers, ema={"a": 0.9})

    batches = [torch.randn(4, 2).bfloat16()]
    whole, first = make(), make()
    list(whole(batches, 9))
    list(first(batches, 4))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        first.save(tmp_path / "run.pt")
        second = make().load(tmp_path / "run.pt")
        list(second(batches, 5))
    mine, theirs = second._emas["a"]._masters, whole._emas["a"]._masters
    assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))
    assert mine[0].dtype == torch.float32


def test_both_players_and_their_rates_are_restored(tmp_path) -> None:
    objective = game()
    run = Run(objective, adam_per_player(objective, lr=0.5), schedule=lambda n: 1 / n)
    list(run(Stream(points, batch_size=8), 4))
    run.save(tmp_path / "run.pt")
    other = Run(objective, adam_per_player(objective, lr=0.5)).load(tmp_path / "run.pt")
    assert [other.optimizers[name].param_groups[0]["lr"] for name in PLAYERS] == [0.125, 0.125]
