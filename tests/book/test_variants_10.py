"""Chapter 10: what its checks must not let pass."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import records
from minigen.book import CheckError, check, refute
from minigen.nets import field, pixelcnn
from minigen.samplers import autoregressive as sampler

DOUBLE = torch.float64
EVERY = torch.cartesian_prod(*[torch.arange(2)] * 9)  # the 512 images of 3 x 3 pixels
COLUMN = EVERY[:, [0, 3, 6]] @ torch.tensor([4, 2, 1])  # which left column each of them has


def log_images() -> Tensor:
    """log P of the 512 images: one full row or column, each pixel flipped with probability 0.05; (512,)."""
    rows = torch.eye(3, dtype=torch.int64)[:, :, None].expand(3, 3, 3)
    lines = torch.cat([rows, rows.mT]).flatten(1)
    right, flipped = torch.tensor([0.95, 0.05], dtype=DOUBLE).log()
    given = torch.where(EVERY[:, None] == lines, right, flipped)
    return given.sum(2).logsumexp(1) - math.log(6)


def known(pixels: list[int]) -> Tensor:
    others = [0, *(i + 1 for i in range(9) if i not in pixels)]
    return log_images().view([1] + [2] * 9).logsumexp(others, keepdim=True).expand([1] + [2] * 9).flatten()


def guesses() -> Tensor:
    """log P(pixel | the pixels before), (9, 512)."""
    return torch.stack([known(list(range(i + 1))) - known(list(range(i))) for i in range(9)])


def column_sums(of_column: Tensor) -> Tensor:
    return torch.zeros(8, dtype=DOUBLE).index_add(0, COLUMN, (log_images() - of_column).exp())


def test_w7_random_numbers_are_no_condition() -> None:
    check("10.20", column_sums(known([0, 3, 6])), torch.ones(8), atol=1e-12)
    random = torch.randn(512, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    clamped, ratio = guesses()[[1, 2, 4, 5, 7, 8]].sum(0), random - guesses()[[0, 3, 6]].sum(0)
    check("10.20", clamped, log_images() - random + ratio, atol=1e-12, what="the identity alone lets them pass")
    with pytest.raises(CheckError):
        check("10.20", column_sums(random), torch.ones(8), atol=1e-12)


def test_w7_clamping_draws_something_else_than_the_condition() -> None:
    powers, voted = 2 ** torch.arange(8, -1, -1), guesses()

    def table(x: Tensor) -> Tensor:
        said = voted.T[x.flatten(1) @ powers].view(-1, 3, 3)
        other = torch.log1p(-said.exp())
        return torch.where(x == torch.arange(2).view(2, 1, 1), said[:, None], other[:, None])

    left = torch.stack([EVERY[c == COLUMN][0] for c in range(8)]).view(8, 1, 3, 3).repeat(5_000, 1, 1, 1)
    seen = torch.tensor([True, False, False]).expand(3, 3)
    u = torch.rand(40_000, 3, 3, generator=torch.Generator().manual_seed(0))
    *_, images = sampler.sample(table, u, known=(left, seen), cached=False)
    share = (images.flatten(1) @ powers).bincount(minlength=512) / 5_000
    condition = log_images() - known([0, 3, 6])
    clamped = condition + known([0, 3, 6]) - voted[[0, 3, 6]].sum(0)
    check("10.20", share, clamped.exp(), atol=0.04)
    with pytest.raises(CheckError):
        check("10.20", share, condition.exp(), atol=0.04)


@pytest.mark.parametrize("passes", [1.0, 144.0, 80384 / 109568 + 1 / 144])
def test_w8_work_that_is_done_again_is_found(passes: float) -> None:
    h, block = 64, 64 * 32 + 32 * 64
    kept, whole = (n * 8 * h + 6 * (block + m * 32 * 32) + h * h + h * 8 for n, m in ((28, 6), (49, 9)))
    check("10.17", 80384 / 109568, kept / whole, atol=1e-12)
    with pytest.raises(CheckError):
        check("10.17", passes, kept / whole, atol=1e-12)


def test_w13_a_view_larger_by_one_pixel() -> None:
    layers = [pixelcnn.MaskedConv2d(4 if i else 1, 4, 3, mask=kind) for i, kind in enumerate("ABB")]
    plain = field.positive(torch.nn.Sequential(*layers, torch.nn.Conv2d(4, 2, 1)).double())
    view = field.field_of_view(lambda x: plain(x.double()), layers[0], torch.rand(1, 1, 3, 3).double())
    sees = [[j for j in range(i) if j % 3 - i % 3 <= i // 3 - j // 3] for i in range(9)]
    listed = torch.tensor([[j in seen for j in range(9)] for seen in sees])
    check("10.15", view, listed, atol=0)
    hidden = (torch.ones(9, 9).tril(-1).bool() & ~listed).nonzero()
    assert len(hidden)
    for i, j in hidden.tolist():
        larger = listed.clone()
        larger[i, j] = True
        with pytest.raises(CheckError):
            check("10.15", view, larger, atol=0)


@pytest.mark.parametrize("times", [2, 3])
def test_w14_some_times_the_noise_is_more_than_hardly_more(times: int) -> None:
    (band,) = [b for b in records.stored("10_autoregressive").values() if b.what.startswith("nothing seen")]
    assert band.high is not None
    assert band.high < times * 0.036


def test_a_billionth_of_a_bit_is_not_what_seven_layers_miss() -> None:
    refute("seven layers miss less than a billionth of a bit", 1e-9, 7.6e-6, by=-1e-6)
    with pytest.raises(CheckError):
        refute("seven layers miss less than a billionth of a bit", 1e-9, 3e-10, by=-1e-6)
