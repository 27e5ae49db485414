"""Running a reader's function: for so long and no longer, and leaving the notebook as it was."""

from __future__ import annotations

import contextvars
import ctypes
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

import numpy as np
import torch

T = TypeVar("T")
GRACE = 1.0  # seconds in which a function that is over time may still be stopped


class Stopped(BaseException):
    """Raised inside a function that is over time; no Exception, so that `except Exception` does not catch it."""


class OverTimeError(Exception):
    """The time limit passed. stopped: whether the function has ended, or still runs in the background."""

    def __init__(self, *, stopped: bool) -> None:
        super().__init__()
        self.stopped = stopped


def within(seconds: float, work: Callable[[], T]) -> T:
    """work(), in a thread of its own. Raises OverTimeError after `seconds`, and whatever `work` raises.

    A thread, because that works in a notebook, in a test and on Windows alike. Python code is stopped by an exception
    raised inside it. A long call into compiled code (a huge matrix product, time.sleep) cannot be; it is left behind,
    and ends by that exception when the call returns. One that never lets go of the interpreter, such as
    sum(range(10**12)), holds up this function too. An interrupt by the user stops the function and is passed on.
    """
    outcome: list[tuple[T | None, BaseException | None]] = []
    ended = threading.Event()

    def target() -> None:
        with suppress(Stopped):
            try:
                outcome.append((work(), None))
            except BaseException as error:
                outcome.append((None, error))
        ended.set()

    thread = threading.Thread(target=contextvars.copy_context().run, args=(target,), daemon=True)
    thread.start()
    try:
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
    for _ in range(50):
        if not ended.is_set():
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(Stopped))
        thread.join(GRACE / 50)  # the function has ended a moment before its thread
        if not thread.is_alive():
            return True
    return False


@contextmanager
def untouched() -> Iterator[None]:
    """Put the random streams (of torch, NumPy and Python) and torch's default dtype back at the end."""
    python, numpy, dtype = random.getstate(), np.random.get_state(), torch.get_default_dtype()  # noqa: NPY002
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()  # type: ignore[no-untyped-call]
    with torch.random.fork_rng(devices=devices):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002
            torch.set_default_dtype(dtype)


def reset() -> None:
    """The same random streams and default dtype before every call; inside of `untouched`."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    torch.default_generator.manual_seed(0)  # not torch.manual_seed, which seeds the accelerators too
    torch.set_default_dtype(torch.float32)
