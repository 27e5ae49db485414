"""The exercise `images.bits_per_dim`: nats of a density to bits/dim of levels."""

from __future__ import annotations

import math

from minigen.homework.contract import Contract, Input


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


CONTRACT = Contract(
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
