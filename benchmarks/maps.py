"""Does a better match mean better maps? Matchers of words whose regions see a part of the image, or all (chapter 05).

usage: python benchmarks/maps.py [--seeds 1] [--steps 900]

The recipe `damsm shapes`, as it stands, and with two residual blocks more over the regions, so that each region sees
the whole image. Of each: the loss by words, (5.13), of 1,024 test pairs in groups of 64, the share of images that find
their caption among 64, and the areas under the curve of the maps. Means over the seeds. Writes
benchmarks/results/maps.json.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

import torch

from minigen.objectives.contrastive import recall_at_k
from minigen.objectives.words import WordMatcher, matching_loss
from minigen.recipes import RECIPES
from minigen.recipes.words import by_words, matcher_of, word_maps

RECIPE = RECIPES["damsm", "shapes"]


def measured(blocks: int, seed: int, steps: int) -> dict[str, float]:
    recipe = replace(RECIPE, settings={**RECIPE.settings, "regions": blocks})
    run = recipe.build(steps=steps, seed=seed)
    for _ in run(recipe.batches(seed=seed, device="cpu"), steps):
        pass
    model: WordMatcher = matcher_of(run)
    task = recipe.task
    pairs = task.test_pairs(1024)
    tokens = task.tokens[pairs.number]
    groups = zip(torch.split(pairs.images, 64), torch.split(tokens, 64), strict=True)
    scores = [(by_words(run, x, t), (t[:, None] == t).all(2)) for x, t in groups]
    losses = torch.stack([matching_loss(s, gamma3=model.gamma3, same=same) for s, same in scores])
    found = torch.cat([recall_at_k(s) for s, _ in scores])
    areas = task.map_scores(word_maps(run, pairs.images, tokens), pairs.images, pairs.number)
    return {"loss": losses.mean().item(), "found": found.mean().item(), **areas}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--steps", type=int, default=RECIPE.steps)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    result: dict[str, object] = {"steps": arguments.steps, "seeds": arguments.seeds}
    for name, blocks in (("part", 0), ("whole", 2)):
        rows = [measured(blocks, seed, arguments.steps) for seed in range(arguments.seeds)]
        result[name] = {key: sum(row[key] for row in rows) / len(rows) for key in rows[0]}
        print(name, result[name], flush=True)
    path = Path(__file__).parent / "results" / "maps.json"
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
