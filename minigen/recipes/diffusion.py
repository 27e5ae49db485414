"""Diffusion models of a world, of digits, and of what captions say (chapters 11 to 13), as they were measured."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from minigen import data
from minigen.data.chunks import in_chunks
from minigen.nets.text import Prompted, TextEncoder
from minigen.nets.unet import UNet
from minigen.objectives.diffusion import (
    Denoise,
    Denoiser,
    Diffusion,
    Path,
    Prediction,
    Schedule,
    bound,
    squared_error,
)
from minigen.recipes.recipe import Recipe, warmup_decay
from minigen.samplers import diffusion as sampler
from minigen.samplers.guidance import classifier_free, static_threshold
from minigen.tasks.captions import PromptedImages, PromptedShapes
from minigen.tasks.emoji import EmojiTask
from minigen.tasks.folder import FolderImages
from minigen.tasks.images import NOISY_DIGITS, OF_DIGITS, dequantised
from minigen.tasks.shapes import ScoredShapes
from minigen.tasks.task import Task
from minigen.train.loop import Run
from minigen.worlds import Shapes

CHAPTER = 11
GUIDANCE = 2.0  # guidance_scale of the samples that a recipe is judged by
Levels = Callable[..., Schedule]  # called as levels() or levels(steps, high=log_snr)


def denoiser(
    task: Task,
    *,
    net: Callable[[], nn.Module],
    levels: Levels = Schedule.normal,
    p_uncond: float = 0.0,
    predict: Prediction = "v",
) -> Diffusion:
    """The simple loss of a network that predicts velocities, or what `predict` says.

    net: makes a network called as net(x_t, log_snr, *context). levels: makes the schedule that it is trained at.
    p_uncond: share of contexts that are dropped, so that it learns to go without.
    """
    return Diffusion(Denoiser(net(), predict), levels(), p_uncond=p_uncond)


def prompted(
    task: PromptedShapes | PromptedImages, *, net: Callable[..., nn.Module], width: int, **settings: Any
) -> Diffusion:
    """The same of a network that reads captions. net: makes one with context_dim=width and label_dim=width."""

    def reading() -> Prompted:
        length = task.tokens.shape[1]
        drawing = net(context_dim=width, label_dim=width)
        return Prompted(drawing, TextEncoder(len(task.vocabulary), length=length, width=width, blocks=1))

    return denoiser(task, net=reading, p_uncond=0.1, **settings)


def drawn(
    run: Run,
    n: int,
    denoise: Callable[[Tensor], Denoise],
    *,
    shape: tuple[int, ...],
    seed: int,
    path: Path,
    rows: int = 500,
) -> Tensor:
    """n samples, (n, *shape) on the CPU, by ancestral steps along a path; the same for the same seed.

    denoise: the denoiser for the samples of these numbers. rows: samples that are drawn at once.
    """
    source = torch.Generator().manual_seed(seed)
    noise = torch.randn(n, *shape, generator=source)

    def last(noise: Tensor, numbers: Tensor) -> Tensor:
        device = torch.Generator(run.device).manual_seed(int(torch.randint(2**31, (), generator=source)))
        *_, x = sampler.ancestral(denoise(numbers), noise, path, generator=device)
        return x

    return in_chunks(last, noise, torch.arange(n), size=rows, device=run.device)


def samples(
    run: Run,
    n: int,
    *,
    shape: tuple[int, ...],
    seed: int = 1,
    steps: int = 20,
    sampling: Levels = Schedule.even,
) -> Tensor:
    """n images of a run's averaged network by `steps` ancestral steps, on the CPU; the same for the same seed.

    sampling: makes the schedule of the steps.
    """
    return drawn(run, n, lambda numbers: run.ema["model"], shape=shape, seed=seed, path=sampling().path(steps))


def draw_for(
    run: Run,
    tokens: Tensor,
    *,
    shape: tuple[int, ...],
    guidance_scale: float = GUIDANCE,
    steps: int = 20,
    seed: int = 1,
) -> Tensor:
    """An image for each caption (n, T) by a run's averaged network, (n, *shape) on the CPU: `steps` ancestral steps.

    guidance_scale: 1 is unguided; more takes two network calls a step.
    """

    def guided(numbers: Tensor) -> Denoise:
        context = tokens.to(run.device)[numbers]
        return classifier_free(run.ema["model"], context, torch.zeros_like(context), guidance_scale=guidance_scale)

    return drawn(run, len(tokens), guided, shape=shape, seed=seed, path=Schedule.even().path(steps), rows=250)


@torch.no_grad()
def last_variance(run: Run, images: Tensor, schedule: Schedule, *, seed: int = 1) -> float:
    """The best variance of the last step for training images (B, ...): their mean squared error at the first level."""
    source, level = torch.Generator(run.device).manual_seed(seed), (float(schedule.alpha[0]), float(schedule.sigma[0]))
    x_0 = images.to(run.device)
    eps = torch.randn(x_0.shape, generator=source, device=run.device)
    return squared_error(run.ema["model"], x_0, eps, *level).mean().item() / x_0[0].numel()


def log_prob(
    run: Run,
    images: Tensor,
    *,
    task: Task,
    seed: int = 1,
    levels: Levels = Schedule.normal,
    steps: int = 100,
    high: float = 4.0,
) -> Tensor:
    """A lower bound of the log-density in expectation, nats, (B,) on the CPU: the bound with so many steps.

    levels: as in training. high: the log-SNR where they begin; the last step from there has the variance that is best
    for 500 training images of the task.
    """
    source, schedule = torch.Generator(run.device).manual_seed(seed), levels(steps, high=high)
    seen = next(iter(task.batches(batch_size=500, seed=2**20, device=run.device)))
    variance = last_variance(run, seen, schedule, seed=seed)
    terms = bound(run.ema["model"], images.to(run.device), schedule, variance=variance, generator=source)
    return -terms.total.cpu()


_diffusion = partial(
    Recipe,
    family="diffusion",
    rate=2e-3,
    betas=(0.9, 0.99),
    schedule=warmup_decay,
    ema={"model": 0.998},
    clip=100.0,
)


def _plain(
    task: Task, *, levels: Levels, sampling: Levels = Schedule.even, net: Callable[[], nn.Module], **settings: Any
) -> Recipe:
    return _diffusion(
        task=task,
        objective=denoiser,
        settings={"net": net, "levels": levels},
        draw=partial(samples, shape=task.shape, sampling=sampling),
        log_prob=partial(log_prob, task=task, levels=levels),
        **settings,
    )


def _prompted(
    task: PromptedShapes | PromptedImages, settings: dict[str, Any], *, batch_size: int = 64, **more: Any
) -> Recipe:
    def draw(run: Run, n: int, *, seed: int = 1) -> Tensor:
        return draw_for(run, task.tokens[task.wanted(n)], shape=task.shape, seed=seed)

    return _diffusion(task=task, objective=prompted, settings=settings, batch_size=batch_size, draw=draw, **more)


def draw_emoji_for(
    run: Run,
    style: Tensor,
    subcategory: Tensor,
    *,
    task: EmojiTask,
    guidance_scale: float = 3.0,
    steps: int = 40,
    seed: int = 1,
) -> Tensor:
    """Pictures by a run's averaged network for styles and subcategories (n,), (n, 3, 32, 32) in [-1, 1] on the CPU."""
    labels = task.label(style, subcategory)

    def guided(numbers: Tensor) -> Denoise:
        cond = labels.to(run.device)[numbers]
        model, uncond = run.ema["model"], torch.zeros_like(cond)
        return static_threshold(classifier_free(model, cond, uncond, guidance_scale=guidance_scale))

    path = Schedule.even(low=-7.0, high=7.0).path(steps)
    return drawn(run, len(labels), guided, shape=task.shape, seed=seed, path=path, rows=64).clamp(-1, 1)


def draw_emoji(run: Run, n: int, *, task: EmojiTask, seed: int = 1) -> Tensor:
    """n pictures for what the task wants, (n, 3, 32, 32) in [-1, 1] on the CPU."""
    return draw_emoji_for(run, *task.wanted(n), task=task, seed=seed)


EMOJI = EmojiTask("emoji", "1,335 emoji, each by two artists, 32x32 in colour, no download")

_patches = partial(UNet, 3, width=64, multipliers=(1, 1), attention=(0, 1), patch=2)  # a quarter of the places


def of_folder(path: str | None) -> Recipe:
    """The recipe of a folder of images, 64x64 in colour; without a path, of one that is to be named."""
    return _plain(
        FolderImages(path),
        net=partial(UNet, 3, width=64, multipliers=(1, 2, 3), attention=(2,), patch=2),
        levels=partial(Schedule.normal, mean=1.0),
        rate=1e-3,
        batch_size=32,
        steps=2_000,
        full_steps=200_000,
        reaches="not measured: it depends on the images",
        at=of_folder,
    )


RECIPES = [
    _plain(
        ScoredShapes(
            "shapes", "one coloured shape, 12x12, 1,530 templates", lambda: Shapes.preset("12x12"), shape=(3, 12, 12)
        ),
        net=partial(UNet, 3, width=32, multipliers=(1, 2, 2), attention=(1, 2)),
        levels=partial(Schedule.normal, mean=0.0, std=2.0),
        sampling=partial(Schedule.normal, mean=-1.0, std=3.0),
        batch_size=64,
        steps=400,
        full_steps=100_000,
        reaches="30 s; 300 nats above the floor, no shapes yet (20,000 steps: 26 min, 6 nats, 91 % of samples valid)",
    ),
    _plain(
        NOISY_DIGITS,
        net=partial(UNet, 1, width=32, multipliers=(1, 2), attention=(1,)),
        levels=partial(Schedule.normal, mean=0.0, std=3.0),
        ema={"model": 0.995},
        batch_size=64,
        steps=1_500,
        full_steps=1_500,
        reaches="1 min; most are legible; at most 2.45 bits/dim on the test set",
    ),
    _plain(
        dequantised("mnist", "60,000 handwritten digits, 28x28, noise between levels", data.mnist, (1, 28, 28)),
        net=partial(UNet, 1, width=64, multipliers=(1, 2, 2), attention=(2,)),
        levels=partial(Schedule.normal, mean=0.0),
        batch_size=128,
        steps=2_000,
        full_steps=100_000,
        reaches="not measured on a CPU",
    ),
    _plain(
        dequantised("cifar10", "50,000 photographs, 32x32, noise between levels", data.cifar10, (3, 32, 32)),
        net=partial(UNet, 3, width=128, multipliers=(1, 2, 2), blocks=2, attention=(1, 2)),
        levels=partial(Schedule.normal, mean=1.0),
        rate=5e-4,
        ema={"model": 0.9995},
        batch_size=128,
        steps=2_000,
        full_steps=200_000,
        reaches="not measured on a CPU",
    ),
    _prompted(
        PromptedShapes(
            "captions",
            "two coloured shapes and their caption, 12x12",
            lambda: Shapes.preset("12x12", shapes=2),
            shape=(3, 12, 12),
        ),
        {"net": _patches, "width": 48},
        steps=9_000,
        full_steps=100_000,
        reaches="12 min; 98.6 % of images valid; all captions obeyed, those of unseen combinations, too",
    ),
    _prompted(
        PromptedShapes(
            "captions16",
            "two coloured shapes of two sizes and their caption, 16x16",
            lambda: Shapes.preset("16x16", shapes=2),
            shape=(3, 16, 16),
        ),
        {"net": _patches, "width": 48},
        steps=9_000,
        full_steps=100_000,
        reaches="25 min; 98.8 % of images valid; 99.9 % of captions obeyed",
    ),
    _prompted(
        PromptedImages(
            "names",
            "1,415 handwritten digits and their names, 8x8, no download",
            classes=tuple("0123456789"),
            **OF_DIGITS,
        ),
        {
            "net": partial(UNet, 1, width=32, multipliers=(1, 2), attention=(1,)),
            "width": 32,
            "levels": partial(Schedule.normal, mean=0.0, std=3.0),
        },
        ema={"model": 0.995},
        steps=1_500,
        full_steps=1_500,
        reaches="1 min; 99 % have the name of the nearest unseen digit (of real digits 92 %)",
    ),
    _diffusion(
        task=EMOJI,
        objective=denoiser,
        settings={
            "net": lambda: UNet(
                3, width=32, multipliers=(1, 3, 3), attention=(1, 2), patch=2, label_dim=EMOJI.label_dim
            ),
            "levels": partial(Schedule.normal, mean=0.0, std=2.0),
            "p_uncond": 0.1,
            "predict": "x0",
        },
        batch_size=16,
        steps=6_000,
        full_steps=200_000,
        draw=partial(draw_emoji, task=EMOJI),
        reaches="20 min; the judge finds 66 % of the pictures in the category asked for (of real test pictures: 61 %), "
        "1.6 % are copies; faces, hearts and people are clear, animals and food are not",
    ),
    of_folder(None),
]
