"""A mixture of Gaussians with learnable weights, means and spread: the simplest model of images with a density."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from minigen.data.checks import need_finite, need_float, need_number, need_shape
from minigen.worlds.precision import exact, like, widen


class Mixture(nn.Module):
    """K Gaussians over images of d numbers, with one diagonal covariance for all of them. Chapter 01.

    means: where the K components begin, (K, ...); samples of the data are a good choice. std: of every number, to begin
    with. Parameters: `logits` (K,) of the weights, `means` (K, d) and `log_std` (d,).
    """

    def __init__(self, means: Tensor, std: float) -> None:
        super().__init__()
        need_float("means", means)
        need_finite("means", means, todo="take samples of the data")
        need_number("std", std, low=0, open=True)
        if means.ndim < 2 or not means.numel():
            raise ValueError(f"means must be (K, ...), K at least 1; got {tuple(means.shape)}")
        self.means = nn.Parameter(means.flatten(1).clone())
        self.log_std = nn.Parameter(torch.full_like(self.means[0], math.log(std)))
        self.logits = nn.Parameter(torch.zeros_like(self.means[:, 0]))

    def log_prob(self, x: Tensor) -> Tensor:
        """The log-density of a batch (B, ...) of d numbers each, nats, (B,)."""
        need_float("images", x)
        need_shape("images, flat,", x.flatten(1), "B", len(self.log_std))
        # In float64: the square, expanded, would cancel in float32 by more than a nat where the spread is small.
        log_std = exact(self.log_std)
        points, means = exact(x.flatten(1)) / log_std.exp(), exact(self.means) / log_std.exp()
        squared = points.square().sum(1)[:, None] + means.square().sum(1) - 2 * points @ means.T  # (B, K)
        log_joint = exact(self.logits).log_softmax(0) - squared / 2
        log_p = log_joint.logsumexp(1) - log_std.sum() - len(log_std) / 2 * math.log(2 * math.pi)
        return like(log_p, widen(x))
