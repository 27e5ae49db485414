"""Encoders of words and images and the captioner: structure by derivatives, in float64, and laws that sum to one."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor, nn

from minigen.data.vocabulary import BOS, EOS, PAD
from minigen.nets.attention import record_attention
from minigen.nets.pixel_transformer import PixelTransformer
from minigen.nets.text import Captioner, ImageEncoder, Prompted, PromptedPixels, TextEncoder
from minigen.objectives.captioning import caption_log_prob

pytestmark = pytest.mark.usefixtures("float64")

TOKENS = torch.tensor([[1, 3, 5, 4, 2], [1, 4, 2, 0, 0], [1, 2, 0, 0, 0]])


def reader(**settings) -> TextEncoder:
    return TextEncoder(6, length=7, **({"width": 8, "blocks": 2, "heads": 2} | settings))


def eye(shape=(3, 8, 12), **settings) -> ImageEncoder:
    return ImageEncoder(shape, **({"width": 8, "heads": 2} | settings))


def talker(length: int = 6, tokens: int = 6, **settings) -> Captioner:
    return Captioner(eye(**settings), tokens, length=length, blocks=2, heads=2)


def test_padding_changes_nothing_and_every_word_something() -> None:
    net = reader()
    found = net(TOKENS)
    assert (found.tokens.shape, found.pooled.shape) == ((3, 5, 8), (3, 8))
    longer = net(torch.cat([TOKENS, torch.zeros(3, 2, dtype=torch.int64)], dim=1))
    torch.testing.assert_close(longer.pooled, found.pooled)
    torch.testing.assert_close(longer.tokens[:, :5], found.tokens)
    assert (longer.tokens[:, 5:] == 0).all()
    alone = net(TOKENS[1:2, :3])
    torch.testing.assert_close(alone.pooled, found.pooled[1:2])
    for place in (1, 2, 3):
        other = TOKENS[:1].clone()
        other[0, place] = 3 if TOKENS[0, place] != 3 else 4
        assert (net(other).tokens - found.tokens[:1]).abs().amin(dim=(0, 2)).max() > 1e-6
        assert (net(other).tokens - found.tokens[:1])[0].norm(dim=1).min() > 1e-9  # all see all
    swapped = net(TOKENS[:1, [0, 2, 1, 3, 4]])
    assert (swapped.pooled - found.pooled[:1]).abs().max() > 1e-3, "the order of the words counts"


def test_the_pooled_vector_is_the_mean_over_the_tokens_of_the_caption() -> None:
    found = reader()(TOKENS)
    for row, tokens in enumerate(TOKENS):
        own = found.tokens[row, : int((tokens != PAD).sum())]
        torch.testing.assert_close(found.pooled[row], own.mean(0))


def test_image_tokens_stand_in_raster_order() -> None:
    net, x = eye(num_downsamples=1, blocks=1), torch.randn(2, 3, 8, 12, requires_grad=True)
    found = net(x)
    assert (found.tokens.shape, found.pooled.shape, net.grid) == ((2, 24, 8), (2, 8), (4, 6))
    (slope,) = torch.autograd.grad(found.tokens[0, 1 * 6 + 4].square().sum(), x)
    rows, columns = slope[0].abs().sum(0).nonzero().T
    assert (slope[1] == 0).all()
    assert columns.min() >= 8 - 5  # the token at row 1, column 4 sees little of the left
    assert {(2, 8), (3, 9)} <= set(zip(rows.tolist(), columns.tolist(), strict=True))


def test_pooling_does_not_ask_where() -> None:
    """A learnt query looks at a set: the order of the tokens does not count."""
    net, x = eye(), torch.randn(2, 3, 8, 12)
    tokens = net(x).tokens
    mixed = tokens[:, torch.randperm(24)]
    looked = [net.pool(net.query.expand(2, -1, -1), t)[:, 0] for t in (tokens, mixed)]
    torch.testing.assert_close(looked[0], looked[1])
    torch.testing.assert_close(looked[0], net(x).pooled)


@pytest.mark.parametrize("num_downsamples", [1, 2])
def test_the_scale_of_the_tokens_is_one_at_the_start(num_downsamples: int) -> None:
    net = ImageEncoder((3, 12, 12), width=64, num_downsamples=num_downsamples, blocks=3)
    raw = net.net(torch.randn(200, 3, 12, 12))
    assert 0.4 < raw.std().item() < 2.5


def test_a_next_word_depends_on_the_words_before_and_the_image_alone() -> None:
    net, x = talker(), torch.randn(1, 3, 8, 12)
    seen = net.see(x)
    tokens = torch.tensor([[BOS, 3, 4, 5]])
    before = net.next_words(tokens, seen)
    for place in range(1, 4):
        other = tokens.clone()
        other[0, place] = 3 if tokens[0, place] != 3 else 4
        moved = (net.next_words(other, seen) - before)[0].nan_to_num().abs().sum(1) > 1e-12
        assert moved.tolist() == [t >= place for t in range(4)]
    features = seen.clone().requires_grad_()
    for t in range(4):
        (slope,) = torch.autograd.grad(net.next_words(tokens, features)[0, t, EOS:].sum(), features)
        assert (slope.abs().sum(2) > 0).all(), "every word looks at every place of the image"


def test_the_captions_that_fit_have_probabilities_that_sum_to_one() -> None:
    """Up to three words out of two: 1 + 2 + 4 + 8 captions, and no room for more."""
    net, x = talker(length=5, tokens=5), torch.randn(3, 3, 8, 12)
    rows = [[BOS, *words, EOS] for n in range(4) for words in itertools.product((3, 4), repeat=n)]
    tokens = torch.tensor([row + [PAD] * (5 - len(row)) for row in rows])
    assert len(tokens) == 15
    for image in x:
        log_p = caption_log_prob(net(tokens, image.expand(15, -1, -1, -1)), tokens)
        assert log_p.exp().sum().item() == pytest.approx(1, abs=1e-12)
    cut = net.next_words(tokens[:, :2], net.see(x[:1]).expand(15, -1, -1))  # not at the last place: the end is a choice
    assert (cut[:, -1].softmax(1)[:, EOS] < 1).all()


def test_what_is_no_word_is_never_next() -> None:
    net = talker()
    p = net(TOKENS, torch.randn(3, 3, 8, 12)).softmax(2)
    assert p.shape == (3, 4, 6)
    assert (p[..., [PAD, BOS]] == 0).all()
    assert (p[..., EOS:] > 0).all()


@pytest.mark.parametrize("make", [reader, eye, talker])
def test_every_parameter_gets_a_gradient(make) -> None:
    torch.manual_seed(3)
    net, x = make(), torch.randn(3, 3, 8, 12)
    long = torch.tensor([[1, 3, 4, 5, 3, 2], [1, 4, 3, 2, 0, 0], [1, 5, 4, 3, 4, 2]])
    if make is talker:
        loss = -caption_log_prob(net(long, x), long).sum()
        unused = {"images.query", "images.pool.query.weight", "images.pool.key_value.weight", "images.pool.out.weight"}
    else:
        found = net(x) if make is eye else net(torch.cat([long, torch.zeros(3, 1, dtype=torch.int64)], dim=1))
        loss, unused = (found.tokens.pow(3).sum() + found.pooled.pow(3).sum()), set()
    loss.backward()
    for name, p in net.named_parameters():
        assert (p.grad is not None and p.grad.abs().sum() > 0) != (name in unused), name


def test_a_captioner_looks_at_the_image_before_its_words_look_at_each_other() -> None:
    """Its formula with random weights; the other orders, and a look that is not normalised, are told apart."""
    net, seen = talker(), torch.randn(3, 24, 8)
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.4)

    def logits(order: str) -> Tensor:
        h = net.word(TOKENS[:, :-1]) + net.place(torch.arange(4))
        for norm, look, block in zip(net.norms, net.looks, net.blocks, strict=True):
            if order == "look, words, mlp":
                h = h + look(norm(h), seen)
                h = h + block.attention(block.norm_attention(h))
            elif order == "words, look, mlp":
                h = h + block.attention(block.norm_attention(h))
                h = h + look(norm(h), seen)
            else:
                h = h + look(h, seen)
                h = h + block.attention(block.norm_attention(h))
            h = h + block.mlp(block.norm_mlp(h))
        return net.last(net.norm(h))[..., EOS:]

    found = net.next_words(TOKENS[:, :-1], seen)[..., EOS:]
    torch.testing.assert_close(found, logits("look, words, mlp"), atol=1e-11, rtol=0)
    for wrong in ("words, look, mlp", "look on raw words"):
        assert (found - logits(wrong)).abs().max() > 1e-2, wrong


class Records(nn.Module):
    """Keeps what it was given after the image."""

    def forward(self, x: Tensor, *given: Tensor) -> Tensor:
        self.given = given
        return x


def test_a_caption_is_given_with_both_its_ends_and_without_its_padding() -> None:
    net, words = Records(), reader()
    Prompted(net, words)(torch.randn(3, 1, 2, 2), torch.zeros(3), TOKENS)
    level, pooled, tokens, mask = net.given
    assert mask.tolist() == [[True] * 5, [True, True, True, False, False], [True, True, False, False, False]]
    assert {BOS, EOS} <= set(TOKENS[mask].tolist())
    assert PAD not in TOKENS[mask]
    assert torch.equal(tokens, words(TOKENS).tokens)
    assert torch.equal(pooled, words(TOKENS).pooled)
    assert torch.equal(level, torch.zeros(3))


def test_a_cached_pass_for_captions_gives_the_logits_of_the_whole() -> None:
    net = PromptedPixels(PixelTransformer(3, size=(3, 4), width=8, blocks=2, heads=2, context_dim=8), reader())
    x = torch.randint(3, (3, 1, 3, 4))
    whole, cache = net(x, TOKENS).detach(), net.init_cache(3, 3, 4, TOKENS)
    for row, column in itertools.product(range(3), range(4)):
        torch.testing.assert_close(cache.logits(row, column).detach(), whole[:, :, row, column], atol=1e-12, rtol=0)
        cache.append(x[:, 0, row, column], row, column)
    assert (whole[0] - whole[1]).abs().amax(0).min() > 1e-4, "and the captions matter at every pixel"
    pooled = net.words(TOKENS).pooled
    torch.testing.assert_close(whole, net.net(x, pooled).detach())
    assert (pooled - net.words(TOKENS).tokens[:, 0]).abs().max() > 1e-2, "the mean of the words, not the first"


def test_what_words_look_at_can_be_watched() -> None:
    net, x = talker(), torch.randn(3, 3, 8, 12)
    with record_attention(net) as weights:
        net(TOKENS, x)
    assert {"looks.0", "looks.1"} <= weights.keys()
    for name in ("looks.0", "looks.1"):
        assert weights[name].shape == (3, 2, 4, 24)
        torch.testing.assert_close(weights[name].sum(3), torch.ones(3, 2, 4))


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: reader()(torch.ones(2, 8, dtype=torch.int64)), r"T in 1\.\.7; got torch.int64 \(2, 8\)"),
        (lambda: reader()(torch.ones(2, 3)), r"tokens must be int64 \(B, T\)"),
        (lambda: eye()(torch.zeros(1, 3, 12, 8)), r"images must be \(B, 3, 8, 12\); got \(1, 3, 12, 8\)"),
        (lambda: eye(num_downsamples=3), "multiples of 8; got 8, .8, 12."),
        (lambda: talker().next_words(torch.ones(1, 6, dtype=torch.int64), torch.zeros(1, 24, 8)), r"T in 1\.\.5"),
    ],
)
def test_errors_say_what_was_given(call, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        call()


def test_training_a_captioner_of_two_words_comes_down_to_its_floor() -> None:
    """One noisy pixel says which of two words; the floor is the entropy of the word given the pixel."""
    torch.set_default_dtype(torch.float32)
    torch.manual_seed(0)
    net = Captioner(ImageEncoder((1, 4, 4), width=8, blocks=1, heads=1), 5, length=3, blocks=1, heads=1)
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)

    def draw(n: int) -> tuple[Tensor, Tensor]:
        word = torch.randint(2, (n,))
        x = (2.0 * word - 1)[:, None, None, None] + torch.randn(n, 1, 1, 1)
        tokens = torch.stack([torch.full((n,), BOS), 3 + word, torch.full((n,), EOS)], dim=1)
        return x.expand(n, 1, 4, 4).contiguous(), tokens

    for _ in range(200):
        x, tokens = draw(128)
        optimizer.zero_grad()
        (-caption_log_prob(net(tokens, x), tokens).mean()).backward()
        optimizer.step()
    x, tokens = draw(20_000)
    with torch.no_grad():
        nll = -caption_log_prob(net(tokens, x), tokens).mean().item()
    log_odds = 2 * x[:, 0, 0, 0].double()
    p = torch.sigmoid(log_odds)
    floor = (torch.special.entr(p) + torch.special.entr(1 - p)).mean().item()
    assert 0.3 < floor < 0.4 < math.log(2)
    assert abs(nll - floor) < 0.02
