"""The exercises of chapter 11 about noise: its levels, counted from 0 as everywhere in code, and one step back."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import pad

from minigen.homework.contract import Contract, Function, Input
from minigen.objectives import diffusion
from minigen.objectives.diffusion import Schedule, column

Coefficients = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def kept(beta: Tensor) -> Tensor:
    """alpha_bar (T,): the share of the variance that is the image's after each step."""
    return (1 - beta).cumprod(0)


def one_before(alpha_bar: Tensor, first: float = 1.0) -> Tensor:
    """alpha_bar of the level before, (T,); the level before the first is the image."""
    return pad(alpha_bar[:-1], (1, 0), value=first)


def squares(batch: int, count: int, *, seed: int = 0) -> Tensor:
    """`count` batches of random images, as wide as the batch is long: numbers (B,) then multiply columns, too."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, batch, 1, 2, batch, generator=generator, dtype=torch.float64)


def doubles(*values: float) -> Tensor:
    """Numbers in double precision, (n,)."""
    return torch.tensor(values, dtype=torch.float64)


def with_levels(mix: Function) -> Function:
    """mix(image, x, a, s) of a function that is given levels (B,): a and s are they as they multiply images."""
    return lambda image, x, signal, noise: mix(image, x, column(signal, x), column(noise, x))


def diffuse(x_0: Tensor, eps: Tensor, beta: Tensor, t: Tensor) -> Tensor:
    """x_t (B, C, H, W) for images x_0 and noise eps, when steps of variance beta (T,) were taken up to level t (B,)."""
    alpha_bar = kept(beta)[t]
    return diffusion.diffuse(x_0, eps, alpha_bar.sqrt(), (1 - alpha_bar).sqrt())


def _levels() -> list[Input]:
    one = torch.full((1, 1, 1, 1), 2.0, dtype=torch.float64)
    x_0, eps = squares(3, 2)
    return [
        Input((one, -0.5 * one, doubles(0.1, 0.2, 0.4), torch.tensor([1])), "one pixel at the second of three levels"),
        Input((x_0, eps, doubles(0.02, 0.05, 0.1, 0.15, 0.3), torch.tensor([4, 0, 2])), "random images at five levels"),
        Input((x_0, eps, Schedule.linear().beta, torch.tensor([0, 999, 500])), "a thousand levels"),
    ]


def _with_levels(levels: Coefficients) -> Function:
    """x_t with another signal and noise, both (T,), made from alpha_bar, that of the level before, and beta."""

    def variant(x_0: Tensor, eps: Tensor, beta: Tensor, t: Tensor) -> Tensor:
        signal, noise = levels(kept(beta), one_before(kept(beta)), beta)
        return diffusion.diffuse(x_0, eps, signal[t], noise[t])

    return variant


def _at_share(share: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Function:
    """x_t with another (T,) for alpha_bar."""
    return _with_levels(lambda *given: (share(*given).sqrt(), (1 - share(*given)).sqrt()))


DIFFUSE = Contract(
    diffuse,
    _levels,
    {
        "signal without its root": (
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
            "signal and noise are swapped: the first level would be nearly all noise; sqrt(alpha_bar) goes to x_0",
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
        "signal not scaled": (
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
            "the numbers (B,) multiply columns of pixels, as broadcasting has it; reshape them to (B, 1, 1, 1)",
        ),
        "one level for all": (
            lambda x, e, b, t: diffuse(x, e, b, t[:1].expand(len(t))),
            "takes the first image's level for all; each image has its own, t[i]",
        ),
    },
)


def backward_mean(x_0: Tensor, x_t: Tensor, beta: Tensor, t: Tensor) -> Tensor:
    """Mean of q(x_{t-1} | x_t, x_0), (B, C, H, W), for the image x_0 and x_t at level t (B,); x_0 where t is 0."""
    mean: Tensor = _with_weights(_weights)(x_0, x_t, beta, t)
    return mean


def _with_weights(weights: Coefficients, before: Callable[[Tensor], Tensor] = one_before) -> Function:
    """A mean with weights of x_0 and x_t, both (T,), made from alpha_bar, that of the level before, and beta."""

    def variant(x_0: Tensor, x_t: Tensor, beta: Tensor, t: Tensor) -> Tensor:
        of_image, of_noisy = weights(kept(beta), before(kept(beta)), beta)
        return column(of_image[t], x_0) * x_0 + column(of_noisy[t], x_0) * x_t

    return variant


def _weights(a: Tensor, s: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    return s.sqrt() * b / (1 - a), (1 - b).sqrt() * (1 - s) / (1 - a)


def _bent(x_0: Tensor, x_t: Tensor, eps_weight: Tensor, alpha: Tensor, a: Tensor) -> Tensor:
    """(x_t - eps_weight eps) / sqrt(alpha), with the noise eps that x_t shows."""
    eps = (x_t - column(a.sqrt(), x_t) * x_0) / column((1 - a).sqrt(), x_t)
    return (x_t - column(eps_weight, x_t) * eps) / column(alpha.sqrt(), x_t)


BACKWARD_MEAN = Contract(
    backward_mean,
    _levels,
    {
        "swapped": (
            _with_weights(lambda a, s, b: _weights(a, s, b)[::-1]),
            "the two weights are swapped: sqrt(alpha_bar_{t-1}) beta_t / (1 - alpha_bar_t) goes to x_0",
        ),
        "alpha_bar without its root": (
            _with_weights(lambda a, s, b: (s * b / (1 - a), _weights(a, s, b)[1])),
            "the weight of x_0 has alpha_bar_{t-1} without its root",
        ),
        "1 - beta without its root": (
            _with_weights(lambda a, s, b: (_weights(a, s, b)[0], (1 - b) * (1 - s) / (1 - a))),
            "the weight of x_t has 1 - beta_t without its root",
        ),
        "no roots": (
            _with_weights(lambda a, s, b: (s * b / (1 - a), (1 - b) * (1 - s) / (1 - a))),
            "both roots are missing, that of alpha_bar_{t-1} and that of 1 - beta_t",
        ),
        "alpha_bar of t": (
            _with_weights(lambda a, s, b: (a.sqrt() * b / (1 - a), _weights(a, s, b)[1])),
            "the weight of x_0 has alpha_bar at t; the root above the line is that of level t - 1",
        ),
        "alpha_bar for 1 - beta": (
            _with_weights(lambda a, s, b: (_weights(a, s, b)[0], a.sqrt() * (1 - s) / (1 - a))),
            "the weight of x_t has sqrt(alpha_bar_t); the root is that of the one step, sqrt(1 - beta_t)",
        ),
        "1 - alpha_bar of t": (
            _with_weights(lambda a, s, b: (_weights(a, s, b)[0], (1 - b).sqrt())),
            "the weight of x_t has 1 - alpha_bar_t above the line too, where it cancels; above stands that of t - 1",
        ),
        "1 - alpha_bar_{t-1} below the line": (
            _with_weights(lambda a, s, b: (s.sqrt() * b / (1 - s), (1 - b).sqrt())),
            "divides by 1 - alpha_bar_{t-1}, which is 0 at the first level; below the line stands 1 - alpha_bar_t",
        ),
        "divided by the root": (
            _with_weights(lambda a, s, b: (s.sqrt() * b / (1 - a).sqrt(), (1 - b).sqrt() * (1 - s) / (1 - a).sqrt())),
            "divides by the deviation sqrt(1 - alpha_bar_t); both weights have the variance 1 - alpha_bar_t below",
        ),
        "not divided": (
            _with_weights(lambda a, s, b: (s.sqrt() * b, (1 - b).sqrt() * (1 - s))),
            "does not divide: both weights have 1 - alpha_bar_t below the line",
        ),
        "x_t ignored": (
            _with_weights(lambda a, s, b: (s.sqrt(), 0 * s)),
            "this is the mean of q(x_{t-1} | x_0), which has not seen x_t; weigh x_0 and x_t",
        ),
        "x_0 ignored": (
            _with_weights(lambda a, s, b: (0 * s, (1 - b).rsqrt())),
            "undoes the shrinking of the last step and leaves its noise in; x_0 says how much of x_t is noise",
        ),
        "forward": (
            _with_weights(lambda a, s, b: (0 * s, (1 - b).sqrt())),
            "this is a step forward, the mean of q(x_t | x_{t-1}) taken at x_t; the exercise asks for the way back",
        ),
        "the step without noise": (
            _with_weights(lambda a, s, b: (s.sqrt() - ((1 - s) * a / (1 - a)).sqrt(), ((1 - s) / (1 - a)).sqrt())),
            "keeps all noise that x_t shows, as DDIM does; the mean of q keeps what the variance leaves over",
        ),
        "the noise's variance": (
            lambda x, y, b, t: _bent(x, y, b[t] / (1 - kept(b)[t]), 1 - b[t], kept(b)[t]),
            "by way of the noise: its weight is beta_t / sqrt(1 - alpha_bar_t), with a root, before / sqrt(1 - beta_t)",
        ),
        "scaled by alpha_bar": (
            lambda x, y, b, t: _bent(x, y, b[t] / (1 - kept(b)[t]).sqrt(), kept(b)[t], kept(b)[t]),
            "by way of the noise: divide by sqrt(1 - beta_t), the one step, and not by sqrt(alpha_bar_t)",
        ),
        "wrapped": (
            _with_weights(_weights, lambda a: a.roll(1)),
            "alpha_bar[t - 1] at t = 0 is the last one; before the first level stands the image, alpha_bar = 1",
        ),
        "0 before the first": (
            _with_weights(_weights, lambda a: one_before(a, 0.0)),
            "takes alpha_bar = 0 before the first level; there stands the image, alpha_bar = 1",
        ),
        "1 - beta for alpha_bar": (
            _with_weights(lambda a, s, b: _weights(1 - b, one_before(1 - b), b)),
            "takes 1 - beta for alpha_bar; alpha_bar is the product of 1 - beta over all steps so far",
        ),
    },
)


def backward_variance(beta: Tensor) -> Tensor:
    """Variance of q(x_{t-1} | x_t, x_0) at every level, (T,): 0 at the first, where x_0 is what is asked for."""
    a = kept(beta)
    return beta * (1 - one_before(a)) / (1 - a)


def _schedules() -> list[Input]:
    return [
        Input((doubles(0.1, 0.2, 0.4),), "three levels"),
        Input((doubles(0.3, 0.05, 0.02, 0.6, 0.1, 0.2, 0.15),), "seven levels in no order"),
        Input((Schedule.linear().beta,), "a thousand levels"),
        Input((doubles(1e-4, 0.3, 0.5, 0.9, 0.999),), "steps from small to nearly all noise"),
    ]


def _variance(of: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Function:
    """A variance (T,) made from alpha_bar, that of the level before, and beta."""
    return lambda b: of(kept(b), one_before(kept(b)), b)


BACKWARD_VARIANCE = Contract(
    backward_variance,
    _schedules,
    {
        "beta": (
            lambda b: b.clone(),
            "this is beta, the variance of a step forward; knowing x_0 narrows the way back to"
            " beta_t (1 - alpha_bar_{t-1}) / (1 - alpha_bar_t)",
        ),
        "deviation": (
            lambda b: backward_variance(b).sqrt(),
            "this is the standard deviation; the exercise asks for the variance: no root",
        ),
        "root of the quotient": (
            _variance(lambda a, s, b: b * ((1 - s) / (1 - a)).sqrt()),
            "takes the root of the quotient; beta_t (1 - alpha_bar_{t-1}) / (1 - alpha_bar_t) has none",
        ),
        "upside down": (
            _variance(lambda a, s, b: b * (1 - a) / (1 - s)),
            "the quotient is upside down, so that it exceeds beta; 1 - alpha_bar_{t-1} stands above",
        ),
        "alpha_bar for 1 - alpha_bar": (
            _variance(lambda a, s, b: b * s / a),
            "the quotient has alpha_bar in it, the share of the image; it is that of the noise, 1 - alpha_bar",
        ),
        "wrapped": (
            _variance(lambda a, s, b: b * (1 - a.roll(1)) / (1 - a)),
            "before the first level it takes the last alpha_bar; there stands the image, alpha_bar = 1",
        ),
        "0 before the first": (
            _variance(lambda a, s, b: b * (1 - one_before(a, 0.0)) / (1 - a)),
            "takes alpha_bar = 0 before the first level; there stands the image, alpha_bar = 1, and the variance is 0",
        ),
        "the first replaced": (
            lambda b: torch.cat([backward_variance(b)[1:2], backward_variance(b)[1:]]),
            "puts the second variance in the first place, as published code does before a log; the first one is 0",
        ),
        "the first left out": (
            lambda b: backward_variance(b)[1:],
            "leaves out the first level; its variance is 0, and there are T of them",
        ),
        "log": (lambda b: backward_variance(b).log(), "this is the log of the variance; leave it out"),
        "without beta": (
            _variance(lambda a, s, b: (1 - s) / (1 - a)),
            "the factor beta_t is missing",
        ),
        "1 - beta for beta": (
            _variance(lambda a, s, b: (1 - b) * (1 - s) / (1 - a)),
            "the factor is beta_t, the noise of the one step, and not 1 - beta_t",
        ),
        "1 - beta for alpha_bar": (
            lambda b: one_before(b, 0.0),
            "takes 1 - beta for alpha_bar, so that beta_{t-1} comes out; alpha_bar is the product of 1 - beta",
        ),
        "product of beta": (
            lambda b: b * (1 - one_before(b.cumprod(0))) / (1 - b.cumprod(0)),
            "multiplies the betas; alpha_bar is the product of 1 - beta",
        ),
        "sum of beta": (
            lambda b: b * one_before(b.cumsum(0), 0.0) / b.cumsum(0),
            "adds the betas up; the noise so far is 1 - alpha_bar, with alpha_bar the product of 1 - beta",
        ),
        "of x_t": (
            _variance(lambda a, s, b: 1 - a),
            "this is the variance of x_t given x_0; the exercise asks for x_{t-1} given both",
        ),
        "of x_{t-1} without x_t": (
            _variance(lambda a, s, b: 1 - s),
            "this is the variance of x_{t-1} given x_0 alone; x_t narrows it by beta_t / (1 - alpha_bar_t)",
        ),
        "precision": (
            lambda b: 1 / backward_variance(b),
            "this is 1 / variance, the sum of the two precisions; turn it upside down",
        ),
    },
)
