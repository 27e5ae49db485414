"""Windows' locks made of this system's, for what happens where there is no `fcntl`: `pretend()`."""

from __future__ import annotations

import errno
import os
import sys

import pytest

LK_NBLCK = 2


def locking(descriptor: int, mode: int, nbytes: int) -> None:
    """Lock bytes from the file's position on, at once or not at all; Windows refuses with EACCES."""
    import fcntl

    assert mode == LK_NBLCK
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, nbytes, 0, os.SEEK_CUR)
    except OSError as error:
        raise PermissionError(errno.EACCES, "Permission denied") from error


def pretend(patch: pytest.MonkeyPatch) -> None:
    """From now on this process locks folders as on Windows."""
    from minigen.runs import lock

    patch.setitem(sys.modules, "msvcrt", sys.modules[__name__])
    patch.setattr(lock, "fcntl", None)
