"""The exercises of chapter 13 about being told a caption; the others are in `attending` and `obeying`."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from minigen.homework.attending import ATTENTION, MASKED_ATTENTION
from minigen.homework.contract import Contract, Function, Input
from minigen.homework.noising import doubles
from minigen.homework.obeying import OBEDIENCE, REGION_SCORE
from minigen.objectives import diffusion
from minigen.words import BEGIN, END, PADDING


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
    caption[:, 0], caption[:, 1] = BEGIN, END
    return caption


def _lowest(uniform: Tensor, share: float) -> Tensor:
    """The lowest numbers, as many as make up the share."""
    return uniform.argsort().argsort() < round(share * len(uniform))


DROP_CAPTIONS = Contract(
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
            _replacing(lambda tokens: tokens * ((tokens == BEGIN) | (tokens == END))),
            "leaves 1 and 2, which begin and end a caption; where nothing is said there is padding alone",
        ),
        "beginning left": (
            _replacing(lambda tokens: tokens * (tokens == BEGIN)),
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
            _replacing(lambda tokens: torch.full_like(tokens, END)),
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
            lambda tokens, uniform, share: torch.full_like(tokens, PADDING),
            "drops everything, so that no caption is ever learnt; compare each number with the share",
        ),
    },
)


def information(error: Tensor, error_told: Tensor, log_snr: Tensor) -> Tensor:
    """What the image says of a context, nats, a number: half the integral over SNR of the error that the context saves.

    error, error_told: (N,) least squared errors without and with the context. log_snr: (N,) ascending, nats. By the
    trapezoidal rule in log-SNR.
    """
    return diffusion.information(error, error_told, log_snr)[-1]


def _levels() -> list[Input]:
    generator = torch.Generator().manual_seed(0)
    wide = torch.linspace(-16, 16, 40, dtype=torch.float64)
    uneven = torch.rand(25, generator=generator, dtype=torch.float64).mul(6).sub(4).sort().values
    error, told = torch.rand(2, 25, generator=generator, dtype=torch.float64) + doubles(0.7, 0.5)[:, None]
    return [
        Input((doubles(2.0, 1.5, 0.5), doubles(1.5, 0.75, 0.25), doubles(-1.0, 0.5, 1.0)), "three levels"),
        Input((1 / (1 + wide.exp()), 1 / (5 + wide.exp()), wide), "Gaussian images and a context, 40 levels"),
        Input((error, told, uneven), "estimates at 25 uneven levels"),
        Input((10 * told, 7 * told, uneven + 2), "a context that saves 3 parts in 10"),
    ]


def _integral(weigh: Callable[[Tensor, Tensor], Tensor]) -> Function:
    """Half the integral over log-SNR of something else, made of the saved error and log-SNR."""
    return lambda e, told, s: 0.5 * torch.trapezoid(weigh(e - told, s), s)


def _step_sum(e: Tensor, told: Tensor, s: Tensor, side: slice) -> Tensor:
    """Half the sum of steps that have the height of one of their ends."""
    return 0.5 * (((e - told) * s.exp())[side] * s.diff()).sum()


INFORMATION = Contract(
    information,
    _levels,
    {
        "half forgotten": (
            lambda e, told, s: 2 * information(e, told, s),
            "leaves out the half; the derivative of information by SNR is half of the squared error",
        ),
        "doubled": (
            lambda e, told, s: 4 * information(e, told, s),
            "multiplies by 2; take half of the integral",
        ),
        "sign": (
            lambda e, told, s: information(told, e, s),
            "has the errors swapped, or a minus; the context saves error, so that error - error_told is not negative",
        ),
        "over log-SNR": (
            _integral(lambda saved, s: saved),
            "integrates over log-SNR; the integral is over SNR, and d SNR is SNR d log SNR: a factor exp(log_snr)",
        ),
        "log-SNR for SNR": (
            _integral(lambda saved, s: saved * s),
            "multiplies by log-SNR; SNR is its exp",
        ),
        "divided by SNR": (
            _integral(lambda saved, s: saved * (-s).exp()),
            "divides by SNR; d SNR is SNR d log SNR: multiply by exp(log_snr)",
        ),
        "the signal's share": (
            _integral(lambda saved, s: saved * s.sigmoid()),
            "multiplies by signal^2; SNR is signal^2 / noise^2, exp(log_snr)",
        ),
        "root of SNR": (
            _integral(lambda saved, s: saved * (s / 2).exp()),
            "multiplies by signal / noise, the root of SNR; take its square, exp(log_snr)",
        ),
        "SNR squared": (
            _integral(lambda saved, s: saved * (2 * s).exp()),
            "multiplies by SNR twice; d SNR is SNR d log SNR: once",
        ),
        "decibels": (
            _integral(lambda saved, s: saved * 10 ** (s / 10)),
            "takes log_snr for decibels; it is the natural logarithm of SNR",
        ),
        "by the rule in SNR": (
            lambda e, told, s: 0.5 * torch.trapezoid(e - told, s.exp()),
            "takes the trapezoidal rule in SNR, whose last steps are wide; the integrand is (error - error_told) SNR"
            " over log_snr",
        ),
        "over the noise": (
            lambda e, told, s: 0.5 * torch.trapezoid(e - told, (-s / 2).exp()),
            "integrates over the noise level; information is an integral over SNR",
        ),
        "left ends": (
            lambda e, told, s: _step_sum(e, told, s, slice(None, -1)),
            "gives each step the height of its left end; the trapezoidal rule takes the mean of both ends",
        ),
        "right ends": (
            lambda e, told, s: _step_sum(e, told, s, slice(1, None)),
            "gives each step the height of its right end; the trapezoidal rule takes the mean of both ends",
        ),
        "sum": (
            lambda e, told, s: 0.5 * ((e - told) * s.exp()).sum(),
            "adds the levels up without the width of the steps; use torch.trapezoid with log_snr",
        ),
        "mean": (
            lambda e, told, s: information(e, told, s) / (s[-1] - s[0]),
            "divides by the range of log-SNR, which makes a mean of the integral; leave that out",
        ),
        "bits": (
            lambda e, told, s: information(e, told, s) / math.log(2),
            "this is in bits; in nats, leave out the division by ln 2",
        ),
        "roots": (
            lambda e, told, s: information(e.sqrt(), told.sqrt(), s),
            "takes the roots of the errors; it is squared errors that count",
        ),
        "log of the ratio": (
            lambda e, told, s: 0.5 * (e / told).log()[-1],
            "half the log of the ratio of errors at the last level, which is 0 with no noise left; take the integral",
        ),
        "without the context": (
            lambda e, told, s: information(e, 0 * told, s),
            "integrates the error alone: what x_t says of x_0; subtract the error that is left with the context",
        ),
        "with the context": (
            lambda e, told, s: information(told, 0 * told, s),
            "integrates the error with the context alone; it is what the context saves: error - error_told",
        ),
        "never below 0": (
            lambda e, told, s: information(torch.maximum(e, told), told, s),
            "cuts off savings below 0, so that chance errors of estimates add up and do not cancel; leave their sign",
        ),
        "each level": (
            diffusion.information,
            "gives the information up to each level, (N,); the last of these is asked for",
        ),
        "the last level": (
            lambda e, told, s: 0.5 * ((e - told) * s.exp())[-1],
            "takes the last level alone; information is the integral over all",
        ),
    },
)


CONTRACTS = {
    "attention": ATTENTION,
    "masked_attention": MASKED_ATTENTION,
    "drop_captions": DROP_CAPTIONS,
    "information": INFORMATION,
    "obedience": OBEDIENCE,
    "region_score": REGION_SCORE,
}
