"""Flow matching against quadrature, closed forms of Gaussian data, and DDIM along the same path."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal

from minigen.objectives import flow
from minigen.objectives.diffusion import add_noise, append_dims
from minigen.samplers.diffusion import ancestral
from minigen.train.rng import Rng
from minigen.worlds import GaussianMixture
from minigen.worlds.line import Line

pytestmark = pytest.mark.usefixtures("float64")

WORLD = GaussianMixture(
    torch.tensor([[-1.0], [0.7]]), std=torch.tensor([0.2, 0.5]), weights=torch.tensor([0.3, 0.7])
)  # fmt: skip


def near(found: Tensor, expected: Tensor | float, atol: float = 1e-12) -> None:
    torch.testing.assert_close(found, torch.as_tensor(expected).expand_as(found), atol=atol, rtol=0)


# The velocity


@pytest.mark.parametrize("t", [0.15, 0.5, 0.9])
def test_the_velocity_is_a_conditional_mean(t: float) -> None:
    line, x_t = Line(-6, 6, 6001), torch.linspace(-2, 2, 9)[:, None]
    eps = (x_t - (1 - t) * line.x) / t  # the noise that leads from each x_0 to x_t
    joint = (WORLD.log_prob(line.x[:, None]) + Normal(0.0, 1.0).log_prob(eps)).exp()
    mean = line.integral(joint * (eps - line.x)) / line.integral(joint)
    found = flow.velocity_from(WORLD.denoise(x_t, 1 - t, t), x_t, t)
    near(found[:, 0], mean, atol=1e-8)


def test_velocity_and_image_lead_to_each_other_at_the_time_of_each_image() -> None:
    x_0, eps, t = torch.randn(5, 1, 2, 2), torch.randn(5, 1, 2, 2), torch.tensor([0.01, 0.2, 0.5, 0.9, 1.0])
    x_t = add_noise(x_0, eps, 1 - t, t)
    near(flow.velocity_from(x_0, x_t, t), eps - x_0)
    near(flow.image_from_velocity(eps - x_0, x_t, t), x_0)
    image = torch.randn(5, 1, 2, 2)
    near(flow.image_from_velocity(flow.velocity_from(image, x_t, t), x_t, t), image)


def test_the_velocity_carries_each_density_to_the_next() -> None:
    """d log p_t / dt = -(div v + v score): the equation of continuity, with finite differences in t and in x."""
    x, h = torch.linspace(-2, 2, 9)[:, None], 1e-4

    def velocity(x: Tensor, t: float) -> Tensor:
        return flow.velocity_from(WORLD.denoise(x, 1 - t, t), x, t)

    for t in (0.3, 0.7):
        change = (WORLD.marginal(1 - t - h, t + h).log_prob(x) - WORLD.marginal(1 - t + h, t - h).log_prob(x)) / (2 * h)
        divergence = (velocity(x + h, t) - velocity(x - h, t))[:, 0] / (2 * h)
        score = WORLD.marginal(1 - t, t).score(x)
        near(change, -divergence - (velocity(x, t) * score)[:, 0], atol=1e-5)


@pytest.mark.parametrize("steps", [1, 2, 9])
def test_an_euler_step_along_the_straight_path_is_a_ddim_step(steps: int) -> None:
    path = flow.straight(steps)
    near(path.sigma, torch.arange(steps, -1, -1) / steps)
    near(path.alpha, 1 - path.sigma)
    x = torch.randn(6, 1)
    states = ancestral(WORLD.denoise, x, path, eta=0.0)
    for (t, s), state in zip(itertools.pairwise(path.sigma.tolist()), states, strict=True):
        x = x + (s - t) * flow.velocity_from(WORLD.denoise(x, 1 - t, t), x, t)
        near(state, x)


@pytest.mark.parametrize("steps", [0, -1])
def test_a_path_has_a_step(steps: int) -> None:
    with pytest.raises(ValueError, match=f"1 or more; got {steps}"):
        flow.straight(steps)


# The network


class Recorded(nn.Module):
    """A network that keeps what it was given."""

    def __init__(self, answer: Callable[[Tensor, Tensor], Tensor] = lambda x, log_snr: torch.tanh(x)) -> None:
        super().__init__()
        self.answer = answer
        self.seen: list[tuple[Tensor, ...]] = []

    def forward(self, x: Tensor, log_snr: Tensor, *context: Tensor) -> Tensor:
        self.seen.append((x, log_snr, *context))
        return self.answer(x, log_snr)


def test_a_velocity_network_gives_the_same_image_at_every_scale() -> None:
    net = Recorded()
    denoise, x, words = flow.Velocity(net), torch.randn(4, 1, 2, 4), torch.randn(4, 3)
    t = torch.tensor([0.05, 0.3, 0.5, 0.99])
    a = 1 - t
    scales = [torch.ones(4), 1 / a, (a**2 + t**2).rsqrt(), torch.rand(4) + 0.1]
    images = [denoise(append_dims(c, x) * x, c * a, c * t, words) for c in scales]
    for image, (given, log_snr, context) in zip(images, net.seen, strict=True):
        near(given, x)
        near(log_snr, 2 * (a / t).log())
        assert context is words
        near(image, x - append_dims(t, x) * torch.tanh(x))
    near(denoise(x[:1], float(a[0]), float(t[0]))[0], images[0][0])
    assert denoise(x, 0.0, 1.0).isfinite().all()
    assert denoise(x, 1.0, 0.0).isfinite().all()
    assert [seen[1].tolist() for seen in net.seen[-2:]] == [[-20.0] * 4, [20.0] * 4]


def time(log_snr: Tensor) -> Tensor:
    """t of log ((1 - t) / t)^2."""
    return torch.sigmoid(-log_snr / 2)


VARIANCE, MEAN = 0.3, 0.5


def best(x: Tensor, log_snr: Tensor, *, change: float = 0.0) -> Tensor:
    """E[eps - x_0 | x_t] for data N(MEAN, VARIANCE I): the regression line of jointly Gaussian variables."""
    t = append_dims(time(log_snr), x)
    slope = (t - (1 - t) * VARIANCE) / ((1 - t) ** 2 * VARIANCE + t**2)
    return (slope + change) * (x - (1 - t) * MEAN) - MEAN


def loss_of(objective: flow.FlowMatching, batch: Tensor | tuple[Tensor, Tensor], seed: int = 7) -> Tensor:
    ((player, loss, _),) = list(objective.turns(batch, Rng(seed=seed)))
    assert player == "model"
    return loss


def test_the_least_loss_is_that_of_the_conditional_mean() -> None:
    """What is left at the optimum: the mean over t of Var(eps - x_0 | x_t), for each number of an image."""
    line = Line(0.0, 1.0)
    t = line.x
    share = (t - (1 - t) * VARIANCE) ** 2 / ((1 - t) ** 2 * VARIANCE + t**2)
    expected = 3 * line.integral(1 + VARIANCE - share)
    x_0 = MEAN + math.sqrt(VARIANCE) * torch.randn(100_000, 1, 3)
    losses = [
        loss_of(flow.FlowMatching(flow.Velocity(Recorded(lambda *given, c=c: best(*given, change=c)))), x_0)
        for c in (0.0, 0.1, -0.1)
    ]
    assert losses[0].item() == pytest.approx(expected.item(), abs=0.03)
    assert min(losses[1:]) > losses[0] + 0.01
    # a change c of the slope costs c^2 E[Var x_t], and nothing of first order
    cost = 0.01 * 3 * line.integral((1 - t) ** 2 * VARIANCE + t**2)
    assert (sum(losses[1:]) / 2 - losses[0]).item() == pytest.approx(cost.item(), rel=0.02)
    assert (losses[1] - losses[2]).abs() < 0.01


@pytest.mark.parametrize("spread", [None, 0.5, 1.0])
def test_times_are_uniform_or_spread_around_the_middle(spread: float | None) -> None:
    net, x_0 = Recorded(), torch.randn(40_000, 1)
    objective = flow.FlowMatching(flow.Velocity(net), spread=spread)
    assert loss_of(objective, x_0) == loss_of(objective, x_0)
    assert loss_of(objective, x_0) != loss_of(objective, x_0, seed=8)
    t = time(net.seen[0][1])
    law = Normal(0.0, spread) if spread else None
    share = law.cdf(t.logit()) if law else t  # uniform, if the law is right
    gap = (share.sort().values - (torch.arange(40_000) + 0.5) / 40_000).abs().max()
    assert gap < 1.63 / 200  # Kolmogorov and Smirnov's 1 %
    assert t.min() > 0


def test_pairs_are_joined_as_they_stand() -> None:
    net, (x_0, eps) = Recorded(), torch.randn(2, 50, 1, 2, 2)
    loss = loss_of(flow.FlowMatching(flow.Velocity(net), paired=True), (x_0, eps))
    x_t, log_snr = net.seen[0]
    t = append_dims(time(log_snr), x_t)
    near(x_t, (1 - t) * x_0 + t * eps, atol=1e-6)
    near(loss, (torch.tanh(x_t) - (eps - x_0)).square().sum() / 50)
    loss_of(flow.FlowMatching(flow.Velocity(net)), x_0)
    x_t, log_snr = net.seen[1]
    t = append_dims(time(log_snr), x_t)
    fresh = (x_t - (1 - t) * x_0) / t
    assert not fresh.allclose(eps)


def test_the_loss_has_the_gradient_of_finite_differences() -> None:
    x_0 = torch.randn(4, 3)

    def loss(weight: Tensor) -> Tensor:
        net = Recorded(lambda x, log_snr: torch.tanh(x @ weight + log_snr[:, None]))
        return loss_of(flow.FlowMatching(flow.Velocity(net)), x_0)

    assert torch.autograd.gradcheck(loss, (torch.randn(3, 3, requires_grad=True),))


# Straightness


def test_paths_to_a_point_are_straight_and_those_to_a_ring_are_not() -> None:
    x, point = torch.randn(20, 2), torch.tensor([0.3, -0.4])
    near(flow.bend(lambda x, a, s: point.expand_as(x), x), 0.0)
    assert flow.bend(GaussianMixture.ring(std=0.1).denoise, x).min() > 0.01


def test_the_bend_of_gaussian_data_has_a_closed_form() -> None:
    """For N(0, I), x_t = x_1 sqrt((1 - t)^2 + t^2): both ends agree, and the mean of the speed squared is 2 - pi/2."""
    x = torch.randn(6, 1, 2, 2)

    def denoise(x: Tensor, alpha: float, sigma: float) -> Tensor:
        return alpha / (alpha**2 + sigma**2) * x

    expected = (2 - math.pi / 2) * x.square().flatten(1).sum(1)
    errors = [(flow.bend(denoise, x, steps=n) - expected).abs().max() / expected.max() for n in (50, 100, 1000)]
    assert errors[1] < 0.6 * errors[0]
    assert errors[2] < 0.01


class Told(nn.Module):
    """Keeps what it is called with."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[Tensor, ...]] = []

    def forward(self, x: Tensor, log_snr: Tensor, *conditions: Tensor) -> Tensor:
        self.seen.append((x, log_snr, *conditions))
        return x


@pytest.mark.parametrize("drop", [0.0, 0.25, 1.0])
def test_conditions_reach_the_network_and_a_share_is_set_to_zero(drop: float) -> None:
    net, x_0, words = Told(), torch.randn(8000, 2), torch.rand(8000, 3) + 1
    loss_of(flow.FlowMatching(flow.Velocity(net), p_uncond=drop), (x_0, words))
    loss_of(flow.FlowMatching(flow.Velocity(net)), x_0)
    (_, _, given), alone = net.seen
    gone = (given == 0).all(1)
    assert given[~gone].equal(words[~gone])
    assert gone.double().mean().item() == pytest.approx(drop, abs=4 * math.sqrt(drop * (1 - drop) / 8000))
    assert len(alone) == 2


def test_labels_in_the_shape_of_the_images_are_no_noise() -> None:
    net, (x_0, labels) = Told(), torch.randn(2, 50, 3)
    loss = loss_of(flow.FlowMatching(flow.Velocity(net)), (x_0, labels))
    plain = loss_of(flow.FlowMatching(flow.Velocity(net)), x_0)
    assert loss == plain
    assert net.seen[0][2].equal(labels)


def test_pairs_may_have_conditions_too() -> None:
    net, (x_0, eps, words) = Told(), torch.randn(3, 50, 3)
    loss_of(flow.FlowMatching(flow.Velocity(net), paired=True), (x_0, eps, words))
    x_t, log_snr, given = net.seen[0]
    t = append_dims(time(log_snr), x_t)
    near(x_t, (1 - t) * x_0 + t * eps, atol=1e-6)
    assert given.equal(words)
