"""Measures against worlds whose truth is known: what exact samples give, and what each fault does."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import binom

from minigen import metrics
from minigen.metrics import worlds
from minigen.worlds import GaussianMixture, Shapes


@pytest.fixture(scope="module")
def world() -> Shapes:
    return Shapes.preset("12x12")


def exact(world, n: int):
    return world.sample(n, generator=torch.Generator().manual_seed(0))


def test_exact_samples_reach_the_ceiling_and_every_mode() -> None:
    ring = GaussianMixture.ring()
    report = metrics.modes(exact(ring, 100_000), ring)
    assert report.captured == 8
    assert report.high_quality == pytest.approx(0.98889, abs=1.5e-3)
    assert pytest.approx(1 - math.exp(-4.5)) == metrics.HIGH_QUALITY_CEILING
    assert report.counts.sum().item() == round(report.high_quality * 100_000)


def test_modes_counts_what_is_lost_and_what_lies_between() -> None:
    grid = GaussianMixture.grid()
    x, labels = grid.sample_with_labels(2500, generator=torch.Generator().manual_seed(0))
    assert metrics.modes(x[labels < 7], grid).captured == 7
    between = torch.full((100, 2), 1.0)  # the centre of four spots
    assert metrics.modes(between, grid) == (0, 0.0, pytest.approx(torch.zeros(25)))
    assert metrics.modes(torch.cat([x, between]), grid).high_quality == pytest.approx(
        metrics.modes(x, grid).high_quality * 2500 / 2600
    )


def test_radius_is_a_mahalanobis_distance_and_least_a_count() -> None:
    wide = GaussianMixture(torch.zeros(1, 2), covariances=torch.diag(torch.tensor([4.0, 0.01]))[None])
    points = torch.tensor([[5.9, 0.0], [6.1, 0.0], [0.0, 0.29], [0.0, 0.31]])
    assert metrics.modes(points, wide).high_quality == 0.5
    assert metrics.modes(points, wide, least=2).captured == 1
    assert metrics.modes(points, wide, least=3).captured == 0


@pytest.mark.parametrize("options", [{}, {"form": "discrete"}, {"shapes": 2}])
def test_exact_samples_are_valid_and_noise_of_another_kind_is_not(options) -> None:
    world = Shapes.preset("12x12", **options)
    x = exact(world, 2000)
    assert metrics.validity(x, world) >= 0.995
    shuffled = x.flatten(2)[..., torch.randperm(144)].view_as(x)  # the same pixels, no structure
    assert metrics.validity(shuffled, world) <= 0.02
    broken = x.clone()
    broken[..., :6, :] = x.roll(1, 0)[..., :6, :]  # the upper half of one image over the lower half of another
    assert metrics.validity(broken, world) < 0.5


def test_the_discrete_limit_is_the_binomial_quantile() -> None:
    for n, p in [(144, 0.01), (256, 0.01), (64, 0.2)]:
        assert worlds._binomial_quantile(n, p, 0.999) == binom.ppf(0.999, n, p)


def test_coverage_of_exact_samples_is_what_it_says_exact_samples_give(world) -> None:
    result = metrics.coverage(exact(world, 5000), world)
    assert abs(result.divergence - result.exact) < 4 * result.spread
    assert result.exact == pytest.approx((len(world) - 1) / 10_000, rel=0.15)  # the large-sample mean


def test_the_divergence_of_even_labels_has_the_mean_and_spread_of_a_chi_square() -> None:
    """2n KL is, for n labels of K values, n much larger than K, chi-square of K - 1 degrees (Wilks 1938)."""
    n, values = 4000, 20
    labels = torch.randint(values, (n,), generator=torch.Generator().manual_seed(1))
    found = metrics.evenness(labels, values, draws=800)
    assert found.exact == pytest.approx(19 / (2 * n), rel=4 * math.sqrt(2 / 19 / 800))
    assert found.spread == pytest.approx(math.sqrt(2 * 19) / (2 * n), rel=0.15)
    share = torch.bincount(labels).double() / n
    assert found.divergence == pytest.approx((share * (share * values).log()).sum().item())
    assert metrics.evenness(torch.tensor([0, 0, 1]), 4).divergence == pytest.approx(
        math.log(4) + 2 / 3 * math.log(2 / 3) + 1 / 3 * math.log(1 / 3)
    )


def test_coverage_sees_lost_modes(world) -> None:
    n = len(world)
    half = world.sample(4000, generator=torch.Generator().manual_seed(0), index=torch.arange(n // 2))
    one = world.sample(500, generator=torch.Generator().manual_seed(0), index=torch.tensor([3]))
    whole = metrics.coverage(exact(world, 4000), world)
    lost = metrics.coverage(half, world)
    assert lost.divergence - whole.divergence == pytest.approx(math.log(2), abs=0.15)
    assert metrics.coverage(one, world).divergence == pytest.approx(math.log(n))
    assert metrics.coverage(torch.rand(50, 3, 12, 12), world).divergence == math.inf


def test_conversions() -> None:
    assert metrics.bits_per_dim(3072 * math.log(2), 3072) == pytest.approx(1.0)
    assert metrics.relative_gap(20.0, 18.0, 218.0) == pytest.approx(0.01)
    with pytest.raises(ValueError, match="above the floor"):
        metrics.relative_gap(20.0, 18.0, 17.0)


def test_the_nearest_mode_counts_in_its_own_standard_deviations() -> None:
    world = GaussianMixture(torch.tensor([[0.0, 0.0], [3.0, 0.0]]), std=torch.tensor([0.1, 1.0]))
    x = torch.tensor([[1.0, 0.0], [0.2, 0.0], [-0.05, 0.0]])  # the first is nearer to 0, ten deviations away
    report = metrics.modes(x, world)
    assert report.counts.tolist() == [2, 1]
    assert report.high_quality == 1.0
    assert report.captured == 2
    assert metrics.modes(x, world, least=2).captured == 1


def test_the_entropy_of_what_is_free_by_enumeration() -> None:
    world = Shapes(8, kinds=("disc", "cross"), colours=("red",), sizes=(5,), positions=(2, 2), backgrounds=("black",))
    fits = {kind: world.caption_indices(f"a red {kind}") for kind in ("disc", "cross")}
    index = torch.cat([fits["disc"][[0, 0, 0, 1]], fits["cross"][[2, 2, 2, 2]], fits["cross"][[0]]])
    captions = ["a red disc"] * 4 + ["a red cross"] * 4 + ["a red disc"]  # the last one does not obey
    found = metrics.free_entropy(world.render(world.factors(index)), captions, world)
    disc = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert found.entropy == pytest.approx((disc + 0) / 2, abs=1e-6)
    assert found.exact == pytest.approx(math.log(4))
    assert found.share == pytest.approx(found.entropy / math.log(4))
    for wrong in (disc, disc / 2 / math.log(2), (disc + math.log(2)) / 2, math.log(4) - disc / 2):
        assert abs(found.entropy - wrong) > 1e-2


def test_what_the_entropy_of_what_is_free_refuses() -> None:
    two, one = Shapes.preset("12x12", shapes=2), Shapes.preset("12x12")
    with pytest.raises(ValueError, match="worlds of one shape; got 2"):
        metrics.free_entropy(exact(two, 2), ["a small red disc and a small red disc"] * 2, two)
    with pytest.raises(ValueError, match="one caption for each"):
        metrics.free_entropy(exact(one, 2), ["a red disc"], one)
    with pytest.raises(ValueError, match="one sample or more"):
        metrics.varied_entropy(torch.zeros(0, 3))
    fixed = Shapes(8, kinds=("disc",), colours=("red",), sizes=(5,), positions=(1, 1), backgrounds=("black",))
    with pytest.raises(ValueError, match="nothing free"):
        metrics.free_entropy(exact(fixed, 2), ["a red disc"] * 2, fixed)
