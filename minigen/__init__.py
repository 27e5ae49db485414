"""minigen: the equations of image generation as a small, tested PyTorch library."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from minigen.data import Batches as Batches
    from minigen.train import Objective as Objective
    from minigen.train import Run as Run

__version__ = "0.2.0"
__all__ = ["Batches", "Objective", "Run", "__version__"]
_HOMES = {"Batches": "minigen.data", "Objective": "minigen.train", "Run": "minigen.train"}


def __getattr__(name: str) -> Any:
    """The public names, imported when they are asked for: `python -m minigen` has to say so where torch is missing."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
