"""The evidence lower bound (chapter 09): a decoder p(x | z), an encoder q(z | x), and the bound that trains both.

Latents z are (B, L), images (B, ...). Every log-density here sums over the dimensions of one image or one latent: (B,),
in nats. The prior is a standard normal. `log_std` is the logarithm of a standard deviation.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from minigen.data.checks import need_count, need_float, need_number, need_same, need_shape
from minigen.train.distributed import gather
from minigen.train.loop import Objective
from minigen.train.rng import Rng
from minigen.worlds.precision import widen

LOG_2PI = math.log(2 * math.pi)


def reparameterise(mean: Tensor, log_std: Tensor, eps: Tensor) -> Tensor:
    """z = mean + std * eps: a sample of q whose gradient reaches mean and std. Kingma and Welling 2014, section 2.4.

    eps: standard normal noise, in the shape of `mean`, (..., L), or with more samples in front.
    """
    _need_inside("mean", mean, "eps", eps)
    _need_inside("log_std", log_std, "eps", eps)
    return mean + log_std.exp() * eps


def gaussian_log_prob(x: Tensor, mean: Tensor, log_std: Tensor | float) -> Tensor:
    """log N(x; mean, diag std^2), summed over all dimensions but the first, (B,). `mean`, `log_std` broadcast."""
    need_float("x", x)
    x, mean = widen(x), widen(mean)
    log_std = torch.as_tensor(log_std, dtype=x.dtype, device=x.device)
    _need_inside("mean", mean, "x", x)
    _need_inside("log_std", log_std, "x", x)
    z = (x - mean) * (-log_std).exp()
    return (-0.5 * (z.square() + LOG_2PI) - log_std).flatten(1).sum(1)


def bernoulli_log_prob(x: Tensor, logits: Tensor) -> Tensor:
    """log of the probability of black-and-white images, 0 or 1, from logits of the same shape (B, ...): (B,).

    Values between 0 and 1 are no data of a Bernoulli law: the number is then a cross-entropy and no likelihood. Values
    outside are a ValueError, on a CPU.
    """
    need_same("logits", logits, "x", x)
    if x.device.type == "cpu" and x.numel() and not (x.min() >= 0 and x.max() <= 1):
        got = f"{x.min():g}..{x.max():g}"
        raise ValueError(f"black-and-white images must be 0 or 1; got {got}: (x + 1) / 2 makes them of -1 and 1")
    logits = widen(logits)
    return (x * logsigmoid(logits) + (1 - x) * logsigmoid(-logits)).flatten(1).sum(1)


def kl_to_prior(mean: Tensor, log_std: Tensor) -> Tensor:
    """KL(N(mean, diag std^2) || N(0, I)) for each latent dimension, (B, L). Kingma and Welling 2014, appendix B.

    1/2 (mean^2 + std^2 - 1) - log std. Sum over the last dimension for the KL of a latent.
    """
    need_same("log_std", log_std, "mean", mean)
    mean, log_std = widen(mean), widen(log_std)
    return 0.5 * (mean.square() + (2 * log_std).exp() - 1) - log_std


def importance_weighted_bound(log_weights: Tensor) -> Tensor:
    """log of the mean of K importance weights, (K, B) to (B,). Burda et al. 2016, eq. 8.

    log_weights: log p(x, z_k) - log q(z_k | x). K = 1 gives the evidence lower bound; in expectation the bound grows
    with K, and its limit is log p(x) where the weights are bounded.
    """
    need_float("log_weights", log_weights, todo="they are differences of log-densities")
    if not log_weights.ndim or not len(log_weights):
        raise ValueError(f"log_weights must be (K, B), K at least 1; got {tuple(log_weights.shape)}")
    log_weights = widen(log_weights)
    return torch.logsumexp(log_weights, dim=0) - math.log(len(log_weights))


def free_bits(kl: Tensor, least: float) -> Tensor:
    """The rate with a floor: the sum over latent dimensions of max(least, mean KL over the batch), a number.

    Kingma et al. 2016, appendix C.8. kl: (B, L), nats. A dimension whose mean KL is below `least` gives no gradient, so
    it costs nothing to use it.
    """
    need_shape("kl", kl, "B", "L")
    need_number("least", least, low=0)
    return kl.mean(0).clamp(min=least).sum()


def _need_inside(name: str, x: Tensor, other: str, y: Tensor) -> None:
    """Refuse what broadcasts y to another shape."""
    fits = x.ndim <= y.ndim and all(a in (1, b) for a, b in zip(x.shape[::-1], y.shape[::-1], strict=False))
    if not fits:
        raise ValueError(f"{name} must broadcast to the shape of {other}, {tuple(y.shape)}; got {tuple(x.shape)}")


class Posterior(NamedTuple):
    """What an encoder says of each image: mean and log_std of a diagonal Gaussian over z, both (B, L)."""

    mean: Tensor
    log_std: Tensor


def aggregated_log_prob(z: Tensor, q: Posterior) -> Tensor:
    """log of the mean of N guesses' densities at codes z (B, L), nats, (B,): the aggregated posterior of N images.

    Hoffman and Johnson 2016; as a prior, Tomczak and Welling 2018, eq. 9, with images of the data.
    """
    need_shape("z", z, "B", q.mean.shape[-1])
    need_same("log_std", q.log_std, "mean", q.mean)
    distance = (z[:, None] - q.mean) * (-q.log_std).exp()  # (B, N, L)
    each = -0.5 * (distance.square() + LOG_2PI) - q.log_std
    return importance_weighted_bound(each.sum(2).T)


class Likelihood(Protocol):
    """A law of images given what the decoder puts out."""

    def log_prob(self, x: Tensor, output: Tensor) -> Tensor:
        """log p(x | z) from the decoder's output, nats, (B,)."""

    def mean(self, output: Tensor) -> Tensor:
        """The mean image, in the shape and range of images."""


class Bernoulli:
    """Black-and-white images as -1 and 1; the decoder puts out logits of 1."""

    def log_prob(self, x: Tensor, output: Tensor) -> Tensor:
        """log P(x | z), nats, (B,), for x in {-1, 1}, (B, ...)."""
        return bernoulli_log_prob((x + 1) / 2, output)

    def mean(self, output: Tensor) -> Tensor:
        """2 P(1) - 1, in [-1, 1], in the shape of the output (B, ...)."""
        return 2 * torch.sigmoid(output) - 1


class Gaussian(nn.Module):
    """Images with Gaussian noise around the decoder's output, its standard deviation fixed or learned.

    shape: of an image (C, H, W), for a standard deviation of each entry; one for all unless given.
    """

    def __init__(self, std: float, *, learned: bool = False, shape: Sequence[int] = ()) -> None:
        super().__init__()
        need_number("std, a standard deviation,", std, low=0, open=True)
        self.log_std = nn.Parameter(torch.full(tuple(shape), math.log(std)), requires_grad=learned)

    def log_prob(self, x: Tensor, output: Tensor) -> Tensor:
        """log p(x | z), nats, (B,). Images and output have one shape, (B, ...): a ValueError otherwise."""
        if x.shape != output.shape:
            raise ValueError(f"images and the decoder's output differ: {tuple(x.shape)} and {tuple(output.shape)}")
        return gaussian_log_prob(x, output, self.log_std)

    def mean(self, output: Tensor) -> Tensor:
        """The output itself, (B, ...)."""
        return output


class LatentModel(nn.Module):
    """An encoder, a decoder and a likelihood: p(x, z) = N(z; 0, I) p(x | decoder(z)), and q(z | x).

    encoder: images (B, ...) to `mean, log_std`, both (B, latent). decoder: (B, latent) to what the likelihood takes.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module, likelihood: Likelihood, *, latent: int) -> None:
        super().__init__()
        need_count("latent", latent)
        self.encoder, self.decoder, self.likelihood, self.latent = encoder, decoder, likelihood, latent

    def compile(self, *args: Any, **options: Any) -> None:
        """Compile encoder and decoder in place: they are what is called, the model itself never is."""
        for part in (self.encoder, self.decoder):
            part.compile(*args, **options)

    def encode(self, x: Tensor) -> Posterior:
        """q(z | x) of images (B, ...), floats or int64 levels: mean and log_std, both (B, latent).

        Raises TypeError for uint8: stored pixels would run through a network as 0..255.
        """
        if x.dtype == torch.uint8:
            need_float("x", x)
        mean, log_std = self.encoder(x)
        need_shape("the encoder's mean", mean, len(x), self.latent)
        need_same("the encoder's log_std", log_std, "its mean", mean)
        return Posterior(widen(mean), widen(log_std))

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        """log p(x | z), (B,)."""
        return self.likelihood.log_prob(x, self.decoder(z))

    def log_weights(self, x: Tensor, eps: Tensor) -> Tensor:
        """log p(x, z_k) - log q(z_k | x) for K samples of the encoder, (K, B), from standard normal eps (K, B, L)."""
        need_shape("eps", eps, "K", len(x), self.latent)
        q, rows = self.encode(x), []
        for one in eps:
            z = reparameterise(q.mean, q.log_std, one)
            log_prior = gaussian_log_prob(z, torch.zeros_like(z), 0.0)
            rows.append(self.log_likelihood(x, z) + log_prior - gaussian_log_prob(z, q.mean, q.log_std))
        return torch.stack(rows)

    @torch.no_grad()
    def log_prob(self, x: Tensor, *, samples: int = 100, generator: torch.Generator | None = None) -> Tensor:
        """A lower bound of log p(x) in expectation, by importance sampling with the encoder, nats, (B,)."""
        need_count("samples", samples)
        device = generator.device if generator else x.device
        shape = (samples, len(x), self.latent)
        noise = torch.randn(shape, generator=generator, device=device, dtype=x.dtype).to(x.device)
        return importance_weighted_bound(self.log_weights(x, noise))

    @torch.no_grad()
    def sample(self, n: int, *, generator: torch.Generator | None = None, noise: bool = False) -> Tensor:
        """n images from the prior: the mean of p(x | z); with `noise`, a sample of a Gaussian likelihood.

        generator: the random numbers' source, torch's own unless given; it stands on the model's device.
        """
        need_count("n", n, least=0)
        device = generator.device if generator else next(self.parameters(), torch.empty(0)).device
        z = torch.randn(n, self.latent, generator=generator, device=device)
        x = self.likelihood.mean(self.decoder(z))
        if not noise:
            return x
        if not isinstance(self.likelihood, Gaussian):
            raise ValueError("noise=True samples a Gaussian likelihood; this model has another")
        eps = torch.randn(x.shape, generator=generator, device=device)
        return x + self.likelihood.log_std.exp() * eps


class ELBO(Objective):
    """Minus the evidence lower bound, as distortion plus beta times rate. Kingma and Welling 2014, eq. 10.

    beta: weight of the rate (Higgins et al. 2017, eq. 4); 1 is the bound. warmup: steps over which beta grows from 0.
    free: nats of each latent dimension that cost nothing. samples: K of the importance-weighted bound; above 1 it
    replaces distortion and rate (Burda et al. 2016), and beta and free must be left out.

    Logs, in nats/image: "distortion", E[-log p(x | z)], and "rate", the mean KL of q to the prior. Their sum is minus
    the bound.

    >>> from minigen.nets import MLPEncoder, MLPGenerator
    >>> from minigen.train import Rng
    >>> shape = (1, 8, 8)
    >>> model = LatentModel(MLPEncoder(shape, 2), MLPGenerator(2, shape), Gaussian(0.5), latent=2)
    >>> player, loss, logs = next(ELBO(model).turns(torch.zeros(4, *shape), Rng()))
    >>> bool((loss - logs["distortion"] - logs["rate"]).abs() < 1e-3 * loss)
    True
    """

    moves: Tensor

    def __init__(
        self, model: LatentModel, *, beta: float = 1.0, warmup: int = 0, free: float = 0.0, samples: int = 1
    ) -> None:
        super().__init__()
        need_count("samples, the number of codes for an image,", samples)
        need_count("warmup, a number of steps,", warmup, least=0)
        need_number("beta", beta, low=0)
        need_number("free", free, low=0)
        if samples > 1 and (beta, warmup, free) != (1.0, 0, 0.0):
            raise ValueError("the importance-weighted bound has no rate to weigh: leave out beta, warmup and free")
        self.model, self.beta, self.warmup, self.free, self.samples = model, beta, warmup, free, samples
        self.register_buffer("moves", torch.zeros((), dtype=torch.int64))

    def turns(self, x: Tensor, rng: Rng) -> Iterator[tuple[str, Tensor, dict[str, Tensor]]]:
        if self.samples > 1:
            eps = rng.normal(len(x), self.samples, self.model.latent).transpose(0, 1)  # (K, B, L)
            yield "model", -importance_weighted_bound(self.model.log_weights(x, eps)).mean(), {}
            return
        q = self.model.encode(x)
        z = reparameterise(q.mean, q.log_std, rng.normal(len(x), self.model.latent))
        kl = kl_to_prior(q.mean, q.log_std)  # (B, L)
        distortion, rate = -self.model.log_likelihood(x, z).mean(), kl.sum(1).mean()
        weight = self.beta * ((self.moves + 1) / self.warmup).clamp(max=1) if self.warmup else self.beta
        loss = distortion + weight * (free_bits(gather(kl), self.free) if self.free else rate)
        yield "model", loss, {"distortion": distortion, "rate": rate}
        self.moves += 1
