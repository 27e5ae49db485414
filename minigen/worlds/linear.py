"""The linear-Gaussian model: the latent variable model whose evidence, posterior and bound have closed forms."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import MultivariateNormal


class Guess(NamedTuple):
    """A Gaussian over codes for each image: its mean (B, J), and one covariance (J, J) for all."""

    mean: Tensor
    cov: Tensor


class LinearGaussian:
    """x = A z + b + std * noise, with z and noise standard normal. Bishop 2006, section 12.2.

    A: (d, J). b: (d,). std: a number. Images are (B, d), codes (B, J); log-densities are in nats, (B,). Everything
    follows the dtype of A; give float64 for checks.
    """

    def __init__(self, A: Tensor, b: Tensor, std: Tensor | float) -> None:
        self.A, self.b, self.std = A, b, torch.as_tensor(std, dtype=A.dtype)
        self.dims, self.latent = A.shape

    @classmethod
    def fit(cls, x: Tensor, latent: int) -> LinearGaussian:
        """The model of greatest likelihood for images (N, d): probabilistic principal component analysis.

        Tipping and Bishop 1999, eq. 7 and 8, with orthogonal columns. latent: below d.
        """
        if not 1 <= latent < x.shape[1]:
            raise ValueError(f"latent must be in 1..{x.shape[1] - 1}, below the number of entries; got {latent}")
        values, vectors = torch.linalg.eigh(torch.cov(x.T, correction=0))  # ascending
        variance = values[:-latent].mean()
        scale = (values[-latent:] - variance).clamp(min=0).sqrt()
        return cls((vectors[:, -latent:] * scale).flip(1), x.mean(0), variance.sqrt())

    def rotate(self, turn: Tensor) -> LinearGaussian:
        """The same distribution of images with codes turned by an orthogonal matrix (J, J)."""
        return LinearGaussian(self.A @ turn, self.b, self.std)

    def log_prob(self, x: Tensor) -> Tensor:
        """The evidence, log N(x; b, A A' + std^2 I)."""
        cov = self.A @ self.A.T + self.std**2 * torch.eye(self.dims, dtype=self.A.dtype)
        found: Tensor = MultivariateNormal(self.b, cov).log_prob(x)  # type: ignore[no-untyped-call]
        return found

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        """log p(x | z); the leading dimensions of x and z broadcast."""
        error = (x - self.b - z @ self.A.T).square().sum(-1)
        return -error / (2 * self.std**2) - self.dims / 2 * torch.log(2 * math.pi * self.std**2)

    def posterior(self, x: Tensor, *, beta: Tensor | float = 1.0) -> Guess:
        """p(z | x); with `beta` the guess of least distortion + beta * rate, the posterior for variance beta std^2."""
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
