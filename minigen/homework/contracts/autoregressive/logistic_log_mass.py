"""The exercise `autoregressive.logistic_log_mass`: log masses of a discretised logistic."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, pad, softplus

from minigen.homework.contract import Contract, Input
from minigen.objectives import autoregressive


def logistic_log_mass(mean: Tensor, log_scale: Tensor, num_levels: int) -> Tensor:
    """The log mass of each of K levels under one logistic for each entry of mean and log_scale, (...) to (..., K).

    Level k stands for (2k + 1)/K - 1 and owns the cell of width 2/K around it; the end cells are open to infinity.
    """
    parameters = torch.stack([torch.zeros_like(mean), mean, log_scale]).view(1, 3, -1, 1)
    log_p = autoregressive.logistic_mixture_log_probs(parameters, num_levels)  # (1, K, entries, 1)
    return log_p[0, :, :, 0].mT.reshape(*mean.shape, num_levels)


def _logistics() -> list[Input]:
    generator = torch.Generator().manual_seed(0)
    mean, log_scale = torch.randn(2, 2, 3, generator=generator)
    return [
        Input((torch.tensor([0.25]), torch.tensor([-0.5]), 3), "one entry of 3 levels"),
        Input((mean / 2, log_scale / 2 - 1, 8), "random entries of 8 levels"),
        Input((torch.tensor([5.0, -7.0, 0.1]), torch.tensor([-3.0, -3.0, -5.0]), 5), "means far outside, and a needle"),
        Input((torch.tensor([0.5, 20.0]), torch.tensor([2.0, 1.0]), 4), "wide laws"),
    ]


def _inner(num_levels: int) -> Tensor:
    """The ends between the cells, (K - 1,)."""
    return 2 * torch.arange(1, num_levels) / num_levels - 1


def _middles(num_levels: int) -> Tensor:
    """What the levels stand for, (K,)."""
    return (2 * torch.arange(num_levels) + 1) / num_levels - 1


def _log_masses(mean: Tensor, log_scale: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """The log mass between `low` and `high`, (K,) each, without cancellation: (..., K)."""
    a, b = ((end - mean[..., None]) / log_scale[..., None].exp() for end in (low, high))
    return logsigmoid(b) + logsigmoid(-a) + torch.log(-torch.expm1(a - b))


def _opened(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """The cells with the first reaching to minus infinity and the last to infinity."""
    return pad(low[1:], (1, 0), value=-torch.inf), pad(high[:-1], (0, 1), value=torch.inf)


def _differences(mean: Tensor, log_scale: Tensor, num_levels: int) -> Tensor:
    """The masses as differences of the distribution function, (..., K)."""
    ends = pad(pad(_inner(num_levels), (1, 0), value=-torch.inf), (0, 1), value=torch.inf)
    return torch.sigmoid((ends - mean[..., None]) / log_scale[..., None].exp()).diff()


def _log_density(mean: Tensor, log_scale: Tensor, num_levels: int) -> Tensor:
    """The log-density at the levels, (..., K)."""
    z = (_middles(num_levels) - mean[..., None]) / log_scale[..., None].exp()
    return -z - 2 * softplus(-z) - log_scale[..., None]


def _switched(mean: Tensor, log_scale: Tensor, num_levels: int) -> Tensor:
    mass, width = _differences(mean, log_scale, num_levels), torch.tensor(2 / num_levels)
    small = _log_density(mean, log_scale, num_levels) + width.log()
    return torch.where(mass > 1e-5, mass.clamp(min=1e-12).log(), small)


def _right_ends(mean: Tensor, log_scale: Tensor, inner: Tensor) -> Tensor:
    """The log masses (..., K) with those of the two end cells put right."""
    right = logistic_log_mass(mean, log_scale, inner.shape[-1])
    return torch.cat([right[..., :1], inner[..., 1:-1], right[..., -1:]], dim=-1)


def _around(points: Tensor, half: float) -> tuple[Tensor, Tensor]:
    return points - half, points + half


CONTRACT = Contract(
    logistic_log_mass,
    _logistics,
    {
        "ends closed": (
            lambda m, s, n: _log_masses(m, s, *_around(_middles(n), 1 / n)),
            "the end cells stop at -1 and 1, so that the masses do not sum to one; let them reach to infinity",
        ),
        "density times width": (
            lambda m, s, n: _log_density(m, s, n) + torch.tensor(2 / n).log(),
            "takes the density times the width of the cell; that may exceed 1: take the difference of the distribution"
            " function",
        ),
        "density": (
            _log_density,
            "this is the log-density at the level; the mass is what its cell holds, a difference of sigmoids",
        ),
        "density, normalised": (
            lambda m, s, n: _log_density(m, s, n).log_softmax(-1),
            "normalises the densities over the levels, which is another law: mass is the difference of sigmoids over"
            " the cell",
        ),
        "cancellation": (
            lambda m, s, n: _differences(m, s, n).log(),
            "right near the mean, but far away two sigmoids are equal in floating point, and the log is -inf; use"
            " logsigmoid and expm1",
        ),
        "cancellation inside": (
            lambda m, s, n: _right_ends(m, s, _differences(m, s, n).log()),
            "right at the ends, but far from the mean an inner cell's two sigmoids are equal in floating point: log 0;"
            " use logsigmoid and expm1",
        ),
        "a small number in the log": (
            lambda m, s, n: _differences(m, s, n).clamp(min=1e-12).log(),
            "cuts the mass at 1e-12, where no gradient is left to bring the mean back; use logsigmoid and expm1",
        ),
        "the published switch": (
            lambda m, s, n: _right_ends(m, s, _switched(m, s, n)),
            "below a mass of 1e-5 this is the density times the width, as in PixelCNN++, which is wrong for a narrow"
            " law; use expm1",
        ),
        "end to end": (
            lambda m, s, n: _log_masses(m, s, *_opened(*_around(2 * torch.arange(n) / (n - 1) - 1, 1 / (n - 1)))),
            "puts the end levels on -1 and 1, 2k/(K-1) - 1; level k is in the middle of its cell, (2k + 1)/K - 1",
        ),
        "left edge": (
            lambda m, s, n: _log_masses(m, s, *_opened(*_around(_middles(n) - 1 / n, 1 / n))),
            "puts level k at 2k/K - 1, the left edge of its cell; it stands for the middle, (2k + 1)/K - 1",
        ),
        "half the width": (
            lambda m, s, n: _log_masses(m, s, *_opened(*_around(_middles(n), 0.5 / n))),
            "the cells are half as wide as they should be, with gaps between them; they reach 1/K to either side",
        ),
        "twice the width": (
            lambda m, s, n: _log_masses(m, s, *_opened(*_around(_middles(n), 2 / n))),
            "the cells are twice as wide as they should be, and overlap; they reach 1/K to either side",
        ),
        "log_scale as scale": (
            lambda m, s, n: _log_masses(m, s.log(), *_opened(*_around(_middles(n), 1 / n))),
            "takes log_scale for the scale; divide by exp(log_scale)",
        ),
        "multiplied by the scale": (
            lambda m, s, n: logistic_log_mass(m, -s, n),
            "multiplies by the scale; the distance to the mean is divided by it: exp(-log_scale)",
        ),
        "the mean's sign": (
            lambda m, s, n: logistic_log_mass(-m, s, n),
            "the law is mirrored: subtract the mean from the ends of the cells, and let level 0 be the lowest",
        ),
        "not the log": (
            lambda m, s, n: logistic_log_mass(m, s, n).exp(),
            "these are the masses; return their logs, without taking the log of a mass that has underflowed",
        ),
    },
)
