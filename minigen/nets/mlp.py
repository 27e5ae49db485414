"""Fully connected networks: of GANs and autoencoders of the first papers' kind, and a denoiser of points."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from minigen.data.checks import need_batch, need_scaled
from minigen.nets.embeddings import sinusoidal


def mlp(widths: Sequence[int], *, activation: Callable[[], nn.Module] = nn.ReLU) -> nn.Sequential:
    """Linear layers of the given widths, an activation between each two.

    widths: input, hidden..., output; at least two numbers. activation: makes a module, such as `nn.ReLU`.
    """
    if len(widths) < 2:
        raise ValueError(f"widths are input, hidden..., output: at least two numbers; got {list(widths)}")
    layers: list[nn.Module] = []
    for index, (n_in, n_out) in enumerate(itertools.pairwise(widths)):
        if index:
            layers.append(activation())
        layers.append(nn.Linear(n_in, n_out))
    return nn.Sequential(*layers)


class MLPGenerator(nn.Module):
    """Latent (B, latent) to a sample (B, *shape), through ReLU layers.

    bounded: end in tanh, for images in [-1, 1]; off for points in the plane.
    activation: of the hidden layers; tanh is smoother, which suits narrow modes in the plane.
    scale: the latent is multiplied by it; 2 lets tanh layers turn more sharply.
    Source: Goodfellow et al. 2014, section 5 (rectifier and sigmoid activations in G; here tanh for the range [-1, 1],
    as Radford et al. 2016, section 3).

    >>> MLPGenerator(16, (1, 8, 8))(torch.randn(4, 16)).shape
    torch.Size([4, 1, 8, 8])
    """

    def __init__(
        self,
        latent: int,
        shape: Sequence[int],
        *,
        hidden: Sequence[int] = (256, 256),
        bounded: bool = True,
        activation: Callable[[], nn.Module] = nn.ReLU,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.latent, self.shape, self.bounded, self.scale = latent, tuple(shape), bounded, scale
        self.net = mlp([latent, *hidden, math.prod(shape)], activation=activation)

    def forward(self, z: Tensor) -> Tensor:
        """(B, latent) to (B, *shape). Another shape is a ValueError."""
        if z.ndim != 2 or z.shape[1] != self.latent:
            raise ValueError(f"latent must be (B, {self.latent}); got {tuple(z.shape)}")
        x: Tensor = self.net(z * self.scale).unflatten(1, self.shape)  # (B, *shape)
        return torch.tanh(x) if self.bounded else x


class MLPDiscriminator(nn.Module):
    """A sample (B, *shape) to a logit (B,), through LeakyReLU(0.2) layers (Radford et al. 2016, section 3).

    scale: the input is multiplied by it, so that the structure to be seen is of order 1.
    """

    def __init__(self, shape: Sequence[int], *, hidden: Sequence[int] = (256, 256), scale: float = 1.0):
        super().__init__()
        self.shape, self.scale = tuple(shape), scale
        self.net = mlp([math.prod(shape), *hidden, 1], activation=lambda: nn.LeakyReLU(0.2))

    def forward(self, x: Tensor) -> Tensor:
        """(B, *shape) to logits (B,). Another shape is a ValueError."""
        need_batch("samples", x, *self.shape)
        logits: Tensor = self.net(x.flatten(1) * self.scale)  # (B, 1)
        return logits.squeeze(1)  # (B,)


class MLPEncoder(nn.Module):
    """A sample (B, *shape) to mean and log_std of a diagonal Gaussian over latents, both (B, latent)."""

    def __init__(
        self,
        shape: Sequence[int],
        latent: int,
        *,
        hidden: Sequence[int] = (256, 256),
        activation: Callable[[], nn.Module] = nn.ReLU,
    ) -> None:
        super().__init__()
        self.shape, self.latent = tuple(shape), latent
        self.net = mlp([math.prod(shape), *hidden, 2 * latent], activation=activation)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, *shape) to two of (B, latent). Another shape is a ValueError."""
        need_batch("samples", x, *self.shape)
        mean, log_std = self.net(x.flatten(1)).chunk(2, dim=1)
        return mean, log_std


class LinearEncoder(nn.Module):
    """Images (B, dims) to a linear mean and one log_std for each latent, the same for all images: both (B, latent).

    What the exact posterior of a linear-Gaussian model with orthogonal columns needs, and no more. Lucas et al. 2019.
    """

    def __init__(self, dims: int, latent: int) -> None:
        super().__init__()
        self.mean, self.log_std = nn.Linear(dims, latent), nn.Parameter(torch.zeros(latent))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, dims) to two of (B, latent). Another shape is a ValueError."""
        need_batch("images", x, self.mean.in_features)
        mean: Tensor = self.mean(x)
        return mean, self.log_std.expand_as(mean)


class MLPDenoiser(nn.Module):
    """Points (B, D) and log-SNR (B,), in nats, to (B, D): what a `Denoiser` of points asks for.

    hidden: widths of the hidden layers. features: of the noise level.
    """

    def __init__(self, dim: int, *, hidden: Sequence[int] = (128, 128, 128), features: int = 32) -> None:
        super().__init__()
        self.dim, self.features = dim, features
        self.net = mlp([dim + features, *hidden, dim], activation=nn.SiLU)

    def forward(self, x: Tensor, log_snr: Tensor) -> Tensor:
        """Points x (B, D) at levels log_snr (B,) to what the network is to predict, (B, D)."""
        if x.ndim != 2 or x.shape[1] != self.dim or log_snr.shape != (len(x),):
            wanted = f"points must be (B, {self.dim}) and log_snr (B,)"
            raise ValueError(f"{wanted}; got {tuple(x.shape)} and {tuple(log_snr.shape)}")
        need_scaled("points", x)
        out: Tensor = self.net(torch.cat([x, sinusoidal(log_snr, self.features)], dim=1))
        return out
