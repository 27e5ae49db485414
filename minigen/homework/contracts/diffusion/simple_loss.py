"""The exercise `diffusion.simple_loss`: squared error of the predicted noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from minigen.homework.contract import Contract, Function, Input, Personal, gradients
from minigen.homework.mistakes import (
    CUT,
    FACTORS,
    NO_MEAN,
    NUMBERS_AS_COLUMNS,
    ONE_LEVEL,
    SUM_OVER_EVERYTHING,
    WEIGHTS,
    squares,
)
from minigen.objectives.diffusion import add_noise, append_dims

Network = Callable[..., Tensor]


class Guesser(nn.Module):
    """A small network for the grader: a guess at the noise from x_t (B, C, H, W) and numbers t (B,)."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.5, 0.25]))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """(B, C, H, W) and (B,) to (B, C, H, W)."""
        steep, phase = self.weight.unbind()
        return steep * torch.tanh(x) + phase * append_dims(t, x).cos()


def simple_loss(network: Network, x_0: Tensor, eps: Tensor, alpha_bar: Tensor, t: Tensor) -> Tensor:
    """Squared error of network(x_t, t), a guess at eps, summed over an image, averaged over the batch: a number.

    x_0, eps: (B, C, H, W). alpha_bar: (T,). t: (B,), the level of each image, counted from 0.
    """
    return _error(network, x_0, eps, alpha_bar, t).square().flatten(1).sum(1).mean()


def _error(network: Network, x_0: Tensor, eps: Tensor, alpha_bar: Tensor, t: Tensor) -> Tensor:
    x_t = add_noise(x_0, eps, alpha_bar[t].sqrt(), (1 - alpha_bar[t]).sqrt())
    return network(x_t, t) - eps


def _batches() -> list[Input]:
    one = torch.full((1, 1, 1, 1), 2.0)
    x_0, eps = squares(3, 2).float()
    share = torch.tensor([0.9, 0.75, 0.5, 0.2, 0.02])
    ends = torch.tensor([0.999, 0.5, 1e-6])
    return [
        Input((Guesser(), one, -0.5 * one, share[1:4], torch.tensor([1])), "one pixel at the second of three levels"),
        Input((Guesser(), x_0, eps, share, torch.tensor([4, 0, 2])), "random images at five levels"),
        Input((Guesser(), 5 * x_0, eps, ends, torch.tensor([2, 0, 2])), "hardly any noise, and hardly any signal"),
    ]


def _with_error(reduce: Callable[[Tensor], Tensor]) -> Function:
    """The loss that makes one of the errors (B, C, H, W) in another way."""
    return lambda *given: reduce(_error(*given))


def _with_target(target: Callable[..., Tensor]) -> Function:
    """The loss against target(x_0, eps, a, s, x_t) in place of the noise, levels as they multiply images."""

    def variant(network: Network, x_0: Tensor, eps: Tensor, alpha_bar: Tensor, t: Tensor) -> Tensor:
        a, s = (append_dims(part[t], x_0) for part in (alpha_bar.sqrt(), (1 - alpha_bar).sqrt()))
        x_t = a * x_0 + s * eps
        return (network(x_t, t) - target(x_0, eps, a, s, x_t)).square().flatten(1).sum(1).mean()

    return variant


def _with_given(given: Function) -> Function:
    """The loss of a network that is given something else: given(x_0, eps, share, t), with share as it multiplies."""

    def variant(network: Network, x_0: Tensor, eps: Tensor, alpha_bar: Tensor, t: Tensor) -> Tensor:
        x, level = given(x_0, eps, append_dims(alpha_bar[t], x_0), t)
        return (network(x, level) - eps).square().flatten(1).sum(1).mean()

    return variant


def _mixed(x: Tensor, e: Tensor, a: Tensor) -> Tensor:
    return a.sqrt() * x + (1 - a).sqrt() * e


def _drawn(like: Tensor) -> Tensor:
    """What torch.randn_like gives first inside of the grader, which seeds before each call."""
    return torch.randn(like.shape, generator=torch.Generator().manual_seed(0), dtype=like.dtype)


def scaled(contract: Contract) -> Contract:
    """The contract with a personal form: the images, argument number 1, multiplied, and the loss too."""

    def make(scale: float, weight: float) -> Contract:
        def larger(network: Network, x_0: Tensor, *rest: Tensor) -> tuple[Network | Tensor, ...]:
            return network, scale * x_0, *rest

        return contract.adapted(before=larger, after=lambda loss: weight * loss)

    ask = "Multiply every image by {scale} before anything else, and the whole loss by {weight}."
    return replace(contract, personal=Personal(ask, {"scale": FACTORS, "weight": WEIGHTS}, make))


COMMON = Contract(
    simple_loss,
    _batches,
    {
        "mean over everything": (
            _with_error(lambda e: e.square().mean()),
            "averages over pixels too, as mse_loss does: bits/dim made from it would be far too few; sum over an image",
        ),
        "sum over everything": (
            _with_error(lambda e: e.square().sum()),
            SUM_OVER_EVERYTHING,
        ),
        "one number an image": (
            _with_error(lambda e: e.square().flatten(1).sum(1)),
            NO_MEAN,
        ),
        "half": (
            _with_error(lambda e: e.square().flatten(1).sum(1).mean() / 2),
            "half of it, as in a Gaussian's exponent; the simple loss is the squared error itself",
        ),
        "absolute": (
            _with_error(lambda e: e.abs().flatten(1).sum(1).mean()),
            "absolute errors make the network a median; the mean, which a denoiser is, needs squares",
        ),
        "norm": (
            _with_error(lambda e: e.flatten(1).norm(dim=1).mean()),
            "takes the root of each image's sum; the squared error has none, and only then is the best guess a mean",
        ),
        "root of the mean": (
            _with_error(lambda e: e.square().mean().sqrt()),
            "this is the root mean square; leave out the root, and sum over an image",
        ),
        "error not squared": (
            _with_error(lambda e: e.flatten(1).sum(1).mean()),
            "the errors are not squared, so that those of different sign cancel",
        ),
        "sign": (
            _with_error(lambda e: -e.square().flatten(1).sum(1).mean()),
            "minus the squared error; a loss is minimised: leave out the sign",
        ),
        "image for target": (
            _with_target(lambda x, e, a, s, y: x),
            "compares the guess with x_0; this network predicts the noise: compare it with eps",
        ),
        "x_t for target": (
            _with_target(lambda x, e, a, s, y: y),
            "compares the guess with x_t, which the network was given; compare it with eps",
        ),
        "velocity for target": (
            _with_target(lambda x, e, a, s, y: a * e - s * x),
            "compares the guess with the velocity; this network predicts the noise: compare it with eps",
        ),
        "score for target": (
            _with_target(lambda x, e, a, s, y: -e / s),
            "compares the guess with the score, -eps / sqrt(1 - alpha_bar); this network predicts eps itself",
        ),
        "scaled noise for target": (
            _with_target(lambda x, e, a, s, y: s * e),
            "compares the guess with the noise as it stands in x_t, y - sqrt(alpha_bar) x_0; eps has variance 1",
        ),
        "new noise for target": (
            _with_target(lambda x, e, a, s, y: _drawn(e)),
            "draws new noise for the target, of which x_t says nothing; compare with the eps that is in x_t",
        ),
        "noise of its own": (
            lambda f, x, e, a, t: simple_loss(f, x, _drawn(x), a, t),
            "draws noise of its own; eps is given, so that the loss is a deterministic function",
        ),
        "error of the image": (
            lambda f, x, e, a, t: (_error(f, x, e, a, t).square().flatten(1).sum(1) * (1 - a[t]) / a[t]).mean(),
            "this is the squared error of the image that the guess amounts to; the simple loss is that of the noise",
        ),
        "x_0 given": (
            _with_given(lambda x, e, a, t: (x, t)),
            "gives the network x_0, in which there is no noise; give it x_t",
        ),
        "signal without its root": (
            _with_given(lambda x, e, a, t: (a * x + (1 - a).sqrt() * e, t)),
            "x_t has alpha_bar * x_0 in it; the root is missing",
        ),
        "noise without its root": (
            _with_given(lambda x, e, a, t: (a.sqrt() * x + (1 - a) * e, t)),
            "x_t has (1 - alpha_bar) * eps in it; the root is missing",
        ),
        "no roots": (
            _with_given(lambda x, e, a, t: (a * x + (1 - a) * e, t)),
            "x_t has neither root in it: sqrt(alpha_bar) x_0 + sqrt(1 - alpha_bar) eps",
        ),
        "told t + 1": (
            _with_given(lambda x, e, a, t: (_mixed(x, e, a), t + 1)),
            "gives the network t + 1; levels are counted from 0, and t is already so",
        ),
        "told alpha_bar": (
            _with_given(lambda x, e, a, t: (_mixed(x, e, a), a.flatten())),
            "gives the network alpha_bar; this one is called as network(x_t, t)",
        ),
        "one level for all": (
            lambda f, x, e, a, t: simple_loss(f, x, e, a, t[:1].expand(len(t))),
            ONE_LEVEL,
        ),
        "along the width": (
            lambda f, x, e, a, t: (f(a[t].sqrt() * x + (1 - a[t]).sqrt() * e, t) - e).square().flatten(1).sum(1).mean(),
            NUMBERS_AS_COLUMNS,
        ),
        "no gradient": (lambda *given: simple_loss(*given).detach(), CUT),
    },
    gradients("network"),
)


CONTRACT = scaled(COMMON)
