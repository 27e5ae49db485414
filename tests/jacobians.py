"""Which pixels of an image move what a network makes of it, for the tests of networks."""

from __future__ import annotations

import torch
from torch import Tensor


def moved(outputs: Tensor, x: Tensor) -> Tensor:
    """Which pixels (H, W) of the first of the images x move these outputs: where a derivative is not 0."""
    (slope,) = torch.autograd.grad(outputs.sum(), x, retain_graph=True)
    return slope[0].abs().sum(0) > 0


def span(marks: Tensor) -> tuple[int, int]:
    """The first True and how many there are from it to the last one."""
    where = marks.nonzero().flatten()
    return int(where[0]), int(where[-1] - where[0]) + 1
