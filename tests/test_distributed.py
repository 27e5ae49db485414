"""Two processes give what one gives; a killed worker resumes; rank 0 alone writes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from minigen import distributed

WORKER = Path(__file__).with_name("worker.py")


def launch(processes: int, *arguments: object, restarts: int = 0) -> None:
    command = [sys.executable]
    if processes > 1:
        command += [
            "-m",
            "torch.distributed.run",
            "--standalone",
            f"--nproc-per-node={processes}",
            f"--max-restarts={restarts}",
        ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    done = subprocess.run(
        [*command, str(WORKER), *map(str, arguments)], capture_output=True, text=True, timeout=240, env=environment
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    folder = tmp_path_factory.mktemp("one")
    launch(1, folder, 40)
    return torch.load(folder / "rank0.pt", weights_only=True)


def test_two_processes_equal_one_up_to_rounding_and_each_other_exactly(one, tmp_path) -> None:
    launch(2, tmp_path, 40)
    first, second = (torch.load(tmp_path / f"rank{r}.pt", weights_only=True) for r in range(2))
    for name in ("all", "average"):
        assert torch.equal(first[name], second[name])
        assert torch.allclose(first[name], one[name], atol=1e-5)
    # without averaging, each rank would learn from its half: far outside the tolerance above
    assert sorted(p.name for p in tmp_path.iterdir()) == ["rank0.pt", "rank1.pt", "run.pt"]


def test_a_killed_worker_resumes_from_the_last_checkpoint(one, tmp_path) -> None:
    launch(2, tmp_path, 40, 25, restarts=1)
    assert (tmp_path / "resumed0").read_text() == (tmp_path / "resumed1").read_text() == "20"
    result = torch.load(tmp_path / "rank0.pt", weights_only=True)
    assert torch.allclose(result["all"], one["all"], atol=1e-5)


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
