"""Emoji and their names: which words are known, by counting; what is judged; and that a batch keeps pairs together."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from minigen import data
from minigen.recipes import RECIPES
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
    unknown = EMOJI.encode(["ghost"])[0, 1]
    tokens = EMOJI.encode(unseen.names)
    said = set((tokens != unknown).all(1).nonzero().flatten().tolist())
    judged = EMOJI.judged.tolist()
    assert len(said) == 48
    assert len(judged) == len(set(EMOJI.captions)) == 37
    left_out = said - set(judged)  # mirror images of training pictures, by one artist at least
    assert {"man walking facing right", "rightwards hand"} < {unseen.names[i] for i in left_out}
    train = data.emoji("noto").images
    for i in said:
        picture = data.emoji("noto", "test").images[i]
        if (train.flip(3) == picture).flatten(1).all(1).any():
            assert i in left_out
    assert said > set(judged)
    assert torch.equal(EMOJI.tokens, tokens[EMOJI.judged])
    assert not set(EMOJI.captions) & set(data.emoji().names)
    pairs = EMOJI.test_pairs(80)
    for row in (0, 36, 37, 73, 74, 79):
        style = ("twemoji", "noto")[row // 37 % 2]
        picture = data.to_float(data.emoji(style, "test").images[EMOJI.judged[row % 37]][None])[0]
        assert torch.equal(pairs.images[row], picture)
        assert pairs.number[row] == row % 37


def test_a_batch_keeps_pictures_beside_their_names(monkeypatch) -> None:
    warped, _ = next(EMOJI.batches(batch_size=8, seed=1, device="cpu"))
    monkeypatch.setattr("minigen.tasks.emoji.warp", lambda x, generator: x)
    x, tokens = next(EMOJI.batches(batch_size=64, seed=1, device="cpu"))
    assert x.shape == (64, 3, 32, 32)
    assert not torch.equal(warped, x[:8])
    assert (tokens > EMOJI.encode(["ghost"])[0, 1]).any(1).all()  # a name of nothing but <unk> teaches nothing
    known, names = EMOJI.pictures("train")[0], EMOJI.encode(data.emoji().names)
    second = 0
    for picture, name in zip(x, tokens, strict=True):
        rows = (known == picture).flatten(1).all(1).nonzero().flatten()  # a few pictures are those of two names
        assert (names[rows % len(names)] == name).all(1).any()
        second += bool((rows >= len(names)).all())
    assert 16 < second < 48  # both artists


def test_the_figures_know_the_truth_and_chance() -> None:
    def exact(x: Tensor, tokens: Tensor) -> Tensor:
        pairs = EMOJI.test_pairs(74)
        own = (x[:, None] == pairs.images).flatten(2).all(2).double().argmax(1) % 37
        return torch.eye(37)[own]

    figures = EMOJI.bounds(exact)
    assert list(figures) == [f"{what}_found_in_{k}_of_37" for what in ("name", "picture") for k in (1, 5)]
    assert all(figure.model == 1.0 for figure in figures.values())
    level = EMOJI.bounds(lambda x, tokens: torch.zeros(len(x), len(tokens)))
    assert all(figure.model == pytest.approx(figure.yardstick) for figure in level.values())
    assert level["name_found_in_5_of_37"].yardstick == pytest.approx(5 / 37)
    shifted = EMOJI.bounds(lambda x, tokens: exact(x, tokens).roll(1, 1))
    assert all(figure.model == 0 for name, figure in shifted.items() if "_in_1_" in name)
    biased = EMOJI.bounds(lambda x, tokens: exact(x, tokens) + 2 * torch.arange(37))  # one name fits every picture best
    assert biased["name_found_in_1_of_37"].model == pytest.approx(1 / 37)
    assert biased["picture_found_in_1_of_37"].model == 1.0
    right = EMOJI.evaluate(EMOJI.tokens[EMOJI.test_pairs(74).number])
    assert right["names_right"] == (1.0, pytest.approx(1 / 37))
    assert EMOJI.evaluate(EMOJI.tokens.repeat(2, 1).roll(1, 0))["names_right"].model == 0.0
    assert isinstance(EMOJI, NamedEmoji)


def test_pictures_are_painted_for_the_same_names_each_in_turn() -> None:
    task = RECIPES["attngan", "emoji"].task
    assert task.shape == (3, 32, 32)
    assert task.captions == EMOJI.captions
    assert torch.equal(task.tokens, EMOJI.tokens)
    assert task.wanted(40).tolist() == [*range(37), 0, 1, 2]
    copied, unseen = task.pictures("train")[0][:5], task.pictures("test")[0][:5]
    figures = task.evaluate(torch.cat([copied, unseen]))
    assert set(figures) == {"copied_share", "distance_to_training_pictures"}
    assert figures["copied_share"].model == pytest.approx(0.5, abs=0.11)
    assert figures["copied_share"].yardstick < 0.06  # about one test picture in 27
