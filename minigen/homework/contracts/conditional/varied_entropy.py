"""The exercise `conditional.varied_entropy`: how much samples vary, from posteriors."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from minigen.homework.contract import Contract, Input
from minigen.homework.mistakes import IN_BITS, doubles
from minigen.metrics.worlds import varied_entropy


def _posteriors() -> list[Input]:
    generator = torch.Generator().manual_seed(0)
    random = torch.rand(6, 4, generator=generator, dtype=torch.float64)
    return [
        Input((doubles(0.7, 0.3)[None],), "one image"),
        Input((random / random.sum(1, keepdim=True),), "random posteriors"),
        Input((torch.eye(4, dtype=torch.float64)[[0, 0, 1, 3, 3, 3]],), "posteriors of 0 and 1"),
        Input((doubles(1.0, 0.0, 0.0).expand(5, -1).clone(),), "always the same"),
    ]


def _entropy(probability: Tensor, dim: int = -1) -> Tensor:
    entropy: Tensor = -torch.special.xlogy(probability, probability).sum(dim)
    return entropy


CONTRACT = Contract(
    varied_entropy,
    _posteriors,
    {
        "mean of entropies": (
            lambda p: _entropy(p).mean(),
            "the mean entropy of single images says how unclear each one is; average the posteriors first",
        ),
        "information": (
            lambda p: _entropy(p.mean(0)) - _entropy(p).mean(),
            "subtracts what each image leaves open; that is the information of an image, not how much they vary",
        ),
        "sign": (lambda p: -_entropy(p.mean(0)), "this is the sum of p log p, never positive: change the sign"),
        "sum": (
            lambda p: _entropy(p.sum(0)),
            "sums the posteriors, which is no distribution; divide by the number of images",
        ),
        "mean over templates": (
            lambda p: _entropy(p.mean(0)) / p.shape[1],
            "averages p log p over the templates; an entropy sums them",
        ),
        "over the images": (
            lambda p: _entropy(p / p.sum(0).clamp(min=1e-300), 0).mean(),
            "takes the entropy over the images; it is over the templates",
        ),
        "most probable": (
            lambda p: _entropy(torch.bincount(p.argmax(1), minlength=p.shape[1]).double() / len(p)),
            "counts the most probable template of each image; a posterior of 0.7 and 0.3 counts for both",
        ),
        "share": (
            lambda p: _entropy(p.mean(0)) / math.log(p.shape[1]),
            "divides by log of the number of templates; give nats",
        ),
        "from even": (
            lambda p: math.log(p.shape[1]) - _entropy(p.mean(0)),
            "this is the divergence from even; the entropy is what it lacks of log of the number of templates",
        ),
        "number of templates": (
            lambda p: _entropy(p.mean(0)).exp(),
            "the exponential of the entropy, an effective number of templates; give the entropy",
        ),
        "collisions": (
            lambda p: 1 - p.mean(0).square().sum(),
            "the probability that two draws differ; the entropy is -sum of p log p",
        ),
        "0 log 0": (
            lambda p: -(p.mean(0) * p.mean(0).log()).sum(),
            "0 times log 0 is nan in floating point; its limit is 0: use torch.special.xlogy",
        ),
        "a small number in the log": (
            lambda p: -(p.mean(0) * (p.mean(0) + 1e-3).log()).sum(),
            "the small number in the log shifts every term; use torch.special.xlogy",
        ),
        "in bits": (lambda p: _entropy(p.mean(0)) / math.log(2), IN_BITS),
    },
)
