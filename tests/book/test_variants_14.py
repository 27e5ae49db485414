"""Chapter 14 refuses the wrong variants that its checks once let pass."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

import records
from minigen.book import CheckError, check, refute
from minigen.objectives import contrastive
from minigen.worlds import ExactCaptions, Shapes


@pytest.fixture(scope="module")
def printed() -> dict[str, records.Band]:
    return records.stored("14_captions")


@pytest.mark.parametrize(
    ("what", "variant"),
    [
        ("a class that never occurs: probability on its own images, after training", 0.31),  # it is left as it was
        ("held-out captions whose size, colour and kind are trained on together", 0),
        ("exact critic: finds the own among 64", 0.63),  # ties are lost
        ("exact critic: finds it, ties lost", 0.8),  # ties count as a fair draw
        ("least rise of the mean cosine with one more word in common", 0.2),
        ("stored: below the exact critic among 2,048, nats", 0.06),
        ("unseen: share of right captions", 0.73),  # the writer does as well as the finder
    ],
)
def test_a_band_of_the_run_refuses_the_variant(printed: dict[str, records.Band], what: str, variant: float) -> None:
    assert printed[what].holds(printed[what].measured)
    assert not printed[what].holds(variant)


def masked_bound() -> float:
    """Mean of log N less the loss in batches of 4 of 3 captions, the repetitions of the own one left out."""
    batch = torch.cartesian_prod(*[torch.arange(3)] * 4)
    sharp = torch.where(batch[:, :, None] == batch[:, None], math.log(3), -1e9)
    masked = sharp.masked_fill((sharp > 0) & ~torch.eye(4, dtype=torch.bool), -1e9)
    return torch.vmap(contrastive.information_bound)(masked).mean().item()


def test_that_a_masked_bound_exceeds_is_not_shown_by_one_below() -> None:
    assert masked_bound() == pytest.approx(math.log(4), abs=1e-6)
    refute("masked, as a bound", masked_bound(), math.log(3), by=0.25)
    with pytest.raises(CheckError):
        refute("masked, 0.25 below the information", math.log(3) - 0.26, math.log(3), by=0.25)


def table_world() -> tuple[Tensor, Tensor, Tensor]:
    joint = torch.tensor([[4.0, 1, 1, 2], [1, 3, 0.5, 1], [0.5, 1, 4, 1]], dtype=torch.float64)
    joint = joint / joint.sum()
    p_c = joint.sum(0)
    return joint, p_c, (joint / joint.sum(1, keepdim=True) / p_c).log()


def test_the_gap_of_the_best_bound_is_chi_squared_over_2n_and_not_its_lower_bound() -> None:
    joint, p_c, log_r = table_world()
    size = 100
    n = torch.cartesian_prod(*[torch.arange(size)] * 3).double()
    n = torch.cat([n, size - 1 - n.sum(1, keepdim=True)], dim=1)
    n = n[n[:, 3] >= 0]
    chance = (math.lgamma(size) + (n * p_c.log() - torch.lgamma(n + 1)).sum(1)).exp()
    gap = sum(
        joint[i, c] * (chance @ ((log_r[i, c].exp() + n @ log_r[i].exp()) / size).log())
        for i, c in itertools.product(range(3), range(4))
    )
    check("14.8", chance.sum(), 1.0, atol=1e-9)
    check("14.8", 2 * size * gap / ((joint * log_r.exp()).sum() - 1), 1.0, atol=0.03)
    with pytest.raises(CheckError):
        check("14.8", 2 * size * gap / ((joint * log_r).sum().exp() - 1), 1.0, atol=0.03)


def test_refutations_know_the_side_on_which_a_claim_errs() -> None:
    for claimed, actual, by in ((4.13, 7.78, -3), (0, 0.54, -0.5), (math.log(2 / 3), 0, -0.4)):
        refute("too small", claimed, actual, by=by)
        with pytest.raises(CheckError):
            refute("too small, called too large", claimed, actual, by=-by)


CHOICES = {  # scores of a best critic, the new p(c)
    "right": lambda f, p: p * f.exp(),
    "without the new p(c)": lambda f, p: f.exp(),
    "p(c) divided out": lambda f, p: f.exp() / p,
    "p(c) under the exponential": lambda f, p: (p * f).exp(),
    "a square": lambda f, p: p * (2 * f).exp(),
}


@pytest.mark.parametrize("name", CHOICES)
def test_a_choice_from_a_new_list_knows_the_new_probabilities(name: str) -> None:
    joint, p_c, log_r = table_world()
    kept, new_p = torch.tensor([0, 2, 3]), torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64)
    new_joint = (joint / p_c)[:, kept] * new_p
    weighted = CHOICES[name]((log_r + torch.tensor([[1.0], [-2], [0.5]]))[:, kept], new_p)
    chosen, by_bayes = weighted / weighted.sum(1, keepdim=True), new_joint / new_joint.sum(1, keepdim=True)
    if name == "right":
        check("14.11", chosen, by_bayes, atol=1e-9)
        return
    with pytest.raises(CheckError):
        check("14.11", chosen, by_bayes, atol=1e-9)


@pytest.mark.parametrize("name", ["right", "twice the noise", "no square", "one template each", "other captions"])
def test_a_caption_has_the_probability_of_its_templates(name: str) -> None:
    """At a noise where several captions are possible; the library's own posterior by captions cannot be the judge."""
    world = Shapes.preset("12x12", noise=3.0)
    law, factors = ExactCaptions(world), world.factors(torch.arange(len(world)))
    x = world.sample(20, generator=torch.Generator().manual_seed(0)).double()
    distance = torch.cdist(x.flatten(1), world.render(factors).double().flatten(1))
    exponent = {"twice the noise": distance.square() / 72, "no square": distance / 18}
    of_template = (-exponent.get(name, distance.square() / 18)).softmax(1)
    number = law.number(factors).roll(9 if name == "other captions" else 0)
    summed = torch.zeros(20, len(law), dtype=torch.float64).index_add(1, number, of_template)
    if name == "one template each":
        summed = torch.zeros(20, len(law), dtype=torch.float64).index_copy(1, number, of_template)
    if name == "right":
        check("14.1", law.log_posterior(x).exp(), summed, atol=1e-9)
        return
    with pytest.raises(CheckError):
        check("14.1", law.log_posterior(x).exp(), summed, atol=1e-9)
