"""The equations of chapter 02 against other formulations, and their likely wrong variants against the same tests."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import binary_cross_entropy, logsigmoid, softplus

from games import PLAYERS, adam_per_player, game
from minigen.data.batches import Stream
from minigen.nets.mlp import MLPDiscriminator, MLPGenerator
from minigen.objectives import minimax
from minigen.objectives.minimax import Minimax
from minigen.train.loop import Run
from minigen.train.rng import Rng
from minigen.train.schedules import linear_decay
from minigen.worlds import GaussianMixture

REAL = torch.tensor([-3.0, -0.5, 0.0, 2.0], dtype=torch.float64)
FAKE = torch.tensor([1.0, -2.0, 0.7, -0.1], dtype=torch.float64)


def probabilities(logits: Tensor) -> Tensor:
    return 1 / (1 + torch.exp(-logits))


def slope(loss: Callable[[Tensor], Tensor], at: Tensor) -> Tensor:
    x = at.clone().requires_grad_()
    return torch.autograd.grad(loss(x), x)[0]


# name: (value expected of (REAL, FAKE), from probabilities or by hand)
D, G = probabilities(REAL), probabilities(FAKE)
EXPECTED = {
    "value": (D.log() + (1 - G).log()).mean(),
    "discriminator_loss": binary_cross_entropy(torch.cat([D, G]), torch.tensor([1.0] * 4 + [0.0] * 4).double()) * 2,
    "saturating_loss": (1 - G).log().mean(),
    "non_saturating_loss": -G.log().mean(),
    "least_squares_discriminator_loss": sum((r - 1) ** 2 + f**2 for r, f in zip(REAL, FAKE, strict=True)) / 8,
    "least_squares_generator_loss": sum((f - 1) ** 2 for f in FAKE) / 8,
    "hinge_discriminator_loss": torch.tensor((4 + 1.5 + 1 + 0 + 2 + 0 + 1.7 + 0.9) / 4, dtype=torch.float64),
    "hinge_generator_loss": torch.tensor(0.4 / 4, dtype=torch.float64),
}
WRONG: dict[str, list[Callable[..., Tensor]]] = {
    "value": [
        lambda r, f: logsigmoid(r).mean() + logsigmoid(f).mean(),  # log D for log(1 - D)
        lambda r, f: -(logsigmoid(r) + logsigmoid(-f)).mean(),  # the sign
        lambda r, f: (logsigmoid(r) + logsigmoid(-f)).sum(),  # sum for mean
        lambda r, f: logsigmoid(-r).mean() + logsigmoid(f).mean(),  # real and fake swapped
        lambda r, f: (probabilities(r) + 1 - probabilities(f)).mean(),  # the logarithms lost
    ],
    "discriminator_loss": [
        lambda r, f: 0.5 * (softplus(-r).mean() + softplus(f).mean()),  # a mean over both halves
        lambda r, f: -(softplus(-r).mean() + softplus(f).mean()),
        lambda r, f: softplus(-r).mean() - softplus(f).mean(),
        lambda r, f: softplus(r).mean() + softplus(-f).mean(),
    ],
    "saturating_loss": [
        lambda f: softplus(f).mean(),
        lambda f: softplus(-f).mean(),  # non-saturating for saturating
        lambda f: 1 - logsigmoid(f).mean(),  # the misprint 1 - log D
        lambda f: -softplus(f).sum(),
    ],
    "non_saturating_loss": [
        lambda f: -softplus(f).mean(),
        lambda f: softplus(f).mean(),
        lambda f: logsigmoid(f).mean(),
    ],
    "least_squares_discriminator_loss": [
        lambda r, f: (r - 1).square().mean() + f.square().mean(),  # the half lost
        lambda r, f: 0.5 * r.square().mean() + 0.5 * (f - 1).square().mean(),  # labels swapped
        lambda r, f: 0.5 * (probabilities(r) - 1).square().mean() + 0.5 * probabilities(f).square().mean(),
    ],
    "least_squares_generator_loss": [lambda f: 0.5 * f.square().mean(), lambda f: (f - 1).square().mean()],
    "hinge_discriminator_loss": [
        lambda r, f: (1 + r).relu().mean() + (1 - f).relu().mean(),
        lambda r, f: (1 - r).mean() + (1 + f).mean(),  # no hinge
    ],
    "hinge_generator_loss": [lambda f: f.mean(), lambda f: (1 - f).relu().mean()],
}


def agrees(function: Callable[..., Tensor], name: str) -> bool:
    arguments = (REAL, FAKE) if "discriminator" in name or name == "value" else (FAKE,)
    return torch.allclose(function(*arguments), EXPECTED[name].clone().detach(), atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", EXPECTED)
def test_losses_equal_their_definition_and_wrong_variants_do_not(name: str) -> None:
    assert agrees(getattr(minimax, name), name)
    assert len(WRONG[name]) >= 2
    for variant in WRONG[name]:
        assert not agrees(variant, name)


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=8))
def test_losses_and_slopes_are_finite_and_exact_up_to_100(values: list[float]) -> None:
    logits = torch.tensor(values)
    exact = torch.tensor(values, dtype=torch.float64)
    for name in ("saturating_loss", "non_saturating_loss"):
        loss = getattr(minimax, name)
        # log sigmoid(l) = min(l, 0) - log(1 + exp(-|l|))
        sign = -1 if name == "saturating_loss" else 1
        log_sigmoid = torch.minimum(sign * exact, torch.zeros_like(exact)) - torch.log1p(torch.exp(-exact.abs()))
        assert loss(logits).double().item() == pytest.approx((log_sigmoid.mean() * -sign).item(), rel=1e-5, abs=1e-6)
        assert torch.isfinite(slope(loss, logits)).all()
    assert torch.isfinite(minimax.discriminator_loss(logits, -logits))


def test_slopes_by_the_logit() -> None:
    assert torch.allclose(slope(minimax.saturating_loss, FAKE), -G / 4)
    assert torch.allclose(slope(minimax.non_saturating_loss, FAKE), -(1 - G) / 4)
    assert slope(minimax.saturating_loss, torch.tensor([-30.0])).abs() < 1e-12
    assert slope(minimax.non_saturating_loss, torch.tensor([-30.0])) == pytest.approx(-1)


@pytest.mark.parametrize(
    "name", ["discriminator_loss", "saturating_loss", "non_saturating_loss", "hinge_discriminator_loss"]
)
def test_gradients_by_finite_differences(name: str) -> None:
    arguments = (REAL, FAKE) if "discriminator" in name else (FAKE,)
    assert torch.autograd.gradcheck(getattr(minimax, name), tuple(a.clone().requires_grad_() for a in arguments))


def test_the_optimal_discriminator_is_a_maximum_of_the_value() -> None:
    p, q = GaussianMixture.ring(std=0.3), GaussianMixture(torch.zeros(1, 2), std=1.0)
    grid = torch.linspace(-4, 4, 120, dtype=torch.float64)
    points = torch.cartesian_prod(grid, grid)
    log_p, log_q = p.log_prob(points), q.log_prob(points)

    def value(logits: Tensor) -> Tensor:
        return (log_p.exp() * logsigmoid(logits) + log_q.exp() * logsigmoid(-logits)).sum()

    star = minimax.optimal_logit(log_p, log_q)
    assert torch.allclose(torch.sigmoid(star), minimax.optimal_discriminator(log_p, log_q))
    assert torch.allclose(minimax.optimal_discriminator(log_p, log_q), log_p.exp() / (log_p.exp() + log_q.exp()))
    assert slope(value, star).abs().max() < 1e-12
    for wrong in (-star, torch.zeros_like(star), log_p.exp() - log_q.exp(), 0.5 * star):
        assert value(wrong) < value(star) - 1e-3


def penalty_agrees(penalty: Callable[[Tensor, Tensor], Tensor]) -> bool:
    torch.manual_seed(0)
    w, b = torch.randn(3, 5).double(), torch.randn(5).double()
    x = torch.randn(7, 3).double().requires_grad_()
    logits = torch.tanh(x @ w + b).sum(1)
    by_hand = ((1 - torch.tanh(x @ w + b) ** 2) @ w.T).square().sum(1).mean() / 2
    return torch.allclose(penalty(logits, x), by_hand, atol=1e-12)


def _gradient(output: Tensor, x: Tensor) -> Tensor:
    return torch.autograd.grad(output.sum(), x, create_graph=True)[0]


def test_r1_equals_the_gradient_by_hand_and_wrong_variants_do_not() -> None:
    assert penalty_agrees(minimax.r1_penalty)
    for wrong in (
        lambda logits, x: _gradient(logits, x).square().sum(1).mean(),  # the half lost
        lambda logits, x: 0.5 * _gradient(logits, x).square().mean(),  # a mean over dimensions
        lambda logits, x: 0.5 * _gradient(logits, x).norm(dim=1).mean(),  # the square lost
        lambda logits, x: 0.5 * (_gradient(logits, x).norm(dim=1) - 1).square().mean(),  # WGAN-GP's
        lambda logits, x: 0.5 * _gradient(torch.sigmoid(logits), x).square().sum(1).mean(),  # of the probability
        lambda logits, x: 0.5 * _gradient(logits.mean(), x).square().sum(1).mean(),  # of the batch's mean
    ):
        assert not penalty_agrees(wrong)
    with pytest.raises(ValueError, match="requires_grad_"):
        minimax.r1_penalty(torch.ones(2, requires_grad=True), torch.ones(2, 2))


def test_r1_reaches_the_parameters() -> None:
    net = MLPDiscriminator((2,), hidden=(8,))
    x = torch.randn(5, 2, requires_grad=True)
    minimax.r1_penalty(net(x), x).backward()
    assert all(p.grad is not None for name, p in net.named_parameters() if name != "net.2.bias")


def test_turns_alternate_and_detach() -> None:
    objective = game(r1=0.0)
    turns = objective.turns(torch.randn(4, 2), Rng())
    player, loss, logs = next(turns)
    loss.backward()
    assert player == "discriminator"
    assert set(logs) == {"logit/real", "logit/fake"}
    assert all(p.grad is None for p in objective.generator.parameters())
    player, loss, _ = next(turns)
    assert player == "generator"
    assert next(turns, None) is None


@pytest.mark.parametrize("loss", minimax.LOSSES)
def test_every_parameter_of_every_player_learns(loss: str) -> None:
    torch.manual_seed(0)
    objective = Minimax(
        MLPGenerator(3, (1, 4, 4), hidden=(8, 8)), MLPDiscriminator((1, 4, 4), hidden=(8, 8)), loss=loss, r1=0.1
    )
    with torch.no_grad():
        objective.discriminator.net[-1].weight.mul_(20)  # logits beyond the hinge: inside it, the last bias cancels
    before = {name: p.clone() for name, p in objective.named_parameters()}
    stream = Stream(lambda n, *, generator: torch.rand(n, 1, 4, 4, generator=generator) * 2 - 1, batch_size=32)
    list(Run(objective, adam_per_player(objective))(stream, 3))
    assert [name for name, p in objective.named_parameters() if torch.equal(p, before[name])] == []


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="loss must be one of saturating"):
        Minimax(MLPGenerator(2, (2,)), MLPDiscriminator((2,)), loss="wgan")
    with pytest.raises(ValueError, match="at least 0"):
        Minimax(MLPGenerator(2, (2,)), MLPDiscriminator((2,)), r1=-1.0)
    with pytest.raises(ValueError, match=r"latent must be \(B, 2\); got \(4, 3\)"):
        MLPGenerator(2, (2,))(torch.ones(4, 3))
    with pytest.raises(ValueError, match=r"samples must be \(B, 1, 8, 8\); got \(4, 8, 8\)"):
        MLPDiscriminator((1, 8, 8))(torch.ones(4, 8, 8))


def train_on_a_gaussian(**game_options) -> float:
    """Distance of G's mean and spread from those of N((1, -1), 0.5^2), after a short wired run."""
    torch.manual_seed(0)
    data = GaussianMixture(torch.tensor([[1.0, -1.0]]), std=0.5)
    objective = Minimax(
        MLPGenerator(2, (2,), hidden=(32,), bounded=False), MLPDiscriminator((2,), hidden=(32,)), **game_options
    )
    optimizers = {
        n: torch.optim.Adam(getattr(objective, n).parameters(), 6e-3, betas=(0.0, 0.99), fused=True) for n in PLAYERS
    }
    run = Run(objective, optimizers, ema={"generator": 0.99}, schedule=linear_decay(800))
    for _ in run(Stream(lambda n, *, generator: data.sample(n, generator=generator).float(), batch_size=128), 800):
        pass
    samples = objective.sample(4000, generator=torch.Generator().manual_seed(1), network=run.ema["generator"])
    mean, spread = samples.mean(0), samples.std(0)
    return ((mean - torch.tensor([1.0, -1.0])).abs().max() + (spread - 0.5).abs().max()).item()


@pytest.mark.parametrize("loss", minimax.LOSSES)
def test_the_wired_run_finds_a_gaussian(loss: str) -> None:
    assert train_on_a_gaussian(loss=loss, r1=1.0) < 0.2


@pytest.mark.parametrize(
    "broken",
    [
        (minimax.discriminator_loss, lambda f: -minimax.non_saturating_loss(f)),  # the generator's sign
        (lambda r, f: -minimax.discriminator_loss(r, f), minimax.non_saturating_loss),  # the discriminator's sign
        (lambda r, f: minimax.discriminator_loss(f, r), minimax.non_saturating_loss),  # real and fake swapped
    ],
)
def test_the_wired_run_misses_with_a_broken_loss(monkeypatch, broken) -> None:
    monkeypatch.setitem(minimax.LOSSES, "non-saturating", broken)
    assert train_on_a_gaussian(r1=1.0) > 0.5


def test_the_value_where_the_discriminator_cannot_tell() -> None:
    assert minimax.value(torch.zeros(5), torch.zeros(3)).item() == pytest.approx(-math.log(4))


class Squares(torch.nn.Module):
    """Logits w |x|^2 of points (B, 2): their gradient is 2 w x."""

    def __init__(self, w: float) -> None:
        super().__init__()
        self.w = torch.nn.Parameter(torch.tensor(w))

    def forward(self, x: Tensor) -> Tensor:
        return self.w * x.square().sum(1)


class Point(torch.nn.Module):
    """All samples at one point, which is the parameter."""

    latent = 2

    def __init__(self, point: list[float]) -> None:
        super().__init__()
        self.point = torch.nn.Parameter(torch.tensor(point))

    def forward(self, z: Tensor) -> Tensor:
        return self.point.expand(len(z), 2)


def test_the_logs_of_a_game_by_value() -> None:
    objective = Minimax(Point([3.0, 0.0]), Squares(0.5), r1=10.0)
    real = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    turns = objective.turns(real, Rng())
    player, loss, logs = next(turns)
    assert player == "discriminator"
    assert logs["logit/real"].item() == pytest.approx((0.5 + 2.0) / 2)
    assert logs["logit/fake"].item() == pytest.approx(4.5)
    assert logs["r1"].item() == pytest.approx(0.5 * (1 + 4) / 2)  # of the real points, without gamma
    plain = minimax.discriminator_loss(torch.tensor([0.5, 2.0]), torch.tensor([4.5, 4.5]))
    assert loss.item() == pytest.approx(plain.item() + 10.0 * 1.25, rel=1e-6)
    loss.backward()
    assert objective.generator.point.grad is None
    _, loss, _ = next(turns)
    assert loss.item() == pytest.approx(minimax.non_saturating_loss(torch.tensor([4.5])).item(), rel=1e-6)
    loss.backward()
    slope = -(1 - torch.sigmoid(torch.tensor(4.5))) * torch.tensor([3.0, 0.0])  # of -log D at 2 w x
    torch.testing.assert_close(objective.generator.point.grad, slope)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_losses_of_half_precision_logits_are_in_float32(dtype: torch.dtype) -> None:
    real, fake = (3 * torch.randn(500).to(dtype) for _ in range(2))
    for d_loss, g_loss in minimax.LOSSES.values():
        for found, exact in ((d_loss(real, fake), d_loss(real.double(), fake.double())),
                             (g_loss(fake), g_loss(fake.double()))):  # fmt: skip
            assert found.dtype == torch.float32
            torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=1e-6)


def test_samples_need_no_generator() -> None:
    objective = game(r1=0.0)
    torch.manual_seed(4)
    first = objective.sample(5)
    assert not objective.sample(5).allclose(first)
    torch.manual_seed(4)
    assert objective.sample(5).equal(first)
