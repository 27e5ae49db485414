"""The exercise `diffusion.diffuse`: noisy images of any level in one step."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from minigen.homework.contract import Contract, Function
from minigen.homework.contracts.diffusion._levels import Coefficients, kept, noisy_images, one_before
from minigen.homework.mistakes import NUMBERS_AS_COLUMNS, ONE_LEVEL
from minigen.objectives import diffusion


def diffuse(x_0: Tensor, eps: Tensor, beta: Tensor, t: Tensor) -> Tensor:
    """x_t (B, C, H, W) for images x_0 and noise eps, when steps of variance beta (T,) were taken up to level t (B,)."""
    alpha_bar = kept(beta)[t]
    return diffusion.add_noise(x_0, eps, alpha_bar.sqrt(), (1 - alpha_bar).sqrt())


def _with_levels(levels: Coefficients) -> Function:
    """x_t with another alpha and sigma, both (T,), made from alpha_bar, that of the level before, and beta."""

    def variant(x_0: Tensor, eps: Tensor, beta: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = levels(kept(beta), one_before(kept(beta)), beta)
        return diffusion.add_noise(x_0, eps, alpha[t], sigma[t])

    return variant


def _at_share(share: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Function:
    """x_t with another (T,) for alpha_bar."""
    return _with_levels(lambda *given: (share(*given).sqrt(), (1 - share(*given)).sqrt()))


CONTRACT = Contract(
    diffuse,
    noisy_images,
    {
        "alpha without its root": (
            _with_levels(lambda a, s, b: (a, (1 - a).sqrt())),
            "multiplies the image by alpha_bar; that is a share of the variance, and an image takes its root",
        ),
        "noise without its root": (
            _with_levels(lambda a, s, b: (a.sqrt(), 1 - a)),
            "multiplies the noise by its variance, 1 - alpha_bar; noise takes the standard deviation, its root",
        ),
        "no roots": (
            _with_levels(lambda a, s, b: (a, 1 - a)),
            "alpha_bar and 1 - alpha_bar are shares of the variance; both need a square root",
        ),
        "one minus the root": (
            _with_levels(lambda a, s, b: (a.sqrt(), 1 - a.sqrt())),
            "takes 1 - sqrt(alpha_bar) for sqrt(1 - alpha_bar): it is the squares that add up to 1",
        ),
        "rooted twice": (
            _at_share(lambda a, s, b: a.sqrt()),
            "takes the root twice: alpha_bar is the product of 1 - beta, and the root comes after the product",
        ),
        "the last step alone": (
            _at_share(lambda a, s, b: 1 - b),
            "takes 1 - beta_t for alpha_bar, as if x_0 had gone one step; alpha_bar is the product over all steps",
        ),
        "noise of the last step alone": (
            _with_levels(lambda a, s, b: (a.sqrt(), b.sqrt())),
            "the noise is that of the last step alone, sqrt(beta); all steps together leave sqrt(1 - alpha_bar)",
        ),
        "beta for alpha_bar": (
            _at_share(lambda a, s, b: b),
            "puts beta where alpha_bar belongs; beta is the noise that a step adds, alpha_bar what the image keeps",
        ),
        "product of beta": (
            _at_share(lambda a, s, b: b.cumprod(0)),
            "multiplies the betas; what is left of the image is the product of 1 - beta",
        ),
        "sum of beta": (
            _at_share(lambda a, s, b: 1 - b.cumsum(0)),
            "subtracts the sum of the betas, which falls below 0; each step keeps a share, so multiply 1 - beta",
        ),
        "swapped": (
            _at_share(lambda a, s, b: 1 - a),
            "alpha and sigma are swapped: the first level would be nearly all noise; sqrt(alpha_bar) goes to x_0",
        ),
        "backwards": (
            _at_share(lambda a, s, b: a.flip(0)),
            "counts the levels from noise to data; t = 0 is the least noise here",
        ),
        "one level too early": (
            _at_share(lambda a, s, b: s),
            "one level too early: index 0 is the first noisy level, not the image; put no 1 in front of the product",
        ),
        "one level too early, wrapped": (
            _at_share(lambda a, s, b: a.roll(1)),
            "takes alpha_bar at t - 1, which at t = 0 is the last one; levels are counted from 0: alpha_bar[t]",
        ),
        "alpha not scaled": (
            _with_levels(lambda a, s, b: (torch.ones_like(a), (1 - a).sqrt())),
            "keeps the image as it is, so that the variance grows; each step shrinks it, in all by sqrt(alpha_bar)",
        ),
        "noise not scaled": (
            _with_levels(lambda a, s, b: (a.sqrt(), torch.ones_like(a))),
            "adds the noise at full strength; multiply it by sqrt(1 - alpha_bar)",
        ),
        "noise subtracted": (
            _with_levels(lambda a, s, b: (a.sqrt(), -(1 - a).sqrt())),
            "subtracts the noise; the law of x_t is the same, but a network would learn minus the noise: add it",
        ),
        "along the width": (
            lambda x, e, b, t: kept(b)[t].sqrt() * x + (1 - kept(b)[t]).sqrt() * e,
            NUMBERS_AS_COLUMNS,
        ),
        "one level for all": (
            lambda x, e, b, t: diffuse(x, e, b, t[:1].expand(len(t))),
            ONE_LEVEL,
        ),
    },
)
