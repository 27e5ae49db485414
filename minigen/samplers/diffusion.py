"""From noise to images, along a path of falling noise levels (chapters 11 and 12).

Every sampler yields each x_t, the last being the image. `denoise(x_t, alpha, sigma)` is a world's own or a `Denoiser`;
`path` holds alpha and sigma, (steps + 1,), from the noisiest to the data, as `Schedule.path` gives them. The steps of
all of them go through `posterior_step`, the one formula from a guess at the image to the next level. A start that is
not finite floats is refused, and so is a `Schedule`, whose levels run the other way (TypeError, ValueError).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor

from minigen.data.checks import need_finite, need_float
from minigen.objectives.diffusion import Denoise, Path, need_path, posterior_step

Level = tuple[float, float]


def levels(path: Path) -> list[Level]:
    """The path as pairs of numbers (alpha, sigma). Raises TypeError and ValueError for what does not fall in noise."""
    need_path(path)
    return list(zip(path.alpha.tolist(), path.sigma.tolist(), strict=True))


def _steps(x: Tensor, path: Path) -> Iterator[tuple[Level, Level]]:
    """Neighbouring levels, after a look at the start and the path."""
    need_float("the start x", x, todo="begin with standard normal noise, torch.randn(B, ...)")
    need_finite("the start x", x, todo="begin with standard normal noise, torch.randn(B, ...)")
    return pairwise(levels(path))


def ddpm(denoise: Denoise, x: Tensor, path: Path, *, generator: torch.Generator | None = None) -> Iterator[Tensor]:
    """Ho et al. 2020, algorithm 2, with the variance of eq. 7: `ancestral` with eta = 1, all noise fresh.

    x: standard normal at the first level of the path; yields (B, ...) at each further one. generator: of that noise.
    """
    return ancestral(denoise, x, path, eta=1.0, generator=generator)


def ddim(
    denoise: Denoise, x: Tensor, path: Path, *, eta: float = 0.0, generator: torch.Generator | None = None
) -> Iterator[Tensor]:
    """Song et al. 2021 (DDIM), eq. 12: `ancestral` with eta = 0, no noise but that of the start, unless eta is given.

    x: standard normal at the first level of the path; yields (B, ...) at each further one.
    """
    return ancestral(denoise, x, path, eta=eta, generator=generator)


def ancestral(
    denoise: Denoise, x: Tensor, path: Path, *, eta: float = 1.0, generator: torch.Generator | None = None
) -> Iterator[Tensor]:
    """`ddpm` for eta = 1 and `ddim` for eta = 0, from x at the first level: (B, ...) at each further one.

    Each step is `posterior_step` with the guess at x_0 in its place; no noise is added at the last one, where its
    variance is 0. Ho et al. 2020, algorithm 2, with the variance of eq. 7; Song et al. 2021 (DDIM), eq. 12.

    >>> from minigen.objectives import Schedule
    >>> from minigen.worlds import GaussianMixture
    >>> world, noise = GaussianMixture.ring(std=0.05), torch.randn(100, 2, generator=torch.Generator().manual_seed(0))
    >>> *_, points = ancestral(world.denoise, noise, Schedule.cosine().path(50), eta=0.0)  # DDIM; eta=1 is DDPM
    >>> bool(((points.norm(dim=1) - 1).abs() < 0.3).all())
    True
    """
    if not 0.0 <= eta <= 1.0:
        raise ValueError(f"eta must be in 0..1, from DDIM to DDPM; got {eta}")
    for now, then in _steps(x, path):
        with torch.no_grad():
            x, variance = posterior_step(denoise(x, *now), x, now, then, eta=eta)
            if eta and then[1]:
                x = x + variance.sqrt() * torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)
        yield x


def heun(denoise: Denoise, x: Tensor, path: Path) -> Iterator[Tensor]:
    """Heun's method for the probability-flow ODE, from x (B, ...): second order, two calls a step.

    Karras et al. 2022, algorithm 1.

    In y = x / alpha and r = sigma / alpha the ODE is dy/dr = eps, the noise that x_t shows. A DDIM step holds eps for
    the whole step; Heun takes the mean of eps here and at the end of that step. The last step, to sigma 0, is a DDIM
    step, since eps is not known there; so is one from alpha 0, where y and r are infinite.
    """
    for now, then in _steps(x, path):
        with torch.no_grad():
            guess = denoise(x, *now)
            ahead = posterior_step(guess, x, now, then, eta=0.0).mean
            if now[0] and then[1]:
                there = (ahead - then[0] * denoise(ahead, *then)) / then[1]
                here = (x - now[0] * guess) / now[1]
                ahead = then[0] * (x / now[0] + (then[1] / then[0] - now[1] / now[0]) * (here + there) / 2)
            x = ahead
        yield x


def dpm_solver_2m(denoise: Denoise, x: Tensor, path: Path) -> Iterator[Tensor]:
    """DPM-Solver++(2M), from x (B, ...): second order, one call a step. Lu et al. 2022 (DPM-Solver++), algorithm 2.

    The guess at x_0 is continued along a straight line in half the log-SNR through the last two guesses, to the middle
    of the step; the rest is a DDIM step. The first step and the last, to sigma 0, are plain DDIM steps.
    """
    before: tuple[Tensor, float] | None = None  # the last guess, and the length of the step that followed it
    for now, then in _steps(x, path):
        with torch.no_grad():
            guess = image = denoise(x, *now)
            if then[1]:
                length = math.log(then[0] / then[1]) - (math.log(now[0] / now[1]) if now[0] else -math.inf)
                if before is not None:
                    image = guess + (length / (2 * before[1])) * (guess - before[0])
                before = (guess, length)
            x = posterior_step(image, x, now, then, eta=0.0).mean
        yield x
