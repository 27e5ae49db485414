"""Networks that answer an image with an image, learnt from pairs: worlds and emoji (chapter 06)."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor

from minigen.nets.translation import PatchDiscriminator, ResidualUNet
from minigen.objectives.paired import Paired, Regression, weight_of_sum
from minigen.recipes.minimax import samples
from minigen.recipes.recipe import Recipe, hold_half
from minigen.tasks.pairs import PairedEmoji, PairedFolder, PairedWorld
from minigen.train.loop import Run
from minigen.worlds import Pairs, Shapes

CHAPTER = 6
PairedTask = PairedWorld | PairedEmoji | PairedFolder


def translator(task: PairedTask, **network: Any) -> ResidualUNet:
    """A U-Net of residual blocks from a task's inputs to its answers."""
    given: dict[str, Any] = {"multipliers": (1, 2), "attention": ()}
    return ResidualUNet(task.input_shape[0], task.shape[0], **given | network)


def regression(task: PairedTask, *, error: str = "absolute", **network: Any) -> Regression:
    """The U-Net with its error alone."""
    return Regression(translator(task, **network), error=error)


def game(
    task: PairedTask,
    *,
    judge_width: int,
    layers: int,
    weight: float,
    r1: float,
    hears: bool = True,
    loss: str = "non-saturating",
    **network: Any,
) -> Paired:
    """The U-Net against a discriminator of patches. weight: of the error as a mean over an image, as published."""
    beside = task.input_shape[0] if hears else 0
    judge = PatchDiscriminator(task.shape[0], condition_channels=beside, width=judge_width, layers=layers)
    weight = weight_of_sum(weight, task.shape)
    return Paired(translator(task, **network), judge, weight=weight, r1=r1, hears=hears, loss=loss)


def draw_answers(run: Run, n: int, *, task: PairedTask, seed: int = 1) -> Tensor:
    """n answers, for the inputs that the task wants."""
    return samples(run, n, task.wanted(n), seed=seed)


SMALL = partial(Shapes.preset, "12x12")
OUTLINES = PairedWorld(
    "outlines",
    "outlines of shapes to shapes in colour, 12x12, with 17 answers or more to each",
    lambda: Pairs(SMALL(), "outline"),
    shape=(3, 12, 12),
    input_shape=(1, 12, 12),
)
GREY = PairedWorld(
    "grey",
    "grey shapes to shapes in colour, 12x12, with one answer to each",
    lambda: Pairs(SMALL(), "grey"),
    shape=(3, 12, 12),
    input_shape=(1, 12, 12),
)
EMOJI = PairedEmoji("emoji", "Twemoji's pictures to Noto's, 32x32 in colour")


def of_folder(path: str | None) -> Recipe:
    """The recipe of a folder of pairs, 64x64 in colour; without a path, of one that is to be named."""
    task = PairedFolder(path)
    return _recipe(
        task=task,
        objective=game,
        settings={
            "width": 64,
            "multipliers": (1, 2, 4, 4),
            "patch": 2,
            "judge_width": 64,
            "layers": 3,
            "weight": 100.0,
            "r1": 1.0,
        },
        rate=2e-4,
        betas=(0.5, 0.999),
        ema={"generator": 0.999},
        batch_size=16,
        steps=5_000,
        full_steps=100_000,
        draw=partial(draw_answers, task=task),
        reaches="the weight of Isola et al. 2017; not measured: it depends on the images",
        at=of_folder,
    )


_recipe = partial(Recipe, family="paired", schedule=hold_half)
_small = partial(_recipe, ema={"generator": 0.998}, batch_size=32)

RECIPES = [
    _small(
        task=GREY,
        objective=regression,
        settings={"width": 24},
        rate=2e-3,
        betas=(0.9, 0.99),
        steps=8_000,
        full_steps=60_000,
        draw=partial(draw_answers, task=GREY),
        reaches="7 min; 95 % of answers to unseen inputs right (exact answers: 100 %; one run)",
    ),
    _small(
        task=OUTLINES,
        objective=game,
        settings={"width": 24, "noise": 8, "judge_width": 48, "layers": 1, "weight": 0.0, "r1": 0.1},
        rate=1e-3,
        betas=(0.0, 0.99),
        steps=15_000,
        full_steps=100_000,
        draw=partial(draw_answers, task=OUTLINES),
        reaches="not measured at this length",
    ),
    _small(
        task=EMOJI,
        objective=regression,
        settings={"width": 32, "multipliers": (1, 2, 3), "patch": 2, "change": True},
        rate=2e-3,
        betas=(0.9, 0.99),
        steps=8_000,
        full_steps=100_000,
        draw=partial(draw_answers, task=EMOJI),
        reaches="not measured at this length",
    ),
    of_folder(None),
]
