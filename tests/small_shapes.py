"""Worlds of shapes that are small enough to be enumerated, for tests."""

from __future__ import annotations

import torch
from torch import Tensor

from minigen.worlds import Shapes


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def small(shapes: int, form: str = "continuous", **overrides: float) -> Shapes:
    """8 x 8 pixels, few templates (80, or 1,424 pairs), groups of unequal size, and enough noise to confuse them."""
    settings = {"colours": ("red", "green", "blue"), "backgrounds": ("black", "red"), "noise": 1.5, "flip": 0.5}
    layout = {"kinds": ("square", "cross"), "sizes": (3, 5)[: 3 - shapes], "positions": (2, 2)}
    return Shapes(8, shapes=shapes, form=form, **(settings | layout | overrides))


def all_templates(world: Shapes) -> tuple[Tensor, Tensor]:
    factors = world.factors(torch.arange(len(world)))
    return world.render(factors), factors
