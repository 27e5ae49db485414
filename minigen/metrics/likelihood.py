"""How much of held-out images a model foresees: likelihoods, their units, and gaps to a known floor."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from minigen.data.checks import need_count, need_float, need_number
from minigen.worlds.precision import exact


class Estimate(NamedTuple):
    """A mean over images, and its standard error."""

    mean: float
    standard_error: float


def nll(log_prob: Tensor) -> Estimate:
    """Negative log-likelihood, nats/image, from the log-densities (N,) that a model gives to N held-out images.

    >>> nll(torch.tensor([-1.0, -3.0]))
    Estimate(mean=2.0, standard_error=1.0)
    """
    if log_prob.ndim != 1 or len(log_prob) < 2:
        raise ValueError(f"log_prob must be (N,), one number an image, N at least 2; got {tuple(log_prob.shape)}")
    need_float("log_prob", log_prob)
    if not torch.isfinite(log_prob).all():
        bad = int((~torch.isfinite(log_prob)).sum())
        raise ValueError(f"{bad} of {len(log_prob)} log-densities are not finite; the model excludes these images")
    x = exact(-log_prob.detach())
    return Estimate(x.mean().item(), (x.std() / math.sqrt(len(x))).item())


def bits_per_dim(nats: float, dims: int, *, levels: int | None = None) -> float:
    """Nats an image to bits a dimension: nats / (dims log 2).

    levels: for a density on [-1, 1] of images with this many levels: adds log2(levels / 2), since the map from levels
    to [-1, 1] shrinks each dimension by 2 / levels. The result is then in bits/dim of the levels, as papers give it.
    """
    need_count("dims", dims)
    if levels is not None:
        need_count("levels", levels, least=2)
    return nats / (dims * math.log(2)) + (0.0 if levels is None else math.log2(levels / 2))


def relative_gap(nll: float, floor: float, independent: float) -> float:
    """(NLL - floor) / (independent-pixel NLL - floor), all in nats an image: 0 is the truth, 1 knows no structure."""
    need_number("nll", nll)
    if not math.inf > independent > floor > -math.inf:
        raise ValueError(f"the independent-pixel NLL must be above the floor; got {independent} and {floor}")
    return (nll - floor) / (independent - floor)
