"""Flow matching (chapter 12): a velocity that carries noise to images along straight lines, t = 1 to t = 0.

Here alpha = 1 - t and sigma = t, so that t = 0 is data (Lipman et al. 2023 and Liu et al. 2023 count the other way).
x_t moves at eps - x_0, and what a network can know of that is its mean given x_t. Shapes and units: `diffusion`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from minigen.data.checks import need_count, need_float, need_number, need_same
from minigen.objectives.diffusion import LIMIT, Denoise, Number, Path, add_noise, append_dims, drop_contexts, known
from minigen.train.loop import Objective
from minigen.train.rng import Rng
from minigen.worlds.precision import widen


def velocity_from(image: Tensor, x_t: Tensor, t: Number) -> Tensor:
    """E[eps - x_0 | x_t], (B, ...), from a guess at E[x_0 | x_t] and t in (0, 1]: (x_t - image) / t."""
    need_same("image", image, "x_t", x_t)
    if known(t, lambda t: t == 0):
        raise ValueError("t must be above 0: at t = 0 there is no noise to tell the velocity by; got 0")
    return (x_t - image) / append_dims(t, x_t)


def image_from_velocity(velocity: Tensor, x_t: Tensor, t: Number) -> Tensor:
    """E[x_0 | x_t], (B, ...), from the velocity: x_t - t velocity."""
    need_same("velocity", velocity, "x_t", x_t)
    return x_t - append_dims(t, x_t) * velocity


def straight(steps: int) -> Path:
    """alpha = 1 - t and sigma = t for t from 1 to 0 in equal steps: a DDIM step along it is an Euler step."""
    need_count("steps", steps)
    t = torch.linspace(1, 0, steps + 1, dtype=torch.float64)
    return Path(1 - t, t)


class Velocity(nn.Module):
    """A network that gives velocities, as a guess at E[x_0 | x_t], called like the worlds' `denoise` at any scale.

    net: called as net(x, log_snr, *context) with x on the scale alpha + sigma = 1, as for `diffusion.Denoiser`.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def raw(self, x_t: Tensor, t: Number, *context: Tensor) -> Tensor:
        """The velocity at x_t = (1 - t) x_0 + t eps, (B, ...)."""
        t = append_dims(t, x_t).flatten()
        log_snr = (2 * (torch.log1p(-t) - t.log())).clamp(-LIMIT, LIMIT).expand(len(x_t))
        output: Tensor = self.net(x_t, log_snr, *context)
        return output

    def forward(self, x_t: Tensor, alpha: Number, sigma: Number, *context: Tensor) -> Tensor:
        """E[x_0 | x_t] as the network sees it, (B, ...)."""
        a, s = append_dims(alpha, x_t), append_dims(sigma, x_t)
        x, t = x_t / (a + s), (s / (a + s)).flatten()
        return image_from_velocity(self.raw(x, t, *context), x, t)


class FlowMatching(Objective):
    """Squared error of the velocity at a random time, summed over an image. Lipman et al. 2023, eq. 14.

    model: a `Velocity`. Times are uniform, or with `spread` the sigmoid of spread times a standard normal (Esser et al.
    2024, section 3.1), which asks more often in the middle. A batch is images, or images and conditions (B, ...) that
    the network takes; a share `p_uncond` of these is set to zero, as in `Diffusion`. paired: a batch is images and the
    noise of each, joined by lines as they stand (rectified flow, Liu et al. 2023, algorithm 1), then conditions.

    >>> from minigen.nets import UNet
    >>> from minigen.train import Rng
    >>> objective = FlowMatching(Velocity(UNet(1, width=8)))
    >>> [turn[0] for turn in objective.turns(torch.zeros(2, 1, 8, 8), Rng())]
    ['model']
    """

    def __init__(
        self, model: Velocity, *, spread: float | None = None, p_uncond: float = 0.0, paired: bool = False
    ) -> None:
        super().__init__()
        need_number("p_uncond", p_uncond, low=0, high=1)
        if spread is not None:
            need_number("spread", spread, low=0, open=True)
        self.model, self.spread, self.p_uncond, self.paired = model, spread, p_uncond, paired

    def turns(self, batch: Tensor | tuple[Tensor, ...], rng: Rng) -> Iterator[tuple[str, Tensor, dict[str, Tensor]]]:
        """One player, `model`."""
        x_0, *context = batch if isinstance(batch, tuple | list) else (batch,)
        need_float("images", x_0)
        if self.paired and not context:
            raise ValueError("paired=True needs batches (images, noise, *conditions); got images alone")
        eps = context.pop(0) if self.paired else rng.normal(*x_0.shape)
        need_same("the noise of the pairs", eps, "the images", x_0)
        context = drop_contexts(context, self.p_uncond, rng)
        t = 1 - rng.uniform(len(x_0)) if self.spread is None else torch.sigmoid(self.spread * rng.normal(len(x_0)))
        velocity = widen(self.model.raw(add_noise(x_0, eps, 1 - t, t), t, *context))
        need_same("the network's output", velocity, "the images", x_0)
        error = velocity - (eps - x_0)
        yield "model", error.square().flatten(1).sum(1).mean(), {}


def bend(denoise: Denoise, x: Tensor, *, steps: int = 100) -> Tensor:
    """How far the paths from x (B, ...) at t = 1 are from straight, (B,). Liu et al. 2023, section 2.2.

    The mean over t of |v_t - (x_1 - x_0)|^2, the squared distance of the velocity on the way to that of the straight
    line between the two ends; 0 means that one Euler step is exact.
    """
    need_count("steps", steps)
    velocities, times = [], torch.linspace(1, 0, steps + 1, dtype=torch.float64).tolist()
    with torch.no_grad():
        for t, then in itertools.pairwise(times):
            velocities.append(velocity_from(denoise(x, 1 - t, t), x, t))
            x = x + (then - t) * velocities[-1]
    v = torch.stack(velocities)  # (steps, B, ...)
    return (v - v.mean(0)).square().flatten(2).sum(2).mean(0)
