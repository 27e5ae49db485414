"""Runs of recipes: trained into a folder, judged, and the checkpoints that come with minigen.

loaded = runs.load("runs/minimax-ring")         # what `python -m minigen train minimax ring` has made
x = loaded.recipe.draw(loaded.run, 64, seed=1)
runs.stored("diffusion", "shapes").run.ema["model"]; runs.card("diffusion", "shapes")["figures"]
"""

from minigen.runs.folder import SAMPLE_SEED, Loaded, Settings, begin, finish, fit, load, rank, read, restore
from minigen.runs.judge import judge
from minigen.runs.lock import FolderInUseError, locked
from minigen.runs.stored import FOLDER, card, export, stored

__all__ = ["FOLDER", "SAMPLE_SEED", "FolderInUseError", "Loaded", "Settings", "begin", "card", "export", "finish"]
__all__ += ["fit", "judge", "load", "locked", "rank", "read", "restore", "stored"]
