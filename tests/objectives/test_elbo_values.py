"""The bound, its floor and its logs by value, where another unit or another order of means would look right."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from minigen.nets.mlp import LinearEncoder
from minigen.objectives import elbo
from minigen.train.rng import Rng

pytestmark = pytest.mark.usefixtures("float64")


def linear() -> elbo.LatentModel:
    """Codes of 2 numbers to images of 5, both ways linear."""
    return elbo.LatentModel(LinearEncoder(5, 2), nn.Linear(2, 5), elbo.Gaussian(0.6), latent=2)


def test_log_prob_is_the_importance_weighted_bound_on_its_noise() -> None:
    model, x = linear(), torch.randn(6, 5)
    noise = torch.randn(8, 6, 2, generator=torch.Generator().manual_seed(3))
    weights = model.log_weights(x, noise)
    found = model.log_prob(x, samples=8, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(found, weights.exp().mean(0).log())
    assert (found - weights.mean(0)).min() > 1e-3  # the mean of the logarithms is less


def test_free_bits_floor_the_mean_of_a_dimension_not_each_image() -> None:
    kl = torch.tensor([[0.0, 2.0], [1.0, 0.0]])
    assert elbo.free_bits(kl, 0.6).item() == pytest.approx(0.6 + 1.0)  # floored image by image it would be 2.1


def test_free_bits_replace_the_rate_in_the_loss_and_beta_weighs_them() -> None:
    model = linear()
    objective, x = elbo.ELBO(model, beta=3.0, free=0.7), torch.randn(6, 5)
    ((_, loss, logs),) = list(objective.turns(x, Rng()))
    kl = elbo.kl_to_prior(*model.encode(x))
    torch.testing.assert_close(loss, logs["distortion"] + 3.0 * kl.mean(0).clamp(min=0.7).sum())
    torch.testing.assert_close(logs["rate"], kl.sum(1).mean())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sums_of_half_precision_outputs_are_in_float32(dtype: torch.dtype) -> None:
    mean, log_std = (torch.randn(64, 300).to(dtype) for _ in range(2))
    bits = (torch.rand(64, 300) < 0.5).float()
    for found, exact in (
        (elbo.kl_to_prior(mean, 0.1 * log_std), elbo.kl_to_prior(mean.double(), (0.1 * log_std).double())),
        (elbo.bernoulli_log_prob(bits, mean), elbo.bernoulli_log_prob(bits.double(), mean.double())),
        (elbo.gaussian_log_prob(mean, log_std, 0.5), elbo.gaussian_log_prob(mean.double(), log_std.double(), 0.5)),
        (elbo.importance_weighted_bound(mean), elbo.importance_weighted_bound(mean.double())),
    ):
        assert found.dtype == torch.float32
        torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=1e-5)


def test_samples_need_no_generator() -> None:
    model = linear()
    torch.manual_seed(4)
    first = model.sample(3)
    torch.manual_seed(4)
    torch.testing.assert_close(model.sample(3, noise=True).shape, first.shape)
    torch.manual_seed(4)
    torch.testing.assert_close(model.sample(3), first)
    assert not model.sample(3).allclose(first)
