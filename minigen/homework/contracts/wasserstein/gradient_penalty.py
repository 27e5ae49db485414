"""The exercise `wasserstein.gradient_penalty`: the slope of a critic between real and generated images."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from minigen.homework.contract import Contract, Function, Input, gradients
from minigen.homework.contracts.minimax._games import a_discriminator
from minigen.homework.mistakes import SUM
from minigen.objectives import wasserstein


class _Flat(nn.Module):
    """A critic of images (B, 1, 2, 2), or of what has as many numbers."""

    def __init__(self, *sizes: int, scale: float = 1.0) -> None:
        super().__init__()
        self.network = a_discriminator(*sizes, scale=scale)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.network(x.reshape(len(x), -1))
        return scores


def _pairs() -> list[Input]:
    generator = torch.Generator().manual_seed(0)
    real, fake = torch.randn(2, 4, 3, 2, 2, generator=generator)
    u = torch.rand(4, generator=generator)
    one = torch.ones(1, 1, 1, 1)
    return [
        Input((_Flat(1, 1), one, -2 * one, torch.tensor([0.25])), "one pair of images of one pixel"),
        Input((_Flat(12, 6, 1), real, fake, u), "random images (4, 3, 2, 2)"),
        Input((_Flat(12, 6, 1, scale=0.05), real, fake, u), "a critic that is too flat"),
    ]


def gradient_penalty(critic: nn.Module, real: Tensor, fake: Tensor, u: Tensor) -> Tensor:
    """E (|grad f| - 1)^2 at the points u x + (1 - u) G(z), images (B, C, H, W), u (B,); lambda is left out."""
    between = wasserstein.interpolate(real, fake, u).detach().requires_grad_()
    return wasserstein.slope_penalty(wasserstein.slopes(critic(between), between))


def _by(slope: Callable[[Tensor], Tensor], penalty: Function = wasserstein.slope_penalty) -> Function:
    """The penalty with another slope of the gradients (B, C, H, W), or another function of the slopes."""

    def wrong(critic: nn.Module, real: Tensor, fake: Tensor, u: Tensor) -> Tensor:
        between = wasserstein.interpolate(real, fake, u).detach().requires_grad_()
        (gradient,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
        result: Tensor = penalty(slope(gradient))
        return result

    return wrong


def _at(points: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Function:
    """The penalty at other points."""

    def wrong(critic: nn.Module, real: Tensor, fake: Tensor, u: Tensor) -> Tensor:
        between = points(real, fake, u).detach().requires_grad_()
        return wasserstein.slope_penalty(wasserstein.slopes(critic(between), between))

    return wrong


def _each_pixel(real: Tensor, fake: Tensor, u: Tensor) -> Tensor:
    own = torch.rand(real.shape, generator=torch.Generator().manual_seed(0), dtype=real.dtype)
    return own * real + (1 - own) * fake


def _mean_slope(critic: nn.Module, real: Tensor, fake: Tensor, u: Tensor) -> Tensor:
    between = wasserstein.interpolate(real, fake, u).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(critic(between).mean(), between, create_graph=True)
    return wasserstein.slope_penalty(_norm(gradient))


def _norm(gradient: Tensor) -> Tensor:
    norms: Tensor = gradient.flatten(1).norm(dim=1)
    return norms


CONTRACT = Contract(
    gradient_penalty,
    _pairs,
    {
        "norm over the channels": (
            _by(lambda g: g.norm(dim=1)),
            "takes the norm over the channels alone, so that each pixel's slope is driven to 1 and the critic's far"
            " above; flatten each image's gradient, then take the norm",
        ),
        "norm over the batch": (
            _by(lambda g: g.norm().unsqueeze(0)),
            "takes one norm over the whole batch; each pair has a slope of its own: flatten(1), then norm(dim=1)",
        ),
        "coefficient for each pixel": (
            _at(_each_pixel),
            "draws a coefficient for each pixel, so that the point leaves the line between the two images; use the one"
            " number u[i] for all of pair i",
        ),
        "squared norm": (
            _by(lambda g: g.flatten(1).square().sum(1)),
            "forgets the root: (|grad f|^2 - 1)^2; take the norm before 1 is subtracted",
        ),
        "centre at zero": (
            _by(_norm, lambda s: s.square().mean()),
            "holds the slope to 0, as R1 does; here it is held to 1",
        ),
        "one-sided": (
            _by(_norm, lambda s: (s - 1).relu().square().mean()),
            "punishes slopes above 1 alone; that is the other form of the paper: leave out the relu",
        ),
        "mean norm": (
            _by(_norm, lambda s: (s.mean() - 1).square()),
            "averages the slopes before 1 is subtracted, so that steep and flat places make up for each other",
        ),
        "absolute value": (
            _by(_norm, lambda s: (s - 1).abs().mean()),
            "takes the absolute value in place of the square",
        ),
        "sum": (_by(_norm, lambda s: (s - 1).square().sum()), SUM),
        "mean of the scores": (
            _mean_slope,
            "differentiates the batch's mean score, which divides every slope by B; differentiate the sum",
        ),
        "at real images": (
            _at(lambda x, g, u: x),
            "measures the slope at the real images; it belongs between the two: u x + (1 - u) G(z)",
        ),
        "lambda inside": (
            lambda d, x, g, u: 10 * gradient_penalty(d, x, g, u),
            "ten times the penalty: here lambda is left out",
        ),
        "no second derivative": (
            lambda d, x, g, u: gradient_penalty(d, x, g, u).detach(),
            "right, but cut off from the graph, so that no critic learns; give autograd.grad create_graph=True",
        ),
    },
    gradients("critic"),
)
