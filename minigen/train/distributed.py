"""N processes that act as one, under torchrun: `torchrun --nproc-per-node=N script.py`.

Every rank holds the whole model, draws the whole batch and the whole noise from the same seeds, keeps its slice, and
averages gradients with the others. Losses that are means over the batch therefore give the one-process result up to
rounding. What depends on the whole batch in another way does not: batch normalisation uses each rank's own statistics
(`torch.nn.SyncBatchNorm` cures that), contrastive losses must `gather`, and pairs within a batch are made by `rolled`.

    sync = distributed.setup()  # None outside torchrun: the same script runs in one process
    run = Run(objective.to(sync.device if sync else best_device()), optimizers, sync=sync)
    if checkpoint.exists():
        run.load(checkpoint)  # after a worker died, torchrun starts all of them again

For restarts (`--max-restarts`), start torchrun with TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 in its environment. The store
that it shares with the workers by default can hang the second start (PyTorch issue 135712; measured with torch 2.13 and
gloo: 2 of 4 restarts hung without the setting, 0 of 8 with it). `setup` warns where it is missing.
"""

from __future__ import annotations

import os
import warnings
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor

from minigen.data.batches import map_tensors

BUCKET_BYTES = 25 * 2**20  # the size that DistributedDataParallel uses


class Sync(Protocol):
    """What the loop asks of `setup`: N processes that act as one."""

    rank: int
    world_size: int

    def shard(self, batch: Any) -> Any:
        """This rank's rows of a batch."""

    def average_(self, tensors: list[Tensor]) -> None:
        """Replace each tensor by its mean over the ranks."""

    def broadcast_(self, tensors: list[Tensor]) -> None:
        """Give every rank the tensors of rank 0."""

    def host_mean(self, numbers: list[float]) -> list[float]:
        """The mean of each number over the ranks, known to the host without waiting for a device."""


class ProcessGroup:
    """This process's place among the others, and the exchanges that a run needs.

    rank, world_size: this process, and how many there are. device: where this rank computes.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.rank, self.world_size = dist.get_rank(), dist.get_world_size()
        # Numbers that the hosts decide by go their own way, so that no host waits for its device.
        self._hosts = dist.new_group(backend="gloo") if dist.get_backend() == "nccl" else None

    def shard(self, batch: Any) -> Any:
        """This rank's rows of a whole batch. Raises ValueError where the rows do not divide evenly."""
        return map_tensors(self._rows, batch)

    def _rows(self, whole: Tensor) -> Tensor:
        if len(whole) % self.world_size:
            raise ValueError(f"a batch of {len(whole)} rows does not divide over {self.world_size} processes")
        return whole.chunk(self.world_size)[self.rank]

    def average_(self, tensors: list[Tensor]) -> None:
        """Replace each tensor by its mean over the ranks, in buckets of at most 25 MiB (or one tensor)."""
        for bucket in _buckets(tensors):
            flat = torch.cat([t.reshape(-1) for t in bucket])
            dist.all_reduce(flat)
            flat /= self.world_size
            for tensor, mean in zip(bucket, torch.split(flat, [t.numel() for t in bucket]), strict=True):
                tensor.copy_(mean.view_as(tensor))

    def host_mean(self, numbers: list[float]) -> list[float]:
        """The mean of each number over the ranks, exchanged among the hosts; sums of small integers are exact."""
        total = torch.tensor(numbers, dtype=torch.float64)
        dist.all_reduce(total, group=self._hosts)
        means: list[float] = (total / self.world_size).tolist()
        return means

    def broadcast_(self, tensors: list[Tensor]) -> None:
        """Give every rank the tensors of rank 0."""
        for tensor in tensors:
            dist.broadcast(tensor.detach(), src=0)


def _buckets(tensors: list[Tensor]) -> list[list[Tensor]]:
    """Neighbours of one dtype together, up to BUCKET_BYTES."""
    buckets: list[list[Tensor]] = []
    size = 0
    for tensor in tensors:
        nbytes = tensor.numel() * tensor.element_size()
        if not buckets or buckets[-1][0].dtype != tensor.dtype or size + nbytes > BUCKET_BYTES:
            buckets.append([])
            size = 0
        buckets[-1].append(tensor)
        size += nbytes
    return buckets


def setup(*, backend: str | None = None) -> ProcessGroup | None:
    """Join the other processes that torchrun started; None where this is the only one.

    backend: "nccl" on CUDA and "gloo" elsewhere unless given.
    """
    if "LOCAL_RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        return None
    shared = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    if shared and os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0") != "0" and os.environ["LOCAL_RANK"] == "0":
        warnings.warn(
            "torchrun may hang when it restarts a dead worker; start it with "
            "TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 in its environment",
            RuntimeWarning,
            stacklevel=2,
        )
    cuda = torch.cuda.is_available() and backend != "gloo"
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        dist.init_process_group(backend or ("nccl" if cuda else "gloo"))
    return ProcessGroup(device)


def teardown() -> None:
    """Leave the group; call it last. Does nothing where there is none."""
    if dist.is_initialized():
        dist.destroy_process_group()


class _Gather(torch.autograd.Function):
    """The rows of all ranks, each with its gradient times the number of ranks.

    Every rank computes the whole loss and keeps the gradient of its own rows; the mean over ranks, which the loop takes
    of all gradients, then divides by their number.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Tensor:
        ranks = dist.get_world_size()
        return slopes[0].chunk(ranks)[dist.get_rank()] * ranks


def gather(rows: Tensor) -> Tensor:
    """The rows (n, D) of all processes, (N, D), in the order of their ranks; as they are where there is one process."""
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return rows
    gathered: Tensor = _Gather.apply(rows)  # type: ignore[no-untyped-call]
    return gathered


def rolled(rows: Tensor) -> Tensor:
    """For each row (n, ...) the one before it in the batch of all processes, the last one for the first; no gradient.

    It is this rank's part of what `roll(1, 0)` gives of the whole batch, so that N processes pair what one pairs.
    """
    whole = gather(rows.detach())
    first = len(rows) * dist.get_rank() if len(whole) > len(rows) else 0
    return whole.roll(1, 0)[first : first + len(rows)]
