"""Diffusion models of a world and of digits, with what they were measured to reach (chapters 11 and 12)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from minigen import data
from minigen.levels import dequantise
from minigen.nets.unet import UNet
from minigen.objectives.diffusion import Denoise, Denoiser, Diffusion, Path, Schedule, bound, squared_error
from minigen.recipes.recipe import Recipe, Scored, Target
from minigen.recipes.scored import NOISY_DIGITS, ScoredImages, ScoredWorld
from minigen.samplers import diffusion as sampler
from minigen.train import Run, adams
from minigen.worlds import Shapes

Levels = Callable[..., Schedule]  # called as levels() or levels(steps, high=log_snr)


def _photographs(name: str, title: str, load: Callable[[str], data.Images], shape: tuple[int, ...]) -> ScoredImages:
    """Images of 256 levels, with noise between them."""
    change = partial(dequantise, levels_count=256)
    return ScoredImages(name, title, load, shape=shape, change=change, view=lambda x: x, levels=256)


TARGETS: dict[str, Scored] = {
    "shapes": ScoredWorld(
        "shapes", "one coloured shape, 12x12, 1,530 templates", lambda: Shapes.preset("12x12"), shape=(3, 12, 12)
    ),
    "digits": NOISY_DIGITS,
    "mnist": _photographs("mnist", "60,000 handwritten digits, 28x28, noise between levels", data.mnist, (1, 28, 28)),
    "cifar10": _photographs("cifar10", "50,000 photographs, 32x32, noise between levels", data.cifar10, (3, 32, 32)),
}


def warm_up_and_decay(steps: int, *, warmup: int = 200, hold: float = 0.4) -> Callable[[int], float]:
    """A schedule for `Run`: up to 1 within `warmup` steps, flat for a share `hold` of all, then linear to 0."""
    return lambda n: min(1.0, n / warmup, max(0.0, (steps - n) / (steps * (1.0 - hold))))


def diffusion_model(
    net: Callable[[], nn.Module],
    *,
    steps: int,
    rate: float = 2e-3,
    average: float = 0.998,
    levels: Levels = Schedule.normal,
    drop: float = 0.0,
    seed: int = 0,
    device: torch.device | str = "cpu",
    **options: Any,
) -> Run:
    """A denoising network's run: Adam, warm-up and decay, averaged weights. options: of `Run`, such as precision.

    net: makes a network called as net(x_t, log_snr, *context), after the seed is set; it predicts velocities.
    levels: makes the schedule that it is trained at. drop: share of contexts that it is not told.
    """
    torch.manual_seed(seed)
    objective = Diffusion(Denoiser(net(), "velocity"), levels(), drop=drop).to(device)
    optimizers = adams(objective, rate, betas=(0.9, 0.99))
    options.setdefault("clip", 100.0)
    return Run(
        objective, optimizers, average={"model": average}, schedule=warm_up_and_decay(steps), seed=seed, **options
    )


def drawn(
    run: Run,
    n: int,
    told: Callable[[Tensor], Denoise],
    *,
    shape: tuple[int, ...],
    seed: int,
    path: Path,
    rows: int = 500,
) -> Tensor:
    """n samples, (n, *shape) on the CPU, by ancestral steps along a path; the same for the same seed.

    told: the denoiser for the samples of these numbers, on the run's device. rows: samples that are drawn at once.
    """
    source, parts = torch.Generator().manual_seed(seed), []
    noise = torch.randn(n, *shape, generator=source)
    for numbers in torch.split(torch.arange(n), rows):
        device = torch.Generator(run.device).manual_seed(int(torch.randint(2**31, (), generator=source)))
        *_, last = sampler.ancestral(told(numbers), noise[numbers].to(run.device), path, generator=device)
        parts.append(last.cpu())
    return torch.cat(parts)


def samples(
    run: Run,
    n: int,
    *,
    shape: tuple[int, ...],
    seed: int = 1,
    steps: int = 20,
    sampling: Callable[[], Schedule] = Schedule.even,
) -> Tensor:
    """n images of a run's averaged network by `steps` ancestral steps, on the CPU; the same for the same seed.

    sampling: makes the schedule of the steps.
    """
    return drawn(run, n, lambda numbers: run.average["model"], shape=shape, seed=seed, path=sampling().path(steps))


@torch.no_grad()
def last_variance(run: Run, images: Tensor, schedule: Schedule, *, seed: int = 1) -> float:
    """The best variance of the last step for training images (B, ...): their mean squared error at the first level."""
    source, level = torch.Generator(run.device).manual_seed(seed), (float(schedule.signal[0]), float(schedule.noise[0]))
    x_0 = images.to(run.device)
    eps = torch.randn(x_0.shape, generator=source, device=run.device)
    return squared_error(run.average["model"], x_0, eps, *level).mean().item() / x_0[0].numel()


def log_prob(
    run: Run,
    images: Tensor,
    *,
    target: Target,
    seed: int = 1,
    levels: Levels = Schedule.normal,
    steps: int = 100,
    high: float = 4.0,
) -> Tensor:
    """A lower bound of the log-density in expectation, nats, (B,) on the CPU: the bound with so many steps.

    levels: as in training. high: the log-SNR where they begin; the last step from there has the variance that is best
    for 500 training images of the target.
    """
    source, schedule = torch.Generator(run.device).manual_seed(seed), levels(steps, high=high)
    seen = next(iter(target.batches(batch_size=500, seed=2**20, device=run.device)))
    variance = last_variance(run, seen, schedule, seed=seed)
    terms = bound(run.average["model"], images.to(run.device), schedule, variance=variance, generator=source)
    return -terms.total.cpu()


def _recipe(
    name: str,
    net: Callable[[], nn.Module],
    *,
    steps: int,
    full_steps: int,
    batch_size: int,
    reaches: str,
    levels: Levels = Schedule.normal,
    sampling: Callable[[], Schedule] = Schedule.even,
    **settings: Any,
) -> Recipe:
    target = TARGETS[name]

    def build(**given: Any) -> Run:
        return diffusion_model(net, levels=levels, **settings, **given)

    draw = partial(samples, shape=target.shape, sampling=sampling)
    score = partial(log_prob, target=target, levels=levels)
    return Recipe("diffusion", target, steps, full_steps, batch_size, build, draw, reaches, score)


DIFFUSION = [
    _recipe(
        "shapes",
        lambda: UNet(3, width=32, multipliers=(1, 2, 2), attention=(1, 2)),
        steps=400,
        full_steps=100_000,
        batch_size=64,
        reaches="30 s; 300 nats above the floor, no shapes yet (20,000 steps: 26 min, 6 nats, 91 % of samples valid)",
        levels=partial(Schedule.normal, mean=0.0, std=2.0),
        sampling=partial(Schedule.normal, mean=-1.0, std=3.0),
    ),
    _recipe(
        "digits",
        lambda: UNet(1, width=32, multipliers=(1, 2), attention=(1,)),
        steps=1_500,
        full_steps=1_500,
        batch_size=64,
        reaches="1 min; most are legible; at most 2.45 bits/dim on the test set",
        levels=partial(Schedule.normal, mean=0.0, std=3.0),
        average=0.995,
    ),
    _recipe(
        "mnist",
        lambda: UNet(1, width=64, multipliers=(1, 2, 2), attention=(2,)),
        steps=2_000,
        full_steps=100_000,
        batch_size=128,
        reaches="not measured on a CPU",
        levels=partial(Schedule.normal, mean=0.0),
    ),
    _recipe(
        "cifar10",
        lambda: UNet(3, width=128, multipliers=(1, 2, 2), blocks=2, attention=(1, 2)),
        steps=2_000,
        full_steps=200_000,
        batch_size=128,
        reaches="not measured on a CPU",
        levels=partial(Schedule.normal, mean=1.0),
        rate=5e-4,
        average=0.9995,
    ),
]
