"""The exercise `prompts.drop_captions`: captions left out in training."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from minigen.data.vocabulary import BOS, EOS, PAD
from minigen.homework.contract import Contract, Function, Input


def drop_captions(tokens: Tensor, uniform: Tensor, share: float) -> Tensor:
    """Captions (B, T) int64, those whose number in [0, 1), uniform (B,), is below `share` as padding altogether."""
    return tokens * (uniform >= share)[:, None]


def _batches() -> list[Input]:
    """Batches as long as captions: numbers (B,) then multiply columns of words, too."""
    tokens = torch.tensor([[1, 5, 3, 2, 0], [1, 4, 2, 0, 0], [1, 3, 4, 5, 2], [1, 2, 0, 0, 0], [1, 6, 6, 2, 0]])
    uniform = torch.tensor([0.62, 0.05, 0.8, 0.25, 0.41])
    return [
        Input((torch.tensor([[1, 5, 4, 2]]), torch.tensor([0.2]), 0.5), "one caption"),
        Input((tokens, uniform, 0.3), "five captions, share 0.3"),
        Input((tokens, uniform.flip(0), 0.7), "five captions, share 0.7"),
        Input((tokens, torch.tensor([0.0, 0.5, 0.999, 0.0, 0.2]), 0.0), "nothing to drop"),
        Input((tokens, torch.tensor([0.0, 0.5, 0.999, 0.0, 0.2]), 1.0), "everything to drop"),
    ]


def _dropping(drop: Callable[[Tensor, float], Tensor]) -> Function:
    """Drops other captions, those where drop(uniform, share) is True."""
    return lambda tokens, uniform, share: tokens * ~drop(uniform, share)[:, None]


def _replacing(replace: Callable[[Tensor], Tensor]) -> Function:
    """Drops the right captions, and puts something else in their place."""
    return lambda tokens, uniform, share: torch.where((uniform < share)[:, None], replace(tokens), tokens)


def _empty(tokens: Tensor) -> Tensor:
    caption = torch.zeros_like(tokens)
    caption[:, 0], caption[:, 1] = BOS, EOS
    return caption


def _lowest(uniform: Tensor, share: float) -> Tensor:
    """The lowest numbers, as many as make up the share."""
    return uniform.argsort().argsort() < round(share * len(uniform))


CONTRACT = Contract(
    drop_captions,
    _batches,
    {
        "inverted": (
            _dropping(lambda u, share: u >= share),
            "keeps what should go and drops the rest; a caption goes where its number is below the share",
        ),
        "share kept": (
            _dropping(lambda u, share: u < 1 - share),
            "takes the share for that of the captions that stay; it is of those that go: uniform < share",
        ),
        "from above": (
            _dropping(lambda u, share: u >= 1 - share),
            "drops as many, but others, those with the highest numbers; here those below the share go",
        ),
        "edge": (
            _dropping(lambda u, share: u <= share),
            "drops where the number equals the share, too, so that share 0 drops some; it must be below the share",
        ),
        "words": (
            lambda tokens, uniform, share: tokens * (uniform >= share),
            "drops single words: numbers (B,) multiply columns, as broadcasting has it; reshape them to (B, 1)",
        ),
        "ends left": (
            _replacing(lambda tokens: tokens * ((tokens == BOS) | (tokens == EOS))),
            "leaves 1 and 2, which begin and end a caption; where nothing is said there is padding alone",
        ),
        "beginning left": (
            _replacing(lambda tokens: tokens * (tokens == BOS)),
            "leaves 1, which begins a caption, and that is a word to attend to; set the whole row to 0",
        ),
        "empty caption": (
            _replacing(_empty),
            "puts an empty caption, 1 and 2, in its place; that is a caption, and no caption is padding alone",
        ),
        "first token alone": (
            _replacing(lambda tokens: torch.cat([torch.zeros_like(tokens[:, :1]), tokens[:, 1:]], 1)),
            "sets the first token alone to 0; the words behind it still tell: set the whole row to 0",
        ),
        "first word alone": (
            _replacing(lambda tokens: torch.cat([tokens[:, :1], torch.zeros_like(tokens[:, 1:2]), tokens[:, 2:]], 1)),
            "drops the first word alone; the caption goes altogether",
        ),
        "filled with ends": (
            _replacing(lambda tokens: torch.full_like(tokens, EOS)),
            "fills with 2, which ends a caption; padding is 0",
        ),
        "filled with -100": (
            _replacing(lambda tokens: torch.full_like(tokens, -100)),
            "fills with -100, which a loss ignores but no embedding has; padding is 0",
        ),
        "rows taken out": (
            lambda tokens, uniform, share: tokens[uniform >= share],
            "takes the rows out, so that captions no longer stand beside their images; leave them as rows of 0",
        ),
        "the whole batch": (
            _dropping(lambda u, share: (u[:1] < share).expand(len(u))),
            "decides once, by the first number, for the whole batch; each caption has a number of its own",
        ),
        "the lowest": (
            _dropping(_lowest),
            "drops the lowest numbers, always the same share of a batch; each caption is dropped or not by itself",
        ),
        "the first ones": (
            _dropping(lambda u, share: torch.arange(len(u)) < round(share * len(u))),
            "drops the first rows whatever the numbers; a caption goes where its number is below the share",
        ),
        "a coin": (
            _dropping(lambda u, share: u < 0.5),
            "drops half of the captions, whatever the share; compare the numbers with it",
        ),
        "percent": (
            _dropping(lambda u, share: 100 * u < share),
            "takes the share for percent; it lies in [0, 1], as the numbers do",
        ),
        "scaled": (
            lambda tokens, uniform, share: drop_captions(tokens, uniform, share) / (1 - share),
            "divides what stays by 1 - share, as dropout does; tokens are names of words, not amounts",
        ),
        "kept or not": (
            lambda tokens, uniform, share: uniform >= share,
            "says which captions stay, (B,); return the captions",
        ),
        "nothing dropped": (
            lambda tokens, uniform, share: tokens.clone(),
            "drops nothing, as is right when sampling; in training the network must learn to go without",
        ),
        "everything dropped": (
            lambda tokens, uniform, share: torch.full_like(tokens, PAD),
            "drops everything, so that no caption is ever learnt; compare each number with the share",
        ),
    },
)
