"""The pairing game (chapter 03): the discriminator says which of two samples is the real one.

D gives a logit l to each sample; sigmoid(l(x) - l(G(z))) is its probability that x is the real one of the pair. A
constant added to every logit changes nothing. Losses take logits (B,) of real and generated samples that are paired by
their place in the batch, and are means in nats.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from minigen.data.checks import need_float, need_number, need_same, need_shape
from minigen.objectives.minimax import Game, non_saturating_loss, r1_penalty
from minigen.train.precision import full_precision
from minigen.train.rng import Rng


def discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """-E log sigmoid(l(x) - l(G(z))). Jolicoeur-Martineau 2018 (RSGAN); Huang et al. 2024, section 2; before (3.19).

    log 2 where D cannot tell, and never below 0.
    """
    need_same("fake_logits", fake_logits, "real_logits", real_logits)
    return non_saturating_loss(real_logits - fake_logits)


def generator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """-E log sigmoid(l(G(z)) - l(x)): the discriminator's loss with the two exchanged. The same sources."""
    return discriminator_loss(fake_logits, real_logits)


def r2_penalty(fake_logits: Tensor, fake: Tensor) -> Tensor:
    """R2 = 1/2 E |grad_x l(x)|^2 over generated samples: R1 at other points. Mescheder et al. 2018, eq. 10.

    fake_logits: (B,), computed from `fake`, (B, ...), which must require a gradient.
    """
    return r1_penalty(fake_logits, fake)


class Relativistic(Game):
    """The alternating game of pairs, one move each. Huang et al. 2024 (R3GAN), section 2: pairing loss, R1 and R2.

    generator: latent (B, latent) to samples; it says its `latent` size. discriminator: samples to logits (B,).
    r1, r2: gammas of the penalties on real and on generated samples; 0 is off. With one of them the discriminator
    judges in fp32 in every precision when it moves.

    Logs: "discriminator/loss" and "generator/loss" from the loop, in nats; "logit/gap", the mean of l(x) - l(G(z));
    "r1" and "r2", the penalties without gamma.

    >>> from minigen.nets import MLPDiscriminator, MLPGenerator
    >>> game = Relativistic(MLPGenerator(2, (2,), bounded=False), MLPDiscriminator((2,)), r1=1.0, r2=1.0)
    >>> [turn[0] for turn in game.turns(torch.randn(8, 2), Rng())]
    ['discriminator', 'generator']
    """

    def __init__(self, generator: nn.Module, discriminator: nn.Module, *, r1: float = 0.0, r2: float = 0.0):
        super().__init__(generator)
        need_number("r1, the weight of a penalty,", r1, low=0)
        need_number("r2, the weight of a penalty,", r2, low=0)
        self.discriminator, self.r1, self.r2 = discriminator, r1, r2
        self.eager_players = ("discriminator",) if r1 or r2 else ()  # torch.compile has no double backward

    def turns(self, real: Tensor, rng: Rng) -> Iterator[tuple[str, Tensor, dict[str, Tensor]]]:
        need_float("real samples", real)
        fake = self.generator(rng.normal(len(real), self.latent))
        need_shape("the generator's samples", fake, *real.shape)
        loss, logs = self._judge(real, fake)
        yield "discriminator", loss, logs

        with torch.no_grad():  # the discriminator has moved; the real sample of each pair gives no direction
            real_logits = self.discriminator(real)
        yield "generator", generator_loss(real_logits, self.discriminator(fake)), {}

    def _judge(self, real: Tensor, fake: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The discriminator's loss: the pairing loss, and the penalties that are on."""
        with full_precision(real.device.type) if self.eager_players else nullcontext():
            real = real.detach().requires_grad_(self.r1 > 0)
            fake = fake.detach().to(real.dtype).requires_grad_(self.r2 > 0)
            real_logits, fake_logits = self.discriminator(real), self.discriminator(fake)
            logs = {"logit/gap": (real_logits - fake_logits).mean()}
            loss = discriminator_loss(real_logits, fake_logits)
            if self.r1:
                logs["r1"] = r1_penalty(real_logits, real)
                loss = loss + self.r1 * logs["r1"]
            if self.r2:
                logs["r2"] = r2_penalty(fake_logits, fake)
                loss = loss + self.r2 * logs["r2"]
        return loss, logs
