"""Does the loss of pairs leave a collapse sooner? Generators that draw one of two points are shown both (chapter 03).

usage: python benchmarks/pairs.py [--runs 6] [--steps 500]

Data: two spots of standard deviation 0.05 at (-1, 0) and (1, 0). Each generator is first trained on the left spot
alone, for 200 steps, together with its discriminator. Then both see both spots. A run draws both points where each has
at least a tenth of 1,000 samples within three standard deviations. Networks, penalties, rates and seeds are the same
for both losses. Writes benchmarks/results/pairs.json.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch
from torch import nn

from minigen import Run, metrics
from minigen.data import Stream
from minigen.nets import MLPDiscriminator, MLPGenerator
from minigen.objectives import Minimax, Relativistic
from minigen.train import adam_per_player
from minigen.worlds import GaussianMixture

SPOTS = torch.tensor([[-1.0, 0.0], [1.0, 0.0]])
BOTH, LEFT = GaussianMixture(SPOTS, std=0.05), GaussianMixture(SPOTS[:1], std=0.05)
COLLAPSE, BATCH, GAMMA = 200, 64, 0.05


def draws_both(game: Minimax | Relativistic) -> bool:
    counts = metrics.modes(game.sample(1000, generator=torch.Generator().manual_seed(9)), BOTH).counts
    return bool((counts >= 100).all())


def play(pairs: bool, seed: int, steps: int) -> tuple[bool, bool, bool]:
    """Whether it has collapsed to begin with, and draws both points after a tenth of the steps, and in the end."""
    torch.manual_seed(seed)
    generator = MLPGenerator(2, (2,), hidden=(32, 32), bounded=False, activation=nn.Tanh)
    discriminator = MLPDiscriminator((2,), hidden=(32, 32))
    game: Minimax | Relativistic
    if pairs:
        game = Relativistic(generator, discriminator, r1=GAMMA, r2=0.0)
    else:
        game = Minimax(generator, discriminator, r1=GAMMA)
    run = Run(game, adam_per_player(game, 2e-3, betas=(0.0, 0.9)), seed=seed)
    for _ in run(Stream(LEFT.sample, batch_size=BATCH, seed=seed), COLLAPSE):
        pass
    samples = game.sample(1000, generator=torch.Generator().manual_seed(9))
    collapsed = bool((samples[:, 0] < 0).all())
    early = False
    for step in run(Stream(BOTH.sample, batch_size=BATCH, seed=seed + 1000), steps):
        if step.n == COLLAPSE + steps // 10:
            early = draws_both(game)
    return collapsed, early, draws_both(game)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=6)
    parser.add_argument("--steps", type=int, default=500)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    losses = {}
    for name, pairs in (("separable", False), ("pairs", True)):
        seen = [play(pairs, seed, arguments.steps) for seed in range(arguments.runs)]
        collapsed, early, left = (sum(column) for column in zip(*seen, strict=True))
        losses[name] = {"runs": arguments.runs, "collapsed": collapsed, "early": early, "left": left}
        print(name, losses[name], flush=True)
    result = {"steps": arguments.steps, "losses": losses}
    path = Path(__file__).parent / "results" / "pairs.json"
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
