"""The minimax game (chapter 02): a generator G against a discriminator D.

D gives a logit l; the probability that a sample is real is D(x) = sigmoid(l). Every loss here takes logits, of shape
(B,), and is the mean over the batch in nats. log D = log sigmoid(l) and log(1 - D) = log sigmoid(-l): the probability
is never formed, so nothing overflows however sure the discriminator is. (`softplus` would do in float32, but it is
linear above 20, an error of 2e-9.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, relu

from minigen.data.checks import need_count, need_float, need_number, need_same, need_shape
from minigen.train.loop import Objective
from minigen.train.precision import full_precision
from minigen.train.rng import Rng
from minigen.worlds.precision import widen


def value(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """V(D, G) = E log D(x) + E log(1 - D(G(z))), in nats. Goodfellow et al. 2014, eq. 1; chapter 02, (2.3).

    D maximises it, G minimises it. At most 0; -log 4 where D cannot tell.
    """
    real_logits, fake_logits = _logits(real_logits), _logits(fake_logits)
    return logsigmoid(real_logits).mean() + logsigmoid(-fake_logits).mean()


def _logits(logits: Tensor) -> Tensor:
    """In float32 at least, one or more."""
    need_float("logits", logits, todo="a discriminator gives numbers, not classes")
    if not logits.numel():
        raise ValueError(f"a loss needs the logits of one sample or more; got {tuple(logits.shape)}")
    return widen(logits)


def discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """-V: the sum of two binary cross-entropies, real as 1 and fake as 0. Chapter 02, (2.11).

    The two terms are summed, not averaged: half of it is what `binary_cross_entropy` gives on the joined batch.
    """
    return -value(real_logits, fake_logits)


def saturating_loss(fake_logits: Tensor) -> Tensor:
    """E log(1 - D(G(z))): G's part of V. Goodfellow et al. 2014, eq. 1; chapter 02, before (2.12).

    Its derivative by a logit is -D / B: it vanishes where D knows every fake, as it may early in training.
    """
    return logsigmoid(-_logits(fake_logits)).mean()


def non_saturating_loss(fake_logits: Tensor) -> Tensor:
    """-E log D(G(z)). Goodfellow et al. 2014, section 3; chapter 02, before (2.13).

    Its derivative by a logit is -(1 - D) / B: largest where D knows a fake. The same fixed point, another game.
    """
    return -logsigmoid(_logits(fake_logits)).mean()


def least_squares_discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """1/2 E (l(x) - 1)^2 + 1/2 E l(G(z))^2. Mao et al. 2017, eq. 9 (labels a = 0, b = 1). `logits` are plain scores."""
    real_logits, fake_logits = _logits(real_logits), _logits(fake_logits)
    return 0.5 * (real_logits - 1).square().mean() + 0.5 * fake_logits.square().mean()


def least_squares_generator_loss(fake_logits: Tensor) -> Tensor:
    """1/2 E (l(G(z)) - 1)^2. Mao et al. 2017, eq. 9 (label c = 1)."""
    return 0.5 * (_logits(fake_logits) - 1).square().mean()


def hinge_discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """E max(0, 1 - l(x)) + E max(0, 1 + l(G(z))). Lim and Ye 2017; Miyato et al. 2018, eq. 16."""
    real_logits, fake_logits = _logits(real_logits), _logits(fake_logits)
    return relu(1 - real_logits).mean() + relu(1 + fake_logits).mean()


def hinge_generator_loss(fake_logits: Tensor) -> Tensor:
    """-E l(G(z)). Lim and Ye 2017; Miyato et al. 2018, eq. 17."""
    return -_logits(fake_logits).mean()


def optimal_logit(log_p_data: Tensor, log_p_model: Tensor) -> Tensor:
    """The logit of the best discriminator, log p_data(x) - log p_g(x). Chapter 02, (2.6)."""
    need_same("log_p_model", log_p_model, "log_p_data", log_p_data)
    return log_p_data - log_p_model


def optimal_discriminator(log_p_data: Tensor, log_p_model: Tensor) -> Tensor:
    """D*(x) = p_data(x) / (p_data(x) + p_g(x)). Goodfellow et al. 2014, Proposition 1; chapter 02, (2.5)."""
    return torch.sigmoid(optimal_logit(log_p_data, log_p_model))


def r1_penalty(real_logits: Tensor, real: Tensor) -> Tensor:
    """R1 = 1/2 E |grad_x l(x)|^2 over real samples; gamma multiplies it. Mescheder et al. 2018, eq. 9; before (2.22).

    real_logits: (B,), computed from `real`, (B, ...), which must require a gradient. The squared gradient is summed
    over a sample's dimensions. Of the logit, not of the probability.
    """
    need_shape("real_logits", real_logits, len(real))
    if not real.requires_grad:
        raise ValueError(
            "real must require a gradient; got samples that do not: call real.requires_grad_() before the network"
        )
    (gradient,) = torch.autograd.grad(real_logits.sum(), real, create_graph=True)
    return 0.5 * widen(gradient).flatten(1).square().sum(1).mean()


Judged = TypeVar("Judged")
DiscriminatorLoss = Callable[[Tensor, Tensor], Tensor]
GeneratorLoss = Callable[[Tensor], Tensor]
LOSSES: dict[str, tuple[DiscriminatorLoss, GeneratorLoss]] = {
    "saturating": (discriminator_loss, saturating_loss),
    "non-saturating": (discriminator_loss, non_saturating_loss),
    "least-squares": (least_squares_discriminator_loss, least_squares_generator_loss),
    "hinge": (hinge_discriminator_loss, hinge_generator_loss),
}


def _need_loss(loss: str) -> None:
    if loss not in LOSSES:
        raise ValueError(f"loss must be one of {', '.join(LOSSES)}; got {loss!r}")


class Game(Objective):
    """A game that a generator plays: it keeps the player, and draws from it.

    generator: latent (B, latent) to samples; it says its `latent` size.
    """

    def __init__(self, generator: nn.Module):
        super().__init__()
        if not hasattr(generator, "latent"):
            raise TypeError(f"the generator must say its `latent` size; got {type(generator).__name__} without it")
        self.generator, self.latent = generator, int(generator.latent)  # type: ignore[arg-type]

    @torch.no_grad()
    def sample(
        self, n: int, *conditions: Tensor, generator: torch.Generator | None = None, network: nn.Module | None = None
    ) -> Tensor:
        """n samples from G, or from `network` (an average of it), for conditions (n, ...) where G takes any.

        generator: the random numbers' source, torch's own unless given; it stands on the network's device.
        """
        need_count("n", n, least=0)
        network = network or self.generator
        device = generator.device if generator else next(network.parameters(), torch.empty(0)).device
        z = torch.randn(n, self.latent, generator=generator, device=device)
        return self.draw(network, z, *(condition.to(device) for condition in conditions))

    def draw(self, network: nn.Module, z: Tensor, *conditions: Tensor) -> Tensor:
        """What a generator makes of latents (n, latent) and conditions (n, ...): (n, ...)."""
        samples: Tensor = network(z, *conditions)
        return samples


class Minimax(Game):
    """The alternating game of Goodfellow et al. 2014, Algorithm 1, with one discriminator move for each generator move.

    generator: latent (B, latent) to samples; it says its `latent` size. discriminator: samples to logits (B,).
    loss: "non-saturating" (the practical form of section 3), "saturating" (the minimax form), "least-squares", "hinge".
    r1: gamma of the R1 penalty on real samples; 0 is off. With it, real samples are judged in fp32 in every precision.

    Logs: "discriminator/loss" and "generator/loss" from the loop, in nats; "logit/real" and "logit/fake", batch means;
    "r1", the penalty without gamma.

    >>> from minigen.nets import MLPDiscriminator, MLPGenerator
    >>> from minigen.train import Rng
    >>> game = Minimax(MLPGenerator(2, (2,), bounded=False), MLPDiscriminator((2,)))
    >>> [turn[0] for turn in game.turns(torch.randn(8, 2), Rng())]
    ['discriminator', 'generator']
    >>> game.sample(5, generator=torch.Generator().manual_seed(0)).shape
    torch.Size([5, 2])
    """

    def __init__(
        self, generator: nn.Module, discriminator: nn.Module, *, loss: str = "non-saturating", r1: float = 0.0
    ):
        super().__init__(generator)
        _need_loss(loss)
        need_number("r1, the weight of a penalty,", r1, low=0)
        self.discriminator = discriminator
        self.discriminator_loss, self.generator_loss = LOSSES[loss]
        self.r1 = r1
        self.eager_players = ("discriminator",) if r1 else ()  # torch.compile has no double backward

    def judge_real(self, real: Tensor, judge: Callable[[Tensor], Judged]) -> tuple[Tensor, Judged]:
        """Real samples, and what `judge` says of them: where R1 is on, such that it can be differentiated by them."""
        real = real.detach().requires_grad_(self.r1 > 0)
        with full_precision(real.device.type) if self.r1 else nullcontext():
            return real, judge(real)

    def with_r1(self, loss: Tensor, logs: dict[str, Tensor], real_logits: Tensor, real: Tensor) -> Tensor:
        """The discriminator's loss with R1 added and logged, where it is on."""
        if not self.r1:
            return loss
        with full_precision(real.device.type):  # a squared gradient needs all its digits
            logs["r1"] = r1_penalty(real_logits, real)
        return loss + self.r1 * logs["r1"]

    def turns(self, real: Tensor, rng: Rng) -> Iterator[tuple[str, Tensor, dict[str, Tensor]]]:
        need_float("real samples", real)
        fake = self.generator(rng.normal(len(real), self.latent))
        need_shape("the generator's samples", fake, *real.shape)
        real, real_logits = self.judge_real(real, self.discriminator)
        fake_logits = self.discriminator(fake.detach())
        loss = self.discriminator_loss(real_logits, fake_logits)
        logs = {"logit/real": real_logits.mean(), "logit/fake": fake_logits.mean()}
        yield "discriminator", self.with_r1(loss, logs, real_logits, real), logs

        yield "generator", self.generator_loss(self.discriminator(fake)), {}  # the discriminator has moved


class DiracGAN:
    """The smallest game: data at 0, all samples at theta, logit psi * x. Mescheder et al. 2018, Definition 2.1.

    States are (..., 2): theta, the generator's only parameter, and psi, the discriminator's. There is one equilibrium,
    at 0. Chapter 02, (2.17) to (2.26).

    loss: "saturating" or "non-saturating", the generator's; or the losses of both players by their logits, as in
    LOSSES. gamma: weight of the R1 penalty, here gamma/2 psi^2.
    """

    def __init__(
        self, *, loss: str | tuple[DiscriminatorLoss, GeneratorLoss] = "saturating", gamma: float = 0.0
    ) -> None:
        if isinstance(loss, str):
            _need_loss(loss)
            loss = LOSSES[loss]
        need_number("gamma", gamma, low=0)
        self.discriminator_loss, self.generator_loss = loss
        self.gamma = gamma

    def velocity(self, state: Tensor) -> Tensor:
        """Minus the gradient of each player's own loss by its own parameter, by autograd, (..., 2)."""
        if not state.ndim or state.shape[-1] != 2:
            raise ValueError(f"states must be (..., 2), theta and psi; got {tuple(state.shape)}")
        theta, psi = (part.detach().reshape(-1).requires_grad_() for part in state.unbind(-1))
        games, fake = len(theta), psi * theta  # a mean over the games, times their number, keeps them apart
        d_loss = games * self.discriminator_loss(torch.zeros_like(fake), fake) + 0.5 * self.gamma * psi.square().sum()
        g_loss = games * self.generator_loss(fake)
        (d_psi,) = torch.autograd.grad(d_loss, psi, retain_graph=True)
        (d_theta,) = torch.autograd.grad(g_loss, theta)
        return -torch.stack([d_theta, d_psi], dim=-1).reshape(state.shape)

    def eigenvalues(self, rule: str, step_size: float) -> Tensor:
        """The two complex eigenvalues at the equilibrium of one round of `rule`, "simultaneous" or "alternating"."""
        if rule not in ("simultaneous", "alternating"):
            raise ValueError(f'rule must be "simultaneous" or "alternating"; got {rule!r}')
        round_of = getattr(self, rule)
        values: Tensor = torch.linalg.eigvals(jacobian_at_equilibrium(lambda state: round_of(state, step_size)))
        return values

    def simultaneous(self, state: Tensor, step_size: float) -> Tensor:
        """Both players step at once."""
        return state + step_size * self.velocity(state)

    def alternating(self, state: Tensor, step_size: float) -> Tensor:
        """The discriminator steps, then the generator, who sees it moved: the rule of Algorithm 1 and of the loop."""
        for mover in (1, 0):
            only = torch.eye(2, dtype=state.dtype)[mover]
            state = state + step_size * only * self.velocity(state)
        return state


def jacobian_at_equilibrium(function: Callable[[Tensor], Tensor]) -> Tensor:
    """The 2x2 Jacobian at 0 of a map of Dirac-GAN states, by central differences in float64 (error about 1e-10)."""
    step = 1e-5 * torch.eye(2, dtype=torch.float64)
    return ((function(step) - function(-step)) / 2e-5).T
