"""Noise on templates: the two laws under which a `Shapes` image is observed."""

import math

import torch
from torch import Tensor

from .precision import exact


class GaussianNoise:
    """Every number of a template is seen plus independent Gaussian noise of standard deviation `std`."""

    def __init__(self, std: float) -> None:
        if not 0 < std < math.inf:
            raise ValueError(f"noise must be a positive standard deviation, a finite number; got {std}")
        self.std = std
        self.kl_per_distance = 1 / (2 * std**2)
        self.bhattacharyya_per_distance = 1 / (8 * std**2)

    def encode(self, x: Tensor) -> Tensor:
        """Images (..., d) as the other methods want them: in float64."""
        return exact(x)

    def distance(self, x: Tensor, templates: Tensor, alpha: Tensor | float = 1.0) -> Tensor:
        """Squared distance of encoded x (..., d) to alpha times every template: (..., N). In float64 the expanded
        square is right to 1e-11 nats; in float32 it would lose up to 0.1."""
        squares = x.square().sum(-1, keepdim=True) + alpha**2 * templates.square().sum(-1)
        return squares - 2 * alpha * (x @ templates.mT)

    def log_likelihood(self, x: Tensor, templates: Tensor, alpha: Tensor | float, sigma: Tensor | float) -> Tensor:
        """log p(x_t | template), (..., N), for x_t = alpha x_0 + sigma eps."""
        variance = self.variance(alpha, sigma)
        log_norm = torch.log(2 * math.pi * variance) * templates.shape[1]
        # The expanded square of `distance`, each factor where the tensors are small: (..., N) is passed over twice.
        of_x = x.square().sum(-1, keepdim=True) / variance + log_norm
        overlap = (x * (alpha / variance)) @ templates.mT
        return overlap.addcmul(templates.square().sum(-1), alpha**2 / variance, value=-0.5) - of_x / 2

    def variance(self, alpha: Tensor | float, sigma: Tensor | float) -> Tensor:
        """Variance of x_t = alpha x_0 + sigma eps around alpha times its template, for each alpha and sigma."""
        variance = torch.as_tensor(alpha**2 * self.std**2 + sigma**2)
        if not (variance > 0).all():
            raise ValueError("alpha and sigma must not both be 0")
        return variance

    def entropy_per_number(self) -> float:
        """Entropy of the noise of one number, nats."""
        return math.log(2 * math.pi * math.e * self.std**2) / 2

    def marginal_entropy(self, templates: Tensor, weights: Tensor) -> float:
        """Sum over the d numbers of the entropy of each alone, nats: a mixture of Gaussians at the values that the
        number takes, by the trapezoidal rule (whose error falls exponentially for such integrands).

        templates: (N, d); weights: (N,).
        """
        values, which = torch.unique(templates, return_inverse=True)  # (V,), (N, d)
        share = torch.stack([weights @ (which == v).double() for v in range(len(values))], dim=1)  # (d, V)
        share, repeats = torch.unique(share, dim=0, return_counts=True)
        reach, step = 10 * self.std, self.std / 16
        grid = torch.arange(float(values[0]) - reach, float(values[-1]) + reach, step, dtype=torch.float64)
        z = (grid - values[:, None]) / self.std
        log_kernel = -z.square() / 2 - math.log(self.std * math.sqrt(2 * math.pi))  # (V, M)
        entropies = [torch.special.entr(row @ log_kernel.exp()).sum() * step for row in share]
        return float(torch.stack(entropies) @ repeats.double())

    def corrupt(self, templates: Tensor, generator: torch.Generator | None) -> Tensor:
        """Templates (..., d) with noise on each number."""
        noise = torch.randn(templates.shape, generator=generator, dtype=templates.dtype, device=templates.device)
        return templates + self.std * noise


class FlipNoise:
    """Every level of a template is kept, or with probability `flip` becomes one of the other `levels` - 1, each equally
    likely."""

    def __init__(self, flip: float, levels: int) -> None:
        if levels < 2 or not 0 < flip < (levels - 1) / levels:
            raise ValueError(
                f"flip must be in (0, (levels - 1) / levels), levels at least 2; got {flip}, {levels} levels"
            )
        self.flip, self.levels = flip, levels
        self._log_keep, self._log_other = math.log1p(-flip), math.log(flip / (levels - 1))
        keep, other = 1 - flip, flip / (levels - 1)
        self.kl_per_distance = (keep - other) * (self._log_keep - self._log_other)
        self.bhattacharyya_per_distance = -math.log(2 * math.sqrt(keep * other) + (levels - 2) * other)

    def encode(self, x: Tensor) -> Tensor:
        """(..., d) levels to (..., d * levels) indicators. Counts of ones are exact in float32."""
        return torch.nn.functional.one_hot(x, self.levels).flatten(-2).to(torch.float32)

    def distance(self, x: Tensor, templates: Tensor) -> Tensor:
        """Number of differing levels between encoded x and every encoded template: (..., N)."""
        return exact(templates.shape[1] // self.levels - x @ templates.mT)

    def log_likelihood(self, x: Tensor, templates: Tensor, alpha: Tensor | float, sigma: Tensor | float) -> Tensor:
        """log P(levels | template), (..., N). alpha and sigma are those of Gaussian noise, and have no effect here."""
        differing = self.distance(x, templates)
        dim = templates.shape[1] // self.levels
        return dim * self._log_keep + differing * (self._log_other - self._log_keep)

    def entropy_per_number(self) -> float:
        """Entropy of the noise of one number, nats."""
        return -(1 - self.flip) * self._log_keep - self.flip * self._log_other

    def marginal_entropy(self, templates: Tensor, weights: Tensor) -> float:
        """Sum over the d numbers of the entropy of each alone, nats. templates: (N, d); weights: (N,)."""
        clean = torch.stack([weights @ (templates == level).double() for level in range(self.levels)])  # (K, d)
        other = self.flip / (self.levels - 1)
        return float(torch.special.entr(clean * (1 - self.flip) + (1 - clean) * other).sum())

    def corrupt(self, templates: Tensor, generator: torch.Generator | None) -> Tensor:
        """Templates (..., d) of levels, of which some have flipped."""
        flipped = torch.rand(templates.shape, generator=generator, device=templates.device) < self.flip
        jump = torch.randint(1, self.levels, templates.shape, generator=generator, device=templates.device)
        return torch.where(flipped, (templates + jump) % self.levels, templates)
