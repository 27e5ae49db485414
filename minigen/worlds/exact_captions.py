"""What an image says about its caption, exactly: p(caption | image) and the mutual information of the two."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from . import captions
from .precision import like
from .shapes import SHAPE_FACTORS, Shapes


class ExactCaptions:
    """The joint law of the images of a `Shapes` world and their captions.

    A caption names kind, colour, size and background; it fits all positions. So all captions are equally likely, and

        p(caption | x) = sum of p(template | x) over the templates that fit.

    world: of one shape or two, in either form. index: numbers of the templates that occur, all unless given, such as
    `world.split().train`; each caption with all of its positions, or a ValueError.

    Probabilities are computed in float64 and returned in the float type of the images (float64 for levels).
    """

    def __init__(self, world: Shapes, *, index: Tensor | None = None) -> None:
        self.world = world
        named = [0, *sorted(1 + SHAPE_FACTORS.index(name) for name in captions.NAMED)]
        table = world._table[:, named]
        combinations, self._of_template = torch.unique(table, dim=0, return_inverse=True)
        self._positions = len(world._table) // len(combinations)
        assert torch.equal(self._of_template, torch.arange(len(combinations)).repeat_interleave(self._positions))
        pairs = torch.cartesian_prod(*[torch.arange(len(combinations))] * world.shapes).view(-1, world.shapes)
        pairs = pairs[(combinations[pairs][..., 0] == combinations[pairs][:, :1, 0]).all(1)]  # of one background
        self._number = torch.full([len(combinations)] * world.shapes, -1)
        if index is not None:
            counts = torch.zeros_like(self._number)
            parts = self._of_template[world._core.decode(torch.unique(index.cpu()))]
            counts.index_put_(tuple(parts.T), torch.tensor(1), accumulate=True)
            counts = counts[tuple(pairs.T)]
            if not set(counts.tolist()) <= {0, self._positions**world.shapes} or not counts.any():
                raise ValueError("index must hold whole captions, each with all positions; `Shapes.split` gives such")
            pairs = pairs[counts > 0]
        self._pairs = pairs
        self._number[tuple(pairs.T)] = torch.arange(len(pairs))
        one = world._core.encode(pairs * self._positions)
        self.captions = tuple(world.caption(world.factors(one)))
        """Every caption, in the order of their numbers."""

    def __len__(self) -> int:
        """Number of captions, C; all are equally likely."""
        return len(self.captions)

    def number(self, factors: Tensor) -> Tensor:
        """The number of the caption for each row of factors (B, F), int64 (B,). ValueError for one that is left out."""
        parts = self._of_template[self.world._core.decode(self.world.index(factors).cpu())]
        number = self._number[tuple(parts.T)]
        if (number < 0).any():
            text = self.world.caption(factors[(number < 0).nonzero()[0]])[0]
            raise ValueError(f"{text!r} is not among the captions of these templates")
        return number.to(factors.device)

    def entropy(self) -> float:
        """H(caption) in nats: log C."""
        return math.log(len(self))

    def log_posterior(self, x: Tensor) -> Tensor:
        """log p(caption | x), nats, (B, C)."""
        return like(self._log_posterior(x), x)

    def log_ratio(self, x: Tensor) -> Tensor:
        """log p(x, caption) / (p(x) p(caption)), nats, (B, C): what the best critic says, up to a number."""
        return self.log_posterior(x) + self.entropy()

    def information(self, x: Tensor) -> Tensor:
        """H(caption) - H(caption | X = x), nats, (B,): its mean over images of the world is the mutual information."""
        log_p = self._log_posterior(x)
        return like(self.entropy() + (log_p.exp() * log_p).nan_to_num(nan=0.0).sum(1), x)

    def _log_posterior(self, x: Tensor) -> Tensor:
        """The same in float64, block after block."""
        blocks = []
        for likelihood in self.world._core._blocks(self.world._parts(x)):
            pairs = self._pairs.to(likelihood.device)
            of_part = torch.unflatten(likelihood, 2, (-1, self._positions)).logsumexp(3)  # (b, shapes, combinations)
            joint = torch.stack([of_part[:, p, pairs[:, p]] for p in range(self.world.shapes)]).sum(0)  # up to a number
            blocks.append(joint.log_softmax(1))
        return torch.cat(blocks)
