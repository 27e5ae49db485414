"""The objectives of chapter 05: turns by value, what is frozen, and that the matcher's term does what it is for."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence
from torch.nn.functional import avg_pool2d, cosine_similarity

from minigen.nets import ConvDiscriminator, DenseDiscriminator, RegionEncoder, TextEncoder, WordGenerator
from minigen.objectives import minimax, words
from minigen.objectives.conditional import matching_aware_loss
from minigen.objectives.words import DAMSM, AttnGAN, WordMatcher
from minigen.train.loop import Run
from minigen.train.optimizers import adam_per_player
from minigen.train.rng import Rng

DRAW = torch.Generator().manual_seed(0)
TOKENS = torch.tensor([[1, 3, 4, 2, 0], [1, 5, 2, 0, 0], [1, 4, 3, 5, 2], [1, 5, 2, 0, 0]])
IMAGES = torch.randn(4, 3, 8, 8, generator=DRAW)


def matcher(**gammas: float) -> WordMatcher:
    torch.manual_seed(0)
    return WordMatcher(RegionEncoder((3, 8, 8), width=8), TextEncoder(6, length=5, width=12, blocks=1), **gammas)


def test_the_matchers_loss_is_that_of_words_and_sentences_where_the_words_alone_count() -> None:
    model = matcher(gamma1=2.0, gamma2=3.0, gamma3=4.0)
    ((player, loss, logs),) = DAMSM(model).turns((IMAGES, TOKENS), Rng())
    assert player == "model"
    seen, read = model.images(IMAGES), model.captions(TOKENS)
    mask = torch.tensor([[0, 1, 1, 0, 0], [0, 1, 0, 0, 0], [0, 1, 1, 1, 0], [0, 1, 0, 0, 0]]).bool()
    regions, whole = seen.tokens @ model.from_regions.weight.mT, seen.pooled @ model.from_images.weight.mT
    by_words = words.matching_score(read.tokens, regions, gamma1=2.0, gamma2=3.0, mask=mask)
    by_sentences = cosine_similarity(whole[:, None], read.pooled[None], dim=2)
    same = torch.eye(4).bool()
    same[1, 3] = same[3, 1] = True
    torch.testing.assert_close(logs["words"], words.matching_loss(by_words, gamma3=4.0, same=same))
    torch.testing.assert_close(logs["sentences"], words.matching_loss(by_sentences, gamma3=4.0, same=same))
    torch.testing.assert_close(loss, logs["words"] + logs["sentences"])
    maps = model.word_maps(IMAGES, TOKENS)
    torch.testing.assert_close(maps, words.region_context(read.tokens, regions, gamma1=2.0, mask=mask)[1])


def test_similarities_begin_with_variance_one() -> None:
    torch.manual_seed(1)
    model = WordMatcher(RegionEncoder((3, 8, 8), width=64), TextEncoder(20, length=8, width=48, blocks=0))
    tokens = torch.randint(3, 20, (64, 8), generator=DRAW)
    e, v = model.read(tokens).words, model.look(torch.randn(64, 3, 8, 8, generator=DRAW)).tokens
    assert 0.7 < torch.einsum("btd,bnd->btn", e, v).std().item() < 1.5


def game(**options: object) -> AttnGAN:
    torch.manual_seed(2)
    generator = WordGenerator(4, (3, 8, 8), word_dim=12, condition=3, stages=2, width=8)
    with torch.no_grad():
        generator.augment.net.weight.normal_(std=0.2)
    judges = [
        DenseDiscriminator((3, 4, 4), hidden=(16,), label_dim=12),
        ConvDiscriminator((3, 8, 8), width=8, label_dim=12),
    ]
    return AttnGAN(generator, judges, matcher(), **options)  # type: ignore[arg-type]


def painted(play: AttnGAN) -> tuple[tuple[Tensor, ...], Tensor, Tensor]:
    """Images of both sizes by hand, the KL by torch.distributions, and the sentences."""
    read = play.matcher.captions(TOKENS)
    sentence = torch.stack([row / (sum(v**2 for v in row.tolist()) / len(row)) ** 0.5 for row in read.pooled])
    z = Rng(seed=3).normal(4, 7)
    mean, log_std = (sentence @ play.generator.augment.net.weight.mT).chunk(2, 1)
    latent = torch.cat([z[:, :4], mean + log_std.exp() * z[:, 4:]], 1)
    kl = kl_divergence(Normal(mean, log_std.exp()), Normal(0.0, 1.0)).sum(1)
    return play.generator(latent, read.tokens, TOKENS > 2), kl, sentence


def bce(logits: Tensor, target: float) -> Tensor:
    return nn.functional.binary_cross_entropy_with_logits(logits, torch.full_like(logits, target))


@pytest.mark.parametrize("mismatched", [False, True])
def test_the_turns_by_value(mismatched: bool) -> None:
    play = game(weight=0.7, kl=0.3, mismatched=mismatched)
    (who, loss, logs), (then, g_loss, g_logs) = play.turns((IMAGES, TOKENS), Rng(seed=3))
    assert (who, then) == ("discriminator", "generator")
    fakes, kl, sentence = painted(play)
    expected = asked = torch.zeros(())
    for judge, fake, real in zip(play.discriminator, fakes, (avg_pool2d(IMAGES, 2), IMAGES), strict=True):
        alone, paired = zip(*(judge.pair(x, sentence).unbind(1) for x in (real, fake)), strict=True)
        expected = expected + (bce(alone[0], 1) + bce(alone[1], 0)) / 2  # eq. 5
        both = bce(paired[0], 1) + bce(paired[1], 0)
        if mismatched:
            wrong = judge(real, sentence[[3, 0, 1, 2]])
            both = matching_aware_loss(*paired, wrong)
        expected = expected + both / 2
        asked = asked + (bce(alone[1], 1) + bce(paired[1], 1)) / 2  # eq. 4
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(logs["logit/real"], paired[0].mean())
    torch.testing.assert_close(logs["logit/fake"], paired[1].mean())
    match = sum(play.matcher.losses(play.matcher.look(fakes[-1]), play.matcher.read(TOKENS)))
    torch.testing.assert_close(g_loss, asked + 0.7 * match + 0.3 * kl.mean())  # eq. 3
    torch.testing.assert_close(g_logs["match"], match)
    torch.testing.assert_close(g_logs["kl"], kl.mean())


def test_sentences_are_as_long_as_the_noise_beside_them_whatever_the_matchers_are(monkeypatch) -> None:
    """Scores are cosines, so a matcher's sentences may have any length; the game must not depend on it."""
    play, longer = game(), game()
    read = longer.matcher.read
    monkeypatch.setattr(longer.matcher, "read", lambda t: read(t)._replace(sentence=7.0 * read(t).sentence))
    mine, other = play.read(TOKENS), longer.read(TOKENS)
    torch.testing.assert_close(other.sentence, mine.sentence)
    torch.testing.assert_close(mine.sentence.square().mean(1), torch.ones(len(TOKENS)))
    assert torch.equal(mine.words, play.matcher.read(TOKENS).words)
    losses = [[loss.item() for _, loss, _ in g.turns((IMAGES, TOKENS), Rng(seed=3))] for g in (play, longer)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_the_penalty_is_of_both_sizes_by_the_real_images() -> None:
    play, plain = game(r1=0.5), game()
    loss, bare = (next(g.turns((IMAGES, TOKENS), Rng(seed=3)))[1] for g in (play, plain))
    _, _, sentence = painted(play)
    penalty = torch.zeros(())
    for judge, x in zip(play.discriminator, (avg_pool2d(IMAGES, 2), IMAGES), strict=True):
        x = x.clone().requires_grad_()
        penalty = penalty + minimax.r1_penalty(judge(x, sentence), x)
    torch.testing.assert_close(loss - bare, 0.5 * penalty)


def test_the_matcher_is_a_frozen_copy_no_player_and_passes_gradients_to_the_images() -> None:
    given = matcher()
    play = game()
    assert set(adam_per_player(play, 1e-3)) == {"generator", "discriminator"}
    assert all(not p.requires_grad for p in play.matcher.parameters())
    assert all(p.requires_grad for p in given.parameters())
    before = [p.clone() for p in play.matcher.parameters()]
    run = Run(play, adam_per_player(play, 1e-2), ema={"generator": 0.9})
    list(run([(IMAGES, TOKENS)], 3))
    assert all(torch.equal(a, b) for a, b in zip(before, play.matcher.parameters(), strict=True))
    x = play.sample(4, TOKENS, generator=torch.Generator().manual_seed(0), network=run.ema["generator"])
    assert x.shape == (4, 3, 8, 8)
    again = play.sample(4, TOKENS, generator=torch.Generator().manual_seed(0), network=run.ema["generator"])
    assert torch.equal(x, again)


def test_a_generator_draws_what_the_matcher_asks_for() -> None:
    """Three colours, named. The matcher is trained first and finds each picture's name; then its term outweighs all."""
    colours = torch.tensor([[0.8, -0.8, -0.8], [-0.8, 0.8, -0.8], [-0.8, -0.8, 0.8]])
    tokens = torch.tensor([[1, 3, 2, 0, 0], [1, 4, 2, 0, 0], [1, 5, 2, 0, 0]]).repeat(4, 1)
    noise = torch.randn(12, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    images = colours.repeat(4, 1)[:, :, None, None] + 0.1 * noise
    damsm = DAMSM(matcher(gamma3=3.0))
    run = Run(damsm, adam_per_player(damsm, 1e-2))
    *_, last = run([(images, tokens)], 40)
    assert last.read()["words"] < 0.3  # of 2 log 3 = 2.2
    torch.manual_seed(0)
    play = AttnGAN(
        WordGenerator(4, (3, 8, 8), word_dim=12, condition=3, stages=1, width=8),
        [ConvDiscriminator((3, 8, 8), width=8, label_dim=12)],
        damsm.model,
        weight=20.0,
        kl=0.1,
    )
    run = Run(play, adam_per_player(play, 5e-3, betas=(0.5, 0.99)))
    *_, last = run([(images, tokens)], 150)
    assert last.read()["match"] < 1.5
    x = play.sample(12, tokens, generator=torch.Generator().manual_seed(0))
    seen, read = play.matcher.look(x), play.matcher.read(tokens[:3])
    assert (play.matcher.word_scores(seen, read).argmax(1) == torch.arange(12) % 3).double().mean() > 0.9


def test_wrong_arguments_are_named() -> None:
    for wrong, kind, says in (
        (lambda: game(weight=-1.0), ValueError, "weight"),
        (lambda: game(kl=-1.0), ValueError, "kl"),
        (lambda: game(mismatched=True, loss="hinge"), ValueError, "with a loss of log D"),
        (lambda: AttnGAN(WordGenerator(2, (3, 8, 8), word_dim=12), [nn.Linear(2, 1)], matcher()), TypeError, "`pair`"),
        (lambda: next(game().turns((IMAGES[:, :, :4], TOKENS), Rng())), ValueError, "largest images"),
    ):
        with pytest.raises(kind, match=says):
            wrong()
