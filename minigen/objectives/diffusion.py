"""Diffusion (chapter 11): images are destroyed by noise in steps, and a network learns the way back.

A noise level is a pair (signal, noise): x_t = signal x_0 + noise eps, with eps standard normal. Levels run from t = 1,
hardly noisy, to t = T, hardly anything else; code counts them 0..T-1. Their order is that of the signal-to-noise ratio
(signal / noise)^2, whose logarithm, log-SNR, is what a network is told. Images are (B, C, H, W); what is said of one
image sums over its numbers: (B,), in nats. A denoiser is called as `denoise(x_t, signal, noise)` and gives E[x_0 | x_t]
or a guess at it; the worlds' own `denoise` is the exact one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from minigen.objectives.elbo import gaussian_log_prob
from minigen.streams import Noise

Number = float | Tensor
Denoise = Callable[..., Tensor]
Prediction = Literal["noise", "image", "velocity", "score"]
LIMIT = 20.0  # nats; log-SNR beyond it is as good as infinite, and a network is told this number


class Schedule:
    """Noise levels t = 1..T of a variance-preserving process: signal^2 + noise^2 = 1. Ho et al. 2020, eq. 4.

    alpha_bar: (T,) signal^2, strictly decreasing, from below 1 to 0 or more; kept as float64 on the CPU.
    """

    def __init__(self, alpha_bar: Tensor) -> None:
        alpha_bar = alpha_bar.detach().double().cpu()
        inside = alpha_bar.ndim == 1 and len(alpha_bar) > 0 and alpha_bar[0] < 1 and alpha_bar[-1] >= 0
        if not inside or not (alpha_bar.diff() < 0).all():
            raise ValueError("alpha_bar must be (T,), strictly decreasing, from below 1 to 0 or more")
        self.alpha_bar = alpha_bar
        self.signal, self.noise = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
        self.log_snr = alpha_bar.log() - torch.log1p(-alpha_bar)

    def __len__(self) -> int:
        return len(self.alpha_bar)

    @classmethod
    def linear(cls, steps: int = 1000, *, first: float = 1e-4, last: float = 0.02) -> Schedule:
        """beta from `first` to `last` in equal steps. Ho et al. 2020, section 4, whose numbers these are."""
        return cls((1 - torch.linspace(first, last, steps, dtype=torch.float64)).cumprod(0))

    @classmethod
    def cosine(cls, steps: int = 1000, *, offset: float = 0.008, largest: float = 0.999) -> Schedule:
        """alpha_bar a squared cosine of t; beta at most `largest`. Nichol and Dhariwal 2021, eq. 17."""
        angle = (torch.linspace(0, 1, steps + 1, dtype=torch.float64) + offset) / (1 + offset) * math.pi / 2
        squared = angle.cos().square()
        return cls((squared[1:] / squared[:-1]).clamp(min=1 - largest).cumprod(0))

    @classmethod
    def normal(
        cls, steps: int = 1000, *, mean: float = -2.0, std: float = 2.5, low: float = -9.0, high: float = 9.0
    ) -> Schedule:
        """log-SNR, in nats, at the quantiles of a normal law cut off at `low` and `high`.

        Karras et al. 2022, table 1, train so, with mean 2.4 and std 2.4 for images of 32 pixels a side and more. Small
        images show their structure in stronger noise; the defaults are for those of 12 pixels a side.
        """
        ends = torch.special.ndtr((torch.tensor([high, low], dtype=torch.float64) - mean) / std)
        share = torch.linspace(0, 1, steps, dtype=torch.float64)
        return cls(torch.sigmoid(mean + std * torch.special.ndtri(ends[0] + (ends[1] - ends[0]) * share)))

    @classmethod
    def even(cls, steps: int = 1000, *, low: float = -7.0, high: float = 5.5) -> Schedule:
        """log-SNR, in nats, from `high` to `low` in equal steps. Lu et al. 2022 (DPM-Solver), section 3.4, to sample.

        With the defaults, 20 steps cross the levels where the images of the worlds are decided in small ones.
        """
        return cls(torch.sigmoid(torch.linspace(high, low, steps, dtype=torch.float64)))

    @property
    def beta(self) -> Tensor:
        """(T,) the variance that each step adds: 1 - alpha_bar_t / alpha_bar_{t-1}."""
        return 1 - self.alpha_bar / torch.cat([self.alpha_bar.new_ones(1), self.alpha_bar[:-1]])

    def zero_terminal(self) -> Schedule:
        """The same with no signal left at t = T. Lin et al. 2024, algorithm 1: signals moved and stretched."""
        signal = self.signal - self.signal[-1]
        return Schedule((signal * self.signal[0] / signal[0]).square())

    def path(self, steps: int | None = None) -> Path:
        """The levels that a sampler visits, from t = T down, ending at the data; all, or `steps` evenly spaced ones."""
        steps = len(self) if steps is None else steps
        if not 1 <= steps <= len(self):
            raise ValueError(f"steps must be in 1..{len(self)}, the levels that there are; got {steps}")
        index = torch.linspace(len(self) - 1, -1, steps + 1, dtype=torch.float64).round().long()[:-1]
        signal, noise = self.signal[index], self.noise[index]
        return Path(torch.cat([signal, signal.new_ones(1)]), torch.cat([noise, noise.new_zeros(1)]))


class Path(NamedTuple):
    """Levels from noise to data, one more than there are steps: signal and noise, both (steps + 1,)."""

    signal: Tensor
    noise: Tensor


def column(value: Number, x: Tensor) -> Tensor:
    """A number, or one for each image (B,), as it multiplies images x (B, ...): (1, 1, ...) or (B, 1, ...)."""
    value = torch.as_tensor(value, dtype=x.dtype, device=x.device)
    return value.reshape(-1, *[1] * (x.ndim - 1))


def diffuse(x_0: Tensor, eps: Tensor, signal: Number, noise: Number) -> Tensor:
    """x_t = signal x_0 + noise eps, (11.1): noise of many steps added in one. Ho et al. 2020, eq. 4."""
    return column(signal, x_0) * x_0 + column(noise, x_0) * eps


class Gaussian(NamedTuple):
    """N(mean, variance I); the variance is a number, or one for each image, (B, 1, 1, 1)."""

    mean: Tensor
    variance: Tensor


def backward(
    x_0: Tensor, x_t: Tensor, now: tuple[Number, Number], then: tuple[Number, Number], *, eta: float = 1.0
) -> Gaussian:
    """The step from level `now` to the less noisy level `then`, both (signal, noise), if x_0 is the image.

    eta = 1: q(x_s | x_t, x_0), Ho et al. 2020, eqs 6 and 7. It is signal_s x_0 + sqrt(noise_s^2 - v) eps_t, with eps_t
    the noise that x_t shows and v = noise_s^2 (1 - SNR_t / SNR_s), plus sqrt(v) times fresh noise. Another eta in 0..1
    takes eta^2 v for v, and every q(x_t | x_0) stays the same: Song et al. 2021 (DDIM), eqs 12 and 16.
    """
    (a_t, s_t), (a_s, s_s) = ((column(a, x_t), column(s, x_t)) for a, s in (now, then))
    variance = (eta * s_s).square() * (1 - (a_t * s_s / (a_s * s_t)).square())
    eps = (x_t - a_t * x_0) / s_t
    return Gaussian(a_s * x_0 + (s_s.square() - variance).clamp(min=0).sqrt() * eps, variance)


def image_from(output: Tensor, x_t: Tensor, signal: Number, noise: Number, predict: Prediction) -> Tensor:
    """The guess at x_0 that a prediction amounts to, for signal^2 + noise^2 = 1.

    noise: (x_t - noise eps) / signal. velocity: v = signal eps - noise x_0 (Salimans and Ho 2022, section 4), so that
    x_0 = signal x_t - noise v, which needs no division. score: (x_t + noise^2 score) / signal, Tweedie's formula.
    """
    a, s = column(signal, x_t), column(noise, x_t)
    if predict == "noise":
        return (x_t - s * output) / a
    if predict == "velocity":
        return a * x_t - s * output
    if predict == "score":
        return (x_t + s.square() * output) / a
    if predict == "image":
        return output
    raise ValueError(f"predict must be one of {', '.join(get_args(Prediction))}; got {predict!r}")


def target(x_0: Tensor, eps: Tensor, signal: Number, noise: Number, predict: Prediction) -> Tensor:
    """What a network that predicts noise, image, velocity or score is to give for x_t = signal x_0 + noise eps."""
    a, s = column(signal, x_0), column(noise, x_0)
    targets = {"noise": lambda: eps, "image": lambda: x_0, "velocity": lambda: a * eps - s * x_0}
    targets["score"] = lambda: -eps / s
    if predict not in targets:
        raise ValueError(f"predict must be one of {', '.join(targets)}; got {predict!r}")
    return targets[predict]()


class Denoiser(nn.Module):
    """A network as a guess at E[x_0 | x_t], called like the worlds' `denoise`, at any level and scale.

    net: called as net(x, log_snr, *context), with x (B, ...) on the scale signal^2 + noise^2 = 1 and log_snr (B,) in
    -20..20. predict: what it gives for that x.
    """

    def __init__(self, net: nn.Module, predict: Prediction = "velocity") -> None:
        super().__init__()
        if predict not in get_args(Prediction):
            raise ValueError(f"predict must be one of {', '.join(get_args(Prediction))}; got {predict!r}")
        self.net, self.predict = net, predict

    def raw(self, x_t: Tensor, signal: Number, noise: Number, *context: Tensor) -> Tensor:
        """What the network itself gives for x_t (B, ...), where signal^2 + noise^2 = 1."""
        a, s = (column(part, x_t).flatten() for part in (signal, noise))
        log_snr = (2 * (a.log() - s.log())).clamp(-LIMIT, LIMIT).expand(len(x_t))
        output: Tensor = self.net(x_t, log_snr, *context)
        return output

    def forward(self, x_t: Tensor, signal: Number, noise: Number, *context: Tensor) -> Tensor:
        """E[x_0 | x_t] as the network sees it, (B, ...)."""
        a, s = column(signal, x_t), column(noise, x_t)
        scale = (a.square() + s.square()).rsqrt()
        a, s, x = a * scale, s * scale, x_t * scale
        output = self.raw(x, a.flatten(), s.flatten(), *context)
        return image_from(output, x, a.flatten(), s.flatten(), self.predict)


class Diffusion(nn.Module):
    """The simple loss: squared error of what the network predicts at a random level. Ho et al. 2020, eq. 14.

    Summed over an image's numbers and averaged over the batch; it is the bound with another weight for each level.
    model: a `Denoiser`. Where batches are pairs of images and a context, the network takes both; `drop` is the share
    of contexts that is set to zero, so that the network also learns to go without (Ho and Salimans 2022, algorithm 1).
    """

    def __init__(self, model: Denoiser, schedule: Schedule, *, drop: float = 0.0) -> None:
        super().__init__()
        self.model, self.drop = model, drop
        self.signal: Tensor
        self.noise: Tensor
        self.register_buffer("signal", schedule.signal.float(), persistent=False)
        self.register_buffer("noise", schedule.noise.float(), persistent=False)

    def turns(
        self, batch: Tensor | tuple[Tensor, Tensor], noise: Noise
    ) -> Iterator[tuple[str, Tensor, dict[str, Tensor]]]:
        """One player, `model`."""
        x_0, *context = batch if isinstance(batch, tuple | list) else (batch,)
        t = noise.integers(len(self.signal), len(x_0))
        eps = noise.normal(*x_0.shape)
        if self.drop and context:
            kept = noise.uniform(len(x_0)) >= self.drop
            context = [part * kept.view(-1, *[1] * (part.ndim - 1)) for part in context]
        a, s = self.signal[t], self.noise[t]
        output = self.model.raw(diffuse(x_0, eps, a, s), a, s, *context)
        error = (output - target(x_0, eps, a, s, self.model.predict)).square()
        yield "model", error.flatten(1).sum(1).mean(), {}


def squared_error(denoise: Denoise, x_0: Tensor, eps: Tensor, signal: Number, noise: Number) -> Tensor:
    """||x_0 - denoise(x_t)||^2, (B,): the quantity that all losses weigh."""
    guess = denoise(diffuse(x_0, eps, signal, noise), signal, noise)
    return (x_0 - guess).square().flatten(1).sum(1)


class Bound(NamedTuple):
    """The terms of -log p(x_0) <= prior + steps + reconstruction, nats: (B,), (T - 1, B) from t = 2 up, (B,)."""

    prior: Tensor
    steps: Tensor
    reconstruction: Tensor

    @property
    def total(self) -> Tensor:
        """(B,) nats/image."""
        return self.prior + self.steps.sum(0) + self.reconstruction


def prior_term(x_0: Tensor, signal: Number, noise: Number) -> Tensor:
    """KL(q(x_T | x_0) || N(0, I)), nats, (B,): nothing can be learnt from it."""
    a, s = column(signal, x_0), column(noise, x_0)
    return 0.5 * ((a * x_0).square() + s.square() - 1 - 2 * s.log()).flatten(1).sum(1)


def reconstruction_term(
    denoise: Denoise, x_0: Tensor, eps: Tensor, signal: Number, noise: Number, *, variance: float | None = None
) -> Tensor:
    """-log N(x_0; denoise(x_1), variance I), nats, (B,); the variance is (noise / signal)^2 unless given.

    That is the variance of x_1 / signal, right where the data's density is smooth on that scale. The best one is the
    mean squared error of an entry at this level, as in (11.11); take it from training images.
    """
    guess = denoise(diffuse(x_0, eps, signal, noise), signal, noise)
    if variance is not None:
        return -gaussian_log_prob(x_0, guess, 0.5 * math.log(variance))
    return -gaussian_log_prob(x_0, guess, column(noise, x_0).log() - column(signal, x_0).log())


@torch.no_grad()
def bound(
    denoise: Denoise,
    x_0: Tensor,
    schedule: Schedule,
    *,
    variance: float | None = None,
    generator: torch.Generator | None = None,
) -> Bound:
    """All terms for images x_0 (B, ...), with one draw of noise each. Ho et al. 2020, eq. 5; T calls of the denoiser.

    variance: of the last step, as in `reconstruction_term`.

    The step to t - 1 costs (SNR_{t-1} - SNR_t) / 2 times the squared error, since the model's step has the mean of q at
    the guessed image and the variance of q (Kingma et al. 2021, eqs 12 and 13).
    """
    levels = list(zip(schedule.signal.tolist(), schedule.noise.tolist(), strict=True))
    snr = schedule.log_snr.exp().tolist()

    def eps() -> Tensor:
        return torch.randn(x_0.shape, generator=generator, dtype=x_0.dtype, device=x_0.device)

    steps = [
        0.5 * (snr[t - 1] - snr[t]) * squared_error(denoise, x_0, eps(), *levels[t]) for t in range(1, len(schedule))
    ]
    return Bound(
        prior_term(x_0, *levels[-1]),
        torch.stack(steps) if steps else x_0.new_zeros(0, len(x_0)),
        reconstruction_term(denoise, x_0, eps(), *levels[0], variance=variance),
    )


def level(log_snr: Number) -> tuple[Tensor, Tensor]:
    """(signal, noise) of a log-SNR in nats, with signal^2 + noise^2 = 1."""
    log_snr = torch.as_tensor(log_snr) * 1.0  # integers too
    return (0.5 * logsigmoid(log_snr)).exp(), (0.5 * logsigmoid(-log_snr)).exp()


def information(error: Tensor, error_told: Tensor, log_snr: Tensor) -> Tensor:
    """What x_t says of a context, nats, at each level: half the integral over SNR of the error that the context saves.

    error, error_told: (N,) least mean squared errors of x_0, summed over an image, without and with the context.
    log_snr: (N,) ascending, nats, from a level where nothing is saved. By the trapezoidal rule in log-SNR; (N,), the
    first 0. Guo et al. 2005, theorem 1, for x_0 and for x_0 given the context (13.5).
    """
    saved = (error - error_told) * log_snr.exp()
    parts = torch.cumulative_trapezoid(saved, log_snr)
    return 0.5 * torch.cat([parts.new_zeros(1), parts])
