"""Real images as tasks: figures are those of the metrics."""

from __future__ import annotations

import torch

from minigen import data, metrics
from minigen.recipes import RECIPES
from minigen.tasks import RealImages


def test_figures_of_real_images_are_those_of_the_metrics() -> None:
    task = RECIPES["minimax", "digits"].task
    train, test = (data.to_float(data.digits(split).images) for split in ("train", "test"))
    x = (train[:200] + 0.1 * torch.randn(200, 1, 8, 8)).clamp(-1, 1)
    figures = task.evaluate(x)
    assert figures["images_compared"] == (200, 200)
    assert figures["training_images_of_published"] == (1415, 1415)
    unseen, known = test[:200], train[torch.randperm(1415, generator=torch.Generator().manual_seed(0))[:200]]
    mean = {
        "distance_to_training_images": (metrics.nearest(x, train), metrics.nearest(unseen, train)),
        "distance_from_unseen_images": (metrics.nearest(unseen, x), metrics.nearest(unseen, known)),
    }
    for name, pair in mean.items():
        assert figures[name] == tuple(distance.mean().item() for distance, _ in pair)
    for name, function in {
        "pixel_frechet_distance": metrics.frechet_distance,
        "pixel_kernel_distance": metrics.kernel_distance,
    }.items():
        assert figures[name] == tuple(function(a.flatten(1), unseen.flatten(1)) for a in (x, known))
    pair = [metrics.precision_recall(unseen.flatten(1), a.flatten(1)) for a in (x, known)]
    assert figures["pixel_precision"] == tuple(p.precision for p in pair)
    assert figures["pixel_recall"] == tuple(p.recall for p in pair)
    copies = task.evaluate(train[:300])
    assert copies["distance_to_training_images"].model < 1e-2 < copies["distance_to_training_images"].yardstick


def test_a_subset_says_so() -> None:
    def few(split: str) -> data.Images:
        return data.Images(
            torch.randint(256, (50, 1, 4, 4)).to(torch.uint8), torch.zeros(50).long(), ("a",), "few", split, 9000
        )

    task = RealImages("few", "", few, shape=(1, 4, 4))
    assert task.evaluate(torch.zeros(40, 1, 4, 4))["training_images_of_published"] == (50, 9000)
