"""Data together with its judge: what there is to learn, and what it means to have learnt it.

A task gives endless `batches`, figures of samples in `evaluate`, each beside its yardstick, and a `picture`. Worlds and
real images; plain, labelled and captioned. A batch is x, or (x, *conditions).
"""

from minigen.tasks.captions import (
    CaptionedImages,
    CaptionedShapes,
    DescribedImages,
    DescribedShapes,
    PromptedImages,
    PromptedShapes,
    caption_words,
)
from minigen.tasks.emoji import EmojiTask, NamedEmoji
from minigen.tasks.folder import FolderImages, LabelledFolder
from minigen.tasks.images import RealImages, ScoredImages, dequantised, digit_levels, noisy_digits
from minigen.tasks.labelled import LabelledImages, LabelledShapes
from minigen.tasks.plane import Plane
from minigen.tasks.shapes import ScoredShapes, ShapesWorld, small_shapes
from minigen.tasks.task import Measured, ScoredTask, Task

__all__ = ["CaptionedImages", "CaptionedShapes", "DescribedImages", "DescribedShapes", "EmojiTask", "FolderImages"]
__all__ += [
    "LabelledFolder",
    "LabelledImages",
    "LabelledShapes",
    "Measured",
    "NamedEmoji",
    "Plane",
    "PromptedImages",
    "PromptedShapes",
    "RealImages",
    "ScoredImages",
    "ScoredShapes",
    "ScoredTask",
]
__all__ += ["ShapesWorld", "Task", "caption_words", "dequantised", "digit_levels", "noisy_digits", "small_shapes"]
