"""Gaussian mixtures: toys whose density, score, denoiser, entropy and optimal discriminator are all known."""

import math

import numpy as np
import torch
from torch import Tensor

from minigen.data.checks import need_count, need_finite, need_number

from .precision import Device, drawing_device, exact, like


class GaussianMixture:
    """p(x) = sum_k weights_k N(x; means_k, covariances_k) in R^D, computed in float64.

    Points are `(..., D)`, of any float type; answers have that type and stand on that device.

    Args:
        means: (K, D).
        std: one standard deviation for all components, or one for each (K,); spherical components.
        covariances: (K, D, D), instead of `std`.
        weights: (K,) not negative, normalised here; equal if left out.

    Raises:
        ValueError: for shapes that do not match, not exactly one of `std` and `covariances`, a scale that is not
            positive (definite) and symmetric, negative weights, or NaN and infinity in any of them.

    >>> world = GaussianMixture(torch.tensor([[-2.0], [2.0]]), std=1.0)
    >>> world.log_prob(torch.tensor([[0.0], [2.0]])).exp()
    tensor([0.0540, 0.1995])
    >>> world.denoise(torch.tensor([[1.0]]), 0.6, 0.8).shape  # E[x_0 | x_t] at alpha 0.6, sigma 0.8
    torch.Size([1, 1])
    """

    def __init__(
        self,
        means: Tensor,
        *,
        std: float | Tensor | None = None,
        covariances: Tensor | None = None,
        weights: Tensor | None = None,
    ) -> None:
        if not isinstance(means, Tensor) or means.ndim != 2 or not means.numel():
            got = tuple(means.shape) if isinstance(means, Tensor) else type(means).__name__
            raise ValueError(f"means must be (K, D); got {got}")
        modes, dim = means.shape
        if (std is None) == (covariances is None):
            given = "neither" if std is None else "both"
            raise ValueError(f"give exactly one of std= and covariances=; got {given}")
        need_finite("means", means.cpu(), todo="a mode stands somewhere")
        if covariances is None:
            scale = torch.as_tensor(std, dtype=torch.float64, device="cpu")
            if scale.shape not in [(), (modes,)] or not ((scale > 0) & scale.isfinite()).all():
                raise ValueError(f"std must be positive, one number or ({modes},) of them; got {std}")
            covariances = scale.expand(modes)[:, None, None].square() * torch.eye(dim, dtype=torch.float64)
        elif covariances.shape != (modes, dim, dim):
            raise ValueError(f"covariances must be {(modes, dim, dim)}; got {tuple(covariances.shape)}")
        else:
            need_finite("covariances", covariances.cpu(), todo="a spread is a number")
            if not torch.allclose(covariances, covariances.mT, rtol=1e-5, atol=1e-6 * float(covariances.abs().max())):
                raise ValueError(
                    "covariances must be symmetric; got others: (C + C.mT) / 2 is, if only rounding is off"
                )
        weights = torch.ones(modes) if weights is None else weights
        if weights.shape != (modes,) or not (weights >= 0).all() or not 0 < weights.sum() < math.inf:
            raise ValueError(f"weights must be ({modes},), none negative, with a positive sum; got {weights}")

        self.means = exact(means.detach().cpu())
        self.covariances = exact(covariances.detach().cpu())
        self.weights = exact(weights.detach().cpu()) / exact(weights.detach().cpu()).sum()
        cholesky, failed = torch.linalg.cholesky_ex(self.covariances)
        if failed.any():
            raise ValueError(f"covariances must be positive definite; those of components {failed.nonzero()} are not")
        self._cholesky = cholesky
        self._whitening = torch.linalg.inv(cholesky)
        log_volume = cholesky.diagonal(dim1=1, dim2=2).log().sum(1) + dim / 2 * math.log(2 * math.pi)
        self._log_peak = self.weights.log() - log_volume  # log of weight times density at the mean

    @classmethod
    def ring(cls, *, modes: int = 8, radius: float = 1.0, std: float = 0.01) -> "GaussianMixture":
        """`modes` components evenly on a circle; the defaults are the 2D ring of Srivastava et al. 2017 (VEEGAN) with
        the variance 1e-4 of Lin et al. 2018 (PacGAN, section 4.1)."""
        need_count("modes", modes)
        angle = 2 * math.pi * torch.arange(modes, dtype=torch.float64) / modes
        return cls(radius * torch.stack([angle.cos(), angle.sin()], dim=1), std=std)

    @classmethod
    def grid(cls, *, side: int = 5, spacing: float = 2.0, std: float = 0.05) -> "GaussianMixture":
        """`side` x `side` components centred on 0; the defaults are the 2D grid {-4, -2, 0, 2, 4}^2 of Srivastava et
        al. 2017 (VEEGAN) with the variance 0.0025 of Lin et al. 2018 (PacGAN, section 4.1)."""
        need_count("side", side)
        axis = spacing * (torch.arange(side, dtype=torch.float64) - (side - 1) / 2)
        return cls(torch.cartesian_prod(axis, axis), std=std)

    @classmethod
    def spiral(
        cls, *, modes: int = 20, turns: float = 2.0, radius: float = 1.0, std: float = 0.02
    ) -> "GaussianMixture":
        """`modes` components along an Archimedean spiral that ends at `radius`, about equally far from each other.

        The arc grows as the angle squared, hence the square root. The defaults keep neighbours 15 std apart.
        """
        need_count("modes", modes)
        share = (torch.arange(1, modes + 1, dtype=torch.float64) / modes).sqrt()
        angle = 2 * math.pi * turns * share
        return cls(radius * share[:, None] * torch.stack([angle.cos(), angle.sin()], dim=1), std=std)

    def __len__(self) -> int:
        return len(self.means)

    @property
    def dim(self) -> int:
        """Number of coordinates of a point."""
        return self.means.shape[1]

    def sample(self, n: int, *, generator: torch.Generator | None = None, device: Device = None) -> Tensor:
        """(n, D) points of torch's default type, drawn where `generator` lives and moved to `device`."""
        return self.sample_with_labels(n, generator=generator, device=device)[0]

    def sample_with_labels(
        self, n: int, *, generator: torch.Generator | None = None, device: Device = None
    ) -> tuple[Tensor, Tensor]:
        """Points (n, D) and the component (n,) that each was drawn from."""
        need_count("n", n)
        drawn_on = drawing_device(generator, device)
        dtype = torch.get_default_dtype()
        weights = self.weights.to(dtype).to(drawn_on)
        labels = torch.multinomial(weights, n, replacement=True, generator=generator)
        z = torch.randn(n, self.dim, generator=generator, device=drawn_on)
        means, cholesky = self.means.to(dtype).to(drawn_on), self._cholesky.to(dtype).to(drawn_on)
        x = means[labels] + torch.einsum("nde,ne->nd", cholesky[labels], z)
        return x.to(device or drawn_on), labels.to(device or drawn_on)

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) in nats, (...,)."""
        return like(self._log_joint(self._whiten(x)).logsumexp(-1), x)

    def posterior(self, x: Tensor) -> Tensor:
        """Responsibilities p(k | x), (..., K)."""
        return like(self._log_joint(self._whiten(x)).softmax(-1), x)

    def mahalanobis(self, x: Tensor) -> Tensor:
        """Distance of every point to every mean in standard deviations of that component, (..., K)."""
        return like(self._whiten(x).norm(dim=-1), x)

    def score(self, x: Tensor) -> Tensor:
        """Gradient of log p at x, (..., D)."""
        white = self._whiten(x)
        responsibility = self._log_joint(white).softmax(-1)
        pull = torch.einsum("ked,...ke->...kd", self._whitening.to(white.device), white)
        return like(-(responsibility[..., None] * pull).sum(-2), x)

    def marginal(self, alpha: float, sigma: float) -> "GaussianMixture":
        """The mixture that x_t = alpha x_0 + sigma eps follows, with x_0 from this one and eps standard normal."""
        need_number("alpha", alpha, low=0)
        need_number("sigma", sigma, low=0)
        if not (alpha or sigma):
            raise ValueError("alpha and sigma must not both be 0: x_t would be 0 whatever the image; got 0 and 0")
        eye = torch.eye(self.dim, dtype=torch.float64)
        covariances = alpha**2 * self.covariances + sigma**2 * eye
        return GaussianMixture(alpha * self.means, covariances=covariances, weights=self.weights)

    def denoise(self, x_t: Tensor, alpha: float | Tensor, sigma: float | Tensor) -> Tensor:
        """E[x_0 | x_t], (..., D), where x_t = alpha x_0 + sigma eps: what a perfect denoiser returns.

        Given component k, x_0 and x_t are jointly Gaussian, so E[x_0 | x_t, k] is linear in x_t (the Kalman gain);
        the posterior p(k | x_t) averages over components. alpha, sigma: numbers, or one for each point (B,) of (B, D).
        """
        if isinstance(alpha, Tensor) or isinstance(sigma, Tensor):
            for name, part in (("alpha", alpha), ("sigma", sigma)):
                if isinstance(part, Tensor) and part.numel() not in (1, len(x_t)):
                    raise ValueError(f"{name} must be a number or ({len(x_t)},); got {tuple(part.shape)}")
            a, s = (torch.as_tensor(part, dtype=torch.float64, device="cpu").view(-1) for part in (alpha, sigma))
            rows = max(len(a), len(s))
            levels, which = torch.stack([a.expand(rows), s.expand(rows)], 1).unique(dim=0, return_inverse=True)  # type: ignore[no-untyped-call]
            found = torch.empty_like(x_t)
            for i, level in enumerate(levels.tolist()):
                here = ... if len(levels) == 1 else (which == i).to(x_t.device)
                found[here] = self.denoise(x_t[here], *level)
            return found
        marginal = self.marginal(alpha, sigma)
        white = marginal._whiten(x_t)
        responsibility = marginal._log_joint(white).softmax(-1)
        gain = alpha * self.covariances @ marginal._whitening.mT  # takes the whitened x_t - alpha mean
        means = self.means.to(white.device) + torch.einsum("kde,...ke->...kd", gain.to(white.device), white)
        return like((responsibility[..., None] * means).sum(-2), x_t)

    def optimal_logit(self, x: Tensor, log_q: "GaussianMixture | Tensor") -> Tensor:
        """log p(x) - log q(x), (...,): sigmoid of it is the best discriminator of p (real) from q (generated).

        Goodfellow et al. 2014, Proposition 1. `log_q` is q itself or its log-density (...,) at x, in nats.
        """
        q = log_q.log_prob(exact(x)) if isinstance(log_q, GaussianMixture) else exact(log_q)
        p = self.log_prob(exact(x))
        if p.shape != q.shape:
            raise ValueError(f"log_q must have the shape {tuple(p.shape)} of the points; got {tuple(q.shape)}")
        return like(p - q, x)

    def entropy(self) -> float:
        """-E log p in nats for D = 1 or 2, by quadrature, with an error below 1e-9.

        The plane is cut into squares, each halved until it is at most twice as wide as the smallest standard deviation
        of any component that reaches it; a Gauss-Legendre rule of 16 points per side integrates each. So narrow
        components inside wide ones are resolved too. The mass found on the way must be 1.

        Raises:
            ValueError: in more than two dimensions; use the mean of -log_prob over samples there.
        """
        if self.dim > 2:
            raise ValueError(f"entropy is exact for D = 1 or 2, not D = {self.dim}; average -log_prob over samples")
        nodes, node_weights = (torch.from_numpy(a) for a in np.polynomial.legendre.leggauss(16))
        nodes = torch.cartesian_prod(*[nodes] * self.dim).view(-1, self.dim)
        node_weights = torch.cartesian_prod(*[node_weights] * self.dim).view(-1, self.dim).prod(1)
        corners = torch.cartesian_prod(*[torch.tensor([-0.5, 0.5], dtype=torch.float64)] * self.dim).view(-1, self.dim)

        reach = 8.5 * self.covariances.diagonal(dim1=1, dim2=2).sqrt()  # (K, D); beyond it lies a mass of 1e-16
        finest = torch.linalg.eigvalsh(self.covariances)[:, 0].sqrt()  # (K,)
        low, high = (self.means - reach).amin(0), (self.means + reach).amax(0)
        cells, half = ((low + high) / 2)[None], float((high - low).max()) / 2
        mass = entropy = 0.0
        while len(cells):
            reached = ((cells[:, None] - self.means).abs() <= reach + half).all(-1) & (self.weights > 0)  # (cells, K)
            width = torch.where(reached, finest, math.inf).amin(1)
            split = width < half
            for leaves in torch.split(cells[~split & reached.any(1)], 256):
                log_p = self.log_prob(leaves[:, None] + half * nodes)  # (cells, nodes)
                p = log_p.exp() * node_weights * half**self.dim
                mass, entropy = mass + float(p.sum()), entropy - float((p * log_p).sum())
            cells = (cells[split][:, None] + half * corners).flatten(0, 1)
            half /= 2
        if abs(mass - 1) > 1e-9:
            raise RuntimeError(f"the quadrature found a mass of {mass} instead of 1; please report this mixture")
        return entropy

    def _whiten(self, x: Tensor) -> Tensor:
        """(..., K, D): x as seen from every component, in its standard deviations. Differences first: expanding the
        square would cancel."""
        if x.ndim < 1 or x.shape[-1] != self.dim or not x.is_floating_point():
            raise ValueError(f"points must be floats (..., {self.dim}); got {x.dtype} {tuple(x.shape)}")
        x = exact(x)
        return torch.einsum("kde,...ke->...kd", self._whitening.to(x.device), x[..., None, :] - self.means.to(x.device))

    def _log_joint(self, white: Tensor) -> Tensor:
        """log p(x, k), (..., K), from the whitened points."""
        log_peak: Tensor = self._log_peak.to(white.device)
        return log_peak - white.square().sum(-1) / 2
