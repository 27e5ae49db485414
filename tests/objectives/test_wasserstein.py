"""The critic's game of chapter 03 against closed forms, other formulations and likely wrong variants."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from games import flat
from minigen.data.batches import Stream
from minigen.metrics import wasserstein_1d
from minigen.nets.mlp import MLPDiscriminator, MLPGenerator
from minigen.objectives import minimax, wasserstein
from minigen.objectives.wasserstein import Wasserstein
from minigen.train import adam_per_player
from minigen.train.loop import Run
from minigen.train.rng import Rng

REAL = torch.tensor([-3.0, -0.5, 0.0, 2.0], dtype=torch.float64)
FAKE = torch.tensor([1.0, -2.0, 0.7, -0.1], dtype=torch.float64)


def test_the_critics_loss_is_a_difference_of_means_and_wrong_variants_are_not() -> None:
    expected = (1.0 - 2.0 + 0.7 - 0.1) / 4 - (-3.0 - 0.5 + 0.0 + 2.0) / 4
    assert wasserstein.critic_loss(REAL, FAKE).item() == pytest.approx(expected, abs=1e-12)
    for wrong in (
        lambda r, f: r.mean() - f.mean(),  # the sign
        lambda r, f: (f - r).sum(),
        lambda r, f: (r.mean() - f.mean()).abs() * -1,
        lambda r, f: minimax.discriminator_loss(r, f),  # logs
        lambda r, f: torch.sigmoid(f).mean() - torch.sigmoid(r).mean(),
        lambda r, f: 0.5 * (f.mean() - r.mean()),
    ):
        assert wrong(REAL, FAKE).item() != pytest.approx(expected, abs=1e-3)
    assert wasserstein.critic_loss(REAL + 5, FAKE + 5).item() == pytest.approx(expected, abs=1e-12)
    assert wasserstein.generator_loss(FAKE).item() == pytest.approx(0.1, abs=1e-12)


def test_on_a_line_the_best_critic_earns_the_exact_distance() -> None:
    """f' = sign(F_q - F_p), by the samples' own distribution functions."""
    torch.manual_seed(0)
    x, y = torch.randn(300).double(), torch.randn(300).double() * 0.5 + 1
    knots = torch.cat([x, y]).sort().values
    below = (x[:, None] <= knots).double().mean(0), (y[:, None] <= knots).double().mean(0)
    rise = torch.sign(below[1] - below[0])[:-1] * knots.diff()
    f = torch.cat([knots.new_zeros(1), rise.cumsum(0)])

    def score(z: Tensor) -> Tensor:
        return f[torch.searchsorted(knots, z)]

    assert -wasserstein.critic_loss(score(x), score(y)).item() == pytest.approx(wasserstein_1d(x, y).item(), abs=1e-9)


class Quadratic(nn.Module):
    """f(x) = 1/2 x'Ax + b'x over all numbers of an image, whose gradient is Ax + b."""

    def __init__(self, size: int) -> None:
        super().__init__()
        a = torch.randn(size, size, dtype=torch.float64)
        self.a, self.b = nn.Parameter(a + a.T), nn.Parameter(torch.randn(size, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(1)
        return 0.5 * (flat @ self.a * flat).sum(1) + flat @ self.b


def penalty(critic: nn.Module, real: Tensor, fake: Tensor, u: Tensor, **options: bool) -> Tensor:
    between = wasserstein.interpolate(real, fake, u).requires_grad_()
    return wasserstein.slope_penalty(wasserstein.slopes(critic(between), between), **options)


def by_hand(critic: Quadratic, real: Tensor, fake: Tensor, u: Tensor) -> float:
    total = 0.0
    for x, y, share in zip(real, fake, u, strict=True):
        z = (share * x + (1 - share) * y).flatten()
        total += (math.sqrt(sum(g**2 for g in (critic.a @ z + critic.b).tolist())) - 1) ** 2
    return total / len(real)


def penalty_of(
    slope: Callable[[Tensor], Tensor], points: Callable[..., Tensor] = wasserstein.interpolate
) -> Callable[..., Tensor]:
    def wrong(critic: nn.Module, real: Tensor, fake: Tensor, u: Tensor) -> Tensor:
        z = points(real, fake, u).requires_grad_()
        (gradient,) = torch.autograd.grad(critic(z).sum(), z, create_graph=True)
        return (slope(gradient) - 1).square().mean()

    return wrong


def test_the_penalty_equals_the_gradient_by_hand_and_wrong_variants_do_not() -> None:
    torch.manual_seed(0)
    critic = Quadratic(12)
    real, fake = torch.randn(2, 5, 3, 2, 2).double()
    u = torch.rand(5).double()
    expected = by_hand(critic, real, fake, u)
    assert penalty(critic, real, fake, u).item() == pytest.approx(expected, rel=1e-10)

    def norm(gradient: Tensor) -> Tensor:
        return gradient.flatten(1).norm(dim=1)

    for wrong in (
        penalty_of(lambda g: g.norm(dim=1)),  # over the channels alone
        penalty_of(lambda g: g.norm()),  # over the batch, too
        penalty_of(lambda g: g.flatten(1).square().sum(1)),  # the root lost
        penalty_of(norm, lambda x, y, u: wasserstein.interpolate(y, x, u)),  # the two exchanged
        penalty_of(norm, lambda x, y, u: x.clone()),  # at real samples
        penalty_of(norm, lambda x, y, u: y + torch.rand_like(x) * (x - y)),  # a coefficient for each number
        lambda *given: penalty(*given) * 5,  # summed over the batch
    ):
        assert wrong(critic, real, fake, u).item() != pytest.approx(expected, rel=1e-3)


def test_one_sided_leaves_flat_places_alone() -> None:
    steepness = torch.tensor([0.0, 0.5, 1.0, 3.0], dtype=torch.float64)
    assert wasserstein.slope_penalty(steepness).item() == pytest.approx((1 + 0.25 + 0 + 4) / 4)
    assert wasserstein.slope_penalty(steepness, one_sided=True).item() == pytest.approx(1.0)


def test_slopes_agree_with_r1_and_have_a_second_derivative_where_they_are_zero() -> None:
    torch.manual_seed(0)
    critic, x = Quadratic(3), torch.randn(6, 3).double().requires_grad_()
    scores = critic(x)
    assert torch.allclose(wasserstein.slopes(scores, x).square().mean(), 2 * minimax.r1_penalty(scores, x), atol=1e-12)
    net = nn.Linear(3, 1).double()
    nn.init.zeros_(net.weight)
    y = torch.randn(4, 3).double().requires_grad_()
    wasserstein.slope_penalty(wasserstein.slopes(net(y).squeeze(1), y)).backward()
    assert torch.isfinite(net.weight.grad).all()


def test_under_the_penalty_a_critic_of_two_points_is_too_steep_by_the_formula() -> None:
    """One real and one generated point at a distance d, weight l: slope 1 + d / 2l, and it claims d + d^2 / 2l."""
    critic = nn.Linear(1, 1, bias=False).double()
    real, fake = torch.full((64, 1), 3.0).double(), torch.zeros(64, 1).double()
    optimizer = torch.optim.SGD(critic.parameters(), 0.02)
    with torch.no_grad():
        critic.weight.fill_(0.5)
    for _ in range(300):
        between = wasserstein.interpolate(real, fake, torch.rand(64).double()).requires_grad_()
        loss = wasserstein.critic_loss(critic(real).squeeze(1), critic(fake).squeeze(1))
        loss = loss + 10 * wasserstein.slope_penalty(wasserstein.slopes(critic(between).squeeze(1), between))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert critic.weight.item() == pytest.approx(1 + 3 / 20, abs=1e-9)
    claimed = -wasserstein.critic_loss(critic(real).squeeze(1), critic(fake).squeeze(1)).item()
    assert claimed == pytest.approx(3 + 9 / 20, abs=1e-8)


def game(**options: float) -> Wasserstein:
    torch.manual_seed(0)
    generator = MLPGenerator(2, (2,), hidden=(16,), bounded=False)
    return Wasserstein(generator, MLPDiscriminator((2,), hidden=(16,)), **options)


def test_the_critic_moves_several_times_each_on_rows_of_its_own() -> None:
    seen = []

    class Spy(MLPDiscriminator):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(x.detach().clone())
            return super().forward(x)

    generator = MLPGenerator(2, (2,), hidden=(4,), bounded=False)
    objective = Wasserstein(generator, Spy((2,), hidden=(4,)), critic_steps=3, penalty=0.0)
    batch = torch.randn(12, 2)
    players = [player for player, _, _ in objective.turns(batch, Rng())]
    assert players == ["critic", "critic", "critic", "generator"]
    assert torch.equal(torch.cat(seen[0:6:2]).sort(0).values, batch.sort(0).values), "each row once"
    assert len({tuple(x[0].tolist()) for x in seen[1::2]}) == 3, "new samples of the generator each time"
    with pytest.raises(ValueError, match="multiple of critic_steps = 3 rows; got 10"):
        list(objective.turns(torch.randn(10, 2), Rng()))


def test_only_the_mover_learns_and_the_generator_through_the_critic() -> None:
    objective = game(critic_steps=1)
    turns = objective.turns(torch.randn(8, 2), Rng())
    _, loss, logs = next(turns)
    loss.backward()
    assert set(logs) == {"distance", "slope"}
    assert all(p.grad is None for p in objective.generator.parameters())
    _, loss, _ = next(turns)
    loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in objective.generator.parameters())


def test_clipping_runs_after_each_move_of_the_critic() -> None:
    objective = game(clip=0.03, penalty=0.0, critic_steps=2)
    run = Run(objective, adam_per_player(objective, 0.05))
    list(run([torch.randn(8, 2)], 3))
    assert flat(objective.critic).abs().max() <= 0.03
    assert flat(objective.generator).abs().max() > 0.03


@pytest.mark.parametrize("options", [{"penalty": 10.0}, {"penalty": 0.0, "clip": 0.1}])
def test_a_generator_finds_a_far_gaussian(options: dict[str, float]) -> None:
    objective = game(critic_steps=2, **options)
    run = Run(objective, adam_per_player(objective, 5e-3, betas=(0.0, 0.9)))
    stream = Stream(lambda n, *, generator: 0.3 * torch.randn(n, 2, generator=generator) + 3, batch_size=64)
    gaps = []
    for step in run(stream, 300):
        if step.n % 10 == 0:
            gaps.append((objective.sample(200, generator=torch.Generator().manual_seed(1)).mean(0) - 3).norm().item())
    assert gaps[0] > 3
    assert min(gaps) < 0.7, "it walks there, though the heaps have nothing in common at first"


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="give penalty=0 with it; got penalty=10"):
        game(clip=0.1)
    with pytest.raises(ValueError, match="critic_steps must be 1 or more"):
        game(critic_steps=0)
    with pytest.raises(ValueError, match="penalty, lambda, must be a finite number"):
        game(penalty=-1.0)
    with pytest.raises(ValueError, match=r"u, a number for each pair, must be \(4,\); got \(4, 2\)"):
        wasserstein.interpolate(torch.ones(4, 2), torch.ones(4, 2), torch.ones(4, 2))
    with pytest.raises(ValueError, match="fake samples must have the shape of real samples"):
        wasserstein.interpolate(torch.ones(4, 2), torch.ones(3, 2), torch.ones(4))
    with pytest.raises(ValueError, match="requires_grad_"):
        wasserstein.slopes(torch.ones(2, requires_grad=True), torch.ones(2, 2))
