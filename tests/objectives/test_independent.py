"""The games of chapters 03 to 05 against a second implementation that follows the papers alone."""

from __future__ import annotations

import independent
import pytest
import torch
from torch import Tensor, nn

from minigen.metrics import inception_score
from minigen.nets.minibatch import closeness
from minigen.nets.mlp import MLPDiscriminator, MLPGenerator
from minigen.nets.spectral import power_iteration
from minigen.objectives import Relativistic, Wasserstein
from minigen.objectives.conditional import matching_aware_loss
from minigen.objectives.contrastive import cosine_scores
from minigen.objectives.elbo import kl_to_prior, reparameterise
from minigen.objectives.words import matching_loss, matching_score
from minigen.train.rng import Rng


@pytest.fixture(autouse=True)
def _doubles():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def close(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


def gradients(loss: Tensor, *inputs: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss, inputs, retain_graph=True))


def players() -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(1)
    return MLPGenerator(3, (3,), hidden=(8,), bounded=False), MLPDiscriminator((3,), hidden=(8,))


@pytest.mark.parametrize("gammas", [(5.0, 5.0, 10.0), (2.0, 0.5, 3.0)])
def test_the_matcher_of_words_and_its_gradients(gammas: tuple[float, float, float]) -> None:
    gamma1, gamma2, gamma3 = gammas
    words, regions = normal(5, 6, 4).requires_grad_(), normal(5, 9, 4, seed=1).requires_grad_()  # rows here
    sentence, whole = normal(5, 4, seed=2).requires_grad_(), normal(5, 4, seed=3).requires_grad_()
    mask = torch.arange(6) < torch.tensor([6, 4, 3, 1, 5])[:, None]
    theirs = independent.damsm_loss(words.mT, mask, regions.mT, sentence, whole, gamma1, gamma2, gamma3)
    scores = matching_score(words, regions, gamma1=gamma1, gamma2=gamma2, mask=mask)  # images in rows
    close(scores, theirs["word_scores"].T)
    by_words = matching_loss(scores, gamma3=gamma3)
    by_sentences = matching_loss(cosine_scores(whole, sentence, 0.0), gamma3=gamma3)
    close(by_words, theirs["l1w"] + theirs["l2w"])
    close(by_sentences, theirs["l1s"] + theirs["l2s"])
    inputs = (words, regions, sentence, whole)
    for ours, other in zip(
        gradients(by_words + by_sentences, *inputs), gradients(theirs["total"], *inputs), strict=True
    ):
        close(ours, other)


def test_the_game_of_pairs_and_its_gradients() -> None:
    generator, discriminator = players()
    x, gamma = normal(6, 3, seed=4), 0.7
    turns = Relativistic(generator, discriminator, r1=gamma, r2=gamma).turns(x, Rng(seed=3))
    fakes = generator(Rng(seed=3).normal(6, 3))
    expected = {
        "discriminator": independent.rp_discriminator_loss(discriminator, x, fakes, gamma),
        "generator": independent.rp_generator_loss(discriminator, x, fakes),
    }
    for player, loss, _ in turns:
        close(loss, expected[player])
        weights = list((discriminator if player == "discriminator" else generator).parameters())
        for ours, other in zip(gradients(loss, *weights), gradients(expected[player], *weights), strict=True):
            close(ours, other)


def test_the_critic_of_the_distance_and_its_gradients() -> None:
    generator, critic = players()
    x = normal(6, 3, seed=4)
    _, loss, _ = next(Wasserstein(generator, critic, critic_steps=1, penalty=10.0).turns(x, Rng(seed=3)))
    rng = Rng(seed=3)
    fakes, eps = generator(rng.normal(6, 3)), rng.uniform(6)
    theirs = independent.wgan_gp_critic_loss(critic, x, fakes, eps, 10.0)
    close(loss, theirs)
    for ours, other in zip(gradients(loss, *critic.parameters()), gradients(theirs, *critic.parameters()), strict=True):
        close(ours, other)


def test_the_conditioning_and_the_loss_of_wrong_pairs() -> None:
    mean, log_std, noise = normal(5, 4), normal(5, 4, seed=1), normal(5, 4, seed=2)
    close(kl_to_prior(mean, log_std).sum(1).mean(), independent.conditioning_kl(mean, 2 * log_std))
    close(reparameterise(mean, log_std, noise), independent.conditioning_sample(mean, 2 * log_std, noise))
    real, fake, wrong = normal(5), normal(5, seed=1), normal(5, seed=2)
    close(matching_aware_loss(real, fake, wrong), independent.matching_aware_discriminator_loss(real, wrong, fake))


def test_the_layers_of_batches_and_of_bounded_slope() -> None:
    features, table = normal(6, 5), normal(5, 3, 2, seed=1)
    rows = (features @ table.flatten(1)).unflatten(1, (3, 2))
    close(closeness(rows), independent.minibatch_discrimination(features, table, include_self=False))
    matrix, u = normal(4, 7), normal(4, seed=1)
    for steps in range(1, 5):  # theirs goes from u by v to u, ours from v by u to v, half a step on
        sigma, u, v = independent.spectral_norm_step(matrix, u)
        if steps == 1:
            start = v
        close(power_iteration(matrix, start, steps=steps - 1)[0], sigma)
    probabilities = normal(20, 4).softmax(1)
    assert inception_score(probabilities) == pytest.approx(independent.inception_score(probabilities).item(), abs=1e-6)
