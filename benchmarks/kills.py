"""Kill a training run at random moments, resume it, and compare with a run that was never killed.

usage: python benchmarks/kills.py [--kills 20]

The run trains a small GAN for 1,500 steps and saves every 50. It is killed (SIGKILL) 20 times at random moments and
started again each time; at the end its parameters, averages and optimisers must be those of one unbroken run, bit for
bit, and at no restart may the checkpoint be unreadable.
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from minigen.data.batches import Batches
from minigen.nets.mlp import MLPDiscriminator, MLPGenerator
from minigen.objectives.minimax import Minimax
from minigen.train.loop import Run
from minigen.train.optimizers import adam_per_player

STEPS, EVERY = 1_500, 50


def train(folder: Path) -> None:
    """What the killed process runs."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    objective = Minimax(MLPGenerator(16, (1, 16, 16)), MLPDiscriminator((1, 16, 16)), r1=0.1)
    run = Run(objective, adam_per_player(objective, 1e-3), ema={"generator": 0.99})
    checkpoint = folder / "run.pt"
    if checkpoint.exists():
        run.load(checkpoint)  # raises where the file is not readable
        print(f"resumed at {run.n}", flush=True)
    data = torch.rand(500, 1, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
    for step in run(Batches(data, batch_size=32), STEPS - run.n):
        if step.n % EVERY == 0:
            run.save(checkpoint)
    (folder / "done").touch()


def leaves(state: object) -> list[object]:
    if isinstance(state, dict):
        return [leaf for value in state.values() for leaf in leaves(value)]
    if isinstance(state, list | tuple):
        return [leaf for value in state for leaf in leaves(value)]
    return [state]


def same(a: Path, b: Path) -> bool:
    """Whether two checkpoints hold the same, bit for bit."""
    one, other = (leaves(torch.load(path, weights_only=True)) for path in (a, b))
    return len(one) == len(other) and all(
        torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y for x, y in zip(one, other, strict=True)
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--train", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.train:
        train(arguments.train)
        return 0
    moments = random.Random(0)
    with tempfile.TemporaryDirectory() as name:
        whole, broken = Path(name) / "whole", Path(name) / "broken"
        for folder in (whole, broken):
            folder.mkdir()
        start = time.perf_counter()
        subprocess.run([sys.executable, __file__, "--train", str(whole)], check=True)
        length = time.perf_counter() - start
        kills, resumed = 0, 0
        while kills < arguments.kills or not (broken / "done").exists():
            if (broken / "done").exists():  # finished before the last kill: begin again
                for file in broken.iterdir():
                    file.unlink()
            child = subprocess.Popen(
                [sys.executable, __file__, "--train", str(broken)], stdout=subprocess.PIPE, text=True
            )
            # The wait covers start-up, training and saving alike; after the last kill the run may finish.
            wait = moments.uniform(0.3, 0.9) * length if kills < arguments.kills else None
            try:
                output, _ = child.communicate(timeout=wait)
            except subprocess.TimeoutExpired:
                child.send_signal(signal.SIGKILL)
                output, _ = child.communicate()
                kills += 1
            else:
                if child.returncode:
                    print(f"a restart failed with exit code {child.returncode} after {kills} kills")
                    return 1
            resumed += "resumed" in output
        equal = same(whole / "run.pt", broken / "run.pt")
        print(f"{kills} kills, {resumed} resumes, every checkpoint readable; final state bit-exact: {equal}")
        return int(not equal)


if __name__ == "__main__":
    sys.exit(main())
