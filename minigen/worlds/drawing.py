"""What the shapes look like: crisp boolean masks and a palette of eight colours."""

import torch
from torch import Tensor

from minigen.data.checks import need_count

# RGB in [-0.8, 0.8]. Any two are at least 1 apart, ten standard deviations of the default noise, and at least 19 apart
# in CIELAB as seen with full protanopia, deuteranopia or tritanopia (simulated after Machado et al. 2009).
COLOURS: dict[str, tuple[float, float, float]] = {
    "black": (-0.8, -0.8, -0.8),
    "white": (0.8, 0.8, 0.8),
    "red": (0.75, -0.7, -0.7),
    "green": (-0.5, 0.25, -0.4),
    "blue": (-0.75, -0.5, 0.55),
    "yellow": (0.8, 0.5, -0.6),
    "magenta": (0.8, -0.35, 0.4),
    "cyan": (-0.55, 0.45, 0.8),
}


def disc(size: int) -> Tensor:
    """A filled circle, bool (size, size)."""
    y, x = _coordinates(size)
    return x**2 + y**2 <= size**2


def square(size: int) -> Tensor:
    """A filled square, bool (size, size)."""
    need_count("size", size)
    return torch.ones(size, size, dtype=torch.bool)


def triangle(size: int) -> Tensor:
    """A filled triangle that points up, bool (size, size)."""
    y, x = _coordinates(size)
    return 2 * x.abs() <= y + size + (1 - size % 2)


def cross(size: int) -> Tensor:
    """Two bars across each other, bool (size, size)."""
    y, x = _coordinates(size)
    bar = size // 3 - (size // 3 - size) % 2  # a third of the size, as even or odd as the size, so that it is centred
    return torch.minimum(x.abs(), y.abs()) < bar


def ring(size: int) -> Tensor:
    """A circle with a hole, bool (size, size)."""
    y, x = _coordinates(size)
    hole = size - 2 * ((size + 1) // 5)
    return disc(size) & (x**2 + y**2 > hole**2)


KINDS = {"disc": disc, "square": square, "triangle": triangle, "cross": cross, "ring": ring}


def _coordinates(size: int) -> tuple[Tensor, Tensor]:
    """(y, x) of the pixel centres in half pixels from the middle: -(size - 1), ..., -1, 1, ... or 0, ... size - 1."""
    need_count("size", size)
    line = 2 * torch.arange(size) - size + 1
    y, x = torch.meshgrid(line, line, indexing="ij")
    return y, x
