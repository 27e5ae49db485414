"""The contracts of chapters 11 and 12 against Bayes on a grid, enumeration, closed forms and the library's samplers."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.distributions import Independent, Normal, kl_divergence
from torch.nn import functional

from minigen.homework import CONTRACTS, assess
from minigen.objectives.diffusion import Denoiser, Diffusion, Schedule, add_noise
from minigen.samplers.diffusion import ancestral

LAST = "beta, but not at the last step"
BETA = torch.tensor([0.1, 0.3, 0.05, 0.6, 0.2], dtype=torch.float64)
LEVELS = [(0.6, 0.8), (0.8, 0.6)]


def reference(name: str):
    return CONTRACTS[name].reference


def images(count: int, *, batch: int = 4) -> torch.Tensor:
    generator = torch.Generator().manual_seed(7)
    return torch.randn(count, batch, 1, 2, 3, generator=generator, dtype=torch.float64)


def coins(x, alpha, sigma):
    """E[x_0 | x_t] for pixels that are -1 or 1, by Bayes' theorem over the two."""
    up, down = (Normal(sign * alpha, sigma).log_prob(x).exp() for sign in (1.0, -1.0))
    return (up - down) / (up + down)


def test_noise_of_many_steps_is_that_of_the_chain() -> None:
    mean, variance = 1.0, 0.0  # of x_t for x_0 = 1, step by step
    for t, beta in enumerate(BETA.tolist()):
        mean, variance = math.sqrt(1 - beta) * mean, (1 - beta) * variance + beta
        one, level = torch.ones(1, 1, 1, 1, dtype=torch.float64), torch.tensor([t])
        assert reference("diffusion.diffuse")(one, 0 * one, BETA, level).item() == pytest.approx(mean, rel=1e-12)
        deviation = reference("diffusion.diffuse")(0 * one, one, BETA, level).item()
        assert deviation == pytest.approx(math.sqrt(variance), rel=1e-12)
    x_0, eps = images(2)
    t = torch.tensor([3, 0, 4, 1])
    schedule = Schedule((1 - BETA).cumprod(0))
    expected = add_noise(x_0, eps, schedule.alpha[t], schedule.sigma[t])
    torch.testing.assert_close(reference("diffusion.diffuse")(x_0, eps, BETA, t), expected)


@pytest.mark.parametrize("t", range(1, 5))
def test_the_step_back_is_bayes_theorem(t: int) -> None:
    x_0, x_t = 0.7, -1.1
    x = torch.linspace(-9, 9, 40_001, dtype=torch.float64)
    kept = (1 - BETA).cumprod(0)
    prior = Normal(kept[t - 1].sqrt() * x_0, (1 - kept[t - 1]).sqrt()).log_prob(x)
    forward = Normal((1 - BETA[t]).sqrt() * x, BETA[t].sqrt()).log_prob(torch.tensor(x_t, dtype=torch.float64))
    weights = (prior + forward).softmax(0)
    mean = (weights * x).sum()
    pair = torch.tensor([[x_0], [x_t]], dtype=torch.float64)
    found = reference("diffusion.backward_mean")(*pair, BETA, torch.tensor([t]))
    assert found.item() == pytest.approx(mean.item(), abs=1e-9)
    variance = reference("diffusion.backward_variance")(BETA)
    assert variance[t].item() == pytest.approx((weights * (x - mean).square()).sum().item(), abs=1e-9)


def test_before_the_first_level_is_the_image() -> None:
    x_0, x_t = images(2)
    found = reference("diffusion.backward_mean")(x_0, x_t, BETA, torch.zeros(4, dtype=torch.int64))
    torch.testing.assert_close(found, x_0)
    assert reference("diffusion.backward_variance")(BETA)[0] == 0


def test_the_velocity_gives_the_image_back() -> None:
    x_0, eps = images(2)
    angle = torch.tensor([0.0, 0.5, 1.2, math.pi / 2], dtype=torch.float64)
    a, s = angle.cos().view(4, 1, 1, 1), angle.sin().view(4, 1, 1, 1)
    found = reference("diffusion.image_from_velocity")(a * eps - s * x_0, a * x_0 + s * eps, angle.cos(), angle.sin())
    torch.testing.assert_close(found, x_0)


def test_the_simple_loss_is_by_hand_and_the_objectives() -> None:
    x_0, eps = images(2).float()
    kept, t = (1 - BETA).cumprod(0).float(), torch.tensor([4, 0, 2, 2])
    network = nn.Conv2d(1, 1, 1)

    def told(x, t):
        return network(x) + t.view(-1, 1, 1, 1)

    by_hand = 0.0
    for x, e, level in zip(x_0, eps, t.tolist(), strict=True):
        guess = network((math.sqrt(kept[level]) * x + math.sqrt(1 - kept[level]) * e)[None])[0] + level
        by_hand += (guess - e).square().sum().item() / 4
    assert reference("diffusion.simple_loss")(told, x_0, eps, kept, t).item() == pytest.approx(by_hand, rel=1e-5)

    class Given:
        def integers(self, *_):
            return t

        def normal(self, *_):
            return eps

    class Blind(nn.Module):
        def forward(self, x, _):
            return network(x)

    objective = Diffusion(Denoiser(Blind(), "epsilon"), Schedule(kept))
    ((_, theirs, _),) = objective.turns(x_0, Given())
    ours = reference("diffusion.simple_loss")(lambda x, _: network(x), x_0, eps, kept, t)
    torch.testing.assert_close(ours, theirs)
    slopes = [torch.autograd.grad(loss, network.weight)[0] for loss in (ours, theirs)]
    torch.testing.assert_close(*slopes)


def test_the_cost_of_a_step_is_that_of_torch() -> None:
    x_0, guess, x_t = images(3)
    kept, t = (1 - BETA).cumprod(0), torch.tensor([1, 2, 3, 4])
    deviation = reference("diffusion.backward_variance")(BETA)[t].sqrt().view(4, 1, 1, 1)
    laws = [
        Independent(Normal(reference("diffusion.backward_mean")(x, x_t, BETA, t), deviation), 3) for x in (x_0, guess)
    ]
    torch.testing.assert_close(reference("diffusion.step_kl")(x_0, guess, kept, t), kl_divergence(*laws))


def test_ancestral_steps_are_the_librarys_sampler() -> None:
    x, schedule = images(1)[0], Schedule((1 - BETA).cumprod(0))
    noise = torch.Generator().manual_seed(3)
    theirs = ancestral(coins, x, schedule.path(), generator=torch.Generator().manual_seed(3))
    for t, expected in zip(reversed(range(5)), theirs, strict=True):
        alpha, sigma = schedule.alpha[t].item(), schedule.sigma[t].item()
        eps = (x - alpha * coins(x, alpha, sigma)) / sigma
        fresh = torch.randn(x.shape, generator=noise, dtype=x.dtype)
        before, x = x, reference("diffusion.ancestral_step")(x, eps, fresh, BETA, t)
        torch.testing.assert_close(x, expected)
    torch.testing.assert_close(x, coins(before, alpha, sigma))  # the last step adds nothing


def test_the_score_is_the_slope_of_the_exact_log_density() -> None:
    x = torch.linspace(-3, 3, 24, dtype=torch.float64).view(4, 1, 2, 3).requires_grad_()
    alpha, sigma = torch.tensor([[1.0, 0.9, 0.5, 0.2], [2.0, 0.4, 0.7, 1.0]], dtype=torch.float64)
    a, s = alpha.view(4, 1, 1, 1), sigma.view(4, 1, 1, 1)
    log_p = torch.logaddexp(Normal(a, s).log_prob(x), Normal(-a, s).log_prob(x))
    (slope,) = torch.autograd.grad(log_p.sum(), x)
    found = reference("sampling.score_from_image")(coins(x, a, s), x, alpha, sigma)
    torch.testing.assert_close(found, slope)


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_a_step_of_any_eta_keeps_the_marginals(eta: float) -> None:
    zero, one = torch.zeros(1, 1, 1, 1, dtype=torch.float64), torch.ones(1, 1, 1, 1, dtype=torch.float64)
    (a, s), (a_s, s_s) = LEVELS
    step = reference("sampling.ddim_step")
    by_image = step(a * one, one, zero, *LEVELS, eta).item()
    by_eps = step(s * one, zero, zero, *LEVELS, eta).item()
    by_fresh = step(zero, zero, one, *LEVELS, eta).item()
    assert by_image == pytest.approx(a_s)
    beta = torch.tensor([1 - a_s**2, 1 - (a / a_s) ** 2], dtype=torch.float64)
    variance = eta**2 * reference("diffusion.backward_variance")(beta)[1].item()
    assert by_fresh == pytest.approx(math.sqrt(variance))
    assert by_eps == pytest.approx(math.sqrt(s_s**2 - variance))


def test_heuns_step_is_of_second_order() -> None:
    """Data N(0, c): x / alpha follows sqrt(c + r^2) exactly, with r = sigma / alpha."""
    c, r, x = 0.5, 1.5, torch.ones(1, 1, 1, 1, dtype=torch.float64)

    def denoise(x, alpha, sigma):
        return alpha * c / (alpha**2 * c + sigma**2) * x

    def error(h: float) -> float:
        then = 0.9, 0.9 * (r - h)
        found = reference("sampling.heun_step")(denoise, x, (0.5, 0.5 * r), then).item()
        return abs(found - 0.9 / 0.5 * math.sqrt((c + (r - h) ** 2) / (c + r * r)))

    assert error(0.02) / error(0.01) == pytest.approx(8, rel=0.05)  # one step of a second-order method
    here = r / (c + r * r)  # dy/dr at y = 1
    there = 0.5 / (c + 0.25) * (1 - here)
    found = reference("sampling.heun_step")(denoise, x, (1.0, r), (1.0, r - 1)).item()
    assert found == pytest.approx(1 - (here + there) / 2)
    last = reference("sampling.heun_step")(denoise, x, (0.5, 0.5 * r), (1.0, 0.0))
    torch.testing.assert_close(last, denoise(x, 0.5, 0.5 * r))


@pytest.mark.parametrize("guidance_scale", [0.0, 1.0, 4.0])
def test_guidance_between_equal_gaussians_moves_their_mean(guidance_scale: float) -> None:
    (x,) = images(1)
    alpha, sigma, c = 0.7, 0.6, 0.3

    def denoise(mean):
        gain = alpha * c / (alpha**2 * c + sigma**2)
        return mean + gain * (x - alpha * mean)

    found = reference("sampling.guide")(denoise(0.0), denoise(1.5), guidance_scale)
    torch.testing.assert_close(found, denoise(guidance_scale * 1.5))
    torch.testing.assert_close(reference("sampling.guide")(0 * x, x, guidance_scale), guidance_scale * x)


def test_the_velocity_is_a_conditional_expectation() -> None:
    (x,) = images(1)
    t = torch.tensor([0.2, 0.5, 0.9, 1.0], dtype=torch.float64)
    column = t.view(4, 1, 1, 1)
    chance = torch.stack([Normal(sign * (1 - column), column).log_prob(x) for sign in (1.0, -1.0)]).softmax(0)
    moves = torch.stack([(x - (1 - column) * sign) / column - sign for sign in (1.0, -1.0)])  # eps - x_0
    found = reference("sampling.flow_velocity")(coins(x, 1 - column, column), x, t)
    torch.testing.assert_close(found, (chance * moves).sum(0))


def test_one_step_with_the_distilled_image_lands_where_two_do() -> None:
    (x,) = images(1)
    now, middle, then = (0.3, 0.9), (0.6, 0.8), (0.9, 0.2)

    def step(x, image, now, then):
        return then[0] * image + then[1] * (x - now[0] * image) / now[1]

    half = step(x, coins(x, *now), now, middle)
    image = reference("sampling.two_step_image")(coins, x, now, middle, then)
    torch.testing.assert_close(step(x, image, now, then), step(half, coins(half, *middle), middle, then))


def backward_by_precision(x_0, x_t, beta, t):
    """Two Gaussians multiplied."""
    b, before = (part[t].view(-1, 1, 1, 1) for part in (beta, functional.pad(1 - beta, (1, 0), value=1).cumprod(0)))
    forward, prior = (1 - b) / b, 1 / (1 - before)
    mean = (forward / (1 - b).sqrt() * x_t + prior * before.sqrt() * x_0) / (forward + prior)
    return torch.where(before < 1, mean, x_0)


def ancestral_by_image(x_t, eps, fresh, beta, t):
    kept = torch.cumprod(1 - beta, 0)
    image = (x_t - torch.sqrt(1 - kept[t]) * eps) / torch.sqrt(kept[t])
    if t == 0:
        return image
    mean = kept[t - 1].sqrt() * beta[t] * image + (1 - beta[t]).sqrt() * (1 - kept[t - 1]) * x_t
    return mean / (1 - kept[t]) + torch.sqrt(beta[t] * (1 - kept[t - 1]) / (1 - kept[t])) * fresh


def ddim_by_deviation(x_t, image, fresh, now, then, eta):
    sigma = eta * then[1] / now[1] * math.sqrt(1 - (now[0] / then[0]) ** 2)
    eps = (x_t - now[0] * image) / now[1]
    return then[0] * image + math.sqrt(max(0.0, then[1] ** 2 - sigma**2)) * eps + sigma * fresh


def heun_in_r(denoise, x, now, then):
    y, r, r_then = x / now[0], now[1] / now[0], then[1] / then[0]
    slope = (y - denoise(y, 1.0, r)) / r
    ahead = y + (r_then - r) * slope
    if r_then > 0:
        ahead = y + (r_then - r) * (slope + (ahead - denoise(ahead, 1.0, r_then)) / r_then) / 2
    return then[0] * ahead


def landing_in_r(denoise, x_t, now, middle, then):
    y, r = x_t / now[0], now[1] / now[0]
    end, at = y, r
    for level in (middle, then):
        image = denoise(end, 1.0, at)
        end, at = image + level[1] / level[0] / at * (end - image), level[1] / level[0]
    return (r * end - at * y) / (r - at)


ANOTHER_WAY = {
    "diffusion.diffuse": lambda x, e, b, t: torch.stack(
        [
            math.exp(0.5 * s) * image + math.sqrt(-math.expm1(s)) * noise
            for image, noise, s in zip(x, e, torch.log1p(-b).cumsum(0)[t].tolist(), strict=True)
        ]
    ),
    "diffusion.backward_mean": backward_by_precision,
    "diffusion.backward_variance": lambda b: torch.cat(
        [torch.zeros(1), 1 / ((1 - b) / b + functional.pad(1 / (1 - (1 - b).cumprod(0)), (1, 0))[:-1])[1:]]
    ),
    "diffusion.image_from_velocity": lambda v, x, a, s: (
        a[:, None, None, None] * x - s.reshape(-1, 1, 1, 1).expand_as(x) * v
    ),
    "diffusion.simple_loss": lambda f, x, e, a, t: (
        functional.mse_loss(
            f(torch.einsum("b,bchw->bchw", a[t] ** 0.5, x) + torch.einsum("b,bchw->bchw", (1 - a[t]) ** 0.5, e), t),
            e,
            reduction="sum",
        )
        / x.shape[0]
    ),
    "diffusion.step_kl": lambda x, y, a, t: (
        0.5 * (a[t - 1] - a[t]) / (1 - a[t - 1]) / (1 - a[t]) * (x - y).flatten(1).norm(dim=1) ** 2
    ),
    "diffusion.ancestral_step": ancestral_by_image,
    "sampling.score_from_image": lambda d, x, a, s: -((x - a[:, None, None, None] * d) / s.view(-1, 1, 1, 1) ** 2),
    "sampling.ddim_step": ddim_by_deviation,
    "sampling.heun_step": heun_in_r,
    "sampling.guide": lambda n, c, w: w * c + (1 - w) * n,
    "sampling.flow_velocity": lambda d, x, t: torch.einsum("bchw,b->bchw", x - d, 1 / t),
    "sampling.two_step_image": landing_in_r,
}


@pytest.mark.parametrize("name", ANOTHER_WAY)
def test_a_right_answer_may_be_written_in_another_way(name: str) -> None:
    assert str(assess(name, ANOTHER_WAY[name])) == f"✓ {name}: right, on random and on extreme inputs"


def off_by_one(x, e, b, t):
    alpha_bar = torch.cumprod(1 - b, 0)[t - 1].view(-1, 1, 1, 1)
    return alpha_bar.sqrt() * x + (1 - alpha_bar).sqrt() * e


def per_pixel(network, x_0, eps, alpha_bar, t):
    a = alpha_bar[t].view(-1, 1, 1, 1)
    return functional.mse_loss(network(a.sqrt() * x_0 + (1 - a).sqrt() * eps, t), eps)


def fresh_target(network, x_0, eps, alpha_bar, t):
    a = alpha_bar[t].view(-1, 1, 1, 1)
    guess = network(a.sqrt() * x_0 + (1 - a).sqrt() * eps, t)
    return (guess - torch.randn_like(eps)).square().flatten(1).sum(1).mean()


def ancestral_with_beta(x_t, eps, fresh, beta, t):
    return (x_t - beta[t] / (1 - (1 - beta).cumprod(0)[t]) ** 0.5 * eps) / (1 - beta[t]) ** 0.5 + beta[t] ** 0.5 * fresh


def ddim_with_beta(x_t, image, fresh, now, then, eta):
    beta = 1 - now[0] ** 2 / then[0] ** 2
    eps = (x_t - now[0] * image) / now[1]
    return then[0] * image + math.sqrt(then[1] ** 2 - eta**2 * beta) * eps + eta * math.sqrt(beta) * fresh


def euler(denoise, x_t, now, then):
    image = denoise(x_t, *now)
    return then[0] * image + then[1] / now[1] * (x_t - now[0] * image)


def heun_without_exception(denoise, x_t, now, then):
    y, r, r_then = x_t / now[0], now[1] / now[0], then[1] / then[0]
    here = (y - denoise(x_t, *now)) / r
    ahead = y + (r_then - r) * here
    there = (ahead - denoise(then[0] * ahead, *then)) / r_then
    return then[0] * (y + (r_then - r) * (here + there) / 2)


@pytest.mark.parametrize(
    ("name", "answer", "misconception"),
    [
        ("diffusion.diffuse", off_by_one, "one level too early, wrapped"),
        ("diffusion.backward_variance", lambda b: b * 1.0, "beta"),
        ("diffusion.image_from_velocity", lambda v, x, a, s: a * x - s * v, "along the width"),
        ("diffusion.simple_loss", per_pixel, "mean over everything"),
        ("diffusion.simple_loss", fresh_target, "new noise for target"),
        (
            "diffusion.step_kl",
            lambda x, y, a, t: 0.5 * (a[t] / (1 - a[t]) - a[t - 1] / (1 - a[t - 1])) * ((x - y) ** 2).sum((1, 2, 3)),
            "order",
        ),
        ("diffusion.ancestral_step", ancestral_with_beta, "beta for the variance"),
        ("diffusion.ancestral_step", lambda x, e, z, b, t: ancestral_with_beta(x, e, z * (t > 0), b, t), LAST),
        ("sampling.score_from_image", lambda d, x, a, s: (a * d - x) / s**2, "along the width"),
        ("sampling.ddim_step", ddim_with_beta, "beta"),
        ("sampling.heun_step", euler, "Euler"),
        ("sampling.heun_step", heun_without_exception, "no exception at sigma 0"),
        ("sampling.guide", lambda n, c, w: (1 + w) * c - w * n, "1 + w"),
        ("sampling.flow_velocity", lambda d, x, t: -(x - d) / t.view(-1, 1, 1, 1), "sign"),
        ("sampling.two_step_image", lambda f, x, now, middle, then: f(x, *now), "the first guess"),
    ],
)
def test_a_wrong_answer_may_be_written_in_another_way(name: str, answer, misconception: str) -> None:
    assert assess(name, answer).misconception == misconception
