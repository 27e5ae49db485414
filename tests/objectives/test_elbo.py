"""The evidence lower bound against a linear-Gaussian model, whose posterior and evidence are known in closed form."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import (
    Bernoulli,
    Categorical,
    Independent,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    kl_divergence,
)

from minigen.data.batches import Stream
from minigen.nets.mlp import LinearEncoder, MLPEncoder, MLPGenerator
from minigen.objectives import elbo
from minigen.train.loop import Run
from minigen.train.optimizers import adam_per_player
from minigen.train.rng import Rng

STD = 0.6

pytestmark = pytest.mark.usefixtures("float64")


def kl(q: MultivariateNormal, p: MultivariateNormal) -> Tensor:
    return kl_divergence(q, p)


class Linear:
    """x = W z + b + STD noise for z of 2 and x of 5 dimensions: everything about it in closed form."""

    def __init__(self) -> None:
        self.decoder = nn.Linear(2, 5)
        self.weight, self.bias = self.decoder.weight.detach() * 2, self.decoder.bias.detach()
        self.decoder.weight.data = self.weight
        self.evidence = MultivariateNormal(self.bias, self.weight @ self.weight.T + STD**2 * torch.eye(5))
        self.covariance = torch.linalg.inv(torch.eye(2) + self.weight.T @ self.weight / STD**2)

    def posterior(self, x: Tensor) -> MultivariateNormal:
        mean = (x - self.bias) @ self.weight @ self.covariance / STD**2
        return MultivariateNormal(mean, self.covariance)

    def model(self, encoder: nn.Module) -> elbo.LatentModel:
        return elbo.LatentModel(encoder, self.decoder, elbo.Gaussian(STD), latent=2)


class Fixed(nn.Module):
    """An encoder that says the same of every image."""

    def __init__(self, mean: list[float], log_std: list[float]) -> None:
        super().__init__()
        self.mean, self.log_std = nn.Parameter(torch.tensor(mean)), nn.Parameter(torch.tensor(log_std))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.mean.expand(len(x), -1), self.log_std.expand(len(x), -1)


def gauss_hermite(function, mean: Tensor, std: Tensor, points: int = 24) -> Tensor:
    """E of a function of z over a diagonal Gaussian of two dimensions, by quadrature."""
    import numpy

    nodes, weights = (torch.as_tensor(v) for v in numpy.polynomial.hermite_e.hermegauss(points))
    weights = weights / math.sqrt(2 * math.pi)
    grid = torch.cartesian_prod(nodes, nodes)
    return (torch.outer(weights, weights).flatten() * function(mean + std * grid)).sum()


def test_the_evidence_is_the_bound_plus_the_gap_to_the_posterior() -> None:
    world, x = Linear(), torch.randn(5)
    mean, log_std = torch.tensor([0.3, -0.8]), torch.tensor([-0.4, 0.2])
    distortion = gauss_hermite(
        lambda z: -elbo.gaussian_log_prob(x.expand(len(z), 5), world.decoder(z), math.log(STD)), mean, log_std.exp()
    )
    bound = -distortion - elbo.kl_to_prior(mean, log_std).sum()
    gap = kl(MultivariateNormal(mean, torch.diag((2 * log_std).exp())), world.posterior(x))
    torch.testing.assert_close(bound + gap, world.evidence.log_prob(x), atol=1e-9, rtol=0)
    assert gap > 0.1


def test_one_sample_weights_have_the_bound_as_their_mean() -> None:
    world, x = Linear(), torch.randn(1, 5)
    encoder = Fixed([0.3, -0.8], [-0.4, 0.2])
    weights = world.model(encoder).log_weights(x.expand(200, 5), torch.randn(200, 200, 2)).detach()
    q = MultivariateNormal(encoder.mean, torch.diag((2 * encoder.log_std).exp()))
    bound = world.evidence.log_prob(x) - kl(q, world.posterior(x))
    assert abs(weights.mean() - bound) < 4 * weights.std() / 200
    torch.testing.assert_close(
        weights.exp().mean(), world.evidence.log_prob(x).exp()[0], rtol=0.05, atol=0
    )  # the weights are unbiased for the evidence


def test_with_the_true_posterior_every_weight_is_the_evidence() -> None:
    world = Linear()
    world.decoder.weight.data = torch.linalg.qr(world.weight).Q * 1.3  # orthogonal columns: a diagonal posterior
    world.weight = world.decoder.weight.detach()
    covariance = world.weight @ world.weight.T + STD**2 * torch.eye(5)
    variance = 1 / (1 + 1.3**2 / STD**2)

    class Exact(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            mean = (x - world.bias) @ world.weight * variance / STD**2
            return mean, torch.full_like(mean, 0.5 * math.log(variance))

    x = torch.randn(7, 5)
    weights = world.model(Exact()).log_weights(x, torch.randn(9, 7, 2))
    expected = MultivariateNormal(world.bias, covariance).log_prob(x).expand(9, 7)
    torch.testing.assert_close(weights, expected, atol=1e-10, rtol=0)


def test_densities_and_the_kl_are_those_of_pytorch() -> None:
    mean, log_std = torch.randn(2, 6, 3)
    x, logits = torch.randn(6, 3), torch.randn(6, 1, 2, 2)
    normal = Normal(mean, log_std.exp())
    torch.testing.assert_close(elbo.gaussian_log_prob(x, mean, log_std), normal.log_prob(x).sum(1))
    torch.testing.assert_close(
        elbo.kl_to_prior(mean, log_std), kl_divergence(normal, Normal(torch.zeros(6, 3), torch.ones(6, 3)))
    )
    bits = (torch.rand(6, 1, 2, 2) < 0.5).double()
    theirs = Independent(Bernoulli(logits=logits), 3).log_prob(bits)
    torch.testing.assert_close(elbo.bernoulli_log_prob(bits, logits), theirs)
    torch.testing.assert_close(elbo.Bernoulli().log_prob(2 * bits - 1, logits), theirs)
    torch.testing.assert_close(elbo.Bernoulli().mean(logits), 2 * logits.sigmoid() - 1)


def test_bernoulli_survives_extreme_logits() -> None:
    logits = torch.tensor([[1000.0], [-1000.0]], requires_grad=True)
    wrong = elbo.bernoulli_log_prob(torch.tensor([[0.0], [1.0]]), logits)
    assert wrong.tolist() == [-1000.0, -1000.0]
    (slope,) = torch.autograd.grad(wrong.sum(), logits)
    assert slope.flatten().tolist() == [-1.0, 1.0]


def test_gradients_are_those_of_finite_differences() -> None:
    x, noise = torch.randn(3, 4), torch.randn(3, 2)
    mean, log_std = torch.randn(3, 2, requires_grad=True), torch.randn(3, 2, requires_grad=True)
    weight = torch.randn(4, 2)

    def bound(mean: Tensor, log_std: Tensor) -> Tensor:
        z = elbo.reparameterise(mean, log_std, noise)
        return elbo.gaussian_log_prob(x, z @ weight.T, -0.5) - elbo.kl_to_prior(mean, log_std).sum(1)

    assert torch.autograd.gradcheck(bound, (mean, log_std))
    log_weights = torch.randn(4, 3, requires_grad=True)
    assert torch.autograd.gradcheck(elbo.importance_weighted_bound, (log_weights,))


def test_the_importance_weighted_bound_grows_with_k_and_stays_below_the_evidence() -> None:
    world, x = Linear(), torch.randn(1, 5)
    model = world.model(Fixed([0.0, 0.0], [0.0, 0.0]))
    weights = model.log_weights(x.expand(64, 5), torch.randn(1000, 64, 2)).detach().flatten()
    means = [elbo.importance_weighted_bound(weights.view(k, -1)).mean() for k in (1, 4, 16, 64)]
    assert means == sorted(means)
    evidence = world.evidence.log_prob(x).item()
    assert means[0] < evidence - 1
    assert evidence - 0.5 < means[-1] < evidence + 0.02


def test_the_importance_weighted_bound_is_the_log_of_a_mean_without_overflow() -> None:
    torch.testing.assert_close(
        elbo.importance_weighted_bound(torch.tensor([[1.0, 2.0], [3.0, 4.0]]).log()), torch.tensor([2.0, 3.0]).log()
    )
    assert elbo.importance_weighted_bound(torch.full((8, 1), -2000.0)).tolist() == [-2000.0]


def test_free_bits_floor_each_dimension_and_stop_its_gradient() -> None:
    kl = torch.tensor([[0.1, 2.0], [0.3, 4.0]], requires_grad=True)
    value = elbo.free_bits(kl, 0.5)
    assert value.item() == pytest.approx(0.5 + 3.0)
    (slope,) = torch.autograd.grad(value, kl)
    assert slope.tolist() == [[0.0, 0.5], [0.0, 0.5]]


def turn(objective: elbo.ELBO, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    ((player, loss, logs),) = list(objective.turns(x, Rng(seed=1)))
    assert player == "model"
    return loss, logs


def small_model(dtype: torch.dtype = torch.float32) -> elbo.LatentModel:
    torch.set_default_dtype(dtype)
    torch.manual_seed(1)
    encoder, decoder = MLPEncoder((1, 4, 4), 3, hidden=(16,)), MLPGenerator(3, (1, 4, 4), hidden=(16,), bounded=False)
    return elbo.LatentModel(encoder, decoder, elbo.Bernoulli(), latent=3)


def test_the_loss_sums_over_pixels_and_latents_and_averages_over_images() -> None:
    model = small_model()
    x = torch.randint(2, (5, 1, 4, 4)).float() * 2 - 1
    loss, logs = turn(elbo.ELBO(model), x)
    q, noise = model.encode(x), Rng(seed=1).normal(5, 3)
    logits = model.decoder(q.mean + q.log_std.exp() * noise)
    distortion = nn.functional.binary_cross_entropy_with_logits(logits, (x + 1) / 2, reduction="sum") / 5
    standard = Normal(torch.zeros(()), torch.ones(()))
    rate = kl_divergence(Normal(q.mean, q.log_std.exp()), standard).sum() / 5
    torch.testing.assert_close(logs["distortion"], distortion)
    torch.testing.assert_close(logs["rate"], rate)
    torch.testing.assert_close(loss, distortion + rate)


def test_beta_warmup_and_free_bits_weigh_the_rate_alone() -> None:
    model, x = small_model(), torch.ones(5, 1, 4, 4)
    loss, logs = turn(elbo.ELBO(model, beta=3.0), x)
    torch.testing.assert_close(loss, logs["distortion"] + 3 * logs["rate"])
    objective = elbo.ELBO(model, beta=2.0, warmup=4)
    for expected in (0.5, 1.0, 1.5, 2.0, 2.0):
        loss, logs = turn(objective, x)
        torch.testing.assert_close(loss, logs["distortion"] + expected * logs["rate"])
    assert objective.moves == 5
    loss, logs = turn(elbo.ELBO(model, free=7.0), x)
    torch.testing.assert_close(loss, logs["distortion"] + 21)


def test_several_samples_train_the_importance_weighted_bound() -> None:
    model, x = small_model(), torch.ones(5, 1, 4, 4)
    loss, _ = turn(elbo.ELBO(model, samples=6), x)
    noise = Rng(seed=1).normal(5, 6, 3).transpose(0, 1)
    torch.testing.assert_close(loss, -elbo.importance_weighted_bound(model.log_weights(x, noise)).mean())
    with pytest.raises(ValueError, match="leave out beta, warmup and free"):
        elbo.ELBO(model, samples=2, beta=4.0)


def test_samples_are_means_or_have_the_likelihoods_noise() -> None:
    model = small_model()
    images = model.sample(3, generator=torch.Generator().manual_seed(0))
    assert images.shape == (3, 1, 4, 4)
    assert images.abs().max() < 1
    with pytest.raises(ValueError, match="another"):
        model.sample(3, generator=torch.Generator(), noise=True)
    noisy = elbo.LatentModel(model.encoder, model.decoder, elbo.Gaussian(0.5), latent=3)
    clean = noisy.sample(4000, generator=torch.Generator().manual_seed(0))
    drawn = noisy.sample(4000, generator=torch.Generator().manual_seed(0), noise=True)
    assert (drawn - clean).std().item() == pytest.approx(0.5, abs=0.01)
    with pytest.raises(ValueError, match="above 0; got 0"):
        elbo.Gaussian(0)


def test_a_trained_linear_model_reaches_probabilistic_pca() -> None:
    """Its optimum in closed form: Tipping and Bishop 1999, eq. 7 and 8; the bound is tight there: Lucas et al. 2019."""
    torch.set_default_dtype(torch.float32)
    torch.manual_seed(0)
    x = torch.randn(2000, 6) @ torch.randn(6, 6) * 0.7
    values = torch.linalg.eigvalsh(torch.cov(x.T, correction=0)).flip(0)
    noise = values[2:].mean()
    log_det = values[:2].log().sum() + 4 * noise.log()
    best = -0.5 * (6 * math.log(2 * math.pi) + log_det + 6)  # mean log-likelihood at the optimum
    model = elbo.LatentModel(LinearEncoder(6, 2), nn.Linear(2, 6), elbo.Gaussian(1.0, learned=True), latent=2)
    objective = elbo.ELBO(model)
    run = Run(objective, adam_per_player(objective, 0.02), ema={"model": 0.99})
    for _ in run(Stream(lambda n, generator: x[torch.randint(2000, (n,), generator=generator)], batch_size=500), 1500):
        pass
    trained = run.ema["model"]
    bound = trained.log_weights(x, torch.randn(50, 2000, 2)).mean()
    assert best - 0.05 < bound < best + 0.01
    assert trained.likelihood.log_std.exp().item() ** 2 == pytest.approx(noise.item(), rel=0.05)


def test_the_aggregated_posterior_is_the_mixture_of_guesses() -> None:
    q, z = elbo.Posterior(torch.randn(7, 2), 0.5 * torch.randn(7, 2)), torch.randn(4, 2)
    parts = Independent(Normal(q.mean, q.log_std.exp()), 1)
    mixture = MixtureSameFamily(Categorical(logits=torch.zeros(7)), parts)
    torch.testing.assert_close(elbo.aggregated_log_prob(z, q), mixture.log_prob(z))


def test_a_standard_deviation_of_each_entry() -> None:
    law = elbo.Gaussian(0.5, learned=True, shape=(1, 2, 2))
    with torch.no_grad():
        law.log_std.copy_(torch.randn(1, 2, 2))
    x, output = torch.randn(3, 1, 2, 2), torch.randn(3, 1, 2, 2)
    exact = Independent(Normal(output, law.log_std.exp()), 3).log_prob(x)
    torch.testing.assert_close(law.log_prob(x, output), exact)


def test_what_is_compiled_is_what_is_called(monkeypatch) -> None:
    compiled = []
    monkeypatch.setattr(nn.Module, "compile", lambda self, *a, **k: compiled.append(self))
    one = elbo.ELBO(small_model())
    Run(one, adam_per_player(one, 0.1), compile=True)
    assert compiled == [one.model.encoder, one.model.decoder]
