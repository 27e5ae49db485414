"""Worlds: distributions with exact samples, log-density, entropy, score and posterior."""

from .conditionals import ExactConditionals
from .line import Line
from .linear import Guess, LinearGaussian
from .mixture import GaussianMixture
from .shapes import Shapes, Split
from .templates import Entropy, Templates

__all__ = ["Entropy", "ExactConditionals", "GaussianMixture", "Guess", "Line", "LinearGaussian"]
__all__ += ["Shapes", "Split", "Templates"]
