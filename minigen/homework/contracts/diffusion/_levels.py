"""The exercises of chapter 11 share these: levels of noise, counted from 0 as everywhere in code, and noisy images."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import pad

from minigen.homework.contract import Input
from minigen.homework.mistakes import doubles, squares
from minigen.objectives.diffusion import Schedule

Coefficients = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def kept(beta: Tensor) -> Tensor:
    """alpha_bar (T,): the share of the variance that is the image's after each step."""
    return (1 - beta).cumprod(0)


def one_before(alpha_bar: Tensor, first: float = 1.0) -> Tensor:
    """alpha_bar of the level before, (T,); the level before the first is the image."""
    return pad(alpha_bar[:-1], (1, 0), value=first)


def noisy_images() -> list[Input]:
    one = torch.full((1, 1, 1, 1), 2.0, dtype=torch.float64)
    x_0, eps = squares(3, 2)
    return [
        Input((one, -0.5 * one, doubles(0.1, 0.2, 0.4), torch.tensor([1])), "one pixel at the second of three levels"),
        Input((x_0, eps, doubles(0.02, 0.05, 0.1, 0.15, 0.3), torch.tensor([4, 0, 2])), "random images at five levels"),
        Input((x_0, eps, Schedule.linear().beta, torch.tensor([0, 999, 500])), "a thousand levels"),
    ]
