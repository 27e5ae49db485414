"""Games of pairs over seeds: the grid in the plane, and shapes with and without the spread of a batch (chapter 03).

usage: python benchmarks/pairs_seeds.py {grid,shapes,alone} [--seeds 20] [--steps N]

grid: the recipe `relativistic grid`; 2,500 samples, high quality within three standard deviations.
shapes: the recipe `relativistic shapes`; 2,000 samples. alone: the same where the discriminator sees one image at a
time. Writes benchmarks/results/pairs_seeds.json after each seed, and goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

import torch

from minigen import metrics
from minigen.recipes import RECIPES, Recipe
from minigen.train import Run

FILE = Path(__file__).parent / "results" / "pairs_seeds.json"


def in_the_plane(recipe: Recipe, run: Run) -> dict[str, float]:
    report = metrics.modes(recipe.draw(run, 2500), recipe.task.world)
    return {"modes": report.captured, "high_quality": round(report.high_quality, 4)}


def of_shapes(recipe: Recipe, run: Run) -> dict[str, float]:
    x, world = recipe.draw(run, 2000), recipe.task.world
    coverage, valid = metrics.coverage(x, world), metrics.valid_mask(x, world)
    return {
        "valid": round(valid.double().mean().item(), 4),
        "nats_from_even": round(coverage.divergence, 4),
        "exact": round(coverage.exact, 4),
        "templates": len(world.nearest_template(x[valid])[0].unique()),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", choices=("grid", "shapes", "alone"))
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--steps", type=int)
    given = parser.parse_args()
    torch.set_num_threads(1)
    recipe = RECIPES["relativistic", "grid" if given.which == "grid" else "shapes"]
    if given.which == "alone":
        recipe = replace(recipe, settings={**recipe.settings, "minibatch": False})
    steps, judge = given.steps or recipe.steps, in_the_plane if given.which == "grid" else of_shapes
    for seed in range(given.seeds):
        found = json.loads(FILE.read_text()) if FILE.exists() else {}
        mine = found.setdefault(given.which, {"steps": steps, "runs": {}})
        if mine["steps"] != steps:
            sys.exit(f"{FILE.name} has runs of {mine['steps']} steps; remove them, or give --steps {mine['steps']}")
        if str(seed) in mine["runs"]:
            continue
        run = recipe.build(steps=steps, seed=seed, device="cpu", precision="fp32")
        for _ in run(recipe.batches(seed=seed, device="cpu"), steps):
            pass
        mine["runs"][str(seed)] = judge(recipe, run)
        print(given.which, seed, mine["runs"][str(seed)], flush=True)
        now = json.loads(FILE.read_text()) if FILE.exists() else {}  # another part may have been written meanwhile
        FILE.write_text(json.dumps(now | {given.which: mine}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
