"""Pixels as levels and as numbers: the maps between them, black-and-white draws, and noise between the levels.

A level k of K is the cell from 2k/K - 1 to 2(k + 1)/K - 1. Randomness is an argument: uniform numbers in [0, 1).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from minigen.data.batches import Draw
from minigen.data.checks import need_integer, need_rows


def to_float(levels: Tensor, *, num_levels: int = 256) -> Tensor:
    """Map level k of K to (2k + 1)/K - 1, the centre of the k-th of K equal bins of [-1, 1].

    Args:
        levels: uint8 or int64, any shape, values 0..K-1. The values are checked on a CPU only: on an accelerator the
            check would make every training step wait.
        num_levels: K, the number of levels.

    Returns:
        float32 of the same shape, exact for K = 256.

    Raises:
        TypeError: levels are neither uint8 nor int64.
        ValueError: fewer than two levels, or a value outside 0..K-1.

    >>> to_float(torch.tensor([0, 1, 2, 3]), num_levels=4)
    tensor([-0.7500, -0.2500,  0.2500,  0.7500])
    """
    _check_levels("levels", levels, num_levels, "floats in [-1, 1] need no conversion")
    if num_levels > 2**22:  # where float32 does not hold every 2k + 1 - K
        return (2 * levels.to(torch.int64) + 1 - num_levels).to(torch.float32) / num_levels
    return levels.to(torch.float32).mul_(2).add_(1 - num_levels).div_(num_levels)


def to_levels(images: Tensor, *, num_levels: int = 256) -> Tensor:
    """Map each value in [-1, 1] to the level of its bin: the inverse of `to_float`, with values outside clamped.

    Args:
        images: floating point, any shape. bfloat16 and float16 are widened first, but they cannot hold all 256 levels.
        num_levels: K, the number of levels.

    Returns:
        int64 levels 0..K-1 of the same shape: floor((x + 1) K / 2), where x = 1 belongs to the last bin.

    Raises:
        TypeError: images are not floating point.
        ValueError: fewer than two levels, a value that is not finite, or levels 0, 1, 2, ... that are stored as floats.
    """
    need_integer("num_levels", num_levels, 2)
    _check_tensor("images", images)
    if not images.is_floating_point():
        raise TypeError(f"images must be floating point in [-1, 1]; got {images.dtype}: levels need no conversion")
    if not images.isfinite().all():
        raise ValueError("images must be finite; got NaN or infinity: look for the step that diverged")
    if images.numel() and images.max() > 1 and images.min() >= 0 and (images == images.round()).all():
        span = f"{images.min().item():.0f}..{images.max().item():.0f}"
        raise ValueError(f"images must be in [-1, 1]; got whole numbers {span}, which are levels: .long() is enough")
    wide = images.float() if images.dtype in (torch.float16, torch.bfloat16) else images
    return ((wide + 1) * (num_levels / 2)).floor().clamp(0, num_levels - 1).to(torch.int64)


def binarise(images: Tensor, uniform: Tensor) -> Tensor:
    """A black-and-white draw of levels 0..255, (N, 1, H, W) or any shape: 1 with probability level / 255, int64.

    Drawn anew for each batch this is "dynamic" binarisation (Burda et al. 2016, section 5). images: uint8 or int64.
    uniform: in the shape of the images, in [0, 1).

    Raises TypeError for images that are no levels, such as floats in [-1, 1], and for uniform numbers that are no
    floats; ValueError for other shapes or values (values are checked on a CPU only, as in `to_float`).
    """
    _check_levels("images", images, 256, "floats in [-1, 1] become levels by to_levels(images)")
    _check_uniform(uniform, images)
    return (uniform * 255 < images).long()


def dequantise(levels: Tensor, uniform: Tensor, *, num_levels: int) -> Tensor:
    """A uniform point of the cell of each level, in [-1, 1]; chapter 01, (1.19).

    levels: uint8 or int64, 0..num_levels-1, any shape. uniform: in the same shape, in [0, 1).

    Raises TypeError for levels that are floats and for uniform numbers that are not; ValueError for other shapes or
    values (values are checked on a CPU only, as in `to_float`).
    """
    _check_levels("levels", levels, num_levels, "floats in [-1, 1] become levels by to_levels(images)")
    _check_uniform(uniform, levels)
    return 2 * (levels + uniform) / num_levels - 1


def _check_levels(name: str, levels: Tensor, num_levels: int, advice: str) -> None:
    need_integer("num_levels", num_levels, 2)
    _check_tensor(name, levels)
    if levels.dtype not in (torch.uint8, torch.int64):
        raise TypeError(f"{name} must be uint8 or int64; got {levels.dtype}: {advice}")
    always = levels.dtype == torch.uint8 and num_levels >= 256
    if levels.device.type == "cpu" and levels.numel() and not always:
        low, high = int(levels.min()), int(levels.max())
        if low < 0 or high >= num_levels:
            hint = "" if name == "images" else ": is num_levels right?"
            raise ValueError(f"{name} must be in 0..{num_levels - 1}; got {low}..{high}{hint}")


def _check_uniform(uniform: Tensor, beside: Tensor) -> None:
    _check_tensor("uniform", uniform)
    if not uniform.is_floating_point():
        raise TypeError(f"uniform must be floating point in [0, 1); got {uniform.dtype}: draw it by torch.rand")
    if uniform.shape != beside.shape:
        raise ValueError(f"uniform must have the shape {tuple(beside.shape)}; got {tuple(uniform.shape)}")
    if uniform.device.type == "cpu" and not ((uniform >= 0) & (uniform < 1)).all():
        low, high = float(uniform.min()), float(uniform.max())
        raise ValueError(f"uniform must be in [0, 1); got {low:g}..{high:g}: draw it by torch.rand, not randn")


def _check_tensor(name: str, value: object) -> None:
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor; got {type(value).__name__}")


def fresh(images: Tensor, change: Callable[[Tensor, Tensor], Tensor], *beside: Tensor) -> Draw:
    """A source for `Stream`: random rows of images (N, ...), changed by fresh noise, as `change(rows, uniform)`.

    beside: what belongs to the images, (N, ...) each, such as captions; then a batch is a tuple, images first.

    Raises ValueError for tensors of unequal length or without rows, TypeError for what is no tensor or no function.
    """
    if need_rows(images, *beside) == 0:
        raise ValueError("images must have one row or more; got none")
    if not callable(change):
        raise TypeError(f"change must be a function of rows and uniform numbers; got a {type(change).__name__}")

    def draw(n: int, /, *, generator: torch.Generator) -> Tensor | tuple[Tensor, ...]:
        device = generator.device
        index = torch.randint(len(images), (n,), generator=generator, device=device)
        rows = images.to(device)[index]
        changed = change(rows, torch.rand(rows.shape, generator=generator, device=device))
        return (changed, *(part.to(device)[index] for part in beside)) if beside else changed

    return draw
