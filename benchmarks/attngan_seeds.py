"""AttnGAN on the shapes over trainings: as stored, without the matcher's term, with the spread of a batch (chapter 05).

usage: python benchmarks/attngan_seeds.py {stored,alone,spread,long} [--seeds 3]

stored: the recipe `attngan shapes`. alone: its weight of the matcher's term 0. spread: the larger discriminator sees
how much a batch varies. long: twice the steps. 1,000 images each. Writes benchmarks/results/attngan_seeds.json after
each seed, and goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

import torch

from minigen import metrics
from minigen.recipes import RECIPES

FILE = Path(__file__).parent / "results" / "attngan_seeds.json"
CHANGES = {"stored": {}, "alone": {"weight": 0.0}, "spread": {"minibatch": True}, "long": {}}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", choices=CHANGES)
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    recipe = RECIPES["attngan", "shapes"]
    recipe = replace(recipe, settings=recipe.settings | CHANGES[given.which])
    steps, task = recipe.steps * (2 if given.which == "long" else 1), recipe.task
    for seed in range(given.seeds):
        found = json.loads(FILE.read_text()) if FILE.exists() else {}
        if str(seed) in found.get(given.which, {}):
            continue
        run = recipe.build(steps=steps, seed=seed, device="cpu", precision="fp32")
        for _ in run(recipe.batches(seed=seed, device="cpu"), steps):
            pass
        x = recipe.draw(run, task.count)
        figures = {name: round(value.model, 4) for name, value in task.evaluate(x).items()}
        captions = [task.captions[i] for i in task.wanted(task.count).tolist()]
        figures["free_entropy_ratio"] = round(metrics.free_entropy(x, captions, task.world).share, 4)
        print(given.which, seed, figures, flush=True)
        now = json.loads(FILE.read_text()) if FILE.exists() else {}  # another part may have been written meanwhile
        now.setdefault(given.which, {})[str(seed)] = figures
        FILE.write_text(json.dumps(now, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
