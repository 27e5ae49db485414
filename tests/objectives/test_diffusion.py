"""Diffusion against quadrature, autograd and the papers' own formulas."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy
import pytest
import torch
from scipy.stats import truncnorm
from torch import Tensor, nn
from torch.distributions import Normal

from minigen.objectives import diffusion as d
from minigen.train.rng import Rng
from minigen.worlds import GaussianMixture
from minigen.worlds.line import Line

pytestmark = pytest.mark.usefixtures("float64")

PREDICTIONS: tuple[d.Prediction, ...] = ("epsilon", "x0", "v", "score")
LEVELS = [
    ((0.6, 0.8), (0.9, math.sqrt(0.19))),  # the variance is kept
    ((0.1, 0.99), (0.7, 0.714)),
    ((1.0, 2.0), (1.0, 0.3)),  # the signal is kept
    ((0.0, 1.0), (0.6, 0.8)),
    ((0.6, 0.8), (1.0, 0.0)),
]


def near(found: Tensor, expected: Tensor | float, atol: float = 1e-12) -> None:
    torch.testing.assert_close(found, torch.as_tensor(expected).expand_as(found), atol=atol, rtol=0)


# Schedules


def test_the_linear_schedule_is_that_of_the_paper() -> None:
    schedule, alpha_bar = d.Schedule.linear(), 1.0
    for t in range(1, 1001):
        beta = 1e-4 + (t - 1) / 999 * (0.02 - 1e-4)
        alpha_bar *= 1 - beta
        assert schedule.alpha_bar[t - 1].item() == pytest.approx(alpha_bar, rel=1e-12)
        assert schedule.beta[t - 1].item() == pytest.approx(beta, rel=1e-9)
    assert alpha_bar == pytest.approx(4.0358e-5, rel=1e-4)  # about 0.006 of the signal is left: not zero


def test_the_cosine_schedule_is_that_of_the_paper() -> None:
    schedule = d.Schedule.cosine(50)
    f = [math.cos((t / 50 + 0.008) / 1.008 * math.pi / 2) ** 2 for t in range(51)]
    near(schedule.alpha_bar[:-1], torch.tensor(f[1:-1]) / f[0])
    assert schedule.beta[-1].item() == pytest.approx(0.999)  # clipped, where the formula gives 1
    assert (schedule.beta[:-1] < 0.99).all()


def test_the_even_schedule_has_equal_steps_in_log_snr() -> None:
    schedule = d.Schedule.even(26, low=-7.0, high=5.5)
    torch.testing.assert_close(schedule.log_snr, torch.linspace(5.5, -7, 26, dtype=torch.float64))


def test_the_normal_schedule_has_its_levels_at_the_quantiles_of_a_truncated_normal_law() -> None:
    schedule = d.Schedule.normal(101, mean=1.0, std=2.0, low=-4.0, high=8.0)
    law = truncnorm((-4 - 1) / 2, (8 - 1) / 2, loc=1.0, scale=2.0)
    near(schedule.log_snr, torch.from_numpy(law.isf(numpy.linspace(0, 1, 101))), atol=1e-9)
    assert d.Schedule.normal().log_snr[[0, -1]].tolist() == pytest.approx([9.0, -9.0])


@pytest.mark.parametrize("make", [d.Schedule.linear, d.Schedule.cosine, d.Schedule.normal, d.Schedule.even])
def test_levels_keep_the_variance_and_log_snr_is_in_nats(make: Callable[..., d.Schedule]) -> None:
    schedule = make(70)
    assert len(schedule) == 70
    near(schedule.alpha.square() + schedule.sigma.square(), 1.0)
    near(schedule.log_snr, 2 * (schedule.alpha / schedule.sigma).log(), atol=1e-9)
    near(torch.stack(d.alpha_sigma(schedule.log_snr)), torch.stack([schedule.alpha, schedule.sigma]))


def test_no_signal_is_left_after_lins_algorithm() -> None:
    schedule = d.Schedule.linear()
    moved = schedule.zero_terminal()
    root, first, last = schedule.alpha_bar.sqrt(), schedule.alpha_bar[0].sqrt(), schedule.alpha_bar[-1].sqrt()
    near(moved.alpha, (root - last) * first / (first - last), atol=1e-9)
    assert moved.alpha[-1] == 0
    assert moved.sigma[-1] == 1
    assert moved.alpha[0].item() == pytest.approx(schedule.alpha[0].item(), abs=1e-12)
    near(d.prior_term(torch.randn(5, 3), float(moved.alpha[-1]), 1.0), 0.0)


@pytest.mark.parametrize(
    "alpha_bar", [[], [0.9, 0.9], [0.5, 0.8], [1.0, 0.5], [0.5, -0.1], [[0.9], [0.5]], [0.9, math.nan, 0.1]]
)
def test_levels_that_are_no_schedule_are_refused(alpha_bar: list) -> None:
    with pytest.raises(ValueError, match="strictly decreasing, from below 1 to 0 or more"):
        d.Schedule(torch.tensor(alpha_bar))


@pytest.mark.parametrize("steps", [1, 2, 7, 63, 64, None])
def test_a_path_goes_from_the_last_level_to_the_data(steps: int | None) -> None:
    schedule = d.Schedule.cosine(64)
    path, n = schedule.path(steps), steps or 64
    assert len(path.alpha) == len(path.sigma) == n + 1
    assert (path.alpha[0], path.sigma[0]) == (schedule.alpha[-1], schedule.sigma[-1])
    assert (path.alpha[-1], path.sigma[-1]) == (1, 0)
    assert (path.sigma.diff() < 0).all()
    visited = torch.tensor([(schedule.alpha - s).abs().argmin() for s in path.alpha[:-1]])
    near(path.alpha[:-1], schedule.alpha[visited])
    near(path.sigma[:-1], schedule.sigma[visited])
    even = 63 - 64 / n * torch.arange(n)
    assert (visited - even).abs().max() <= 0.5


@pytest.mark.parametrize("steps", [0, 65])
def test_a_path_cannot_have_more_steps_than_levels(steps: int) -> None:
    with pytest.raises(ValueError, match=rf"in 1\.\.64, .* got {steps}"):
        d.Schedule.cosine(64).path(steps)


# Forward and backward


def test_noise_of_many_steps_is_added_in_one() -> None:
    schedule, x_0 = d.Schedule.linear(300), torch.randn(4, 1, 2, 3)
    share, variance = 1.0, 0.0
    for beta in schedule.beta.tolist():
        share, variance = math.sqrt(1 - beta) * share, (1 - beta) * variance + beta
    last = float(schedule.alpha[-1]), float(schedule.sigma[-1])
    near(d.add_noise(x_0, torch.zeros_like(x_0), *last), share * x_0)
    near(d.add_noise(torch.zeros_like(x_0), torch.ones_like(x_0), *last), math.sqrt(variance))


def test_each_image_may_have_its_own_level() -> None:
    (x_0, eps), (a, s) = torch.randn(2, 5, 1, 2, 5), torch.rand(2, 5) + 0.1
    mixed = d.add_noise(x_0, eps, a, s)
    gaussian = d.posterior_step(x_0, mixed, (a, s), (a + 0.5, s / 3))
    for b in range(5):
        one, now = slice(b, b + 1), (float(a[b]), float(s[b]))
        near(mixed[one], d.add_noise(x_0[one], eps[one], *now))
        alone = d.posterior_step(x_0[one], mixed[one], now, (now[0] + 0.5, now[1] / 3))
        near(gaussian.mean[one], alone.mean)
        near(gaussian.variance[one], alone.variance)


def bayes(x_0: float, x_t: float, now: tuple[float, float], then: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """Mean and variance of q(x_s | x_t, x_0), proportional to q(x_t | x_s) q(x_s | x_0), by quadrature."""
    (a_t, s_t), (a_s, s_s) = now, then
    if s_s == 0:
        return torch.tensor(x_0), torch.tensor(0.0)
    line = Line(x_0 * a_s - 12 * s_s, x_0 * a_s + 12 * s_s)
    spread = math.sqrt(s_t**2 - (a_t / a_s * s_s) ** 2)
    log_joint = Normal(a_t / a_s * line.x, spread).log_prob(torch.tensor(x_t)) + line.normal(a_s * x_0, s_s)
    log_p = log_joint - line.integral(log_joint.exp()).log()
    mean = line.mean(log_p, line.x)
    return mean, line.mean(log_p, (line.x - mean) ** 2)


def variants() -> dict[str, Callable[..., d.Gaussian]]:
    """`posterior_step` as it is, and as it is often misprinted."""

    def variant(
        *, beta: bool = False, root: bool = True, kept: bool = True, alpha: bool = True, shrunk: bool = True
    ) -> Callable[..., d.Gaussian]:
        def step(x_0, x_t, now, then, *, eta=1.0):
            (a_t, s_t), (a_s, s_s) = ((torch.tensor(float(a)), torch.tensor(float(s))) for a, s in (now, then))
            share = a_t / a_s
            added = s_t**2 - share**2 * s_s**2  # beta, where the levels keep the variance
            v = eta**2 * (added if beta else added * s_s**2 / s_t**2) if shrunk else eta * added * s_s**2 / s_t**2
            eps = (x_t - a_t * x_0) / (s_t if root else s_t**2)
            weight = (s_s**2 - v).clamp(min=0).sqrt() if kept else s_s
            return d.Gaussian((a_s if alpha else share) * x_0 + weight * eps, v)

        return step

    return {
        "right": d.posterior_step,
        "the same in other words": variant(),
        "variance beta": variant(beta=True),
        "no root of 1 - alpha_bar": variant(root=False),
        "full noise kept, and more added": variant(kept=False),
        "alpha where alpha_bar belongs": variant(alpha=False),
        "eta for its square": variant(shrunk=False),
    }


RIGHT = {"right", "the same in other words"}


def error_of(step: Callable[..., d.Gaussian]) -> float:
    """The largest disagreement of a step with Bayes' rule, and of its eta with the marginals q(x_s | x_0)."""
    errors = [0.0]
    for now, then in LEVELS:
        for x_0, x_t in ((0.7, -0.4), (-1.1, 0.2)):
            mean, variance = bayes(x_0, x_t, now, then)
            found = step(torch.tensor([[x_0]]), torch.tensor([[x_t]]), now, then)
            errors += [float((found.mean - mean).abs()), float((found.variance - variance).abs())]
        for eta in (0.0, 0.3, 1.0):
            (a_t, s_t), (a_s, s_s) = now, then
            x_0, eps = torch.tensor([[0.7], [0.7]]), torch.tensor([[0.0], [1.0]])
            found = step(x_0, a_t * x_0 + s_t * eps, now, then, eta=eta)  # linear in eps, which is standard normal
            slope = found.mean[1] - found.mean[0]
            errors += [
                float((found.mean[0] - a_s * x_0[0]).abs()),
                float((slope**2 + found.variance - s_s**2).abs()),
                float((found.variance - eta**2 * step(x_0, x_0, now, then).variance).abs()),
            ]
    return max(errors)


@pytest.mark.parametrize("name", variants())
def test_the_step_back_is_bayes_rule_and_every_eta_keeps_the_marginals(name: str) -> None:
    error = error_of(variants()[name])
    assert error < 1e-9 if name in RIGHT else error > 1e-2


def test_the_step_back_is_equation_7_of_the_paper() -> None:
    schedule = d.Schedule.linear(20, last=0.3)
    x_0, x_t = torch.randn(2, 3, 1, 4, 4)
    for t in range(1, 20):
        beta, bar, bar_before = schedule.beta[t], schedule.alpha_bar[t], schedule.alpha_bar[t - 1]
        mean = bar_before.sqrt() * beta / (1 - bar) * x_0 + (1 - beta).sqrt() * (1 - bar_before) / (1 - bar) * x_t
        now, then = ((schedule.alpha[i], schedule.sigma[i]) for i in (t, t - 1))
        found = d.posterior_step(x_0, x_t, now, then)
        near(found.mean, mean)
        near(found.variance, (1 - bar_before) / (1 - bar) * beta)
        assert (found.variance < 0.99 * beta).all()


# Predictions


@pytest.mark.parametrize("predict", PREDICTIONS)
def test_each_prediction_leads_back_to_the_image(predict: d.Prediction) -> None:
    x_0, eps = torch.randn(2, 6, 3, 2, 2)
    a, s = d.alpha_sigma(torch.linspace(-9, 9, 6))
    output = d.target(x_0, eps, a, s, predict)
    near(d.predict_x0(output, d.add_noise(x_0, eps, a, s), a, s, predict), x_0, atol=1e-9)
    wrong = d.predict_x0(1.01 * output, d.add_noise(x_0, eps, a, s), a, s, predict)
    assert (wrong - x_0).flatten(1).norm(dim=1).min() > 1e-6


def test_targets_are_what_their_names_say() -> None:
    x_0, eps = torch.randn(2, 6, 2, 2)
    angle = torch.linspace(0.1, 1.5, 6)
    near(d.target(x_0, eps, angle.cos(), angle.sin(), "epsilon"), eps)
    near(d.target(x_0, eps, angle.cos(), angle.sin(), "x0"), x_0)

    def x_t(angle: Tensor) -> Tensor:
        return d.add_noise(x_0, eps, angle.cos(), angle.sin())

    _, velocity = torch.autograd.functional.jvp(x_t, angle, torch.ones(6))  # on the circle signal^2 + noise^2 = 1
    near(d.target(x_0, eps, angle.cos(), angle.sin(), "v"), velocity)
    x = x_t(angle).requires_grad_()
    log_q = Normal(d.append_dims(angle.cos(), x) * x_0, d.append_dims(angle.sin(), x)).log_prob(x)
    (score,) = torch.autograd.grad(log_q.sum(), x)
    near(d.target(x_0, eps, angle.cos(), angle.sin(), "score"), score)


def test_an_unknown_prediction_is_named() -> None:
    x = torch.zeros(1, 1)
    for call in (lambda: d.target(x, x, 0.6, 0.8, "velocity"), lambda: d.predict_x0(x, x, 0.6, 0.8, "velocity"),
                 lambda: d.Denoiser(nn.Identity(), "velocity")):  # fmt: skip
        with pytest.raises(ValueError, match="epsilon, x0, v, score; got 'velocity'"):
            call()


@pytest.mark.parametrize(("alpha", "sigma"), [(0.9, math.sqrt(0.19)), (0.3, math.sqrt(0.91))])
def test_the_best_guess_is_the_posterior_mean_and_tweedie_finds_it(alpha: float, sigma: float) -> None:
    world = GaussianMixture(
        torch.tensor([[-1.0], [0.7]]), std=torch.tensor([0.2, 0.5]), weights=torch.tensor([0.3, 0.7])
    )
    images, noisy = Line(-6, 6, 801), Line(-8, 8, 801)
    x_t = noisy.x[:, None]
    guess = d.predict_x0(world.marginal(alpha, sigma).score(x_t), x_t, alpha, sigma, "score")
    near(guess, world.denoise(x_t, alpha, sigma), atol=1e-9)
    joint = (world.log_prob(images.x[:, None]) + Normal(alpha * images.x, sigma).log_prob(x_t)).exp()  # (x_t, x_0)

    def mean_squared_error(guess: Tensor) -> Tensor:
        return noisy.integral(torch.trapezoid(joint * (images.x - guess) ** 2, dx=images.dx))

    best = mean_squared_error(guess)
    for change in (torch.ones_like(x_t), x_t, x_t.sin(), (3 * x_t).cos()):
        cost = noisy.integral(torch.trapezoid(joint * change**2, dx=images.dx))  # what is added, if it is the mean
        near(mean_squared_error(guess + 0.1 * change) - best, 0.01 * cost, atol=1e-9)


# The network


class Recorded(nn.Module):
    """A network that keeps what it was given."""

    def __init__(self, answer: Callable[[Tensor, Tensor], Tensor] = lambda x, log_snr: torch.tanh(x)) -> None:
        super().__init__()
        self.answer, self.weight = answer, nn.Parameter(torch.ones(()))
        self.seen: list[tuple[Tensor, ...]] = []

    def forward(self, x: Tensor, log_snr: Tensor, *context: Tensor) -> Tensor:
        self.seen.append((x, log_snr, *context))
        return self.weight * self.answer(x, log_snr)


@pytest.mark.parametrize("predict", PREDICTIONS)
def test_a_denoiser_gives_the_same_image_at_every_scale(predict: d.Prediction) -> None:
    net = Recorded()
    denoise, x = d.Denoiser(net, predict), torch.randn(4, 1, 2, 4)
    a, s = d.alpha_sigma(torch.tensor([-6.0, -0.5, 1.0, 5.0]))
    scales = [torch.ones(4), 1 / a, 1 / (a + s), torch.rand(4) + 0.1]  # keeps variance, lets it explode, flow, any
    images = [denoise(d.append_dims(c, x) * x, c * a, c * s) for c in scales]
    for image, (given, log_snr) in zip(images, net.seen, strict=True):
        near(image, d.predict_x0(torch.tanh(x), x, a, s, predict), atol=1e-9)
        near(given, x)
        near(log_snr, torch.tensor([-6.0, -0.5, 1.0, 5.0]))
    near(denoise(x[:1], float(a[0]), float(s[0])), images[0][:1], atol=1e-9)


def test_a_network_is_told_finite_numbers_one_for_each_image_and_the_context() -> None:
    net = Recorded()
    denoise, x, words = d.Denoiser(net), torch.randn(3, 1, 2, 2), torch.randn(3, 5)
    assert denoise(x, 1.0, 0.0, words).isfinite().all()
    assert denoise(x, 0.0, 7.0, words).isfinite().all()
    assert [seen[1].tolist() for seen in net.seen] == [[20.0] * 3, [-20.0] * 3]
    assert all(seen[2] is words for seen in net.seen)


def turn(objective: nn.Module, batch: Tensor | tuple[Tensor, Tensor], seed: int = 7) -> Tensor:
    ((player, loss, _),) = list(objective.turns(batch, Rng(seed=seed)))
    assert player == "model"
    return loss


WEIGHTS = {"epsilon": lambda snr: snr, "x0": lambda snr: snr**0, "v": lambda snr: snr + 1,
           "score": lambda snr: snr * (snr + 1)}  # fmt: skip


@pytest.mark.parametrize("predict", PREDICTIONS)
def test_the_simple_loss_weighs_the_squared_error_of_the_image(predict: d.Prediction) -> None:
    net, schedule = Recorded(), d.Schedule.linear(10, last=0.5)
    denoise, x_0 = d.Denoiser(net, predict), torch.randn(50, 1, 3, 2)
    loss = turn(d.Diffusion(denoise, schedule), x_0)
    ((x_t, log_snr),) = net.seen
    a, s = d.alpha_sigma(log_snr)
    eps = (x_t - d.append_dims(a, x_0) * x_0) / d.append_dims(s, x_0)
    errors = d.squared_error(denoise, x_0, eps, a, s)
    near(errors[7], sum((x_0[7] - denoise(x_t, a, s)[7]).flatten().square()))
    expected = (WEIGHTS[predict](log_snr.exp()) * errors).mean()
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=0)  # levels are kept in float32


def test_the_simple_loss_asks_at_every_level_alike_with_fresh_normal_noise() -> None:
    net, schedule, x_0 = Recorded(), d.Schedule.cosine(8), torch.randn(20_000, 2)
    objective = d.Diffusion(d.Denoiser(net), schedule)
    assert turn(objective, x_0) == turn(objective, x_0)
    assert turn(objective, x_0) != turn(objective, x_0, seed=8)
    x_t, log_snr = net.seen[0]
    near(log_snr.unique(), schedule.log_snr.flip(0), atol=1e-4)
    assert torch.bincount(log_snr.unique(return_inverse=True)[1]).min() > 2500 - 4 * 50
    a, s = d.alpha_sigma(log_snr)
    eps = (x_t - d.append_dims(a, x_0) * x_0) / d.append_dims(s, x_0)
    assert eps.mean(0).abs().max() < 0.03
    near(torch.cov(torch.cat([eps, x_0, log_snr[:, None]], 1).T)[:2, :4], torch.eye(2, 4), atol=0.04)


def test_the_simple_loss_has_the_gradient_of_finite_differences() -> None:
    x_0 = torch.randn(4, 3)

    class Linear(nn.Module):
        def forward(self, x: Tensor, log_snr: Tensor) -> Tensor:
            return torch.tanh(x @ self.weight + log_snr[:, None])

    for predict in PREDICTIONS:
        objective = d.Diffusion(d.Denoiser(Linear(), predict), d.Schedule.cosine(10))

        def loss(weight: Tensor, objective: d.Diffusion = objective) -> Tensor:
            objective.model.net.weight = weight
            return turn(objective, x_0)

        assert torch.autograd.gradcheck(loss, (torch.randn(3, 3, requires_grad=True),), rtol=1e-4)


@pytest.mark.parametrize("drop", [0.0, 0.25, 1.0])
def test_a_share_of_contexts_is_set_to_zero(drop: float) -> None:
    net, x_0, words = Recorded(), torch.randn(8000, 2), torch.rand(8000, 3, 2) + 1
    objective = d.Diffusion(d.Denoiser(net), d.Schedule.cosine(8), p_uncond=drop)
    turn(objective, (x_0, words))
    told = net.seen[0][2]
    gone = (told == 0).flatten(1).all(1)
    assert told[~gone].equal(words[~gone])  # the rest stay whole, and with their own images
    assert gone.double().mean().item() == pytest.approx(drop, abs=4 * math.sqrt(drop * (1 - drop) / 8000))
    assert (words > 0).all()
    turn(objective, x_0)  # and images alone need no context
    assert len(net.seen[1]) == 2


def test_several_contexts_fall_silent_together() -> None:
    """A label without its words, or words without their label, is no way to go without."""
    net, x_0, label, words = Recorded(), torch.randn(2000, 2), torch.arange(2000) % 5, torch.rand(2000, 3, 2) + 1
    objective = d.Diffusion(d.Denoiser(net), d.Schedule.cosine(8), p_uncond=0.3)
    turn(objective, (x_0, label, words, torch.ones(2000, 3, dtype=torch.bool)))
    told, gone = net.seen[0][2:], net.seen[0][2] == -1
    assert gone.double().mean().item() == pytest.approx(0.3, abs=0.05)
    pairs = zip((label[:, None], words, torch.ones(2000, 3)), (told[0][:, None], *told[1:]), strict=True)
    assert all((y[gone] <= 0).all() and torch.equal(y[~gone].double(), x[~gone].double()) for x, y in pairs)
