"""Complete set-ups that were measured to work: task, networks, loss, optimisers, schedule, sampler. One file a family.

recipe = RECIPES["minimax", "ring"]
run = recipe.build(steps=5_000, seed=0)
for step in run(recipe.batches(seed=0, device="cpu"), 5_000): ...
x = recipe.draw(run, 2_500)

`RECIPES` is found by walking this folder: each file of a family has a `CHAPTER` and its own list `RECIPES`. The command
line calls a recipe by family and task, `python -m minigen train minimax ring`; `minigen.runs` trains it into a folder.
"""

from __future__ import annotations

import importlib
import pkgutil

from minigen.recipes.recipe import Recipe, warmup_decay


def _found() -> dict[tuple[str, str], Recipe]:
    """The recipes of all families, in the order of the chapters."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    modules = [importlib.import_module(f"{__name__}.{name}") for name in names]
    families = sorted((m for m in modules if hasattr(m, "RECIPES")), key=lambda m: float(m.CHAPTER))
    recipes: dict[tuple[str, str], Recipe] = {}
    for recipe in (recipe for module in families for recipe in module.RECIPES):
        key = recipe.family, recipe.task.name
        if key in recipes:
            raise ValueError(f"there are two recipes of the name {recipe.name!r}; one has to be called otherwise")
        recipes[key] = recipe
    return recipes


RECIPES = _found()

__all__ = ["RECIPES", "Recipe", "warmup_decay"]
