"""The exercises of chapter 11. Levels are counted from 0, as everywhere in code."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from minigen.homework.contract import Contract, Function, Input
from minigen.homework.denoising import IMAGE_FROM_VELOCITY, SIMPLE_LOSS, scaled
from minigen.homework.noising import (
    BACKWARD_MEAN,
    BACKWARD_VARIANCE,
    DIFFUSE,
    backward_variance,
    kept,
    one_before,
    squares,
)
from minigen.objectives.diffusion import Schedule


def step_kl(x_0: Tensor, guess: Tensor, alpha_bar: Tensor, t: Tensor) -> Tensor:
    """KL of q(x_{t-1} | x_t, x_0) to the same with the guess at x_0 in its place, in nats, (B,).

    x_0, guess: (B, C, H, W). alpha_bar: (T,). t: (B,), each in 1..T-1.
    """
    return _half_drop(alpha_bar / (1 - alpha_bar), t) * _error(x_0, guess)


def _half_drop(snr: Tensor, t: Tensor) -> Tensor:
    return 0.5 * (snr[t - 1] - snr[t])


def _error(x_0: Tensor, guess: Tensor) -> Tensor:
    return (x_0 - guess).square().flatten(1).sum(1)


def _guesses() -> list[Input]:
    one = torch.full((1, 1, 1, 1), 2.0, dtype=torch.float64)
    x_0, off = squares(3, 2)
    few = torch.tensor([0.9, 0.75, 0.5, 0.2], dtype=torch.float64)
    share = torch.tensor([0.97, 0.9, 0.7, 0.4, 0.1, 0.02], dtype=torch.float64)
    ends = torch.tensor([1 - 1e-5, 0.999, 0.5, 1e-6, 1e-8], dtype=torch.float64)
    return [
        Input((one, 1.5 * one, few, torch.tensor([1])), "one pixel at the second of four levels"),
        Input((x_0, x_0 + 0.5 * off, share, torch.tensor([4, 1, 2])), "random images at six levels"),
        Input((x_0, x_0.clone(), share, torch.tensor([1, 2, 3])), "guesses that are right"),
        Input((x_0, off, ends, torch.tensor([1, 2, 3])), "hardly any noise, and hardly any signal"),
    ]


def _weighed(weight: Callable[[Tensor, Tensor], Tensor]) -> Function:
    """The squared error of the image with another weight, (B,), made from alpha_bar (T,) and t."""
    return lambda x, y, a, t: weight(a, t) * _error(x, y)


def _with_error(error: Callable[[Tensor], Tensor]) -> Function:
    """The right weight with another error, (B,), made from the difference (B, C, H, W)."""
    return lambda x, y, a, t: _half_drop(a / (1 - a), t) * error(x - y)


def _with_snr(snr: Callable[[Tensor], Tensor]) -> Function:
    """The right formula with something else for the signal-to-noise ratio, made from alpha_bar."""
    return _weighed(lambda a, t: _half_drop(snr(a), t))


def _beta(a: Tensor) -> Tensor:
    return 1 - a / one_before(a)


def _slope(a: Tensor) -> Tensor:
    """By how much the mean of q(x_{t-1} | x_t, x_0) moves with x_0, (T,)."""
    return one_before(a).sqrt() * _beta(a) / (1 - a)


STEP_KL = Contract(
    step_kl,
    _guesses,
    {
        "twice": (
            _weighed(lambda a, t: 2 * _half_drop(a / (1 - a), t)),
            "twice the KL: the factor 1/2 of the Gaussian's exponent is missing",
        ),
        "order": (
            _weighed(lambda a, t: -_half_drop(a / (1 - a), t)),
            "comes out negative, which no KL does; the signal-to-noise ratio falls with t: SNR_{t-1} - SNR_t",
        ),
        "quotient": (
            _weighed(lambda a, t: 0.5 * (a / (1 - a))[t - 1] / (a / (1 - a))[t]),
            "divides the two signal-to-noise ratios; the weight is half their difference",
        ),
        "log": (
            _with_snr(lambda a: a.log() - (1 - a).log()),
            "takes the difference of log-SNRs; it is that of the ratios themselves",
        ),
        "roots": (
            _with_snr(lambda a: (a / (1 - a)).sqrt()),
            "takes signal / noise for the signal-to-noise ratio; that is its square, alpha_bar / (1 - alpha_bar)",
        ),
        "alpha_bar for SNR": (
            _with_snr(lambda a: a),
            "takes alpha_bar for the signal-to-noise ratio; divide it by 1 - alpha_bar",
        ),
        "noise over signal": (
            _weighed(lambda a, t: -_half_drop((1 - a) / a, t)),
            "the quotient is upside down, noise over signal; late steps would weigh most: alpha_bar / (1 - alpha_bar)",
        ),
        "SNR of t alone": (
            _weighed(lambda a, t: 0.5 * (a / (1 - a))[t]),
            "takes the ratio at t alone; the weight is by how much it falls in the step, SNR_{t-1} - SNR_t",
        ),
        "SNR of t - 1 alone": (
            _weighed(lambda a, t: 0.5 * (a / (1 - a))[t - 1]),
            "takes the ratio at t - 1 alone, as for the last step, to x_0; subtract SNR_t",
        ),
        "the next step": (
            lambda x, y, a, t: 0.5 * ((a / (1 - a))[t] - (a / (1 - a))[(t + 1) % len(a)]) * _error(x, y),
            "one step too far, SNR_t - SNR_{t+1}; levels are counted from 0, and the step leads from t to t - 1",
        ),
        "no weight": (
            _weighed(lambda a, t: torch.ones_like(a[t])),
            "the squared error without its weight, half the fall of the signal-to-noise ratio",
        ),
        "half alone": (
            _weighed(lambda a, t: torch.full_like(a[t], 0.5)),
            "half the squared error, without the fall of the signal-to-noise ratio",
        ),
        "variance left out": (
            _weighed(lambda a, t: 0.5 * _slope(a)[t].square()),
            "half the squared distance of the two means; the KL divides it by their common variance",
        ),
        "images for means": (
            _weighed(lambda a, t: 0.5 / backward_variance(_beta(a))[t]),
            "divides the error of the image by the variance; the means differ less, by the weight that x_0 has in them",
        ),
        "deviation for variance": (
            _weighed(lambda a, t: 0.5 * _slope(a)[t].square() / backward_variance(_beta(a))[t].sqrt()),
            "divides the squared distance of the means by the standard deviation; it is by the variance",
        ),
        "beta for the variance": (
            _weighed(lambda a, t: 0.5 * _slope(a)[t].square() / _beta(a)[t]),
            "divides by beta; the variance of q is less, beta_t (1 - alpha_bar_{t-1}) / (1 - alpha_bar_t)",
        ),
        "the noise's weight": (
            _weighed(lambda a, t: _half_drop(a / (1 - a), t) * ((1 - a) / a)[t]),
            "this weight goes with the error of the noise; that of the image counts SNR_t times more",
        ),
        "pixels averaged": (
            _with_error(lambda e: e.square().flatten(1).mean(1)),
            "averages over pixels; a KL of independent pixels is the sum of theirs: nats/image",
        ),
        "not squared": (
            _with_error(lambda e: e.flatten(1).norm(dim=1)),
            "the distance of the two images is not squared; in a Gaussian's exponent stands the square",
        ),
        "absolute": (
            _with_error(lambda e: e.abs().flatten(1).sum(1)),
            "absolute errors belong to a Laplace law; a Gaussian's exponent has squares",
        ),
        "mean over the batch": (
            lambda *given: step_kl(*given).mean(),
            "averages over the batch as well; give one KL for each image, (B,)",
        ),
        "sum over the batch": (
            lambda *given: step_kl(*given).sum(),
            "sums over the batch as well; give one KL for each image, (B,)",
        ),
        "in bits": (
            lambda *given: step_kl(*given) / math.log(2),
            "this is in bits; in nats, leave out the division by ln 2",
        ),
        "all steps": (
            lambda x, y, a, t: (len(a) - 1) * step_kl(x, y, a, t),
            "times the number of steps: an estimate of the sum of all steps, where this one alone is asked for",
        ),
    },
)


class Here(NamedTuple):
    """Numbers at a level: alpha_bar, that of the level before, beta, the variances of q here and at t = 1 or later."""

    a: Tensor
    s: Tensor
    b: Tensor
    v: Tensor
    late: Tensor


def _with_weights(weights: Callable[[Here], tuple[Tensor | float, Tensor | float, Tensor | float]]) -> Function:
    """A step with weights of x_t, of eps and of the fresh noise."""

    def variant(x_t: Tensor, eps: Tensor, fresh: Tensor, beta: Tensor, t: int) -> Tensor:
        a, v = kept(beta), backward_variance(beta)
        of_x, of_eps, of_fresh = weights(Here(a[t], one_before(a)[t], beta[t], v[t], v[max(t, 1)]))
        return of_x * x_t + of_eps * eps + of_fresh * fresh

    return variant


def _scaled_by(scale: Callable[[Here], Tensor]) -> Function:
    """A step whose mean is scaled up by another number."""
    return _with_weights(lambda g: (scale(g), -scale(g) * g.b / (1 - g.a).sqrt(), g.v.sqrt()))


def _less(of_eps: Callable[[Here], Tensor]) -> Function:
    """A step with another weight of eps inside of the bracket."""
    return _with_weights(lambda g: ((1 - g.b).rsqrt(), -of_eps(g) * (1 - g.b).rsqrt(), g.v.sqrt()))


def _plus(of_fresh: Callable[[Here], Tensor]) -> Function:
    """A step with another weight of the fresh noise."""
    return _with_weights(lambda g: ((1 - g.b).rsqrt(), -g.b / (1 - g.a).sqrt() * (1 - g.b).rsqrt(), of_fresh(g)))


def ancestral_step(x_t: Tensor, eps: Tensor, fresh: Tensor, beta: Tensor, t: int) -> Tensor:
    """x_{t-1} from x_t at level t, the guess eps at its noise and fresh standard normal noise, all (B, C, H, W).

    The mean of q(x_{t-1} | x_t, x_0) at the guessed image, plus noise of its variance; the image where t is 0.
    """
    x: Tensor = _plus(lambda g: g.v.sqrt())(x_t, eps, fresh, beta, t)
    return x


def _noisy() -> list[Input]:
    one = torch.full((1, 1, 1, 1), 2.0, dtype=torch.float64)
    few = torch.tensor([0.1, 0.2, 0.4], dtype=torch.float64)
    seven = torch.tensor([0.3, 0.05, 0.02, 0.6, 0.1, 0.2, 0.15], dtype=torch.float64)
    noisy = tuple(squares(3, 3))
    return [
        Input((one, -0.5 * one, 0.25 * one, few, 1), "one pixel at the second of three levels"),
        Input((*noisy, seven, 4), "random images at the fifth of seven levels"),
        Input((*noisy, seven, 0), "the last step, to the image"),
        Input((*noisy, Schedule.linear().beta, 999), "the first of a thousand steps"),
    ]


ANCESTRAL_STEP = Contract(
    ancestral_step,
    _noisy,
    {
        "variance for deviation": (
            _plus(lambda g: g.v),
            "multiplies the fresh noise by the variance; noise takes the standard deviation, its root",
        ),
        "beta for the variance": (
            _plus(lambda g: g.b.sqrt()),
            "adds noise of variance beta, and so at the last step too; that of q is"
            " beta_t (1 - alpha_bar_{t-1}) / (1 - alpha_bar_t)",
        ),
        "beta, but not at the last step": (
            _plus(lambda g: g.b.sqrt() * (g.s < 1)),
            "adds noise of variance beta, which would be right if images were standard normal noise; take the variance"
            " of q",
        ),
        "noise at the last step": (
            _plus(lambda g: g.late.sqrt()),
            "adds noise at the last step, which ends at the image; the variance of q is 0 there",
        ),
        "no noise": (
            _plus(lambda g: 0 * g.v),
            "gives the mean alone; without fresh noise the images come out too smooth: add sqrt(variance) * fresh",
        ),
        "fresh noise subtracted": (
            _plus(lambda g: -g.v.sqrt()),
            "subtracts the fresh noise; the law is the same, but this exercise is about mean + deviation * fresh",
        ),
        "fresh noise scaled up": (
            _plus(lambda g: g.v.sqrt() * (1 - g.b).rsqrt()),
            "divides the fresh noise by sqrt(1 - beta_t) as well; it is added after the bracket",
        ),
        "1 - alpha_bar without its root": (
            _less(lambda g: g.b / (1 - g.a)),
            "divides beta by 1 - alpha_bar; the weight of eps is beta_t / sqrt(1 - alpha_bar_t)",
        ),
        "one minus the root": (
            _less(lambda g: g.b / (1 - g.a.sqrt())),
            "divides beta by 1 - sqrt(alpha_bar); the root goes round the difference, sqrt(1 - alpha_bar_t)",
        ),
        "beta for 1 - alpha_bar": (
            _less(lambda g: g.b.sqrt()),
            "divides beta by sqrt(beta), as if x_t had gone one step from x_0; divide by sqrt(1 - alpha_bar_t)",
        ),
        "alpha_bar for 1 - alpha_bar": (
            _less(lambda g: g.b / g.a.sqrt()),
            "divides beta by sqrt(alpha_bar), the signal; the deviation of the noise is sqrt(1 - alpha_bar_t)",
        ),
        "1 - alpha_bar for beta": (
            _less(lambda g: (1 - g.a).sqrt()),
            "takes all noise out of x_t, sqrt(1 - alpha_bar) eps; a step takes out beta_t / sqrt(1 - alpha_bar_t) eps",
        ),
        "the noise of t - 1": (
            _less(lambda g: g.b / (1 - g.s).sqrt()),
            "divides by sqrt(1 - alpha_bar_{t-1}), which is 0 at the last step; the noise is that of x_t",
        ),
        "eps added": (
            _less(lambda g: -g.b / (1 - g.a).sqrt()),
            "adds the guessed noise; it is what is to be taken away",
        ),
        "not scaled up": (
            _scaled_by(lambda g: torch.ones_like(g.a)),
            "does not divide by sqrt(1 - beta_t), so that x grows paler with every step",
        ),
        "without a root": (
            _scaled_by(lambda g: 1 / (1 - g.b)),
            "divides by 1 - beta_t; the step has shrunk x by its root",
        ),
        "scaled by alpha_bar": (
            _scaled_by(lambda g: g.a.rsqrt()),
            "divides by sqrt(alpha_bar_t), as if all steps were undone; this one is undone by sqrt(1 - beta_t)",
        ),
        "scaled down": (
            _scaled_by(lambda g: (1 - g.b).sqrt()),
            "multiplies by sqrt(1 - beta_t), as on the way forward; divide",
        ),
        "x_t alone scaled up": (
            _with_weights(lambda g: ((1 - g.b).rsqrt(), -g.b / (1 - g.a).sqrt(), g.v.sqrt())),
            "divides x_t alone by sqrt(1 - beta_t); the whole bracket is divided, eps with it",
        ),
        "the image": (
            _with_weights(lambda g: (g.a.rsqrt(), -((1 - g.a) / g.a).sqrt(), 0.0)),
            "this is the guess at x_0; the exercise asks for one step, to x_{t-1}",
        ),
        "destroyed anew": (
            _with_weights(lambda g: ((g.s / g.a).sqrt(), -((1 - g.a) * g.s / g.a).sqrt(), (1 - g.s).sqrt())),
            "guesses x_0 and adds all noise anew, which forgets x_t; the mean of q weighs x_0 and x_t",
        ),
        "the step without noise": (
            _with_weights(
                lambda g: ((g.s / g.a).sqrt(), (1 - g.s).sqrt() - ((1 - g.a) * g.s / g.a).sqrt(), 0.0),
            ),
            "this is DDIM, which keeps the guessed noise and adds none; the exercise asks for the ancestral step",
        ),
        "counted from one": (
            lambda x, e, z, b, t: ancestral_step(x, e, z if t else 0 * z, b, (t - 1) % len(b)),
            "takes the numbers of t - 1; levels are counted from 0 here, so beta[t] belongs to the step from t",
        ),
    },
)

CONTRACTS = {
    "diffuse": DIFFUSE,
    "backward_mean": BACKWARD_MEAN,
    "backward_variance": BACKWARD_VARIANCE,
    "image_from_velocity": IMAGE_FROM_VELOCITY,
    "simple_loss": scaled(SIMPLE_LOSS),
    "step_kl": STEP_KL,
    "ancestral_step": ANCESTRAL_STEP,
}
