"""The recipes by name, and the folders that hold their runs."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import torch

from minigen.recipes.autoregressive import AUTOREGRESSIVE
from minigen.recipes.contrastive import CONTRASTIVE
from minigen.recipes.diffusion import DIFFUSION
from minigen.recipes.elbo import ELBO
from minigen.recipes.minimax import MINIMAX
from minigen.recipes.prompted import PROMPTED
from minigen.recipes.recipe import Recipe
from minigen.train import Run

ALL = [*MINIMAX, *ELBO, *AUTOREGRESSIVE, *DIFFUSION, *PROMPTED, *CONTRASTIVE]
RECIPES: dict[tuple[str, str], Recipe] = {(recipe.family, recipe.target.name): recipe for recipe in ALL}


@dataclass(frozen=True)
class Settings:
    """What decides the result of a training run, besides the recipe; `recipe.json` keeps it."""

    steps: int
    seed: int
    device: str
    precision: str


@dataclass(frozen=True)
class Loaded:
    """A training run from a folder: `run.average["generator"]`, `recipe.draw(run, 64, seed=1)`..."""

    recipe: Recipe
    settings: Settings
    run: Run


def read(folder: str | os.PathLike[str]) -> tuple[Recipe, Settings]:
    """The recipe and the settings of the run in a folder.

    Raises FileNotFoundError where no run was started there, ValueError for a file that this version cannot read.
    """
    path = Path(folder) / "recipe.json"
    if not path.is_file():
        raise FileNotFoundError(f"no run in {folder}: there is no {path.name}; expected a folder that `train` wrote")
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        recipe = RECIPES[stored["family"], stored["data"]]
        return recipe, Settings(**stored["settings"])
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(f"{path} is not readable by this version of minigen ({error!r}); train anew") from error


def load(folder: str | os.PathLike[str], *, device: torch.device | str = "cpu") -> Loaded:
    """The run that `python -m minigen train` keeps in a folder, rebuilt from recipe.json and run.pt (weights_only).

    On the kind of device that it was trained on, the run goes on bit-exactly, as after `Run.load`. On another, it has
    the weights, averages and step number alone, since generators' states do not move: enough to sample and evaluate.

    Raises FileNotFoundError or ValueError where there is no run, or none that this version can read.
    """
    recipe, settings = read(folder)
    run = recipe.build(
        steps=settings.steps, seed=settings.seed, device=device, precision=settings.precision, compile=False
    )
    path = Path(folder) / "run.pt"
    if not path.is_file():
        raise FileNotFoundError(f"the run in {folder} has no checkpoint yet: there is no {path.name}; train it further")
    if run.device.type == settings.device:
        return Loaded(recipe, settings, run.load(path))
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        run.objective.load_state_dict(state["objective"])
        for name, network in run.average.items():
            network.load_state_dict(state["averages"][name]["module"])
        run.n = state["n"]
    except Exception as error:
        raise ValueError(f"{path} is no readable checkpoint of {recipe.name} ({error}); train it anew") from error
    return Loaded(recipe, settings, run)
