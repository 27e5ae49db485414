"""The equations of chapter 04 against other formulations, and their likely wrong variants against the same tests."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Categorical, MixtureSameFamily, Normal, kl_divergence
from torch.nn.functional import logsigmoid

from minigen.data.batches import Stream
from minigen.nets import DenseDiscriminator, DenseGenerator
from minigen.nets.mlp import mlp
from minigen.objectives import conditional, minimax
from minigen.objectives.conditional import Auxiliary, Conditional
from minigen.train.loop import Run
from minigen.train.optimizers import adam_per_player
from minigen.train.rng import Rng
from minigen.train.schedules import linear_decay

DRAW = torch.Generator().manual_seed(0)
CLASSES, TWIN = torch.randn(2, 6, 3, generator=DRAW, dtype=torch.float64)
LABEL = torch.tensor([0, 2, 1, 1, 0, 2])
REAL, FAKE, WRONG = torch.randn(3, 7, generator=DRAW, dtype=torch.float64)
FLIPS = torch.tensor([[0.8, 0.1, 0.1], [0.3, 0.6, 0.1], [0.2, 0.3, 0.5]], dtype=torch.float64)
PRIOR = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
NORMALS = [Normal(torch.tensor(m, dtype=torch.float64), s) for m, s in ((-1.0, 0.5), (0.0, 1.0), (2.0, 0.7))]


def close(a: Tensor, b: Tensor | float) -> bool:
    return torch.allclose(a, torch.as_tensor(b, dtype=a.dtype), atol=1e-9, rtol=0)


# The classifier's loss, and the twin's.


def classified(loss: Callable[[Tensor, Tensor], Tensor]) -> bool:
    by_hand = -sum(Categorical(logits=row).log_prob(c) for row, c in zip(CLASSES, LABEL, strict=True)) / 6
    return close(loss(CLASSES, LABEL), by_hand)


def test_the_auxiliary_loss_equals_its_definition_and_wrong_variants_do_not() -> None:
    assert classified(conditional.auxiliary_loss)
    hot = torch.nn.functional.one_hot(LABEL, 3).double()
    assert close(conditional.auxiliary_loss(CLASSES, 3.5 * hot), conditional.auxiliary_loss(CLASSES, LABEL))
    for wrong in (
        lambda x, c: -conditional.auxiliary_loss(x, c),
        lambda x, c: 6 * conditional.auxiliary_loss(x, c),  # a sum
        lambda x, c: conditional.auxiliary_loss(x.softmax(1), c),  # the softmax twice
        lambda x, c: -x.softmax(1)[range(6), c].mean(),  # the logarithm lost
        lambda x, c: -x.log_softmax(0)[range(6), c].mean(),  # over the batch
        lambda x, c: -(hot * logsigmoid(x)).sum(1).mean(),  # a sigmoid for each class
    ):
        assert not classified(wrong)


def test_at_its_best_the_classifier_leaves_the_generators_entropy_in_the_loss() -> None:
    """(4.10) on a table of 4 images and 3 labels, every sum by hand: cross-entropy = KL + entropy of q(c | x)."""
    p, q = (t / t.sum() for t in torch.rand(2, 4, 3, generator=DRAW, dtype=torch.float64) + 0.1)
    given = (p / p.sum(1, keepdim=True)).log()  # log p(c | x), as a classifier's logits
    rows = torch.cartesian_prod(torch.arange(4), torch.arange(3))
    counts = (q.flatten() * 10**6).round().long()  # a batch in which every pair occurs as often as q says
    x, c = rows.repeat_interleave(counts, 0).T
    found = conditional.auxiliary_loss(given[x], c)
    kl = sum(q[i].sum() * kl_divergence(Categorical(q[i]), Categorical(p[i])) for i in range(4))
    entropy = sum(q[i].sum() * Categorical(q[i]).entropy() for i in range(4))
    assert found.item() == pytest.approx((kl + entropy).item(), abs=1e-5)
    own = (q / q.sum(1, keepdim=True)).log()
    assert conditional.twin_loss(given[x], own[x], c).item() == pytest.approx(kl.item(), abs=1e-5)
    assert conditional.twin_loss(own[x], own[x], c).item() == 0


def twinned(loss: Callable[[Tensor, Tensor, Tensor], Tensor]) -> bool:
    ratio = [Categorical(logits=t).log_prob(c) - Categorical(logits=x).log_prob(c)
             for x, t, c in zip(CLASSES, TWIN, LABEL, strict=True)]  # fmt: skip
    return close(loss(CLASSES, TWIN, LABEL), sum(ratio) / 6)


def test_the_twin_loss_equals_its_definition_and_wrong_variants_do_not() -> None:
    assert twinned(conditional.twin_loss)
    auxiliary = conditional.auxiliary_loss
    for wrong in (
        lambda x, t, c: auxiliary(x, c),  # no twin
        lambda x, t, c: auxiliary(x, c) + auxiliary(t, c),  # added
        lambda x, t, c: auxiliary(t, c) - auxiliary(x, c),  # swapped
        lambda x, t, c: (t - x)[range(6), c].mean(),  # without normalisers
        lambda x, t, c: conditional.twin_loss(x, t, c) / 2,
    ):
        assert not twinned(wrong)


# Pairs with wrong labels.


def matched(loss: Callable[[Tensor, Tensor, Tensor], Tensor]) -> bool:
    d, g, w = (1 / (1 + torch.exp(-x)) for x in (REAL, FAKE, WRONG))
    return close(loss(REAL, FAKE, WRONG), -(d.log() + 0.5 * (1 - g).log() + 0.5 * (1 - w).log()).mean())


def test_the_matching_aware_loss_equals_its_definition_and_wrong_variants_do_not() -> None:
    loss = conditional.matching_aware_loss
    assert matched(loss)
    for wrong in (
        lambda r, f, w: -loss(r, f, w),
        lambda r, f, w: minimax.discriminator_loss(r, f) - logsigmoid(-w).mean(),  # no halves
        lambda r, f, w: minimax.discriminator_loss(r, f),  # wrong pairs left out
        lambda r, f, w: loss(w, f, r),
        lambda r, f, w: loss(f, r, w),
        lambda r, f, w: -logsigmoid(r).mean() - 0.5 * (logsigmoid(f) + logsigmoid(-w)).mean(),  # log D of the fakes
    ):
        assert not matched(wrong)


def test_the_best_logit_with_wrong_pairs_is_a_stationary_point_of_the_loss() -> None:
    """The loss as a sum over a table of pairs: its slope is 0 at (4.15), and not at what people write instead."""
    p, q, m = (t / t.sum() for t in torch.rand(3, 12, generator=DRAW, dtype=torch.float64) + 0.05)

    def slope(logits: Tensor) -> Tensor:
        free = logits.clone().requires_grad_()
        value = p * logsigmoid(free) + 0.5 * (q + m) * logsigmoid(-free)
        return torch.autograd.grad(value.sum(), free)[0].abs().max()

    best = conditional.matching_aware_logit(p.log(), q.log(), m.log())
    assert slope(best) < 1e-15
    for wrong in (
        minimax.optimal_logit(p.log(), q.log()),  # without wrong pairs
        minimax.optimal_logit(p.log(), (q + m).log()),  # no half
        minimax.optimal_logit(p.log(), 0.5 * (q.log() + m.log())),  # a mean of logarithms
        conditional.matching_aware_logit(m.log(), q.log(), p.log()),  # swapped
        -best,
    ):
        assert slope(wrong) > 1e-3


# Labels that lie.


def lies(function: Callable[[Tensor, Tensor, Tensor], Tensor]) -> bool:
    """Against mixtures of torch.distributions, the weights from the joint table of true and observed labels."""
    x = torch.linspace(-3, 4, 9, dtype=torch.float64)
    found = function(torch.stack([n.log_prob(x) for n in NORMALS], dim=1), FLIPS, PRIOR)
    parts = Normal(torch.stack([n.loc for n in NORMALS]), torch.stack([n.scale for n in NORMALS]))
    for o in range(3):
        weights = torch.stack([PRIOR[c] * FLIPS[c, o] for c in range(3)])
        if not close(found[:, o], MixtureSameFamily(Categorical(weights), parts).log_prob(x)):
            return False
    return True


def test_densities_under_label_noise_are_mixtures_and_wrong_variants_are_not() -> None:
    noisy = conditional.noisy_log_prob
    assert lies(noisy)
    for wrong in (
        lambda x, t, p: noisy(x, t, torch.full_like(p, 1 / 3)),  # no prior
        lambda x, t, p: torch.logsumexp(x[:, :, None] + t.log(), dim=1),  # P(observed | true)
        lambda x, t, p: torch.logsumexp(x[:, :, None] + t.mT.log(), dim=1),
        lambda x, t, p: torch.logsumexp(x[:, :, None] + (p[:, None] * t).log(), dim=1),  # the joint
        lambda x, t, p: x @ (p[:, None] * t / (p[:, None] * t).sum(0)),  # a mean of logarithms
        lambda x, t, p: x,  # as if no label lied
    ):
        assert not lies(wrong)


def test_flipped_labels_have_the_probabilities_of_their_row() -> None:
    label = torch.arange(3).repeat_interleave(60_000)
    seen = conditional.flip_labels(label, FLIPS, torch.rand(len(label), generator=DRAW, dtype=torch.float64))
    share = torch.stack([torch.bincount(seen[label == c], minlength=3) for c in range(3)]) / 60_000
    torch.testing.assert_close(share.double(), FLIPS, atol=0.01, rtol=0)
    edges = torch.tensor([0.0, 0.8, 0.9, 1 - 1e-12], dtype=torch.float64)
    assert conditional.flip_labels(torch.zeros(4, dtype=torch.int64), FLIPS, edges).tolist() == [0, 1, 2, 2]
    never = torch.eye(3)
    assert conditional.flip_labels(LABEL, never, torch.rand(6)).equal(LABEL)


# The objectives.


def networks(**way: object) -> tuple[DenseGenerator, DenseDiscriminator]:
    torch.manual_seed(0)
    made = {"label_dim": 3, **way}
    return DenseGenerator(2, (2,), label_dim=3, hidden=(8,), bounded=False), DenseDiscriminator(
        (2,), hidden=(8,), **made
    )


BATCH = (torch.randn(6, 2, generator=DRAW), LABEL)


def test_the_turns_by_value() -> None:
    game = Conditional(*networks(), r1=0.5)
    (who, loss, logs), (then, g_loss, _) = game.turns(BATCH, Rng(seed=3))
    assert (who, then) == ("discriminator", "generator")
    real = BATCH[0].clone().requires_grad_()
    fake = game.generator(Rng(seed=3).normal(6, 2), LABEL)
    logits = game.discriminator(real, LABEL)
    expected = minimax.discriminator_loss(logits, game.discriminator(fake, LABEL))
    torch.testing.assert_close(loss, expected + 0.5 * minimax.r1_penalty(logits, real))
    torch.testing.assert_close(g_loss, minimax.non_saturating_loss(game.discriminator(fake, LABEL)))
    assert set(logs) == {"logit/real", "logit/fake", "r1"}
    others = game.discriminator(fake, (LABEL + 1) % 3)  # the label is heard
    assert not torch.allclose(g_loss, minimax.non_saturating_loss(others))


def test_a_discriminator_that_does_not_hear_gives_the_game_of_chapter_02() -> None:
    generator, discriminator = networks(label_dim=None)
    game = Conditional(generator, discriminator, hears=False)
    (_, loss, _), (_, g_loss, _) = game.turns(BATCH, Rng(seed=3))
    fake = generator(Rng(seed=3).normal(6, 2), LABEL)
    torch.testing.assert_close(loss, minimax.discriminator_loss(discriminator(BATCH[0]), discriminator(fake)))
    torch.testing.assert_close(g_loss, minimax.non_saturating_loss(discriminator(fake)))


def test_wrong_pairs_are_real_images_with_the_label_of_their_neighbour() -> None:
    game = Conditional(*networks(), mismatched=True)
    _, loss, logs = next(game.turns(BATCH, Rng(seed=3)))
    fake = game.generator(Rng(seed=3).normal(6, 2), LABEL)
    d, x = game.discriminator, BATCH[0]
    wrong = d(x, torch.tensor([2, 0, 2, 1, 1, 0]))
    torch.testing.assert_close(loss, conditional.matching_aware_loss(d(x, LABEL), d(fake, LABEL), wrong))
    torch.testing.assert_close(logs["logit/mismatched"], wrong.mean())


def test_labels_of_fakes_lie_in_both_turns_and_those_of_data_are_left_alone() -> None:
    always = torch.tensor([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]])  # each label is written as the next one
    game = Conditional(*networks(), transition=always)
    (_, loss, _), (_, g_loss, _) = game.turns(BATCH, Rng(seed=3))
    fake = game.generator(Rng(seed=3).normal(6, 2), LABEL)
    told = game.discriminator(fake, (LABEL + 1) % 3)
    torch.testing.assert_close(loss, minimax.discriminator_loss(game.discriminator(*BATCH), told))
    torch.testing.assert_close(g_loss, minimax.non_saturating_loss(told))


def test_the_turns_with_a_classifier_and_with_a_twin() -> None:
    torch.manual_seed(1)
    twin = mlp([2, 8, 3])
    for given in (None, twin):
        generator, discriminator = networks(condition="auxiliary")
        game = Auxiliary(generator, discriminator, weight=2.0, twin=given)
        turns = {who: (loss, logs) for who, loss, logs in game.turns(BATCH, Rng(seed=3))}
        assert list(turns) == ["discriminator", *(["twin"] if given else []), "generator"]
        fake = generator(Rng(seed=3).normal(6, 2), LABEL)
        (real_logits, real_classes), (fake_logits, fake_classes) = map(discriminator.judge, (BATCH[0], fake))
        d_loss = minimax.discriminator_loss(real_logits, fake_logits)
        torch.testing.assert_close(
            turns["discriminator"][0], d_loss + 2 * nn.functional.cross_entropy(real_classes, LABEL)
        )
        term = nn.functional.cross_entropy(fake_classes, LABEL)
        if given:
            torch.testing.assert_close(turns["twin"][0], nn.functional.cross_entropy(twin(fake), LABEL))
            term = term - nn.functional.cross_entropy(twin(fake), LABEL)
        torch.testing.assert_close(turns["generator"][0], minimax.non_saturating_loss(fake_logits) + 2 * term)
        generator.zero_grad()
        turns["discriminator"][0].backward(retain_graph=True)
        assert all(p.grad is None for p in generator.parameters()), "D's turn stops before G"


def three(n: int, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    label = torch.randint(3, (n,), generator=generator)
    centres = torch.tensor([[-1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    return centres[label] + 0.3 * torch.randn(n, 2, generator=generator), label


def centres_of(game: Conditional, network: nn.Module) -> Tensor:
    label = torch.arange(3).repeat(1000)
    x = game.sample(len(label), label, generator=torch.Generator().manual_seed(1), network=network)
    return torch.stack([x[label == c].mean(0) for c in range(3)])


def trained(steps: int = 500, way: str = "projection", **options: object) -> Tensor:
    torch.manual_seed(0)
    generator = DenseGenerator(4, (2,), label_dim=3, hidden=(32,), bounded=False)
    discriminator = DenseDiscriminator((2,), hidden=(32, 32), label_dim=3, condition=way)  # type: ignore[arg-type]
    kind = Auxiliary if way == "auxiliary" else Conditional
    game = kind(generator, discriminator, r1=0.1, **options)  # type: ignore[arg-type]
    run = Run(
        game, adam_per_player(game, 5e-3, betas=(0.0, 0.99)), ema={"generator": 0.99}, schedule=linear_decay(steps)
    )
    for _ in run(Stream(three, batch_size=128), steps):
        pass
    return centres_of(game, run.ema["generator"])


@pytest.mark.parametrize("way", ["projection", "concatenation", "auxiliary"])
def test_a_short_wired_run_puts_each_class_in_its_place(way: str) -> None:
    expected = torch.tensor([[-1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    assert (trained(way=way) - expected).abs().max() < 0.35


def test_it_does_not_where_the_labels_of_the_fakes_are_exchanged() -> None:
    turned = torch.eye(3).roll(1, 1)
    expected = torch.tensor([[-1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    found = trained(transition=turned)
    assert (found - expected).abs().max() > 0.7
    assert (found.roll(1, 0) - expected).abs().max() < 0.35, "the generator undoes the exchange that it is judged by"


def test_wrong_arguments_are_named() -> None:
    generator, discriminator = networks()
    with pytest.raises(ValueError, match="mismatched pairs are for a discriminator that hears"):
        Conditional(generator, discriminator, mismatched=True, hears=False)
    with pytest.raises(ValueError, match=r"with a loss of log D; got 'hinge'"):
        Conditional(generator, discriminator, mismatched=True, loss="hinge")
    with pytest.raises(ValueError, match="rows not negative and of sum 1"):
        Conditional(generator, discriminator, transition=torch.ones(3, 3))
    with pytest.raises(TypeError, match="must say `judge`; got Linear"):
        Auxiliary(generator, nn.Linear(2, 1))
    with pytest.raises(ValueError, match="weight must be"):
        Auxiliary(generator, networks(condition="auxiliary")[1], weight=-1.0)
    with pytest.raises(TypeError, match="class_logits"):
        conditional.auxiliary_loss(torch.zeros(2, 3, dtype=torch.int64), LABEL[:2])
    with pytest.raises(ValueError, match="label"):
        conditional.auxiliary_loss(torch.zeros(6, 2), LABEL)  # class 2 of two
    with pytest.raises(ValueError, match="label"):
        conditional.auxiliary_loss(torch.zeros(4, 3), LABEL)
    with pytest.raises(ValueError, match="prior"):
        conditional.noisy_log_prob(torch.zeros(4, 3), FLIPS, PRIOR[:2])
    with pytest.raises(ValueError, match="log_p_mismatched"):
        conditional.matching_aware_logit(REAL, FAKE, WRONG[:3])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_losses_of_half_precision_logits_are_in_float32(dtype: torch.dtype) -> None:
    found = conditional.auxiliary_loss(CLASSES.to(dtype), LABEL)
    assert found.dtype == torch.float32
    exact = conditional.auxiliary_loss(CLASSES.to(dtype).double(), LABEL)
    assert found.item() == pytest.approx(exact.item(), rel=1e-5)


def test_the_value_where_nobody_can_tell_and_class_minus_one_says_nothing() -> None:
    zeros = torch.zeros(4)
    assert conditional.matching_aware_loss(zeros, zeros, zeros).item() == pytest.approx(math.log(4))
    generator, discriminator = networks()
    x, nothing = torch.randn(4, 2), torch.full((4,), -1)
    torch.testing.assert_close(discriminator(x, nothing), discriminator(x, torch.zeros(4, 3)))
    torch.testing.assert_close(generator(x, nothing), generator(x, torch.zeros(4, 3)))
