"""Fresh noise for images that are stored as levels: black-and-white draws, and numbers between the levels.

A level k of K is the cell from 2k/K - 1 to 2(k + 1)/K - 1. Randomness is an argument: uniform numbers in [0, 1).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from minigen.streams import Draw


def binarise(images: Tensor, uniform: Tensor) -> Tensor:
    """A black-and-white draw of uint8 images (N, 1, H, W): 1 with probability level / 255, int64.

    Drawn anew for each batch this is "dynamic" binarisation (Burda et al. 2016, section 5). uniform: in the shape of
    the images.
    """
    return (uniform * 255 < images).long()


def dequantise(levels: Tensor, uniform: Tensor, *, levels_count: int) -> Tensor:
    """A uniform point of the cell of each level, in [-1, 1]; chapter 01, (1.19)."""
    return 2 * (levels + uniform) / levels_count - 1


def fresh(images: Tensor, change: Callable[[Tensor, Tensor], Tensor], *beside: Tensor) -> Draw:
    """A source for `Stream`: random rows of images (N, ...), changed by fresh noise, as `change(rows, uniform)`.

    beside: what belongs to the images, (N, ...) each, such as captions; then a batch is a tuple, images first.
    """

    def draw(n: int, /, *, generator: torch.Generator) -> Tensor | tuple[Tensor, ...]:
        device = generator.device
        index = torch.randint(len(images), (n,), generator=generator, device=device)
        rows = images.to(device)[index]
        changed = change(rows, torch.rand(rows.shape, generator=generator, device=device))
        return (changed, *(part.to(device)[index] for part in beside)) if beside else changed

    return draw
