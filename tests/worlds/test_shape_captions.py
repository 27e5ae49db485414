"""Captions of shapes: they name exactly their factors, are read back, and images obey them."""

import itertools
import math

import pytest
import torch
from small_shapes import all_templates, seeded, small

from minigen.worlds import Shapes


@pytest.mark.parametrize("world", [Shapes(), small(2, colours=("red", "green")), Shapes(sizes=(5, 6, 7))])
def test_captions_name_exactly_their_factors_both_ways(world: Shapes):
    _, factors = all_templates(world)
    captions = world.caption(factors)
    free = [i for i, name in enumerate(world.factor_names) if name.endswith(("row", "column"))]
    for caption in set(captions):
        rows = factors[[i for i, other in enumerate(captions) if other == caption]]
        assert torch.equal(world.factors(world.caption_indices(caption)), rows)
        named = {name: int(rows[0, i]) for i, name in enumerate(world.factor_names) if i not in free}
        unsaid = {name for name in named if len(world.values[name]) == 1}
        assert {k: v for k, v in named.items() if k not in unsaid} == world.parse(caption)
        positions = math.prod(len(world.values[world.factor_names[i]]) for i in free)
        assert len(rows) == len(rows.unique(dim=0)) == positions


def test_caption_wording():
    one, two = Shapes(), Shapes.preset("16x16", shapes=2)
    assert one.caption(torch.tensor([[2, 0, 0, 0, 1, 1]])) == ["a small red disc on blue"]
    factors = torch.tensor([[2, 0, 0, 0, 1, 1, 1, 1, 1, 0, 0]])
    assert two.caption(factors) == ["a small red disc and a large green square on blue"]
    named = {"left colour": 0, "left kind": 0, "right size": 1, "right kind": 1, "background": 2}
    assert two.parse("a red disc and a large square on blue") == named
    assert len(one.caption_indices("a red disc")) == 3 * 2 * 9
    assert len(one.caption_indices("a small blue disc on blue")) == 0


@pytest.mark.parametrize(
    ("caption", "message"),
    [
        ("a scarlet disc on blue", "unknown word 'scarlet' where one of these may stand: small, large, red"),
        ("a red disc on green", "unknown word 'green' where one of these may stand: black, white, blue"),
        ("a red green disc on blue", "names the colour twice"),
        ("a red disc and a green disc on blue", "names 2 shapes; images of this world show 1"),
    ],
)
def test_captions_that_do_not_parse_are_explained(caption: str, message: str):
    with pytest.raises(ValueError, match=message):
        Shapes().parse(caption)


def test_images_obey_their_captions_and_no_others():
    world = Shapes.preset("12x12", shapes=2)
    x, factors = world.sample_with_factors(50, generator=seeded())
    captions = world.caption(factors)
    assert (world.caption_posterior(x, captions) > 0.999).all()
    others = captions[1:] + captions[:1]
    same = torch.tensor([a == b for a, b in itertools.pairwise([*captions, captions[0]])])
    assert (world.caption_posterior(x, others)[~same] < 0.001).all()
    with pytest.raises(ValueError, match="one for each of 50 images; got 49"):
        world.caption_posterior(x, captions[1:])
