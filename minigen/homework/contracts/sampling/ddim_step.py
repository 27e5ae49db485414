"""The exercise `sampling.ddim_step`: a step of DDIM, with any share of fresh noise."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from minigen.homework.contract import Contract, Function, Input
from minigen.homework.contracts.sampling._levels import level_of
from minigen.homework.mistakes import squares
from minigen.objectives.diffusion import posterior_step
from minigen.samplers.diffusion import Level


def ddim_step(x_t: Tensor, image: Tensor, fresh: Tensor, now: Level, then: Level, eta: float) -> Tensor:
    """From x_t at `now` to `then`, with the guess `image` at x_0 and fresh standard normal noise, all (B, C, H, W).

    eta: the deviation of the fresh noise as a share of that of q(x_s | x_t, x_0), from DDIM, 0, to DDPM, 1.
    """
    mean, variance = posterior_step(image, x_t, now, then, eta=eta)
    return mean + variance.sqrt() * fresh


class Parts(NamedTuple):
    """What a step is made of: the levels now (a, s) and then (a_s, s_s), eta, the variance, and the noise in x_t."""

    a: Tensor
    s: Tensor
    a_s: Tensor
    s_s: Tensor
    eta: float
    v: Tensor
    eps: Tensor
    x: Tensor
    image: Tensor
    fresh: Tensor


def _stepping(combine: Callable[[Parts], Tensor]) -> Function:
    """A step that puts its parts together in another way."""

    def variant(x_t: Tensor, image: Tensor, fresh: Tensor, now: Level, then: Level, eta: float) -> Tensor:
        a, s, a_s, s_s = torch.tensor([*now, *then], dtype=torch.float64)
        v = (eta * s_s).square() * (1 - (a * s_s / (a_s * s)).square())
        return combine(Parts(a, s, a_s, s_s, eta, v, (x_t - a * image) / s, x_t, image, fresh))

    return variant


def _with_variance(variance: Callable[[Parts], Tensor]) -> Function:
    """A step with another variance of the fresh noise, for which the guessed noise makes room."""
    return _stepping(
        lambda p: p.a_s * p.image + (p.s_s.square() - variance(p)).sqrt() * p.eps + variance(p).sqrt() * p.fresh
    )


def _with_eps(eps: Callable[[Parts], Tensor]) -> Function:
    """A step with another guess at the noise."""
    return _stepping(lambda p: p.a_s * p.image + (p.s_s.square() - p.v).sqrt() * eps(p) + p.v.sqrt() * p.fresh)


def _with_shares(of_eps: Callable[[Parts], Tensor], of_fresh: Callable[[Parts], Tensor]) -> Function:
    """A step with other weights of the guessed and of the fresh noise."""
    return _stepping(lambda p: p.a_s * p.image + of_eps(p) * p.eps + of_fresh(p) * p.fresh)


def _steps() -> list[Input]:
    one = torch.full((1, 1, 1, 1), 2.0, dtype=torch.float64)
    noisy = tuple(squares(3, 3))
    return [
        Input((one, 0.75 * one, 0.25 * one, (0.6, 0.8), (0.8, 0.6), 0.5), "one pixel, half the noise"),
        Input((*noisy, level_of(3 / 5), level_of(0.65), 1.0), "random images, a DDPM step"),
        Input((*noisy, level_of(0.3), level_of(0.9), 0.0), "random images, a DDIM step"),
        Input((*noisy, level_of(1e-3), level_of(0.1), 0.9), "from nearly pure noise"),
        Input((*noisy, level_of(0.8), (1.0, 0.0), 0.0), "the last step, to the image"),
    ]


def _levels(parts: Parts) -> tuple[Level, Level]:
    return (float(parts.a), float(parts.s)), (float(parts.a_s), float(parts.s_s))


CONTRACT = Contract(
    ddim_step,
    _steps,
    {
        "beta": (
            _with_variance(lambda p: p.eta**2 * (1 - (p.a / p.a_s).square())),
            "eta scales beta, the variance of a step forward; eta = 1 is DDPM's with the variance of q, which is less",
        ),
        "eta not squared": (
            _with_variance(lambda p: p.eta * (p.v / p.eta**2 if p.eta else p.v)),
            "eta scales the variance; it scales the deviation, so the variance takes eta^2",
        ),
        "eta on the fresh noise alone": (
            _stepping(lambda p: ddim_step(p.x, p.image, p.eta * p.fresh, *_levels(p), 1.0)),
            "eta scales the fresh noise, but the guessed noise makes room for all of it; use eta^2 in both places",
        ),
        "no room for the fresh noise": (
            _with_shares(lambda p: p.s_s, lambda p: p.v.sqrt()),
            "keeps all guessed noise and adds fresh noise to it, so x comes out too noisy; take v from sigma^2 first",
        ),
        "room without a root": (
            _with_shares(lambda p: p.s_s.square() - p.v, lambda p: p.v.sqrt()),
            "multiplies the guessed noise by a variance, sigma^2 - v; take its root",
        ),
        "deviations subtracted": (
            _with_shares(lambda p: p.s_s - p.v.sqrt(), lambda p: p.v.sqrt()),
            "subtracts deviations; it is variances that add up: sqrt(sigma^2 - v)",
        ),
        "variance for deviation": (
            _with_shares(lambda p: (p.s_s.square() - p.v).sqrt(), lambda p: p.v),
            "multiplies the fresh noise by its variance; noise takes the deviation, sqrt(v)",
        ),
        "eta ignored, DDIM": (
            lambda x, d, z, now, then, eta: ddim_step(x, d, z, now, then, 0.0),
            "adds no fresh noise, whatever eta is: this is DDIM",
        ),
        "eta ignored, DDPM": (
            lambda x, d, z, now, then, eta: ddim_step(x, d, z, now, then, 1.0),
            "adds all the fresh noise, whatever eta is: this is DDPM",
        ),
        "fresh noise left out": (
            _with_shares(lambda p: (p.s_s.square() - p.v).sqrt(), lambda p: 0 * p.v),
            "makes room for fresh noise, and adds none; x comes out with too little noise",
        ),
        "fresh noise subtracted": (
            lambda x, d, z, now, then, eta: ddim_step(x, d, -z, now, then, eta),
            "subtracts the fresh noise; the law is the same, but this exercise is about mean + sqrt(v) * fresh",
        ),
        "destroyed anew": (
            _with_shares(lambda p: 0 * p.v, lambda p: p.s_s),
            "throws the noise of x_t away and adds fresh noise; keep the guessed noise, all but the share of eta",
        ),
        "eps not divided": (
            _with_eps(lambda p: p.x - p.a * p.image),
            "takes x_t - alpha * image for the noise; divide it by sigma",
        ),
        "eps without the alpha": (
            _with_eps(lambda p: (p.x - p.image) / p.s),
            "takes the image at full strength out of x_t; in it is alpha * image",
        ),
        "eps from the level then": (
            _with_eps(lambda p: (p.x - p.a_s * p.image) / p.s),
            "takes the image out of x_t with the alpha of `then`; x_t is at the level `now`",
        ),
        "eps turned round": (
            _with_eps(lambda p: -p.eps),
            "the guessed noise has the wrong sign; it is (x_t - alpha * image) / sigma",
        ),
        "x_t for the noise": (
            _with_eps(lambda p: p.x),
            "takes x_t itself for its noise; the image is still in it",
        ),
        "x_t for the image": (
            _stepping(
                lambda p: p.a_s * p.x + (p.s_s.square() - p.v).sqrt() * p.eps + p.v.sqrt() * p.fresh,
            ),
            "scales x_t where the guess at the image belongs",
        ),
        "alpha of now": (
            _stepping(
                lambda p: p.a * p.image + (p.s_s.square() - p.v).sqrt() * p.eps + p.v.sqrt() * p.fresh,
            ),
            "the image enters with the alpha of `now`; x arrives at the level `then`",
        ),
        "sigma of now": (
            _with_shares(lambda p: (p.s.square() - p.v).sqrt(), lambda p: p.v.sqrt()),
            "leaves as much noise as there is `now`; x arrives at the level `then`",
        ),
    },
)
