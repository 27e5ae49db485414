"""The mixture of Gaussians against PyTorch's, and its objective against the closed form of maximum likelihood."""

from __future__ import annotations

import math

import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from minigen.data.batches import Stream
from minigen.metrics.divergences import moment_match
from minigen.nets.mixture import Mixture
from minigen.objectives.likelihood import MaximumLikelihood
from minigen.train.loop import Run


def some_mixture() -> Mixture:
    torch.manual_seed(0)
    model = Mixture(torch.randn(4, 1, 2, 3, dtype=torch.float64), std=0.7)
    with torch.no_grad():
        model.logits.copy_(torch.randn(4))
        model.log_std.add_(torch.randn(6, dtype=torch.float64) * 0.3)
    return model


def test_log_prob_is_that_of_pytorchs_mixture() -> None:
    model, x = some_mixture(), torch.randn(9, 1, 2, 3, dtype=torch.float64)
    parts = Independent(Normal(model.means, model.log_std.exp().expand(4, 6)), 1)
    theirs = MixtureSameFamily(Categorical(logits=model.logits), parts)
    torch.testing.assert_close(model.log_prob(x), theirs.log_prob(x.flatten(1)), atol=1e-10, rtol=0)


def test_it_begins_with_equal_weights_at_the_given_means() -> None:
    model = Mixture(torch.arange(6.0).view(3, 2), std=0.5)
    torch.testing.assert_close(model.logits.softmax(0), torch.full((3,), 1 / 3))
    assert model.means.tolist() == [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]
    torch.testing.assert_close(model.log_std, torch.full((2,), math.log(0.5)))


def test_the_means_given_are_not_changed_by_training() -> None:
    means = torch.zeros(2, 3)
    model = Mixture(means, std=1.0)
    with torch.no_grad():
        model.means.add_(1)
    assert means.sum() == 0


def test_the_loss_is_the_mean_over_the_batch_of_whole_images() -> None:
    model, x = some_mixture(), torch.randn(5, 1, 2, 3, dtype=torch.float64)
    ((player, loss, logs),) = list(MaximumLikelihood(model).turns(x, None))
    assert (player, logs) == ("model", {})
    torch.testing.assert_close(loss, -model.log_prob(x).sum() / 5)


def test_training_ends_at_the_moments_of_the_data() -> None:
    torch.manual_seed(0)
    x = torch.randn(400, 2) * torch.tensor([0.5, 2.0]) + torch.tensor([1.0, -1.0])
    objective = MaximumLikelihood(Mixture(torch.zeros(1, 2), std=1.0))
    run = Run(objective, torch.optim.Adam(objective.parameters(), 0.05))
    for _ in run(Stream(lambda n, generator=None: x, batch_size=400), 400):
        pass
    mean, covariance = (moment.float() for moment in moment_match(x))
    torch.testing.assert_close(objective.model.means[0].detach(), mean, atol=1e-3, rtol=0)
    torch.testing.assert_close(objective.model.log_std.exp().detach(), covariance.diagonal().sqrt(), atol=2e-3, rtol=0)
