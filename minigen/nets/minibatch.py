"""Discriminators that see more than one sample at a time: statistics of a batch, and packing (chapter 03)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from minigen.data.checks import need_count, need_float, need_shape
from minigen.worlds.precision import widen


def closeness(rows: Tensor) -> Tensor:
    """Of rows (B, K, L) of K small vectors: sum over the other samples of exp(-|m_i - m_j|_1), (B, K).

    Salimans et al. 2016, section 3.2. Near B - 1 where all samples agree, near 0 where each stands alone. A sample is
    not counted as its own neighbour, which would add 1.
    """
    need_float("rows", rows)
    need_shape("rows", rows, "B", "K", "L")
    apart = (rows[:, None] - rows[None]).abs().sum(3)  # (B, B, K)
    near: Tensor = torch.exp(-apart).sum(1) - 1
    return near


class MinibatchDiscrimination(nn.Module):
    """Features (B, D) to (B, D + kernels): beside its own, how close each sample is to the others of its batch.

    Salimans et al. 2016, section 3.2; their numbers of kernels and of dimensions are 100 and 5. What a sample is judged
    by depends on its batch: real and generated samples must come in batches of their own, and no penalty on the
    gradient of a single sample fits. Under N processes each sees its own rows alone.
    """

    def __init__(self, features: int, *, kernels: int = 16, dims: int = 4) -> None:
        super().__init__()
        for name, n in (("features", features), ("kernels", kernels), ("dims", dims)):
            need_count(name, n)
        self.kernels, self.dims = kernels, dims
        self.map = nn.Linear(features, kernels * dims, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, D) to (B, D + kernels). Another shape is a ValueError."""
        need_shape("features", x, "B", self.map.in_features)
        rows = self.map(x).unflatten(1, (self.kernels, self.dims))  # (B, kernels, dims)
        return torch.cat([x, closeness(rows).to(x.dtype)], dim=1)


def minibatch_std(x: Tensor) -> Tensor:
    """The standard deviation over the batch of each number of a sample, averaged over the numbers: a scalar.

    x: (B, ...). Karras et al. 2018 (arXiv:1710.10196), section 3. 0 for a batch of copies. Its gradient is 0 there.
    """
    need_float("samples", x)
    variance = widen(x).flatten(1).var(0, correction=0)
    root: Tensor = torch.where(variance > 0, variance.clamp(min=1e-24).sqrt(), 0.0)
    return root.mean()


class MinibatchStd(nn.Module):
    """Features (B, F, h, w) with one more, `minibatch_std` of them, the same everywhere. Karras et al. 2018, section 3.

    Real and generated samples must come in batches of their own. Under N processes each sees its own rows alone.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, F, h, w) to (B, F + 1, h, w)."""
        need_shape("features", x, "B", "F", "h", "w")
        spread = minibatch_std(x).to(x.dtype).expand(len(x), 1, *x.shape[2:])
        return torch.cat([x, spread], dim=1)


class Packed(nn.Module):
    """A discriminator of packs: samples (B, *shape) to logits (B / pack,), one for `pack` samples side by side.

    Lin et al. 2018 (PacGAN). network: takes the packs, (B / pack, pack, *shape) with the first two sizes of a sample
    joined: points (2,) become (pack * 2,), images (C, H, W) become (pack * C, H, W). Each pack is all real or all
    generated. B must be a multiple of `pack`.
    """

    def __init__(self, network: nn.Module, pack: int) -> None:
        super().__init__()
        need_count("pack", pack)
        self.network, self.pack = network, pack

    def forward(self, x: Tensor) -> Tensor:
        """(B, *shape) to (B / pack,)."""
        if x.ndim < 2 or len(x) % self.pack:
            raise ValueError(f"samples must be (B, ...), B a multiple of pack = {self.pack}; got {tuple(x.shape)}")
        logits: Tensor = self.network(x.reshape(-1, self.pack * x.shape[1], *x.shape[2:]))
        return logits
