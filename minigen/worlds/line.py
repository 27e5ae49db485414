"""The real line as a quadrature grid: one dimension, where every integral of a derivation can be computed."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from minigen.data.checks import need_count, need_number


class Line:
    """Functions on an interval, as float64 tensors (points,) of their values at evenly spaced points.

    Densities are given by their logarithm, in nats. Integrals are trapezoid sums, exact to about 1e-12 for smooth
    functions that vanish at both ends; gradients pass through them.

    low, high: the ends; take them where the densities have vanished. points: number of points.

    >>> line = Line()
    >>> round(line.kl(line.normal(0.0, 1.0), line.normal(1.0, 1.0)).item(), 6)
    0.5
    """

    def __init__(self, low: float = -9.0, high: float = 9.0, points: int = 20_001) -> None:
        need_number("low", low)
        need_number("high", high, low=low, open=True)
        need_count("points", points, least=2)
        self.x = torch.linspace(low, high, points, dtype=torch.float64)
        self.dx = (high - low) / (points - 1)

    def integral(self, values: Tensor) -> Tensor:
        """The integral of a function over the interval."""
        self._need_values(values)
        return torch.trapezoid(values, dx=self.dx)

    def _need_values(self, *functions: Tensor) -> None:
        """Refuse what has not a value at each point, or at one for all."""
        for values in functions:
            if not values.ndim or values.shape[-1] not in (1, len(self.x)):
                n = len(self.x)
                raise ValueError(f"a function must be its values at the {n} points, ({n},); got {tuple(values.shape)}")

    def mean(self, log_p: Tensor, values: Tensor) -> Tensor:
        """The expectation of a function under a density."""
        self._need_values(log_p, values)
        return self.integral(log_p.exp() * values)

    def normal(self, mean: float | Tensor = 0.0, std: float | Tensor = 1.0) -> Tensor:
        """Log-density of a Gaussian, differentiable by its parameters."""
        std = torch.as_tensor(std, dtype=torch.float64)
        if not (std > 0).all():
            raise ValueError(f"std must be above 0; got {std.min():g}")
        return -0.5 * ((self.x - mean) / std) ** 2 - std.log() - 0.5 * math.log(2 * math.pi)

    def mixture(self, *log_densities: Tensor) -> Tensor:
        """Log-density of the mixture of equal parts."""
        if not log_densities:
            raise ValueError("a mixture must have one density or more; got none")
        self._need_values(*log_densities)
        return torch.logsumexp(torch.stack(log_densities), dim=0) - math.log(len(log_densities))

    def kl(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """KL(p || q) = integral of p log(p / q), nats."""
        self._need_values(log_p, log_q)
        return self.mean(log_p, log_p - log_q)

    def js(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """Jensen-Shannon divergence, nats: the mean KL divergence of p and q to their mixture. At most log 2."""
        log_m = self.mixture(log_p, log_q)
        return 0.5 * self.kl(log_p, log_m) + 0.5 * self.kl(log_q, log_m)

    def tv(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """Total variation, half the integral of |p - q|: the largest gap in any event's probability. At most 1."""
        self._need_values(log_p, log_q)
        return 0.5 * self.integral((log_p.exp() - log_q.exp()).abs())

    def cdf(self, log_p: Tensor) -> Tensor:
        """The distribution function at the points: the probability to the left of each."""
        self._need_values(log_p)
        return torch.cat([self.x.new_zeros(1), torch.cumulative_trapezoid(log_p.exp(), dx=self.dx)])

    def wasserstein1(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """Wasserstein-1, in units of x: the integral of |F - G|, the distance of the distribution functions."""
        return self.integral((self.cdf(log_p) - self.cdf(log_q)).abs())
