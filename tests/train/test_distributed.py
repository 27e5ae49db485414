"""Two processes give what one gives; a killed worker resumes; rank 0 alone writes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import worker

from minigen.train import distributed
from minigen.train.moves import share_gaps


def launch(*arguments: object, restarts: int = 0) -> None:
    """Two processes of the worker under torchrun."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += [f"--max-restarts={restarts}", str(Path(worker.__file__)), *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="module")
def one(tmp_path_factory) -> dict[str, Any]:
    """What one process gives: this one."""
    folder = tmp_path_factory.mktemp("one")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["worker.py", str(folder), "40"])
        worker.main()
    return torch.load(folder / "rank0.pt", weights_only=True)


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> Path:
    """The folder that two processes write."""
    folder = tmp_path_factory.mktemp("two")
    launch(folder, 40)
    return folder


def test_two_processes_equal_one_up_to_rounding_and_each_other_exactly(one, two) -> None:
    first, second = (torch.load(two / f"rank{r}.pt", weights_only=True) for r in range(2))
    for name in ("all", "average"):
        assert torch.equal(first[name], second[name])
        assert torch.allclose(first[name], one[name], atol=1e-5)
    # without averaging, each rank would learn from its half: far outside the tolerance above
    assert sorted(p.name for p in two.iterdir()) == ["rank0.pt", "rank1.pt", "run.pt"]


def test_a_killed_worker_resumes_from_the_last_checkpoint(one, tmp_path) -> None:
    launch(tmp_path, 40, 25, restarts=1)
    assert (tmp_path / "resumed0").read_text() == (tmp_path / "resumed1").read_text() == "20"
    result = torch.load(tmp_path / "rank0.pt", weights_only=True)
    assert torch.allclose(result["all"], one["all"], atol=1e-5)


def test_ranks_that_use_other_parameters_and_data_give_the_result_of_one(one, two) -> None:
    """Parts that one rank alone has a gradient for, and parts that none has; SGD, so that a factor is felt; gradients
    clipped after they are averaged; buffers that start apart; and all logs, not only losses."""
    first, second = (torch.load(two / f"rank{r}.pt", weights_only=True)["played"] for r in range(2))
    for name, value in one["played"].items():
        assert torch.equal(first[name], second[name]), name
        assert torch.allclose(first[name], value, atol=1e-5), name
    assert first["shift"].item() == 0.5


class Other:
    """The other rank, as a `Sync` sees it, without a second process."""

    rank, world_size = 0, 2

    def __init__(self, numbers: list[float]) -> None:
        self.numbers = numbers

    def host_mean(self, numbers: list[float]) -> list[float]:
        return [(a + b) / 2 for a, b in zip(numbers, self.numbers, strict=True)]


def test_ranks_that_disagree_about_a_turn_are_told() -> None:
    parameter = torch.nn.Parameter(torch.zeros(2))
    with pytest.raises(
        RuntimeError, match=r"rank 0 has a turn of 'a' with the logs \['a/loss'\], and another rank has"
    ):
        share_gaps(Other([1.0, 0.0, 0.0]), "a", [parameter], ["a/loss"], longest=2)


def test_ranks_that_log_other_names_are_told() -> None:
    """Their numbers would be averaged by place: one rank's distortion with the other's rate."""

    class Listens(Other):
        def host_mean(self, numbers: list[float]) -> list[float]:
            self.heard = numbers
            return numbers

    parameter, other = torch.nn.Parameter(torch.zeros(2)), Listens([])
    share_gaps(other, "a", [parameter], ["a/loss", "rate"], longest=1)
    share_gaps(Other(other.heard), "a", [parameter], ["a/loss", "rate"], longest=1)
    for player, logs in (("a", ["a/loss", "distortion"]), ("a", ["a/loss"]), ("b", ["a/loss", "rate"])):
        with pytest.raises(RuntimeError, match="the processes disagree"):
            share_gaps(Other(other.heard), player, [parameter], logs, longest=1)


def test_a_start_that_may_hang_later_is_warned_of(monkeypatch) -> None:
    monkeypatch.setattr(distributed.dist, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed, "ProcessGroup", lambda device: "group")
    for name, value in {"LOCAL_RANK": "0", "WORLD_SIZE": "1", "TORCHELASTIC_MAX_RESTARTS": "3"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")
    with pytest.warns(RuntimeWarning, match="TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1"):
        distributed.setup(backend="gloo")


def test_outside_torchrun_there_is_no_group(monkeypatch) -> None:
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert distributed.setup() is None
    distributed.teardown()


def test_buckets_hold_every_tensor_once_in_order_and_stay_small() -> None:
    tensors = [torch.zeros(2_000_000) for _ in range(8)] + [torch.zeros(3, dtype=torch.float64), torch.zeros(9_000_000)]
    buckets = distributed._buckets(tensors)
    assert [id(t) for b in buckets for t in b] == [id(t) for t in tensors]
    for bucket in buckets:
        assert len({t.dtype for t in bucket}) == 1
        assert len(bucket) == 1 or sum(t.nbytes for t in bucket) <= distributed.BUCKET_BYTES
    assert len(buckets) == 5


def test_a_batch_that_does_not_divide_is_refused() -> None:
    group = object.__new__(distributed.ProcessGroup)
    group.rank, group.world_size = 1, 2
    assert group.shard((torch.arange(4), torch.arange(4)))[0].tolist() == [2, 3]
    with pytest.raises(ValueError, match="5 rows does not divide over 2"):
        group.shard(torch.arange(5))


def test_in_one_process_rows_are_rolled_and_cut_off() -> None:
    rows = torch.randn(4, 3, requires_grad=True)
    assert torch.equal(distributed.rolled(rows), rows[[3, 0, 1, 2]])
    assert not distributed.rolled(rows).requires_grad
    assert distributed.rolled(torch.arange(3)).tolist() == [2, 0, 1]


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_each_rank_has_its_part_of_the_rolled_batch(monkeypatch, rank: int) -> None:
    whole = torch.arange(12).view(6, 2)
    monkeypatch.setattr(distributed, "gather", lambda rows: whole)
    monkeypatch.setattr(distributed.dist, "get_rank", lambda: rank)
    assert torch.equal(distributed.rolled(whole.chunk(3)[rank]), whole.roll(1, 0).chunk(3)[rank])
