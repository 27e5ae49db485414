"""Denoisers that are drawn towards a label, a caption, or away from their own faults (chapter 12).

Each is again a `denoise(x_t, signal, noise)`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from minigen.objectives.diffusion import Denoise, Number, column


def beyond(without: Tensor, told: Tensor, guidance_scale: float) -> Tensor:
    """From one guess at the image through another, both (B, ...): 0 is the first, 1 the second, 2 as far again."""
    return without + guidance_scale * (told - without)


def autoguidance(denoise: Denoise, worse: Denoise, *, guidance_scale: float) -> Denoise:
    """A denoiser moved away from a worse one: a smaller network, or the same one trained for less time.

    Karras et al. 2024 ("a bad version of itself"), eq. 3: 1 is unguided. Two calls for each one.
    """

    def guided(x_t: Tensor, signal: Number, noise: Number) -> Tensor:
        return beyond(worse(x_t, signal, noise), denoise(x_t, signal, noise), guidance_scale)

    return guided


def classifier_free(denoise: Denoise, context: Tensor, nothing: Tensor, *, guidance_scale: float) -> Denoise:
    """E[x_0 | x_t] without context, plus guidance_scale times the way from there to that with it.

    Ho and Salimans 2022, eq. 6, whose w is guidance_scale - 1: 1 is unguided, 0 ignores the context. context, nothing:
    (B, ...) what the network is told, and what stands for nothing told. Both are asked in one call of twice the batch.
    """
    both = torch.cat([nothing, context])

    def guided(x_t: Tensor, signal: Number, noise: Number) -> Tensor:
        a, s = (column(part, x_t).flatten().expand(len(x_t)).repeat(2) for part in (signal, noise))
        without, told = denoise(torch.cat([x_t, x_t]), a, s, both).chunk(2)
        return beyond(without, told, guidance_scale)

    def plain(x_t: Tensor, signal: Number, noise: Number) -> Tensor:
        return denoise(x_t, signal, noise, context)

    return plain if guidance_scale == 1.0 else guided


def classifier(
    denoise: Denoise, log_prob: Callable[[Tensor, Number, Number], Tensor], *, guidance_scale: float
) -> Denoise:
    """E[x_0 | x_t] moved along the gradient of a noise-aware classifier's log P(label | x_t).

    Tweedie's formula turns a score into an image, so the classifier's score counts noise^2 / signal times.
    Dhariwal and Nichol 2021, algorithm 2. log_prob(x_t, signal, noise): (B,), nats. A call where no signal is left is a
    ValueError: the gradient is 0 there, and says nothing of the image.
    """

    def guided(x_t: Tensor, signal: Number, noise: Number) -> Tensor:
        if not torch.as_tensor(signal).all():
            raise ValueError("a classifier's gradient is 0 where the signal is 0; begin at a level that has some")
        with torch.enable_grad():
            x = x_t.detach().requires_grad_()
            (slope,) = torch.autograd.grad(log_prob(x, signal, noise).sum(), x)
        a, s = column(signal, x_t), column(noise, x_t)
        return denoise(x_t, signal, noise) + guidance_scale * s.square() / a * slope

    return guided
