"""Chapter 11: what its checks must not let pass."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import Normal

import records
from minigen.book import CheckError, band, check
from minigen.nets.unet import UNet
from minigen.objectives import diffusion
from minigen.objectives.diffusion import Schedule
from minigen.worlds import GaussianMixture, Line, Shapes

DOUBLE = torch.float64


def printed(start: str) -> records.Band:
    (found,) = [b for b in records.stored("11_diffusion").values() if b.what.startswith(start)]
    return found


@pytest.mark.parametrize("value", [1.66e-3, 2e-6, 1e-2])
def test_w15_a_share_that_is_a_thousand_times_off(value: float) -> None:
    high = printed("a step of 0.2 nats, as a share of that").high
    assert high is not None
    assert 1.6575e-6 <= high < value


@pytest.mark.parametrize(
    ("start", "wrong"),
    [
        ("stored network, so: share of valid images", -0.02),  # fewer valid images, where the text says more
        ("live, at log-SNR -3 and less", 0.8),  # what it loses at -2
        ("share of the live one's loss at log-SNR -1 and more", 0.5),
    ],
)
def test_a_band_leaves_out_what_is_false(start: str, wrong: float) -> None:
    assert printed(start).holds(printed(start).measured)
    assert not printed(start).holds(wrong)


def test_w16_an_untrained_network_is_no_live_network() -> None:
    torch.manual_seed(0)
    world, path = Shapes.preset("12x12"), Schedule.normal(10, high=4.0)
    untrained = diffusion.Denoiser(UNet(3, width=8, multipliers=(1, 2), attention=()))
    images = world.sample(8, generator=torch.Generator().manual_seed(0))
    first = float(path.alpha[0]), float(path.sigma[0])
    error = diffusion.squared_error(untrained, images, torch.randn(8, 3, 12, 12), *first)
    variance = float(error.detach().mean() / 432)
    above = (diffusion.bound(untrained, images, path, variance=variance).total + world.log_prob(images)).mean()
    live = printed("live network: nats above that")
    assert live.high is not None
    assert live.high < above / 2


def step_loss(up: float) -> float:
    """KL divergence of a true step back to the Gaussian of the known image's variance; nats."""
    coin, line = GaussianMixture(torch.tensor([[-0.8], [0.8]], dtype=DOUBLE), std=0.1), Line(-7, 7, 8001)
    now, then = (diffusion.alpha_sigma(torch.tensor(x, dtype=DOUBLE)) for x in (-1.0, -1.0 + up))
    a, s, b, r = *(float(part) for part in now), *(float(part) for part in then)
    x_t, spread = torch.tensor([[0.3]], dtype=DOUBLE), (s**2 - (a / b * r) ** 2) ** 0.5
    back = coin.marginal(b, r).log_prob(line.x[:, None]) + Normal(a / b * line.x, spread).log_prob(x_t[0])
    back = back - line.integral(back.exp()).log()
    step = diffusion.posterior_step(coin.denoise(x_t, a, s), x_t, (a, s), (b, r))
    return float(line.kl(back, line.normal(step.mean[0, 0], step.variance[0, 0].sqrt())))


def test_half_a_step_loses_a_quarter_and_not_a_half() -> None:
    band("share", step_loss(0.1) / step_loss(0.2), low=0.2, high=0.3)
    with pytest.raises(CheckError):
        band("share", 0.5, low=0.2, high=0.3)


def test_the_prior_term_of_normal_data_is_information_and_no_mistake() -> None:
    level = float(Schedule.linear(1000).alpha[-1]), float(Schedule.linear(1000).sigma[-1])
    charged = diffusion.prior_term(torch.ones(1, 786_432, dtype=DOUBLE), *level)[0]
    information = 0.5 * 786_432 * Schedule.linear(1000).log_snr[-1].exp().log1p()
    check("11.15", charged, information, atol=1e-4)
    with pytest.raises(CheckError):
        check("11.15", charged, 0.0, atol=1e-4, what="all of it a mismatch, and none where nothing is wrong")
