"""Chapter 4: what its bands must not let pass, and its formulas against other ways to them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, kl_divergence

import records
from minigen.book import CheckError, check
from minigen.objectives import conditional

BANDS = records.stored("04_conditional")
RANDOM = torch.Generator().manual_seed(0)
PRIOR = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
P, Q = (3 * torch.randn(2, 3, 6, generator=RANDOM, dtype=torch.float64)).softmax(2)  # p(x | c), a row for each c


@pytest.mark.parametrize(
    ("what", "wrong"),
    [
        ("JS by class, less JS of the mixtures, nine generators", -0.01078),  # "a mixture shows more than its classes"
        ("JS by class of the generator that does not read", 0.0),  # "the least value there is, so it obeys"
        ("value lost to D*, without the label, in nats", 0.1667),  # the JS alone: the 2 of (4.5) forgotten
        ("value that the best discriminator loses without the label, in nats", 0.1667),
        (
            "value that the best discriminator loses without the label, in nats",
            0.3345,
        ),  # "all of it, no training helps"
        ("what training loses beyond that, in nats", 0.033),  # a tenth of it is the network's own
        ("value lost to D*, projection, in nats", 0.01),  # "with the label a hundredth is lost"
        ("value lost to D*, concatenation, in nats", 0.01),
        ("the same where two classes are exchanged", 0.0),  # "zero wherever the images are right"
        ("the same where two classes are exchanged", 1.761),  # KL(p(c | x) || q(c | x)), the other way round
        ("with a classifier alone: largest standard deviation, over the data's", 1.0),  # "the wide class stays"
        ("with a classifier alone: largest standard deviation, over the data's", 0.8608),  # 0.74 were its variance
        ("with a classifier alone: entropy left of the label, over the data's", 1.0),  # "the overlap stays"
        ("named as asked for, at weight 3", 0.8286),  # "no sample is named more often than the data"
        ("data named as labelled", 0.7585),  # the mean probability of the class, no share of namings
        ("shapes: share that obeys", 0.9417),  # "only valid images obey"
        ("shapes: share that is valid", 0.61),  # no better than without labels
        ("shapes: entropy of what is free, over the world's", 0.9),  # what 22 samples of a label would give
        ("valid halfway between two labels, below the mean at the ends by", 0.012),  # "labels are like noise"
        ("the same between two noise vectors", 0.1),  # "halfway one in ten is broken"
        ("digits: named like the nearest unseen digit", 0.88),  # named worse than real ones, which have 92 %
        ("digits: distance of two of one name, over that of real ones", 1.0),  # "they vary as real ones do"
        ("digits: distance of two of one name, over that of real ones", 0.0),  # "one picture for each label"
        ("emoji: in the category asked for, Twemoji (on the card)", 0.6133),  # that of real pictures
        ("emoji: in the category asked for, Noto (on the card)", 0.5781),  # that of the other style
        ("emoji: copies of training pictures (on the card)", 0.0367),  # as many as of the test set
        ("the same against a generator that does not read its label", 0.5),  # "a wrong label is never told"
        ("gradient by G of the loss with real images, less that without", 1e-4),  # "a little it does teach"
        ("V lost in steps 21 to 40, over that in steps 1 to 20", 1.0),  # "it settles"
    ],
)
def test_a_band_leaves_out_what_is_false(what: str, wrong: float) -> None:
    assert BANDS[what].holds(BANDS[what].measured)
    assert not BANDS[what].holds(wrong)


def posterior(table: Tensor) -> Tensor:
    """The class of an image by Bayes' rule, (x, c)."""
    joint = PRIOR[:, None] * table
    return (joint / joint.sum(0)).T


def of_pairs(loss: Callable[..., Tensor], *tables: Tensor) -> Tensor:
    """The mean of a loss of logits and label over all pairs, each as often as the generator draws it."""
    c, x = torch.cartesian_prod(torch.arange(3), torch.arange(6)).T
    single = [loss(*(posterior(t).log()[x[i], None] for t in tables), c[i, None]) for i in range(18)]
    return (PRIOR[c] * Q[c, x]) @ torch.stack(single)


def rewards() -> dict[str, Tensor]:
    """The right side of (4.10) by torch's own distributions, and what is easily written in its place."""
    p_of_c, q_of_c = Categorical(posterior(P)), Categorical(posterior(Q))
    real, fake, gap = PRIOR @ P, PRIOR @ Q, kl_divergence(q_of_c, p_of_c)
    left = fake @ q_of_c.entropy()
    return {
        "right": fake @ gap + left,
        "entropy of the data": fake @ gap + real @ p_of_c.entropy(),
        "entropy of the label": fake @ gap + Categorical(PRIOR).entropy(),
        "entropy subtracted": fake @ gap - left,
        "no entropy, as with a twin": fake @ gap,
        "divergence the other way round": fake @ kl_divergence(p_of_c, q_of_c) + left,
        "divergence over the data": real @ gap + left,
    }


@pytest.mark.parametrize("name", rewards())
def test_a_classifier_rewards_a_divergence_and_the_entropy_of_the_generator(name: str) -> None:
    """(4.10) and (4.12), the losses being the library's, on a table of six images."""
    loss = of_pairs(conditional.auxiliary_loss, P)
    if name == "right":
        check("4.10", loss, rewards()[name], atol=1e-12)
        check("4.12", of_pairs(conditional.twin_loss, P, Q), rewards()["no entropy, as with a twin"], atol=1e-12)
        return
    with pytest.raises(CheckError):
        check("4.10", loss, rewards()[name], atol=0.01)


COUNTS = [[6, 4, 1, 1], [2, 5, 4, 1], [1, 1, 3, 7]]  # images of a class, of 12
FLIPS = [[8, 1, 1], [2, 7, 1], [1, 2, 7]]  # P(o | c) in tenths, a row for each c
CAUSES = {  # how much true label c weighs among the images that are written down as o
    "right": lambda c, o: (5, 3, 2)[c] * FLIPS[c][o],
    "no prior": lambda c, o: FLIPS[c][o],
    "the matrix on its side": lambda c, o: (5, 3, 2)[c] * FLIPS[o][c],
    "labels that do not lie": lambda c, o: int(c == o),
    "prior of what is written": lambda c, o: sum((5, 3, 2)[k] * FLIPS[k][c] for k in range(3)) * FLIPS[c][o],
}


@pytest.mark.parametrize("name", CAUSES)
def test_a_written_label_means_a_mixture_of_classes(name: str) -> None:
    """(4.13) in whole numbers: the library's log-densities against a count of all triples of c, o and image."""
    images, flips = (torch.tensor(row, dtype=torch.float64) for row in (COUNTS, FLIPS))
    found = conditional.noisy_log_prob((images / 12).log().T, flips / 10, PRIOR).exp()  # (image, o)
    triples = [[sum(CAUSES[name](c, o) * COUNTS[c][x] for c in range(3)) for o in range(3)] for x in range(4)]
    counted = torch.tensor(triples, dtype=torch.float64)
    if name == "right":
        check("4.13", found, counted / counted.sum(0), atol=1e-12)
        return
    with pytest.raises(CheckError):
        check("4.13", found, counted / counted.sum(0), atol=0.01)


REJECTED = {  # what the best discriminator sets against p(x | c), of the generator and of wrong pairs
    "right": lambda p, q, m: (q + m) / 2,
    "both whole": lambda p, q, m: q + m,
    "fakes alone": lambda p, q, m: q,
    "wrong pairs alone": lambda p, q, m: m,
    "wrong pairs called real": lambda p, q, m: p * q / (2 * p + m),
}


@pytest.mark.parametrize("name", REJECTED)
def test_the_best_discriminator_of_three_kinds_of_pairs_by_bisection(name: str) -> None:
    """(4.15): where the slope of the library's loss by a free logit of each image is 0; images as often as 240ths."""
    p, q, m = (torch.tensor(row) for row in ((96, 72, 48, 24), (24, 60, 60, 96), (60, 60, 80, 40)))
    at = [torch.arange(4).repeat_interleave(n) for n in (p, q, m)]
    low, high = torch.full((4,), -9.0, dtype=torch.float64), torch.full((4,), 9.0, dtype=torch.float64)
    for _ in range(40):
        free = ((low + high) / 2).requires_grad_()
        (slope,) = torch.autograd.grad(conditional.matching_aware_loss(*(free[i] for i in at)), free)
        low, high = (torch.where(slope < 0, *ends) for ends in ((free.detach(), low), (high, free.detach())))
    p, q, m = (row.double() / 240 for row in (p, q, m))
    claimed = p / (p + REJECTED[name](p, q, m))
    if name == "right":
        check("4.15", torch.sigmoid(low), claimed, atol=1e-9)
        check("4.15", conditional.matching_aware_logit(p.log(), q.log(), m.log()).sigmoid(), claimed, atol=1e-12)
        return
    with pytest.raises(CheckError):
        check("4.15", torch.sigmoid(low), claimed, atol=0.01)


def left_over(shares: Tensor) -> Tensor:
    """The mean over two labels of the JS in (4.16), for shares of image A (..., 2); the data have 0.55 and 0.45."""
    data, rejected = torch.tensor([0.55, 0.45], dtype=torch.float64).expand_as(shares), (shares + 0.5) / 2
    middle = Bernoulli((data + rejected) / 2)
    return (kl_divergence(Bernoulli(data), middle) + kl_divergence(Bernoulli(rejected), middle)).mean(-1) / 2


def test_with_wrong_pairs_a_label_that_says_little_says_twice_as_much() -> None:
    """(4.16) where exercise 4.6 has no negative density: the best of all hundredths, by torch's divergence."""
    tried = torch.cartesian_prod(*[torch.arange(101, dtype=torch.float64) / 100] * 2)
    values = left_over(tried)
    best = tried[values.argmin()]
    check("4.16", values.min(), 0.0, atol=1e-12)
    check("4.16", best, [0.6, 0.4], atol=1e-12)
    for wrong in ([0.55, 0.45], [0.5, 0.5], [0.65, 0.35], [0.4, 0.6]):  # the truth; none; three times; on its side
        with pytest.raises(CheckError):
            check("4.16", best, wrong, atol=0.01)
        assert left_over(torch.tensor(wrong, dtype=torch.float64)) > 1e-4
