"""The conditional game (chapter 04): a generator that is asked for something, and a discriminator that hears what.

The value is that of chapter 02 over pairs: V(D, G) = E log D(x, c) + E log(1 - D(G(z, c), c)), with c drawn as in the
data. `minimax.value`, its losses and `minimax.optimal_logit` serve unchanged; here is what a label adds. Classes are
int64 (B,); logits of classes (B, K); all losses are means over the batch in nats.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from minigen.data.checks import need_entry, need_float, need_number, need_same, need_shape
from minigen.objectives import minimax
from minigen.objectives.minimax import Minimax
from minigen.train.distributed import rolled
from minigen.train.loop import Turn
from minigen.train.rng import Rng
from minigen.worlds.precision import widen


def auxiliary_loss(class_logits: Tensor, label: Tensor) -> Tensor:
    """-E log C(c | x) of a classifier's logits (B, K). Odena et al. 2017, section 4; chapter 04, (4.10).

    label: classes, int64 (B,), or one-hots (B, K) of any positive scale. The classifier learns by it from real images,
    the generator from its own, and then it leaves out the generator's H(c | x): see `twin_loss`.
    """
    need_float("class_logits", class_logits, todo="a classifier gives logits")
    need_shape("class_logits", class_logits, "B", "K")
    if label.is_floating_point():
        need_same("label", label, "class_logits", class_logits)
        label = label.argmax(1)
    need_shape("label", label, len(class_logits))
    need_entry("the classes of a label", label, class_logits.shape[1])
    return cross_entropy(widen(class_logits), label)


def twin_loss(class_logits: Tensor, twin_logits: Tensor, label: Tensor) -> Tensor:
    """E log C'(c | x) - E log C(c | x) on generated images: the term of the generator with a twin C' trained on those.

    With both classifiers at their best it is E KL(q(c | x) || p(c | x)): never negative, and 0 where the generator's
    classes overlap as those of the data do. Gong et al. 2019, section 3; chapter 04, (4.12).
    """
    return auxiliary_loss(class_logits, label) - auxiliary_loss(twin_logits, label)


def matching_aware_loss(real_logits: Tensor, fake_logits: Tensor, mismatched_logits: Tensor) -> Tensor:
    """-E log D(x, c) - 1/2 E log(1 - D(G(z, c), c)) - 1/2 E log(1 - D(x, c')): real images with wrong labels are fakes.

    Reed et al. 2016, Algorithm 1; chapter 04, before (4.15).
    """
    both = minimax.value(real_logits, fake_logits) + minimax.value(real_logits, mismatched_logits)
    return -0.5 * both


def matching_aware_logit(log_p_data: Tensor, log_p_model: Tensor, log_p_mismatched: Tensor) -> Tensor:
    """The best logit for that loss, log p - log((q + m) / 2); log-densities of one shape. Chapter 04, (4.15).

    m is the density of the data's images beside wrong labels.
    """
    need_same("log_p_mismatched", log_p_mismatched, "log_p_data", log_p_data)
    half = torch.logaddexp(log_p_model, log_p_mismatched) - math.log(2)
    return minimax.optimal_logit(log_p_data, half)


def noisy_log_prob(log_prob: Tensor, transition: Tensor, prior: Tensor) -> Tensor:
    """log p(x | observed label), (B, K), from log p(x | true label), (B, K), under label noise. Chapter 04, (4.13).

    p(x | o) = sum_c P(c | o) p(x | c). transition: (K, K), P(observed | true), each row of sum 1. prior: (K,), of the
    true labels. Thekumparampil et al. 2018, section 2.
    """
    need_shape("log_prob", log_prob, "B", "K")
    _need_transition(transition, log_prob.shape[1])
    need_shape("prior", prior, log_prob.shape[1])
    joint = prior[:, None] * transition  # P(true, observed)
    cause = joint / joint.sum(0, keepdim=True)  # P(true | observed), its columns sum to 1
    return torch.logsumexp(log_prob[:, :, None] + cause.log(), dim=1)


def flip_labels(label: Tensor, transition: Tensor, uniform: Tensor) -> Tensor:
    """Observed classes, int64 (B,), of true ones under P(observed | true), (K, K); uniform: numbers in [0, 1), (B,)."""
    _need_transition(transition, transition.shape[-1])
    need_entry("the classes of a label", label, len(transition))
    need_shape("uniform", uniform, len(label))
    edges = transition.to(uniform).cumsum(1)[label]  # (B, K)
    return (uniform[:, None] >= edges[:, :-1]).sum(1)


def _need_transition(transition: Tensor, classes: int) -> None:
    need_shape("transition", transition, classes, classes)
    if (transition < 0).any() or not torch.allclose(transition.sum(1), torch.ones_like(transition[:, 0]), atol=1e-5):
        raise ValueError("transition must hold P(observed | true), its rows not negative and of sum 1")


class Conditional(Minimax):
    """The game over pairs (x, c), its fakes made for the labels of the batch. Mirza and Osindero 2014, eq. 2.

    A batch is (x, label). generator: (latent (B, latent), label) to samples; it says its `latent` size. discriminator:
    (samples, label) to logits (B,). loss, r1: as for `Minimax`.

    hears: whether the discriminator is given the label; off, only the generator is, which then may ignore it.
    mismatched: show it real images with the label of their neighbour in the batch as fakes: `matching_aware_loss`. The
    batch is that of all processes.
    transition: (K, K), P(observed | true) of labels that lie: the labels of fakes are passed through the same noise
    before the discriminator sees them (Thekumparampil et al. 2018), so that G learns the true ones.

    Logs: as `Minimax`; "logit/mismatched" besides.

    >>> from minigen.nets import DenseDiscriminator, DenseGenerator
    >>> from minigen.train import Rng
    >>> game = Conditional(DenseGenerator(2, (2,), label_dim=3), DenseDiscriminator((2,), label_dim=3))
    >>> [turn[0] for turn in game.turns((torch.randn(6, 2), torch.arange(6) % 3), Rng())]
    ['discriminator', 'generator']
    >>> game.sample(3, torch.tensor([0, 0, 2]), generator=torch.Generator().manual_seed(0)).shape
    torch.Size([3, 2])
    """

    transition: Tensor | None

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        *,
        loss: str = "non-saturating",
        r1: float = 0.0,
        hears: bool = True,
        mismatched: bool = False,
        transition: Tensor | None = None,
    ) -> None:
        super().__init__(generator, discriminator, loss=loss, r1=r1)
        if mismatched and (not hears or loss not in ("saturating", "non-saturating")):
            raise ValueError(
                f"mismatched pairs are for a discriminator that hears the label, with a loss of log D; got {loss!r}"
            )
        if transition is not None:
            _need_transition(transition, len(transition))
        self.hears, self.mismatched = hears, mismatched
        self.register_buffer("transition", transition, persistent=False)

    def logits(self, x: Tensor, label: Tensor) -> Tensor:
        """What the discriminator says of pairs, (B,)."""
        found: Tensor = self.discriminator(x, label) if self.hears else self.discriminator(x)
        return found

    def turns(  # type: ignore[override]
        self, batch: tuple[Tensor, Tensor], rng: Rng
    ) -> Iterator[tuple[str, Tensor, dict[str, Tensor]]]:
        real, label = batch
        need_float("real samples", real)
        fake = self.generator(rng.normal(len(real), self.latent), label)
        need_shape("the generator's samples", fake, *real.shape)
        said = label if self.transition is None else flip_labels(label, self.transition, rng.uniform(len(label)))
        real, real_logits = self.judge_real(real, lambda x: self.logits(x, label))
        fake_logits = self.logits(fake.detach(), said)
        logs = {"logit/real": real_logits.mean(), "logit/fake": fake_logits.mean()}
        if self.mismatched:
            wrong = self.logits(real.detach(), rolled(label))
            logs["logit/mismatched"] = wrong.mean()
            loss = matching_aware_loss(real_logits, fake_logits, wrong)
        else:
            loss = self.discriminator_loss(real_logits, fake_logits)
        yield "discriminator", self.with_r1(loss, logs, real_logits, real), logs

        yield "generator", self.generator_loss(self.logits(fake, said)), {}  # the discriminator has moved


class Auxiliary(Conditional):
    """A classifier beside a discriminator that does not hear the label. Odena et al. 2017, section 4.

    discriminator: says `judge(x)`, logits of being real (B,) and of the classes (B, K). The classifier learns from real
    images alone, so that it tends to p(c | x); Odena et al. train it on generated ones, too.
    weight: of the classifier's term for both players.
    twin: a classifier of generated images, logits (B, K), and a player of its own: with it the generator minimises
    `twin_loss` (Gong et al. 2019).

    Logs: as `Minimax`; "class/real" and "class/fake", cross-entropies in nats.
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        *,
        weight: float = 1.0,
        twin: nn.Module | None = None,
        loss: str = "non-saturating",
        r1: float = 0.0,
    ) -> None:
        super().__init__(generator, discriminator, loss=loss, r1=r1)
        need_number("weight", weight, low=0)
        if not hasattr(discriminator, "judge"):
            raise TypeError(f"the discriminator must say `judge`; got {type(discriminator).__name__} without it")
        self.weight, self.twin = weight, twin

    def turns(self, batch: tuple[Tensor, Tensor], rng: Rng) -> Iterator[Turn]:  # type: ignore[override]
        real, label = batch
        need_float("real samples", real)
        fake = self.generator(rng.normal(len(real), self.latent), label)
        need_shape("the generator's samples", fake, *real.shape)
        judge: Callable[[Tensor], tuple[Tensor, Tensor]] = self.discriminator.judge  # type: ignore[assignment]
        real, (real_logits, real_classes) = self.judge_real(real, judge)
        fake_logits, _ = judge(fake.detach())
        logs = {"logit/real": real_logits.mean(), "logit/fake": fake_logits.mean()}
        logs["class/real"] = auxiliary_loss(real_classes, label)
        loss = self.discriminator_loss(real_logits, fake_logits) + self.weight * logs["class/real"]
        yield "discriminator", self.with_r1(loss, logs, real_logits, real), logs

        if self.twin is not None:
            yield "twin", auxiliary_loss(self.twin(fake.detach()), label), {}

        fake_logits, fake_classes = judge(fake)
        term = auxiliary_loss(fake_classes, label)
        if self.twin is not None:
            term = twin_loss(fake_classes, self.twin(fake), label)
        yield "generator", self.generator_loss(fake_logits) + self.weight * term, {"class/fake": term}
