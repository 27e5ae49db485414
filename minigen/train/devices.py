"""Where to compute."""

from __future__ import annotations

import os

import torch


def best_device() -> torch.device:
    """CUDA where there is one, else Apple's MPS, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def one_thread_unless_chosen() -> bool:
    """Let torch compute on one CPU thread, unless OMP_NUM_THREADS or MKL_NUM_THREADS says otherwise; whether it did.

    For small networks more threads gain little on an idle machine, and on a busy one they wait for each other: 300
    steps took 0.9 s with one thread and 27 s with two. Without such a variable, torch takes all cores.
    """
    if any(os.environ.get(name) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")) or torch.get_num_threads() == 1:
        return False
    torch.set_num_threads(1)
    return True
