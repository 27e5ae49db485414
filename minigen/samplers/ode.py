"""Exact likelihood by the probability-flow ODE (chapter 12)."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

from minigen.data.checks import need_count, need_number, need_numbers, need_same, need_shape
from minigen.objectives.diffusion import Denoise


def divergence(images: Tensor, x: Tensor, *, probes: Tensor | None = None) -> Tensor:
    """Trace of d images / d x, (B,), for images (B, ...) computed from x (B, ...), image by image.

    Exact, with as many backward passes as an image has numbers; or, with probes (n, B, ...) of independent entries of
    variance 1, the unbiased estimate of Hutchinson 1990 with n passes.
    """
    need_same("images", images, "x", x)
    if probes is not None:
        need_shape("probes", probes, "n", *x.shape)
        need_count("the number of probes", len(probes))
    total = x.new_zeros(len(x))
    if probes is None:
        for i in range(images[0].numel()):
            (row,) = torch.autograd.grad(images.flatten(1)[:, i].sum(), x, retain_graph=True)
            total = total + row.flatten(1)[:, i]
        return total
    for probe in probes:
        (row,) = torch.autograd.grad((images * probe).sum(), x, retain_graph=True)
        total = total + (row * probe).flatten(1).sum(1) / len(probes)
    return total


def ode_log_prob(
    denoise: Denoise, x: Tensor, *, low: float = 1e-3, high: float = 1e2, steps: int = 100, probes: Tensor | None = None
) -> Tensor:
    """log p(x), nats, (B,), of the density whose probability-flow ODE a denoiser gives. Song et al. 2021, eq. 39.

    In y = x / alpha and u = log(sigma / alpha) the ODE is dy/du = y - E[x_0 | y]. Along it log p falls by the
    divergence of the right side; at the end y is all but normal, and log p(y) is that of N(E[x_0 | y], exp(2u) I) at y
    (too high by c exp(-2u) nats on average for each number of variance c). `steps` steps of the classical Runge-Kutta
    method, each with four calls, between sigma `low`, which is as good as none, and `high`, against which the images
    are small. Raises ValueError for a denoiser whose guess has no gradient, as under `torch.no_grad`.
    """
    need_numbers("x", x, todo="a density of NaN is none")
    need_number("low", low, low=0, open=True)
    need_number("high", high, low=low, open=True)
    need_count("steps", steps)
    grid = torch.linspace(math.log(low), math.log(high), steps + 1, dtype=torch.float64).tolist()

    def slope(y: Tensor, u: float) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            y = y.detach().requires_grad_()
            guess = denoise(y, 1.0, math.exp(u))
            if not guess.requires_grad:  # the divergence would be that of y alone, and the density wrong
                raise ValueError(
                    "the denoiser's guess must depend on x in a way that has a gradient; got one without: call it "
                    "outside of no_grad and inference_mode, and without detach() (a constant c is 0 * x + c)"
                )
            right = y - guess
            return right.detach(), divergence(right, y, probes=probes)

    y, gained = x, x.new_zeros(len(x))
    for start, end in itertools.pairwise(grid):
        h = end - start
        k_1, d_1 = slope(y, start)
        k_2, d_2 = slope(y + h / 2 * k_1, start + h / 2)
        k_3, d_3 = slope(y + h / 2 * k_2, start + h / 2)
        k_4, d_4 = slope(y + h * k_3, end)
        y = y + h / 6 * (k_1 + 2 * k_2 + 2 * k_3 + k_4)
        gained = gained + h / 6 * (d_1 + 2 * d_2 + 2 * d_3 + d_4)
    with torch.no_grad():
        eps = (y - denoise(y, 1.0, high)) / high
    normal = -0.5 * (eps.square() + math.log(2 * math.pi * high**2)).flatten(1).sum(1)
    return normal + gained
