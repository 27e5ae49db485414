"""The exercises of chapter 01 about two Gaussians share these inputs."""

from __future__ import annotations

import torch

from minigen.homework.contract import Input


def gaussians() -> list[Input]:
    generator = torch.Generator().manual_seed(0)
    means, stds = torch.randn(2, 3, generator=generator), torch.rand(2, 3, generator=generator) + 0.3
    one = torch.ones(2)
    return [
        Input((torch.tensor([1.0]), torch.tensor([2.0]), torch.tensor([0.0]), torch.tensor([3.0])), "one dimension"),
        Input((means[0], stds[0], means[1], stds[1]), "random Gaussians in 3 dimensions"),
        Input((means[0], stds[0], means[0].clone(), stds[0].clone()), "two equal Gaussians"),
        Input((0 * one, 1e-3 * one, torch.tensor([30.0, -40.0]), 2 * one), "a needle, far from the mean of the other"),
    ]
