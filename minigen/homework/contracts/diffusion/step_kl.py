"""The exercise `diffusion.step_kl`: what a step with a guessed image costs, nats."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from minigen.homework.contract import Contract, Function, Input
from minigen.homework.contracts.diffusion._levels import one_before
from minigen.homework.contracts.diffusion.backward_variance import backward_variance
from minigen.homework.mistakes import IN_BITS, KL_AVERAGED, KL_SUMMED, KL_TWICE, squares


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


CONTRACT = Contract(
    step_kl,
    _guesses,
    {
        "twice": (
            _weighed(lambda a, t: 2 * _half_drop(a / (1 - a), t)),
            KL_TWICE,
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
            "takes alpha / sigma for the signal-to-noise ratio; that is its square, alpha_bar / (1 - alpha_bar)",
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
            KL_AVERAGED,
        ),
        "sum over the batch": (
            lambda *given: step_kl(*given).sum(),
            KL_SUMMED,
        ),
        "in bits": (
            lambda *given: step_kl(*given) / math.log(2),
            IN_BITS,
        ),
        "all steps": (
            lambda x, y, a, t: (len(a) - 1) * step_kl(x, y, a, t),
            "times the number of steps: an estimate of the sum of all steps, where this one alone is asked for",
        ),
    },
)
