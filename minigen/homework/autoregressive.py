"""The exercises of chapter 10."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, pad, softplus

from minigen.homework.contract import Contract, Input, gradients
from minigen.homework.elbo import tempered
from minigen.homework.latents import CUT
from minigen.homework.orders import MASK, SHIFT, SKEW
from minigen.objectives import autoregressive
from minigen.samplers import autoregressive as sampler


def nll(logits: Tensor, levels: Tensor) -> Tensor:
    """Minus the log-likelihood of levels (B, 1, H, W) under logits (B, K, H, W), in nats/image, a number."""
    return -autoregressive.categorical_log_prob(logits, levels).mean()


def _at(log_p: Tensor, levels: Tensor) -> Tensor:
    """Minus the entries at the levels, summed over an image, averaged over the batch."""
    return -log_p.gather(1, levels).flatten(1).sum(1).mean()


def _next(logits: Tensor, levels: Tensor, ahead: int) -> Tensor:
    """The loss of the logits at each pixel for the level `ahead` places after it; what falls out is left out."""
    log_p, wanted = logits.log_softmax(1).flatten(2), levels.flatten(2)
    return _at(log_p[:, :, :-ahead], wanted[:, :, ahead:]) if ahead > 0 else _at(log_p[:, :, 1:], wanted[:, :, :-1])


def _images() -> list[Input]:
    generator = torch.Generator().manual_seed(0)
    levels = torch.randint(4, (3, 1, 2, 3), generator=generator)
    logits = 2 * torch.randn(3, 4, 2, 3, generator=generator)
    extreme = torch.tensor([[200.0, -200.0], [0.0, 0.0], [-200.0, 200.0]])[None, :, None]
    one = torch.tensor([[0.5, -1.0, 2.0]])[:, :, None, None]
    return [
        Input((one, torch.tensor([[[[1]]]])), "one pixel of 3 levels"),
        Input((logits, levels), "random images of 4 levels"),
        Input((extreme, torch.tensor([[[[2, 2]]]])), "logits of size 200"),
    ]


NLL = Contract(
    nll,
    _images,
    {
        "sign": (
            lambda o, k: -nll(o, k),
            "this is the log-likelihood, which is maximised; a loss is minimised: change the sign",
        ),
        "mean over everything": (
            lambda o, k: nll(o, k) / k[0].numel(),
            "averages over the pixels too, as cross_entropy does: nats/dim; sum over an image's pixels, then average"
            " over the batch",
        ),
        "sum over everything": (
            lambda o, k: nll(o, k) * len(k),
            "sums over the batch too, so that the loss grows with the batch; divide by the number of images",
        ),
        "one number an image": (
            lambda o, k: -autoregressive.categorical_log_prob(o, k),
            "gives one number for each image; a loss is one number: take their mean",
        ),
        "one number a pixel": (
            lambda o, k: -o.log_softmax(1).gather(1, k)[:, 0],
            "gives one number for each pixel, (B, H, W); sum over an image's pixels, then average over the batch",
        ),
        "the next pixel": (
            lambda o, k: _next(o, k, 1),
            "asks the logits for the next pixel, as for a sequence that is not shifted; those at a pixel are its own",
        ),
        "the pixel before": (
            lambda o, k: _next(o, k, -1),
            "asks the logits for the pixel before, which the network has seen; those at a pixel are its own",
        ),
        "the next pixel, wrapped": (
            lambda o, k: nll(o, k.flatten(1).roll(-1, 1).view_as(k)),
            "moves the targets left by one, and the first to the end; logits and level belong to the same pixel",
        ),
        "the pixel before, wrapped": (
            lambda o, k: nll(o, k.flatten(1).roll(1, 1).view_as(k)),
            "moves the targets right by one, and the last to the front; logits and level belong to the same pixel",
        ),
        "softmax over the row": (
            lambda o, k: _at(o.log_softmax(-1), k),
            "takes the softmax along a row of pixels; probabilities are over the K levels, dimension 1",
        ),
        "softmax over the batch": (
            lambda o, k: _at(o.log_softmax(0), k),
            "takes the softmax over the batch; probabilities are over the K levels, dimension 1",
        ),
        "in bits": (
            lambda o, k: nll(o, k) / math.log(2),
            "this is in bits; in nats, leave out the division by ln 2",
        ),
        "bits/dim": (
            lambda o, k: nll(o, k) / (k[0].numel() * math.log(2)),
            "these are bits/dim; for nats/image, divide neither by the pixels nor by ln 2",
        ),
        "probabilities": (
            lambda o, k: _at(o.log(), k),
            "takes the logits for probabilities; they are any real number: use log_softmax over the levels",
        ),
        "not normalised": (
            lambda o, k: _at(o, k),
            "takes the logits for log-probabilities; their exp does not sum to one: use log_softmax over the levels",
        ),
        "no log": (
            lambda o, k: _at(o.softmax(1), k),
            "adds probabilities; the chain rule multiplies them, so their logs are what adds up",
        ),
        "softmax twice": (
            lambda o, k: nll(o.softmax(1), k),
            "takes the softmax before a loss that takes logits and does so itself; give it the logits",
        ),
        "underflow": (
            lambda o, k: _at(o.softmax(1).log(), k),
            "underflows: an improbable level's softmax is 0, and its log is -inf; use log_softmax",
        ),
        "overflow": (
            lambda o, k: _at((o.exp() / o.exp().sum(1, keepdim=True)).log(), k),
            "overflows: exp(200) is infinite, and infinite by infinite is nan; use log_softmax",
        ),
        "a small number in the log": (
            lambda o, k: _at((o.softmax(1) + 1e-8).log(), k),
            "the small number in the log stops the underflow but flattens the loss at log 1e-8; use log_softmax",
        ),
        "no gradient": (lambda o, k: nll(o, k).detach(), CUT),
    },
    gradients("logits"),
)


def draw(logits: Tensor, uniform: Tensor, temperature: float) -> Tensor:
    """Levels (N,), int64, from logits (N, K): the first whose cumulated probability exceeds uniform (N,)."""
    return sampler.draw(logits, uniform, temperature=temperature)


def _first(cumulated: Tensor, uniform: Tensor) -> Tensor:
    """The first level whose cumulated number exceeds `uniform`; the last where none does."""
    return (cumulated[:, :-1] <= uniform[:, None]).sum(1)


def _draws() -> list[Input]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(9, 5, generator=generator)
    uniform = (torch.arange(9) + 0.5) / 9
    sharp = torch.tensor([[-1e3, 1e3, -1e3, 0.0], [-1e3, -1e3, 1e3, 1e3], [-1e3, 0.0, -1e3, 1e3]])
    return [
        Input((torch.tensor([[0.0, 1.0, 0.0]]), torch.tensor([0.15]), 0.5), "one pixel of 3 levels"),
        Input((logits, uniform, 0.5), "random logits at temperature 0.5"),
        Input((logits.flip(0), uniform, 2.0), "random logits at temperature 2"),
        Input((sharp, torch.tensor([0.0, 0.75, 0.0]), 1.0), "logits of size 1000, and uniform numbers that are 0"),
    ]


DRAW = Contract(
    draw,
    _draws,
    {
        "the most probable": (
            lambda o, u, t: o.argmax(1),
            "always takes the most probable level, so that all samples are alike; that is temperature 0",
        ),
        "temperature ignored": (
            lambda o, u, t: draw(o, u, 1.0),
            "the temperature has no effect; dividing probabilities and normalising gives them back: divide the logits",
        ),
        "temperature multiplied": (
            lambda o, u, t: draw(o, u, 1 / t),
            "multiplies the logits by the temperature, so that a low one gives more noise; divide",
        ),
        "probabilities divided": (
            lambda o, u, t: _first(o.softmax(1).cumsum(1) / t, u),
            "divides the probabilities by the temperature, so that they no longer sum to one; divide the logits",
        ),
        "not normalised again": (
            lambda o, u, t: _first(o.softmax(1).pow(1 / t).cumsum(1), u),
            "p^(1/temperature) no longer sums to one; normalise it, or divide the logits before the softmax",
        ),
        "one level too high": (
            lambda o, u, t: draw(o, u, t) + 1,
            "one level too high; levels count from 0: it is the number of cumulated probabilities up to `uniform`",
        ),
        "one level too low": (
            lambda o, u, t: (draw(o, u, t) - 1).clamp(min=0),
            "one level too low: takes the last level that does not exceed `uniform`; take the first that does",
        ),
        "mirrored": (
            lambda o, u, t: (o / t).softmax(1).shape[1] - 1 - draw(o, u, t),
            "counts the levels above and not below: a draw from the mirrored law; count those that do not exceed"
            " `uniform`",
        ),
        "from the other end": (
            lambda o, u, t: draw(o.flip(1), u, t).neg() + o.shape[1] - 1,
            "cumulates from the last level down; the law is the same, but the exercise says the first level from 0 up",
        ),
        "logits cumulated": (
            lambda o, u, t: _first((o / t).cumsum(1), u),
            "cumulates the logits; they are no probabilities: take the softmax first",
        ),
        "exp of the logits": (
            lambda o, u, t: _first((o / t).exp().cumsum(1), u),
            "cumulates exp of the logits, which does not sum to one; divide by the sum: softmax",
        ),
        "log-probabilities cumulated": (
            lambda o, u, t: (o / t).log_softmax(1).cumsum(1).le(u[:, None]).sum(1).clamp(max=o.shape[1] - 1),
            "cumulates log-probabilities, whose sum is no probability; take the softmax, not its log",
        ),
        "not cumulated": (
            lambda o, u, t: _first((o / t).softmax(1), u),
            "compares `uniform` with the probabilities themselves; cumulate them first",
        ),
        "the nearest": (
            lambda o, u, t: ((o / t).softmax(1).cumsum(1) - u[:, None]).abs().argmin(1),
            "takes the level whose cumulated probability is nearest to `uniform`; take the first that exceeds it",
        ),
        "equal counts as exceeding": (
            lambda o, u, t: ((o / t).softmax(1).cumsum(1)[:, :-1] < u[:, None]).sum(1),
            "where `uniform` is 0 it draws a level of probability 0; the first that EXCEEDS it (searchsorted:"
            " right=True)",
        ),
        "overflow": (
            lambda o, u, t: _first(((o / t).exp() / (o / t).exp().sum(1, keepdim=True)).cumsum(1), u),
            "overflows: exp of a large logit is infinite, and infinite by infinite is nan; use softmax",
        ),
    },
)


def logistic_log_mass(mean: Tensor, log_scale: Tensor, levels_count: int) -> Tensor:
    """The log mass of each of K levels under one logistic for each entry of mean and log_scale, (...) to (..., K).

    Level k stands for (2k + 1)/K - 1 and owns the cell of width 2/K around it; the end cells are open to infinity.
    """
    parameters = torch.stack([torch.zeros_like(mean), mean, log_scale]).view(1, 3, -1, 1)
    log_p = autoregressive.logistic_mixture_log_probs(parameters, levels_count)  # (1, K, entries, 1)
    return log_p[0, :, :, 0].mT.reshape(*mean.shape, levels_count)


def _logistics() -> list[Input]:
    generator = torch.Generator().manual_seed(0)
    mean, log_scale = torch.randn(2, 2, 3, generator=generator)
    return [
        Input((torch.tensor([0.25]), torch.tensor([-0.5]), 3), "one entry of 3 levels"),
        Input((mean / 2, log_scale / 2 - 1, 8), "random entries of 8 levels"),
        Input((torch.tensor([5.0, -7.0, 0.1]), torch.tensor([-3.0, -3.0, -5.0]), 5), "means far outside, and a needle"),
        Input((torch.tensor([0.5, 20.0]), torch.tensor([2.0, 1.0]), 4), "wide laws"),
    ]


def _inner(levels_count: int) -> Tensor:
    """The ends between the cells, (K - 1,)."""
    return 2 * torch.arange(1, levels_count) / levels_count - 1


def _middles(levels_count: int) -> Tensor:
    """What the levels stand for, (K,)."""
    return (2 * torch.arange(levels_count) + 1) / levels_count - 1


def _log_masses(mean: Tensor, log_scale: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """The log mass between `low` and `high`, (K,) each, without cancellation: (..., K)."""
    a, b = ((end - mean[..., None]) / log_scale[..., None].exp() for end in (low, high))
    return logsigmoid(b) + logsigmoid(-a) + torch.log(-torch.expm1(a - b))


def _opened(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """The cells with the first reaching to minus infinity and the last to infinity."""
    return pad(low[1:], (1, 0), value=-torch.inf), pad(high[:-1], (0, 1), value=torch.inf)


def _differences(mean: Tensor, log_scale: Tensor, levels_count: int) -> Tensor:
    """The masses as differences of the distribution function, (..., K)."""
    ends = pad(pad(_inner(levels_count), (1, 0), value=-torch.inf), (0, 1), value=torch.inf)
    return torch.sigmoid((ends - mean[..., None]) / log_scale[..., None].exp()).diff()


def _log_density(mean: Tensor, log_scale: Tensor, levels_count: int) -> Tensor:
    """The log-density at the levels, (..., K)."""
    z = (_middles(levels_count) - mean[..., None]) / log_scale[..., None].exp()
    return -z - 2 * softplus(-z) - log_scale[..., None]


def _switched(mean: Tensor, log_scale: Tensor, levels_count: int) -> Tensor:
    mass, width = _differences(mean, log_scale, levels_count), torch.tensor(2 / levels_count)
    small = _log_density(mean, log_scale, levels_count) + width.log()
    return torch.where(mass > 1e-5, mass.clamp(min=1e-12).log(), small)


def _right_ends(mean: Tensor, log_scale: Tensor, inner: Tensor) -> Tensor:
    """The log masses (..., K) with those of the two end cells put right."""
    right = logistic_log_mass(mean, log_scale, inner.shape[-1])
    return torch.cat([right[..., :1], inner[..., 1:-1], right[..., -1:]], dim=-1)


def _around(points: Tensor, half: float) -> tuple[Tensor, Tensor]:
    return points - half, points + half


LOGISTIC_LOG_MASS = Contract(
    logistic_log_mass,
    _logistics,
    {
        "ends closed": (
            lambda m, s, n: _log_masses(m, s, *_around(_middles(n), 1 / n)),
            "the end cells stop at -1 and 1, so that the masses do not sum to one; let them reach to infinity",
        ),
        "density times width": (
            lambda m, s, n: _log_density(m, s, n) + torch.tensor(2 / n).log(),
            "takes the density times the width of the cell; that may exceed 1: take the difference of the distribution"
            " function",
        ),
        "density": (
            _log_density,
            "this is the log-density at the level; the mass is what its cell holds, a difference of sigmoids",
        ),
        "density, normalised": (
            lambda m, s, n: _log_density(m, s, n).log_softmax(-1),
            "normalises the densities over the levels, which is another law: mass is the difference of sigmoids over"
            " the cell",
        ),
        "cancellation": (
            lambda m, s, n: _differences(m, s, n).log(),
            "right near the mean, but far away two sigmoids are equal in floating point, and the log is -inf; use"
            " logsigmoid and expm1",
        ),
        "cancellation inside": (
            lambda m, s, n: _right_ends(m, s, _differences(m, s, n).log()),
            "right at the ends, but far from the mean an inner cell's two sigmoids are equal in floating point: log 0;"
            " use logsigmoid and expm1",
        ),
        "a small number in the log": (
            lambda m, s, n: _differences(m, s, n).clamp(min=1e-12).log(),
            "cuts the mass at 1e-12, where no gradient is left to bring the mean back; use logsigmoid and expm1",
        ),
        "the published switch": (
            lambda m, s, n: _right_ends(m, s, _switched(m, s, n)),
            "below a mass of 1e-5 this is the density times the width, as in PixelCNN++, which is wrong for a narrow"
            " law; use expm1",
        ),
        "end to end": (
            lambda m, s, n: _log_masses(m, s, *_opened(*_around(2 * torch.arange(n) / (n - 1) - 1, 1 / (n - 1)))),
            "puts the end levels on -1 and 1, 2k/(K-1) - 1; level k is in the middle of its cell, (2k + 1)/K - 1",
        ),
        "left edge": (
            lambda m, s, n: _log_masses(m, s, *_opened(*_around(_middles(n) - 1 / n, 1 / n))),
            "puts level k at 2k/K - 1, the left edge of its cell; it stands for the middle, (2k + 1)/K - 1",
        ),
        "half the width": (
            lambda m, s, n: _log_masses(m, s, *_opened(*_around(_middles(n), 0.5 / n))),
            "the cells are half as wide as they should be, with gaps between them; they reach 1/K to either side",
        ),
        "twice the width": (
            lambda m, s, n: _log_masses(m, s, *_opened(*_around(_middles(n), 2 / n))),
            "the cells are twice as wide as they should be, and overlap; they reach 1/K to either side",
        ),
        "log_scale as scale": (
            lambda m, s, n: _log_masses(m, s.log(), *_opened(*_around(_middles(n), 1 / n))),
            "takes log_scale for the scale; divide by exp(log_scale)",
        ),
        "multiplied by the scale": (
            lambda m, s, n: logistic_log_mass(m, -s, n),
            "multiplies by the scale; the distance to the mean is divided by it: exp(-log_scale)",
        ),
        "the mean's sign": (
            lambda m, s, n: logistic_log_mass(-m, s, n),
            "the law is mirrored: subtract the mean from the ends of the cells, and let level 0 be the lowest",
        ),
        "not the log": (
            lambda m, s, n: logistic_log_mass(m, s, n).exp(),
            "these are the masses; return their logs, without taking the log of a mass that has underflowed",
        ),
    },
)

CONTRACTS = {
    "mask": MASK,
    "nll": tempered(NLL, 0),
    "draw": DRAW,
    "logistic_log_mass": LOGISTIC_LOG_MASS,
    "shift": SHIFT,
    "skew": SKEW,
}
