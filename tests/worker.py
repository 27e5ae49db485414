"""What torchrun starts in the tests: train a small game, save, write the result; then play the runs of `ranks`.

usage: worker.py FOLDER STEPS [KILL_AT]: at step KILL_AT the last rank kills itself, unless it has been started again.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import torch

import ranks
from games import adam_per_player, flat, game, points
from minigen.data.batches import Batches
from minigen.train import distributed
from minigen.train.loop import Run


def main() -> None:
    folder, steps = Path(sys.argv[1]), int(sys.argv[2])
    kill_at = int(sys.argv[3]) if len(sys.argv) > 3 else None
    torch.set_num_threads(1)
    sync = distributed.setup()
    rank = sync.rank if sync else 0
    objective = game(seed=rank)  # the ranks start apart: rank 0's parameters must win
    run = Run(objective, adam_per_player(objective), ema={"generator": 0.99}, sync=sync, seed=1)
    checkpoint = folder / "run.pt"
    if checkpoint.exists():
        run.load(checkpoint)
        (folder / f"resumed{rank}").write_text(str(run.n))
    data = Batches(points(64, generator=torch.Generator().manual_seed(0)), batch_size=16)
    for step in run(data, steps - run.n):
        if step.n % 10 == 0:
            run.save(checkpoint)
        if (
            step.n == kill_at
            and sync
            and rank == sync.world_size - 1
            and not int(os.environ["TORCHELASTIC_RESTART_COUNT"])
        ):
            os.kill(os.getpid(), signal.SIGKILL)
    result = {"all": flat(objective), "average": flat(run.ema["generator"])}
    if kill_at is None:
        result["played"] = ranks.play(sync)
    torch.save(result, folder / f"rank{rank}.pt")
    distributed.teardown()


if __name__ == "__main__":
    main()
