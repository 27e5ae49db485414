"""The one training loop, and what it is made of: averages, the guard, randomness, schedules, precision, processes."""

from minigen.train.devices import best_device
from minigen.train.distributed import Sync
from minigen.train.ema import EMA
from minigen.train.guard import NonFiniteError
from minigen.train.loop import Objective, Run, Step, Turn
from minigen.train.optimizers import adam_per_player, per_player
from minigen.train.precision import PRECISIONS, full_precision
from minigen.train.rng import Rng
from minigen.train.schedules import linear_decay

__all__ = ["EMA", "PRECISIONS", "NonFiniteError", "Objective", "Rng", "Run", "Step", "Sync", "Turn", "adam_per_player"]
__all__ += ["best_device", "full_precision", "linear_decay", "per_player"]
