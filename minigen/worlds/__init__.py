"""Worlds: distributions with exact samples, log-density, entropy, score and posterior."""

from .conditionals import ExactConditionals
from .exact_captions import ExactCaptions
from .line import Line
from .linear import Guess, LinearGaussian
from .mixture import GaussianMixture
from .pairs import Pairs
from .sequences import Obedience, Sequences
from .shapes import Shapes, Split
from .templates import Entropy, Templates

__all__ = ["Entropy", "ExactCaptions", "ExactConditionals", "GaussianMixture", "Guess", "Line", "LinearGaussian"]
__all__ += ["Obedience", "Pairs", "Sequences", "Shapes", "Split", "Templates"]
