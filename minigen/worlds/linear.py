"""The linear-Gaussian model: the latent variable model whose evidence, posterior and bound have closed forms."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from minigen.data.checks import need_count, need_finite, need_float, need_numbers, need_shape


class Guess(NamedTuple):
    """A Gaussian over codes for each image: its mean (B, J), and one covariance (J, J) for all."""

    mean: Tensor
    cov: Tensor


class LinearGaussian:
    """x = A z + b + std * noise, with z and noise standard normal. Bishop 2006, section 12.2.

    A: (d, J). b: (d,). std: a number. Images are (B, d), codes (B, J); log-densities are in nats, (B,). Everything
    follows the dtype of A; give float64 for checks.

    >>> model = LinearGaussian(torch.tensor([[1.0], [1.0]]), torch.zeros(2), 1.0)
    >>> round(model.posterior(torch.ones(1, 2)).mean.item(), 4)  # a'x / (a'a + 1)
    0.6667
    """

    def __init__(self, A: Tensor, b: Tensor, std: Tensor | float) -> None:
        need_float("A", A, todo="weights of a linear map")
        need_shape("A", A, "d", "J")
        need_shape("b", b, len(A))
        need_finite("A", A.detach(), todo="weights of a linear map are numbers")
        need_finite("b", b.detach(), todo="the mean image is")
        if torch.as_tensor(std).numel() != 1 or not 0 < float(std) < math.inf:
            raise ValueError(f"std must be one finite number above 0; got {std}")
        self.A, self.b, self.std = A, b, torch.as_tensor(std, dtype=A.dtype)
        self.dims, self.latent = A.shape

    @classmethod
    def fit(cls, x: Tensor, latent: int) -> LinearGaussian:
        """The model of greatest likelihood for images (N, d): probabilistic principal component analysis.

        Tipping and Bishop 1999, eq. 7 and 8, with orthogonal columns. latent: below d.
        """
        need_numbers("x", x)
        need_shape("x", x, "N", "d")
        if len(x) < 2:
            raise ValueError(f"x must be (N, d), N at least 2; got {tuple(x.shape)}")
        need_count("latent", latent)
        if not 1 <= latent < x.shape[1]:
            raise ValueError(f"latent must be in 1..{x.shape[1] - 1}, below the number of entries; got {latent}")
        values, vectors = torch.linalg.eigh(torch.cov(x.T, correction=0))  # ascending
        variance = values[:-latent].mean()
        scale = (values[-latent:] - variance).clamp(min=0).sqrt()
        return cls((vectors[:, -latent:] * scale).flip(1), x.mean(0), variance.sqrt())

    def rotate(self, turn: Tensor) -> LinearGaussian:
        """The same distribution of images with codes turned by an orthogonal matrix (J, J)."""
        need_shape("turn", turn, self.latent, self.latent)
        eye = torch.eye(self.latent, dtype=turn.dtype)
        if not torch.allclose(turn @ turn.T, eye, atol=1e-4):
            raise ValueError(
                "turn must be orthogonal, turn @ turn.T = I; got another matrix: torch.linalg.qr gives one"
            )
        return LinearGaussian(self.A @ turn, self.b, self.std)

    def _need_images(self, x: Tensor) -> None:
        if not x.ndim or x.shape[-1] != self.dims:
            raise ValueError(f"images must be (..., {self.dims}); got {tuple(x.shape)}")

    def log_prob(self, x: Tensor) -> Tensor:
        """The evidence, log N(x; b, A A' + std^2 I)."""
        self._need_images(x)
        cov = self.A @ self.A.T + self.std**2 * torch.eye(self.dims, dtype=self.A.dtype)
        found: Tensor = MultivariateNormal(self.b, cov).log_prob(x)  # type: ignore[no-untyped-call]
        return found

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        """log p(x | z); the leading dimensions of x and z broadcast."""
        if x.shape[-1] != self.dims or z.shape[-1] != self.latent:
            got = f"{tuple(x.shape)} and {tuple(z.shape)}"
            raise ValueError(f"x must be (..., {self.dims}) and z (..., {self.latent}); got {got}")
        error = (x - self.b - z @ self.A.T).square().sum(-1)
        return -error / (2 * self.std**2) - self.dims / 2 * torch.log(2 * math.pi * self.std**2)

    def posterior(self, x: Tensor, *, beta: Tensor | float = 1.0) -> Guess:
        """p(z | x); with `beta` the guess of least distortion + beta * rate, the posterior for variance beta std^2."""
        self._need_images(x)
        if not torch.as_tensor(beta) > 0:
            raise ValueError(f"beta must be above 0; got {beta}")
        variance = beta * self.std**2
        cov = torch.linalg.inv(torch.eye(self.latent, dtype=self.A.dtype) + self.A.T @ self.A / variance)
        return Guess((x - self.b) @ self.A @ cov / variance, cov)

    def distortion(self, x: Tensor, guess: Guess) -> Tensor:
        """E_q[-log p(x | z)] of a Gaussian guess."""
        blur = torch.trace(self.A @ guess.cov @ self.A.T)
        return blur / (2 * self.std**2) - self.log_likelihood(x, guess.mean)

    def rate(self, guess: Guess) -> Tensor:
        """KL(q || N(0, I)) of a Gaussian guess."""
        spread = torch.trace(guess.cov) - self.latent - torch.logdet(guess.cov)
        return 0.5 * (guess.mean.square().sum(-1) + spread)
