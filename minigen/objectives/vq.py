"""Discrete codes (chapter 09): the nearest vector of a codebook, and an autoencoder that is trained through it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from minigen.data.checks import need_number
from minigen.objectives.elbo import Likelihood
from minigen.train.distributed import gather
from minigen.train.loop import Objective
from minigen.train.rng import Rng


def nearest_code(z: Tensor, codes: Tensor) -> Tensor:
    """The index of the nearest code (K, D) to each vector (..., D), int64 (...). van den Oord et al. 2017, eq. 1."""
    centre = codes.mean(0)  # distances by matrix products lose what is small beside the vectors' length
    distance = torch.cdist(z.reshape(-1, z.shape[-1]) - centre, codes - centre)  # (N, K)
    return distance.argmin(1).view(z.shape[:-1])


def straight_through(z: Tensor, quantised: Tensor) -> Tensor:
    """The value of `quantised` with the gradient of `z`, both (...). van den Oord et al. 2017, section 3.2."""
    return z + (quantised - z).detach()


def codebook_loss(z: Tensor, quantised: Tensor) -> Tensor:
    """|sg[z] - quantised|^2, summed over an image, (B, ...) to (B,): it moves the codes alone.

    The second term of van den Oord et al. 2017, eq. 3. The third, commitment, is the same with the roles exchanged,
    `codebook_loss(quantised, z)`: it moves the encoder alone.
    """
    return (z.detach() - quantised).square().flatten(1).sum(1)


def perplexity(index: Tensor, codes: int) -> Tensor:
    """e to the entropy of the histogram of indices 0..codes-1, of any shape: a float32 number, of `codes` in even use.

    Counted in float32 whatever the autocast, since a sum of ones in bfloat16 stops at 256.
    """
    ones = torch.ones(index.numel(), device=index.device)  # not bincount, which waits for a GPU
    share = ones.new_zeros(codes).index_add(0, index.flatten(), ones) / index.numel()
    entropy: Tensor = torch.special.entr(share).sum()
    return entropy.exp()


class Quantised(NamedTuple):
    """The nearest codes (B, h, w, D), and their indices in the codebook, int64 (B, h, w)."""

    codes: Tensor
    indices: Tensor


class VQModel(nn.Module):
    """An autoencoder whose codes are vectors of a codebook. van den Oord et al. 2017.

    encoder: images (B, C, H, W) to (B, D, h, w). decoder: (B, D, h, w) to what the likelihood takes. codes: K.
    size: D.
    """

    def __init__(
        self, encoder: nn.Module, decoder: nn.Module, likelihood: Likelihood, *, codes: int, size: int
    ) -> None:
        super().__init__()
        self.encoder, self.decoder, self.codes = encoder, decoder, nn.Embedding(codes, size)
        self.likelihood = likelihood
        nn.init.uniform_(self.codebook, -1 / codes, 1 / codes)

    def compile(self, *args: Any, **options: Any) -> None:
        """Compile encoder and decoder in place: they are what is called, the model itself never is."""
        for part in (self.encoder, self.decoder):
            part.compile(*args, **options)

    @property
    def codebook(self) -> Tensor:
        """The codes, (K, D)."""
        return self.codes.weight

    def vectors(self, x: Tensor) -> Tensor:
        """What the encoder gives to images (B, C, H, W), before it is rounded: (B, h, w, D)."""
        z: Tensor = self.encoder(x)
        return z.movedim(1, -1)

    def quantise(self, z: Tensor) -> Quantised:
        """Vectors (B, h, w, D) to the nearest codes."""
        index = nearest_code(z, self.codebook)
        return Quantised(self.codebook[index], index)

    def encode(self, x: Tensor) -> Tensor:
        """Images to the indices of their codes, int64 (B, h, w)."""
        return self.quantise(self.vectors(x)).indices

    def output(self, vectors: Tensor) -> Tensor:
        """Vectors (B, h, w, D) to what the likelihood takes."""
        output: Tensor = self.decoder(vectors.movedim(-1, 1))
        return output

    def decode(self, index: Tensor) -> Tensor:
        """Indices (B, h, w) to mean images (B, C, H, W)."""
        return self.likelihood.mean(self.output(self.codebook[index]))

    @torch.no_grad()
    def spread_codes(self, x: Tensor, *, generator: torch.Generator) -> None:
        """Put the codes on vectors that the encoder gives to images (B, C, H, W), drawn at random.

        Where the codes begin decides how many are ever used: one that is nearest to nothing gets no gradient. So no
        vector is drawn twice, unless there are fewer vectors than codes.
        """
        z, count = self.vectors(x).flatten(0, -2), len(self.codebook)
        if len(z) >= count:
            index = torch.randperm(len(z), generator=generator, device=generator.device)[:count]
        else:
            index = torch.randint(len(z), (count,), generator=generator, device=generator.device)
        self.codebook.copy_(z[index.to(z.device)])


class VQVAE(Objective):
    """The loss of a `VQModel`. van den Oord et al. 2017 (Neural discrete representation learning), eq. 3.

    Minimises -log p(x | code) + |sg[z] - code|^2 + commitment |z - sg[code]|^2, summed over an image. The prior over
    codes is uniform and constant here; a better one is learned afterwards, by the models of chapter 10.

    Logs: "distortion", nats/image; "perplexity", e to the entropy of the batch's code histogram, of K.
    """

    def __init__(self, model: VQModel, *, commitment: float = 0.25) -> None:
        super().__init__()
        need_number("commitment, a weight,", commitment, low=0)
        self.model, self.commitment = model, commitment

    def turns(self, x: Tensor, rng: Rng) -> Iterator[tuple[str, Tensor, dict[str, Tensor]]]:
        model = self.model
        z = model.vectors(x)  # (B, h, w, D)
        code, index = model.quantise(z)
        distortion = -model.likelihood.log_prob(x, model.output(straight_through(z, code))).mean()
        pull, commit = codebook_loss(z, code).mean(), codebook_loss(code, z).mean()
        logs = {"distortion": distortion, "perplexity": perplexity(gather(index), len(model.codebook))}
        yield "model", distortion + pull + self.commitment * commit, logs
