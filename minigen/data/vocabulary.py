"""Captions as numbers (chapters 13 and 14): a vocabulary of whole words, and tokens that begin, end and fill up."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from minigen.data.checks import need_integer

PAD, BOS, EOS = 0, 1, 2
SPECIAL = ("<padding>", "<begin>", "<end>")
DIGITS = ("a zero", "a one", "a two", "a three", "a four", "a five", "a six", "a seven", "an eight", "a nine")


class Vocabulary:
    """The words that captions are made of, each with a number; words are what stands between blanks.

    Tokens of a caption are `BOS`, its words, `EOS`, then `PAD` up to a common length: int64, (B, T). The words
    have the numbers from 3 up.

    words: all different, in the order of their numbers. Raises ValueError for a word twice, with a blank in it, or with
    the name of a special token, and for one text in place of a list; TypeError for words that are no texts.

    >>> words = Vocabulary.of(["a red ring", "a disc"])
    >>> words.encode(["a red ring", "a disc"])
    tensor([[1, 3, 5, 6, 2],
            [1, 3, 4, 2, 0]])
    """

    def __init__(self, words: Iterable[str]) -> None:
        self.words = _texts("words", words)
        for word in self.words:
            if word.split() != [word] or word in SPECIAL:
                raise ValueError(f"a word has no blanks and is none of {', '.join(SPECIAL)}; got {word!r}")
        self._number = {word: i for i, word in enumerate(self.words, start=len(SPECIAL))}
        if len(self._number) < len(self.words):
            raise ValueError(f"a word stands twice among {', '.join(self.words)}")

    @classmethod
    def of(cls, captions: Iterable[str]) -> Vocabulary:
        """The words that occur in captions, in alphabetical order, whatever the order of the captions."""
        return cls(sorted({word for caption in _texts("captions", captions) for word in caption.split()}))

    def __len__(self) -> int:
        """Number of tokens: the words and the three special ones."""
        return len(SPECIAL) + len(self.words)

    def encode(self, captions: Sequence[str], *, length: int | None = None) -> Tensor:
        """Captions to tokens (B, length), int64; without a length, that of the longest caption with its two ends.

        Raises ValueError for an unknown word, and for a caption that does not fit; TypeError for what is no text.
        """
        captions = _texts("captions", captions)
        length = None if length is None else need_integer("length", length, 2, why=", for the two ends")
        rows = [[BOS, *(self._find(word, caption) for word in caption.split()), EOS] for caption in captions]
        longest = max(map(len, rows), default=2)
        if length is not None and longest > length:
            caption = max(captions, key=lambda text: len(text.split()))
            raise ValueError(f"{caption!r} takes {longest} tokens with its two ends; there is room for {length}")
        tokens = torch.full((len(rows), length or longest), PAD)
        for row, numbers in zip(tokens, rows, strict=True):
            row[: len(numbers)] = torch.tensor(numbers)
        return tokens

    def decode(self, tokens: Tensor) -> list[str]:
        """Tokens (B, T) to captions: the words up to the first `EOS`, or all of them where there is none.

        Raises ValueError for what is not int64 (B, T), and for numbers without a token; TypeError for no tensor.
        """
        if not isinstance(tokens, Tensor):
            raise TypeError(f"tokens must be a torch.Tensor, int64 (B, T); got {type(tokens).__name__}")
        if tokens.ndim != 2 or tokens.dtype != torch.int64:
            raise ValueError(f"tokens must be int64 (B, T); got {tokens.dtype} {tuple(tokens.shape)}")
        if tokens.numel() and not 0 <= int(tokens.min()) <= int(tokens.max()) < len(self):
            span = f"{int(tokens.min())}..{int(tokens.max())}"
            raise ValueError(f"tokens must be in 0..{len(self) - 1}; got {span}")
        captions = []
        for row in tokens.tolist():
            said = row[: row.index(EOS)] if EOS in row else row
            captions.append(" ".join(self.words[i - len(SPECIAL)] for i in said if i not in (PAD, BOS)))
        return captions

    def _find(self, word: str, caption: str) -> int:
        if word not in self._number:
            near = difflib.get_close_matches(word, self.words, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(self.words)}"
            raise ValueError(f"caption {caption!r}: unknown word {word!r}; {hint}")
        return self._number[word]


def _texts(name: str, texts: Iterable[str]) -> tuple[str, ...]:
    """The texts of a list; a text is itself a list of texts, its letters, so it is refused by name."""
    if isinstance(texts, str):
        raise ValueError(f"{name} are a list of texts; got one text, {texts!r}")
    if not isinstance(texts, Iterable):
        raise TypeError(f"{name} are a list of texts; got a {type(texts).__name__}")
    found = tuple(texts)
    for text in found:
        if not isinstance(text, str):
            raise TypeError(f"{name} are a list of texts; it has {text!r}, a {type(text).__name__}")
    return found


def name_captions(classes: Sequence[str]) -> list[str]:
    """A caption for each class of a data set: "a three" for the digit "3", "an airplane", "a t-shirt/top"."""
    return [_name(name.lower()) for name in _texts("classes", tuple(classes))]  # "0123456789" is ten classes


def _name(name: str) -> str:
    if not name.strip():
        raise ValueError("a class must have a name; got an empty one")
    if len(name) == 1 and name in "0123456789":
        return DIGITS[int(name)]
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
