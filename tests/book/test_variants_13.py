"""Chapter 13 refuses the wrong variants that its checks once let pass."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import layer_norm

import records
from minigen import metrics
from minigen.book import CheckError, band, check, refute
from minigen.nets.conditioning import Cond
from minigen.nets.transformer import ModulatedBlock
from minigen.worlds import Shapes


@pytest.fixture(scope="module")
def printed() -> dict[str, records.Band]:
    return records.stored("13_prompts")


@pytest.mark.parametrize(
    ("what", "variant"),
    [
        ("in pixels: more valid than with w = 8 throughout", -0.01),  # guidance up to log-SNR 0 alone is worse
        ("in pixels: valid at w = 8", 0.95),  # one in twenty is broken, not one in ten
        ("in codes: obeyed, w = 8 less w = 1", 0.0),  # no more captions are obeyed
        ("in pixels: obeyed, w = 8 less w = 1", 0.12),  # in pixels, too, more captions are obeyed
        ("log-SNR -3: own less the other's, mean of four", -0.02),  # own words score below those of the other shape
        ("log-SNR 0: own less the other's, mean of four", -0.02),
        ("a blue disc and a red ring on blue: valid images, of 24", 8),  # a third is valid
        ("a red disc: valid images, of 24", 8),
        ("white on ring blue a and disc red a: valid images, of 24", 8),
        ("on black, of 8 pairs, the kind's vector changes the colour in", 1),  # an accident of one pair
        ("on white, of 8 pairs, the colour's vector changes the colour in", 1),
        ("on black, of 8 pairs, the colour's vector changes the colour in", 5),
        ("on white, of 8 pairs, the kind's vector changes the colour in", 5),
        ("recall that guidance costs", 0.0),
    ],
)
def test_a_band_of_the_run_refuses_the_variant(printed: dict[str, records.Band], what: str, variant: float) -> None:
    assert printed[what].holds(printed[what].measured)
    assert not printed[what].holds(variant)


@pytest.mark.parametrize("seed", range(20))
def test_four_places_that_are_never_used_are_seen(printed: dict[str, records.Band], seed: int) -> None:
    high = printed["the 36 places: nats from even, over that of exact images"].high
    random = torch.Generator().manual_seed(seed)
    even, uneven = (metrics.evenness(torch.randint(n, (320,), generator=random), 36) for n in (36, 32))
    band("even", even.divergence / even.exact, high=high)
    with pytest.raises(CheckError):
        band("four places are never used", uneven.divergence / uneven.exact, high=high)


@pytest.mark.parametrize("certain", [False, True])
def test_a_caption_posterior_that_is_always_1_is_refused(certain: bool) -> None:
    world = Shapes.preset("12x12", shapes=2)
    text, rival = "a red disc and a blue ring on white", "a red cross and a blue ring on white"
    ends = [world.render(world.factors(world.caption_indices(c)[7:8])).double() for c in (text, rival)]
    x = 0.501 * ends[0] + 0.499 * ends[1]
    fits = world.render(world.factors(world.caption_indices(text))).double()
    log_p = -(x - fits).square().flatten(1).sum(1) / 0.02 - 432 * math.log(0.1 * math.sqrt(2 * math.pi))
    posterior = world.caption_posterior(x, text)
    by_bayes = (torch.ones(1) if certain else posterior).log() + world.log_prob(x) + math.log(2425)
    given = log_p.logsumexp(0, keepdim=True) - math.log(36)
    if certain:
        with pytest.raises(CheckError):
            check("13.1", given, by_bayes, atol=1e-9)
    else:
        check("13.1", given, by_bayes, atol=1e-9)


def variances() -> Tensor:
    found = []
    for d in (2, 4, 6):
        signs = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=torch.float64)] * (2 * d))
        found.append((signs[:, :d] * signs[:, d:]).sum(1).var(correction=0))
    return torch.stack(found)


def test_the_variance_of_a_product_of_vectors_is_d_and_nothing_that_is_4_at_4() -> None:
    d = torch.tensor([2.0, 4, 6])
    check("13.6", variances(), d, atol=1e-12)
    for wrong in (d.square() / 4, 2 * d.sqrt(), 2 ** (d / 2)):
        assert wrong[1] == 4
        with pytest.raises(CheckError):
            check("13.6", variances(), wrong, atol=1e-6)


def test_attention_to_the_words_has_no_gate() -> None:
    torch.manual_seed(0)
    block, places, words = ModulatedBlock(32, 4, context_dim=48), torch.randn(1, 36, 32), torch.randn(1, 9, 48)
    torch.nn.init.eye_(block.words.out.weight)
    added = block(places, Cond(torch.randn(1, 32), words, None)) - places
    attended = block.words(layer_norm(places, (32,)), words)
    band("what it adds less its words' attention", (added - attended).abs().max(), high=1e-5)
    with pytest.raises(CheckError):
        band("the same, with a gate that is 0", (0 * added - attended).abs().max(), high=1e-5)


def test_refutations_know_the_side_on_which_a_claim_errs() -> None:
    refute("the order of words does not matter: share obeyed", 1, 855 / 2425, by=0.6)
    refute("its nats are spread evenly", 0.25, 0.82, by=-0.4)
    for claimed, actual, by in ((855 / 2425, 1, 0.6), (0.25, 0.82, 0.4), (0.82, 0.25, -0.4)):
        with pytest.raises(CheckError):
            refute("the other side", claimed, actual, by=by)
