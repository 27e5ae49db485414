"""Distances between samples: against brute force, exact expectations and exact worlds."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from minigen.metrics.likelihood import bits_per_dim, nll
from minigen.metrics.samples import frechet_distance, inception_score, kernel_distance, nearest, precision_recall
from minigen.worlds import GaussianMixture


def two(n: int, m: int, d: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=generator, dtype=torch.float64)
    return x, 0.7 * torch.randn(m, d, generator=generator, dtype=torch.float64) + 0.4


def test_nll_reaches_the_entropy_and_knows_its_error() -> None:
    world = GaussianMixture.ring(std=0.1)
    x = world.sample(20_000, generator=torch.Generator().manual_seed(0))
    found = nll(world.log_prob(x))
    assert abs(found.mean - world.entropy()) < 4 * found.standard_error
    assert found.standard_error == pytest.approx(world.log_prob(x).std().item() / math.sqrt(20_000), rel=1e-6)


def test_bits_per_dim_of_a_uniform_density_are_those_of_its_levels() -> None:
    for levels in (2, 8, 256):
        on_the_interval = 3 * math.log(2)  # the uniform density on [-1, 1]^3 is 1/8
        assert bits_per_dim(on_the_interval, 3, levels=levels) == pytest.approx(math.log2(levels))
    assert bits_per_dim(5 * math.log(4), 5) == pytest.approx(2)


def test_frechet_distance_of_given_moments() -> None:
    x, y = two(400, 300)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(x, x + torch.tensor([3.0, 0.0, 4.0])) == pytest.approx(25)
    assert frechet_distance(x, y) == pytest.approx(frechet_distance(y, x))
    one = x[:, :1]
    assert frechet_distance(one, 3 * one) == pytest.approx(
        (2 * one.std() ** 1).item() ** 2 + (2 * one.mean()).item() ** 2
    )


def test_frechet_distance_is_biased_upwards_as_one_over_n() -> None:
    generator = torch.Generator().manual_seed(0)

    def mean_at(n: int) -> float:
        draws = torch.randn(300, 2, n, 4, generator=generator, dtype=torch.float64)
        return sum(frechet_distance(x, y) for x, y in draws) / 300

    small, large = mean_at(50), mean_at(200)
    assert 3.4 < small / large < 4.8
    assert large == pytest.approx(4 * (4 + 5) / (2 * 200), rel=0.1)  # 2D/N of the means, D(D+1)/2N of the covariances


@pytest.mark.parametrize(("n", "m"), [(2, 3), (3, 4), (4, 4), (5, 40), (40, 5), (8, 8), (9, 9), (40, 60)])
def test_frechet_distance_is_that_of_the_covariances_also_where_samples_are_few(n: int, m: int) -> None:
    """Against the formula of Heusel et al. with a matrix root by eigenvalues, in eight dimensions."""
    random = torch.Generator().manual_seed(n)
    x = torch.randn(n, 8, generator=random, dtype=torch.float64)
    y = 2 + torch.randn(m, 8, generator=random, dtype=torch.float64) @ torch.diag(torch.linspace(0.2, 3, 8).double())
    s_x, s_y = x.T.cov(), y.T.cov()
    root = torch.linalg.eigvals(s_x @ s_y).real.clamp(min=0).sqrt().sum()
    expected = (x.mean(0) - y.mean(0)).square().sum() + s_x.trace() + s_y.trace() - 2 * root
    assert frechet_distance(x, y) == pytest.approx(expected.item(), rel=1e-6)


def test_frechet_distance_of_few_large_pictures_takes_no_matrix_of_their_size() -> None:
    x, y = torch.randn(2, 6, 3 * 128 * 128, generator=torch.Generator().manual_seed(0))  # such a matrix is 19 GB
    assert 2 * 49_000 * (5 / 6) < frechet_distance(x, y) < 3 * 49_152


def test_frechet_distance_takes_unbiased_covariances_and_few_samples() -> None:
    x, y = two(6, 4, d=1)
    means, spreads = (x.mean() - y.mean()).item(), (x.std() - y.std()).item()  # torch's std divides by N - 1
    assert frechet_distance(x, y) == pytest.approx(means**2 + spreads**2)
    few = torch.randn(5, 20, generator=torch.Generator().manual_seed(0))
    assert frechet_distance(few, few) == pytest.approx(0, abs=1e-9)


def test_kernel_distance_is_gretton_s_double_sum() -> None:
    x, y = two(5, 7)

    def k(a: Tensor, b: Tensor) -> float:
        return (float(a @ b) / 3 + 1) ** 3

    within_x = sum(k(a, b) for a, b in itertools.permutations(x, 2)) / 20
    within_y = sum(k(a, b) for a, b in itertools.permutations(y, 2)) / 42
    across = sum(k(a, b) for a in x for b in y) / 35
    assert kernel_distance(x, y) == pytest.approx(within_x + within_y - 2 * across)


def test_kernel_distance_has_the_exact_expectation() -> None:
    """Over all samples of two from two points each, the mean is the population's value; the biased form misses it."""
    p, q = torch.tensor([[0.0], [1.0]]), torch.tensor([[1.0], [2.0]])
    every = [torch.stack(pair) for pair in itertools.product(p, repeat=2)]
    other = [torch.stack(pair) for pair in itertools.product(q, repeat=2)]
    mean = sum(kernel_distance(x, y) for x in every for y in other) / 16

    def expected(a: Tensor, b: Tensor) -> float:
        return ((a @ b.T + 1) ** 3).mean().item()

    truth = expected(p, p) + expected(q, q) - 2 * expected(p, q)
    assert mean == pytest.approx(truth)
    biased = sum(expected(x, x) + expected(y, y) - 2 * expected(x, y) for x in every for y in other) / 16
    assert biased > truth + 1


def test_kernel_distance_of_equal_laws_is_centred_on_zero() -> None:
    draws = torch.randn(400, 2, 30, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    values = torch.tensor([kernel_distance(x, y) for x, y in draws])
    assert abs(values.mean()) < 4 * values.std() / math.sqrt(400)
    assert (values < 0).any()


def test_blocks_change_nothing() -> None:
    x, y = two(1500, 1100, d=2)
    whole = [(a @ b.T / 2 + 1) ** 3 for a, b in ((x, x), (y, y), (x, y))]
    within = sum((k.sum() - k.trace()) / (len(k) * (len(k) - 1)) for k in whole[:2])
    assert kernel_distance(x, y) == pytest.approx((within - 2 * whole[2].mean()).item())
    radius = torch.cdist(x, x).sort().values[:, 3]
    inside = (torch.cdist(y, x) <= radius).any(1).double().mean().item()
    assert precision_recall(x, y).precision == pytest.approx(inside)


@pytest.mark.parametrize("k", [1, 3])
def test_precision_and_recall_by_brute_force(k: int) -> None:
    real, fake = two(20, 15, d=2)

    def reached(point: Tensor, points: Tensor) -> bool:
        for i, centre in enumerate(points):
            others = sorted(math.dist(centre, other) for j, other in enumerate(points) if j != i)
            if math.dist(centre, point) <= others[k - 1]:
                return True
        return False

    found = precision_recall(real, fake, k=k)
    assert found.precision == pytest.approx(sum(reached(x, real) for x in fake) / 15)
    assert found.recall == pytest.approx(sum(reached(x, fake) for x in real) / 20)
    assert found.precision != found.recall


def test_precision_and_recall_see_what_they_are_for() -> None:
    generator = torch.Generator().manual_seed(0)
    real = torch.cat([torch.randn(100, 2, generator=generator), torch.randn(100, 2, generator=generator) + 50])
    one_half = torch.randn(200, 2, generator=generator)
    found = precision_recall(real, one_half)
    assert found.precision > 0.9
    assert 0.4 < found.recall < 0.55
    far = precision_recall(real, one_half + 500)
    assert far == (0.0, 0.0)
    assert precision_recall(real, real) == (1.0, 1.0), "a memoriser is perfect"
    assert precision_recall(real, real[:1].expand(200, 2)) == (1.0, 1 / 200), "a ball of radius 0 holds its centre"


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: frechet_distance(torch.zeros(4, 1, 8, 8), torch.zeros(4, 64)), "images.flatten"),
        (lambda: frechet_distance(torch.zeros(1, 2), torch.zeros(4, 2)), "at least 2 rows"),
        (lambda: kernel_distance(torch.zeros(4, 3), torch.zeros(4, 2)), r"\(4, 3\) and \(4, 2\)"),
        (lambda: precision_recall(torch.zeros(3, 2), torch.zeros(9, 2), k=3), "below both sizes, 3 and 9; got 3"),
        (lambda: precision_recall(torch.zeros(5, 2), torch.zeros(9, 2), k=0), "k must be 1 or more; got 0"),
        (lambda: nll(torch.tensor([0.0, -math.inf])), "1 of 2 log-densities"),
        (lambda: nll(torch.zeros(3, 2)), r"got \(3, 2\)"),
    ],
)
def test_errors_say_what_was_given(call, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        call()


def test_a_copy_is_at_distance_zero_among_many() -> None:
    real = torch.rand(300, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    distance, index = nearest(real.flip(0), real)
    assert distance.dtype == torch.float32
    assert (distance == 0).all()
    assert index.tolist() == list(range(299, -1, -1))


def test_the_nearest_is_that_of_brute_force() -> None:
    x, y = two(60, 400, d=5)
    distance, index = nearest(x, y)
    each = (x[:, None] - y).norm(dim=2)
    torch.testing.assert_close(distance, each.min(1).values)
    assert index.equal(each.argmin(1))


def test_the_nearest_keeps_its_digits_far_from_zero() -> None:
    """Neighbours that are a millionth apart, a hundred from 0: squares expanded in single precision are off by 0.01,
    and a distance from squares expanded in double precision keeps no digit."""
    y = 100 + 1e-3 * torch.randn(400, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = y[:60] + 1e-6 * torch.randn(60, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    distance, index = nearest(x, y)
    assert index.tolist() == list(range(60))
    torch.testing.assert_close(distance, (x - y[:60]).norm(dim=1), rtol=1e-6, atol=0)


@pytest.mark.parametrize("scale", [0.1, 1 / 3, 1 / 255, 1e3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_precision_and_recall_keep_ties_under_scaling(scale: float, dtype: torch.dtype) -> None:
    """On a grid of whole numbers many distances are equal; a factor must not break them."""
    generator = torch.Generator().manual_seed(0)
    real, fake = (torch.randint(0, 12, (n, 3), generator=generator).to(dtype) for n in (60, 50))
    radius = (real[:, None] - real).square().sum(2).topk(4, largest=False).values[:, 3]
    precision = ((fake[:, None] - real).square().sum(2) <= radius).any(1).double().mean().item()
    assert precision_recall(real, fake) == precision_recall(scale * real, scale * fake)
    assert precision_recall(scale * real, scale * fake).precision == pytest.approx(precision)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_point_on_the_edge_of_a_ball_is_inside_and_one_beyond_it_is_not(dtype: torch.dtype) -> None:
    real, edge = torch.tensor([[1.0], [4.0]], dtype=dtype), torch.tensor([[7.0], [-2.0]], dtype=dtype)
    beyond = torch.tensor([[7.001], [-2.001]], dtype=dtype)
    for scale in (0.1, 0.3, 0.7, 1 / 3, 1 / 7, 1 / 255, 1e3 / 3):
        assert precision_recall(scale * real, scale * edge, k=1).precision == 1.0
        assert precision_recall(scale * real, scale * beyond, k=1).precision == 0.0


def test_the_inception_score_is_the_exponential_of_an_information() -> None:
    p = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8], [0.3, 0.4, 0.3]], dtype=torch.float64)
    mean = p.mean(0)
    information = sum(p[i, c] * math.log(p[i, c] / mean[c]) for i in range(3) for c in range(3)) / 3
    assert inception_score(p) == pytest.approx(math.exp(information), rel=1e-12)
    for wrong in (
        information,  # no exponential
        math.exp(
            sum(mean[c] * math.log(mean[c] / p[i, c]) for i in range(3) for c in range(3)) / 3
        ),  # KL turned around
        math.exp(-float((mean * mean.log()).sum())),  # H(C) alone
        math.exp(float(information) / math.log(2)),  # bits in the exponent
    ):
        assert inception_score(p) != pytest.approx(float(wrong), rel=1e-3)
    assert inception_score(torch.full((5, 4), 0.25)) == pytest.approx(1.0)
    assert inception_score(torch.eye(4).repeat(3, 1)) == pytest.approx(4.0)
    with pytest.raises(ValueError, match="use softmax, not logits"):
        inception_score(torch.randn(5, 4))
