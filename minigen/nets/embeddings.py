"""Numbers as sines and cosines: noise levels (chapter 11) and places of a grid (chapter 13).

Source: Vaswani et al. 2017, section 3.5.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

SLOWEST, FASTEST = 1 / 20, 4.0  # radians per nat


FEATURES = 64  # of the noise level, before the layers that are learnt


def sinusoidal(log_snr: Tensor, width: int) -> Tensor:
    """Sines and cosines of log-SNR (B,), in nats: (B, width).

    Frequencies rise geometrically from 1/20 radian per nat, whose sine is monotone over -20..20 and so tells all levels
    apart, to 4, whose period of 1.6 nats is shorter than that in which the best denoiser changes.
    """
    if width % 2:
        raise ValueError(f"width must be even, for sines and cosines; got {width}")
    steps = torch.linspace(0, 1, width // 2, dtype=log_snr.dtype, device=log_snr.device)
    angles = log_snr[:, None] * (SLOWEST * (FASTEST / SLOWEST) ** steps)  # (B, width / 2)
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def sinusoidal_2d(height: int, width: int, features: int) -> Tensor:
    """Sines and cosines of row and column, (T, features) for T places in raster order; features a multiple of 4.

    Frequencies rise geometrically from half a turn over the longer side, which tells all places apart, to half a turn
    from one place to the next.
    """
    if features % 4:
        raise ValueError(f"features must be a multiple of 4, for sines and cosines of row and column; got {features}")
    frequency = math.pi / max(height, width) * max(height, width, 2) ** torch.linspace(0, 1, features // 4)
    rows, columns = (torch.arange(side)[:, None] * frequency for side in (height, width))  # (side, features / 4)
    of_row, of_column = (torch.cat([angles.sin(), angles.cos()], dim=1) for angles in (rows, columns))
    both = [of_row[:, None].expand(-1, width, -1), of_column.expand(height, -1, -1)]
    return torch.cat(both, dim=2).flatten(0, 1)
