"""The exercise `images.gaussian_w2_squared`: squared Wasserstein-2 distance between them."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from minigen.homework.contract import Contract, Personal
from minigen.homework.contracts.images._gaussians import gaussians
from minigen.homework.mistakes import FACTORS


def gaussian_w2_squared(mean_p: Tensor, std_p: Tensor, mean_q: Tensor, std_q: Tensor) -> Tensor:
    """W2^2 between Gaussians of independent coordinates, (D,) each: the sum of (m - m')^2 + (s - s')^2."""
    return (mean_p - mean_q).square().sum() + (std_p - std_q).square().sum()


COMMON = Contract(
    gaussian_w2_squared,
    gaussians,
    {
        "the table's sigma": (
            lambda mp, sp, mq, sq: ((mp - mq).square() + sp + sq - 2 * (sp * sq).sqrt()).sum(),
            "this is the table in circulation, with sigma where sigma^2 belongs; s^2 + s'^2 - 2 s s' = (s - s')^2",
        ),
        "variances subtracted": (
            lambda mp, sp, mq, sq: ((mp - mq).square() + (sp.square() - sq.square()).square()).sum(),
            "subtracts the variances; a coordinate's cost is the squared difference of the standard deviations",
        ),
        "variances subtracted, absolute": (
            lambda mp, sp, mq, sq: ((mp - mq).square() + (sp.square() - sq.square()).abs()).sum(),
            "takes |s^2 - s'^2|; a coordinate's cost is (s - s')^2",
        ),
        "root": (
            lambda mp, sp, mq, sq: gaussian_w2_squared(mp, sp, mq, sq).sqrt(),
            "this is W2; the exercise asks for its square: leave out the root",
        ),
        "root in each dimension": (
            lambda mp, sp, mq, sq: ((mp - mq).square() + (sp - sq).square()).sqrt().sum(),
            "takes a root in each dimension; squared distances add up, so leave it out",
        ),
        "mean over the dimensions": (
            lambda mp, sp, mq, sq: gaussian_w2_squared(mp, sp, mq, sq) / len(mp),
            "averages over the dimensions; squared distances add up: take the sum",
        ),
        "not summed": (
            lambda mp, sp, mq, sq: (mp - mq).square() + (sp - sq).square(),
            "gives one squared distance for each dimension; sum them",
        ),
        "means ignored": (
            lambda mp, sp, mq, sq: (sp - sq).square().sum(),
            "the means do not enter; add (mean_p - mean_q)^2",
        ),
        "deviations ignored": (
            lambda mp, sp, mq, sq: (mp - mq).square().sum(),
            "the deviations do not enter; add (std_p - std_q)^2",
        ),
        "no cross term": (
            lambda mp, sp, mq, sq: ((mp - mq).square() + sp.square() + sq.square()).sum(),
            "adds the variances as if the two were independent; the best coupling earns back 2 s s': subtract it",
        ),
        "cross term once": (
            lambda mp, sp, mq, sq: ((mp - mq).square() + sp.square() + sq.square() - sp * sq).sum(),
            "subtracts s s' once; it is 2 s s', so that equal Gaussians are at distance 0",
        ),
        "the sum of the deviations": (
            lambda mp, sp, mq, sq: ((mp - mq).square() + (sp + sq).square()).sum(),
            "adds the deviations, which is the worst coupling; the best one gives (s - s')^2",
        ),
        "W1": (
            lambda mp, sp, mq, sq: ((mp - mq).abs() + (sp - sq).abs()).sum(),
            "takes absolute values; W2 squared is a sum of squares",
        ),
    },
)


def _stretched(first: float, second: float) -> Contract:
    return COMMON.adapted(
        before=lambda mp, sp, mq, sq: (first * mp, first * sp, second * mq, second * sq),
    )


CONTRACT = replace(
    COMMON,
    personal=Personal(
        "Multiply x by {first} where x comes from p, and by {second} where it comes from q, before you compare them.",
        {"first": FACTORS, "second": FACTORS},
        _stretched,
    ),
)
