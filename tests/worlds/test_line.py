"""The quadrature line and the Dirac-GAN against closed forms; the recipes run."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from minigen import Batches
from minigen.objectives.minimax import DiracGAN, jacobian_at_equilibrium
from minigen.recipes import RECIPES
from minigen.train.loop import Run
from minigen.train.optimizers import adam_per_player
from minigen.worlds import GaussianMixture, Line

LINE = Line()


def test_integrals_of_gaussians() -> None:
    log_p = LINE.normal(0.7, 0.5)
    assert LINE.integral(log_p.exp()).item() == pytest.approx(1.0, abs=1e-12)
    assert LINE.mean(log_p, LINE.x).item() == pytest.approx(0.7, abs=1e-12)
    assert LINE.mean(log_p, (LINE.x - 0.7) ** 2).item() == pytest.approx(0.25, abs=1e-12)
    assert torch.allclose(log_p, Normal(0.7, 0.5).log_prob(LINE.x), atol=1e-6)
    mixed = LINE.mixture(LINE.normal(-1.5, 0.6), LINE.normal(1.5, 0.6))
    world = GaussianMixture(torch.tensor([[-1.5], [1.5]]), std=0.6)
    assert torch.allclose(mixed, world.log_prob(LINE.x[:, None]), atol=1e-10)


def test_divergences_against_closed_forms() -> None:
    p, q = Normal(torch.tensor(0.3).double(), 0.9), Normal(torch.tensor(-0.5).double(), 1.2)
    log_p, log_q = LINE.normal(0.3, 0.9), LINE.normal(-0.5, 1.2)
    assert LINE.kl(log_p, log_q).item() == pytest.approx(kl_divergence(p, q).item(), abs=1e-7)
    assert LINE.kl(log_q, log_p).item() == pytest.approx(kl_divergence(q, p).item(), abs=1e-7)
    assert LINE.kl(log_p, log_q).item() != pytest.approx(LINE.kl(log_q, log_p).item(), abs=1e-2)
    assert LINE.js(log_p, log_q).item() == pytest.approx(LINE.js(log_q, log_p).item(), abs=1e-12)
    apart = LINE.js(LINE.normal(-4, 0.3), LINE.normal(4, 0.3)).item()
    assert apart == pytest.approx(math.log(2), abs=1e-12)


def test_gradients_pass_through() -> None:
    mean, std = torch.tensor([0.4, 0.8], dtype=torch.float64, requires_grad=True)
    (g_mean, g_std) = torch.autograd.grad(LINE.kl(LINE.normal(mean, std), LINE.normal()), (mean, std))
    assert g_mean.item() == pytest.approx(0.4, abs=1e-9)  # KL = (s^2 + m^2 - 1) / 2 - log s
    assert g_std.item() == pytest.approx(0.8 - 1 / 0.8, abs=1e-9)


@pytest.mark.parametrize("loss", ["saturating", "non-saturating"])
def test_dirac_velocity_is_the_closed_form_row_by_row(loss: str) -> None:
    states = torch.randn(3, 4, 2, dtype=torch.float64) * 2
    theta, psi = states.unbind(-1)
    s = torch.sigmoid(theta * psi)
    first = s * psi if loss == "saturating" else (1 - s) * psi
    expected = torch.stack([first, -s * theta - 0.3 * psi], dim=-1)
    game = DiracGAN(loss=loss, gamma=0.3)
    assert torch.allclose(game.velocity(states), expected, atol=1e-12)
    assert torch.allclose(game.velocity(states[0, 0]), expected[0, 0], atol=1e-12)


def test_dirac_rules_at_the_equilibrium() -> None:
    plain, damped = DiracGAN(), DiracGAN(gamma=0.4)
    assert (plain.eigenvalues("simultaneous", 0.3).abs() > 1.01).all()
    assert torch.allclose(plain.eigenvalues("alternating", 0.3).abs(), torch.ones(2).double(), atol=1e-8)
    assert (damped.eigenvalues("simultaneous", 0.3).abs() < 0.99).all()
    state = torch.tensor([1.0, 0.0], dtype=torch.float64)
    moved = plain.alternating(state, 0.1)  # the discriminator first: psi = -0.05, and theta sees it
    assert moved[1].item() == pytest.approx(-0.05)
    assert moved[0].item() == pytest.approx(1 + 0.1 * torch.sigmoid(torch.tensor(-0.05)).item() * -0.05)
    rotation = jacobian_at_equilibrium(plain.velocity)
    assert torch.allclose(rotation, torch.tensor([[0.0, 0.5], [-0.5, 0.0]]).double(), atol=1e-9)


def test_recipes_train_and_repeat() -> None:
    ring, digits = RECIPES["minimax", "ring"], RECIPES["minimax", "digits"]

    def train() -> torch.Tensor:
        run = ring.build(steps=30, seed=4)
        assert isinstance(run, Run)
        list(run(ring.batches(seed=4, device="cpu"), 30))
        return ring.draw(run, 50)

    first = train()
    assert first.shape == (50, 2)
    assert torch.equal(first, train())
    images = torch.rand(100, 1, 8, 8) * 2 - 1
    run = digits.build(steps=10)
    list(run(Batches(images, batch_size=64), 10))
    x = digits.draw(run, 3)
    assert x.shape == (3, 1, 8, 8)
    assert x.abs().max() <= 1


def test_adams_make_one_for_each_player() -> None:
    run = RECIPES["minimax", "grid"].build(steps=1)
    made = adam_per_player(run.objective, 0.5, betas=(0.1, 0.2))
    assert list(made) == ["generator", "discriminator"]
    group = made["generator"].param_groups[0]
    assert (group["lr"], group["betas"], group["fused"]) == (0.5, (0.1, 0.2), True)
    assert {id(p) for p in group["params"]} == {id(p) for p in run.objective.generator.parameters()}


def test_total_variation_and_wasserstein_of_shifted_normals() -> None:
    line = Line()
    p, q = line.normal(-0.4, 0.7), line.normal(0.9, 0.7)
    assert line.tv(p, q).item() == pytest.approx(math.erf(1.3 / (2 * math.sqrt(2) * 0.7)), abs=1e-6)
    assert line.wasserstein1(p, q).item() == pytest.approx(1.3, abs=1e-6)
    assert line.tv(p, p) == 0
    assert line.cdf(p)[-1].item() == pytest.approx(1, abs=1e-9)


def test_wasserstein_of_equal_means_is_that_of_the_quantiles() -> None:
    line = Line(-20, 20)
    assert line.wasserstein1(line.normal(0, 1), line.normal(0, 3)).item() == pytest.approx(
        2 * math.sqrt(2 / math.pi), abs=1e-5
    )


@pytest.mark.parametrize("shift", [0.1, 1.0, 3.0])
def test_divergences_keep_their_order(shift: float) -> None:
    line = Line()
    p, q = line.normal(0, 0.6), line.mixture(line.normal(shift, 0.5), line.normal(-shift, 0.9))
    tv, kl, js = line.tv(p, q).item(), line.kl(p, q).item(), line.js(p, q).item()
    assert 2 * tv**2 <= kl, "Pinsker"
    assert tv**2 / 2 <= js <= tv * math.log(2)
