"""Distillation (chapter 12): a sampler of few steps learns from one of many.

Progressive distillation: the student's one DDIM step is to land where two steps of the teacher do; then the student
becomes the teacher, and the steps halve again. Shapes and units: `diffusion`.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from minigen.data.checks import need_float, need_same
from minigen.objectives.diffusion import (
    Denoise,
    Denoiser,
    Number,
    Path,
    add_noise,
    append_dims,
    need_path,
    need_signal,
    posterior_step,
)
from minigen.train.loop import Objective
from minigen.train.rng import Rng
from minigen.worlds.precision import widen


def two_step_image(
    denoise: Denoise,
    x_t: Tensor,
    now: tuple[Number, Number],
    middle: tuple[Number, Number],
    then: tuple[Number, Number],
) -> Tensor:
    """The image (B, ...) that one DDIM step needs, to get from x_t (B, ...) to where two of the teacher's lead.

    Salimans and Ho 2022, appendix G.

    With r = sigma_then / sigma_now it is (x_then - r x_t) / (alpha_then - r alpha_now). Levels are (alpha, sigma).
    """
    x = posterior_step(denoise(x_t, *now), x_t, now, middle, eta=0.0).mean
    x = posterior_step(denoise(x, *middle), x, middle, then, eta=0.0).mean
    (a_t, s_t), (a, s) = ((append_dims(level[0], x_t), append_dims(level[1], x_t)) for level in (now, then))
    return (x - s / s_t * x_t) / (a - s / s_t * a_t)


class ProgressiveDistillation(Objective):
    """Squared error of the student's image against the teacher's two steps. Salimans and Ho 2022, algorithm 2.

    student: a `Denoiser`, moved. teacher: its denoiser, held still: a module, such as a copy of the student before, or
    a world's own `denoise`. path: the teacher's levels, an even number of steps; the student's are every second one.
    The error of each level is weighed by max(SNR, 1), section 4, and summed over an image.
    """

    def __init__(self, student: Denoiser, teacher: Denoise, path: Path) -> None:
        super().__init__()
        if isinstance(path, Path) and (len(path.alpha) < 3 or len(path.alpha) % 2 == 0):
            raise ValueError(f"the teacher must take an even number of steps; got {len(path.alpha) - 1}")
        need_path(path)
        need_signal(student, path.alpha)
        self.student = student
        self.teach = (teacher,)  # not registered as a part: it is neither moved nor saved
        self.alpha: Tensor
        self.sigma: Tensor
        self.register_buffer("alpha", path.alpha.float(), persistent=False)
        self.register_buffer("sigma", path.sigma.float(), persistent=False)

    def turns(self, batch: Tensor, rng: Rng) -> Iterator[tuple[str, Tensor, dict[str, Tensor]]]:
        """One player, `student`."""
        need_float("images", batch)
        start = 2 * rng.integers((len(self.alpha) - 1) // 2, len(batch))
        now, middle, then = ((self.alpha[start + i], self.sigma[start + i]) for i in range(3))
        x_t = add_noise(batch, rng.normal(*batch.shape), *now)
        with torch.no_grad():
            image = two_step_image(self.teach[0], x_t, now, middle, then)
        guess = widen(self.student(x_t, *now))
        need_same("the student's guess", guess, "the images", image)
        error = (image - guess).square().flatten(1).sum(1)
        weight = (now[0] / now[1]).square().clamp(min=1.0)
        yield "student", (weight * error).mean(), {}
