"""Images and captions to learn from: real ones, their levels, batches of them, and words as numbers."""

from minigen.data.batches import Batches, Draw, Stream, Unpaired, held_out, map_tensors
from minigen.data.emoji import Emoji, emoji
from minigen.data.files import SOURCES, Source
from minigen.data.folder import folder
from minigen.data.images import Images, cifar10, digits, fashion_mnist, mnist, patches
from minigen.data.levels import binarise, dequantise, fresh, to_float, to_levels
from minigen.data.vocabulary import Vocabulary, name_captions

__all__ = [
    "SOURCES",
    "Batches",
    "Draw",
    "Emoji",
    "Images",
    "Source",
    "Stream",
    "Unpaired",
    "Vocabulary",
    "binarise",
    "cifar10",
]
__all__ += ["dequantise", "digits", "emoji", "fashion_mnist", "folder", "fresh", "held_out", "map_tensors", "mnist"]
__all__ += ["name_captions", "patches", "to_float", "to_levels"]
