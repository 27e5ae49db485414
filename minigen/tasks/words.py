"""Shapes and their captions, where the region of every word is known (chapter 05)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from minigen import metrics
from minigen.objectives.contrastive import recall_at_k
from minigen.tasks.captions import DescribedShapes, Score, blocks
from minigen.tasks.task import Measured
from minigen.worlds.captions import NAMED, prefixes

Maps = Callable[[Tensor, Tensor], Tensor]  # images (n, C, H, W) and tokens (n, T) to weights (n, T, h, w)


class WordedShapes(DescribedShapes):
    """Images of shapes and their captions; besides, how well maps of words single out what the words name.

    A word names the background, part 0, or says something of a shape, part 1 (the left one of two) or 2; words such as
    "and" name nothing.
    """

    @cached_property
    def parts(self) -> dict[str, Tensor]:
        """The part that each token of each caption names by colour, kind, size or background, else -1: each (C, T)."""
        found = {name: torch.full_like(self.tokens, -1) for name in (*NAMED, "background")}
        fronts = ("", *prefixes(self.world.shapes))
        for row, caption in enumerate(self.captions):
            part = 1
            for t, word in enumerate(caption.split(), start=1):  # behind the token that begins
                part = {"and": part + 1, "on": 0}.get(word, part)
                for name in NAMED if part else ("background",):
                    if word in self.world.values[fronts[part] + name]:
                        found[name][row, t] = part
        return {name: parts for name, parts in found.items() if (parts >= 0).any()}

    def regions(self, images: Tensor, grid: tuple[int, int]) -> Tensor:
        """The places of each part in images (n, 3, H, W), the background first: bool (n, 1 + shapes, h, w).

        By the most probable template of each image. A place of the grid (h, w) is a shape's where the shape covers half
        of it or more.
        """
        levels = self.world.to_levels(self.world.render(self.world.map_factors(images)))  # (n, 1, H, W)
        ground = levels.flatten(1).mode(dim=1).values.view(-1, 1, 1, 1)
        patch = levels.shape[2] // grid[0], levels.shape[3] // grid[1]
        shape = avg_pool2d((levels != ground).double(), patch) >= 0.5  # (n, 1, h, w)
        half = torch.arange(grid[1]) * self.world.shapes // grid[1]  # of each column
        own = torch.stack([half == part for part in range(self.world.shapes)])[None, :, None]  # (1, shapes, 1, w)
        return torch.cat([~shape, shape & own], dim=1)

    def map_scores(self, maps: Tensor, images: Tensor, number: Tensor) -> dict[str, float]:
        """`metrics.region_score` of maps (n, T, h, w) for captions (n,), the mean over the words that name a factor."""
        regions = self.regions(images, (maps.shape[2], maps.shape[3]))
        found = {}
        for name, parts in self.parts.items():
            row, t = (parts[number] >= 0).nonzero(as_tuple=True)
            region = regions[row, parts[number][row, t]]
            found[name] = metrics.region_score(maps[row, t], region).mean().item()
        return found

    def words(self, maps: Maps, scores: Mapping[str, Score], *, n: int = 1024) -> dict[str, Measured]:
        """How well the words of n unseen images find their regions, and how often images find their captions among 64.

        The first by factor, as the area under the curve, where 1 is the most; the second by each of the scores, beside
        the exact critic, among images of seen and of unseen combinations, n / 2 each, in groups of 64.
        """
        pairs = self.test_pairs(n)
        tokens = self.tokens[pairs.number]
        areas = self.map_scores(maps(pairs.images, tokens), pairs.images, pairs.number)
        figures = {f"{name}_map_area": Measured(area, 1.0) for name, area in areas.items()}
        for part, seen in enumerate(("seen", "unseen")):
            x, number = pairs.images[part::2], pairs.number[part::2]
            exact = blocks(recall_at_k, self.exact.log_posterior(x)[:, number], 64)
            groups = list(zip(torch.split(x, 64), torch.split(self.tokens[number], 64), strict=True))[: len(x) // 64]
            for name, score in scores.items():
                mine = torch.cat([recall_at_k(score(*group)) for group in groups]).mean().item()
                figures[f"{seen}_found_among_64_by_{name}"] = Measured(mine, exact)
        return figures
