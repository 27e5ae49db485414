"""Draw the README's picture, book/_static/readme.png, from the recipes of chapter 02: python book/picture.py"""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import torch
from matplotlib import pyplot as plt

from minigen import show
from minigen.recipes import RECIPES
from minigen.worlds import GaussianMixture

torch.set_num_threads(1)
ring = GaussianMixture.ring()
ring_recipe, digits_recipe = RECIPES["minimax", "ring"], RECIPES["minimax", "digits"]
run = ring_recipe.build(steps=5000, seed=2)
for _ in run(ring_recipe.batches(seed=2, device="cpu"), 5000):
    pass
digits_run = digits_recipe.build(steps=3000)
for _ in digits_run(digits_recipe.batches(seed=0, device="cpu"), 3000):
    pass

figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.6), width_ratios=(1, 1.35))
left.scatter(*ring.means.T, s=160, facecolors="none", edgecolors=show.COLOURS["data"])
show.scatter(left, ring_recipe.draw(run, 2500), "model", size=3)
show.plane(left, (-1.4, 1.4, -1.4, 1.4))
right.imshow(show.tiles(digits_recipe.draw(digits_run, 70), columns=10), cmap="gray", vmin=-1, vmax=1)
right.set_axis_off()
figure.tight_layout()
(Path(__file__).parent / "_static" / "readme.png").write_bytes(show.png(figure, dpi=110))
