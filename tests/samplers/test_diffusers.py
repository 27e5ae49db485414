"""Our schedules and samplers against those of `diffusers`, given the same model outputs and noise."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from minigen.objectives.diffusion import Path, Schedule, predict_x0
from minigen.samplers.diffusion import ancestral, dpm_solver_2m

pytestmark = pytest.mark.usefixtures("float64")

STEPS = 200  # of training; every number of sampling steps below divides it
SCHEDULES = {
    "linear": (Schedule.linear(STEPS, last=0.05), {"beta_schedule": "linear", "beta_end": 0.05}),
    "cosine": (Schedule.cosine(STEPS), {"beta_schedule": "squaredcos_cap_v2"}),
}
PREDICTIONS = {"epsilon": "epsilon", "x0": "sample", "v": "v_prediction"}


@pytest.fixture(scope="module", autouse=True)
def _diffusers() -> None:
    """Imported where these tests run, and not by every worker that collects them: it takes seconds."""
    pytest.importorskip("diffusers")


def output(x: Tensor) -> Tensor:
    """A stand-in for a network's output, the same for both: smooth, and mixed over pixels."""
    return torch.tanh(x + 0.3 * x.roll(1, -1)) - 0.1 * x.flip(-2)


def start() -> Tensor:
    return torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def ours(sampler: Callable[..., Iterator[Tensor]], path: Path, predict: str, **settings: object) -> list[Tensor]:
    def denoise(x: Tensor, alpha: float, sigma: float) -> Tensor:
        return predict_x0(output(x), x, alpha, sigma, predict)

    return list(sampler(denoise, start(), path, **settings))


def theirs(scheduler, steps: int, **settings: object) -> list[Tensor]:
    scheduler.set_timesteps(steps)
    x, states = start(), []
    for t in scheduler.timesteps:
        x = scheduler.step(output(x), t, x, **settings).prev_sample
        states.append(x)
    return states


def assert_same(found: list[Tensor], expected: list[Tensor], *, rtol: float = 0.0) -> None:
    assert len(found) == len(expected)
    for mine, other in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-5, rtol=rtol)


def make(kind: str, name: str, predict: str, **settings: object):
    """A scheduler with our levels in float64: its own are rounded, which shows where little signal is left."""
    import diffusers

    settings |= {"prediction_type": PREDICTIONS[predict], "timestep_spacing": "trailing"}
    scheduler = getattr(diffusers, kind)(num_train_timesteps=STEPS, **SCHEDULES[name][1], **settings)
    scheduler.alphas_cumprod = SCHEDULES[name][0].alpha_bar.clone()
    return scheduler


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_are_the_same(name: str) -> None:
    import diffusers

    schedule, settings = SCHEDULES[name]
    for mine, zero in ((schedule, False), (schedule.zero_terminal(), True)):
        scheduler = diffusers.DDIMScheduler(num_train_timesteps=STEPS, rescale_betas_zero_snr=zero, **settings)
        torch.testing.assert_close(mine.alpha_bar, scheduler.alphas_cumprod.double(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("predict", PREDICTIONS)
@pytest.mark.parametrize("steps", [10, 50])
def test_ddpm_is_the_same(name: str, predict: str, steps: int) -> None:
    scheduler = make("DDPMScheduler", name, predict, clip_sample=False, variance_type="fixed_small")
    expected = theirs(scheduler, steps, generator=torch.Generator().manual_seed(5))
    path = SCHEDULES[name][0].path(steps)
    assert_same(ours(ancestral, path, predict, generator=torch.Generator().manual_seed(5)), expected)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("predict", PREDICTIONS)
@pytest.mark.parametrize("eta", [0.0, 0.35, 1.0])
@pytest.mark.parametrize("steps", [10, 50])
def test_ddim_is_the_same_for_every_eta(name: str, predict: str, eta: float, steps: int) -> None:
    scheduler = make("DDIMScheduler", name, predict, clip_sample=False)
    expected = theirs(scheduler, steps, eta=eta, generator=torch.Generator().manual_seed(5))
    path = SCHEDULES[name][0].path(steps)
    assert_same(ours(ancestral, path, predict, eta=eta, generator=torch.Generator().manual_seed(5)), expected)


@pytest.mark.parametrize("predict", PREDICTIONS)
@pytest.mark.parametrize("steps", [10, 20])
def test_dpm_solver_2m_is_the_same(predict: str, steps: int) -> None:
    scheduler = make("DPMSolverMultistepScheduler", "linear", predict, final_sigmas_type="zero")
    path = SCHEDULES["linear"][0].path(steps)
    assert_same(ours(dpm_solver_2m, path, predict), theirs(scheduler, steps), rtol=1e-5)  # its levels are float32
