"""Emoji and their names: which words are known, by counting; what is judged; and that a batch keeps pairs together."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from minigen import data
from minigen.recipes.contrastive import EMOJI
from minigen.tasks.emoji import NamedEmoji

pytest.importorskip("PIL")


def test_a_word_is_known_where_two_emoji_of_two_artists_bear_it() -> None:
    train, known = data.emoji(), EMOJI.vocabulary.words
    for word in ("face", "curly", "motorized", "wheelchair", "afraid", "ghost", "pig", "of"):
        bearers = sum(word in [part.strip(":,*") for part in name.split()] for name in train.names)
        assert (word in known) == (bearers >= 2), word
    assert len(known) == 404  # and <unk>
    assert "<unk>" in known
    assert not any(mark in word for word in known for mark in ":,*")


def test_names_become_tokens_with_unk_for_what_is_not_known() -> None:
    names = ["man: curly hair", "haunted ghost", "keycap: *"]
    tokens = EMOJI.encode(names)
    assert tokens.shape == (3, 13)
    assert EMOJI.vocabulary.decode(tokens) == ["man curly hair", "<unk> <unk>", "keycap <unk>"]
    assert EMOJI.encode(data.emoji(split="all").names).shape == (1635, 13)


def test_what_is_judged_is_unseen_and_of_known_words() -> None:
    unseen = data.emoji(split="test")
    assert len(EMOJI.judged) == len(set(EMOJI.captions)) == 48
    unknown = EMOJI.encode(["ghost"])[0, 1]
    tokens = EMOJI.encode(unseen.names)
    assert torch.equal((tokens != unknown).all(1).nonzero().flatten(), EMOJI.judged)
    assert torch.equal(EMOJI.tokens, tokens[EMOJI.judged])
    assert not set(EMOJI.captions) & set(data.emoji().names)
    pairs = EMOJI.test_pairs(100)
    for row in (0, 47, 48, 95, 96, 99):
        style = ("twemoji", "noto")[row // 48 % 2]
        picture = data.to_float(data.emoji(style, "test").images[EMOJI.judged[row % 48]][None])[0]
        assert torch.equal(pairs.images[row], picture)
        assert pairs.number[row] == row % 48


def test_a_batch_keeps_pictures_beside_their_names() -> None:
    x, tokens = next(EMOJI.batches(batch_size=256, seed=1, device="cpu"))
    assert x.shape == (256, 3, 32, 32)
    assert (tokens > EMOJI.encode(["ghost"])[0, 1]).any(1).all()  # a name of nothing but <unk> teaches nothing
    said = EMOJI.vocabulary.decode(tokens)
    red = [("red" in name.split(), "green" in name.split()) for name in said]
    excess = (x[:, 0] - x[:, 1]).clamp(min=-1).mean((1, 2))  # how much redder than green
    of_red, of_green = (excess[[pair[i] for pair in red]] for i in (0, 1))
    assert of_red.mean() > excess.mean() > of_green.mean()


def test_the_figures_know_the_truth_and_chance() -> None:
    def exact(x: Tensor, tokens: Tensor) -> Tensor:
        pairs = EMOJI.test_pairs(96)
        own = (x[:, None] == pairs.images).flatten(2).all(2).double().argmax(1) % 48
        return torch.eye(48)[own]

    figures = EMOJI.bounds(exact)
    assert list(figures) == [f"{what}_found_in_{k}_of_48" for what in ("name", "picture") for k in (1, 5)]
    assert all(figure.model == 1.0 for figure in figures.values())
    level = EMOJI.bounds(lambda x, tokens: torch.zeros(len(x), len(tokens)))
    assert all(figure.model == pytest.approx(figure.yardstick) for figure in level.values())
    assert level["name_found_in_5_of_48"].yardstick == pytest.approx(5 / 48)
    shifted = EMOJI.bounds(lambda x, tokens: exact(x, tokens).roll(1, 1))
    assert all(figure.model == 0 for name, figure in shifted.items() if "_in_1_" in name)
    biased = EMOJI.bounds(lambda x, tokens: exact(x, tokens) + 2 * torch.arange(48))  # one name fits every picture best
    assert biased["name_found_in_1_of_48"].model == pytest.approx(1 / 48)
    assert biased["picture_found_in_1_of_48"].model == 1.0
    right = EMOJI.evaluate(EMOJI.tokens[EMOJI.test_pairs(96).number])
    assert right["names_right"] == (1.0, pytest.approx(1 / 48))
    assert EMOJI.evaluate(EMOJI.tokens.repeat(2, 1).roll(1, 0))["names_right"].model == 0.0
    assert isinstance(EMOJI, NamedEmoji)
