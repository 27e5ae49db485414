"""Drawing what a caption says: the exact denoiser, the network that is given it, the measures, and the recipes."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from minigen import data, metrics, runs
from minigen.nets.dit import DiT
from minigen.nets.text import Prompted, TextEncoder
from minigen.nets.unet import UNet
from minigen.objectives import diffusion
from minigen.recipes import RECIPES
from minigen.recipes.diffusion import draw_for
from minigen.recipes.vq import SHAPES as CODED
from minigen.train.rng import Rng
from minigen.worlds import ExactCaptions, Shapes

SHAPES, SHAPES16, DIGITS = (RECIPES["diffusion", name].task for name in ("captions", "captions16", "names"))
SMALL = {
    "size": 8,
    "kinds": ("disc", "cross"),
    "colours": ("red", "green", "white"),
    "sizes": (3,),
    "positions": (2, 1),
}


def small(shapes: int) -> Shapes:
    return Shapes(**SMALL, backgrounds=("black", "white"), shapes=shapes, noise=0.3)


@pytest.mark.parametrize("shapes", [1, 2])
@pytest.mark.parametrize("level", [(0.9, 0.4), (0.2, 0.95), (0.0, 1.0)])
def test_the_denoiser_told_a_caption_is_that_of_the_templates_that_fit(shapes: int, level: tuple[float, float]) -> None:
    world, (alpha, sigma) = small(shapes), level
    x, factors = world.sample_with_factors(6, generator=torch.Generator().manual_seed(0))
    captions = world.caption(factors)
    x_t = alpha * x.double() + sigma * torch.randn(x.shape, dtype=torch.float64)
    found = world.denoise(x_t, alpha, sigma, captions)
    variance = (0.3 * alpha) ** 2 + sigma**2
    for one, text, guess in zip(x_t, captions, found, strict=True):
        fits = world.render(world.factors(world.caption_indices(text))).double()
        weight = (-(one - alpha * fits).square().flatten(1).sum(1) / (2 * variance)).softmax(0)
        mean = torch.einsum("n,nchw->chw", weight, fits)
        torch.testing.assert_close(guess, mean + alpha * 0.09 / variance * (one - alpha * mean), atol=1e-6, rtol=0)
    alone = world.denoise(x_t[:1], alpha, sigma, captions[0])
    torch.testing.assert_close(alone, found[:1])


def test_the_mean_of_told_guesses_is_the_guess_that_is_not_told() -> None:
    world = small(2)
    law = ExactCaptions(world)
    x = world.sample(3, generator=torch.Generator().manual_seed(1)).double()
    posterior = law.log_posterior(x).exp()
    clean = [world.denoise(x, 1.0, 1e-9, text) for text in law.captions]
    mean = torch.einsum("bc,cbdhw->bdhw", posterior, torch.stack(clean))
    torch.testing.assert_close(mean, world.denoise(x, 1.0, 1e-9), atol=1e-6, rtol=0)


def test_a_caption_that_fits_nothing_is_refused() -> None:
    x = torch.zeros(1, 3, 8, 8)
    for shapes, text in ((1, "a white disc on white"), (2, "a white disc and a red disc on white")):
        with pytest.raises(ValueError, match="no image of this world fits"):
            small(shapes).denoise(x, 0.5, 0.5, text)
    with pytest.raises(ValueError, match="one caption or one for each of 1"):
        small(1).denoise(x, 0.5, 0.5, ["a red disc on white"] * 2)


def gaussian_information(snr: torch.Tensor, variance: float) -> torch.Tensor:
    """I(X_t; C) for x_0 standard normal and C = x_0 + noise of a variance, by the entropies of normal laws."""
    return 0.5 * torch.log((1 + snr) / (1 + snr * variance / (1 + variance)))


def test_information_is_that_of_a_gaussian_channel() -> None:
    log_snr = torch.linspace(-16, 12, 2001, dtype=torch.float64)
    snr = log_snr.exp()
    for variance in (0.1, 2.0):
        found = diffusion.information(1 / (1 + snr), 1 / (1 + snr + 1 / variance), log_snr)
        torch.testing.assert_close(found, gaussian_information(snr, variance), atol=1e-4, rtol=0)
        assert found[0] == 0
        for wrong in (found * 2, found.diff(prepend=found[:1]).cumsum(0).flip(0), found - 1e-2):
            assert (wrong - gaussian_information(snr, variance)).abs().max() > 5e-3


def nets(context: int) -> dict[str, nn.Module]:
    given = {"context_dim": context, "label_dim": context}
    return {
        "unet": UNet(3, width=16, multipliers=(1, 1), attention=(0, 1), patch=2, **given),
        "dit": DiT(3, size=8, patch=2, width=16, depth=2, heads=2, **given),
    }


def woken(net: nn.Module) -> nn.Module:
    """With random numbers in place of the zeros that layers begin with."""
    with torch.no_grad():
        for parameter in net.parameters():
            if not parameter.any():
                parameter.normal_(std=0.1)
    return net


@pytest.mark.parametrize("kind", ["unet", "dit"])
@pytest.mark.usefixtures("float64")
def test_a_caption_of_padding_alone_says_nothing(kind: str) -> None:
    told = woken(Prompted(nets(8)[kind], TextEncoder(9, length=6, width=8, heads=2)))
    x, log_snr = torch.randn(2, 3, 8, 8), torch.tensor([0.5, -2.0])
    nothing = torch.zeros(2, 6, dtype=torch.int64)
    silent = told.net(x, log_snr, torch.zeros(2, 8), torch.zeros(2, 1, 8))
    torch.testing.assert_close(told(x, log_snr, nothing), silent)
    assert told(x, log_snr, nothing).isfinite().all()
    words = torch.tensor([[1, 3, 4, 5, 2, 0], [1, 4, 3, 5, 2, 0]])
    found = told(x, log_snr, words)
    assert (found - silent).abs().amax((1, 2, 3)).min() > 1e-4
    torch.testing.assert_close(told(x, log_snr, words[:, :5]), found, msg="padding changes nothing")
    swapped = told(x, log_snr, words.flip(0))
    assert (swapped - found).abs().max() > 1e-4, "the order of words counts"


@pytest.mark.usefixtures("float64")
def test_dropped_captions_reach_the_network_as_padding_and_every_parameter_learns() -> None:
    model = diffusion.Denoiser(woken(Prompted(nets(8)["unet"], TextEncoder(9, length=5, width=8, heads=2))))
    heard: list[torch.Tensor] = []
    model.net.register_forward_pre_hook(lambda _, given: heard.append(given[2]))
    game = diffusion.Diffusion(model, diffusion.Schedule.even(), p_uncond=0.5).double()
    tokens = torch.tensor([[1, 3, 4, 2, 0]]).repeat(64, 1)
    ((_, loss, _),) = game.turns((torch.randn(64, 3, 8, 8), tokens), Rng())
    loss.backward()
    whole, gone = (heard[0] == tokens).all(1), (heard[0] == 0).all(1)
    assert (whole ^ gone).all()
    assert 16 < gone.sum() < 48
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for name, p in model.named_parameters())


def test_obeyed_is_more_than_half_of_the_posterior() -> None:
    world = small(1)
    x, factors = world.sample_with_factors(300, generator=torch.Generator().manual_seed(2))
    captions = world.caption(factors)
    own = ExactCaptions(world).log_posterior(x).exp()[torch.arange(300), ExactCaptions(world).number(factors)]
    assert torch.equal(metrics.obeyed_mask(x, captions, world), own > 0.5)
    assert metrics.obeyed_mask(x, captions[1:] + captions[:1], world).double().mean() < 0.3


def test_region_scores_are_shares_of_pairs() -> None:
    weights, region = torch.rand(5, 4, 6), torch.rand(5, 4, 6) < 0.3
    region[:, 0, 0], region[:, 0, 1] = True, False
    weights[0] = 0.5  # ties alone
    found = metrics.region_score(weights, region)
    for w, r, score in zip(weights, region, found, strict=True):
        pairs = [(a, b) for a in w[r].tolist() for b in w[~r].tolist()]
        assert score.item() == pytest.approx(sum((a > b) + 0.5 * (a == b) for a, b in pairs) / len(pairs))
    torch.testing.assert_close(metrics.region_score(region.float(), region), torch.ones(5, dtype=torch.float64))
    with pytest.raises(ValueError, match="inside and outside"):
        metrics.region_score(weights, torch.ones_like(region))


def test_training_never_shows_what_is_held_out() -> None:
    x, tokens = next(SHAPES.batches(batch_size=3000, seed=1, device="cpu"))
    said = set(SHAPES.vocabulary.decode(tokens))
    held_out = {SHAPES.captions[i] for i in (~SHAPES.is_seen).nonzero().flatten().tolist()}
    assert (len(SHAPES.captions), len(held_out)) == (2425, 485)
    assert not said & held_out
    assert (len(SHAPES.vocabulary.words), len(SHAPES.world)) == (16, 87_300)
    assert (len(SHAPES16.captions), len(SHAPES16.world)) == (9700, 620_800)
    assert {word for text in said for word in text.split()} == set(SHAPES.vocabulary.words)
    assert metrics.obeyed_mask(x[:300], SHAPES.vocabulary.decode(tokens[:300]), SHAPES.world).all()
    images = next(CODED.batches(batch_size=200, seed=1, device="cpu"))
    drawn = SHAPES.exact.number(SHAPES.world.map_factors(images))
    assert SHAPES.is_seen[drawn].all()


def test_the_truth_reaches_the_yardstick_and_others_do_not() -> None:
    exact = SHAPES.exact_images(SHAPES.wanted(400), seed=5)
    figures = SHAPES.evaluate(exact)
    assert figures["valid_share"] == figures["seen_obeyed_share"] == figures["unseen_obeyed_share"] == (1.0, 1.0)
    assert figures["places_nats_from_even"].model < 2 * figures["places_nats_from_even"].yardstick
    first = [SHAPES.world.caption_indices(SHAPES.captions[i])[:1] for i in SHAPES.wanted(200)]
    left_top = SHAPES.world.render(SHAPES.world.factors(torch.cat(first)))
    stuck = SHAPES.evaluate(left_top)
    assert (stuck["valid_share"].model, stuck["places_nats_from_even"].model) == (1.0, pytest.approx(math.log(36)))
    others = SHAPES.evaluate(exact.roll(7, 0))
    assert others["seen_obeyed_share"].model < 0.05
    assert SHAPES.evaluate(torch.randn(50, 3, 12, 12))["valid_share"].model == 0


def test_digits_are_named_by_the_nearest_unseen_one() -> None:
    x, tokens = next(DIGITS.batches(batch_size=300, seed=1, device="cpu"))
    said = DIGITS.vocabulary.decode(tokens)
    assert (x.shape, set(said)) == ((300, 1, 8, 8), set(DIGITS.captions))
    test = data.digits("test")
    first = torch.stack([(test.labels == i).nonzero()[0, 0] for i in range(10)])
    real = data.to_float(test.images[first]).repeat(3, 1, 1, 1)
    assert DIGITS.evaluate(real)["named_like_nearest_share"].model == 1
    assert DIGITS.evaluate(real.roll(1, 0))["named_like_nearest_share"].model == 0


@pytest.mark.parametrize(("family", "name"), [("diffusion", "captions"), ("diffusion", "names"), ("codes", "shapes")])
def test_a_recipe_builds_trains_draws_and_is_judged(family: str, name: str) -> None:
    recipe = RECIPES[family, name]
    run = recipe.build(steps=2, seed=3, device="cpu")
    losses = [step.read()["model/loss"] for step in run(recipe.batches(seed=3, device="cpu"), 2)]
    assert all(math.isfinite(loss) for loss in losses)
    x = recipe.draw(run, 12, seed=4)
    assert x.shape == (12, *recipe.task.shape)
    assert torch.equal(x, recipe.draw(run, 12, seed=4))
    if family == "diffusion":
        assert not torch.equal(x, recipe.draw(run, 12, seed=5))
    figures = runs.judge(run, recipe, x, 4)["figures"]
    assert {"seen_obeyed_share", "named_like_nearest_share"} & set(figures)


def test_drawing_without_guidance_calls_the_network_once_a_step() -> None:
    recipe = RECIPES["diffusion", "names"]
    run, rows = recipe.build(steps=2, seed=3, device="cpu"), []
    run.ema["model"].net.register_forward_pre_hook(lambda _, given: rows.append(len(given[0])))
    for scale, batch in ((1.0, 3), (2.0, 6)):
        rows.clear()
        draw_for(run, DIGITS.tokens[:3], shape=(1, 8, 8), guidance_scale=scale, steps=5)
        assert rows == [batch] * 5
