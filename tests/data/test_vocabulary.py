"""Captions to tokens and back: for every caption of a world and any words, with errors that name the word."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from minigen import data
from minigen.data.vocabulary import BOS, EOS, PAD, SPECIAL, Vocabulary, name_captions
from minigen.worlds import Shapes

WORDS = st.text(st.characters(exclude_categories=("Z", "C")), min_size=1, max_size=6).filter(
    lambda word: word not in SPECIAL and word.split() == [word]
)


@pytest.fixture(scope="module", params=[1, 2])
def captions(request):
    world = Shapes(12, shapes=request.param, kinds=("disc", "ring"), sizes=(5,), positions=(1, 1))
    return world.caption(world.factors(torch.arange(len(world))))


def test_every_caption_of_a_world_comes_back(captions) -> None:
    vocabulary = Vocabulary.of(captions)
    tokens = vocabulary.encode(captions)
    assert vocabulary.decode(tokens) == captions
    assert (tokens[:, 0] == BOS).all()
    assert (tokens == EOS).sum(1).tolist() == [1] * len(captions)
    assert tokens.shape[1] == max(len(caption.split()) for caption in captions) + 2
    assert "left" not in vocabulary.words  # words of captions, not of factors
    assert set(tokens.unique().tolist()) <= set(range(len(vocabulary)))


def test_tokens_stand_where_they_are_said_to() -> None:
    vocabulary = Vocabulary.of(["on a red", "a disc"])
    assert vocabulary.words == ("a", "disc", "on", "red")
    assert len(vocabulary) == 7
    tokens = vocabulary.encode(["a red disc", "", "a a"], length=6)
    assert tokens.tolist() == [[1, 3, 6, 4, 2, 0], [1, 2, 0, 0, 0, 0], [1, 3, 3, 2, 0, 0]]
    assert tokens.dtype == torch.int64
    assert vocabulary.encode([]).shape == (0, 2)
    assert vocabulary.encode(["a", "a red disc"]).shape == (2, 5)


def test_the_order_of_the_captions_does_not_matter(captions) -> None:
    assert Vocabulary.of(captions[::-1]).words == Vocabulary.of(captions).words


def test_what_stands_behind_the_end_is_not_read() -> None:
    vocabulary = Vocabulary(["a", "b"])
    tokens = torch.tensor([[1, 3, 2, 4, 4], [1, 3, 4, 3, 4], [0, 0, 0, 0, 0], [2, 1, 3, 3, 0]])
    assert vocabulary.decode(tokens) == ["a", "a b a b", "", ""]


@given(st.lists(st.lists(WORDS, max_size=4), min_size=1, max_size=5), st.integers(0, 3))
def test_any_words_come_back(rows, room: int) -> None:
    captions = [" ".join(row) for row in rows]
    vocabulary, length = Vocabulary.of(captions), max(map(len, rows)) + 2 + room
    tokens = vocabulary.encode(captions, length=length)
    assert tokens.shape == (len(rows), length)
    assert vocabulary.decode(tokens) == captions
    assert ((tokens == PAD).long().diff(dim=1) >= 0).all()  # padding stands at the end alone


def test_errors_name_the_word_and_what_there_is() -> None:
    vocabulary = Vocabulary.of(["a large yellow disc on blue"])
    with pytest.raises(ValueError, match=r"'a yelow disc': unknown word 'yelow'; did you mean 'yellow'\?"):
        vocabulary.encode(["a large disc", "a yelow disc"])
    with pytest.raises(ValueError, match="unknown word 'xq'; there are a, blue, disc, large, on, yellow"):
        vocabulary.encode(["xq"])
    with pytest.raises(ValueError, match="'a large disc' takes 5 tokens with its two ends; there is room for 4"):
        vocabulary.encode(["a disc", "a large disc"], length=4)
    with pytest.raises(ValueError, match="a list of texts; got one text, 'a disc'"):
        vocabulary.encode("a disc")
    with pytest.raises(ValueError, match=r"tokens must be in 0\.\.8; got 0\.\.9"):
        vocabulary.decode(torch.tensor([[0, 9]]))
    for wrong in (torch.tensor([1, 2]), torch.tensor([[1.0]])):
        with pytest.raises(ValueError, match=r"tokens must be int64 \(B, T\)"):
            vocabulary.decode(wrong)
    for words, says in ((["a b"], "no blanks"), (["<end>"], "none of <padding>"), ([""], "no blanks")):
        with pytest.raises(ValueError, match=says):
            Vocabulary(words)
    with pytest.raises(ValueError, match="twice among a, b, a"):
        Vocabulary(["a", "b", "a"])


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda v: Vocabulary("red blue"), ValueError, "words are a list of texts; got one text, 'red blue'"),
        (lambda v: Vocabulary(["red", 3]), TypeError, "words are a list of texts; it has 3, a int"),
        (lambda v: Vocabulary(7), TypeError, "words are a list of texts; got a int"),
        (lambda v: Vocabulary.of("a red disc"), ValueError, "captions are a list of texts; got one text"),
        (lambda v: Vocabulary.of([None]), TypeError, "it has None"),
        (lambda v: v.encode([b"red"]), TypeError, "it has b'red', a bytes"),
        (lambda v: v.encode([], length=0), ValueError, "length must be at least 2, for the two ends; got 0"),
        (lambda v: v.encode(["red"], length=-1), ValueError, "length must be at least 2"),
        (lambda v: v.encode(["red"], length=3.0), TypeError, "length must be an integer; got 3.0"),
        (lambda v: v.decode([[1, 2]]), TypeError, r"tokens must be a torch.Tensor, int64 \(B, T\); got list"),
        (lambda v: name_captions(["cat", 3]), TypeError, "classes are a list of texts; it has 3"),
        (lambda v: name_captions(["cat", ""]), ValueError, "a class must have a name"),
    ],
)
def test_what_is_no_list_of_texts_is_refused(call, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        call(Vocabulary(["red"]))


def test_classes_get_names() -> None:
    assert name_captions(data.digits("test").classes)[:4] == ["a zero", "a one", "a two", "a three"]
    assert name_captions("0123456789") == name_captions(data.digits("test").classes)
    named = [name_captions(data.SOURCES[source].classes) for source in ("cifar10", "fashion_mnist")]
    assert named[0][:3] == ["an airplane", "an automobile", "a bird"]
    assert {"a t-shirt/top", "an ankle boot"} <= set(named[1])
    for captions in named:
        vocabulary = Vocabulary.of(captions)
        assert len(set(captions)) == 10
        assert vocabulary.decode(vocabulary.encode(captions)) == captions
