"""What the tests of the command line share: processes, and folders compared file by file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import torch

FILES = ["log.jsonl", "recipe.json", "result.json", "run.pt", "samples.png"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "80", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}


def spawn(*words: object, processes: int = 1) -> subprocess.Popen[str]:
    many = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []
    command = [sys.executable, *many, "-m", "minigen", *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)


def contents(folder: Path) -> dict[str, bytes]:
    """Files byte by byte; the checkpoint by its tensors, since a zip file holds a date."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "run.pt"}


def leaves(state: object) -> list[object]:
    if isinstance(state, dict):
        return [leaf for value in state.values() for leaf in leaves(value)]
    return [leaf for value in state for leaf in leaves(value)] if isinstance(state, list | tuple) else [state]


def assert_same_run(a: Path, b: Path) -> None:
    """All files of two folders, bit for bit."""
    assert sorted(p.name for p in a.iterdir()) == sorted(p.name for p in b.iterdir()) == FILES
    assert contents(a) == contents(b)
    one, other = (leaves(torch.load(folder / "run.pt", weights_only=True)) for folder in (a, b))
    assert len(one) == len(other) > 50
    for x, y in zip(one, other, strict=True):
        assert torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y


def saved(folder: Path, default: int) -> int:
    """The step of the last log line: of a whole file, whenever it is read."""
    path = folder / "log.jsonl"
    return json.loads(path.read_text().splitlines()[-1])["step"] if path.exists() else default
