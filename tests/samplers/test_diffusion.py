"""Samplers against closed forms on Gaussian data, an ODE solver of another library, and densities of a mixture."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator

import numpy
import pytest
import torch
from scipy.integrate import solve_ivp
from torch import Tensor
from torch.autograd.functional import jacobian

from minigen.objectives.diffusion import Path, Schedule, alpha_sigma, posterior_step
from minigen.objectives.flow import straight
from minigen.samplers import diffusion as samplers
from minigen.samplers.ode import divergence, ode_log_prob
from minigen.worlds import GaussianMixture

pytestmark = pytest.mark.usefixtures("float64")

Sampler = Callable[..., Iterator[Tensor]]
COVARIANCES = torch.tensor([[[0.3, 0.0], [0.0, 0.3]], [[0.5, 0.2], [0.2, 0.4]]], dtype=torch.float64)
SMOOTH = GaussianMixture(torch.tensor([[-1.0, 0.0], [1.0, 0.5]]), covariances=COVARIANCES)


def near(found: Tensor, expected: Tensor | float, atol: float = 1e-12) -> None:
    torch.testing.assert_close(found, torch.as_tensor(expected).expand_as(found), atol=atol, rtol=0)


def ddim(denoise, x: Tensor, path: Path) -> Iterator[Tensor]:
    return samplers.ancestral(denoise, x, path, eta=0.0)


ALL: tuple[Sampler, ...] = (samplers.ancestral, ddim, samplers.heun, samplers.dpm_solver_2m)
SOLVERS = {"ddim": ddim, "heun": samplers.heun, "dpm_solver_2m": samplers.dpm_solver_2m}


def last(states: Iterator[Tensor]) -> Tensor:
    *_, x = states
    return x


# Ancestral sampling


def impulses(
    path: Path, eta: float, monkeypatch: pytest.MonkeyPatch, step: Callable = posterior_step
) -> tuple[Tensor, Tensor]:
    """Mean and variance of what `ancestral` gives on N(0.5, 0.3) from standard normal noise, exactly.

    On Gaussian data the result is linear in x_T and in each step's noise, so its coefficients are what the sampler
    answers to ones: row 0 has no noise at all, row 1 has x_T = 1, and row i + 2 has noise 1 in step i.
    """
    world, steps = GaussianMixture(torch.tensor([[0.5]]), std=math.sqrt(0.3)), len(path.alpha) - 1
    calls = itertools.count()

    def ones_in_turn(shape: torch.Size, **_: object) -> Tensor:
        return torch.eye(steps + 2)[:, [2 + next(calls)]]

    monkeypatch.setattr(samplers.torch, "randn", ones_in_turn)
    monkeypatch.setattr(samplers, "posterior_step", step)
    answers = last(samplers.ancestral(world.denoise, torch.eye(steps + 2)[:, [1]], path, eta=eta))[:, 0]
    assert next(calls) == (steps - 1 if eta else 0)  # no noise at the last step
    return answers[0], (answers[1:] - answers[0]).square().sum()


def recursion(path: Path, eta: float) -> tuple[float, float]:
    """The same in closed form: x_s on x_t is a regression line of jointly Gaussian variables, plus DDIM's share."""
    mean, variance, c, m = 0.0, 1.0, 0.3, 0.5
    for (a_t, s_t), (a_s, s_s) in itertools.pairwise(zip(path.alpha.tolist(), path.sigma.tolist(), strict=True)):
        total = a_t**2 * c + s_t**2
        beta = 1 - (a_t / a_s) ** 2  # of a step that keeps the variance
        tilde = beta * s_s**2 / s_t**2
        # E[x_0 | x_t] and E[eps | x_t] have slopes a_t c / total and s_t / total
        slope = a_s * a_t * c / total + math.sqrt(s_s**2 - eta**2 * tilde) * s_t / total
        mean, variance = a_s * m + slope * (mean - a_t * m), slope**2 * variance + eta**2 * tilde
    return mean, variance


@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("steps", [1, 2, 3, 10, 100])
def test_on_gaussian_data_mean_and_variance_are_exact(eta: float, steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Schedule.linear(100, first=1e-3, last=0.15).path(steps)
    found, expected = impulses(path, eta, monkeypatch), recursion(path, eta)
    near(torch.stack(found), torch.tensor(expected))
    if steps == 100:
        assert found[0].item() == pytest.approx(0.5, abs=5e-3)
        assert found[1].item() == pytest.approx(0.3, rel=0.15)


def test_many_steps_reach_the_data_and_the_variance_beta_reaches_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    def large(x_0: Tensor, x_t: Tensor, now: tuple, then: tuple, *, eta: float) -> tuple[Tensor, Tensor]:
        right = posterior_step(x_0, x_t, now, then, eta=eta)
        return right.mean, torch.tensor(eta**2 * (1 - (now[0] / then[0]) ** 2))

    schedule = Schedule.linear()
    _, right = impulses(schedule.path(), 1.0, monkeypatch)
    assert right.item() == pytest.approx(0.3, rel=0.02)
    few = schedule.path(20)
    _, small = impulses(few, 1.0, monkeypatch)
    _, much = impulses(few, 1.0, monkeypatch, large)
    assert small < 0.3 < much  # Ho et al. 2020, section 3.2: the two ends of what the variance may be


def test_the_images_of_a_mixture_are_drawn() -> None:
    world, generator = GaussianMixture.ring(std=0.1), torch.Generator().manual_seed(0)
    path = Schedule.cosine(150).path()
    for eta in (0.0, 1.0):
        x = last(samplers.ancestral(world.denoise, torch.randn(1500, 2, generator=generator), path, eta=eta,
                                    generator=generator))  # fmt: skip
        assert -world.log_prob(x).mean().item() == pytest.approx(world.entropy(), abs=0.12)
        assert torch.bincount(world.posterior(x).argmax(1), minlength=8).min() > 130  # of 187 on average


def test_the_generator_decides_the_noise() -> None:
    x, path = torch.randn(3, 1, 2, 2), Schedule.cosine(20).path(5)
    one, two, other = (
        last(samplers.ancestral(lambda x, a, s: x / 2, x, path, generator=torch.Generator().manual_seed(seed)))
        for seed in (0, 0, 1)
    )
    assert one.equal(two)
    assert not one.equal(other)


@pytest.mark.parametrize("eta", [-0.1, 1.1, math.nan])
def test_eta_is_a_share(eta: float) -> None:
    with pytest.raises(ValueError, match=r"in 0\.\.1, from DDIM to DDPM; got"):
        next(samplers.ancestral(SMOOTH.denoise, torch.zeros(1, 2), straight(2), eta=eta))


# All samplers


@pytest.mark.parametrize(("sampler", "calls"), list(zip(ALL, (6, 6, 11, 6), strict=True)))
def test_states_come_one_by_one_and_the_last_is_the_last_guess(sampler: Sampler, calls: int) -> None:
    asked: list[Tensor] = []

    def denoise(x: Tensor, alpha: float, sigma: float) -> Tensor:
        asked.append(SMOOTH.denoise(x, alpha, sigma))
        assert sigma > 0
        return asked[-1]

    x = torch.randn(4, 2, requires_grad=True)
    states = sampler(denoise, x, Schedule.cosine(30).path(6))
    assert not asked
    next(states)
    assert len(asked) == (2 if sampler is samplers.heun else 1)
    rest = list(states)
    assert len(rest) == 5
    assert len(asked) == calls
    assert len({state.data_ptr() for state in rest}) == 5
    assert not any(state.requires_grad for state in rest)
    if sampler is not samplers.dpm_solver_2m:
        near(rest[-1], asked[-1])
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("sampler", ALL)
@pytest.mark.parametrize("path", [straight(40), Schedule.linear(40, last=0.3).zero_terminal().path()])
def test_a_path_may_begin_where_no_signal_is_left(sampler: Sampler, path: Path) -> None:
    x = last(sampler(SMOOTH.denoise, torch.randn(400, 2), path))
    assert -SMOOTH.log_prob(x).mean().item() == pytest.approx(SMOOTH.entropy(), abs=0.25)


# The probability-flow ODE


def test_ddim_is_an_euler_step_in_the_ratio_of_noise_to_signal() -> None:
    path = Schedule.linear(50, last=0.2).path(7)
    x = torch.randn(9, 2)
    for state, ((a, s), (a_s, s_s)) in zip(
        ddim(SMOOTH.denoise, x, path),
        itertools.pairwise(zip(path.alpha.tolist(), path.sigma.tolist(), strict=True)),
        strict=True,
    ):
        y, eps = x / a, -s * SMOOTH.marginal(a, s).score(x)
        y = y + (s_s / a_s - s / a) * eps
        near(state, a_s * y, atol=1e-10)
        x = state


def uneven(steps: int) -> Path:
    """Levels from log-SNR -6 to 4 whose steps are in turn twice as long as the one before, and half."""
    lengths = torch.where(torch.arange(steps) % 2 == 0, 1.0, 2.0)
    return Path(*alpha_sigma(-6 + 10 * torch.cat([torch.zeros(1), lengths.cumsum(0)]) / lengths.sum()))


X_T = torch.randn(24, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.fixture(scope="module")
def end_of_the_ode() -> Tensor:
    """Where the ODE leads from X_T at log-SNR -6, at log-SNR 4: Dormand and Prince's method of order 8."""

    def slope(r: float, y: numpy.ndarray) -> numpy.ndarray:
        x = torch.from_numpy(y).view(24, 2)
        return (-r * SMOOTH.marginal(1.0, r).score(x)).flatten().numpy()  # Karras et al. 2022, eq. 1, for sigma = r

    y = (X_T / alpha_sigma(torch.tensor(-6.0, dtype=torch.float64))[0]).flatten().numpy()
    found = solve_ivp(slope, (math.exp(3), math.exp(-2)), y, method="DOP853", rtol=1e-12, atol=1e-12)
    return torch.from_numpy(found.y[:, -1]).view(24, 2) * alpha_sigma(torch.tensor(4.0, dtype=torch.float64))[0]


COUNTS = (16, 32, 64, 128, 256, 512)


def order(sampler: Sampler, end: Tensor) -> float:
    """The fitted slope of log error against log length of a step."""
    errors = [(last(sampler(SMOOTH.denoise, X_T, uneven(n))) - end).norm() for n in COUNTS]
    line = numpy.polyfit(numpy.log(COUNTS), numpy.log(errors), 1)
    return -float(line[0])


@pytest.mark.parametrize(("name", "expected"), [("ddim", 1.0), ("heun", 2.0), ("dpm_solver_2m", 2.0)])
def test_orders_of_convergence(name: str, expected: float, end_of_the_ode: Tensor) -> None:
    assert order(SOLVERS[name], end_of_the_ode) == pytest.approx(expected, abs=0.15)


def papers_2m(x: Tensor, path: Path, change: str) -> Tensor:
    """Algorithm 2 of Lu et al. 2022 in its own letters, as printed or with one mistake."""
    alpha, sigma = path
    lam, before = (alpha / sigma).log(), torch.zeros_like(x)
    for i in range(1, len(lam)):
        guess = SMOOTH.denoise(x, float(alpha[i - 1]), float(sigma[i - 1]))
        h, ahead = lam[i] - lam[i - 1], guess
        if i > 1:
            r = (lam[i - 1] - lam[i - 2]) / h
            r = {"none": r, "inverted": 1 / r, "equal steps": 1.0, "sign": -r, "twice": r / 2}[change]
            ahead = (1 + 1 / (2 * r)) * guess - 1 / (2 * r) * before
        x = sigma[i] / sigma[i - 1] * x - alpha[i] * torch.expm1(-h) * ahead
        before = guess
    return x


@pytest.mark.parametrize("change", ["none", "inverted", "equal steps", "sign", "twice"])
def test_dpm_solver_2m_is_the_papers_algorithm(change: str) -> None:
    gap = last(samplers.dpm_solver_2m(SMOOTH.denoise, X_T, uneven(12))) - papers_2m(X_T, uneven(12), change)
    assert gap.abs().max() < 1e-10 if change == "none" else gap.abs().max() > 1e-3


def test_the_ode_carries_each_density_to_the_next() -> None:
    """log p_t(x_t) = log p_s(x_s) + log |det dx_s / dx_t|, with both densities exact."""
    path, x, h = Path(*alpha_sigma(torch.linspace(-3, 3, 400))), torch.randn(6, 2), 1e-5
    both = torch.cat([x] + [x + sign * h * torch.eye(2)[i] for i in range(2) for sign in (1, -1)])
    there, *moved = last(samplers.heun(SMOOTH.denoise, both, path)).chunk(5)
    columns = [(moved[2 * i] - moved[2 * i + 1]) / (2 * h) for i in range(2)]
    log_det = torch.linalg.slogdet(torch.stack(columns, -1)).logabsdet
    (first, final) = (SMOOTH.marginal(float(path.alpha[i]), float(path.sigma[i])) for i in (0, -1))
    near(first.log_prob(x), final.log_prob(there) + log_det, atol=1e-3)


# Likelihood


WORLDS = {
    "smooth": SMOOTH,
    "aside": GaussianMixture(SMOOTH.means + 2, covariances=COVARIANCES),
    "ring": GaussianMixture.ring(std=0.1),
}


@pytest.mark.parametrize("name", WORLDS)
def test_the_ode_gives_the_likelihood_of_a_mixture_wherever_it_stands(name: str) -> None:
    world = WORLDS[name]
    x = torch.cat([world.sample(30, generator=torch.Generator().manual_seed(0)), torch.zeros(1, 2)])
    near(ode_log_prob(world.denoise, x), world.log_prob(x), atol=0.01)


def test_the_likelihood_of_images_counts_all_their_numbers() -> None:
    def denoise(x_t: Tensor, alpha: float, sigma: float) -> Tensor:  # of N(0.2, 0.25 I)
        return 0.2 + alpha * 0.25 / (alpha**2 * 0.25 + sigma**2) * (x_t - alpha * 0.2)

    x = torch.randn(3, 1, 2, 2) / 2
    exact = torch.distributions.Normal(0.2, 0.5).log_prob(x).flatten(1).sum(1)
    near(ode_log_prob(denoise, x), exact, atol=1e-3)
    signs = torch.randint(2, (1, 3, 1, 2, 2)) * 2.0 - 1
    near(ode_log_prob(denoise, x, probes=signs), exact, atol=1e-3)  # the Jacobian is diagonal: one probe is exact


def test_the_likelihood_is_too_high_by_the_variance_over_that_of_the_last_noise_on_average() -> None:
    c, high = 0.25, 3.0  # the error is c / high^2 for each number, as the docstring says; half of it is not enough

    def denoise(x_t: Tensor, alpha: float, sigma: float) -> Tensor:  # of N(0, c I)
        return alpha * c / (alpha**2 * c + sigma**2) * x_t

    x = c**0.5 * torch.special.ndtri((torch.arange(2000, dtype=torch.float64) + 0.5) / 2000)[:, None]
    exact = torch.distributions.Normal(0.0, c**0.5).log_prob(x)[:, 0]
    too_high = (ode_log_prob(denoise, x, high=high) - exact).mean().item()
    assert too_high == pytest.approx(c / high**2, rel=0.05)


def test_the_divergence_is_the_trace_of_the_jacobian_and_hutchinsons_is_unbiased() -> None:
    weight = torch.randn(4, 4)

    def field(x: Tensor) -> Tensor:
        return torch.tanh(x.flatten(1) @ weight).square().view_as(x) * x.flip(1)

    x = torch.randn(3, 2, 2, requires_grad=True)
    expected = torch.stack([jacobian(lambda row: field(row[None])[0].flatten(), row).view(4, 4).trace() for row in x])
    near(divergence(field(x), x), expected.detach())
    every = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 4).view(16, 1, 2, 2).expand(16, 3, 2, 2)
    near(divergence(field(x), x, probes=every), expected.detach())  # the mean over all signs
    one = divergence(field(x), x, probes=every[5:6])
    assert (one - expected).abs().min() > 1e-3
    normal = torch.randn(4000, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    near(divergence(field(x), x, probes=normal), expected.detach(), atol=0.3)


def test_ddpm_and_ddim_are_the_two_ends_of_ancestral_sampling() -> None:
    x, path = torch.randn(5, 2), Schedule.cosine(50).path(6)

    def noise() -> torch.Generator:
        return torch.Generator().manual_seed(1)

    pairs = [
        (samplers.ddpm(SMOOTH.denoise, x, path, generator=noise()), {"eta": 1.0, "generator": noise()}),
        (samplers.ddim(SMOOTH.denoise, x, path), {"eta": 0.0}),
        (samplers.ddim(SMOOTH.denoise, x, path, eta=0.3, generator=noise()), {"eta": 0.3, "generator": noise()}),
    ]
    ends = []
    for named, options in pairs:
        steps = list(named)
        assert len(steps) == 6
        for found, expected in zip(steps, samplers.ancestral(SMOOTH.denoise, x, path, **options), strict=True):
            assert found.equal(expected)
        ends.append(steps[-1])
    assert not ends[0].allclose(ends[1])
