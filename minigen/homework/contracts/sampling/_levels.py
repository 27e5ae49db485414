"""The exercises of chapter 12 share these: levels whose variance is kept, and an exact denoiser."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from minigen.samplers.diffusion import Level


def level_of(alpha: float) -> Level:
    """The level of that alpha whose variance is kept."""
    return alpha, (1 - alpha * alpha) ** 0.5


class Coins(nn.Module):
    """The exact denoiser of images whose pixels are -1 or 1 with equal chance: E[x_0 | x_t]."""

    def forward(self, x: Tensor, alpha: float, sigma: float) -> Tensor:
        """(B, C, H, W) to the same."""
        return torch.tanh(torch.as_tensor(alpha, dtype=x.dtype) * x / torch.as_tensor(sigma, dtype=x.dtype).square())
