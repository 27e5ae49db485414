"""The exercise `images.mmd2`: unbiased squared MMD from kernel matrices."""

from __future__ import annotations

import torch
from torch import Tensor

from minigen.homework.contract import Contract, Input


def mmd2(kxx: Tensor, kyy: Tensor, kxy: Tensor) -> Tensor:
    """The unbiased squared MMD from kernel matrices (N, N), (M, M), (N, M). Gretton et al. 2012, eq. 3.

    Pairs of a sample with itself are left out: the diagonals of kxx and kyy.
    """
    return _off_diagonal_mean(kxx) + _off_diagonal_mean(kyy) - 2 * kxy.mean()


def _off_diagonal_mean(k: Tensor) -> Tensor:
    n = len(k)
    return (k.sum() - k.diagonal().sum()) / (n * (n - 1))


def _mmd2_paired(kxx: Tensor, kyy: Tensor, kxy: Tensor) -> Tensor:
    same = kxy.diagonal()
    cross = (kxy.sum() - same.sum()) / (kxy.numel() - len(same))
    return _off_diagonal_mean(kxx) + _off_diagonal_mean(kyy) - 2 * cross


def _kernels() -> list[Input]:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(4, 2, generator=generator), torch.randn(3, 2, generator=generator) + 1

    def cubic(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.T / 2 + 1) ** 3

    small = torch.tensor([[2.0, 0.5], [0.5, 3.0]]), torch.tensor([[4.0, 1.0], [1.0, 1.0]])
    near = torch.tensor([[1.0, 0.1], [0.1, 1.0]])
    return [
        Input((*small, torch.tensor([[0.25, 0.0], [0.5, 0.125]])), "two samples each"),
        Input((near, near.clone(), torch.full((2, 2), 0.5)), "samples so near that the estimate is negative"),
        Input((cubic(x, x), cubic(y, y), cubic(x, y)), "a cubic kernel of 4 and 3 random samples"),
        Input((torch.eye(3), torch.eye(2), torch.zeros(3, 2)), "samples so far apart that every kernel value is 0"),
    ]


CONTRACT = Contract(
    mmd2,
    _kernels,
    {
        "biased": (
            lambda xx, yy, xy: xx.mean() + yy.mean() - 2 * xy.mean(),
            "keeps the diagonals, where a sample meets itself: that is the biased estimate; leave them out and divide"
            " by N(N - 1)",
        ),
        "divided by N^2": (
            lambda xx, yy, xy: (
                (xx.sum() - xx.trace()) / len(xx) ** 2 + (yy.sum() - yy.trace()) / len(yy) ** 2 - 2 * xy.mean()
            ),
            "leaves out the diagonals but divides by N^2; N(N - 1) pairs are left",
        ),
        "the diagonal kept, divided by N(N - 1)": (
            lambda xx, yy, xy: (
                xx.sum() / (len(xx) * (len(xx) - 1)) + yy.sum() / (len(yy) * (len(yy) - 1)) - 2 * xy.mean()
            ),
            "divides by N(N - 1) but keeps the diagonals in the sums; subtract them",
        ),
        "the diagonal of kxy left out": (
            _mmd2_paired,
            "leaves out the diagonal of kxy too, but x_i and y_i are different samples; take the mean of all of kxy",
        ),
        "cross term once": (
            lambda xx, yy, xy: mmd2(xx, yy, xy) + xy.mean(),
            "subtracts the cross term once; the square of a difference has it twice",
        ),
        "the cross term's sign": (
            lambda xx, yy, xy: mmd2(xx, yy, xy) + 4 * xy.mean(),
            "adds the cross term; likeness between the two sets makes them nearer: subtract it",
        ),
        "no cross term": (
            lambda xx, yy, xy: mmd2(xx, yy, xy) + 2 * xy.mean(),
            "the two sets never meet; subtract twice the mean of kxy",
        ),
        "root": (
            lambda xx, yy, xy: mmd2(xx, yy, xy).sqrt(),
            "takes the root, which is no number where the unbiased estimate is negative; leave it squared",
        ),
        "cut at zero": (
            lambda xx, yy, xy: mmd2(xx, yy, xy).clamp(min=0),
            "cuts negative estimates at 0, which makes it biased again; leave them negative",
        ),
        "the sign": (
            lambda xx, yy, xy: -mmd2(xx, yy, xy),
            "the sign: within-set means are added, twice the cross mean is subtracted",
        ),
        "sums": (
            lambda xx, yy, xy: xx.sum() - xx.trace() + yy.sum() - yy.trace() - 2 * xy.sum(),
            "sums the kernel values; divide each sum by its number of pairs",
        ),
    },
)
