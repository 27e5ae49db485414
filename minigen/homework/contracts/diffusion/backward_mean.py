"""The exercise `diffusion.backward_mean`: mean of the step back, if the image is known."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from minigen.homework.contract import Contract, Function
from minigen.homework.contracts.diffusion._levels import Coefficients, kept, noisy_images, one_before
from minigen.objectives.diffusion import append_dims


def backward_mean(x_0: Tensor, x_t: Tensor, beta: Tensor, t: Tensor) -> Tensor:
    """Mean of q(x_{t-1} | x_t, x_0), (B, C, H, W), for the image x_0 and x_t at level t (B,); x_0 where t is 0."""
    mean: Tensor = _with_weights(_weights)(x_0, x_t, beta, t)
    return mean


def _with_weights(weights: Coefficients, before: Callable[[Tensor], Tensor] = one_before) -> Function:
    """A mean with weights of x_0 and x_t, both (T,), made from alpha_bar, that of the level before, and beta."""

    def variant(x_0: Tensor, x_t: Tensor, beta: Tensor, t: Tensor) -> Tensor:
        of_image, of_noisy = weights(kept(beta), before(kept(beta)), beta)
        return append_dims(of_image[t], x_0) * x_0 + append_dims(of_noisy[t], x_0) * x_t

    return variant


def _weights(a: Tensor, s: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    return s.sqrt() * b / (1 - a), (1 - b).sqrt() * (1 - s) / (1 - a)


def _bent(x_0: Tensor, x_t: Tensor, eps_weight: Tensor, share: Tensor, a: Tensor) -> Tensor:
    """(x_t - eps_weight eps) / sqrt(share), with the noise eps that x_t shows."""
    eps = (x_t - append_dims(a.sqrt(), x_t) * x_0) / append_dims((1 - a).sqrt(), x_t)
    return (x_t - append_dims(eps_weight, x_t) * eps) / append_dims(share.sqrt(), x_t)


CONTRACT = Contract(
    backward_mean,
    noisy_images,
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
