"""Complete set-ups that were measured to work: networks, optimisers, schedule, data. Each gives a run and its batches.

run, batches = plane_gan(GaussianMixture.ring(), steps=5000, **RING)
for step in run(batches, 5000): ...
x = samples(run, 2500)

`RECIPES` names them for the command line, `python -m minigen train minimax ring`; `load` opens the folder it wrote.
"""

from minigen.recipes.minimax import GRID, RING, PlaneSettings, digits_gan, image_gan, plane_gan, samples
from minigen.recipes.recipe import Recipe, Target
from minigen.recipes.registry import RECIPES, Loaded, Settings, load, read
from minigen.recipes.stored import FOLDER, card, export, stored
from minigen.recipes.targets import TARGETS, small_shapes

__all__ = ["FOLDER", "GRID", "RECIPES", "RING", "TARGETS", "Loaded", "PlaneSettings", "Recipe", "Settings", "Target"]
__all__ += [
    "card",
    "digits_gan",
    "export",
    "image_gan",
    "load",
    "plane_gan",
    "read",
    "samples",
    "small_shapes",
    "stored",
]
