"""Large sets through a function, a part at a time: what evaluation and sampling need, and training does not."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


@torch.no_grad()
def in_chunks(
    function: Callable[..., Tensor], *tensors: Tensor, size: int = 500, device: torch.device | str = "cpu"
) -> Tensor:
    """function(*tensors) for the rows of all tensors (N, ...) together, `size` rows at a time, (N, ...) on the CPU.

    device: where the function gets its rows. Raises ValueError where the tensors have no common length, or no row.
    """
    lengths = {len(t) for t in tensors}
    if len(lengths) != 1 or not min(lengths):
        raise ValueError(f"tensors must have one common length, 1 or more; got {[len(t) for t in tensors]}")
    if size < 1:
        raise ValueError(f"size is the rows of a chunk, 1 or more; got {size}")
    parts = zip(*(torch.split(t, size) for t in tensors), strict=True)
    return torch.cat([function(*(rows.to(device) for rows in part)).cpu() for part in parts])
