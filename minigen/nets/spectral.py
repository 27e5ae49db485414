"""Layers that lengthen nothing: spectral normalisation, and the Lipschitz bound that it gives (chapter 03)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.nn.utils.parametrizations import spectral_norm

from minigen.data.checks import need_count, need_float, need_shape

LINEAR = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d)
NO_STEEPER = (nn.ReLU, nn.LeakyReLU, nn.Tanh, nn.Sigmoid, nn.ELU, nn.Softplus, nn.Identity, nn.Flatten)  # than slope 1


def power_iteration(matrix: Tensor, v: Tensor, *, steps: int) -> tuple[Tensor, Tensor]:
    """An estimate of the largest singular value of a matrix (m, n), and the v (n,) to go on from. Miyato et al. 2018,
    Algorithm 1.

    Each step maps v to W v, back by W', and to length 1 again. The estimate |W v| is never above the truth. v: a vector
    other than 0, which must not be at a right angle to the truth's: draw it.
    """
    need_float("matrix", matrix)
    need_shape("matrix", matrix, "m", "n")
    need_shape("v", v, matrix.shape[1])
    need_count("steps", steps, least=0)
    v = normalize(v, dim=0)
    for _ in range(steps):
        v = normalize(matrix.T @ normalize(matrix @ v, dim=0), dim=0)
    return torch.linalg.vector_norm(matrix @ v), v


def spectrally_normalised(network: nn.Module) -> nn.Module:
    """The network, each of its linear and convolutional layers with its weight divided by its largest singular value.

    By torch's own `spectral_norm`: one step of power iteration at each forward in training mode, fifteen at the start.
    A convolution's kernel is normalised as a matrix (out, in * k * k), as Miyato et al. 2018, section 2.1, do: the map
    itself may still lengthen an image.
    """
    for layer in list(network.modules()):
        if isinstance(layer, LINEAR):
            spectral_norm(layer)
    return network


def lipschitz_bound(layers: nn.Sequential) -> Tensor:
    """A slope that no two points (D,) exceed: the product of the largest singular values of the linear layers, by SVD.

    Between them may stand what has slope 1 at most. Miyato et al. 2018, eq. 7. Raises TypeError for another layer.
    """
    bound = torch.ones(())
    for layer in layers:
        if isinstance(layer, nn.Linear):
            bound = bound * torch.linalg.matrix_norm(layer.weight.detach().double(), ord=2)
        elif not isinstance(layer, NO_STEEPER) or getattr(layer, "negative_slope", 0.0) > 1:
            raise TypeError(f"the bound is of linear layers and of slopes of at most 1; got {type(layer).__name__}")
    return bound
