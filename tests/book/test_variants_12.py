"""Chapter 12: what its checks and bands would find, were a formula or a sentence wrong."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

import records
from minigen.book import CheckError, check, refute
from minigen.objectives import diffusion, flow
from minigen.samplers import diffusion as sampler
from minigen.samplers import guidance, ode
from minigen.worlds import GaussianMixture

pytestmark = pytest.mark.usefixtures("float64")
BANDS = records.stored("12_sampling")
COVARIANCES = torch.tensor([[[0.3, 0.0], [0.0, 0.3]], [[0.5, 0.2], [0.2, 0.4]]], dtype=torch.float64)
MEANS = torch.tensor([[-1.0, 0.0], [1.0, 0.5]], dtype=torch.float64)
LEVEL = tuple(map(float, diffusion.alpha_sigma(0.5)))


@pytest.mark.parametrize(
    ("what", "wrong"),
    [
        ("flawed images that are left", 0.9),  # one in ten gone
        ("with fresh noise: nearer to the tilt's mean by", 0.9),  # a mean below both
        ("with fresh noise: still beyond the tilt's mean by", -0.1),
        ("how far the new paths are from straight, over that of the old", 0.06),  # ten times off
        ("how far the new paths are from straight, over that of the old", 0.1),  # "more than ten"
        ("10 calls of 2M: so many more", -0.01),
        ("8 steps: share in a mode, student less exact denoiser", 0.0),
        ("guided, over that", 1.0),
        ("the worse network alone: valid images of 50", 3),
        # a network without training, at the place of the worse one
        ("log-SNR -1: error of the worse network, times as long as the other's", 6.7),
        ("log-SNR -2: error of the worse network, times as long as the other's", 6.9),
        ("log-SNR -1: cosine of the angle between the two errors", 0.17),
        ("log-SNR -2: cosine of the angle between the two errors", 0.15),
        ("log-SNR -1: error without any training, times as long", 2.5),
        # "the worse network blends more" at every level; "more contrast than any posterior mean"
        ("contrast at log-SNR -4, over that of the exact guess: worse", 1.0),
        ("contrast at log-SNR -6, over that of the exact guess: worse", 1.0),
        ("contrast of the guided guess at -2, over that of the exact one at 0", 1.0),
        ("DDIM: order", 0.85),
        ("Heun: order", 1.85),
        ("2M: order", 2.15),
    ],
)
def test_a_band_leaves_the_variant_out(what: str, wrong: float) -> None:
    assert BANDS[what].holds(BANDS[what].measured)
    assert not BANDS[what].holds(wrong)


def slope(y: Tensor, x: Tensor) -> Tensor:
    return torch.autograd.grad(y.sum(), x)[0]


AUTOGUIDANCE = {
    "right": lambda worse, better: worse + 1.7 * (better - worse),
    "from the better to the worse": lambda worse, better: better + 1.7 * (worse - better),
    "on from the better one": lambda worse, better: better + 1.7 * (better - worse),
    "the paper's scale for the other's": lambda worse, better: worse + 0.7 * (better - worse),
}


@pytest.mark.parametrize("name", AUTOGUIDANCE)
def test_autoguidance_is_the_denoiser_of_a_tilt(name: str) -> None:
    smooth = GaussianMixture(MEANS, covariances=COVARIANCES)
    blurred = GaussianMixture(MEANS, covariances=COVARIANCES + 0.3 * torch.eye(2))
    x = torch.randn(50, 2, generator=torch.Generator().manual_seed(0)).requires_grad_()
    log_worse = blurred.marginal(*LEVEL).log_prob(x)
    log_tilt = log_worse + 1.7 * (smooth.marginal(*LEVEL).log_prob(x) - log_worse)
    by_tilt = (x + LEVEL[1] ** 2 * slope(log_tilt, x)) / LEVEL[0]
    guess = AUTOGUIDANCE[name](blurred.denoise(x, *LEVEL), smooth.denoise(x, *LEVEL))
    if name == "right":
        check("12.13", guess, by_tilt, atol=1e-9)
        check("12.13", guidance.autoguidance(smooth.denoise, blurred.denoise, guidance_scale=1.7)(x, *LEVEL), by_tilt,
              atol=1e-9)  # fmt: skip
    else:
        with pytest.raises(CheckError):
            check("12.13", guess, by_tilt, atol=1e-9)


def test_the_likelihood_notices_the_end_density_and_coarse_steps() -> None:
    smooth = GaussianMixture(MEANS, covariances=COVARIANCES)
    x = smooth.sample(50, generator=torch.Generator().manual_seed(0))

    def end_around_0(x_t: Tensor, alpha: float, sigma: float) -> Tensor:  # the last call asks for no gradient
        guess = smooth.denoise(x_t, alpha, sigma)
        return guess if torch.is_grad_enabled() else torch.zeros_like(guess)

    check("12.10", ode.ode_log_prob(smooth.denoise, x), smooth.log_prob(x), atol=0.002)
    for wrong in (ode.ode_log_prob(end_around_0, x), ode.ode_log_prob(smooth.denoise, x, steps=30)):
        with pytest.raises(CheckError):
            check("12.10", wrong, smooth.log_prob(x), atol=0.002)


def test_a_share_of_fresh_noise_has_a_limit() -> None:
    (now, then), one = (tuple(map(float, diffusion.alpha_sigma(log_snr))) for log_snr in (-1.0, 1.0)), torch.ones(1, 1)
    most = 1 / math.sqrt(1 - math.exp(-2.0))
    check("12.7", diffusion.posterior_step(one, one, now, then, eta=most).variance, then[1] ** 2 * one, atol=1e-12)
    for share in (0.99 * most, 1.01 * most):
        variance = diffusion.posterior_step(one, one, now, then, eta=share).variance
        with pytest.raises(CheckError):
            check("12.7", variance, then[1] ** 2 * one, atol=1e-12)


def test_the_sentences_that_were_false_do_not_pass_as_refutations() -> None:
    """Each `refute` of the chapter fails where the claim that it refutes is put in the place of the truth."""
    coin = GaussianMixture(torch.tensor([[-0.8], [0.8]]), std=0.1)
    x = torch.linspace(-1.0, 1.0, 9)[:, None]
    independent = flow.velocity_from(coin.denoise(x, 0.5, 0.5), x, 0.5)
    with pytest.raises(CheckError):
        refute("paired or not, the velocity is that of diffusion", independent, independent, by=0.5)
    one = torch.ones(())
    with pytest.raises(CheckError):  # the wrong sign: a spread that is too large
        refute("the reverse SDE without its noise: spread within a mode", one, 0.1 * one, by=-0.05)


def test_a_score_of_one_level_is_no_score_of_the_noised_tilt() -> None:
    """Gaussians, in closed form: guidance is the denoiser of the tilt for equal variances, and for no others."""
    for variance, same in ((1.0, True), (0.25, False)):
        without = GaussianMixture(torch.zeros(1, 1), std=1.0)
        within = GaussianMixture(torch.ones(1, 1), std=math.sqrt(variance))
        x, w = torch.linspace(-2, 2, 9)[:, None], 2.0
        guess = guidance.extrapolate(without.denoise(x, *LEVEL), within.denoise(x, *LEVEL), w)
        precision = (1 - w) + w / variance
        tilt = GaussianMixture(torch.full((1, 1), w / variance / precision), std=1 / math.sqrt(precision))
        gap = (guess - tilt.denoise(x, *LEVEL)).abs().max().item()
        assert (gap < 1e-9) == same


def test_the_end_density_of_the_ode_errs_as_its_docstring_says() -> None:
    """c exp(-2u) nats on average over y, for data of variance c."""
    c, r = 0.7, 20.0
    y = Normal(0.0, math.sqrt(c + r**2)).icdf(torch.linspace(0, 1, 100_002)[1:-1])
    error = Normal(y * c / (c + r**2), r).log_prob(y) - Normal(0.0, math.sqrt(c + r**2)).log_prob(y)
    assert error.mean().item() == pytest.approx(c / r**2, rel=0.01)


AHEAD = {  # guess, what it rose by, half the step in log-SNR, half the one before
    "right": lambda guess, rise, h, h_before: guess + h / (2 * h_before) * rise,
    "the steps exchanged": lambda guess, rise, h, h_before: guess + h_before / (2 * h) * rise,
    "as if all steps were equal": lambda guess, rise, h, h_before: guess + rise / 2,
    "to the end of the step": lambda guess, rise, h, h_before: guess + h / h_before * rise,
    "backwards": lambda guess, rise, h, h_before: guess - h / (2 * h_before) * rise,
}


@pytest.mark.parametrize("name", AHEAD)
def test_a_step_of_2m_that_is_longer_than_the_last_one_knows_its_factor(name: str) -> None:
    """With equal steps the factor is 1/2 for the first three: an order of 2 does not tell them apart."""
    unequal = diffusion.Path(*diffusion.alpha_sigma(torch.tensor([0.0, 1.0, 3.0])))
    reached, further = sampler.dpm_solver_2m(
        lambda x, a, s: torch.full_like(x, 2 * math.log(a / s)), torch.zeros(1, 1), unequal
    )
    image = torch.full((1, 1), AHEAD[name](1.0, 1.0, 1.0, 0.5))
    by_hand = diffusion.posterior_step(image, reached, *sampler.levels(unequal)[1:], eta=0.0).mean
    if name == "right":
        check("12.9", further, by_hand, atol=1e-12)
        return
    with pytest.raises(CheckError):
        check("12.9", further, by_hand, atol=1e-12)


@pytest.mark.parametrize("share", [1.0, 0.0, 2.0, -0.5])
def test_the_trade_of_noise_for_movement_knows_its_half(share: float) -> None:
    variance = 0.02
    with pytest.raises(CheckError):
        check("12.2", math.sqrt(1 + variance), 1 + share * variance, atol=1e-4)
