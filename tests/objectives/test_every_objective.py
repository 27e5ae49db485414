"""Every objective of the library: two processes give what one gives, logs included, and nobody is left out."""

from __future__ import annotations

import importlib
import inspect
import os
import pkgutil
import subprocess
import sys

import every_objective
import torch

from minigen import Objective, objectives


def test_two_processes_equal_one_for_every_objective(tmp_path) -> None:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [*launcher, every_objective.__file__, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = (torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in range(2))
    expected = every_objective.play(None)
    assert first.keys() == second.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(first[name], second[name]), name
        torch.testing.assert_close(
            first[name], value, rtol=1e-4, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_no_objective_is_left_out() -> None:
    found = set()
    for module in pkgutil.iter_modules(objectives.__path__):
        members = vars(importlib.import_module(f"minigen.objectives.{module.name}")).values()
        found |= {c for c in members if inspect.isclass(c) and issubclass(c, Objective) and not inspect.isabstract(c)}
    played = {type(make()) for make, _ in every_objective.GAMES.values()}
    assert played == found
