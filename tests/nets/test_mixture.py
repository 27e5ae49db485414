"""The learnable mixture's density against torch's own laws, also where the spread is small and the batch large."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from minigen.nets.mixture import Mixture
from minigen.worlds import GaussianMixture


@pytest.mark.parametrize("n", [1, 20, 100])
def test_the_density_is_that_of_torch_whatever_the_size_of_the_batch(n: int) -> None:
    means = torch.rand(30, 3, 6, 6) * 2 - 1
    model = Mixture(means, 0.005)
    with torch.no_grad():
        model.logits.copy_(torch.randn(30))
        model.log_std.add_(0.3 * torch.randn(108))
    x = means[torch.arange(n) % 30] + 0.005 * torch.randn(n, 3, 6, 6)
    parts = Independent(Normal(model.means.double(), model.log_std.double().exp()), 1)
    exact = MixtureSameFamily(Categorical(logits=model.logits.double()), parts).log_prob(x.double().flatten(1))
    found = model.log_prob(x)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), exact, atol=1e-3, rtol=1e-6)
    torch.testing.assert_close(model.log_prob(x[:1]), found[:1], atol=1e-3, rtol=0)
    found.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_one_image_has_the_density_that_it_has_in_a_batch() -> None:
    world = GaussianMixture(torch.rand(40, 64) * 2 - 1, std=0.005)
    x = world.sample(50)
    alone = torch.cat([world.log_prob(one[None]) for one in x])
    torch.testing.assert_close(world.log_prob(x), alone, atol=1e-4, rtol=0)
