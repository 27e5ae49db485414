"""What an image says about its caption, against templates one by one, enumeration, quadrature and bounds."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from minigen.worlds import ExactCaptions, Shapes
from minigen.worlds.noise import GaussianNoise
from minigen.worlds.templates import Templates

FORMS = ["continuous", "discrete"]


def tiny(form: str = "continuous", shapes: int = 1, **settings) -> Shapes:
    """2 kinds, 2 colours, 1 or 2 places, 2 backgrounds: 16 templates, or 32 tuples of two shapes in one place each."""
    common = {"kinds": ("disc", "square"), "colours": ("red", "green"), "backgrounds": ("black", "white")}
    places = {"size": 8, "positions": (1, 2)} if shapes == 1 else {"size": 12, "positions": (1, 1)}
    noise = {"noise": 1.5, "flip": 0.3, "sizes": (5,), "form": form, "shapes": shapes}
    return Shapes(**(common | places | noise | settings))


def one_by_one(world: Shapes, x: Tensor) -> dict[str, Tensor]:
    """p(caption | image) for each caption that there is, by the likelihood of every template, pixel by pixel."""
    factors = world.factors(torch.arange(len(world)))
    templates, texts = world.render(factors), world.caption(factors)
    likelihood = []
    for template in templates:
        if world.form == "continuous":
            log_p = torch.distributions.Normal(template.double(), world.noise).log_prob(x.double())
        else:
            k = len(world.palette)
            log_p = torch.where(x == template, math.log(1 - world.flip), math.log(world.flip / (k - 1)))
        likelihood.append(log_p.double().flatten(1).sum(1))
    posterior = torch.stack(likelihood, dim=1).softmax(1)  # (B, templates)
    found: dict[str, Tensor] = {}
    for text, share in zip(texts, posterior.T, strict=True):
        found[text] = found.get(text, 0) + share
    return found


@pytest.mark.parametrize(("form", "shapes"), [*itertools.product(FORMS, (1, 2))])
def test_the_posterior_is_that_of_the_templates_one_by_one(form: str, shapes: int) -> None:
    world = tiny(form, shapes)
    exact = ExactCaptions(world)
    x, factors = world.sample_with_factors(40, generator=torch.Generator().manual_seed(1))
    found, expected = exact.log_posterior(x).double().exp(), one_by_one(world, x)
    assert set(exact.captions) == set(expected)
    assert len(exact.captions) == len(exact) == (8 if shapes == 1 else 32)
    for i, text in enumerate(exact.captions):
        torch.testing.assert_close(found[:, i], expected[text], atol=2e-6, rtol=0)
        torch.testing.assert_close(found[:, i], world.caption_posterior(x, text).double(), atol=2e-6, rtol=0)
    assert [exact.captions[i] for i in exact.number(factors)] == world.caption(factors)
    torch.testing.assert_close(exact.log_ratio(x).double(), found.log() + math.log(len(exact)), atol=1e-4, rtol=1e-5)
    entropies = sum(torch.special.entr(share) for share in expected.values())
    torch.testing.assert_close(exact.information(x).double(), exact.entropy() - entropies, atol=1e-5, rtol=0)
    assert exact.entropy() == pytest.approx(math.log(len(expected)))


def test_information_is_that_of_all_images_enumerated() -> None:
    """A disc, a square and a ring differ in 13 pixels, each red or black: 8,192 cases tell all that an image says."""
    world = Shapes(8, kinds=("disc", "square", "ring"), colours=("red",), backgrounds=("black",), sizes=(5,),
                   positions=(1, 1), form="discrete", flip=0.2)  # fmt: skip
    templates = world.render(world.factors(torch.arange(3))).flatten(1)  # (3, 64)
    differ = (templates != templates[0]).any(0)
    assert differ.sum() == 13
    cases = torch.cartesian_prod(*[torch.arange(2)] * 13)  # (8192, 13)
    alike = (cases[:, None] == templates[:, differ]).double().sum(2)
    joint = 0.8**alike * 0.2 ** (13 - alike) / 3  # p(caption, case), (8192, 3)
    marginal = joint.sum(1, keepdim=True)
    truth = (joint * (joint / (marginal / 3)).log()).sum()

    images = templates[:1].repeat(len(cases), 1)
    images[:, differ] = cases
    exact = ExactCaptions(world)
    found = exact.information(images.view(-1, 1, 8, 8))
    torch.testing.assert_close((marginal[:, 0] * found).sum(), truth, atol=1e-12, rtol=0)
    order = exact.number(world.factors(torch.arange(3)))
    ratio = exact.log_ratio(images.view(-1, 1, 8, 8))[:, order]
    torch.testing.assert_close((joint * ratio).sum(), truth, atol=1e-12, rtol=0)
    assert 0 < truth < math.log(3) - 0.05


def test_information_is_that_of_quadrature_where_noise_is_gaussian() -> None:
    """Two templates at distance d: only the projection on their difference counts, one Gaussian number."""
    world = Shapes(8, kinds=("disc", "square"), colours=("red",), backgrounds=("black",), sizes=(5,), positions=(1, 1),
                   noise=1.3)  # fmt: skip
    a, b = world.render(world.factors(torch.arange(2))).double()
    d = (a - b).norm().item() / 1.3
    z = torch.linspace(-12, 12, 4001, dtype=torch.float64)  # from the first template towards the second
    log_odds = d * z - d * d / 2  # log p(second | z) - log p(first | z)
    p = torch.sigmoid(log_odds)
    entropy = torch.special.entr(p) + torch.special.entr(1 - p)
    truth = math.log(2) - torch.trapezoid(entropy * torch.exp(-z * z / 2) / math.sqrt(2 * math.pi), z)

    x = world.sample(20_000, generator=torch.Generator().manual_seed(2))
    found = ExactCaptions(world).information(x).double()
    assert abs(found.mean() - truth) < 5 * found.std() / math.sqrt(len(x))
    assert found.std() / math.sqrt(len(x)) < 0.002


@pytest.mark.parametrize("noise", [0.6, 1.0])
def test_conditional_entropy_lies_between_the_bounds_of_pairwise_distances(noise: float) -> None:
    """H(caption | X) = H(template | X) - H(template | caption, X); each lies between Kolchinsky and Tracey's bounds."""
    world = Shapes.preset("12x12", noise=noise)
    exact = ExactCaptions(world)
    points = world._core.points.view(len(exact), 9, -1)  # the nine places of each caption
    whole = world._core.posterior_entropy
    parts = [Templates(group, GaussianNoise(noise)).posterior_entropy for group in points]
    given = sum(e.value for e in parts) / len(parts), sum(e.error for e in parts) / len(parts)
    low = whole.value - whole.error - (given[0] + given[1])
    high = whole.value + whole.error - (given[0] - given[1])
    found = exact.entropy() - exact.information(world.sample(3000, generator=torch.Generator().manual_seed(3))).double()
    slack = 4 * found.std() / math.sqrt(len(found))
    assert low - slack < found.mean() < high + slack
    assert high < 3 * found.mean()  # the bounds say something


def test_a_clear_image_says_all_of_its_caption() -> None:
    world = Shapes.preset("12x12")
    exact = ExactCaptions(world)
    x, factors = world.sample_with_factors(300, generator=torch.Generator().manual_seed(4))
    assert len(exact) == 170
    assert (exact.information(x) - math.log(170)).abs().max() < 1e-5
    assert torch.equal(exact.log_posterior(x).argmax(1), exact.number(factors))


@pytest.mark.parametrize("shapes", [1, 2])
def test_a_world_that_lacks_some_captions(shapes: int) -> None:
    world = tiny(shapes=shapes)
    split = world.split(fraction=0.25, seed=3)
    every = ExactCaptions(world)
    seen, unseen = (ExactCaptions(world, index=index) for index in split)
    assert set(seen.captions) | set(unseen.captions) == set(every.captions)
    assert not set(seen.captions) & set(unseen.captions)
    x, factors = world.sample_with_factors(50, generator=torch.Generator().manual_seed(5), index=split.train)
    rows = [every.captions.index(text) for text in seen.captions]
    expected = every.log_posterior(x)[:, rows].log_softmax(1)
    torch.testing.assert_close(seen.log_posterior(x), expected, atol=1e-4, rtol=1e-5)
    assert [seen.captions[i] for i in seen.number(factors)] == world.caption(factors)
    other = world.factors(split.test[:1])
    with pytest.raises(ValueError, match=f"'{world.caption(other)[0]}' is not among the captions"):
        seen.number(other)
    assert seen.entropy() == pytest.approx(math.log(len(seen)))


def test_half_a_caption_is_refused() -> None:
    world = tiny()
    for index in (torch.tensor([0]), torch.tensor([], dtype=torch.int64)):
        with pytest.raises(ValueError, match="index must hold whole captions"):
            ExactCaptions(world, index=index)
    assert len(ExactCaptions(world, index=torch.tensor([0, 1, 1, 0]))) == 1


@pytest.mark.parametrize("form", FORMS)
def test_numbers_have_the_type_of_the_images(form: str) -> None:
    world = tiny(form)
    x, exact = world.sample(3), ExactCaptions(world)
    wanted = torch.float32 if form == "continuous" else torch.float64
    for number in (exact.log_posterior(x), exact.log_ratio(x), exact.information(x)):
        assert number.dtype == wanted
    assert exact.log_posterior(x[:0]).shape == (0, 8)
