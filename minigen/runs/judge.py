"""What a run is worth: its task's figures, its likelihood, and what its family measures besides."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from minigen import metrics
from minigen.data.chunks import in_chunks
from minigen.recipes.recipe import Recipe
from minigen.tasks.task import ScoredTask
from minigen.train.loop import Run


def judge(run: Run, recipe: Recipe, samples: Tensor, seed: int) -> dict[str, Any]:
    """The figures of samples that were drawn with `seed`, and what they are of."""
    score, task, figures = recipe.log_prob, recipe.task, recipe.task.evaluate(samples)
    if score is not None and isinstance(task, ScoredTask):
        scores = in_chunks(lambda x: score(run, x, seed=seed), task.held_out(), size=200)
        figures |= task.likelihood(metrics.nll(scores))
    if recipe.measure:
        figures |= recipe.measure(run)
    return {
        "recipe": recipe.name,
        "step": run.n,
        "samples": len(samples),
        "seed": seed,
        "figures": {
            name: {"model": measured.model, task.yardstick: measured.yardstick} for name, measured in figures.items()
        },
    }
