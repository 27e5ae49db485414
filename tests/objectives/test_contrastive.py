"""Contrastive bounds against mutual information that is known, their optimum, and N processes that act as one."""

from __future__ import annotations

import itertools
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional

from minigen.data.batches import Stream
from minigen.data.vocabulary import BOS, EOS, PAD, Vocabulary
from minigen.nets.text import Captioner, Encoded, ImageEncoder, TextEncoder
from minigen.objectives import contrastive
from minigen.objectives.captioning import Captioning, caption_log_prob
from minigen.objectives.contrastive import Contrastive, DualEncoder, information_bound
from minigen.samplers import captions
from minigen.train.loop import Run
from minigen.train.optimizers import adam_per_player
from minigen.train.rng import Rng
from minigen.worlds import ExactCaptions, Shapes

pytestmark = pytest.mark.usefixtures("float64")

JOINT = torch.tensor([[4.0, 1, 1, 2], [1, 3, 0.5, 1], [0.5, 1, 4, 1]], dtype=torch.float64)
JOINT = JOINT / JOINT.sum()  # of 3 images and 4 captions
RATIO = JOINT / (JOINT.sum(1, keepdim=True) * JOINT.sum(0))
INFORMATION = (JOINT * RATIO.log()).sum()


def expected_bound(critic: Tensor, n: int, bound=information_bound) -> Tensor:
    """The exact mean over all batches of n independent pairs out of 12, for a critic's scores (3, 4)."""
    pairs = torch.cartesian_prod(torch.arange(3), torch.arange(4))  # (12, 2)
    total = torch.zeros(())
    for batch in itertools.product(range(12), repeat=n):
        x, c = pairs[list(batch)].T
        total = total + JOINT[x, c].prod() * bound(critic[x][:, c]).mean()
    return total


def test_the_loss_is_cross_entropy_with_the_own_pair_as_the_class() -> None:
    scores = 3 * torch.randn(7, 7)
    by_row = functional.cross_entropy(scores, torch.arange(7), reduction="none")
    torch.testing.assert_close(contrastive.info_nce(scores), by_row)
    by_column = functional.cross_entropy(scores.T, torch.arange(7))
    torch.testing.assert_close(contrastive.symmetric_loss(scores), (by_row.mean() + by_column) / 2)
    f = scores.exp()  # eq. 4, from f itself
    by_hand = [-math.log(f[i, i] / sum(f[i])) for i in range(7)]
    torch.testing.assert_close(contrastive.info_nce(scores), torch.tensor(by_hand))
    torch.testing.assert_close(information_bound(scores), math.log(7) - by_row)
    big = torch.tensor([[0.0, 900.0], [-900.0, 900.0]])
    assert contrastive.info_nce(big).tolist() == [900.0, 0.0]


def test_gradients_are_those_of_finite_differences() -> None:
    scores = torch.randn(4, 4, requires_grad=True)
    images, captions = torch.randn(2, 4, 3).requires_grad_()
    logit_scale = torch.tensor(0.7, requires_grad=True)

    def loss(*inputs: Tensor) -> Tensor:
        return contrastive.symmetric_loss(contrastive.cosine_scores(*inputs))

    assert torch.autograd.gradcheck(contrastive.info_nce, (scores,))
    assert torch.autograd.gradcheck(loss, (images, captions, logit_scale))
    logits, tokens = torch.randn(2, 3, 5, requires_grad=True), torch.tensor([[1, 3, 4, 2], [1, 3, 2, 0]])
    assert torch.autograd.gradcheck(lambda o: caption_log_prob(o, tokens), (logits,))


@pytest.mark.parametrize("n", [2, 3])
def test_no_critic_exceeds_the_information_or_log_n_and_the_log_ratio_is_best(n: int) -> None:
    best = expected_bound(RATIO.log(), n)
    assert best < min(INFORMATION, math.log(n))
    generator = torch.Generator().manual_seed(0)
    for size in (0.1, 0.5, 3.0):
        other = RATIO.log() + size * torch.randn(3, 4, generator=generator)
        assert expected_bound(other, n) < best
    for wrong in (JOINT.log(), RATIO, 2 * RATIO.log(), -RATIO.log(), (JOINT / JOINT.sum(1, keepdim=True)).log()):
        assert expected_bound(wrong, n) < best - 1e-4


def test_the_log_ratio_is_stationary_and_images_may_add_what_they_like() -> None:
    """Rows: up to any function of the image. Both directions: up to a number."""
    critic = RATIO.log().clone().requires_grad_()
    for bound in (information_bound, contrastive.symmetric_loss):
        (slope,) = torch.autograd.grad(expected_bound(critic, 2, bound), critic)
        assert slope.abs().max() < 1e-12
    best = expected_bound(RATIO.log(), 2)
    by_image, by_caption = torch.randn(3, 1), torch.randn(1, 4)
    torch.testing.assert_close(expected_bound(RATIO.log() + by_image, 2), best)
    assert expected_bound(RATIO.log() + by_caption, 2) < best - 1e-3
    both = expected_bound(RATIO.log(), 2, contrastive.symmetric_loss)
    assert expected_bound(RATIO.log() + by_image, 2, contrastive.symmetric_loss) > both + 1e-3
    torch.testing.assert_close(expected_bound(RATIO.log() + 3.7, 2, contrastive.symmetric_loss), both)


def leave_one_out(scores: Tensor) -> Tensor:
    n = len(scores)
    others = scores.masked_fill(torch.eye(n, dtype=torch.bool), -math.inf)
    return scores.diagonal() - others.logsumexp(1) + math.log(n - 1)


@pytest.mark.parametrize(
    ("wrong", "exceeds"),
    [
        (lambda s: -contrastive.info_nce(s), False),
        (lambda s: 2 * math.log(len(s)) - contrastive.info_nce(s), True),
        (lambda s: math.log2(len(s)) - contrastive.info_nce(s), True),
        (lambda s: math.log(len(s)) + contrastive.info_nce(s), True),
        (leave_one_out, True),
        (lambda s: information_bound(s) / math.log(2), None),
        (lambda s: math.log(len(s) - 1) - contrastive.info_nce(s), None),
    ],
    ids=["log N forgotten", "N squared", "log N in bits", "loss added", "own left out", "bits", "N - 1"],
)
def test_wrong_bounds_are_no_bounds_or_looser_or_another_number(wrong, exceeds: bool | None) -> None:
    right, value = expected_bound(RATIO.log(), 3), expected_bound(RATIO.log(), 3, wrong)
    assert abs(value - right) > 0.05
    if exceeds is not None:
        assert (value > INFORMATION) == exceeds


class Pairs:
    """x and y standard normal with correlation rho: I = -1/2 log(1 - rho^2)."""

    def __init__(self, rho: float) -> None:
        self.rho, self.information = rho, -math.log(1 - rho**2) / 2

    def log_ratio(self, x: Tensor, y: Tensor) -> Tensor:
        r2 = self.rho**2
        return self.information - (r2 * (x * x + y * y) - 2 * self.rho * x * y) / (2 * (1 - r2))

    def sample(self, *shape: int) -> tuple[Tensor, Tensor]:
        x, e = torch.randn(2, *shape)
        return x, self.rho * x + math.sqrt(1 - self.rho**2) * e


def estimate(law: Pairs, n: int, batches: int) -> tuple[float, float]:
    """The mean best bound over batches of n pairs, and its standard error."""
    x, y = law.sample(batches, n)
    bound = torch.vmap(lambda a, b: information_bound(law.log_ratio(a[:, None], b)).mean(), chunk_size=2**22 // n**2)
    found = bound(x, y)
    return found.mean().item(), (found.std() / math.sqrt(batches)).item()


@pytest.mark.parametrize("rho", [0.5, 0.9, 0.99])
def test_gaussian_pairs_the_best_bound_grows_with_n_towards_the_information(rho: float) -> None:
    torch.manual_seed(1)
    law = Pairs(rho)
    bounds = [estimate(law, n, 200) for n in (2, 8, 64, 512)]
    for (low, error), (high, other) in itertools.pairwise(bounds):
        assert low < high + 4 * (error + other)
    for (bound, error), n in zip(bounds, (2, 8, 64, 512), strict=True):
        assert bound < min(law.information, math.log(n)) + 4 * error
    gap = law.information - bounds[-1][0]
    assert gap < 0.02 * (1 if rho < 0.99 else 2) + 4 * bounds[-1][1]
    assert bounds[0][0] < 0.85 * min(law.information, math.log(2))


def test_gaussian_pairs_of_two_against_quadrature() -> None:
    """N = 2: the mean of log r(x, y) - log((r(x, y) + r(x, y')) / 2) over x, y given x, and an independent y'."""
    law, (z, w) = Pairs(0.8), map(torch.from_numpy, np.polynomial.hermite_e.hermegauss(60))
    w = w / w.sum()
    x, e, other = torch.meshgrid(z, z, z, indexing="ij")
    own, alien = law.log_ratio(x, 0.8 * x + 0.6 * e), law.log_ratio(x, other)
    value = own - torch.logaddexp(own, alien) + math.log(2)
    truth = torch.einsum("ijk,i,j,k->", value, w, w, w).item()
    bound, error = estimate(law, 2, 60_000)
    assert abs(bound - truth) < 5 * error
    assert error < 0.003


@pytest.mark.parametrize(("kinds", "n"), [(3, 2), (3, 4), (5, 3)])
def test_images_that_say_all_of_their_caption_give_the_closed_form(kinds: int, n: int) -> None:
    """The best bound is then log N - E log(1 + K), K ~ Binomial(N - 1, 1 / kinds): how many others have its caption."""
    found = []
    for batch in itertools.product(range(kinds), repeat=n):
        c = torch.tensor(batch)
        found.append(information_bound(torch.where(c[:, None] == c, math.log(kinds), -1e9)).mean())
    p = 1 / kinds
    closed = math.log(n) - sum(math.comb(n - 1, k) * p**k * (1 - p) ** (n - 1 - k) * math.log(1 + k) for k in range(n))
    assert torch.stack(found).mean().item() == pytest.approx(closed, abs=1e-12)
    assert closed < min(math.log(n), math.log(kinds))


def test_the_worlds_own_ratio_bounds_its_information_in_both_forms() -> None:
    for settings in ({"noise": 1.0}, {"form": "discrete", "flip": 0.5}):
        world = Shapes.preset("12x12", **settings)
        exact = ExactCaptions(world)
        x, factors = world.sample_with_factors(2048, generator=torch.Generator().manual_seed(2))
        information, scores = exact.information(x).mean(), exact.log_ratio(x)[:, exact.number(factors)].double()
        bounds = [
            torch.stack([information_bound(scores[i : i + n, i : i + n]).mean() for i in range(0, 2048, n)])
            for n in (16, 256, 2048)
        ]
        means = [b.mean().item() for b in bounds]
        assert means == sorted(means)
        assert means[0] < math.log(16)
        assert means[2] < information + 0.02
        assert information - means[2] < 0.1 < information - means[1]


def test_retrieval_counts_ties_as_a_fair_draw() -> None:
    scores = torch.tensor([[2.0, 1, 0], [3, 3, 3], [5, 0, 4]])
    assert contrastive.recall_at_k(scores).tolist() == pytest.approx([1, 1 / 3, 0])
    assert contrastive.recall_at_k(torch.zeros(8, 8)).mean().item() == pytest.approx(1 / 8)
    assert contrastive.recall_at_k(torch.zeros(5, 5)).sum().item() == pytest.approx(1)


def test_cosines_are_divided_by_the_temperature() -> None:
    images, captions = torch.randn(4, 3), torch.randn(5, 3)
    expected = functional.cosine_similarity(images[:, None], captions, dim=2) / 0.05
    torch.testing.assert_close(contrastive.cosine_scores(images, captions, -math.log(0.05)), expected)
    longer = contrastive.cosine_scores(7 * images, captions / 3, torch.tensor(-math.log(0.05)))
    torch.testing.assert_close(longer, expected)


def towers(temperature: float = 0.07) -> DualEncoder:
    images, captions = ImageEncoder((1, 4, 4), width=8, blocks=1, heads=1), TextEncoder(6, length=4, width=8, heads=1)
    return DualEncoder(images, captions, size=5, temperature=temperature)


def batch(n: int = 6) -> tuple[Tensor, Tensor]:
    words = torch.randint(3, 6, (n, 2))
    tokens = torch.cat([torch.full((n, 1), BOS), words, torch.full((n, 1), EOS)], dim=1)
    return torch.randn(n, 1, 4, 4), tokens


def test_the_objective_is_clips_pseudocode_and_keeps_the_scale_below_a_hundred() -> None:
    """Radford et al. 2021, figure 3, line by line."""
    game, (x, tokens) = Contrastive(towers()), batch()
    i_f, t_f = game.model.images(x).pooled, game.model.captions(tokens).pooled
    i_e = functional.normalize(game.model.from_images(i_f))
    t_e = functional.normalize(game.model.from_captions(t_f))
    logits = i_e @ t_e.T * game.model.logit_scale.exp()
    labels = torch.arange(6)
    expected = (functional.cross_entropy(logits, labels) + functional.cross_entropy(logits.T, labels)) / 2
    turns = game.turns((x, tokens), Rng())
    player, loss, logs = next(turns)
    assert player == "model"
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(logs["bound"], math.log(6) - expected)
    assert logs["temperature"].item() == pytest.approx(0.07)
    torch.testing.assert_close(game.model.scores(x, tokens), logits)
    loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in game.parameters())
    game.model.logit_scale.data.fill_(9.0)
    assert next(turns, None) is None
    assert game.model.logit_scale.exp().item() == pytest.approx(100)
    with pytest.raises(ValueError, match=r"temperature must be a finite number, at least 0\.01; got 0"):
        towers(temperature=0)


def test_training_comes_up_to_the_information_of_a_small_world() -> None:
    torch.set_default_dtype(torch.float32)
    world = Shapes(8, kinds=("disc", "cross"), colours=("red", "green"), sizes=(5,), positions=(2, 2),
                   backgrounds=("black", "white"), noise=0.3)  # fmt: skip
    exact = ExactCaptions(world)
    tokens = Vocabulary.of(exact.captions).encode(exact.captions)

    def draw(n: int, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        x, factors = world.sample_with_factors(n, generator=generator)
        return x, tokens[exact.number(factors)]

    torch.manual_seed(0)
    vocabulary = len(Vocabulary.of(exact.captions))
    words = TextEncoder(vocabulary, length=tokens.shape[1], width=32, blocks=1)
    net = DualEncoder(ImageEncoder((3, 8, 8), width=32, blocks=1), words, size=16, temperature=0.04)
    game = Contrastive(net)
    for step in Run(game, adam_per_player(game, 3e-3))(Stream(draw, batch_size=64), 200):
        last = step
    x, own = draw(1024, generator=torch.Generator().manual_seed(7))
    with torch.no_grad():
        reached = math.log(1024) - contrastive.symmetric_loss(net.scores(x, own)).item()
    information = exact.information(x).mean().item()
    assert information == pytest.approx(math.log(8), abs=0.05)
    assert information - 0.25 < reached < information + 0.02, (reached, information)
    assert last.read()["bound"] < math.log(64)


def test_a_captions_log_probability_sums_over_words_and_the_end_and_not_over_padding() -> None:
    logits, tokens = torch.randn(3, 4, 6), torch.tensor([[1, 3, 5, 4, 2], [1, 4, 2, 0, 0], [1, 2, 0, 0, 0]])
    expected = []
    for row, words in zip(logits.log_softmax(2), tokens.tolist(), strict=True):
        expected.append(sum(row[t, word].item() for t, word in enumerate(words[1:]) if word != PAD))
    torch.testing.assert_close(caption_log_prob(logits, tokens), torch.tensor(expected))
    theirs = functional.cross_entropy(logits.mT, tokens[:, 1:], ignore_index=PAD, reduction="none").sum(1)
    torch.testing.assert_close(caption_log_prob(logits, tokens), -theirs)
    logits[:, :, PAD] = -math.inf  # as the captioner gives them
    assert caption_log_prob(logits, tokens).isfinite().all()
    with pytest.raises(ValueError, match=r"\(B, T - 1, K\) for tokens \(B, T\); got \(3, 4, 6\) and \(3, 4\)"):
        caption_log_prob(logits, tokens[:, :4])
    with pytest.raises(ValueError, match=r"scores must be \(N, N\).*got \(2, 3\)"):
        contrastive.info_nce(torch.zeros(2, 3))


@pytest.fixture
def captioner() -> Captioner:
    torch.manual_seed(4)
    return Captioner(ImageEncoder((1, 4, 4), width=8, blocks=1, heads=1), 5, length=5, blocks=1, heads=1)


def test_captions_are_drawn_from_the_law_that_scores_them(captioner) -> None:
    x, n = torch.randn(1, 1, 4, 4), 20_000
    rows = [[BOS, *words, EOS] for k in range(4) for words in itertools.product((3, 4), repeat=k)]
    every = torch.tensor([row + [PAD] * (5 - len(row)) for row in rows])
    drawn = captions.generate(captioner, x.expand(n, -1, -1, -1), torch.rand(n, 4))
    share = (drawn[:, None] == every).all(2).double().mean(0)
    assert share.sum().item() == pytest.approx(1)
    p = captions.score_captions(captioner, x, every)[0].exp()
    assert p.sum().item() == pytest.approx(1, abs=1e-9)
    assert (share - p).abs().max() < 5 * math.sqrt(0.25 / n)
    direct = Captioning(captioner).log_prob(every, x.expand(15, -1, -1, -1)).exp()
    torch.testing.assert_close(p, direct)


def test_a_greedy_caption_takes_the_best_word_each_time(captioner) -> None:
    x = torch.randn(20, 1, 4, 4)
    found = captions.generate(captioner, x, torch.rand(20, 4), temperature=0)
    assert torch.equal(found, captions.generate(captioner, x, torch.rand(20, 4), temperature=0))
    for image, tokens in zip(x, found, strict=True):
        said = [BOS]
        while said[-1] != EOS:
            logits = captioner.next_words(torch.tensor([said]), captioner.see(image[None]))
            said.append(int(logits[0, -1].argmax()))
        assert tokens.tolist() == said + [PAD] * (5 - len(said))


def test_the_captioning_objective_is_minus_the_mean_log_probability(captioner) -> None:
    tokens, x = torch.tensor([[1, 3, 2, 0], [1, 4, 4, 2]]), torch.randn(2, 1, 4, 4)
    ((player, loss, _),) = Captioning(captioner).turns((x, tokens), Rng())
    assert player == "model"
    torch.testing.assert_close(loss, -caption_log_prob(captioner(tokens, x), tokens).mean())
    assert Encoded(*captioner.images(x)).tokens.shape == (2, 4, 8)


def half_of_a_batch(rank: int, folder: str) -> None:
    """One of two processes: its gradients averaged with the other's, as the loop does, and the loss."""
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(11)
    game, whole = Contrastive(towers()), batch(8)
    loss = next(game.turns(tuple(part.chunk(2)[rank] for part in whole), Rng()))[1]
    found = [*torch.autograd.grad(loss, list(game.parameters())), loss.detach()]
    for tensor in found:
        dist.all_reduce(tensor)
    torch.save([tensor / 2 for tensor in found], Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_give_the_loss_and_gradients_of_one(tmp_path) -> None:
    torch.multiprocessing.spawn(half_of_a_batch, (str(tmp_path),), nprocs=2)
    torch.manual_seed(11)
    game, whole = Contrastive(towers()), batch(8)
    loss = next(game.turns(whole, Rng()))[1]
    expected = [*torch.autograd.grad(loss, list(game.parameters())), loss.detach()]
    for rank in (0, 1):
        torch.testing.assert_close(torch.load(tmp_path / f"{rank}.pt", weights_only=True), expected)
    alone = [next(game.turns(tuple(part.chunk(2)[r] for part in whole), Rng()))[1].item() for r in (0, 1)]
    assert abs(sum(alone) / 2 - loss.item()) > 0.1, "without gathering each would choose among half as many"


def test_one_process_gathers_nothing() -> None:
    rows = torch.randn(3, 2, requires_grad=True)
    assert contrastive.gather(rows) is rows
    assert isinstance(Contrastive(towers()).model, nn.Module)
