"""Distillation (chapter 12): a sampler of few steps learns from one of many.

Progressive distillation: the student's one DDIM step is to land where two steps of the teacher do; then the student
becomes the teacher, and the steps halve again. Shapes and units: `diffusion`.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from minigen.objectives.diffusion import Denoise, Denoiser, Number, Path, backward, column, diffuse
from minigen.streams import Noise


def two_step_image(
    denoise: Denoise,
    x_t: Tensor,
    now: tuple[Number, Number],
    middle: tuple[Number, Number],
    then: tuple[Number, Number],
) -> Tensor:
    """The image (B, ...) that one DDIM step needs, to get from x_t (B, ...) to where two of the teacher's lead.

    Salimans and Ho 2022, appendix G.

    With r = noise_then / noise_now it is (x_then - r x_t) / (signal_then - r signal_now). Levels are (signal, noise).
    """
    x = backward(denoise(x_t, *now), x_t, now, middle, eta=0.0).mean
    x = backward(denoise(x, *middle), x, middle, then, eta=0.0).mean
    (a_t, s_t), (a, s) = ((column(level[0], x_t), column(level[1], x_t)) for level in (now, then))
    return (x - s / s_t * x_t) / (a - s / s_t * a_t)


class ProgressiveDistillation(nn.Module):
    """Squared error of the student's image against the teacher's two steps. Salimans and Ho 2022, algorithm 2.

    student: a `Denoiser`, moved. teacher: its denoiser, held still: a module, such as a copy of the student before, or
    a world's own `denoise`. path: the teacher's levels, an even number of steps; the student's are every second one.
    The error of each level is weighed by max(SNR, 1), section 4, and summed over an image.
    """

    def __init__(self, student: Denoiser, teacher: Denoise, path: Path) -> None:
        super().__init__()
        if len(path.signal) < 3 or len(path.signal) % 2 == 0:
            raise ValueError(f"the teacher must take an even number of steps; got {len(path.signal) - 1}")
        self.student = student
        self.teach = (teacher,)  # not registered as a part: it is neither moved nor saved
        self.signal: Tensor
        self.noise: Tensor
        self.register_buffer("signal", path.signal.float(), persistent=False)
        self.register_buffer("noise", path.noise.float(), persistent=False)

    def turns(self, batch: Tensor, noise: Noise) -> Iterator[tuple[str, Tensor, dict[str, Tensor]]]:
        """One player, `student`."""
        start = 2 * noise.integers((len(self.signal) - 1) // 2, len(batch))
        now, middle, then = ((self.signal[start + i], self.noise[start + i]) for i in range(3))
        x_t = diffuse(batch, noise.normal(*batch.shape), *now)
        with torch.no_grad():
            image = two_step_image(self.teach[0], x_t, now, middle, then)
        error = (image - self.student(x_t, *now)).square().flatten(1).sum(1)
        weight = (now[0] / now[1]).square().clamp(min=1.0)
        yield "student", (weight * error).mean(), {}
