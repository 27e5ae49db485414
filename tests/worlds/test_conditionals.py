"""Exact conditionals of discrete worlds against sums over all images, over all templates, and their own samples."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from minigen.samplers import autoregressive as sampler
from minigen.worlds import ExactConditionals, Shapes


def small(shapes: int = 1) -> Shapes:
    """8 x 8 pixels, 3 levels, 4 templates a part and background, and noise that confuses them."""
    layout = {"kinds": ("square", "cross"), "sizes": (3,), "positions": (2, 1)}
    colours = {"colours": ("red", "green"), "backgrounds": ("black", "red")}
    return Shapes(8, shapes=shapes, form="discrete", flip=0.3, **layout, **colours)


def some(world: Shapes, n: int = 5) -> Tensor:
    return world.sample(n, generator=torch.Generator().manual_seed(0))


def log_marginal(world: Shapes, x: Tensor, known: Tensor) -> Tensor:
    """log P(known pixels), (B,): a sum over all templates of the whole image, of which unknown pixels drop out."""
    templates = world.render(world.factors(torch.arange(len(world))))  # (N, 1, H, W)
    flip, levels = world.flip, len(world.palette)
    shown = (x[:, None] == templates).double()[:, :, 0]  # (B, N, H, W)
    alike = shown * (1 - flip) + (1 - shown) * flip / (levels - 1)
    return alike[:, :, known].log().sum(2).logsumexp(1) - math.log(len(world))


@pytest.mark.parametrize("shapes", [1, 2])
def test_the_last_pixels_follow_from_the_sum_over_all_their_levels(shapes: int) -> None:
    """Against `log_prob` alone: P(x_t | before) is a ratio of sums over all ways to go on."""
    world, last = small(shapes), 3
    x, levels = some(world), len(world.palette)
    found = ExactConditionals(world)(x).flatten(2)  # (B, K, T)
    total = found.shape[2]
    for t in range(total - last, total):
        ways = torch.tensor(list(itertools.product(range(levels), repeat=total - t)))
        whole = x.flatten(1)[:, None].repeat(1, len(ways), 1)
        whole[:, :, t:] = ways
        log_p = world.log_prob(whole.view(-1, 1, 8, 8)).view(len(x), len(ways))
        sums = torch.stack([log_p[:, ways[:, 0] == k].logsumexp(1) for k in range(levels)], dim=1)
        torch.testing.assert_close(found[:, :, t], sums.log_softmax(1), rtol=0, atol=1e-10)


@pytest.mark.parametrize("shapes", [1, 2])
@pytest.mark.parametrize("ordering", ["raster", "backwards", "random"])
def test_the_conditionals_of_any_order_sum_to_the_log_probability(shapes: int, ordering: str) -> None:
    world = small(shapes)
    x = some(world)
    orders = {"raster": None, "backwards": range(63, -1, -1), "random": torch.randperm(64)}
    found = ExactConditionals(world)(x, order=orders[ordering])
    torch.testing.assert_close(found.exp().sum(1), torch.ones(5, 8, 8, dtype=torch.float64), rtol=0, atol=1e-12)
    torch.testing.assert_close(found.gather(1, x).sum((1, 2, 3)), world.log_prob(x), rtol=0, atol=1e-9)


@pytest.mark.parametrize("shapes", [1, 2])
def test_each_conditional_is_a_ratio_of_marginals(shapes: int) -> None:
    world = small(shapes)
    x, order = some(world), torch.randperm(64)
    found = ExactConditionals(world)(x, order=order).gather(1, x).flatten(1)
    for t in range(0, 64, 7):
        known = torch.zeros(64, dtype=torch.bool)
        known[order[:t]] = True
        before = log_marginal(world, x, known.view(8, 8))
        known[order[t]] = True
        with_it = log_marginal(world, x, known.view(8, 8))
        torch.testing.assert_close(found[:, order[t]], with_it - before, rtol=0, atol=1e-10)


def test_a_world_of_two_shapes_learns_of_the_background_from_the_other_half() -> None:
    """The left half's pixels say which background it is: the right half's first pixel must follow."""
    world = small(2)
    exact, x = ExactConditionals(world), some(world)
    left = torch.zeros(8, 8, dtype=torch.bool)
    left[:, :4] = True
    cache = exact.init_cache(5, 8, 8)
    alone = cache.logits(0, 7)
    for row, column in left.nonzero().tolist():
        cache.append(x[:, 0, row, column], row, column)
    assert (cache.logits(0, 7) - alone).abs().max() > 0.1


@pytest.mark.parametrize("shapes", [1, 2])
def test_the_posterior_given_every_pixel_is_the_worlds_own(shapes: int) -> None:
    world = small(shapes)
    x, exact = some(world), ExactConditionals(small(shapes))
    whole = torch.ones(8, 8, dtype=torch.bool)
    torch.testing.assert_close(exact.template_posterior(x, whole), world.posterior(x), rtol=0, atol=1e-9)
    none = exact.template_posterior(x, ~whole)
    torch.testing.assert_close(none.exp().sum(-1), torch.ones(none.shape[:-1], dtype=torch.float64))
    if shapes == 1:
        torch.testing.assert_close(none.exp(), torch.full((5, len(world)), 1 / len(world), dtype=torch.float64))


def test_a_field_of_view_of_all_before_gives_the_conditionals_and_one_of_nothing_the_marginals() -> None:
    world = small()
    exact, x = ExactConditionals(world), some(world)
    before = torch.ones(64, 64, dtype=torch.bool).tril(-1)
    torch.testing.assert_close(exact.seeing(x, before), exact(x), rtol=0, atol=1e-9)
    alone = exact.seeing(x, torch.zeros(64, 64, dtype=torch.bool)).gather(1, x).flatten(1)
    for pixel in (0, 27, 63):
        known = torch.zeros(64, dtype=torch.bool)
        known[pixel] = True
        torch.testing.assert_close(alone[:, pixel], log_marginal(world, x, known.view(8, 8)), rtol=0, atol=1e-9)


def test_guesses_from_a_few_pixels_are_ratios_of_marginals() -> None:
    world = small()
    x, seen = some(world), torch.rand(64, 64) < 0.2
    seen.fill_diagonal_(False)
    found = ExactConditionals(world).seeing(x, seen).gather(1, x).flatten(1)
    for pixel in range(0, 64, 9):
        known = seen[pixel].clone()
        before = log_marginal(world, x, known.view(8, 8))
        known[pixel] = True
        expected = log_marginal(world, x, known.view(8, 8)) - before
        torch.testing.assert_close(found[:, pixel], expected, rtol=0, atol=1e-9)


def test_samples_pixel_by_pixel_follow_the_world_and_keep_what_is_known() -> None:
    """Completions of a half: their templates are distributed as the posterior given that half says."""
    world = small()
    exact, upper = ExactConditionals(world), torch.zeros(8, 8, dtype=torch.bool)
    upper[:5] = True
    x = some(world, 1).expand(20_000, -1, -1, -1)
    uniform = torch.rand(20_000, 8, 8, generator=torch.Generator().manual_seed(1))
    *_, done = sampler.sample(exact, uniform, known=(x, upper))
    assert torch.equal(done[:, :, :5], x[:, :, :5])
    expected = exact.template_posterior(x[:1], upper).exp()[0]
    found = world.posterior(done).exp().mean(0)  # its mean over completions is the posterior given the half
    torch.testing.assert_close(found, expected, rtol=0, atol=0.015)
    assert expected.max() - expected.min() > 0.1, "the half says something"


def test_what_is_no_discrete_world_or_no_order_is_refused() -> None:
    with pytest.raises(ValueError, match="discrete"):
        ExactConditionals(Shapes(8, sizes=(5,), positions=(2, 2)))
    exact = ExactConditionals(small())
    with pytest.raises(ValueError, match="once"):
        exact(some(small()), order=[0] * 64)
    with pytest.raises(ValueError, match="8 pixels"):
        exact.init_cache(2, 8, 9)
    with pytest.raises(ValueError, match="seen must be"):
        exact.seeing(some(small()), torch.ones(8, 8, dtype=torch.bool))
    with pytest.raises(ValueError, match="one shape"):
        ExactConditionals(small(2)).seeing(some(small(2)), torch.ones(64, 64, dtype=torch.bool))
    with pytest.raises(ValueError, match="images must be"):
        exact(torch.zeros(2, 1, 8, 9, dtype=torch.int64))
