"""The exercise `wasserstein.spectral_norm`: the largest singular value of a matrix by power iteration."""

from __future__ import annotations

import torch
from torch import Tensor

from minigen.homework.contract import Contract, Input
from minigen.nets.spectral import power_iteration


def _matrices() -> list[Input]:
    generator = torch.Generator().manual_seed(0)
    wide = torch.randn(3, 5, generator=generator, dtype=torch.float64)
    v = torch.randn(5, generator=generator, dtype=torch.float64)
    diagonal = torch.tensor([[3.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    return [
        Input((diagonal, torch.tensor([0.6, 0.8], dtype=torch.float64), 1), "a diagonal matrix, one step"),
        Input((wide, v, 4), "a random matrix (3, 5), four steps"),
        Input((1e3 * wide, v, 12), "a large one, twelve steps"),
    ]


def spectral_norm(matrix: Tensor, v: Tensor, steps: int) -> Tensor:
    """The estimate |A v| after so many steps v <- A'A v / |A'A v|; matrix (m, n), v (n,) of any length but 0."""
    return power_iteration(matrix, v, steps=steps)[0]


def _iterate(matrix: Tensor, v: Tensor, steps: int, *, unit: bool = True) -> Tensor:
    for _ in range(steps):
        v = matrix.T @ (matrix @ v)
        v = v / v.norm() if unit else v
    return v


CONTRACT = Contract(
    spectral_norm,
    _matrices,
    {
        "never normalised": (
            lambda a, v, n: (a @ _iterate(a, v, n, unit=False)).norm(),
            "v is never brought back to length 1, so that its length grows with every step; divide by its norm",
        ),
        "squared": (
            lambda a, v, n: (a @ _iterate(a, v, n)).square().sum(),
            "this is |A v|^2, the largest eigenvalue of A'A; the singular value is its root",
        ),
        "Frobenius": (
            lambda a, v, n: a.norm(),
            "this is the root of the sum of all squares, which every singular value adds to; iterate for the largest",
        ),
        "one step too few": (
            lambda a, v, n: (a @ _iterate(a, v / v.norm(), n - 1)).norm(),
            "takes one step less than `steps`",
        ),
        "one step too many": (
            lambda a, v, n: (a @ _iterate(a, v, n + 1)).norm(),
            "takes one step more than `steps`",
        ),
        "exact": (
            lambda a, v, n: torch.linalg.matrix_norm(a, ord=2),
            "this is the exact value, by the singular value decomposition; asked for is the estimate after `steps`",
        ),
        "smallest": (
            lambda a, v, n: torch.linalg.matrix_norm(a, ord=-2),
            "this is the smallest singular value; the bound on the slope needs the largest",
        ),
        "largest entry": (
            lambda a, v, n: a.abs().max(),
            "takes the largest entry; a vector may be lengthened by more than that",
        ),
        "largest row": (
            lambda a, v, n: a.norm(dim=1).max(),
            "takes the longest row, which is never above the largest singular value, and mostly below",
        ),
        "column sums": (
            lambda a, v, n: torch.linalg.matrix_norm(a, ord=1),
            "this is the norm that belongs to sums of absolute values; the slope is measured in Euclidean length",
        ),
        "by the largest entry of v": (
            lambda a, v, n: (a @ (w := _iterate(a, v, n) if n else v)).norm() / w.abs().max(),
            "divides v by its largest entry in place of its length, so that |A v| is no singular value",
        ),
    },
)
