"""The exercise `contrastive.recall`: share of captions found among the first k."""

from __future__ import annotations

import torch
from torch import Tensor

from minigen.homework.contract import Contract, Input
from minigen.homework.mistakes import PERCENT


def recall(scores: Tensor, k: int) -> Tensor:
    """The share of rows of scores (N, N) whose own one, on the diagonal, is among the k highest; ties go before it."""
    return _found(scores, k).float().mean()


def _found(scores: Tensor, k: int) -> Tensor:
    return (scores >= scores.diagonal()[:, None]).sum(1) <= k


def _rank(scores: Tensor) -> Tensor:
    """1 for an own score that is the highest of its row, (N,)."""
    return (scores >= scores.diagonal()[:, None]).sum(1).float()


def _searches() -> list[Input]:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(12, 12, generator=generator) + 1.2 * torch.eye(12)
    tied = torch.zeros(6, 6)
    tied[2, 2], tied[3, 1] = 1.0, -1.0
    return [
        Input((torch.tensor([[1.0, 2.0, 3.0], [2.0, 1.0, 0.0], [0.0, 1.0, 2.0]]), 2), "three pairs"),
        Input((scores, 3), "random scores, k = 3"),
        Input((-scores, 1), "random scores, k = 1"),
        Input((tied, 5), "scores that are nearly all equal"),
    ]


CONTRACT = Contract(
    recall,
    _searches,
    {
        "columns": (
            lambda s, k: recall(s.mT, k),
            "ranks down the columns: the images of a caption; along a row stand the captions of an image",
        ),
        "both directions": (
            lambda s, k: (recall(s, k) + recall(s.mT, k)) / 2,
            "averages both directions; papers report each for itself, and here the rows are asked for",
        ),
        "k + 1": (
            lambda s, k: recall(s, k + 1),
            "one place too generous: with k others before it, the own caption is number k + 1",
        ),
        "k - 1": (
            lambda s, k: recall(s, k - 1),
            "one place too strict: the own caption may be number k itself",
        ),
        "the best alone": (
            lambda s, k: recall(s, 1),
            "counts only what is found in the first place; among the k highest is enough",
        ),
        "ties for the own": (
            lambda s, k: ((s > s.diagonal()[:, None]).sum(1) < k).float().mean(),
            "puts the own caption before those of equal score, so that scores that are all equal would be perfect",
        ),
        "the lowest": (
            lambda s, k: recall(-s, k),
            "looks among the k lowest; a high score means a good fit",
        ),
        "misses": (
            lambda s, k: 1 - recall(s, k),
            "this is the share of those that are not found",
        ),
        "count": (
            lambda s, k: _found(s, k).float().sum(),
            "counts those that are found; divide by the number of rows",
        ),
        "one number an image": (
            lambda s, k: _found(s, k).float(),
            "gives one number for each row; take their mean",
        ),
        "percent": (
            lambda s, k: 100 * recall(s, k),
            PERCENT,
        ),
        "precision": (
            lambda s, k: recall(s, k) / k,
            "divides by k: that is the precision, the share of the k that are right",
        ),
        "k of N": (
            lambda s, k: _found(s, k).float().sum() / k,
            "divides the count by k; divide by the number of rows",
        ),
        "mean rank": (
            lambda s, k: _rank(s).mean(),
            "this is the mean rank; the share of ranks up to k is asked for",
        ),
        "reciprocal rank": (
            lambda s, k: (1 / _rank(s)).mean(),
            "this is the mean reciprocal rank; the share of ranks up to k is asked for",
        ),
        "order for rank": (
            lambda s, k: (s.argsort(dim=1, descending=True).diagonal() < k).float().mean(),
            "argsort says which caption stands at a place, not at which place a caption stands; compare the scores",
        ),
        "the own among the own": (
            lambda s, k: (s.diagonal() >= s.diagonal().topk(k).values[-1]).float().mean(),
            "compares the own scores with each other; each is compared with the other captions of its row",
        ),
        "the first caption": (
            lambda s, k: ((s >= s[:, :1]).sum(1) <= k).float().mean(),
            "takes column 0 for the own caption; own pairs stand on the diagonal",
        ),
    },
)
