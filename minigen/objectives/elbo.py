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

from minigen.streams import Noise

LOG_2PI = math.log(2 * math.pi)


def reparameterise(mean: Tensor, log_std: Tensor, noise: Tensor) -> Tensor:
    """z = mean + std * noise: a sample of q whose gradient reaches mean and std. Kingma and Welling 2014, section 2.4.

    noise: standard normal, in the shape of `mean`, (..., L).
    """
    return mean + log_std.exp() * noise


def gaussian_log_prob(x: Tensor, mean: Tensor, log_std: Tensor | float) -> Tensor:
    """log N(x; mean, diag std^2), summed over all dimensions but the first, (B,). `log_std` broadcasts."""
    log_std = torch.as_tensor(log_std, dtype=x.dtype, device=x.device)
    z = (x - mean) * (-log_std).exp()
    return (-0.5 * (z.square() + LOG_2PI) - log_std).flatten(1).sum(1)


def bernoulli_log_prob(x: Tensor, logits: Tensor) -> Tensor:
    """log of the probability of black-and-white images, 0 or 1, from logits of the same shape (B, ...): (B,).

    Values between 0 and 1 are no data of a Bernoulli law: the number is then a cross-entropy and no likelihood.
    """
    return (x * logsigmoid(logits) + (1 - x) * logsigmoid(-logits)).flatten(1).sum(1)


def kl_to_prior(mean: Tensor, log_std: Tensor) -> Tensor:
    """KL(N(mean, diag std^2) || N(0, I)) for each latent dimension, (B, L). Kingma and Welling 2014, appendix B.

    1/2 (mean^2 + std^2 - 1) - log std. Sum over the last dimension for the KL of a latent.
    """
    return 0.5 * (mean.square() + (2 * log_std).exp() - 1) - log_std


def importance_weighted_bound(log_weights: Tensor) -> Tensor:
    """log of the mean of K importance weights, (K, B) to (B,). Burda et al. 2016, eq. 8.

    log_weights: log p(x, z_k) - log q(z_k | x). K = 1 gives the evidence lower bound; in expectation the bound grows
    with K, and its limit is log p(x) where the weights are bounded.
    """
    return torch.logsumexp(log_weights, dim=0) - math.log(len(log_weights))


def free_bits(kl: Tensor, least: float) -> Tensor:
    """The rate with a floor: the sum over latent dimensions of max(least, mean KL over the batch), a number.

    Kingma et al. 2016, appendix C.8. kl: (B, L), nats. A dimension whose mean KL is below `least` gives no gradient, so
    it costs nothing to use it. Under several processes the mean is over each one's own share of the batch.
    """
    return kl.mean(0).clamp(min=least).sum()


class Posterior(NamedTuple):
    """What an encoder says of each image: mean and log_std of a diagonal Gaussian over z, both (B, L)."""

    mean: Tensor
    log_std: Tensor


def aggregated_log_prob(z: Tensor, q: Posterior) -> Tensor:
    """log of the mean of N guesses' densities at codes z (B, L), nats, (B,): the aggregated posterior of N images.

    Hoffman and Johnson 2016; as a prior, Tomczak and Welling 2018, eq. 9, with images of the data.
    """
    distance = (z[:, None] - q.mean) * (-q.log_std).exp()  # (B, N, L)
    each = -0.5 * (distance.square() + LOG_2PI) - q.log_std
    return importance_weighted_bound(each.sum(2).T)


class Likelihood(Protocol):
    """A law of images given what the decoder puts out."""

    def log_prob(self, x: Tensor, output: Tensor) -> Tensor:
        """log p(x | z) from the decoder's output, nats, (B,)."""
        ...

    def mean(self, output: Tensor) -> Tensor:
        """The mean image, in the shape and range of images."""
        ...


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
        if not std > 0:
            raise ValueError(f"std is a standard deviation, above 0; got {std}")
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
        self.encoder, self.decoder, self.likelihood, self.latent = encoder, decoder, likelihood, latent

    def compile(self, *args: Any, **options: Any) -> None:
        """Compile encoder and decoder in place: they are what is called, the model itself never is."""
        for part in (self.encoder, self.decoder):
            part.compile(*args, **options)

    def encode(self, x: Tensor) -> Posterior:
        """q(z | x) of images (B, ...): mean and log_std, both (B, latent)."""
        return Posterior(*self.encoder(x))

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        """log p(x | z), (B,)."""
        return self.likelihood.log_prob(x, self.decoder(z))

    def log_weights(self, x: Tensor, noise: Tensor) -> Tensor:
        """log p(x, z_k) - log q(z_k | x) for K samples of the encoder, (K, B), from standard normal noise (K, B, L)."""
        q, rows = self.encode(x), []
        for eps in noise:
            z = reparameterise(q.mean, q.log_std, eps)
            log_prior = gaussian_log_prob(z, torch.zeros_like(z), 0.0)
            rows.append(self.log_likelihood(x, z) + log_prior - gaussian_log_prob(z, q.mean, q.log_std))
        return torch.stack(rows)

    @torch.no_grad()
    def log_prob(self, x: Tensor, *, samples: int = 100, generator: torch.Generator | None = None) -> Tensor:
        """A lower bound of log p(x) in expectation, by importance sampling with the encoder, nats, (B,)."""
        device = generator.device if generator else x.device
        shape = (samples, len(x), self.latent)
        noise = torch.randn(shape, generator=generator, device=device, dtype=x.dtype).to(x.device)
        return importance_weighted_bound(self.log_weights(x, noise))

    @torch.no_grad()
    def sample(self, n: int, *, generator: torch.Generator, noise: bool = False) -> Tensor:
        """n images from the prior: the mean of p(x | z); with `noise`, a sample of a Gaussian likelihood."""
        z = torch.randn(n, self.latent, generator=generator, device=generator.device)
        x = self.likelihood.mean(self.decoder(z))
        if not noise:
            return x
        if not isinstance(self.likelihood, Gaussian):
            raise ValueError("noise=True samples a Gaussian likelihood; this model has another")
        eps = torch.randn(x.shape, generator=generator, device=generator.device)
        return x + self.likelihood.log_std.exp() * eps


class ELBO(nn.Module):
    """Minus the evidence lower bound, as distortion plus beta times rate. Kingma and Welling 2014, eq. 10.

    beta: weight of the rate (Higgins et al. 2017, eq. 4); 1 is the bound. warmup: steps over which beta grows from 0.
    free: nats of each latent dimension that cost nothing. samples: K of the importance-weighted bound; above 1 it
    replaces distortion and rate (Burda et al. 2016), and beta and free must be left out.

    Logs, in nats/image: "distortion", E[-log p(x | z)], and "rate", the mean KL of q to the prior. Their sum is minus
    the bound.
    """

    moves: Tensor

    def __init__(
        self, model: LatentModel, *, beta: float = 1.0, warmup: int = 0, free: float = 0.0, samples: int = 1
    ) -> None:
        super().__init__()
        if samples < 1:
            raise ValueError(f"samples is the number of codes for an image, 1 or more; got {samples}")
        if samples > 1 and (beta, warmup, free) != (1.0, 0, 0.0):
            raise ValueError("the importance-weighted bound has no rate to weigh: leave out beta, warmup and free")
        self.model, self.beta, self.warmup, self.free, self.samples = model, beta, warmup, free, samples
        self.register_buffer("moves", torch.zeros((), dtype=torch.int64))

    def turns(self, x: Tensor, noise: Noise) -> Iterator[tuple[str, Tensor, dict[str, Tensor]]]:
        if self.samples > 1:
            eps = noise.normal(len(x), self.samples, self.model.latent).transpose(0, 1)  # (K, B, L)
            yield "model", -importance_weighted_bound(self.model.log_weights(x, eps)).mean(), {}
            return
        q = self.model.encode(x)
        z = reparameterise(q.mean, q.log_std, noise.normal(len(x), self.model.latent))
        kl = kl_to_prior(q.mean, q.log_std)  # (B, L)
        distortion, rate = -self.model.log_likelihood(x, z).mean(), kl.sum(1).mean()
        weight = self.beta * ((self.moves + 1) / self.warmup).clamp(max=1) if self.warmup else self.beta
        loss = distortion + weight * (free_bits(kl, self.free) if self.free else rate)
        yield "model", loss, {"distortion": distortion, "rate": rate}
        self.moves += 1


def nearest_code(z: Tensor, codes: Tensor) -> Tensor:
    """The index of the nearest code (K, D) to each vector (..., D), int64 (...). van den Oord et al. 2017, eq. 1."""
    distance = torch.cdist(z.reshape(-1, z.shape[-1]), codes)  # (N, K)
    return distance.argmin(1).view(z.shape[:-1])


def straight_through(z: Tensor, quantised: Tensor) -> Tensor:
    """The value of `quantised` with the gradient of `z`, both (...). van den Oord et al. 2017, section 3.2."""
    return z + (quantised - z).detach()


class Parts(nn.ModuleDict):
    """Networks of one player that are called one by one."""

    def compile(self, *args: Any, **options: Any) -> None:
        """Compile each in place."""
        for part in self.values():
            part.compile(*args, **options)


class VQVAE(nn.Module):
    """An autoencoder with discrete codes. van den Oord et al. 2017 (Neural discrete representation learning), eq. 3.

    Minimises -log p(x | code) + |sg[z] - code|^2 + commitment |z - sg[code]|^2, summed over an image. The prior over
    codes is uniform and constant here; a better one is learned afterwards, by the models of chapter 10.

    encoder: images (B, C, H, W) to (B, D, h, w). decoder: (B, D, h, w) to what the likelihood takes. codes: K.

    Logs: "distortion", nats/image; "codes in use", e to the entropy of the batch's code histogram, of K
    (under several processes, of each one's share).
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        likelihood: Likelihood,
        *,
        codes: int,
        size: int,
        commitment: float = 0.25,
    ) -> None:
        super().__init__()
        if commitment < 0:
            raise ValueError(f"commitment is a weight, 0 or more; got {commitment}")
        parts = {"encoder": encoder, "decoder": decoder, "codes": nn.Embedding(codes, size)}
        if isinstance(likelihood, nn.Module):
            parts["likelihood"] = likelihood
        self.model, self.likelihood, self.commitment = Parts(parts), likelihood, commitment
        nn.init.uniform_(self.codes, -1 / codes, 1 / codes)

    @property
    def codes(self) -> Tensor:
        """The codebook, (K, D)."""
        table = self.model["codes"]
        assert isinstance(table, nn.Embedding)
        return table.weight

    @torch.no_grad()
    def spread_codes(self, x: Tensor, *, generator: torch.Generator) -> None:
        """Put the codes on vectors that the encoder gives to images (B, C, H, W), drawn at random.

        Where the codes begin decides how many are ever used: one that is nearest to nothing gets no gradient.
        """
        z = self.model["encoder"](x).movedim(1, -1).flatten(0, -2)
        self.codes.copy_(z[torch.randint(len(z), (len(self.codes),), generator=generator, device=generator.device)])

    def encode(self, x: Tensor) -> Tensor:
        """Images to the indices of their codes, int64 (B, h, w)."""
        return nearest_code(self.model["encoder"](x).movedim(1, -1), self.codes)

    def decode(self, index: Tensor) -> Tensor:
        """Indices (B, h, w) to mean images (B, C, H, W)."""
        return self.likelihood.mean(self.model["decoder"](self.codes[index].movedim(-1, 1)))

    def turns(self, x: Tensor, noise: Noise) -> Iterator[tuple[str, Tensor, dict[str, Tensor]]]:
        z = self.model["encoder"](x).movedim(1, -1)  # (B, h, w, D)
        index = nearest_code(z, self.codes)
        code = self.codes[index]
        output = self.model["decoder"](straight_through(z, code).movedim(-1, 1))
        distortion = -self.likelihood.log_prob(x, output).mean()
        pull = (z.detach() - code).square().flatten(1).sum(1).mean()
        commit = (z - code.detach()).square().flatten(1).sum(1).mean()
        ones = torch.ones_like(index.flatten(), dtype=z.dtype)  # not bincount, which waits for a GPU
        share = z.new_zeros(len(self.codes)).index_add(0, index.flatten(), ones) / index.numel()
        logs = {"distortion": distortion, "codes in use": torch.special.entr(share).sum().exp()}
        yield "model", distortion + pull + self.commitment * commit, logs
