"""The Wasserstein game (chapter 03): a critic f, held to slope 1, in place of a discriminator.

f gives a score, any real number: no probability, and no logit of one. Only differences of scores mean something. Losses
take scores of shape (B,) and are means over the batch, in the units of the samples where f has slope 1 at most.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from minigen.data.checks import need_count, need_float, need_number, need_same, need_shape
from minigen.objectives.minimax import Game, hinge_generator_loss
from minigen.train.precision import full_precision
from minigen.train.rng import Rng
from minigen.worlds.precision import widen


def generator_loss(fake_scores: Tensor) -> Tensor:
    """-E f(G(z)). Arjovsky et al. 2017, Algorithm 1; chapter 03. The generator of the hinge game has it, too."""
    return hinge_generator_loss(fake_scores)


def critic_loss(real_scores: Tensor, fake_scores: Tensor) -> Tensor:
    """E f(G(z)) - E f(x), which the critic minimises. Arjovsky et al. 2017, eq. 2; chapter 03, after (3.6).

    Minus it is at most W_1 of the two where f has slope 1 at most. A constant critic has 0: a trained one is below.
    """
    return generator_loss(real_scores) - generator_loss(fake_scores)


def interpolate(real: Tensor, fake: Tensor, u: Tensor) -> Tensor:
    """u x + (1 - u) G(z): a point between each two samples, (B, ...). Gulrajani et al. 2017, Algorithm 1, line 6.

    u: (B,), uniform in [0, 1], one number for each pair, so that the point lies on the straight line between the two.
    """
    need_same("fake samples", fake, "real samples", real)
    need_shape("u, a number for each pair,", u, len(real))
    u = u.view(-1, *[1] * (real.ndim - 1))
    return u * real + (1 - u) * fake


def slopes(scores: Tensor, points: Tensor) -> Tensor:
    """|grad_x f(x)| at each point, (B,): the norm over all numbers of a sample. Differentiable.

    scores: (B,), computed from `points`, (B, ...), which must require a gradient.
    """
    need_shape("scores", scores, len(points))
    if not points.requires_grad:
        raise ValueError("points must require a gradient; got points that do not: call points.requires_grad_() first")
    (gradient,) = torch.autograd.grad(scores.sum(), points, create_graph=True)
    norms: Tensor = torch.linalg.vector_norm(widen(gradient).flatten(1), dim=1)
    return norms


def slope_penalty(steepness: Tensor, *, one_sided: bool = False) -> Tensor:
    """E (|grad f| - 1)^2 of slopes (B,); one_sided: E max(0, |grad f| - 1)^2, of those above 1 alone.

    lambda multiplies it; theirs is 10. Gulrajani et al. 2017, eq. 3 and section 4.
    """
    excess = steepness - 1
    return (excess.relu() if one_sided else excess).square().mean()


def clip_(critic: nn.Module, limit: float) -> None:
    """Put every parameter of a critic into [-limit, limit], in place. Arjovsky et al. 2017, Algorithm 1, line 7."""
    with torch.no_grad():
        for parameter in critic.parameters():
            parameter.clamp_(-limit, limit)


class Wasserstein(Game):
    """Several moves of the critic, then one of the generator. Arjovsky et al. 2017; Gulrajani et al. 2017, Algorithm 1.

    generator: latent (B, latent) to samples; it says its `latent` size. critic: samples to scores (B,). A critic with
    normalisation over the batch has no gradient of its own at each sample, which the penalty needs.
    critic_steps: moves of the critic to one of the generator. A batch is dealt out among them, so that each sees
    samples of its own; its rows must be a multiple of them.
    penalty: lambda of the gradient penalty; one_sided: its other form. clip: the limit of the parameters, instead of a
    penalty. With neither, let the critic have normalised layers (`nets.spectrally_normalised`).

    Logs: "critic/loss", of the last move and with the penalty, and "generator/loss" from the loop; "distance", minus
    the critic's loss without the penalty; "slope", the mean norm of the gradient between the samples.

    >>> from minigen.nets import MLPDiscriminator, MLPGenerator
    >>> game = Wasserstein(MLPGenerator(2, (2,), bounded=False), MLPDiscriminator((2,)), critic_steps=3)
    >>> [turn[0] for turn in game.turns(torch.randn(12, 2), Rng())]
    ['critic', 'critic', 'critic', 'generator']
    """

    def __init__(
        self,
        generator: nn.Module,
        critic: nn.Module,
        *,
        critic_steps: int = 5,
        penalty: float = 10.0,
        one_sided: bool = False,
        clip: float | None = None,
    ):
        super().__init__(generator)
        need_count("critic_steps", critic_steps)
        need_number("penalty, lambda,", penalty, low=0)
        if clip is not None:
            need_number("clip", clip, low=0, open=True)
        if clip is not None and penalty:
            raise ValueError(f"clip= takes the place of a penalty: give penalty=0 with it; got penalty={penalty:g}")
        self.critic, self.critic_steps = critic, critic_steps
        self.penalty, self.one_sided, self.clip = penalty, one_sided, clip
        self.eager_players = ("critic",) if penalty else ()  # torch.compile has no double backward

    def turns(self, batch: Tensor, rng: Rng) -> Iterator[tuple[str, Tensor, dict[str, Tensor]]]:
        need_float("real samples", batch)
        if len(batch) % self.critic_steps:
            raise ValueError(
                f"a batch must have a multiple of critic_steps = {self.critic_steps} rows; got {len(batch)}: let the "
                "batches drop a last one that is short"
            )
        for k in range(self.critic_steps):
            real = batch[k :: self.critic_steps]  # every so many rows: N processes deal out as one does
            with torch.no_grad():
                fake = self.generator(rng.normal(len(real), self.latent))
            need_shape("the generator's samples", fake, *real.shape)
            loss, logs = self._criticise(real, fake, rng)
            yield "critic", loss, logs
            if self.clip is not None:
                clip_(self.critic, self.clip)

        yield "generator", generator_loss(self.critic(self.generator(rng.normal(len(real), self.latent)))), {}

    def _criticise(self, real: Tensor, fake: Tensor, rng: Rng) -> tuple[Tensor, dict[str, Tensor]]:
        loss = critic_loss(self.critic(real), self.critic(fake))
        logs = {"distance": -loss}
        if self.penalty:
            with full_precision(real.device.type):  # a squared gradient needs all its digits
                between = interpolate(real, fake.to(real.dtype), rng.uniform(len(real))).requires_grad_()
                steepness = slopes(self.critic(between), between)
                loss = loss + self.penalty * slope_penalty(steepness, one_sided=self.one_sided)
            logs["slope"] = steepness.mean()
        return loss, logs
