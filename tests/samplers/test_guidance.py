"""Guided denoisers against the exact conditional ones of a mixture, and against the gradients of tilted densities."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from minigen.objectives.diffusion import Denoise, Number, Schedule, append_dims, predict_x0
from minigen.samplers import guidance
from minigen.samplers.diffusion import ancestral
from minigen.worlds import GaussianMixture

pytestmark = pytest.mark.usefixtures("float64")

MEANS = torch.tensor([[0.0, 0.0], [1.5, -0.5], [-1.0, 1.0]], dtype=torch.float64)
COVARIANCES = torch.tensor(
    [[[0.5, 0.2], [0.2, 0.3]], [[0.2, -0.1], [-0.1, 0.4]], [[0.8, 0.0], [0.0, 0.1]]], dtype=torch.float64
)
WORLD = GaussianMixture(MEANS, covariances=COVARIANCES, weights=torch.tensor([0.5, 0.3, 0.2]))
GIVEN = [GaussianMixture(MEANS[[k]], covariances=COVARIANCES[[k]]) for k in range(3)]
LEVELS = [(0.99, 0.141), (0.6, 0.8), (1.0, 2.0), (0.1, 0.995)]


def near(found: Tensor, expected: Tensor, atol: float = 1e-9) -> None:
    torch.testing.assert_close(found, expected, atol=atol, rtol=0)


def log_prob(label: int) -> Callable[[Tensor, Number, Number], Tensor]:
    """log P(label | x_t): the exact classifier at every noise level."""

    def of(x_t: Tensor, alpha: Number, sigma: Number) -> Tensor:
        joint = torch.distributions.MultivariateNormal(
            alpha * MEANS, alpha**2 * COVARIANCES + sigma**2 * torch.eye(2)
        ).log_prob(x_t[:, None]) + WORLD.weights.log()  # fmt: skip
        return joint.log_softmax(1)[:, label]

    return of


def informed(x_t: Tensor, alpha: Tensor, sigma: Tensor, context: Tensor) -> Tensor:
    """E[x_0 | x_t, label] where the context (B, 1) is 1, 2 or 3, and E[x_0 | x_t] where it is 0, row by row."""
    worlds = [WORLD, *GIVEN]
    alpha, sigma = (torch.as_tensor(part).expand(len(x_t)) for part in (alpha, sigma))
    rows = zip(x_t.split(1), alpha.tolist(), sigma.tolist(), context.flatten().int().tolist(), strict=True)
    return torch.cat([worlds[c].denoise(x, a, s) for x, a, s, c in rows])


def told(label: int, n: int) -> dict[str, Tensor]:
    return {"cond": torch.full((n, 1), label + 1.0), "uncond": torch.zeros(n, 1)}


def tilt(x: Tensor, alpha: float, sigma: float, label: int, scale: float) -> Tensor:
    """The gradient of log p(x_t) + scale log P(label | x_t)."""
    x = x.clone().requires_grad_()
    value = WORLD.marginal(alpha, sigma).log_prob(x) + scale * log_prob(label)(x, alpha, sigma)
    (slope,) = torch.autograd.grad(value.sum(), x)
    return slope


@pytest.mark.parametrize("kind", ["classifier", "classifier_free"])
@pytest.mark.parametrize("scale", [-0.5, 0.0, 1.0, 3.0])
@pytest.mark.parametrize(("alpha", "sigma"), LEVELS)
def test_the_guided_score_is_that_of_a_tilt_at_each_level(kind: str, scale: float, alpha: float, sigma: float) -> None:
    x_t = 1.5 * torch.randn(7, 2)
    for label in range(3):
        guided: Denoise
        if kind == "classifier":
            guided = guidance.classifier(WORLD.denoise, log_prob(label), guidance_scale=scale)
        else:
            guided = guidance.classifier_free(informed, **told(label, 7), guidance_scale=scale)
        image = guided(x_t, alpha, sigma)
        near(image, predict_x0(tilt(x_t, alpha, sigma, label, scale), x_t, alpha, sigma, "score"))
        if scale == 0.0:
            near(image, WORLD.denoise(x_t, alpha, sigma))
        if scale == 1.0:
            near(image, GIVEN[label].denoise(x_t, alpha, sigma))
        assert not image.requires_grad


@pytest.mark.parametrize("scale", [0.0, 2.5])
def test_both_guesses_are_asked_in_one_call_at_the_level_of_each_image(scale: float) -> None:
    calls = []

    def denoise(x: Tensor, alpha: Tensor, sigma: Tensor, context: Tensor) -> Tensor:
        calls.append((x, alpha, sigma, context))
        return context[:, :1, None, None] * x + (alpha + 10 * sigma)[:, None, None, None]

    x, a, s = torch.randn(4, 1, 2, 2), torch.rand(4), torch.rand(4)
    context, nothing = torch.rand(4, 3), torch.zeros(4, 3)
    image = guidance.classifier_free(denoise, context, nothing, guidance_scale=scale)(x, a, s)
    ((xs, signals, noises, contexts),) = calls
    near(xs, torch.cat([x, x]))
    near(signals, torch.cat([a, a]))
    near(noises, torch.cat([s, s]))
    near(contexts, torch.cat([nothing, context]))
    near(image, append_dims(scale * context[:, 0], x) * x + append_dims(a + 10 * s, x))
    guidance.classifier_free(denoise, context, nothing, guidance_scale=scale)(x, 0.6, 0.8)
    near(calls[1][1], torch.full((8,), 0.6))


def test_unguided_costs_one_guess() -> None:
    calls = []

    def denoise(x: Tensor, alpha: Number, sigma: Number, context: Tensor) -> Tensor:
        calls.append((len(x), context))
        return x

    context = torch.rand(4, 3)
    guidance.classifier_free(denoise, context, torch.zeros(4, 3), guidance_scale=1.0)(torch.zeros(4, 2), 0.6, 0.8)
    assert [(n, c is context) for n, c in calls] == [(4, True)]


def test_each_image_may_have_its_own_level_under_a_classifier() -> None:
    def plain(x_t: Tensor, alpha: Number, sigma: Number) -> Tensor:
        return torch.zeros_like(x_t)

    def log_p(x_t: Tensor, alpha: Number, sigma: Number) -> Tensor:
        return 0.5 * x_t.square().flatten(1).sum(1)  # its gradient is x_t

    x, a, s = torch.randn(5, 1, 2, 2), torch.rand(5) + 0.1, torch.rand(5)
    image = guidance.classifier(plain, log_p, guidance_scale=3.0)(x, a, s)
    near(image, append_dims(3 * s**2 / a, x) * x)


def test_a_classifier_says_nothing_where_no_signal_is_left() -> None:
    guided = guidance.classifier(WORLD.denoise, log_prob(0), guidance_scale=1.0)
    for signal in (0.0, torch.tensor([0.5, 0.0])):
        with pytest.raises(ValueError, match="gradient is 0 where alpha is 0"):
            guided(torch.zeros(2, 2), signal, 1.0)


def test_more_guidance_makes_the_label_surer_in_a_sampler() -> None:
    x, path = torch.randn(200, 2), Schedule.cosine(200).path(25)
    sure = []
    for scale in (0.0, 1.0, 3.0):
        guided = guidance.classifier(WORLD.denoise, log_prob(1), guidance_scale=scale)
        *_, end = ancestral(guided, x, path, eta=0.0)
        sure.append(WORLD.posterior(end)[:, 1].mean().item())
    expected = WORLD.posterior(GIVEN[1].sample(4000))[:, 1].mean().item()
    assert sure[0] == pytest.approx(0.3, abs=0.08)  # the share of the label
    assert sure[1] == pytest.approx(expected, abs=0.05)
    assert sure[2] > sure[1] + 0.05


@pytest.mark.parametrize("scale", [0.0, 1.0, 1.7])
def test_autoguidance_goes_from_the_worse_guess_through_the_better_one(scale: float) -> None:
    x = torch.randn(6, 2)
    guided = guidance.autoguidance(WORLD.denoise, GIVEN[0].denoise, guidance_scale=scale)
    worse, better = GIVEN[0].denoise(x, 0.6, 0.8), WORLD.denoise(x, 0.6, 0.8)
    near(guided(x, 0.6, 0.8), scale * better + (1 - scale) * worse)
