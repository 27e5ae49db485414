"""Files that are whole or not there: written beside and moved into place."""

from __future__ import annotations

import json
import math
import os
from contextlib import suppress
from pathlib import Path
from typing import Any


def write(path: Path, content: bytes) -> None:
    """Atomic: a reader sees the old file or the new one; where it cannot be written the old one stays alone.

    Raises OSError with what to do.
    """
    partial = path.with_name(path.name + ".tmp")
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    except BaseException as error:
        with suppress(OSError):
            partial.unlink()
        if isinstance(error, OSError):
            raise OSError(
                f"cannot write {path} ({error.strerror or error}). See that it is no folder, that it may be written "
                "and that the disk has room, or choose another place"
            ) from error
        raise


def make_folder(path: Path) -> None:
    """Make a folder, and those above it, unless it is there. Raises OSError with what to do."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise type(error)(
            f"cannot make the folder {path} ({error.strerror or error}). See that nothing above it is a file or "
            "write-protected, or choose another place"
        ) from error


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write JSON atomically; a number that JSON cannot hold becomes null."""
    make_folder(path.parent)
    write(path, (json.dumps(strict(content), indent=1, allow_nan=False) + "\n").encode())


def strict(value: Any) -> Any:
    """JSON knows no infinity and no NaN: null stands for them."""
    if isinstance(value, dict):
        return {key: strict(part) for key, part in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
