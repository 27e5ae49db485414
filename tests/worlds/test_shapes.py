"""Shapes against enumeration of all images or templates, quadrature, autograd and its own samples."""

import itertools
import math

import numpy as np
import pytest
import torch
from small_shapes import all_templates, seeded, small
from torch import Tensor
from torch.distributions import Categorical, MixtureSameFamily, Normal

from minigen.worlds import Shapes, Templates
from minigen.worlds.drawing import COLOURS
from minigen.worlds.noise import FlipNoise, GaussianNoise

FORMS = ["continuous", "discrete"]


def enumerated(world: Shapes, x: Tensor) -> Tensor:
    """log p(x, template), (B, N), over every template of the whole image, by torch.distributions."""
    templates, _ = all_templates(world)
    if world.form == "continuous":
        pixels = Normal(templates.double(), world._core.law.std).log_prob(x[:, None].double())
    else:
        levels, flip = len(world.palette), world._core.law.flip
        keep = (1 - flip) * torch.nn.functional.one_hot(templates, levels).double()
        other = flip / (levels - 1) * (1 - torch.nn.functional.one_hot(templates, levels).double())
        pixels = Categorical(probs=keep + other).log_prob(x[:, None])
    return pixels.flatten(2).sum(2) - math.log(len(world))


def tiny_gaussian(parts: int) -> Templates:
    points, groups = torch.tensor([[-0.6], [0.5], [0.1]], dtype=torch.float64), torch.tensor([0, 0, 1])
    return Templates(points, GaussianNoise(0.4), groups=groups, parts=parts)


def tiny_flip(parts: int) -> Templates:
    points, groups = torch.tensor([[0, 1], [2, 2], [1, 0], [0, 0], [1, 1]]), torch.tensor([0, 0, 1, 1, 1])
    return Templates(points, FlipNoise(0.3, 3), groups=groups, parts=parts)


def line(step: float = 0.02) -> Tensor:
    return torch.arange(-5, 5, step, dtype=torch.float64)


def every_observation(core: Templates) -> tuple[Tensor, Tensor]:
    """All observations (M, parts, d) and their weights in a sum or an integral."""
    if isinstance(core.law, FlipNoise):
        x = torch.cartesian_prod(*[torch.arange(3)] * (2 * core.parts)).view(-1, core.parts, 2)
        return x, torch.ones(len(x))
    x = torch.cartesian_prod(*[line()] * core.parts).view(-1, core.parts, 1)
    return x, torch.full((len(x),), 0.02**core.parts, dtype=torch.float64)


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("make", [tiny_flip, tiny_gaussian])
def test_probability_sums_to_one_and_entropy_lies_within_its_bounds(make, parts: int):
    core = make(parts)
    x, weight = every_observation(core)
    log_p = core.log_prob(x).double()
    assert float((log_p.exp() * weight).sum()) == pytest.approx(1, abs=1e-9)
    exact = -float((log_p.exp() * log_p * weight).sum())
    entropy = core.entropy()
    assert entropy.error > 0.02  # strong noise: the bounds must really work here
    assert entropy.value - entropy.error < exact < entropy.value + entropy.error


@pytest.mark.parametrize("make", [tiny_flip, tiny_gaussian])
def test_numbers_and_tuples_of_templates_convert_both_ways(make):
    core = make(2)
    tuples = core.decode(torch.arange(len(core)))
    pairs = itertools.product(range(len(core.points)), repeat=2)
    assert {tuple(t) for t in tuples.tolist()} == {(a, b) for a, b in pairs if core.groups[a] == core.groups[b]}
    assert torch.equal(core.encode(tuples), torch.arange(len(core)))
    with pytest.raises(ValueError, match="same group"):
        core.encode(torch.tensor([[0, len(core.points) - 1]]))


def test_the_most_probable_tuple_weighs_both_parts():
    core, x = tiny_gaussian(2), torch.randn(300, 2, 1, generator=seeded(), dtype=torch.float64)
    shown = core.points[core.decode(torch.arange(len(core)))]  # (N, 2, 1)
    best = Normal(shown, 0.4).log_prob(x[:, None]).sum((2, 3)).argmax(1)
    assert torch.equal(core.encode(core.most_probable(x)), best)


def test_divergences_of_the_noise_laws_equal_their_definitions():
    gauss, flip = GaussianNoise(0.3), FlipNoise(0.2, 5)
    p, q = Normal(0.0, 0.3), Normal(0.7, 0.3)
    kl = float(torch.distributions.kl_divergence(p, q))
    assert gauss.kl_per_distance * 0.7**2 == pytest.approx(kl, rel=1e-5)
    overlap = ((p.log_prob(line()) + q.log_prob(line())) / 2).exp().sum() * 0.02
    assert gauss.bhattacharyya_per_distance * 0.7**2 == pytest.approx(-math.log(overlap), rel=1e-5)
    a, b = [0.8, 0.05, 0.05, 0.05, 0.05], [0.05, 0.8, 0.05, 0.05, 0.05]
    assert flip.kl_per_distance == pytest.approx(sum(x * math.log(x / y) for x, y in zip(a, b, strict=True)))
    affinity = sum(math.sqrt(x * y) for x, y in zip(a, b, strict=True))
    assert flip.bhattacharyya_per_distance == pytest.approx(-math.log(affinity))
    assert flip.entropy_per_number() == pytest.approx(-sum(x * math.log(x) for x in a))


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize(("alpha", "sigma"), [(0.8, 0.6), (1.0, 0.2), (0.3, 2.0)])
def test_marginal_denoise_and_score_equal_bayes_by_quadrature(parts: int, alpha: float, sigma: float):
    core = tiny_gaussian(parts)
    x_t = torch.randn(5, parts, 1, generator=seeded(), dtype=torch.float64)
    x_0, weight = every_observation(core)
    likelihood = Normal(alpha * x_0, sigma).log_prob(x_t[:, None]).sum((2, 3))
    joint = (core.log_prob(x_0) + likelihood).exp() * weight  # (5, M)
    torch.testing.assert_close(core.log_prob(x_t, alpha=alpha, sigma=sigma), joint.sum(1).log(), rtol=0, atol=1e-7)
    mean = (joint @ x_0.squeeze(2) / joint.sum(1, keepdim=True))[..., None]
    torch.testing.assert_close(core.denoise(x_t, alpha, sigma), mean, rtol=0, atol=1e-7)
    tweedie = (x_t + sigma**2 * core.score(x_t, alpha, sigma)) / alpha
    torch.testing.assert_close(core.denoise(x_t, alpha, sigma), tweedie)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shapes", [1, 2])
def test_probabilities_equal_enumeration_of_all_templates(shapes: int, form: str):
    world = small(shapes, form)
    x = world.sample(20, generator=seeded())
    joint = enumerated(world, x)
    torch.testing.assert_close(world.log_prob(x).double(), joint.logsumexp(1), rtol=1e-6, atol=0)
    posterior = joint.softmax(1)
    assert 0.01 < float(posterior.amax(1).mean()) < 0.95  # the noise does confuse templates
    _, factors = all_templates(world)
    for column, name in enumerate(world.factor_names):
        values = torch.nn.functional.one_hot(factors[:, column], len(world.values[name])).double()
        torch.testing.assert_close(world.factor_posterior(x, name).double(), posterior @ values, rtol=0, atol=1e-4)
        torch.testing.assert_close(world.prior(name), values.mean(0))
    most_probable = world.index(world.map_factors(x))  # may tie
    torch.testing.assert_close(joint.gather(1, most_probable[:, None]).squeeze(1), joint.amax(1))
    if shapes == 1:
        torch.testing.assert_close(world.posterior(x).exp().double(), posterior, rtol=0, atol=1e-4)
    captions = world.caption(factors)
    for caption in captions[:: len(captions) // 7]:
        obeys = posterior[:, world.caption_indices(caption)].sum(1)
        torch.testing.assert_close(world.caption_posterior(x, caption).double(), obeys, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("shapes", [1, 2])
def test_score_is_the_gradient_of_the_marginal_log_density(shapes: int):
    world = small(shapes, noise=0.4)
    x = world.sample(6, generator=seeded()).double().requires_grad_()
    (gradient,) = torch.autograd.grad(world.log_prob(x).sum(), x)
    torch.testing.assert_close(world.score(x.detach()), gradient, rtol=0, atol=1e-9)
    alpha, sigma = torch.linspace(0.9, 0.1, 6), torch.linspace(0.1, 2, 6)
    (gradient,) = torch.autograd.grad(world.marginal_log_prob(x, alpha, sigma).sum(), x)
    torch.testing.assert_close(world.score(x.detach(), alpha, sigma), gradient, rtol=0, atol=1e-9)
    rows = [world.denoise(x[i : i + 1], float(alpha[i]), float(sigma[i])) for i in range(6)]
    torch.testing.assert_close(world.denoise(x, alpha, sigma), torch.cat(rows))


@pytest.mark.parametrize("shapes", [1, 2])
def test_denoise_at_the_ends(shapes: int):
    world = small(shapes)
    x = world.sample(4, generator=seeded())
    torch.testing.assert_close(world.denoise(x, 1.0, 0.0), x)
    mean = all_templates(world)[0].mean(0)
    torch.testing.assert_close(world.denoise(x, 0.0, 1.0), mean.expand_as(x), rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="not both be 0"):
        world.denoise(x, 0.0, 0.0)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shapes", [1, 2])
def test_entropy_is_the_mean_of_minus_log_prob(shapes: int, form: str):
    world = Shapes.preset("12x12", shapes=shapes, form=form)
    x, factors = world.sample_with_factors(4000, generator=seeded())
    nats, entropy = -world.log_prob(x).double(), world.entropy()
    assert entropy.error < 1e-4
    assert abs(float(nats.mean()) - entropy.value) < 4 * float(nats.std()) / 4000**0.5
    # the same without the noise of the noise: log p(x | T) - log p(x) is log N less the tiny ambiguity
    clean = world.render(factors)
    if form == "continuous":
        given_template = Normal(clean.double(), 0.1).log_prob(x.double()).flatten(1).sum(1)
    else:
        changed = (x != clean).flatten(1).sum(1)
        given_template = changed * math.log(0.01 / 7) + (144 - changed) * math.log(0.99)
    torch.testing.assert_close(float((given_template + nats).mean()), math.log(len(world)), rtol=0, atol=2e-3)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shapes", [1, 2])
def test_independent_pixel_nll_equals_the_product_of_the_true_marginals(shapes: int, form: str):
    world = small(shapes, form, noise=0.3, flip=0.1)
    levels, _ = all_templates(small(shapes, "discrete"))
    share = torch.nn.functional.one_hot(levels.flatten(1), len(world.palette)).double().mean(0)  # (pixels, K)
    if form == "continuous":
        channels = Normal(world.palette.double().T[:, None], 0.3)  # (3, 1, K)
        marginals = MixtureSameFamily(Categorical(share.expand(3, -1, -1)), channels)
        x = world.sample(4000, generator=seeded()).double().flatten(2)
        nats = -marginals.log_prob(x).sum((1, 2))
        error = float(nats.std()) / 4000**0.5
        assert abs(world.independent_pixel_nll() - float(nats.mean())) < 4 * error
        assert error < 0.02 * float(nats.mean() - world.entropy().value)
    else:
        noisy = share * 0.9 + (1 - share) * 0.1 / (len(world.palette) - 1)
        assert world.independent_pixel_nll() == pytest.approx(float(Categorical(probs=noisy).entropy().sum()))
    assert world.independent_pixel_nll() > world.entropy().value + 1


def test_marginal_entropy_of_one_number_by_quadrature():
    core = tiny_gaussian(2)
    weights = torch.tensor([2 / 5, 2 / 5, 1 / 5], dtype=torch.float64)  # 4 pairs of the first group, 1 of the second
    log_p = (Normal(core.points[:, 0], 0.4).log_prob(line()[:, None]).exp() @ weights).log()
    assert core.marginal_entropy() == pytest.approx(-2 * float((log_p.exp() * log_p).sum()) * 0.02, abs=1e-9)


@pytest.mark.parametrize("form", FORMS)
def test_samples_follow_the_stated_noise_and_the_prior(form: str):
    world, n = Shapes(form=form, noise=0.2, flip=0.25), 3000
    x, factors = world.sample_with_factors(n, generator=seeded())
    clean = world.render(factors)
    if form == "continuous":
        residual = (x - clean).flatten()
        assert abs(float(residual.mean())) < 4 * 0.2 / len(residual) ** 0.5
        assert float(residual.std()) == pytest.approx(0.2, rel=0.01)
        assert float(x.amax()) > 1  # not clipped
    else:
        changed = x != clean
        assert float(changed.double().mean()) == pytest.approx(0.25, abs=4 * (0.25 * 0.75 / x.numel()) ** 0.5)
        jumps = torch.bincount((x - clean)[changed] % 8, minlength=8).double()
        assert jumps[0] == 0
        assert ((jumps[1:] / jumps.sum() - 1 / 7).abs() < 4 * (1 / 7 / jumps.sum()) ** 0.5).all()
    for column, name in enumerate(world.factor_names):
        prior = world.prior(name)
        share = torch.bincount(factors[:, column], minlength=len(prior)) / n
        assert ((share - prior).abs() < 4.5 * (prior / n).sqrt()).all()
    assert torch.equal(x, world.sample(n, generator=seeded()))


@pytest.mark.parametrize(("name", "shapes", "count"), [("12x12", 1, 1530), ("12x12", 2, 87_300), ("16x16", 2, 620_800)])
def test_presets(name: str, shapes: int, count: int):
    world = Shapes.preset(name, shapes=shapes)
    assert len(world) == count
    codes = world._by_level.law.encode(world._by_level.points)
    differing = world._by_level.law.distance(codes, codes).fill_diagonal_(99)
    assert float(differing.min()) >= 4  # pixels by which any two templates of an image or half differ
    assert world.render(world.factors(torch.arange(0, count, 999))).abs().max() <= 0.8


def test_palette_is_well_separated():
    colours = torch.tensor(list(COLOURS.values()))
    assert float(torch.pdist(colours).min()) >= 1
    assert float(colours.abs().max()) <= 0.8 + 1e-6


@pytest.mark.parametrize("form", FORMS)
def test_every_clean_template_is_recognised(form: str):
    world = Shapes(form=form)
    index = torch.arange(len(world))
    templates, factors = all_templates(world)
    assert torch.equal(world.index(factors), index)
    assert torch.equal(world.map_factors(templates), factors)
    nearest, differing = world.nearest_template(templates)
    assert torch.equal(nearest, index)
    assert not differing.any()
    assert (factors[:, 0] == 2).sum() == 450  # on blue there are five colours only
    blue = factors[factors[:, 0] == world.values["background"].index("blue")]
    assert (blue[:, 2] != world.values["colour"].index("blue")).all()


@pytest.mark.parametrize("shapes", [1, 2])
def test_nearest_template_counts_changed_pixels(shapes: int):
    world = Shapes.preset("12x12", shapes=shapes, form="discrete")
    index = torch.arange(0, len(world), len(world) // 50)
    x = world.render(world.factors(index))
    x[:, :, 3, 2] = (x[:, :, 3, 2] + 3) % 8
    nearest, differing = world.nearest_template(x)
    assert torch.equal(nearest, index)
    assert (differing == 1).all()
    rgb = world.to_rgb(x) + 0.25 * torch.rand(len(x), 3, 12, 12, generator=seeded())
    nearest, differing = Shapes.preset("12x12", shapes=shapes).nearest_template(rgb)
    assert torch.equal(nearest, index)
    assert (differing == 1).all()
    assert torch.equal(world.to_levels(rgb), x)


@pytest.mark.parametrize("shapes", [1, 2])
def test_split_holds_out_combinations_but_no_value(shapes: int):
    world = Shapes.preset("12x12", shapes=shapes)
    split = world.split(fraction=0.2, seed=3)
    assert torch.equal(torch.cat([split.train, split.test]).sort().values, torch.arange(len(world)))
    assert len(split.test) / len(world) == pytest.approx(0.2, abs=0.01)
    named = [i for i, name in enumerate(world.factor_names) if not name.endswith(("row", "column"))]
    train, test = ({tuple(row) for row in world.factors(index)[:, named].tolist()} for index in split)
    assert not train & test
    seen = world.factors(split.train)
    for column, name in enumerate(world.factor_names):
        assert len(seen[:, column].unique()) == len(world.values[name])
    _, factors = world.sample_with_factors(500, generator=seeded(), index=split.test)
    assert {tuple(row) for row in factors[:, named].tolist()} <= test
    assert torch.equal(split.test, world.split(fraction=0.2, seed=3).test)
    assert not torch.equal(split.test, world.split(fraction=0.2, seed=4).test)
    with pytest.raises(ValueError, match="cannot hold out"):
        world.split(fraction=1.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shapes": 2}, r"shape of 7 pixels do not fit into 12 x 6"),
        ({"size": 9, "positions": (4, 3)}, "fewer positions="),
        ({"kinds": ("disc", "blob")}, r"different names out of disc, .*; got \('disc', 'blob'\)"),
        ({"colours": ("red",), "backgrounds": ("red",)}, "red is the only colour"),
        ({"kinds": ("disc", "square"), "sizes": (3,)}, "look the same"),
        ({"sizes": (7, 5)}, "sizes must be one to three, ascending"),
        ({"form": "binary"}, "continuous"),
        ({"noise": 0.0}, "noise must be a positive"),
        ({"form": "discrete", "flip": 0.9}, "flip must be in"),
    ],
)
def test_impossible_worlds_are_explained(arguments: dict, message: str):
    with pytest.raises(ValueError, match=message):
        Shapes(**arguments)


def test_wrong_inputs_are_explained():
    world, discrete = Shapes(), Shapes(form="discrete")
    with pytest.raises(ValueError, match=r"images must be \(B, 3, 12, 12\); got \(4, 1, 12, 12\)"):
        world.log_prob(torch.zeros(4, 1, 12, 12))
    with pytest.raises(ValueError, match="with 144 pixels out of range"):
        discrete.log_prob(torch.full((1, 1, 12, 12), 8))
    with pytest.raises(ValueError, match='needs form="continuous"'):
        discrete.denoise(discrete.sample(1), 0.7, 0.7)
    with pytest.raises(ValueError, match="unknown factor 'color'; this world has background, kind, colour"):
        world.factor_posterior(world.sample(1), "color")
    with pytest.raises(ValueError, match="has its background's colour"):
        world.index(torch.tensor([[2, 0, 2, 0, 0, 0]]))
    with pytest.raises(ValueError, match="no template"):
        world.sample(1, index=torch.tensor([], dtype=torch.int64))
    with pytest.raises(ValueError, match=r"numbers or \(4,\); got \(3,\)"):
        world.denoise(world.sample(4), torch.ones(3), 1.0)


def test_a_seed_of_numpy_is_a_seed() -> None:
    world = Shapes(8, sizes=(5,), positions=(2, 2))
    assert torch.equal(world.split(seed=np.int64(3)).test, world.split(seed=3).test)
