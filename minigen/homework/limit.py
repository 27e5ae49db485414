"""Running a reader's function: for so long and no longer, and leaving the notebook as it was."""

from __future__ import annotations

import contextvars
import ctypes
import math
import os
import random
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

T = TypeVar("T")
GRACE = 1.0  # seconds in which a function that is over time may still be stopped
_AT_FIRST = torch.get_num_threads()  # what torch takes by itself
_allowed: float | None = None  # GiB, of `allow_memory`
_left_behind: weakref.WeakSet[threading.Thread] = weakref.WeakSet()  # over time: they may not touch settings any more


class Stopped(BaseException):
    """Raised inside a function that is over time; no Exception, so that `except Exception` does not catch it."""


class OverTimeError(Exception):
    """The time limit passed. stopped: whether the function has ended, or still runs in the background."""

    def __init__(self, *, stopped: bool) -> None:
        super().__init__()
        self.stopped = stopped


def check_seconds(seconds: float) -> None:
    """Raises ValueError for a time limit that is none."""
    if not (math.isfinite(seconds) and seconds > 0):
        raise ValueError(f"a time limit must be a positive number of seconds; got {seconds}")


def within(seconds: float, work: Callable[[], T]) -> T:
    """work(), in a thread of its own. Raises OverTimeError after `seconds`, and whatever `work` raises.

    A thread, because that works in a notebook, in a test and on Windows alike. Python code is stopped by an exception
    raised inside it. A long call into compiled code (a huge matrix product, time.sleep) cannot be; it is left behind,
    and ends by that exception when the call returns. One that never lets go of the interpreter, such as
    sum(range(10**12)), holds up this function too. An interrupt by the user stops the function and is passed on.
    """
    outcome: list[tuple[T | None, BaseException | None]] = []
    begun, ended = threading.Event(), threading.Event()

    def target() -> None:
        begun.wait()
        with suppress(Stopped):
            try:
                outcome.append((work(), None))
            except BaseException as error:
                outcome.append((None, error))
        ended.set()

    thread = threading.Thread(target=contextvars.copy_context().run, args=(target,), daemon=True)
    thread.start()
    try:
        begun.set()  # here, so that an interrupt after the work's first line finds this thread ready to stop it
        slices = max(1, round(seconds / 0.05))
        in_time = any(ended.wait(seconds / slices) for _ in range(slices))  # short waits: Windows interrupts between
    except BaseException:
        _stop(thread, ended)
        raise
    if not in_time:
        raise OverTimeError(stopped=_stop(thread, ended))
    result, error = outcome[0]
    if error is not None:
        raise error
    return result  # type: ignore[return-value]


def _stop(thread: threading.Thread, ended: threading.Event) -> bool:
    """Raise Stopped in the thread, again and again while the function catches it; whether it ended."""
    _left_behind.add(thread)
    for _ in range(50):
        if not ended.is_set():
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(Stopped))
        thread.join(GRACE / 50)  # the function has ended a moment before its thread
        if not thread.is_alive():
            return True
    return False


@contextmanager
def untouched() -> Iterator[None]:
    """Put the random streams (of torch, NumPy and Python) and torch's settings back at the end; one thread meanwhile.

    One thread, since more of them slow small tensors down on a busy machine, unless the user has chosen a number.
    """
    python, numpy, dtype = random.getstate(), np.random.get_state(), torch.get_default_dtype()  # noqa: NPY002
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()  # type: ignore[no-untyped-call]
    before = torch.get_num_threads()
    with torch.random.fork_rng(devices=devices):
        try:
            torch.set_num_threads(threads())
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002
            torch.set_default_dtype(dtype)
            torch.set_num_threads(before)


def threads() -> int:
    """How many threads a grader uses: what the user has chosen, by the environment or torch.set_num_threads, or one."""
    now = torch.get_num_threads()
    named = any(os.environ.get(name) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"))
    return now if named or now != _AT_FIRST else 1


@contextmanager
def fresh() -> Iterator[None]:
    """For one call: the same random streams and torch's own settings whatever came before; inside of `untouched`.

    What the call changes is put back, too: the reference, which comes next, must not feel it.
    """
    now = torch.get_num_threads()
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    torch.default_generator.manual_seed(0)  # not torch.manual_seed, which seeds the accelerators too
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_device(None)  # this and the next of this thread alone
        torch.set_grad_enabled(True)
        if threading.current_thread() not in _left_behind:
            torch.set_default_dtype(torch.float32)
            torch.set_num_threads(now)


def allow_memory(gib: float) -> None:
    """From now on, let this process take so many GiB more than it has; an allocation beyond raises MemoryError.

    On Linux alone: other systems do not keep such a limit, and there is none.
    """
    global _allowed
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    except (ImportError, OSError):
        return
    most = pages * resource.getpagesize() + int(gib * 2**30)
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))
    _allowed = gib


def memory_allowed() -> str:
    """How much memory an answer may take, for a message."""
    return "there is" if _allowed is None else f"the {_allowed:g} GiB that an answer may take"
