"""Paired translation (chapter 06): an input x, its answer y, and a network that is to give answers.

A batch is (y, x): what is to be made first, as everywhere, then what it is made for. Images are (B, C, H, W). Errors
are sums over all numbers of an image, means over the batch. Source: Isola et al. 2017 (arXiv:1611.07004).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from minigen.data.checks import need_count, need_float, need_number, need_same, need_shape
from minigen.objectives.minimax import Game, Minimax
from minigen.train.loop import Turn
from minigen.train.rng import Rng
from minigen.worlds.precision import widen


def absolute_error(answer: Tensor, target: Tensor) -> Tensor:
    """E sum |y - G(x)|, the L1 term of Isola et al. 2017, eq. 3. Least at the median of each number of y given x."""
    return _difference(answer, target).abs().flatten(1).sum(1).mean()


def squared_error(answer: Tensor, target: Tensor) -> Tensor:
    """E sum (y - G(x))^2. Least at the mean of y given x."""
    return _difference(answer, target).square().flatten(1).sum(1).mean()


def _difference(answer: Tensor, target: Tensor) -> Tensor:
    need_float("target", target)
    need_same("answer", answer, "target", target)
    if not target.numel():
        raise ValueError(f"an error needs one image or more; got {tuple(target.shape)}")
    return widen(answer) - widen(target)


def weight_of_sum(weight: float, shape: Sequence[int]) -> float:
    """The weight of a sum over the numbers of an image that a weight of their mean is worth: weight / (C H W).

    Published code takes the mean: Isola et al. 2017 give 100, which for 3x256x256 is 0.00051 of the sum.
    """
    need_number("weight", weight, low=0)
    for size in shape:
        need_count("a size of an image", size)
    return weight / math.prod(shape)


def latent_error(found: Tensor, z: Tensor) -> Tensor:
    """E sum |z - E(G(x, z))|: a code has to be found again in the answer. Zhu et al. 2017 b (BicycleGAN), eq. 7.

    found, z: (B, latent).
    """
    need_shape("z", z, "B", "latent")
    return absolute_error(found, z)


def feature_loss(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
    """Sum over layers of the mean squared difference of features, E 1/(C H W) |phi_j(y) - phi_j(G(x))|^2.

    found, wanted: the features of each layer, (B, C, H, W). Johnson et al. 2016, eq. 2, summed over layers.
    """
    if len(found) != len(wanted) or not found:
        raise ValueError(f"need the features of the same layers, one or more; got {len(found)} and {len(wanted)}")
    return torch.stack([squared_error(a, b) / b[0].numel() for a, b in zip(found, wanted, strict=True)]).sum()


ERRORS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"absolute": absolute_error, "squared": squared_error}


def _need_error(error: str) -> None:
    if error not in ERRORS:
        raise ValueError(f"error must be one of {', '.join(ERRORS)}; got {error!r}")


def answer(network: nn.Module, x: Tensor, z: Tensor) -> Tensor:
    """What a generator answers to inputs (B, C, H, W) with latents (B, latent); one with latent 0 is given none."""
    y: Tensor = network(x, z) if z.shape[1] else network(x)
    return y


class Regression(Game):
    """A network that minimises its error alone: no game. Its answer tends to the mean or to the median of all answers.

    generator: (x, latent (B, latent)) to answers; it says its `latent` size, 0 for a network of x alone. error:
    "absolute" or "squared".

    Logs: "error", as a sum over an image.

    >>> from minigen.nets import TranslationUNet
    >>> from minigen.train import Rng
    >>> game = Regression(TranslationUNet(1, 3, width=4, depth=2))
    >>> [turn[0] for turn in game.turns((torch.randn(2, 3, 8, 8), torch.randn(2, 1, 8, 8)), Rng())]
    ['generator']
    """

    def __init__(self, generator: nn.Module, *, error: str = "absolute") -> None:
        super().__init__(generator)
        _need_error(error)
        self.error = ERRORS[error]

    def draw(self, network: nn.Module, z: Tensor, *conditions: Tensor) -> Tensor:
        """Answers to inputs (n, C, H, W), the one condition, with latents (n, latent)."""
        (x,) = conditions
        return answer(network, x, z)

    def turns(self, batch: tuple[Tensor, Tensor], rng: Rng) -> Iterator[Turn]:
        y, x = batch
        error = self.error(answer(self.generator, x, rng.normal(len(x), self.latent)), y)
        yield "generator", error, {"error": error}


class Paired(Minimax):
    """The game over pairs (y, x), with an error beside it. Isola et al. 2017, eqs 1 to 4.

    generator: as for `Regression`. discriminator: (y, x) to logits (B,), or (B, h, w) for patches, which are averaged.

    weight: of the error, a sum over an image; see `weight_of_sum`. error: "absolute" or "squared".
    hears: whether the discriminator sees the input; off, it judges the answer alone, by discriminator(y).
    encoder: y to a latent (B, latent), a player of its own, which finds the generator's latent again; the generator
    helps it, by `latent_weight` of `latent_error` (Zhu et al. 2017 b).
    loss, r1: as for `Minimax`; R1 is of a mean over patches, by y.

    Logs: as `Minimax`; "error", and "latent" with an encoder.

    >>> from minigen.nets import PatchDiscriminator, TranslationUNet
    >>> from minigen.train import Rng
    >>> networks = TranslationUNet(1, 3, width=4, depth=2), PatchDiscriminator(3, condition_channels=1, layers=1)
    >>> game = Paired(*networks, weight=weight_of_sum(100.0, (3, 8, 8)))
    >>> [turn[0] for turn in game.turns((torch.randn(2, 3, 8, 8), torch.randn(2, 1, 8, 8)), Rng())]
    ['discriminator', 'generator']
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        *,
        weight: float,
        error: str = "absolute",
        loss: str = "non-saturating",
        r1: float = 0.0,
        hears: bool = True,
        encoder: nn.Module | None = None,
        latent_weight: float = 0.5,
    ) -> None:
        super().__init__(generator, discriminator, loss=loss, r1=r1)
        _need_error(error)
        need_number("weight", weight, low=0)
        need_number("latent_weight", latent_weight, low=0)
        if encoder is not None and not self.latent:
            raise ValueError(
                "an encoder looks for the generator's latent, and this generator has none: its latent is 0"
            )
        self.error, self.weight, self.hears = ERRORS[error], weight, hears
        self.encoder, self.latent_weight = encoder, latent_weight

    draw = Regression.draw

    def logits(self, y: Tensor, x: Tensor) -> Tensor:
        """What the discriminator says of answers, (B,) or (B, h, w)."""
        found: Tensor = self.discriminator(y, x) if self.hears else self.discriminator(y)
        return found

    def turns(self, batch: tuple[Tensor, Tensor], rng: Rng) -> Iterator[Turn]:  # type: ignore[override]
        y, x = batch
        need_float("answers", y)
        z = rng.normal(len(y), self.latent)
        fake = answer(self.generator, x, z)
        need_shape("the generator's answers", fake, *y.shape)
        real, real_logits = self.judge_real(y, lambda y: self.logits(y, x))
        fake_logits = self.logits(fake.detach(), x)
        loss = self.discriminator_loss(real_logits, fake_logits)
        logs = {"logit/real": real_logits.mean(), "logit/fake": fake_logits.mean()}
        image_logits = real_logits.flatten(1).mean(1) if real_logits.ndim > 1 else real_logits
        yield "discriminator", self.with_r1(loss, logs, image_logits, real), logs

        if self.encoder is not None:
            yield "encoder", latent_error(self.encoder(fake.detach()), z), {}

        logs = {"error": self.error(fake, y)}
        loss = self.generator_loss(self.logits(fake, x)) + self.weight * logs["error"]
        if self.encoder is not None:
            logs["latent"] = latent_error(self.encoder(fake), z)
            loss = loss + self.latent_weight * logs["latent"]
        yield "generator", loss, logs
