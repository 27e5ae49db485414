"""The contracts of chapter 13 against PyTorch's attention, the library's objects, closed forms and loops."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from minigen import metrics
from minigen.homework import CONTRACTS, assess
from minigen.nets.attention import Attention
from minigen.objectives.diffusion import Denoiser, Diffusion, Schedule
from minigen.worlds import ExactCaptions, Shapes

MASKS = [[1, 1, 0, 1, 0], [0, 1, 1, 1, 1], [1, 1, 1, 1, 1], [0, 0, 0, 1, 0]]


def reference(name: str):
    return CONTRACTS[f"prompts.{name}"].reference


def vectors(places: int = 3, words: int = 5, d: int = 4, e: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values, float64."""
    generator = torch.Generator().manual_seed(5)
    q, k, v = (torch.randn(n, size, generator=generator).double() for n, size in ((places, d), (words, d), (words, e)))
    return q, k, v


def pytorchs(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    mask = None if mask is None else mask[None]
    return functional.scaled_dot_product_attention(q[None], k[None], v[None], attn_mask=mask)[0]


def attended_by_hand(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    rows = []
    for query in q.tolist():
        total, taken = 0.0, [0.0] * v.shape[1]
        for key, value, there in zip(k.tolist(), v.tolist(), mask.tolist(), strict=True):
            weight = math.exp(sum(a * b for a, b in zip(query, key, strict=True)) / len(query) ** 0.5) if there else 0.0
            total += weight
            taken = [before + weight * x for before, x in zip(taken, value, strict=True)]
        rows.append([x / total for x in taken] if total else taken)
    return torch.tensor(rows, dtype=torch.float64)


@pytest.mark.parametrize("sizes", [(3, 5, 4, 2), (6, 2, 1, 3), (1, 1, 2, 2), (4, 4, 4, 4)])
def test_attention_is_pytorchs_and_by_hand(sizes: tuple[int, ...]) -> None:
    q, k, v = (x.requires_grad_() for x in vectors(*sizes))
    found, theirs = reference("attention")(q, k, v), pytorchs(q, k, v)
    torch.testing.assert_close(found, theirs)
    torch.testing.assert_close(found, attended_by_hand(q, k, v, torch.ones(len(k))))
    slopes = [torch.autograd.grad(attended.square().sum(), (q, k, v)) for attended in (found, theirs)]
    torch.testing.assert_close(*slopes)


@pytest.mark.parametrize("there", MASKS)
def test_masked_attention_is_pytorchs_by_hand_and_that_among_the_words(there: list[int]) -> None:
    (q, k, v), mask = vectors(), torch.tensor(there).bool()
    found = reference("masked_attention")(q, k, v, mask)
    torch.testing.assert_close(found, pytorchs(q, k, v, mask.expand(3, 5)))
    torch.testing.assert_close(found, attended_by_hand(q, k, v, mask))
    torch.testing.assert_close(found, reference("attention")(q, k[mask], v[mask]))


@pytest.mark.parametrize("size", [1000.0, -1000.0])
def test_scores_of_any_size_are_survived(size: float) -> None:
    """Two words of equal score, and a third one far from them; exp overflows for either."""
    q, k = torch.tensor([[size], [1.0]]), torch.tensor([[1.0], [1.0], [-1.0]])
    v, third = torch.tensor([[2.0], [4.0], [7.0]]), 1 / (1 + 2 * math.exp(2))
    expected = torch.tensor([[3.0 if size > 0 else 7.0], [3 * (1 - third) + 7 * third]])
    torch.testing.assert_close(reference("attention")(q, k, v), expected)
    found = reference("masked_attention")(q, k, v, torch.tensor([True, True, False]))
    torch.testing.assert_close(found, torch.tensor([[3.0], [3.0]]))


def test_without_words_there_is_nothing_to_take_and_every_gradient_is_zero() -> None:
    q, k, v = (x.requires_grad_() for x in vectors())
    found = reference("masked_attention")(q, k, v, torch.zeros(5, dtype=torch.bool))
    assert torch.equal(found, torch.zeros(3, 2, dtype=torch.float64))
    for slope in torch.autograd.grad(found.sum(), (q, k, v)):
        assert torch.equal(slope, torch.zeros_like(slope))


def test_what_a_layer_of_one_head_does_is_masked_attention() -> None:
    layer = Attention(6, 1, context_dim=4).double()
    places, words, mask = torch.randn(3, 6).double(), torch.randn(5, 4).double(), torch.tensor(MASKS[0]).bool()
    with torch.no_grad():
        k, v = layer.key_value(words).chunk(2, dim=1)
        expected = layer(places[None], words[None], mask[None])[0]
        found = layer.out(reference("masked_attention")(layer.query(places), k, v, mask))
    torch.testing.assert_close(found, expected)


def test_captions_are_dropped_as_the_objective_drops_them() -> None:
    tokens = torch.tensor([[1, 5, 2, 0], [1, 3, 4, 2], [1, 2, 0, 0]])
    uniform, seen = torch.tensor([0.3, 0.1, 0.2]), []

    class Given:
        def integers(self, *_):
            return torch.zeros(3, dtype=torch.int64)

        def normal(self, *_):
            return torch.ones(3, 1, 2, 2)

        def uniform(self, *_):
            return uniform

    class Listens(nn.Module):
        def forward(self, x, log_snr, tokens):
            seen.append(tokens)
            return x

    objective = Diffusion(Denoiser(Listens()), Schedule.cosine(10), p_uncond=0.2)
    list(objective.turns((torch.zeros(3, 1, 2, 2), tokens), Given()))
    assert torch.equal(seen[0], reference("drop_captions")(tokens, uniform, 0.2))
    assert seen[0].tolist() == [[1, 5, 2, 0], [0, 0, 0, 0], [1, 2, 0, 0]]


@given(st.integers(0, 2**31), st.floats(0, 1), st.integers(1, 9), st.integers(2, 7))
def test_a_caption_goes_altogether_or_stays_as_it_is(seed: int, share: float, batch: int, length: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(1, 9, (batch, length), generator=generator)
    uniform = torch.rand(batch, generator=generator)
    found = reference("drop_captions")(tokens, uniform, share)
    assert found.dtype == torch.int64
    limit = torch.tensor(share).item()  # as it is in the precision of the numbers
    for before, after, number in zip(tokens.tolist(), found.tolist(), uniform.tolist(), strict=True):
        assert after == ([0] * length if number < limit else before)


def test_the_share_is_that_of_the_captions_that_go() -> None:
    uniform = torch.rand(40_000, generator=torch.Generator().manual_seed(0))
    found = reference("drop_captions")(torch.ones(40_000, 2, dtype=torch.int64), uniform, 0.15)
    assert (found == 0).all(1).double().mean().item() == pytest.approx(0.15, abs=0.006)  # 3 standard errors: 0.0054


@pytest.mark.parametrize("variance", [0.05, 0.5, 4.0])
@pytest.mark.parametrize("last", [0.0, 3.0, 16.0])
def test_information_between_gaussians_has_a_closed_form(variance: float, last: float) -> None:
    """x_0 standard normal, the context x_0 plus noise of this variance; x_t = a x_0 + s eps up to the last level."""
    log_snr = torch.linspace(-25, last, 20_001, dtype=torch.float64)
    snr = log_snr.exp()
    found = reference("information")(1 / (1 + snr), 1 / (1 + snr + 1 / variance), log_snr)
    cov = torch.eye(2, dtype=torch.float64) + torch.diag(torch.tensor([variance, math.exp(-last)]).double())
    cov[0, 1] = cov[1, 0] = 1.0  # of the context and of x_t / a, which share x_0
    expected = 0.5 * (cov[0, 0] * cov[1, 1] / cov.det()).log()
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_chance_errors_of_estimates_cancel() -> None:
    log_snr = torch.linspace(-3, 3, 201, dtype=torch.float64)
    none, chance = torch.ones(201, dtype=torch.float64), 0.1 * (-1.0) ** torch.arange(201) / log_snr.exp()
    assert abs(reference("information")(none + chance, none, log_snr).item()) < 1e-3
    assert reference("information")(none, none - chance.abs(), log_snr).item() == pytest.approx(0.3)


def test_an_image_says_all_of_a_label_that_it_shows() -> None:
    """x_0 = -1 or 1, which the context names: log 2 nats, when the noise is gone."""
    log_snr = torch.linspace(-20, 5, 4001, dtype=torch.float64)
    z = torch.linspace(-9, 9, 3001, dtype=torch.float64)
    density = (-0.5 * z.square()).exp() / math.sqrt(2 * math.pi)
    snr = log_snr.exp()[:, None]
    mean = torch.trapezoid(density * (snr + snr.sqrt() * z).tanh(), z, dim=1)  # E[x_0 E[x_0 | x_t]]
    found = reference("information")(1 - mean, torch.zeros(4001, dtype=torch.float64), log_snr)
    assert found.item() == pytest.approx(math.log(2), abs=1e-5)


def test_obedience_is_that_of_the_world() -> None:
    shape = {"kinds": ("disc", "square"), "colours": ("red", "green"), "backgrounds": ("black", "white"), "size": 8}
    world = Shapes(**shape, sizes=(5,), positions=(1, 2), noise=2.0)
    exact = ExactCaptions(world)
    x, factors = world.sample_with_factors(300, generator=torch.Generator().manual_seed(1))
    found = reference("obedience")(exact.log_posterior(x), exact.number(factors)).item()
    assert found == pytest.approx(metrics.obeyed_mask(x, world.caption(factors), world).double().mean().item())
    assert 0.2 < found < 0.9, "an image of much noise may show another caption, or none"


@given(st.integers(0, 2**31), st.integers(2, 6), st.integers(1, 12), st.floats(0.1, 5.0))
def test_obedience_by_hand(seed: int, captions: int, batch: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    posterior = (scale * torch.randn(batch, captions, generator=generator, dtype=torch.float64)).log_softmax(1)
    wanted = torch.randint(captions, (batch,), generator=generator)
    obeyed = [math.exp(row[i]) > 0.5 for row, i in zip(posterior.tolist(), wanted.tolist(), strict=True)]
    assert reference("obedience")(posterior, wanted).item() == pytest.approx(sum(obeyed) / batch)


def test_half_of_the_posterior_is_not_more_than_half() -> None:
    half = torch.full((3, 2), math.log(0.5))
    for posterior in (half, half.double(), torch.full((3, 2), 0.5).log()):
        assert reference("obedience")(posterior, torch.tensor([0, 1, 0])).item() == 0


def mann_whitney(weights: Tensor, region: Tensor) -> float:
    """By the sum of ranks, ties at their mean rank (Mann and Whitney 1947)."""
    flat, inside = weights.flatten().tolist(), region.flatten().tolist()
    order = sorted(flat)
    rank = {x: order.index(x) + (order.count(x) + 1) / 2 for x in set(flat)}
    n = sum(inside)
    total = sum(rank[x] for x, here in zip(flat, inside, strict=True) if here)
    return (total - n * (n + 1) / 2) / (n * (len(flat) - n))


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=12, max_size=12))
def test_the_score_of_a_region_is_that_of_mann_and_whitney(places) -> None:
    weights = torch.tensor([float(weight) for weight, _ in places]).view(3, 4)
    region = torch.tensor([here for _, here in places]).view(3, 4)
    if not region.any() or region.all():
        return
    found = reference("region_score")(weights, region).item()
    assert found == pytest.approx(mann_whitney(weights, region))
    assert found + reference("region_score")(weights, ~region).item() == pytest.approx(1)
    assert found == pytest.approx(reference("region_score")(weights.exp() + 2, region).item()), "the order alone counts"


def test_the_score_of_a_region_at_its_ends() -> None:
    region = torch.tensor([[True, True, False], [False, False, False]])
    score = reference("region_score")
    assert score(torch.where(region, 2.0, 1.0), region) == 1
    assert score(torch.where(region, 1.0, 2.0), region) == 0
    assert score(torch.ones(2, 3), region) == 0.5


def among_the_words(q, k, v, mask):
    return functional.softmax(torch.einsum("td,sd->ts", q, k[mask]) / q.shape[-1] ** 0.5, dim=-1) @ v[mask]


def one_by_one(tokens, uniform, share):
    kept = tokens.clone()
    for i in range(len(tokens)):
        if uniform[i] < share:
            kept[i] = 0
    return kept


def by_steps(error, error_told, log_snr):
    height = (error - error_told) * log_snr.exp()
    return 0.25 * ((height[1:] + height[:-1]) * (log_snr[1:] - log_snr[:-1])).sum()


def one_image_after_another(log_posterior, wanted):
    return sum(float(row.exp()[i] > 0.5) for row, i in zip(log_posterior, wanted, strict=True)) / len(wanted)


ANOTHER_WAY = {
    "attention": [
        pytorchs,
        lambda q, k, v: torch.stack([((k @ row) / math.sqrt(len(row))).softmax(0) @ v for row in q]),
        lambda q, k, v: (torch.log_softmax((q / q.shape[1] ** 0.5) @ k.T, 1)).exp() @ v,
    ],
    "masked_attention": [
        among_the_words,
        lambda q, k, v, m: (q @ k.T / q.shape[1] ** 0.5).masked_fill(~m, -1e9).softmax(1) * m @ v,
        lambda q, k, v, m: torch.where(m, q @ k.T / q.shape[1] ** 0.5, -math.inf).softmax(1).nan_to_num() @ v,
        lambda q, k, v, m: pytorchs(q, k, v, m.expand(len(q), -1)) if m.any() else q.new_zeros(len(q), v.shape[1]),
    ],
    "drop_captions": [
        one_by_one,
        lambda t, u, s: torch.where((u < s)[:, None], 0, t),
        lambda t, u, s: t.masked_fill(u.lt(s).unsqueeze(1), 0),
    ],
    "information": [by_steps, lambda e, c, s: torch.trapezoid((e - c) * s.exp() / 2, s).item()],
    "obedience": [
        one_image_after_another,
        lambda p, w: (p.softmax(1)[torch.arange(len(p)), w] > 0.5).double().mean(),
        lambda p, w: (p[range(len(w)), w] > math.log(0.5)).sum() / len(w),
    ],
    "region_score": [
        mann_whitney,
        lambda w, r: ((w[r][:, None] - w[~r][None]).sign().mean() + 1) / 2,
    ],
}


@pytest.mark.parametrize(("name", "answer"), [(name, answer) for name in ANOTHER_WAY for answer in ANOTHER_WAY[name]])
def test_a_right_answer_may_be_written_in_another_way(name: str, answer) -> None:
    assert str(assess(f"prompts.{name}", answer)) == f"✓ prompts.{name}: right, on random and on extreme inputs"


def overflows(q, k, v):
    weights = torch.exp(torch.einsum("td,sd->ts", q, k) / math.sqrt(q.shape[1]))
    return (weights / weights.sum(-1)[:, None]) @ v


def left_with_nan(q, k, v, mask):
    return (q @ k.T / q.shape[1] ** 0.5 + mask.log()).softmax(-1) @ v


def filled_and_left(q, k, v, mask):
    return torch.where(mask, q @ k.T / q.shape[1] ** 0.5, -math.inf).softmax(-1) @ v


def dropped_words(tokens, uniform, share):
    return torch.where(uniform < share, 0, tokens)


@pytest.mark.parametrize(
    ("name", "answer", "misconception"),
    [
        ("attention", lambda q, k, v: (k @ q.T / q.shape[1] ** 0.5).T.softmax(0) @ v, "over the places"),
        ("attention", lambda q, k, v: torch.softmax(k @ q.T / q.shape[1] ** 0.5, 1) @ v, "queries and keys swapped"),
        ("attention", lambda q, k, v: pytorchs(q * q.shape[1] ** 0.5, k, v), "not scaled"),
        ("attention", overflows, "overflow"),
        ("attention", lambda q, k, v: v[(q @ k.T).argmax(1)], "the best word alone"),
        ("masked_attention", lambda q, k, v, m: pytorchs(q, k, v * m[:, None]), "masked afterwards"),
        ("masked_attention", lambda q, k, v, m: pytorchs(q, k * m[:, None], v), "scores of 0"),
        ("masked_attention", lambda q, k, v, m: among_the_words(q, k, v, ~m), "mask inverted"),
        ("masked_attention", left_with_nan, "nan without words, added"),
        ("masked_attention", filled_and_left, "nan without words"),
        ("drop_captions", dropped_words, "words"),
        ("drop_captions", lambda t, u, s: t * (u < s).unsqueeze(1), "inverted"),
        ("drop_captions", lambda t, u, s: t * (u > s)[:, None], "edge"),
        ("information", lambda e, c, s: torch.trapz(e - c, s) / 2, "over log-SNR"),
        ("information", lambda e, c, s: torch.trapz((c - e) * s.exp(), s) / 2, "sign"),
        ("information", lambda e, c, s: torch.cumulative_trapezoid((e - c) * s.exp(), s)[-1], "half forgotten"),
        ("obedience", lambda p, w: (p.max(1).indices == w).double().mean(), "the best caption"),
        ("obedience", lambda p, w: p[torch.arange(len(w)), w].exp().mean(), "mean probability"),
        ("obedience", lambda p, w: (functional.nll_loss(p, w, reduction="none") < 0.5).float().mean(), "half of a nat"),
        ("region_score", lambda w, r: (w * r).sum() / w.sum(), "share of the weight"),
        ("region_score", lambda w, r: (w[r].unsqueeze(1) > w[~r]).float().mean(), "ties lose"),
        ("region_score", lambda w, r: 1 - mann_whitney(w, r), "inverted"),
    ],
)
def test_a_wrong_answer_may_be_written_in_another_way(name: str, answer, misconception: str | None) -> None:
    grade = assess(f"prompts.{name}", answer)
    assert grade.verdict != "right"
    assert grade.misconception == misconception


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("attention", lambda q, k, v: (q @ k.T).softmax(0) @ v),
        ("masked_attention", lambda q, k, v, m: (q @ k.T).masked_fill(m, -1e9).softmax(1) @ v),
        ("drop_captions", lambda t, u, s: torch.where(u < s, 2, t)),
        ("information", lambda e, c, s: torch.trapezoid(c - e, s)),
        ("obedience", lambda p, w: 100 * (p.argmax(1) != w).float().mean()),
        ("region_score", lambda w, r: (w[~r][:, None] > w[r]).float().mean()),
        ("drop_captions", lambda t, u, s: t * (torch.rand(len(t)) >= s)[:, None]),
    ],
)
def test_what_is_not_known_gets_the_honest_message(name: str, answer) -> None:
    grade = assess(f"prompts.{name}", answer)
    assert (grade.verdict, grade.misconception) == ("wrong", None)
    assert "not in a way that is known here" in grade.message


def test_the_captions_given_are_left_as_they_are() -> None:
    def in_place(tokens, uniform, share):
        tokens[uniform < share] = 0
        return tokens

    message = assess("prompts.drop_captions", in_place).message
    assert message.startswith("changes its input `tokens`; leave it as it is, and return something new")
