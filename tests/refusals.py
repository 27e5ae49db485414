"""What every refusal of the library must be: its own error, which says what was expected and what was given."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

import minigen

EXPECTED = re.compile(r"\b(must|needs?|give|take|expected|no .* may|above|different|need|differ)\b")
LIBRARY = str(Path(minigen.__file__).parent)


def refused(call: Callable[[], object], words: str) -> None:
    """The call is refused by the library itself, not by torch below it, and the message holds these words."""
    with pytest.raises((TypeError, ValueError)) as caught:
        call()
    message = str(caught.value)
    assert words in message, message
    assert "got" in message, f"{message!r} does not say what was given"
    assert EXPECTED.search(message), f"{message!r} does not say what was expected"
    assert str(caught.traceback[-1].path).startswith(LIBRARY), (
        f"{caught.traceback[-1]}: {message!r} is no error of ours"
    )
