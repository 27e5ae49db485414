"""The exercise `sampling.guide`: classifier-free guidance."""

from __future__ import annotations

from torch import Tensor

from minigen.homework.contract import Contract, Input
from minigen.homework.mistakes import doubles, squares
from minigen.samplers.guidance import extrapolate


def guide(uncond: Tensor, cond: Tensor, guidance_scale: float) -> Tensor:
    """What a denoiser says, (B, ...), guided from its guess without a label to the one with it; 1 is unguided."""
    return extrapolate(uncond, cond, guidance_scale)


def _pairs() -> list[Input]:
    few = doubles(0.5, -1.0).view(1, 1, 1, 2), doubles(2.0, -0.5).view(1, 1, 1, 2)
    uncond, cond = 0.5 * squares(3, 2)
    return [
        Input((*few, 3.0), "two pixels"),
        Input((uncond, cond, 7.5), "random guesses, strongly guided"),
        Input((uncond, cond, 1.0), "random guesses, unguided"),
        Input((uncond, cond, 0.0), "random guesses, the label ignored"),
        Input((0.01 * uncond, 100 * cond, 0.25), "guesses far from each other"),
    ]


def _like_cond(uncond: Tensor, cond: Tensor, guidance_scale: float) -> Tensor:
    """Guided, with each image's standard deviation set to that of the guess with the label."""
    mixed = guide(uncond, cond, guidance_scale)
    return mixed * (cond.std((1, 2, 3), keepdim=True) / mixed.std((1, 2, 3), keepdim=True))


CONTRACT = Contract(
    guide,
    _pairs,
    {
        "1 + w": (
            lambda n, c, w: c + w * (c - n),
            "begins at the guess with the label, as the paper does, whose w is one less; here 1 is unguided: begin at"
            " the other guess",
        ),
        "swapped": (
            lambda n, c, w: c + w * (n - c),
            "the two guesses are swapped, so that a larger scale leads away from the label; begin without it",
        ),
        "away from the label": (
            lambda n, c, w: n - w * (c - n),
            "walks the other way, from the label; add the difference cond - uncond",
        ),
        "w - 1": (
            lambda n, c, w: n + (w - 1) * (c - n),
            "takes 1 from the scale, as for the paper's w, which begins at the guess with the label; begin without it"
            " and take w",
        ),
        "half way": (
            lambda n, c, w: (n + c) / 2,
            "the mean of the two, whatever the scale",
        ),
        "the label alone": (
            lambda n, c, w: w * c,
            "multiplies the guess with the label; guidance stretches its difference from the one without",
        ),
        "difference alone": (
            lambda n, c, w: w * (c - n),
            "the difference alone; add it to the guess without the label",
        ),
        "sum": (
            lambda n, c, w: n + w * c,
            "adds the whole guess with the label; it is its difference from the other that is added",
        ),
        "subtracted once": (
            lambda n, c, w: w * c - n,
            "the weights must add up to 1: w * cond + (1 - w) * uncond",
        ),
        "weights that add up to 2 w + 1": (
            lambda n, c, w: (1 + w) * c + w * n,
            "(1 + w) and w with a plus: the guess without the label is subtracted in the paper, and its w is one less",
        ),
        "normalised": (
            lambda n, c, w: (n + w * c) / (1 + w),
            "a weighted mean, which stays between the two; guidance goes beyond: w and 1 - w, which may be negative",
        ),
        "clipped": (
            lambda n, c, w: guide(n, c, w).clamp(-1, 1),
            "right, then clipped to [-1, 1], as some samplers do; leave that out here",
        ),
        "rescaled": (
            _like_cond,
            "right, then rescaled to the spread of the guess with the label, as some samplers do; leave that out here",
        ),
        "guided with label": (lambda n, c, w: c.clone(), "ignores the scale: this is unguided, for every w"),
        "without label": (lambda n, c, w: n.clone(), "ignores the label: this is scale 0, for every w"),
    },
)
