"""Captions whose words have known regions: what names what, by hand; and that maps are scored against the truth."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from minigen import metrics
from minigen.recipes.words import SHAPES
from minigen.tasks.words import WordedShapes
from minigen.worlds import Shapes

ONE = WordedShapes("one", "a shape", lambda: Shapes.preset("12x12"), shape=(8,), image=(3, 12, 12))


def number_of(task: WordedShapes, caption: str) -> int:
    return task.captions.index(caption)


def test_each_word_names_its_part() -> None:
    row = number_of(SHAPES, "a red disc and a blue square on white")
    #          <b>  a  red disc and  a blue square on white <e>
    expected = {
        "colour": [-1, -1, 1, -1, -1, -1, 2, -1, -1, -1, -1],
        "kind": [-1, -1, -1, 1, -1, -1, -1, 2, -1, -1, -1],
        "background": [-1, -1, -1, -1, -1, -1, -1, -1, -1, 0, -1],
    }
    assert {name: parts[row].tolist() for name, parts in SHAPES.parts.items()} == expected
    both = number_of(SHAPES, "a blue disc and a blue disc on black")
    assert SHAPES.parts["colour"][both].tolist() == expected["colour"]
    row = number_of(ONE, "a small red disc on blue")
    assert {name: parts[row].tolist() for name, parts in ONE.parts.items()} == {
        "size": [-1, -1, 1, -1, -1, -1, -1, -1],
        "colour": [-1, -1, -1, 1, -1, -1, -1, -1],
        "kind": [-1, -1, -1, -1, 1, -1, -1, -1],
        "background": [-1, -1, -1, -1, -1, -1, 0, -1],
    }


def test_regions_are_those_of_the_template() -> None:
    world = SHAPES.world
    x, factors = world.sample_with_factors(60, generator=torch.Generator().manual_seed(0))
    regions = SHAPES.regions(x, (12, 12))
    template = world.render(factors)
    for image, (ground, left, right) in zip(template, regions, strict=True):
        assert len({tuple(colour.tolist()) for colour in image[:, ground].T}) == 1
        for part, columns in ((left, slice(6)), (right, slice(6, 12))):
            assert len({tuple(colour.tolist()) for colour in image[:, part].T}) == 1
            assert part[:, columns].sum() == part.sum() > 8
        assert torch.equal(ground, ~(left | right))
    coarse = SHAPES.regions(x, (6, 6))
    assert coarse.shape == (60, 3, 6, 6)
    shares = regions[:, 1:].double().view(60, 2, 6, 2, 6, 2).mean((3, 5))
    assert torch.equal(coarse[:, 1:], shares >= 0.5)


def truth(task: WordedShapes, images: Tensor, number: Tensor, grid: tuple[int, int]) -> Tensor:
    """Maps that are the regions themselves."""
    regions, maps = task.regions(images, grid), torch.zeros(len(images), task.tokens.shape[1], *grid)
    for parts in task.parts.values():
        row, t = (parts[number] >= 0).nonzero(as_tuple=True)
        maps[row, t] = regions[row, parts[number][row, t]].float()
    return maps


def test_true_maps_have_the_whole_area_and_wrong_ones_have_not() -> None:
    pairs = SHAPES.test_pairs(200)
    maps = truth(SHAPES, pairs.images, pairs.number, (6, 6))
    score = SHAPES.map_scores
    assert score(maps, pairs.images, pairs.number) == {"colour": 1.0, "kind": 1.0, "background": 1.0}
    for wrong in (
        1 - maps,
        maps.flip(3),  # left and right
        maps.mT,  # rows and columns
        torch.ones_like(maps),
        maps.roll(1, 1),  # the next word's
        maps.roll(1, 0),  # another image's
    ):
        assert min(score(wrong, pairs.images, pairs.number).values()) < 0.8
    equal = score(torch.ones_like(maps), pairs.images, pairs.number)
    assert equal == {"colour": 0.5, "kind": 0.5, "background": 0.5}
    noisy = maps + torch.rand(maps.shape, generator=torch.Generator().manual_seed(0))
    found = score(noisy, pairs.images, pairs.number)["background"]
    ground = SHAPES.regions(pairs.images, (6, 6))[:, 0]
    assert found == pytest.approx(metrics.region_score(noisy[:, 9], ground).mean().item())


def test_the_truth_reaches_the_yardstick() -> None:
    def maps(x: Tensor, tokens: Tensor) -> Tensor:
        number = (tokens[:, None] == SHAPES.tokens).all(2).double().argmax(1)
        return truth(SHAPES, x, number, (6, 6))

    def exact(x: Tensor, tokens: Tensor) -> Tensor:
        number = (tokens[:, None] == SHAPES.tokens).all(2).double().argmax(1)
        return SHAPES.exact.log_posterior(x)[:, number]

    figures = SHAPES.words(maps, {"words": exact, "chance": lambda x, tokens: torch.zeros(len(x), len(tokens))}, n=256)
    assert figures["colour_map_area"] == (1.0, 1.0)
    for part in ("seen", "unseen"):
        right, chance = (figures[f"{part}_found_among_64_by_{name}"] for name in ("words", "chance"))
        assert right.model == pytest.approx(right.yardstick)
        assert right.yardstick == chance.yardstick > 0.9
        assert chance.model == pytest.approx(1 / 64)
