"""Denoisers that are drawn towards a label, a caption, or away from their own faults (chapter 12).

Each is again a `denoise(x_t, alpha, sigma)`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from minigen.data.checks import need_number, need_same, need_shape
from minigen.objectives.diffusion import Denoise, Number, append_dims, known


def extrapolate(uncond: Tensor, cond: Tensor, guidance_scale: float) -> Tensor:
    """From one guess at the image through another, both (B, ...): 0 is the first, 1 the second, 2 as far again.

    >>> extrapolate(torch.tensor([1.0]), torch.tensor([3.0]), 2.0)
    tensor([5.])
    """
    need_same("cond", cond, "uncond", uncond)
    need_number("guidance_scale", guidance_scale)
    return uncond + guidance_scale * (cond - uncond)


def autoguidance(denoise: Denoise, worse: Denoise, *, guidance_scale: float) -> Denoise:
    """A denoiser moved away from a worse one: a smaller network, or the same one trained for less time.

    Karras et al. 2024 ("a bad version of itself"), eq. 3: 1 is unguided. Two calls for each one.
    """

    need_number("guidance_scale", guidance_scale)

    def guided(x_t: Tensor, alpha: Number, sigma: Number) -> Tensor:
        return extrapolate(worse(x_t, alpha, sigma), denoise(x_t, alpha, sigma), guidance_scale)

    return guided


def classifier_free(denoise: Denoise, cond: Tensor, uncond: Tensor, *, guidance_scale: float) -> Denoise:
    """E[x_0 | x_t] without a condition, plus guidance_scale times the way from there to that with it.

    Ho and Salimans 2022, eq. 6, whose w is guidance_scale - 1: 1 is unguided, 0 ignores the condition. cond, uncond:
    (B, ...) the condition of each image, and what stands for none: zeros, or -1 for classes, int64 (B,), of which 0 is
    one (a ValueError; `autoguidance` leads away from a class). Both are asked in one call of twice the batch.
    """
    need_number("guidance_scale", guidance_scale)
    for name, part in (("cond", cond), ("uncond", uncond)):
        if not isinstance(part, Tensor):
            raise TypeError(f"{name} must be a tensor (B, ...); got {type(part).__name__}")
    need_same("uncond", uncond, "cond", cond)
    if uncond.ndim == 1 and uncond.dtype == torch.int64 and known(uncond, lambda c: c >= 0):
        raise ValueError(
            f"uncond must be -1, no class, for each image; got classes {uncond[:4].tolist()}: take "
            "torch.full_like(cond, -1), or autoguidance to lead away from a class"
        )
    both = torch.cat([uncond, cond])

    def guided(x_t: Tensor, alpha: Number, sigma: Number) -> Tensor:
        need_shape("x_t", x_t, len(cond), "...")
        a, s = (append_dims(part, x_t).flatten().expand(len(x_t)).repeat(2) for part in (alpha, sigma))
        without, with_it = denoise(torch.cat([x_t, x_t]), a, s, both).chunk(2)
        return extrapolate(without, with_it, guidance_scale)

    def plain(x_t: Tensor, alpha: Number, sigma: Number) -> Tensor:
        need_shape("x_t", x_t, len(cond), "...")
        return denoise(x_t, alpha, sigma, cond)

    return plain if guidance_scale == 1.0 else guided


def classifier(
    denoise: Denoise, log_prob: Callable[[Tensor, Number, Number], Tensor], *, guidance_scale: float
) -> Denoise:
    """E[x_0 | x_t] moved along the gradient of a noise-aware classifier's log P(label | x_t).

    Tweedie's formula turns a score into an image, so the classifier's score counts sigma^2 / alpha times.
    Dhariwal and Nichol 2021, algorithm 2. log_prob(x_t, alpha, sigma): (B,), nats. A call where no signal is left is a
    ValueError: the gradient is 0 there, and says nothing of the image.
    """

    need_number("guidance_scale", guidance_scale)

    def guided(x_t: Tensor, alpha: Number, sigma: Number) -> Tensor:
        if known(alpha, lambda a: a == 0):
            raise ValueError("a classifier's gradient is 0 where alpha is 0; begin at a level that has some")
        with torch.enable_grad():
            x = x_t.detach().requires_grad_()
            found = log_prob(x, alpha, sigma)
            if not found.requires_grad:
                raise ValueError(
                    "the classifier's log_prob must have a gradient by x; got one without: call it outside of no_grad "
                    "and inference_mode, and without detach()"
                )
            (slope,) = torch.autograd.grad(found.sum(), x)
        a, s = append_dims(alpha, x_t), append_dims(sigma, x_t)
        return denoise(x_t, alpha, sigma) + guidance_scale * s.square() / a * slope

    return guided


def static_threshold(denoise: Denoise) -> Denoise:
    """A denoiser whose guesses at the image are kept in [-1, 1]: strong guidance leads out of that range.

    Saharia et al. 2022 (Imagen), section 2.3. Only for images that lie in [-1, 1]: those of the worlds do not.
    """

    def kept(x_t: Tensor, alpha: Number, sigma: Number) -> Tensor:
        return denoise(x_t, alpha, sigma).clamp(-1, 1)

    return kept
