"""The exercises of chapter 01."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from minigen.homework.contract import Contract, Input
from minigen.homework.gaussians import GAUSSIAN_KL, GAUSSIAN_W2_SQUARED


def bits_per_dim(nats: float, dims: int, levels: int) -> float:
    """NLL in nats/image of a density on [-1, 1]^dims, as bits/dim of images of K levels: nats/(d ln 2) + log2(K/2).

    A level's cell is 2/K wide, so log P(level) is about log p + log(2/K) for each dimension.
    """
    return nats / (dims * math.log(2)) + math.log2(levels / 2)


def _likelihoods() -> list[Input]:
    return [
        Input((1.0, 1, 8), "one pixel of 8 levels"),
        Input((-50.0, 12, 5), "12 dimensions of 5 levels"),
        Input((-6500.0, 3072, 256), "a colour image of 32 by 32 pixels"),
    ]


BITS_PER_DIM = Contract(
    bits_per_dim,
    _likelihoods,
    {
        "no offset": (
            lambda x, d, k: x / (d * math.log(2)),
            "these are bits/dim of the density on [-1, 1]; a level's cell is 2/K wide: add log2(K/2)",
        ),
        "the offset's sign": (
            lambda x, d, k: x / (d * math.log(2)) - math.log2(k / 2),
            "the offset has the wrong sign: P(level) = density * 2/K is smaller, so the code is longer; add log2(K/2)",
        ),
        "log2(K)": (
            lambda x, d, k: x / (d * math.log(2)) + math.log2(k),
            "adds log2(K), the offset for [0, 1]; [-1, 1] is 2 wide, so a cell is 2/K wide: add log2(K/2)",
        ),
        "half the range": (
            lambda x, d, k: x / (d * math.log(2)) + math.log2(k / 2) / 2,
            "adds half of log2(K/2); the offset is whole, for each dimension",
        ),
        "127.5": (
            lambda x, d, k: x / (d * math.log(2)) + math.log2((k - 1) / 2),
            "adds log2((K-1)/2), the offset of the map k/127.5 - 1; a cell here is 2/K wide: add log2(K/2)",
        ),
        "integer division": (
            lambda x, d, k: x / (d * math.log(2)) + math.log2(k // 2),
            "levels // 2 rounds down for an odd number of levels; divide with /",
        ),
        "128 typed in": (
            lambda x, d, k: x / (d * math.log(2)) + 7,
            "always adds 7 = log2(256/2); add log2(levels / 2)",
        ),
        "ln 2 forgotten": (
            lambda x, d, k: x / d + math.log2(k / 2),
            "the first term is in nats, the second in bits; divide nats by ln 2",
        ),
        "multiplied by ln 2": (
            lambda x, d, k: x * math.log(2) / d + math.log2(k / 2),
            "multiplies by ln 2; a nat is 1/ln 2 = 1.44 bits, so divide",
        ),
        "the offset in nats": (
            lambda x, d, k: x / (d * math.log(2)) + math.log(k / 2),
            "the offset is in nats, the rest in bits; use log2 for it",
        ),
        "all in nats": (
            lambda x, d, k: x / d + math.log(k / 2),
            "these are nats/dim, offset included; divide all of it by ln 2",
        ),
        "dims forgotten": (
            lambda x, d, k: x / math.log(2) + math.log2(k / 2),
            "nats are for the whole image; divide them by its dimensions",
        ),
        "the offset over dims": (
            lambda x, d, k: (x / math.log(2) + math.log2(k / 2)) / d,
            "divides the offset by the dimensions too, but it falls due once for each: add it after the division",
        ),
        "bits/image": (
            lambda x, d, k: x / math.log(2) + d * math.log2(k / 2),
            "these are bits for the whole image; divide by its dimensions",
        ),
        "log-likelihood": (
            lambda x, d, k: -x / (d * math.log(2)) + math.log2(k / 2),
            "takes nats for a log-likelihood; it is the NEGATIVE log-likelihood already: leave its sign",
        ),
    },
)


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


MMD2 = Contract(
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


def log_mean(log_p: Tensor) -> Tensor:
    """log of the mixture of K densities with equal weights, from their log-densities (K, N) at N points, (N,)."""
    return log_p.logsumexp(0) - math.log(len(log_p))


def _components() -> list[Input]:
    generator = torch.Generator().manual_seed(0)
    return [
        Input((torch.tensor([[0.0], [-1.0]]),), "two densities at one point"),
        Input((torch.randn(3, 4, generator=generator) * 2,), "random log-densities"),
        Input((torch.tensor([[-1000.0, -1003.0], [-1001.0, -1000.0], [-1000.0, -1002.0]]),), "values near -1000"),
        Input((torch.tensor([[1000.0, 990.0], [1001.0, 1000.0], [999.0, 1000.0]]),), "values near 1000"),
    ]


LOG_MEAN = Contract(
    log_mean,
    _components,
    {
        "the mean of the logs": (
            lambda p: p.mean(0),
            "this is the mean of the logs, which Jensen's inequality puts below the log of the mean; use logsumexp",
        ),
        "log K forgotten": (
            lambda p: p.logsumexp(0),
            "this is the log of the sum; subtract log K for the mean",
        ),
        "log K added": (
            lambda p: p.logsumexp(0) + math.log(len(p)),
            "adds log K; a mean is the sum divided by K, so subtract it",
        ),
        "divided by K": (
            lambda p: p.logsumexp(0) / len(p),
            "divides the log by K; the division is inside of the log: subtract log K",
        ),
        "log N": (
            lambda p: p.logsumexp(0) - math.log(p.shape[1]),
            "subtracts the log of the number of points; subtract log K, the number of densities, log_p.shape[0]",
        ),
        "the wrong axis": (
            lambda p: p.logsumexp(1) - math.log(p.shape[1]),
            "averages over the points; the K densities are along dimension 0",
        ),
        "over both axes": (
            lambda p: p.flatten().logsumexp(0) - math.log(p.numel()),
            "averages over densities and points at once; reduce dimension 0 alone, which leaves (N,)",
        ),
        "underflow": (
            lambda p: p.exp().mean(0).log(),
            "right for moderate values, but exp gives 0 or infinity near -1000 and 1000; use logsumexp",
        ),
        "the product": (
            lambda p: p.sum(0),
            "adds the logs, which multiplies the densities; a mixture adds the densities",
        ),
        "the largest": (
            lambda p: p.max(0).values,
            "takes the largest density alone; the others count too: use logsumexp",
        ),
        "the largest, over K": (
            lambda p: p.max(0).values - math.log(len(p)),
            "keeps the largest density and drops the others; add them before the log, with logsumexp",
        ),
        "not the log": (
            lambda p: p.exp().mean(0),
            "this is the density itself; return its log, computed with logsumexp",
        ),
        "the sign": (
            lambda p: math.log(len(p)) - p.logsumexp(0),
            "this is the negative log; change the sign",
        ),
    },
)

CONTRACTS = {
    "bits_per_dim": BITS_PER_DIM,
    "gaussian_kl": GAUSSIAN_KL,
    "gaussian_w2_squared": GAUSSIAN_W2_SQUARED,
    "mmd2": MMD2,
    "log_mean": LOG_MEAN,
}
