"""Printing where the console may not know every sign: a grade must not fail because of its tick mark."""

from __future__ import annotations

import sys

PLAIN = str.maketrans({"✓": "+", "✗": "x", "○": "o", "·": "-", "—": "-"})


def say(what: object) -> None:
    """Print it, in signs that the console has: where it has no ✓, ✗ and ○ they become +, x and o."""
    text, encoding = str(what), getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = text.translate(PLAIN).encode(encoding, "backslashreplace").decode(encoding)
    print(text)
