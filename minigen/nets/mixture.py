"""A mixture of Gaussians with learnable weights, means and spread: the simplest model of images with a density."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class Mixture(nn.Module):
    """K Gaussians over images of d numbers, with one diagonal covariance for all of them. Chapter 01.

    means: where the K components begin, (K, ...); samples of the data are a good choice. std: of every number, to begin
    with. Parameters: `logits` (K,) of the weights, `means` (K, d) and `log_std` (d,).
    """

    def __init__(self, means: Tensor, std: float) -> None:
        super().__init__()
        self.means = nn.Parameter(means.flatten(1).clone())
        self.log_std = nn.Parameter(torch.full_like(self.means[0], math.log(std)))
        self.logits = nn.Parameter(torch.zeros_like(self.means[:, 0]))

    def log_prob(self, x: Tensor) -> Tensor:
        """The log-density of a batch (B, ...) of d numbers each, nats, (B,)."""
        distance = torch.cdist(x.flatten(1) / self.log_std.exp(), self.means / self.log_std.exp())  # (B, K)
        log_joint = self.logits.log_softmax(0) - distance.square() / 2
        return log_joint.logsumexp(1) - self.log_std.sum() - len(self.log_std) / 2 * math.log(2 * math.pi)
