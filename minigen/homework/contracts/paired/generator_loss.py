"""The exercise `paired.generator_loss`: fool the judge of patches, and stay near the answer."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from minigen.homework.contract import Contract, Input, gradients
from minigen.homework.mistakes import CUT, SIGMOID_OVERFLOWS, SUM_OVER_EVERYTHING
from minigen.objectives import minimax, paired


def generator_loss(fake_logits: Tensor, answer: Tensor, target: Tensor, weight: float) -> Tensor:
    """-E log D of patches (B, h, w), plus weight times the absolute error of answers (B, C, H, W), summed over each."""
    return minimax.non_saturating_loss(fake_logits) + weight * paired.absolute_error(answer, target)


def _batches() -> list[Input]:
    generator = torch.Generator().manual_seed(0)
    small = torch.randn(2, 1, 1, 2, generator=generator), torch.randn(2, 1, 1, 2, generator=generator)
    images = torch.randn(2, 3, 2, 4, 4, generator=generator)
    logits = torch.randn(3, 2, 2, generator=generator)
    sure = torch.tensor([-300.0, 200.0, 0.5, -150.0, 250.0, 1.0]).view(3, 1, 2)
    return [
        Input((torch.tensor([[[0.5]], [[-1.0]]]), *small, 0.25), "two images of two pixels, one patch each"),
        Input((logits, *images, 0.7), "three images, four patches each"),
        Input((sure, *images, 0.1), "a judge that is sure: logits from -300 to 250"),
    ]


def _other(error: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    """The loss with another error."""
    return lambda logits, a, t, weight: minimax.non_saturating_loss(logits) + weight * error(a, t)


def _judged(loss: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    """The loss with another word of the judge."""
    return lambda logits, a, t, weight: loss(logits) + weight * paired.absolute_error(a, t)


CONTRACT = Contract(
    generator_loss,
    _batches,
    {
        "mean over pixels": (
            _other(lambda a, t: (a - t).abs().mean()),
            "averages the error over all numbers of an image; in this book it is their sum, and the weight is smaller",
        ),
        "sum over the batch": (_other(lambda a, t: (a - t).abs().sum()), SUM_OVER_EVERYTHING),
        "squares": (
            _other(paired.squared_error),
            "squares the differences, which asks for the mean of all answers; pix2pix takes their absolute values",
        ),
        "distance": (
            _other(lambda a, t: (a - t).flatten(1).norm(dim=1).mean()),
            "takes the Euclidean distance of two images; it is the sum of the absolute differences",
        ),
        "signs cancel": (
            _other(lambda a, t: (a - t).flatten(1).sum(1).mean()),
            "adds differences with their signs, so that too bright and too dark cancel; take absolute values first",
        ),
        "weight on the game": (
            lambda logits, a, t, weight: weight * minimax.non_saturating_loss(logits) + paired.absolute_error(a, t),
            "multiplies the game by the weight; it belongs to the error",
        ),
        "no weight": (
            lambda logits, a, t, weight: minimax.non_saturating_loss(logits) + paired.absolute_error(a, t),
            "adds the error without its weight, which then drowns the game",
        ),
        "the error alone": (
            lambda logits, a, t, weight: weight * paired.absolute_error(a, t) + 0 * logits.sum(),
            "leaves the judge out; this is a regression, whose answers are medians",
        ),
        "the game alone": (
            lambda logits, a, t, weight: minimax.non_saturating_loss(logits) + 0 * a.sum(),
            "leaves the error out; nothing then ties an answer to the one that belongs to its input",
        ),
        "saturating": (
            _judged(minimax.saturating_loss),
            "takes log(1 - D), which has no slope where the judge knows every fake; take -log D",
        ),
        "the judge's own": (
            _judged(lambda logits: -logsigmoid(-logits).mean()),
            "asks for patches that are called fake, as the judge's loss does; the generator wants them called real",
        ),
        "sum over patches": (
            _judged(lambda logits: -logsigmoid(logits).flatten(1).sum(1).mean()),
            "sums over the patches, so that the game weighs more in larger images; take their mean",
        ),
        "mean of logits": (
            _judged(lambda logits: -logsigmoid(logits.flatten(1).mean(1)).mean()),
            "averages the logits of the patches before the log; each patch is judged by itself",
        ),
        "overflow": (_judged(lambda logits: -torch.log(torch.sigmoid(logits)).mean()), SIGMOID_OVERFLOWS),
        "no gradient": (lambda *given: generator_loss(*given).detach(), CUT),
        "error cut off": (
            lambda logits, a, t, weight: generator_loss(logits, a.detach(), t, weight),
            "detaches the answer in the error, which then moves nothing",
        ),
    },
    gradients("fake_logits", "answer"),
)
