"""The exercises of chapter 01 about two Gaussians."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from minigen.homework.contract import Contract, Input, Personal


def gaussian_kl(mean_p: Tensor, std_p: Tensor, mean_q: Tensor, std_q: Tensor) -> Tensor:
    """KL(p || q) in nats between Gaussians of independent coordinates, means and standard deviations (D,)."""
    ratio, shift = std_p / std_q, (mean_p - mean_q) / std_q
    return (ratio.square() / 2 + shift.square() / 2 - ratio.log() - 0.5).sum()


def _gaussians() -> list[Input]:
    generator = torch.Generator().manual_seed(0)
    means, stds = torch.randn(2, 3, generator=generator), torch.rand(2, 3, generator=generator) + 0.3
    one = torch.ones(2)
    return [
        Input((torch.tensor([1.0]), torch.tensor([2.0]), torch.tensor([0.0]), torch.tensor([3.0])), "one dimension"),
        Input((means[0], stds[0], means[1], stds[1]), "random Gaussians in 3 dimensions"),
        Input((means[0], stds[0], means[0].clone(), stds[0].clone()), "two equal Gaussians"),
        Input((0 * one, 1e-3 * one, torch.tensor([30.0, -40.0]), 2 * one), "a needle, far from the mean of the other"),
    ]


def _variances_missing(mp: Tensor, sp: Tensor, mq: Tensor, sq: Tensor) -> Tensor:
    return ((sq / sp).log() + (sp + (mp - mq).square()) / (2 * sq) - 0.5).sum()


GAUSSIAN_KL = Contract(
    gaussian_kl,
    _gaussians,
    {
        "reversed": (
            lambda mp, sp, mq, sq: gaussian_kl(mq, sq, mp, sp),
            "this is KL(q || p); the variance that divides, and the log's numerator, are those of q",
        ),
        "twice": (
            lambda mp, sp, mq, sq: 2 * gaussian_kl(mp, sp, mq, sq),
            "twice the KL: the factor 1/2 of the Gaussian's exponent is missing",
        ),
        "1/2 missing before the squares": (
            lambda mp, sp, mq, sq: ((sq / sp).log() + (sp.square() + (mp - mq).square()) / sq.square() - 0.5).sum(),
            "the quadratic term lacks its factor 1/2; divide by 2 std_q^2",
        ),
        "the log of the variances": (
            lambda mp, sp, mq, sq: gaussian_kl(mp, sp, mq, sq) + (sq / sp).log().sum(),
            "log(std_q^2 / std_p^2) is twice log(std_q / std_p); halve it, or take the log of the deviations",
        ),
        "the log's sign": (
            lambda mp, sp, mq, sq: gaussian_kl(mp, sp, mq, sq) - 2 * (sq / sp).log().sum(),
            "the log has the wrong sign; it is + log(std_q / std_p)",
        ),
        "no log": (
            lambda mp, sp, mq, sq: gaussian_kl(mp, sp, mq, sq) - (sq / sp).log().sum(),
            "the normalisers do not cancel when the deviations differ; add log(std_q / std_p)",
        ),
        "deviation for variance": (
            _variances_missing,
            "puts the standard deviation where its square belongs; square std_p and std_q in the quotient",
        ),
        "1/2 not subtracted": (
            lambda mp, sp, mq, sq: gaussian_kl(mp, sp, mq, sq) + 0.5 * len(mp),
            "the KL of equal Gaussians must be 0; subtract 1/2 for each dimension",
        ),
        "1 subtracted": (
            lambda mp, sp, mq, sq: gaussian_kl(mp, sp, mq, sq) - 0.5 * len(mp),
            "subtracts 1 for each dimension outside of the factor 1/2; subtract 1/2",
        ),
        "subtracted once": (
            lambda mp, sp, mq, sq: gaussian_kl(mp, sp, mq, sq) + 0.5 * (len(mp) - 1),
            "subtracts 1/2 once; it belongs to each dimension, so subtract it before the sum",
        ),
        "mean over the dimensions": (
            lambda mp, sp, mq, sq: gaussian_kl(mp, sp, mq, sq) / len(mp),
            "averages over the dimensions; independent coordinates' divergences add up: take the sum",
        ),
        "not summed": (
            lambda mp, sp, mq, sq: torch.stack([gaussian_kl(*g) for g in zip(mp, sp, mq, sq, strict=True)]),
            "gives one divergence for each dimension; sum them",
        ),
        "the difference not squared": (
            lambda mp, sp, mq, sq: (
                gaussian_kl(torch.zeros_like(mp), sp, torch.zeros_like(mq), sq) + ((mp - mq) / (2 * sq.square())).sum()
            ),
            "the means' difference is not squared; square it before dividing by 2 std_q^2",
        ),
        "the difference not divided": (
            lambda mp, sp, mq, sq: (
                gaussian_kl(torch.zeros_like(mp), sp, torch.zeros_like(mq), sq) + (mp - mq).square().sum() / 2
            ),
            "the means' squared difference must be measured in units of q: divide it by std_q^2",
        ),
        "means ignored": (
            lambda mp, sp, mq, sq: gaussian_kl(torch.zeros_like(mp), sp, torch.zeros_like(mq), sq),
            "the means do not enter; add (mean_p - mean_q)^2 / (2 std_q^2)",
        ),
        "in bits": (
            lambda mp, sp, mq, sq: gaussian_kl(mp, sp, mq, sq) / math.log(2),
            "this is in bits; in nats, leave out the division by ln 2",
        ),
        "the sign": (
            lambda mp, sp, mq, sq: -gaussian_kl(mp, sp, mq, sq),
            "this is minus the KL, which is never negative; change the sign",
        ),
        "cross-entropy": (
            lambda mp, sp, mq, sq: (
                (sp.square() + (mp - mq).square()) / (2 * sq.square()) + sq.log() + 0.5 * math.log(2 * math.pi)
            ).sum(),
            "this is the cross-entropy of p under q; subtract the entropy of p",
        ),
    },
)


def gaussian_w2_squared(mean_p: Tensor, std_p: Tensor, mean_q: Tensor, std_q: Tensor) -> Tensor:
    """W2^2 between Gaussians of independent coordinates, (D,) each: the sum of (m - m')^2 + (s - s')^2."""
    return (mean_p - mean_q).square().sum() + (std_p - std_q).square().sum()


_W2_SQUARED = Contract(
    gaussian_w2_squared,
    _gaussians,
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
    return _W2_SQUARED.adapted(
        before=lambda mp, sp, mq, sq: (first * mp, first * sp, second * mq, second * sq),
    )


_FACTORS = (0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.2, 1.4, 1.5, 1.6, 1.8, 2.0, 2.5, 3.0)

GAUSSIAN_W2_SQUARED = replace(
    _W2_SQUARED,
    personal=Personal(
        "Multiply x by {first} where x comes from p, and by {second} where it comes from q, before you compare them.",
        {"first": _FACTORS, "second": _FACTORS},
        _stretched,
    ),
)
