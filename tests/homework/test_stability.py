"""Answers that are stable by one shift for everything: right on numbers of one size, nan where rows are far apart."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from minigen.homework import CONTRACTS, assess

Shift = Callable[[Tensor, int], Tensor]
SHIFTS: dict[str, Shift] = {
    "largest": lambda x, dim: x.max(),
    "mean": lambda x, dim: x.mean(),
    "first": lambda x, dim: x.flatten()[0],
    "last": lambda x, dim: x.flatten()[-1],
    "first of each": lambda x, dim: x.narrow(dim, 0, 1),
}


def own(x: Tensor, dim: int) -> Tensor:
    return x.amax(dim, keepdim=True)


def lse(x: Tensor, dim: int, shift: Shift) -> Tensor:
    m = shift(x, dim)
    return (x - m).exp().sum(dim, keepdim=True).log() + m


def softmax(x: Tensor, dim: int, shift: Shift) -> Tensor:
    e = (x - shift(x, dim)).exp()
    return e / e.sum(dim, keepdim=True)


def rows(scores: Tensor, shift: Shift) -> Tensor:
    return (lse(scores, 1, shift)[:, 0] - scores.diagonal()).mean()


def cosines(x: Tensor, y: Tensor, scale: Tensor) -> Tensor:
    return scale.exp() * (x / x.norm(dim=1, keepdim=True)) @ (y / y.norm(dim=1, keepdim=True)).T


def causes(transition: Tensor, prior: Tensor) -> Tensor:
    joint = prior[:, None] * transition
    return joint / joint.sum(0)


def masked(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, shift: Shift) -> Tensor:
    scores = (q @ k.T / math.sqrt(q.shape[1])).masked_fill(~mask, -1e9)
    return (softmax(scores, 1, shift) * mask) @ v


def gated(x: Tensor, q: Tensor, k: Tensor, v: Tensor, gate: Tensor, shift: Shift) -> Tensor:
    places = x.flatten(2).mT
    weights = softmax((places @ q.T) @ (places @ k.T).mT / math.sqrt(len(q)), 2, shift)
    return x + gate * (weights @ places @ v.T).mT.reshape(x.shape)


ANSWERS: dict[str, Callable[..., Tensor]] = {
    "images.log_mean": lambda sh, p: lse(p, 0, sh)[0] - math.log(len(p)),
    "elbo.importance_weighted_bound": lambda sh, w: lse(w, 0, sh)[0] - math.log(len(w)),
    "autoregressive.nll": lambda sh, o, k: (lse(o, 1, sh) - o.gather(1, k)).flatten(1).sum(1).mean(),
    "autoregressive.draw": lambda sh, o, u, t: (softmax(o / t, 1, sh).cumsum(1)[:, :-1] <= u[:, None]).sum(1),
    "minimax.optimal_discriminator": lambda sh, p, q: softmax(torch.stack([p, q]), 0, sh)[0],
    "prompts.attention": lambda sh, q, k, v: softmax(q @ k.T / math.sqrt(q.shape[1]), 1, sh) @ v,
    "prompts.masked_attention": lambda sh, q, k, v, mask: masked(q, k, v, mask, sh),
    "words.gated_attention": lambda sh, x, q, k, v, g: gated(x, q, k, v, g, sh),
    "words.region_context": lambda sh, e, v, g: (g * softmax(e @ v.T, 0, sh)).softmax(1) @ v,
    "conditional.auxiliary_loss": lambda sh, o, c: (lse(o, 1, sh)[:, 0] - o.gather(1, c[:, None])[:, 0]).mean(),
    "conditional.noisy_log_prob": lambda sh, x, t, p: lse(x[:, :, None] + causes(t, p).log(), 1, sh)[:, 0],
    "contrastive.info_nce": lambda sh, s: rows(s, sh),
    "contrastive.information_bound": lambda sh, s: math.log(len(s)) - rows(s, sh),
    "contrastive.clip_loss": lambda sh, x, y, t: (rows(cosines(x, y, t), sh) + rows(cosines(x, y, t).T, sh)) / 2,
    "contrastive.caption_nll": lambda sh, o, w: (
        ((lse(o, 2, sh) - o.gather(2, w[:, 1:, None]))[..., 0] * (w[:, 1:] != 0)).sum(1).mean()
    ),
}
EXACT = {"minimax.optimal_discriminator": {"first of each"}}  # p - p and q - p: that is the difference of the logs


def answer(name: str, shift: Shift, dtype: torch.dtype) -> Callable[..., Tensor]:
    def function(*given: Tensor) -> Tensor:
        cast = (x.to(dtype) if isinstance(x, Tensor) and x.is_floating_point() else x for x in given)
        return ANSWERS[name](shift, *cast)

    return function


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ANSWERS)
def test_the_largest_of_each_is_subtracted_and_that_is_right(name: str, dtype: torch.dtype) -> None:
    assert str(assess(name, answer(name, own, dtype), seconds=30)).startswith("✓")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("name", "shift"), [(name, shift) for name in ANSWERS for shift in SHIFTS])
def test_one_shift_for_all_is_wrong(name: str, shift: str, dtype: torch.dtype) -> None:
    verdict = assess(name, answer(name, SHIFTS[shift], dtype), seconds=30).verdict
    assert (verdict == "right") == (shift in EXACT.get(name, ()))


@pytest.mark.parametrize("name", ANSWERS)
def test_the_largest_of_all_is_called_by_its_name(name: str) -> None:
    assert (
        assess(name, answer(name, SHIFTS["largest"], torch.float32), seconds=30).misconception == "one largest for all"
    )


def test_every_contract_that_knows_an_overflow_of_a_sum_is_asked_here() -> None:
    asked = {name for name, contract in CONTRACTS.items() if "one largest for all" in contract.wrong}
    assert asked == set(ANSWERS)
