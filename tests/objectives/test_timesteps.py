"""A network that wants the time step 0..T-1, as the denoiser that samplers and objectives call."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from minigen.objectives.diffusion import Denoiser, Diffusion, Schedule, TimestepAdapter, alpha_sigma
from minigen.samplers.diffusion import ancestral
from minigen.train.rng import Rng


class Records(nn.Module):
    """Keeps the time steps that it was called with."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[Tensor] = []

    def forward(self, x: Tensor, t: Tensor, *context: Tensor) -> Tensor:
        self.steps.append(t)
        return 0 * x


@pytest.mark.parametrize("schedule", [Schedule.linear(), Schedule.cosine(), Schedule.linear(50), Schedule.linear(1)])
def test_every_level_is_passed_as_its_index(schedule: Schedule) -> None:
    """Through the whole chain: alpha and sigma, in single precision, to log-SNR and back to the index."""
    net, count = Records(), len(schedule)
    denoise = Denoiser(TimestepAdapter(net, schedule), "epsilon")
    denoise(torch.zeros(count, 1), schedule.alpha, schedule.sigma)
    torch.testing.assert_close(net.steps[0], torch.arange(count, dtype=torch.float32), atol=1e-3, rtol=0)
    denoise(torch.zeros(count, 1), 5 * schedule.alpha, 5 * schedule.sigma)  # the same levels on another scale
    torch.testing.assert_close(net.steps[1], net.steps[0], atol=1e-3, rtol=0)


def test_between_levels_the_index_is_linear_in_log_snr_and_beyond_the_ends_it_stays() -> None:
    schedule = Schedule.linear(100)
    adapter, a = TimestepAdapter(Records(), schedule), schedule.log_snr.float()
    torch.testing.assert_close(adapter.index(0.75 * a[:-1] + 0.25 * a[1:]), torch.arange(99) + 0.25, atol=1e-3, rtol=0)
    assert adapter.index(torch.tensor([20.0, a[0] + 1, a[-1] - 1, -20])).tolist() == [0, 0, 99, 99]


def test_the_last_level_of_a_schedule_without_signal_has_its_index() -> None:
    schedule, net = Schedule.linear(100).zero_terminal(), Records()
    Denoiser(TimestepAdapter(net, schedule))(torch.zeros(100, 1), schedule.alpha, schedule.sigma)
    torch.testing.assert_close(net.steps[0], torch.arange(100.0), atol=1e-3, rtol=0)


def test_objective_and_sampler_give_such_a_network_its_steps_and_its_context() -> None:
    schedule, net = Schedule.linear(40), Records()
    model = Denoiser(TimestepAdapter(net, schedule), "epsilon")
    next(Diffusion(model, schedule).turns((torch.randn(500, 2), torch.randn(500, 3)), Rng()))
    steps = net.steps.pop()
    torch.testing.assert_close(steps, steps.round(), atol=1e-3, rtol=0)
    assert set(steps.round().long().tolist()) == set(range(40))
    assert model.state_dict() == {}, "the adapter adds nothing to a checkpoint"
    list(ancestral(model, torch.randn(1, 2), schedule.path(8)))
    assert [round(t.item()) for t in net.steps] == [39, 34, 29, 24, 19, 14, 9, 4]
    alpha, sigma = alpha_sigma(schedule.log_snr[7])
    model(torch.zeros(2, 2, dtype=torch.float64), alpha, sigma)
    assert net.steps[-1].dtype == torch.float64
    torch.testing.assert_close(net.steps[-1], torch.full((2,), 7.0, dtype=torch.float64), atol=1e-3, rtol=0)
