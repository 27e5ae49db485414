"""The minimax game (chapter 02): a generator G against a discriminator D.

D gives a logit l; the probability that a sample is real is D(x) = sigmoid(l). Every loss here takes logits, of shape
(B,), and is the mean over the batch in nats. log D = log sigmoid(l) and log(1 - D) = log sigmoid(-l): the probability
is never formed, so nothing overflows however sure the discriminator is. (`softplus` would do in float32, but it is
linear above 20, an error of 2e-9.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, relu

from minigen.streams import Noise


def value(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """V(D, G) = E log D(x) + E log(1 - D(G(z))), in nats. Goodfellow et al. 2014, eq. 1; chapter 02, (2.3).

    D maximises it, G minimises it. At most 0; -log 4 where D cannot tell.
    """
    return logsigmoid(real_logits).mean() + logsigmoid(-fake_logits).mean()


def discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """-V: the sum of two binary cross-entropies, real as 1 and fake as 0. Chapter 02, (2.11).

    The two terms are summed, not averaged: half of it is what `binary_cross_entropy` gives on the joined batch.
    """
    return -value(real_logits, fake_logits)


def saturating_loss(fake_logits: Tensor) -> Tensor:
    """E log(1 - D(G(z))): G's part of V. Goodfellow et al. 2014, eq. 1; chapter 02, before (2.12).

    Its derivative by a logit is -D / B: it vanishes where D knows every fake, as it may early in training.
    """
    return logsigmoid(-fake_logits).mean()


def non_saturating_loss(fake_logits: Tensor) -> Tensor:
    """-E log D(G(z)). Goodfellow et al. 2014, section 3; chapter 02, before (2.13).

    Its derivative by a logit is -(1 - D) / B: largest where D knows a fake. The same fixed point, another game.
    """
    return -logsigmoid(fake_logits).mean()


def least_squares_discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """1/2 E (l(x) - 1)^2 + 1/2 E l(G(z))^2. Mao et al. 2017, eq. 9 (labels a = 0, b = 1). `logits` are plain scores."""
    return 0.5 * (real_logits - 1).square().mean() + 0.5 * fake_logits.square().mean()


def least_squares_generator_loss(fake_logits: Tensor) -> Tensor:
    """1/2 E (l(G(z)) - 1)^2. Mao et al. 2017, eq. 9 (label c = 1)."""
    return 0.5 * (fake_logits - 1).square().mean()


def hinge_discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """E max(0, 1 - l(x)) + E max(0, 1 + l(G(z))). Lim and Ye 2017; Miyato et al. 2018, eq. 16."""
    return relu(1 - real_logits).mean() + relu(1 + fake_logits).mean()


def hinge_generator_loss(fake_logits: Tensor) -> Tensor:
    """-E l(G(z)). Lim and Ye 2017; Miyato et al. 2018, eq. 17."""
    return -fake_logits.mean()


def optimal_logit(log_p_data: Tensor, log_p_model: Tensor) -> Tensor:
    """The logit of the best discriminator, log p_data(x) - log p_g(x). Chapter 02, (2.6)."""
    return log_p_data - log_p_model


def optimal_discriminator(log_p_data: Tensor, log_p_model: Tensor) -> Tensor:
    """D*(x) = p_data(x) / (p_data(x) + p_g(x)). Goodfellow et al. 2014, Proposition 1; chapter 02, (2.5)."""
    return torch.sigmoid(optimal_logit(log_p_data, log_p_model))


def r1_penalty(real_logits: Tensor, real: Tensor) -> Tensor:
    """R1 = 1/2 E |grad_x l(x)|^2 over real samples; gamma multiplies it. Mescheder et al. 2018, eq. 9; before (2.22).

    real_logits: (B,), computed from `real`, (B, ...), which must require a gradient. The squared gradient is summed
    over a sample's dimensions. Of the logit, not of the probability.
    """
    if not real.requires_grad:
        raise ValueError("r1_penalty differentiates by the real samples: call real.requires_grad_() before the network")
    (gradient,) = torch.autograd.grad(real_logits.sum(), real, create_graph=True)
    return 0.5 * gradient.flatten(1).square().sum(1).mean()


DiscriminatorLoss = Callable[[Tensor, Tensor], Tensor]
GeneratorLoss = Callable[[Tensor], Tensor]
LOSSES: dict[str, tuple[DiscriminatorLoss, GeneratorLoss]] = {
    "saturating": (discriminator_loss, saturating_loss),
    "non-saturating": (discriminator_loss, non_saturating_loss),
    "least-squares": (least_squares_discriminator_loss, least_squares_generator_loss),
    "hinge": (hinge_discriminator_loss, hinge_generator_loss),
}


class Minimax(nn.Module):
    """The alternating game of Goodfellow et al. 2014, Algorithm 1, with one discriminator move for each generator move.

    generator: latent (B, latent) to samples; it says its `latent` size. discriminator: samples to logits (B,).
    loss: "non-saturating" (the practical form of section 3), "saturating" (the minimax form), "least-squares", "hinge".
    r1: gamma of the R1 penalty on real samples; 0 is off.

    Logs: "discriminator/loss" and "generator/loss" from the loop, in nats; "logit/real" and "logit/fake", batch means;
    "r1", the penalty without gamma.
    """

    def __init__(
        self, generator: nn.Module, discriminator: nn.Module, *, loss: str = "non-saturating", r1: float = 0.0
    ):
        super().__init__()
        if loss not in LOSSES:
            raise ValueError(f"loss must be one of {', '.join(LOSSES)}; got {loss!r}")
        if r1 < 0:
            raise ValueError(f"r1 is the weight of a penalty, 0 or more; got {r1}")
        self.generator, self.discriminator = generator, discriminator
        self.discriminator_loss, self.generator_loss = LOSSES[loss]
        self.latent, self.r1 = int(generator.latent), r1  # type: ignore[arg-type]
        self.eager_players = ("discriminator",) if r1 else ()  # torch.compile has no double backward

    def turns(self, real: Tensor, noise: Noise) -> Iterator[tuple[str, Tensor, dict[str, Tensor]]]:
        fake = self.generator(noise.normal(len(real), self.latent))
        real = real.detach().requires_grad_(self.r1 > 0)
        real_logits, fake_logits = self.discriminator(real), self.discriminator(fake.detach())
        loss = self.discriminator_loss(real_logits, fake_logits)
        logs = {"logit/real": real_logits.mean(), "logit/fake": fake_logits.mean()}
        if self.r1:
            logs["r1"] = r1_penalty(real_logits, real)
            loss = loss + self.r1 * logs["r1"]
        yield "discriminator", loss, logs

        yield "generator", self.generator_loss(self.discriminator(fake)), {}  # the discriminator has moved

    @torch.no_grad()
    def sample(self, n: int, *, generator: torch.Generator, network: nn.Module | None = None) -> Tensor:
        """n samples from G, or from `network` (an average of it). generator: the random numbers' source."""
        network = network or self.generator
        z = torch.randn(n, self.latent, generator=generator, device=generator.device)
        samples: Tensor = network(z)
        return samples


class DiracGAN:
    """The smallest game: data at 0, all samples at theta, logit psi * x. Mescheder et al. 2018, Definition 2.1.

    States are (..., 2): theta, the generator's only parameter, and psi, the discriminator's. There is one equilibrium,
    at 0. Chapter 02, (2.17) to (2.26).

    loss: "saturating" or "non-saturating", the generator's. gamma: weight of the R1 penalty, here gamma/2 psi^2.
    """

    def __init__(self, *, loss: str = "saturating", gamma: float = 0.0) -> None:
        self.discriminator_loss, self.generator_loss = LOSSES[loss]
        self.gamma = gamma

    def velocity(self, state: Tensor) -> Tensor:
        """Minus the gradient of each player's own loss by its own parameter, by autograd, (..., 2)."""
        theta, psi = (part.detach().reshape(-1).requires_grad_() for part in state.unbind(-1))
        games, fake = len(theta), psi * theta  # a mean over the games, times their number, keeps them apart
        d_loss = games * self.discriminator_loss(torch.zeros_like(fake), fake) + 0.5 * self.gamma * psi.square().sum()
        g_loss = games * self.generator_loss(fake)
        (d_psi,) = torch.autograd.grad(d_loss, psi, retain_graph=True)
        (d_theta,) = torch.autograd.grad(g_loss, theta)
        return -torch.stack([d_theta, d_psi], dim=-1).reshape(state.shape)

    def eigenvalues(self, rule: str, step_size: float) -> Tensor:
        """The two complex eigenvalues at the equilibrium of one round of `rule`, "simultaneous" or "alternating"."""
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
