"""The contracts of chapters 09 and 10 against torch.distributions, enumeration and the library's networks."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import nn
from torch.distributions import Bernoulli, Independent, Normal, kl_divergence
from torch.nn import functional

from minigen.homework import CONTRACTS, assess
from minigen.nets.pixel_transformer import PixelTransformer
from minigen.nets.pixelcnn import MaskedConv2d
from minigen.nets.pixelrnn import unskew
from minigen.objectives import elbo
from minigen.objectives.autoregressive import Autoregressive
from minigen.train.rng import Rng


def reference(name: str):
    return CONTRACTS[name].reference


@pytest.fixture
def latents():
    generator = torch.Generator().manual_seed(5)
    mean, log_std = torch.randn(2, 6, 3, generator=generator, dtype=torch.float64)
    return mean, log_std / 2


def test_the_kl_is_that_of_torch_summed_over_the_latent(latents) -> None:
    mean, log_std = latents
    q, prior = Normal(mean, log_std.exp()), Normal(torch.zeros_like(mean), torch.ones_like(mean))
    expected = kl_divergence(Independent(q, 1), Independent(prior, 1))
    torch.testing.assert_close(reference("elbo.kl_to_prior")(mean, log_std), expected)


class Fixed(nn.Module):
    """A network that gives what it was told, whatever it is given."""

    def __init__(self, *outputs: torch.Tensor) -> None:
        super().__init__()
        self.outputs = nn.ParameterList(outputs)

    def forward(self, _):
        return tuple(self.outputs) if len(self.outputs) > 1 else self.outputs[0]


def test_the_loss_is_minus_the_bound_and_that_of_the_objective(latents) -> None:
    generator = torch.Generator().manual_seed(6)
    x = (torch.rand(6, 1, 2, 2, generator=generator) < 0.5).double()
    logits = 3 * torch.randn(x.shape, generator=generator, dtype=torch.float64)
    mean, log_std = latents
    asked = reference("elbo.loss")(x, logits, mean, log_std)
    rate = kl_divergence(Normal(mean, log_std.exp()), Normal(torch.zeros_like(mean), torch.ones_like(mean))).sum(1)
    by_image = Independent(Bernoulli(logits=logits), 3).log_prob(x) - rate
    torch.testing.assert_close(asked, -by_image.mean())

    model = elbo.LatentModel(Fixed(mean, log_std), Fixed(logits), elbo.Bernoulli(), latent=3)
    ((_, theirs, _),) = elbo.ELBO(model).turns(2 * x - 1, Rng())
    torch.testing.assert_close(theirs.double(), asked)


def test_a_sample_and_its_gradients_are_those_of_torch(latents) -> None:
    mean, log_std = (part.clone().requires_grad_() for part in latents)
    noise = torch.randn(6, 3, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    z = reference("elbo.reparameterise")(mean, log_std, noise)
    torch.testing.assert_close(Normal(mean, log_std.exp()).cdf(z), Normal(0.0, 1.0).cdf(noise))
    ours = torch.autograd.grad(z.square().sum(), (mean, log_std))
    torch.testing.assert_close(ours[0], 2 * z.detach())
    torch.testing.assert_close(ours[1], 2 * (z * (z - mean)).detach())


def test_the_bounds_of_several_samples_and_with_a_floor_by_hand() -> None:
    weights = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(8))
    by_hand = [math.log(sum(math.exp(w) for w in column) / 4) for column in weights.T.tolist()]
    bound = reference("elbo.importance_weighted_bound")(weights)
    torch.testing.assert_close(bound, torch.tensor(by_hand, dtype=torch.float64))
    assert (bound > weights.mean(0)).all(), "Jensen: the bound of one sample is lower"

    kl = torch.rand(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(9))
    floored = sum(max(0.5, sum(column) / 5) for column in kl.T.tolist())
    assert reference("elbo.free_bits")(kl, 0.5).item() == pytest.approx(floored, rel=1e-12)


def test_the_straight_through_gradient_is_that_at_the_codes() -> None:
    z, codes = torch.randn(2, 3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    result = reference("elbo.straight_through")(z, codes)
    torch.testing.assert_close(result, codes)
    to_z, to_codes = torch.autograd.grad(result.pow(3).sum(), (z, codes), allow_unused=True)
    torch.testing.assert_close(to_z, 3 * codes.detach().square())
    assert to_codes is None


@pytest.mark.parametrize(("size", "kind"), [*itertools.product((1, 3, 5, 7), "AB")])
def test_the_mask_is_the_librarys_and_that_of_raster_order(size: int, kind: str) -> None:
    seen = reference("autoregressive.mask")(size, kind)
    assert torch.equal(MaskedConv2d(1, 1, size, mask=kind).mask, seen.float())
    order = torch.arange(size * size).view(size, size)
    centre = order[size // 2, size // 2]
    assert torch.equal(seen.bool(), order < centre if kind == "A" else order <= centre)


def test_the_nll_is_the_sum_of_cross_entropies_and_the_objectives() -> None:
    generator = torch.Generator().manual_seed(2)
    logits, levels = torch.randn(4, 5, 2, 3, generator=generator), torch.randint(5, (4, 1, 2, 3), generator=generator)
    asked = reference("autoregressive.nll")(logits, levels)
    total = functional.cross_entropy(logits, levels[:, 0], reduction="sum")
    torch.testing.assert_close(asked, total / 4)
    ((_, theirs, _),) = Autoregressive(Fixed(logits)).turns(levels, Rng())
    torch.testing.assert_close(theirs, asked)


def test_draws_follow_the_tempered_law_and_no_case_hangs_on_rounding() -> None:
    logits, n = torch.tensor([0.3, -1.0, 1.2, 0.0]), 40_000
    uniform = (torch.arange(n) + 0.5) / n
    drawn = reference("autoregressive.draw")(logits.expand(n, 4), uniform, 0.7)
    share = torch.bincount(drawn, minlength=4) / n
    torch.testing.assert_close(share, (logits / 0.7).softmax(0), atol=1e-4, rtol=0)

    for case in CONTRACTS["autoregressive.draw"].inputs():
        o, u, temperature = case.arguments
        right = reference("autoregressive.draw")(o, u, temperature)
        by_hand = [
            next(k for k, c in enumerate(itertools.accumulate((row / temperature).softmax(0).tolist())) if c > x)
            for row, x in zip(o.double(), u.tolist(), strict=True)
        ]
        assert right.tolist() == by_hand
        for moved in (u[u > 0] - 1e-4, u[u > 0] + 1e-4):
            assert torch.equal(reference("autoregressive.draw")(o[u > 0], moved, temperature), right[u > 0])


def test_masses_of_a_logistic_are_those_of_its_distribution_function() -> None:
    mean, log_scale, count = torch.tensor([0.3, -0.9]).double(), torch.tensor([-1.0, 0.5]).double(), 7
    log_p = reference("autoregressive.logistic_log_mass")(mean, log_scale, count)
    assert log_p.shape == (2, 7)
    for i, k in itertools.product(range(2), range(count)):
        low, high = -1 + 2 * k / count, -1 + 2 * (k + 1) / count
        below = [(1 + math.tanh((end - mean[i]) / (2 * log_scale[i].exp()))) / 2 for end in (low, high)]
        mass = (1.0 if k == count - 1 else below[1]) - (0.0 if k == 0 else below[0])
        assert log_p[i, k].exp().item() == pytest.approx(mass, rel=1e-9)
    for case in CONTRACTS["autoregressive.logistic_log_mass"].inputs():
        found = reference("autoregressive.logistic_log_mass")(*case.arguments)
        assert found.isfinite().all()
        torch.testing.assert_close(found.exp().sum(-1), torch.ones(found.shape[:-1]))
        exact = reference("autoregressive.logistic_log_mass")(
            *(a.double() for a in case.arguments[:2]), found.shape[-1]
        )
        torch.testing.assert_close(found.double(), exact, rtol=2e-6, atol=2e-6)  # well inside what the grader allows


def test_the_shifted_sequence_is_what_the_transformer_reads() -> None:
    net, read = PixelTransformer(3, size=(2, 2), width=8, blocks=1, heads=1), []
    net.level.register_forward_hook(lambda module, given, result: read.append(given[0]))
    x = torch.randint(3, (4, 1, 2, 2), generator=torch.Generator().manual_seed(3))
    net(x)
    assert torch.equal(reference("autoregressive.shift")(x.flatten(1), 3), read[0])


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 4), (4, 1), (3, 5), (5, 2)])
def test_a_skewed_column_is_a_diagonal(height: int, width: int) -> None:
    x = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(4)) + 1
    skewed = reference("autoregressive.skew")(x)
    assert skewed.shape == (2, 3, height, width + height - 1)
    for i, j in itertools.product(range(height), range(skewed.shape[3])):
        expected = x[:, :, i, j - i] if 0 <= j - i < width else torch.zeros(2, 3)
        assert torch.equal(skewed[:, :, i, j], expected)
    assert torch.equal(unskew(skewed, width), x)


class Through(torch.autograd.Function):
    """The straight-through estimator as a function with a backward pass of its own."""

    @staticmethod
    def forward(ctx, z, quantised):
        return quantised.clone()

    @staticmethod
    def backward(ctx, slope):
        return slope, None


def skew_by_hand(x):
    b, c, height, width = x.shape
    wide = x.new_zeros(b, c, height, width + height - 1)
    for i in range(height):
        wide[:, :, i, i : i + width] = x[:, :, i]
    return wide


def masses_by_hand(mean, log_scale, num_levels):
    ends = torch.linspace(-1, 1, num_levels + 1, dtype=torch.float64)[1:-1]
    z = (ends - mean[..., None]) / log_scale[..., None].exp()
    inner = functional.logsigmoid(z[..., 1:]) + torch.log(-torch.expm1(z[..., :-1] - z[..., 1:]))
    inner = inner - functional.softplus(z[..., :-1])
    return torch.cat([functional.logsigmoid(z[..., :1]), inner, -functional.softplus(z[..., -1:])], dim=-1)


def loss_by_entropy(x, logits, mean, log_std):
    distortion = functional.binary_cross_entropy_with_logits(logits, x, reduction="sum")
    return (distortion - 0.5 * (1 + 2 * log_std - mean**2 - torch.exp(2 * log_std)).sum()) / len(x)


ANOTHER_WAY = {
    "elbo.kl_to_prior": lambda m, s: kl_divergence(Normal(m, s.exp()), Normal(0.0, 1.0)).sum(-1),
    "elbo.loss": loss_by_entropy,
    "elbo.reparameterise": lambda m, s, e: torch.addcmul(m, (2 * s).exp().sqrt(), e),
    "elbo.importance_weighted_bound": lambda w: (w - w.max(0).values).exp().mean(0).log() + w.max(0).values,
    "elbo.free_bits": lambda kl, least: torch.maximum(kl.mean(0), torch.tensor(least)).sum(),
    "elbo.straight_through": Through.apply,
    "autoregressive.mask": lambda n, kind: torch.arange(n * n).view(n, n) < n * n // 2 + (kind == "B"),
    "autoregressive.nll": lambda o, k: functional.cross_entropy(o, k[:, 0], reduction="none").sum((1, 2)).mean(),
    "autoregressive.draw": lambda o, u, t: torch.searchsorted(
        (o.double() / t).softmax(1).cumsum(1), u.double()[:, None], right=True
    )[:, 0],
    "autoregressive.logistic_log_mass": masses_by_hand,
    "autoregressive.shift": lambda k, s: functional.pad(k, (1, 0), value=s)[:, :-1],
    "autoregressive.skew": skew_by_hand,
}


@pytest.mark.parametrize("name", ANOTHER_WAY)
def test_a_right_answer_may_be_written_in_another_way(name: str) -> None:
    assert str(assess(name, ANOTHER_WAY[name])) == f"✓ {name}: right, on random and on extreme inputs"


@pytest.mark.parametrize(
    ("name", "answer", "misconception"),
    [
        ("elbo.kl_to_prior", lambda m, s: -0.5 * (1 + s - m**2 - s.exp()).sum(1), "log_std as log variance"),
        (
            "elbo.loss",
            lambda x, o, m, s: (
                functional.binary_cross_entropy_with_logits(o, x) + reference("elbo.kl_to_prior")(m, s).mean()
            ),
            "distortion averaged over pixels",
        ),
        ("elbo.straight_through", lambda z, q: z + q - z, "codes as they are"),
        ("elbo.straight_through", lambda z, q: z - z.detach() + q, "gradient into the codes as well"),
        ("autoregressive.nll", lambda o, k: functional.cross_entropy(o, k[:, 0]), "mean over everything"),
        (
            "autoregressive.draw",
            lambda o, u, t: torch.searchsorted((o / t).softmax(1).cumsum(1), u[:, None])[:, 0],
            "equal counts as exceeding",
        ),
        ("autoregressive.shift", lambda k, s: torch.roll(k, 1, dims=1), "wrapped"),
    ],
)
def test_a_wrong_answer_may_be_written_in_another_way(name: str, answer, misconception: str) -> None:
    assert assess(name, answer).misconception == misconception


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("elbo.kl_to_prior", lambda m, s: -reference("elbo.kl_to_prior")(m, s).mean()),
        ("autoregressive.nll", lambda o, k: functional.cross_entropy(o, k[:, 0], reduction="sum") / math.log(2)),
    ],
)
def test_two_mistakes_at_once_get_the_honest_message(name: str, answer) -> None:
    grade = assess(name, answer)
    assert (grade.verdict, grade.misconception) == ("wrong", None)
    assert "not in a way that is known here" in grade.message
