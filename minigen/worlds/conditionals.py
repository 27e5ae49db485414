"""The exact conditionals of a discrete world: what the best network of chapter 10 would say at each pixel.

A world's image is a template whose pixels flip independently. So the pixels that are known give a posterior over
templates, and the level of any other pixel follows from it:

    P(x_t = k | known) = sum_T P(T | known) P(x_t = k | T).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from minigen.data.checks import need_index, need_shape

from .noise import FlipNoise
from .shapes import Shapes


class ExactConditionals:
    """A discrete world as an autoregressive network, with the interface of `nets.masked`: log-probabilities for logits.

    world: `Shapes` of the discrete form. Probabilities are float64. Raises ValueError for the continuous form.
    """

    def __init__(self, world: Shapes) -> None:
        if not isinstance(law := world._core.law, FlipNoise):
            raise ValueError(f'conditionals of levels need a world of form="discrete"; got form="{world.form}"')
        self.world, self.levels = world, law.levels
        keep, other = math.log1p(-law.flip), math.log(law.flip / (law.levels - 1))
        shown = torch.nn.functional.one_hot(world._core.points, law.levels).double()  # (n, d, K)
        self._given_template = shown * (keep - other) + other

    def __call__(self, x: Tensor, *, order: Sequence[int] | Tensor | None = None) -> Tensor:
        """log P(level | the pixels before) at every pixel of levels (B, 1, H, W), as (B, K, H, W).

        order: the H W numbers of the pixels, row * W + column, in the order in which they are predicted; raster order
        unless given.
        """
        size = self.world.size
        numbers = torch.as_tensor(range(size * size) if order is None else order)
        if not torch.equal(numbers.sort().values, torch.arange(size * size)):
            raise ValueError(f"order must hold each of 0..{size * size - 1} once")
        self.world._parts(x)  # refuses what is no image of this world
        cache = self.init_cache(len(x), size, size)
        found = torch.empty(len(x), self.levels, size, size, dtype=torch.float64)
        for row, column in ((n // size, n % size) for n in numbers.tolist()):
            found[:, :, row, column] = cache.logits(row, column)
            cache.append(x[:, 0, row, column], row, column)
        return found

    def init_cache(self, n: int, height: int, width: int) -> ExactCache:
        """A pass over n images; pixels may be put in any order."""
        if (height, width) != (self.world.size, self.world.size):
            raise ValueError(f"this world's images are {self.world.size} pixels wide and high; got {(height, width)}")
        return ExactCache(self, n)

    def seeing(self, x: Tensor, seen: Tensor) -> Tensor:
        """log P(level | the pixels seen) at every pixel of levels (B, 1, H, W), as (B, K, H, W).

        They are the best guesses that a network with this field of view can make, for worlds of one shape. seen:
        (H W, H W) bool, whether the guess at the pixel of the row sees that of the column, as `nets.view` finds.
        """
        size, points = self.world.size, self.world._core.points
        pairs = (size * size, size * size)
        if seen.shape != pairs or self.world.shapes != 1:
            raise ValueError(f"seen must be {pairs}, the world of one shape; got {tuple(seen.shape)}")
        keep, other = self._given_template.max(), self._given_template.min()
        found = []
        for part in torch.split(self.world._parts(x), 25):
            alike = (part == points).float() @ seen.float().T  # (b, N, d), how many seen pixels fit each template
            posterior = (alike.double() * (keep - other)).softmax(1)  # P(template | seen)
            found.append(torch.einsum("bnd,ndk->bkd", posterior, self._given_template.exp()).log())
        return torch.cat(found).unflatten(2, (size, size))  # type: ignore[no-any-return, no-untyped-call]

    def template_posterior(self, levels: Tensor, known: Tensor) -> Tensor:
        """log P(template | the known pixels), (B, N) as `Shapes.posterior`, of levels (B, 1, H, W).

        known: (H, W), which pixels are known: any set, in any place.
        """
        self.world._parts(levels)
        need_shape("known", known, self.world.size, self.world.size)
        if known.dtype != torch.bool:
            raise TypeError(f"known must be bool, True where a pixel is known; got {known.dtype}")
        cache = self.init_cache(len(levels), *known.shape)
        for row, column in known.nonzero().tolist():
            cache.append(levels[:, 0, row, column], row, column)
        posterior = cache.template_posterior()
        return posterior.squeeze(1) if self.world.shapes == 1 else posterior


class ExactCache:
    """The likelihood of every template given what was put so far, (n, parts, N)."""

    def __init__(self, exact: ExactConditionals, n: int) -> None:
        self.exact, self.core = exact, exact.world._core
        self.log_likelihood = torch.zeros(n, self.core.parts, len(self.core.points), dtype=torch.float64)

    def template_posterior(self) -> Tensor:
        """log P(template of each part | pixels put so far), (n, parts, N)."""
        return self.core._log_posterior(self.log_likelihood)

    def logits(self, row: int, column: int) -> Tensor:
        """log P(level) of this pixel given those put so far, (n, K)."""
        part, entry = self._place(row, column)
        posterior = self.template_posterior()[:, part]  # (n, N)
        return (posterior.exp() @ self.exact._given_template[:, entry].exp()).log()

    def append(self, levels: Tensor, row: int, column: int) -> None:
        """Set this pixel to levels (n,)."""
        need_index("levels", levels, self.exact.levels)
        part, entry = self._place(row, column)
        self.log_likelihood[:, part] += self.exact._given_template[:, entry, levels].mT

    def _place(self, row: int, column: int) -> tuple[int, int]:
        """The part of the image that a pixel belongs to, and its number there."""
        size = self.exact.world.size
        if not (0 <= row < size and 0 <= column < size):
            raise ValueError(f"row and column must be in 0..{size - 1}; got {row} and {column}")
        width = size // self.core.parts
        part, across = divmod(column, width)
        return part, row * width + across
