"""Diffusion (chapter 11): images are destroyed by noise in steps, and a network learns the way back.

A noise level is a pair (alpha, sigma): x_t = alpha x_0 + sigma eps, with eps standard normal. Levels run from t = 1,
hardly noisy, to t = T, hardly anything else; code counts them 0..T-1. Their order is that of the signal-to-noise ratio
(alpha / sigma)^2, whose logarithm, log-SNR, is what a network is given. Images are (B, C, H, W); what is said of one
image sums over its numbers: (B,), in nats. A denoiser is called as `denoise(x_t, alpha, sigma)` and gives E[x_0 | x_t]
or a guess at it; the worlds' own `denoise` is the exact one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from minigen.data.checks import need_count, need_float, need_number, need_same, need_shape
from minigen.nets.conditioning import drop_context
from minigen.objectives.elbo import gaussian_log_prob
from minigen.train.loop import Objective
from minigen.train.rng import Rng
from minigen.worlds.precision import widen

Number = float | Tensor
Denoise = Callable[..., Tensor]
Prediction = Literal["epsilon", "x0", "v", "score"]
BLIND = ("epsilon", "score")  # predictions that say nothing of the image where no signal is left
NO_SIGNAL = 'got a level without signal: predict "v" or "x0", or end the schedule above alpha 0'
LIMIT = 20.0  # nats; log-SNR beyond it is as good as infinite, and a network is given this number


class Schedule:
    """Noise levels t = 1..T of a variance-preserving process: alpha^2 + sigma^2 = 1. Ho et al. 2020, eq. 4.

    alpha_bar: (T,) alpha^2, strictly decreasing, from below 1 to 0 or more; kept as float64 on the CPU.

    >>> schedule = Schedule.linear(1000)
    >>> len(schedule), round(schedule.alpha_bar[-1].item(), 6)
    (1000, 4e-05)
    >>> schedule.path(20).alpha.shape  # twenty steps, and the data at the end
    torch.Size([21])
    """

    def __init__(self, alpha_bar: Tensor) -> None:
        need_float("alpha_bar", alpha_bar, todo="it is the share of the image's variance that is left at each level")
        alpha_bar = alpha_bar.detach().double().cpu()
        inside = alpha_bar.ndim == 1 and len(alpha_bar) > 0 and alpha_bar[0] < 1 and alpha_bar[-1] >= 0
        if not inside or not (alpha_bar.diff() < 0).all():
            ends = f" {_ends(alpha_bar)}" if alpha_bar.ndim == 1 and len(alpha_bar) else ""
            got = f"{tuple(alpha_bar.shape)}{ends}"
            raise ValueError(f"alpha_bar must be (T,), strictly decreasing, from below 1 to 0 or more; got {got}")
        self.alpha_bar = alpha_bar
        self.alpha, self.sigma = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
        self.log_snr = alpha_bar.log() - torch.log1p(-alpha_bar)

    def __len__(self) -> int:
        return len(self.alpha_bar)

    @classmethod
    def linear(cls, steps: int = 1000, *, first: float = 1e-4, last: float = 0.02) -> Schedule:
        """beta from `first` to `last` in equal steps. Ho et al. 2020, section 4, whose numbers these are."""
        need_count("steps", steps)
        return cls((1 - torch.linspace(first, last, steps, dtype=torch.float64)).cumprod(0))

    @classmethod
    def cosine(cls, steps: int = 1000, *, offset: float = 0.008, largest: float = 0.999) -> Schedule:
        """alpha_bar a squared cosine of t; beta at most `largest`. Nichol and Dhariwal 2021, eq. 17."""
        need_count("steps", steps)
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
        need_count("steps", steps)
        ends = torch.special.ndtr((torch.tensor([high, low], dtype=torch.float64) - mean) / std)
        share = torch.linspace(0, 1, steps, dtype=torch.float64)
        return cls(torch.sigmoid(mean + std * torch.special.ndtri(ends[0] + (ends[1] - ends[0]) * share)))

    @classmethod
    def even(cls, steps: int = 1000, *, low: float = -7.0, high: float = 5.5) -> Schedule:
        """log-SNR, in nats, from `high` to `low` in equal steps. Lu et al. 2022 (DPM-Solver), to sample.

        With the defaults, 20 steps cross the levels where the images of the worlds are decided in small ones.
        """
        need_count("steps", steps)
        return cls(torch.sigmoid(torch.linspace(high, low, steps, dtype=torch.float64)))

    @property
    def beta(self) -> Tensor:
        """(T,) the variance that each step adds: 1 - alpha_bar_t / alpha_bar_{t-1}."""
        return 1 - self.alpha_bar / torch.cat([self.alpha_bar.new_ones(1), self.alpha_bar[:-1]])

    def zero_terminal(self) -> Schedule:
        """The same with no signal left at t = T. Lin et al. 2024, algorithm 1: signals moved and stretched."""
        if len(self) < 2:
            raise ValueError("a schedule needs 2 levels or more to be stretched to zero; got 1")
        alpha = self.alpha - self.alpha[-1]
        return Schedule((alpha * self.alpha[0] / alpha[0]).square())

    def path(self, steps: int | None = None) -> Path:
        """The levels that a sampler visits, from t = T down, ending at the data; all, or `steps` evenly spaced ones."""
        steps = len(self) if steps is None else steps
        need_count("steps", steps, least=0)
        if not 1 <= steps <= len(self):
            raise ValueError(f"steps must be in 1..{len(self)}, the levels that there are; got {steps}")
        index = torch.linspace(len(self) - 1, -1, steps + 1, dtype=torch.float64).round().long()[:-1]
        alpha, sigma = self.alpha[index], self.sigma[index]
        return Path(torch.cat([alpha, alpha.new_ones(1)]), torch.cat([sigma, sigma.new_zeros(1)]))


class Path(NamedTuple):
    """Levels from noise to data, one more than there are steps: alpha and sigma, both (steps + 1,)."""

    alpha: Tensor
    sigma: Tensor


def need_path(path: Path) -> None:
    """Refuse what is no path: levels (alpha, sigma), two or more, that fall in noise. Raises TypeError, ValueError."""
    if isinstance(path, Schedule) or not (hasattr(path, "alpha") and hasattr(path, "sigma")):
        todo = "take schedule.path(steps)" if isinstance(path, Schedule) else "take Schedule.cosine().path(steps)"
        raise TypeError(f"path must be a Path, levels from noise to data; got {type(path).__name__}: {todo}")
    a, s = (torch.as_tensor(part).detach().double().cpu() for part in (path.alpha, path.sigma))
    if a.ndim != 1 or a.shape != s.shape or len(a) < 2:
        got = f"{tuple(a.shape)} and {tuple(s.shape)}"
        raise ValueError(f"a path must have 2 levels or more, alpha and sigma both (steps + 1,); got {got}")
    falls = ((s[1:] * a[:-1] < s[:-1] * a[1:]) & (a[1:] > 0) & (s[:-1] > 0)).all()
    if not (falls and a[0] >= 0 and s[-1] >= 0 and a.isfinite().all() and s.isfinite().all()):
        raise ValueError(
            f"a path must fall in noise, sigma / alpha from level to level; got alpha {_ends(a)} and sigma "
            f"{_ends(s)}: Schedule.path gives such, flip what runs from data to noise"
        )


def _ends(x: Tensor) -> str:
    return f"from {x[0]:g} to {x[-1]:g}"


def append_dims(value: Number, x: Tensor) -> Tensor:
    """A number, or one for each image (B,), as it multiplies images x (B, ...): (1, 1, ...) or (B, 1, ...).

    Raises TypeError for integer images, which would make it an integer, and ValueError for another number of values.
    """
    need_float("images", x)
    value = torch.as_tensor(value, dtype=x.dtype, device=x.device)
    if value.numel() != 1 and (not x.ndim or value.numel() != len(x)):
        n = len(x) if x.ndim else 1
        raise ValueError(f"give one number for all images or one for each of {n}; got {tuple(value.shape)}")
    return value.reshape(-1, *[1] * (x.ndim - 1))


def add_noise(x_0: Tensor, eps: Tensor, alpha: Number, sigma: Number) -> Tensor:
    """x_t = alpha x_0 + sigma eps, (11.1): noise of many steps added in one. Ho et al. 2020, eq. 4.

    >>> add_noise(torch.tensor([[1.0]]), torch.tensor([[2.0]]), 0.6, 0.8)
    tensor([[2.2000]])
    """
    need_same("eps", eps, "x_0", x_0)
    return append_dims(alpha, x_0) * x_0 + append_dims(sigma, x_0) * eps


def known(value: Number, holds: Callable[[Tensor], Tensor]) -> bool:
    """Whether it holds for some of the numbers, where they can be seen without waiting for an accelerator."""
    value = torch.as_tensor(value)
    return value.device.type == "cpu" and bool(holds(value.detach()).any())


class Gaussian(NamedTuple):
    """N(mean, variance I); the variance is a number, or one for each image, (B, 1, 1, 1)."""

    mean: Tensor
    variance: Tensor


def posterior_step(
    x_0: Tensor, x_t: Tensor, now: tuple[Number, Number], then: tuple[Number, Number], *, eta: float = 1.0
) -> Gaussian:
    """The step from level `now` to the less noisy level `then`, both (alpha, sigma), if x_0 is the image.

    eta = 1: q(x_s | x_t, x_0), Ho et al. 2020, eqs 6 and 7. It is alpha_s x_0 + sqrt(sigma_s^2 - v) eps_t, with eps_t
    the noise that x_t shows and v = sigma_s^2 (1 - SNR_t / SNR_s), plus sqrt(v) times fresh noise. Another eta in 0..1
    takes eta^2 v for v, and every q(x_t | x_0) stays the same: Song et al. 2021 (DDIM), eqs 12 and 16.
    """
    need_same("x_0", x_0, "x_t", x_t)
    if known(now[1], lambda s: s == 0):
        raise ValueError("the level to come from must hold noise; got sigma 0: this is the image, where a path ends")
    (a_t, s_t), (a_s, s_s) = ((append_dims(a, x_t), append_dims(s, x_t)) for a, s in (now, then))
    variance = (eta * s_s).square() * (1 - (a_t * s_s / (a_s * s_t)).square())
    eps = (x_t - a_t * x_0) / s_t
    return Gaussian(a_s * x_0 + (s_s.square() - variance).clamp(min=0).sqrt() * eps, variance)


def predict_x0(output: Tensor, x_t: Tensor, alpha: Number, sigma: Number, predict: Prediction) -> Tensor:
    """The guess at x_0 that a prediction amounts to, for alpha^2 + sigma^2 = 1.

    epsilon: (x_t - sigma eps) / alpha. v: alpha eps - sigma x_0, the velocity (Salimans and Ho 2022, section 4), so
    that x_0 = alpha x_t - sigma v, which needs no division. score: (x_t + sigma^2 score) / alpha, Tweedie's formula.
    The noise and the score say nothing of the image where alpha is 0: a ValueError, on a CPU.
    """
    need_same("output", output, "x_t", x_t)
    if predict in BLIND and known(alpha, lambda a: a == 0):
        raise ValueError(f"x_0 does not follow from the {predict} where alpha is 0; {NO_SIGNAL}")
    a, s = append_dims(alpha, x_t), append_dims(sigma, x_t)
    if predict == "epsilon":
        return (x_t - s * output) / a
    if predict == "v":
        return a * x_t - s * output
    if predict == "score":
        return (x_t + s.square() * output) / a
    if predict == "x0":
        return output
    raise ValueError(f"predict must be one of {', '.join(get_args(Prediction))}; got {predict!r}")


def target(x_0: Tensor, eps: Tensor, alpha: Number, sigma: Number, predict: Prediction) -> Tensor:
    """What a network that predicts epsilon, x0, v or the score is to give for x_t = alpha x_0 + sigma eps."""
    need_same("eps", eps, "x_0", x_0)
    a, s = append_dims(alpha, x_0), append_dims(sigma, x_0)
    targets = {"epsilon": lambda: eps, "x0": lambda: x_0, "v": lambda: a * eps - s * x_0}
    targets["score"] = lambda: -eps / s
    if predict not in targets:
        raise ValueError(f"predict must be one of {', '.join(targets)}; got {predict!r}")
    return targets[predict]()


class Denoiser(nn.Module):
    """A network as a guess at E[x_0 | x_t], called like the worlds' `denoise`, at any level and scale.

    net: called as net(x, log_snr, *context), with x (B, ...) on the scale alpha^2 + sigma^2 = 1 and log_snr (B,) in
    -20..20, nats. predict: what it gives for that x.

    A network of one's own that wants the time step 0..T-1 goes through `TimestepAdapter`. Nobody can see from outside
    what a network makes of its second argument: without the adapter it would be fed -20..20, and learn badly.

    >>> from minigen.nets import UNet
    >>> denoise = Denoiser(UNet(3, width=8), "v")
    >>> denoise(torch.zeros(2, 3, 8, 8), 0.6, 0.8).shape
    torch.Size([2, 3, 8, 8])
    """

    def __init__(self, net: nn.Module, predict: Prediction = "v") -> None:
        super().__init__()
        if predict not in get_args(Prediction):
            raise ValueError(f"predict must be one of {', '.join(get_args(Prediction))}; got {predict!r}")
        self.net, self.predict = net, predict

    def raw(self, x_t: Tensor, alpha: Number, sigma: Number, *context: Tensor) -> Tensor:
        """What the network itself gives for x_t (B, ...), where alpha^2 + sigma^2 = 1."""
        a, s = (append_dims(part, x_t).flatten() for part in (alpha, sigma))
        log_snr = (2 * (a.log() - s.log())).clamp(-LIMIT, LIMIT).expand(len(x_t))
        output: Tensor = self.net(x_t, log_snr, *context)
        return output

    def forward(self, x_t: Tensor, alpha: Number, sigma: Number, *context: Tensor) -> Tensor:
        """E[x_0 | x_t] as the network sees it, (B, ...)."""
        a, s = append_dims(alpha, x_t), append_dims(sigma, x_t)
        if known(a.square() + s.square(), lambda total: ~(total > 0)):
            raise ValueError(f"alpha and sigma must be numbers, and not both 0; got {alpha} and {sigma}")
        scale = (a.square() + s.square()).rsqrt()
        a, s, x = a * scale, s * scale, x_t * scale
        output = self.raw(x, a.flatten(), s.flatten(), *context)
        return predict_x0(output, x, a.flatten(), s.flatten(), self.predict)


class TimestepAdapter(nn.Module):
    """A network that wants the time step, for a `Denoiser` to call: `Denoiser(TimestepAdapter(net, schedule))`.

    net: called as net(x, t, *context), t (B,) floats in 0..T-1, the index of a level of the schedule that the network
    is or was trained at. In between, the index is linear in log-SNR; beyond the ends it is the end's.

    >>> schedule = Schedule.linear(1000)
    >>> adapter = TimestepAdapter(nn.Identity(), schedule)
    >>> adapter.index(schedule.log_snr[[0, 500, 999]]).round().tolist()
    [0.0, 500.0, 999.0]
    """

    log_snr: Tensor

    def __init__(self, net: nn.Module, schedule: Schedule) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("log_snr", schedule.log_snr.clamp(-LIMIT, LIMIT).float(), persistent=False)

    def index(self, log_snr: Tensor) -> Tensor:
        """The fractional index of levels (B,), in 0..T-1."""
        levels, value = -self.log_snr, -log_snr.to(self.log_snr.dtype)  # ascending
        last = len(levels) - 1
        after = torch.searchsorted(levels, value).clamp(min(1, last), last)
        low, high = levels[(after - 1).clamp(min=0)], levels[after]
        share = ((value - low) / (high - low).clamp(min=torch.finfo(low.dtype).tiny)).clamp(0, 1)
        return (after - 1).clamp(min=0) + share * (after > 0)

    def forward(self, x: Tensor, log_snr: Tensor, *context: Tensor) -> Tensor:
        """Images (B, ...) at levels (B,), in nats, to what the network gives for them, (B, ...)."""
        output: Tensor = self.net(x, self.index(log_snr).to(x.dtype), *context)
        return output


class Diffusion(Objective):
    """The simple loss: squared error of what the network predicts at a random level. Ho et al. 2020, eq. 14.

    Summed over an image's numbers and averaged over the batch; it is the bound with another weight for each level.
    model: a `Denoiser`. Where batches are pairs of images and a context, the network takes both; `p_uncond` is the
    share of contexts that is set to zero, so that the network also learns to go without (Ho and Salimans 2022,
    algorithm 1).

    >>> from minigen.nets import UNet
    >>> from minigen.train import Rng
    >>> objective = Diffusion(Denoiser(UNet(3, width=8, label_dim=10), "v"), Schedule.cosine(), p_uncond=0.1)
    >>> images, labels = torch.zeros(2, 3, 8, 8), torch.tensor([3, 7])
    >>> [turn[0] for turn in objective.turns((images, labels), Rng())]
    ['model']

    Raises ValueError for a schedule that ends without signal where the network predicts epsilon or the score: it would
    train, and every sample would be NaN (Lin et al. 2024, section 3.2).
    """

    def __init__(self, model: Denoiser, schedule: Schedule, *, p_uncond: float = 0.0) -> None:
        super().__init__()
        _need_schedule(schedule)
        need_number("p_uncond", p_uncond, low=0, high=1)
        need_signal(model, schedule.alpha)
        self.model, self.p_uncond = model, p_uncond
        self.schedule = schedule
        self.alpha: Tensor
        self.sigma: Tensor
        self.register_buffer("alpha", schedule.alpha.float(), persistent=False)
        self.register_buffer("sigma", schedule.sigma.float(), persistent=False)

    def turns(self, batch: Tensor | tuple[Tensor, Tensor], rng: Rng) -> Iterator[tuple[str, Tensor, dict[str, Tensor]]]:
        """One player, `model`."""
        x_0, *context = batch if isinstance(batch, tuple | list) else (batch,)
        need_float("images", x_0)
        t = rng.integers(len(self.alpha), len(x_0))
        eps = rng.normal(*x_0.shape)
        context = drop_contexts(context, self.p_uncond, rng)
        a, s = self.alpha[t], self.sigma[t]
        output = widen(self.model.raw(add_noise(x_0, eps, a, s), a, s, *context))
        need_same("the network's output", output, "the images", x_0)
        error = (output - target(x_0, eps, a, s, self.model.predict)).square()
        yield "model", error.flatten(1).sum(1).mean(), {}


def drop_contexts(contexts: list[Tensor], share: float, rng: Rng) -> list[Tensor]:
    """Contexts (B, ...) of which a share of the rows says nothing, the same rows in all. Ho and Salimans 2022."""
    if not (share and contexts):
        return contexts
    kept = rng.uniform(len(contexts[0])) >= share
    return [drop_context(part, kept) for part in contexts]


def need_signal(model: nn.Module, alpha: Tensor) -> None:
    """Refuse a `Denoiser` that predicts epsilon or the score at levels of which one has no signal. ValueError."""
    predict = getattr(model, "predict", None)
    if predict in BLIND and not (alpha.float() > 0).all():
        raise ValueError(f"a network that predicts {predict} must see signal at every level; {NO_SIGNAL}")


def _need_schedule(schedule: Schedule) -> None:
    if not isinstance(schedule, Schedule):
        raise TypeError(f"give a Schedule, levels t = 1..T, such as Schedule.cosine(); got {type(schedule).__name__}")


def squared_error(denoise: Denoise, x_0: Tensor, eps: Tensor, alpha: Number, sigma: Number) -> Tensor:
    """||x_0 - denoise(x_t)||^2, (B,): the quantity that all losses weigh."""
    guess = widen(denoise(add_noise(x_0, eps, alpha, sigma), alpha, sigma))
    need_same("the guess", guess, "x_0", x_0)
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


def prior_term(x_0: Tensor, alpha: Number, sigma: Number) -> Tensor:
    """KL(q(x_T | x_0) || N(0, I)), nats, (B,): nothing can be learnt from it."""
    a, s = append_dims(alpha, x_0), append_dims(sigma, x_0)
    return 0.5 * ((a * x_0).square() + s.square() - 1 - 2 * s.log()).flatten(1).sum(1)


def reconstruction_term(
    denoise: Denoise, x_0: Tensor, eps: Tensor, alpha: Number, sigma: Number, *, variance: float | None = None
) -> Tensor:
    """-log N(x_0; denoise(x_1), variance I), nats, (B,); the variance is (sigma / alpha)^2 unless given.

    That is the variance of x_1 / alpha, right where the data's density is smooth on that scale. The best one is the
    mean squared error of an entry at this level, as in (11.11); take it from training images.
    """
    guess = denoise(add_noise(x_0, eps, alpha, sigma), alpha, sigma)
    need_same("the guess", guess, "x_0", x_0)
    if variance is not None:
        need_number("variance", variance, low=0, open=True)
        return -gaussian_log_prob(x_0, guess, 0.5 * math.log(variance))
    return -gaussian_log_prob(x_0, guess, append_dims(sigma, x_0).log() - append_dims(alpha, x_0).log())


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
    _need_schedule(schedule)
    levels = list(zip(schedule.alpha.tolist(), schedule.sigma.tolist(), strict=True))
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


def alpha_sigma(log_snr: Number) -> tuple[Tensor, Tensor]:
    """(alpha, sigma) of a log-SNR in nats, with alpha^2 + sigma^2 = 1."""
    log_snr = torch.as_tensor(log_snr) * 1.0  # integers too
    return (0.5 * logsigmoid(log_snr)).exp(), (0.5 * logsigmoid(-log_snr)).exp()


def information(error_uncond: Tensor, error_cond: Tensor, log_snr: Tensor) -> Tensor:
    """What x_t says of a context, nats, at each level: half the integral over SNR of the error that the context saves.

    error_uncond, error_cond: (N,) least mean squared errors of x_0, summed over an image, without and with the
    context. log_snr: (N,) ascending, nats, from a level where nothing is saved. By the trapezoidal rule in log-SNR;
    (N,), the first 0. Guo et al. 2005, theorem 1, for x_0 and for x_0 given the context (13.5).
    """
    need_shape("log_snr", log_snr, "N")
    need_same("error_uncond", error_uncond, "log_snr", log_snr)
    need_same("error_cond", error_cond, "log_snr", log_snr)
    if known(log_snr.diff(), lambda step: ~(step > 0)):
        raise ValueError("log_snr must ascend, from the noisiest level; got another order: sort the levels first")
    saved = (error_uncond - error_cond) * log_snr.exp()
    parts = torch.cumulative_trapezoid(saved, log_snr)
    return 0.5 * torch.cat([parts.new_zeros(1), parts])
