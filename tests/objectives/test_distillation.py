"""Progressive distillation: the target against two steps of the teacher, and a student that learns them."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from minigen.data.batches import Stream
from minigen.nets.mlp import mlp
from minigen.objectives import distillation
from minigen.objectives.diffusion import (
    Denoise,
    Denoiser,
    Number,
    Path,
    Schedule,
    append_dims,
    posterior_step,
    predict_x0,
)
from minigen.objectives.flow import straight
from minigen.samplers.diffusion import Level, ancestral, levels
from minigen.train.loop import Run
from minigen.train.optimizers import adam_per_player
from minigen.train.rng import Rng
from minigen.worlds import GaussianMixture

COVARIANCES = torch.tensor([[[0.3, 0.0], [0.0, 0.3]], [[0.5, 0.2], [0.2, 0.4]]])
SMOOTH = GaussianMixture(torch.tensor([[-1.0, 0.0], [1.0, 0.5]]), covariances=COVARIANCES)
PATHS = {
    "linear": Schedule.linear(100, last=0.2).path(6),
    "no signal left": Schedule.cosine(100).zero_terminal().path(6),
    "straight": straight(6),
    "signal kept": Path(torch.ones(7), torch.tensor([9.0, 4.0, 2.0, 1.0, 0.5, 0.2, 0.0])),
}


def triples(path: Path) -> list[tuple[Level, Level, Level]]:
    every = levels(path)
    return [(every[i], every[i + 1], every[i + 2]) for i in range(0, len(every) - 1, 2)]


def ddim(image: Tensor, x: Tensor, now: Level, then: Level) -> Tensor:
    """Song et al. 2021, eq. 12, for sigma = 0: the image and the direction pointing to x_t."""
    return then[0] * image + then[1] * (x - now[0] * image) / now[1]


def of_two_guesses(rule: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    """A target that mixes the teacher's two guesses at the image, as one might think."""

    def image(denoise: Denoise, x: Tensor, now: Level, middle: Level, then: Level) -> Tensor:
        first = denoise(x, *now)
        return rule(first, denoise(ddim(first, x, now, middle), *middle))

    return image


def with_ratio(power: float) -> Callable[..., Tensor]:
    """The formula with another power of the ratio of noises; 1 is right."""

    def image(denoise: Denoise, x: Tensor, now: Level, middle: Level, then: Level) -> Tensor:
        there = ddim(denoise(x, *now), x, now, middle)
        there = ddim(denoise(there, *middle), there, middle, then)
        r = (then[1] / now[1]) ** power
        return (there - r * x) / (then[0] - r * now[0])

    return image


TARGETS = {
    "right": distillation.two_step_image,
    "the same in other words": with_ratio(1),
    "variances for deviations": with_ratio(2),
    "the teacher's last guess": of_two_guesses(lambda first, second: second),
    "the teacher's first guess": of_two_guesses(lambda first, second: first),
    "their mean": of_two_guesses(lambda first, second: (first + second) / 2),
}


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", TARGETS)
def test_one_ddim_step_to_the_target_lands_where_two_of_the_teacher_do(name: str, path: str) -> None:
    x, errors = torch.randn(8, 2), []
    for now, middle, then in triples(PATHS[path])[:2]:
        *_, two = ancestral(SMOOTH.denoise, x, Path(*map(torch.tensor, zip(now, middle, then, strict=True))), eta=0.0)
        one = ddim(TARGETS[name](SMOOTH.denoise, x, now, middle, then), x, now, then)
        errors.append(float((one - two).abs().max()))
        x = two
    assert max(errors) < 1e-9 if name in ("right", "the same in other words") else max(errors) > 1e-3


@pytest.mark.usefixtures("float64")
def test_each_image_may_have_its_own_levels() -> None:
    def denoise(x: Tensor, alpha: Number, sigma: Number) -> Tensor:
        return torch.tanh(append_dims(alpha, x) * x) * append_dims(sigma, x)

    x, (now, middle, then) = torch.randn(3, 1, 2, 2), zip(*triples(straight(6)), strict=True)
    mixed = distillation.two_step_image(denoise, x, *(tuple(torch.tensor(part).T) for part in (now, middle, then)))
    for b in range(3):
        alone = distillation.two_step_image(denoise, x[b : b + 1], now[b], middle[b], then[b])
        torch.testing.assert_close(mixed[b : b + 1], alone)
    near_end = distillation.two_step_image(denoise, x, now[2], middle[2], then[2])
    between = posterior_step(denoise(x, *now[2]), x, now[2], middle[2], eta=0.0).mean
    torch.testing.assert_close(near_end, denoise(between, *middle[2]))  # at the data, the target is where they land


def exact(x: Tensor, alpha: Number, sigma: Number) -> Tensor:
    """The world's denoiser for images at a few different levels."""
    pairs = torch.stack([append_dims(part, x).flatten().expand(len(x)) for part in (alpha, sigma)], 1)
    image = torch.empty_like(x)
    for pair in pairs.unique(dim=0):
        rows = (pairs == pair).all(1)
        image[rows] = SMOOTH.denoise(x[rows], *pair.tolist())
    return image


class Net(nn.Module):
    """A small network for points in the plane."""

    def __init__(self) -> None:
        super().__init__()
        self.body = mlp([3, 32, 32, 2], activation=nn.SiLU)
        self.seen: list[tuple[Tensor, Tensor]] = []

    def forward(self, x: Tensor, log_snr: Tensor) -> Tensor:
        self.seen = [(x.detach(), log_snr)]
        output: Tensor = self.body(torch.cat([x, log_snr[:, None] / 4], 1))
        return output


def test_the_loss_weighs_the_error_at_every_second_level_by_the_truncated_snr() -> None:
    path, net, x_0 = Schedule.cosine(100).path(6), Net(), SMOOTH.sample(3000)
    student = Denoiser(net)
    objective = distillation.ProgressiveDistillation(student, exact, path)
    ((player, loss, _),) = list(objective.turns(x_0, Rng(seed=7)))
    assert player == "student"
    x_t, log_snr = net.seen[0]
    starts = triples(path)
    total = torch.zeros(())
    for now, middle, then in starts:
        told = 2 * torch.tensor(now[0] / now[1]).log()
        rows = (log_snr - told).abs() < 1e-3
        assert 900 < rows.sum() < 1100
        target = distillation.two_step_image(exact, x_t[rows], now, middle, then)
        guess = predict_x0(net(x_t[rows], log_snr[rows]), x_t[rows], *now, "v")
        total = total + max(1.0, (now[0] / now[1]) ** 2) * (target - guess).square().sum()
        noise = (x_t[rows] - now[0] * x_0[rows]) / now[1]
        assert noise.mean().abs() < 0.1
        assert noise.std().item() == pytest.approx(1.0, abs=0.07)
    assert (starts[0][0][0] / starts[0][0][1]) ** 2 < 1 < (starts[-1][0][0] / starts[-1][0][1]) ** 2
    torch.testing.assert_close(loss, total / 3000, rtol=1e-4, atol=0)
    ((_, again, _),) = list(objective.turns(x_0, Rng(seed=7)))
    assert torch.equal(loss, again)


def test_only_the_student_learns() -> None:
    student = Denoiser(Net())
    teacher = copy.deepcopy(student)
    objective = distillation.ProgressiveDistillation(student, teacher, straight(4))
    assert [name for name, _ in objective.named_children()] == ["student"]
    assert all(key.startswith("student.") for key in objective.state_dict())
    ((_, loss, _),) = list(objective.turns(torch.randn(9, 2), Rng(seed=7)))
    loss.backward()
    assert all(p.grad is None for p in teacher.parameters())
    assert all(p.grad.abs().sum() > 0 for p in student.parameters())


@pytest.mark.parametrize("path", [straight(3), straight(1), Path(torch.ones(1), torch.ones(1))])
def test_a_teacher_takes_an_even_number_of_steps(path: Path) -> None:
    with pytest.raises(ValueError, match=f"even number of steps; got {len(path.alpha) - 1}"):
        distillation.ProgressiveDistillation(Denoiser(nn.Identity()), exact, path)


def test_a_student_learns_the_teachers_steps() -> None:
    """Its two steps come nearer to the teacher's four than two steps of the exact denoiser do."""
    path = Schedule.cosine(100).path(4)
    half = Path(path.alpha[::2], path.sigma[::2])
    student = Denoiser(Net())
    objective = distillation.ProgressiveDistillation(student, exact, path)
    for _ in Run(objective, adam_per_player(objective, 5e-3))(Stream(SMOOTH.sample, batch_size=128, seed=7), 120):
        pass
    x = torch.randn(1000, 2)
    *_, four = ancestral(exact, x, path, eta=0.0)
    gaps = []
    for denoise in (exact, student):
        *_, two = ancestral(denoise, x, half, eta=0.0)
        gaps.append((two - four).square().sum(1).mean().item())
    assert gaps[1] < 0.1 * gaps[0], gaps
