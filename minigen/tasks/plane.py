"""Mixtures of Gaussians in the plane."""

from __future__ import annotations

import torch
from torch import Tensor

from minigen import metrics, show
from minigen.data.batches import Stream
from minigen.tasks.task import Measured
from minigen.worlds import GaussianMixture


class Plane:
    """A mixture of Gaussians in the plane, drawn over [-reach, reach]^2; judged by the published 2,500 samples."""

    shape: tuple[int, ...] = (2,)
    count, yardstick = 2500, "exact"

    def __init__(self, name: str, title: str, world: GaussianMixture, *, reach: float) -> None:
        self.name, self.title, self.world, self.reach = name, title, world, reach

    def batches(self, *, batch_size: int, seed: int, device: torch.device | str) -> Stream:
        """Fresh points of the world, (B, 2)."""
        return Stream(self.world.sample, batch_size=batch_size, seed=seed, device=device)

    def evaluate(self, samples: Tensor) -> dict[str, Measured]:
        """How many spots samples (N, 2) reach, and which share of them lies within three standard deviations of one."""
        report = metrics.modes(samples, self.world)
        return {
            "modes_captured": Measured(report.captured, len(self.world)),
            "high_quality_share": Measured(report.high_quality, metrics.HIGH_QUALITY_CEILING),
        }

    def picture(self, samples: Tensor) -> show.Figure:
        """The density, and beside it the samples."""
        from matplotlib import pyplot as plt

        r = self.reach
        figure, (left, right) = plt.subplots(1, 2, figsize=(8, 4.2), sharey=True, layout="constrained")
        right.scatter(*self.world.means.T, s=90, facecolors="none", edgecolors=show.COLOURS["data"], linewidths=0.8)
        show.field(left, lambda x: self.world.log_prob(x).exp(), (-r, r, -r, r), kind="density", resolution=400)
        left.set_title("data: density", fontsize=10)
        show.scatter(right, samples, "model", size=3)
        show.plane(right, (-r, r, -r, r), title=f"model: {len(samples):,} samples (circles: the spots)")
        return figure
