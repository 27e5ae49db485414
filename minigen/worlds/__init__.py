"""Worlds: distributions with exact samples, log-density, entropy, score and posterior."""

from .line import Line
from .mixture import GaussianMixture
from .shapes import Shapes, Split
from .templates import Entropy, Templates

__all__ = ["Entropy", "GaussianMixture", "Line", "Shapes", "Split", "Templates"]
