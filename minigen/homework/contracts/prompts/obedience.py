"""The exercise `prompts.obedience`: share of images that show what was asked for."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from minigen.homework.contract import Contract, Function, Input
from minigen.homework.mistakes import PERCENT


def obedience(log_posterior: Tensor, wanted: Tensor) -> Tensor:
    """The share of images that have more than half of log p(caption | image), (B, C), on their own caption, (B,)."""
    return _obeyed(log_posterior, wanted).float().mean()


def _own(log_posterior: Tensor, wanted: Tensor) -> Tensor:
    return log_posterior.gather(1, wanted[:, None])[:, 0]


def _obeyed(log_posterior: Tensor, wanted: Tensor) -> Tensor:
    return _own(log_posterior, wanted) > math.log(0.5)


def _images() -> list[Input]:
    generator = torch.Generator().manual_seed(0)
    logits = 4 * torch.randn(24, 5, generator=generator)
    wanted = torch.where(torch.rand(24, generator=generator) < 0.8, logits.argmax(1), torch.arange(24) % 5)
    half = math.log(0.5)
    sure = torch.tensor(
        [[0.0, -math.inf, -900.0], [half, half, -math.inf], [-math.inf, 0.0, -math.inf], [half, -math.inf, half]]
    )
    flat = (0.3 * torch.randn(8, 12, generator=generator)).log_softmax(1)
    return [
        Input((torch.tensor([[0.6, 0.3, 0.1], [0.3, 0.36, 0.34]]).log(), torch.tensor([0, 1])), "two images"),
        Input((logits.log_softmax(1), wanted), "24 images and five captions"),
        Input((sure, torch.tensor([0, 1, 2, 0])), "images that leave no doubt, or show two captions equally"),
        Input((flat, flat.argmax(1)), "images that show nothing clearly"),
    ]


def _share(obeyed: Callable[[Tensor, Tensor], Tensor]) -> Function:
    """The share of another kind of images."""
    return lambda p, w: obeyed(p, w).float().mean()


CONTRACT = Contract(
    obedience,
    _images,
    {
        "the best caption": (
            _share(lambda p, w: p.argmax(1) == w),
            "asks whether the own caption is the most probable one; an image that shows nothing clearly has one, too:"
            " more than half",
        ),
        "at least half": (
            _share(lambda p, w: _own(p, w) >= math.log(0.5)),
            "counts an image that is as likely another caption's; more than half is asked for: >",
        ),
        "mean probability": (
            lambda p, w: _own(p, w).exp().mean(),
            "averages the probabilities of the own captions; count those above 0.5",
        ),
        "mean log-probability": (
            lambda p, w: _own(p, w).mean(),
            "averages log-probabilities, which one impossible caption makes -inf; count the probabilities above 0.5",
        ),
        "mean above half": (
            lambda p, w: (_own(p, w).exp().mean() > 0.5).float(),
            "averages first and compares then, which says yes or no to all; compare each image, then average",
        ),
        "no exp": (
            _share(lambda p, w: _own(p, w) > 0.5),
            "compares log-probabilities with 0.5, and none is above 0; take their exp, or log(0.5)",
        ),
        "half of a nat": (
            _share(lambda p, w: _own(p, w) > -0.5),
            "compares with -0.5; the log of a half is -0.693",
        ),
        "a bit": (
            _share(lambda p, w: _own(p, w) > -1),
            "compares with -1, the log of a half to the base 2; these are natural logarithms: -0.693",
        ),
        "more than chance": (
            _share(lambda p, w: _own(p, w) > -math.log(p.shape[1])),
            "counts what is above chance, 1 / C; more than half is asked for",
        ),
        "any caption": (
            _share(lambda p, w: p.exp().amax(1) > 0.5),
            "counts images that show any caption clearly; it must be the one that was asked for",
        ),
        "every image with every caption": (
            _share(lambda p, w: p[:, w].exp() > 0.5),
            "takes the columns of all captions for every image, (B, B); each has one of its own: gather",
        ),
        "on the diagonal": (
            _share(lambda p, w: p.diagonal().exp() > 0.5),
            "takes the diagonal, as where image i belongs to caption i; here `wanted` says which column",
        ),
        "the whole table": (
            _share(lambda p, w: p.exp() > 0.5),
            "counts over the whole table, other captions and all; it is one number of each row, the own caption's",
        ),
        "yes or no": (
            _share(lambda p, w: (p.exp() > 0.5) == one_hot(w, p.shape[1]).bool()),
            "counts captions that are rightly not shown, too, nearly all where there are many; take the own one alone",
        ),
        "captions averaged": (
            lambda p, w: torch.stack([_obeyed(p, w)[w == c].float().mean() for c in w.unique()]).mean(),
            "averages within each caption, then over captions; every image counts the same here",
        ),
        "softmax over the images": (
            lambda p, w: obedience(p.log_softmax(0), w),
            "takes a softmax over the images; each row holds log-probabilities of one image, which sum to 1 already",
        ),
        "disobedience": (
            lambda p, w: 1 - obedience(p, w),
            "this is the share of images that do not obey",
        ),
        "count": (
            lambda p, w: len(p) * obedience(p, w),
            "counts the images that obey; divide by how many there are",
        ),
        "percent": (
            lambda p, w: 100 * obedience(p, w),
            PERCENT,
        ),
        "one number an image": (
            lambda p, w: _obeyed(p, w).float(),
            "says which images obey, (B,); take the mean",
        ),
    },
)
