"""One writer in a folder: two would leave weights of one run beside the settings of another."""

from __future__ import annotations

import importlib
import json
import os
import platform
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import ModuleType

from minigen.runs.files import make_folder

fcntl: ModuleType | None
try:
    fcntl = importlib.import_module("fcntl")
except ImportError:  # Windows, which locks bytes of a file
    fcntl = None

NAME = ".lock"
BEYOND = 2**30  # the byte that Windows locks; it would not let others read what stands at a locked one
_held: set[Path] = set()


class FolderInUseError(OSError):
    """Another process writes into the folder; the message says which."""


@contextmanager
def locked(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Keep other processes out of a folder, which is made if it is not there, and removed if it stays empty.

    The kernel holds the lock for as long as this process lives, so that a process that was killed leaves none behind.
    In a process that has it already, it is passed through. Raises FolderInUseError with the process that has it.
    """
    path = Path(folder).resolve() / NAME
    if path in _held:
        yield
        return
    if path.parent.exists() and not path.parent.is_dir():
        raise NotADirectoryError(f"{folder} is a file; expected a folder to write a run into")
    missing = [p for p in (path.parent, *path.parent.parents) if not p.exists()]
    make_folder(path.parent)
    descriptor = _acquire(path)
    _held.add(path)
    try:
        about = {"pid": os.getpid(), "host": platform.node(), "command": sys.argv, "since": time.strftime("%F %T")}
        os.truncate(descriptor, 0)
        os.write(descriptor, json.dumps(about).encode())
        yield
    finally:
        _held.discard(path)
        # Removed before the lock is given up: whoever waits for the file looks whether it is still there. Windows
        # removes no file that is open, neither here nor when another process has opened it in between.
        ends = (path.unlink, partial(os.close, descriptor))
        for end in ends if fcntl else reversed(ends):
            with suppress(OSError):
                end()
        for made in missing:
            with suppress(OSError):  # it is not empty
                made.rmdir()


def _acquire(path: Path) -> int:
    """The locked file, open."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            _lock(descriptor)
        except BlockingIOError:
            os.close(descriptor)
            raise FolderInUseError(_who(path)) from None
        except OSError as error:  # some network drives have no locks
            print(f"{path.parent} cannot be locked ({error}): see to it that one process writes there", file=sys.stderr)
            return descriptor
        if fcntl is None:
            return descriptor
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                return descriptor
        os.close(descriptor)  # its last owner has removed it in between


def _lock(descriptor: int) -> None:
    """Lock a file until it is closed or the process ends. Raises BlockingIOError where another process has it."""
    if fcntl is not None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return
    msvcrt = importlib.import_module("msvcrt")
    os.lseek(descriptor, BEYOND, os.SEEK_SET)
    try:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    except PermissionError as error:
        raise BlockingIOError(*error.args) from None
    finally:
        os.lseek(descriptor, 0, os.SEEK_SET)


def _who(path: Path) -> str:
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        owner = f"process {about['pid']} on {about['host']}, since {about['since']}: {' '.join(about['command'])}"
        stop = f"stop it (kill {about['pid']})"
    except (OSError, ValueError, KeyError, TypeError):  # it is just being written
        owner, stop = "another process", "stop it"
    return f"{path.parent} is being written by {owner}. Wait for it, {stop}, or choose another folder with --out"
