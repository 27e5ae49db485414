"""The exercise `images.gaussian_kl`: KL between Gaussians of independent coordinates."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from minigen.homework.contract import Contract
from minigen.homework.contracts.images._gaussians import gaussians
from minigen.homework.mistakes import HALF_SUBTRACTED_ONCE, IN_BITS, KL_TWICE


def gaussian_kl(mean_p: Tensor, std_p: Tensor, mean_q: Tensor, std_q: Tensor) -> Tensor:
    """KL(p || q) in nats between Gaussians of independent coordinates, means and standard deviations (D,)."""
    ratio, shift = std_p / std_q, (mean_p - mean_q) / std_q
    return (ratio.square() / 2 + shift.square() / 2 - ratio.log() - 0.5).sum()


def _variances_missing(mp: Tensor, sp: Tensor, mq: Tensor, sq: Tensor) -> Tensor:
    return ((sq / sp).log() + (sp + (mp - mq).square()) / (2 * sq) - 0.5).sum()


CONTRACT = Contract(
    gaussian_kl,
    gaussians,
    {
        "reversed": (
            lambda mp, sp, mq, sq: gaussian_kl(mq, sq, mp, sp),
            "this is KL(q || p); the variance that divides, and the log's numerator, are those of q",
        ),
        "twice": (
            lambda mp, sp, mq, sq: 2 * gaussian_kl(mp, sp, mq, sq),
            KL_TWICE,
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
        "deviations taken for variances": (
            lambda mp, sp, mq, sq: gaussian_kl(mp, sp.sqrt(), mq, sq.sqrt()),
            "takes the deviations for variances everywhere, in the log as well; the variances are std_p^2 and std_q^2",
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
            HALF_SUBTRACTED_ONCE,
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
            IN_BITS,
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
