"""Pairs of images, what goes in and what should come out, with the exact law of every answer (chapter 06)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import pad

from minigen.data.checks import need_count, need_index, need_number, need_shape
from minigen.data.chunks import in_chunks

from .noise import GaussianNoise
from .precision import Device, drawing_device, exact, like
from .shapes import Shapes
from .templates import Templates

LUMA = (0.299, 0.587, 0.114)  # weights of red, green and blue in a grey value, ITU-R BT.601
WHITE = 0.8  # of lines, on -0.8, as the palette's black and white


class Pairs:
    """An input x and an answer y, each with noise of its own, drawn of one hidden template T of a world of one shape:

        p(x, y) = 1/N sum_T N(x; a_T, s^2) N(y; b_T, s^2).

    b_T is the world's template, a_T what `inputs` makes of it. Where several templates share a_T, x leaves open which
    of them is meant, and p(y | x) is spread over them. All probabilities are exact, in float64, in nats.

    world: of one shape, in the continuous form. inputs: "outline", the border of the shape, white on black, (1, H, W),
    which forgets all colours; "grey", the grey values, (1, H, W), which leave one answer but for the noise; or a
    function from templates (N, 3, H, W) to inputs (N, C, H, W). noise: the standard deviation s, of x and of y; the
    world's unless given.

    >>> pairs = Pairs(Shapes(8, kinds=("disc",), sizes=(5,), positions=(2, 2), backgrounds=("black",)), "outline")
    >>> x, y = pairs.sample(4, generator=torch.Generator().manual_seed(0))
    >>> x.shape, y.shape
    (torch.Size([4, 1, 8, 8]), torch.Size([4, 3, 8, 8]))
    >>> round(pairs.answer_entropy(x).exp().mean().item(), 6)  # six colours for each outline
    6.0
    """

    def __init__(
        self,
        world: Shapes,
        inputs: Literal["outline", "grey"] | Callable[[Tensor], Tensor] = "outline",
        *,
        noise: float | None = None,
    ) -> None:
        if world.shapes != 1 or world.form != "continuous":
            raise ValueError(
                f'pairs need a world of one shape with form="continuous"; got {world.shapes} and "{world.form}"'
            )
        if isinstance(inputs, str) and inputs not in INPUTS:
            raise ValueError(f"inputs must be one of {', '.join(INPUTS)}, or a function; got {inputs!r}")
        law = GaussianNoise(world.noise if noise is None else noise)
        self.world, self.noise = world, law.std
        self.answers = world.render(world.factors(torch.arange(len(world))))
        """(N, 3, H, W), the answer of every template, without noise."""
        self.inputs = (INPUTS[inputs] if isinstance(inputs, str) else inputs)(self.answers)
        """(N, C, H, W), the input of every template, without noise."""
        need_shape("inputs", self.inputs, len(world), "C", "H", "W")
        both = torch.cat([self.inputs.flatten(1), self.answers.flatten(1)], dim=1)
        self._x, self._y, self._both = (
            Templates(p, law) for p in (self.inputs.flatten(1), self.answers.flatten(1), both)
        )
        self.input_number = torch.unique(self.inputs.flatten(1), dim=0, return_inverse=True)[1]
        """(N,), the number of every template's input among the different inputs."""

    def __len__(self) -> int:
        return len(self.world)

    def sample(
        self, n: int, *, generator: torch.Generator | None = None, device: Device = None, index: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """n pairs, x (n, C, H, W) and y (n, 3, H, W), drawn where `generator` lives and moved to `device`; of the
        templates `index` only, if given."""
        x, y, _ = self.sample_with_index(n, generator=generator, device=device, index=index)
        return x, y

    def sample_with_index(
        self, n: int, *, generator: torch.Generator | None = None, device: Device = None, index: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The same, and the number of the template of each pair, (n,)."""
        need_count("n", n, least=0)
        drawn_on = drawing_device(generator, device)
        pool = torch.arange(len(self)) if index is None else index
        need_index("index of a template", pool, len(self))
        if not len(pool):
            raise ValueError("index names no template to sample from: give one number or more; got none")
        number = pool.to(drawn_on)[torch.randint(len(pool), (n,), generator=generator, device=drawn_on)]
        x, y = (
            core.law.corrupt(core.points_on(drawn_on)[number], generator).view(n, *images.shape[1:])
            for core, images in ((self._x, self.inputs), (self._y, self.answers))
        )
        to = device or drawn_on
        return x.to(to), y.to(to), number.to(to)

    def log_prob(self, x: Tensor, y: Tensor) -> Tensor:
        """log p(x, y), (B,)."""
        return self._both.log_prob(torch.cat([self._rows("x", x), self._rows("y", y)], dim=2))

    def input_log_prob(self, x: Tensor) -> Tensor:
        """log p(x), (B,)."""
        return self._x.log_prob(self._rows("x", x))

    def answer_log_prob(self, y: Tensor, x: Tensor) -> Tensor:
        """log p(y | x) = log p(x, y) - log p(x), (B,)."""
        return self.log_prob(x, y) - self.input_log_prob(x)

    def posterior(self, x: Tensor) -> Tensor:
        """log P(T | x), (B, N): what the input leaves open."""
        return self._x.posterior(self._rows("x", x)).squeeze(1)

    def answer_entropy(self, x: Tensor) -> Tensor:
        """H(T | X = x), (B,): the entropy of the right answers, their noise apart; exp of it counts them."""
        log_p = self.posterior(x)
        return -(log_p.exp() * log_p).nan_to_num(0.0).sum(1)

    def mean(self, x: Tensor) -> Tensor:
        """E[y | x], (B, 3, H, W): the answer of least squared error."""
        mean = self.posterior(exact(x)).exp() @ exact(self.answers.flatten(1)).to(x.device)
        return like(mean.view(-1, *self.answers.shape[1:]), x)

    def median(self, x: Tensor, *, steps: int = 50) -> Tensor:
        """The median of each number of y given x, (B, 3, H, W): the answer of least absolute error.

        Each number is a mixture of Gaussians at the values that templates have there; its distribution function is
        brought to 1/2 by `steps` bisections.
        """
        need_count("steps", steps)
        values, which = torch.unique(exact(self.answers.flatten(1)), return_inverse=True)  # (V,), (N, D)

        def of(rows: Tensor) -> Tensor:
            p = self.posterior(exact(rows)).exp()
            share = torch.stack([p @ (which == v).to(p) for v in range(len(values))], dim=2)  # (b, D, V)
            centres = values.to(p)
            low, high = (torch.full_like(share[..., 0], end) for end in (float(values[0]), float(values[-1])))
            for _ in range(steps):
                middle = (low + high) / 2
                below = (share * torch.special.ndtr((middle[..., None] - centres) / self.noise)).sum(2) < 0.5
                low, high = torch.where(below, middle, low), torch.where(below, high, middle)
            return like(((low + high) / 2).view(-1, *self.answers.shape[1:]), rows)

        need_shape("x", x, "B", *self.inputs.shape[1:])
        return in_chunks(of, x, size=64, device=x.device)

    def sample_answers(self, x: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """An answer y drawn from p(y | x) for each input, (B, 3, H, W)."""
        number = torch.multinomial(self.posterior(exact(x)).exp().cpu(), 1, generator=generator).squeeze(1)
        y = self._y.law.corrupt(self._y.points[number], generator)
        return like(y.view(-1, *self.answers.shape[1:]), x)

    def right(self, x: Tensor, y: Tensor, *, tolerance: float = 0.01) -> Tensor:
        """Whether y is an answer to x, bool (B,): valid in the world, and of a template whose input is that of x.

        tolerance: as in `metrics.validity`, the share of pixels that may have another colour. The input of x is that of
        the most probable template.
        """
        need_number("tolerance", tolerance, low=0, high=1)
        nearest, differing = self.world.nearest_template(y)
        asked = self._x.most_probable(self._rows("x", x)).squeeze(1)
        same = self.input_number[nearest.cpu()] == self.input_number[asked]
        right: Tensor = same.to(y.device) & (differing <= tolerance * self.world.size**2)
        return right

    def _rows(self, name: str, image: Tensor) -> Tensor:
        """Images, checked, as (B, 1, D)."""
        need_shape(name, image, "B", *(self.inputs if name == "x" else self.answers).shape[1:])
        if not image.is_floating_point():
            raise TypeError(f"{name} must be floats; got {image.dtype}")
        return image.flatten(1)[:, None]


def outline(images: Tensor) -> Tensor:
    """The borders of the regions of one colour, (N, 3, H, W) to (N, 1, H, W): 0.8 on a shape's border, else -0.8.

    A pixel of a shape is on its border where one of its four neighbours has another colour, or lies outside. The
    commonest colour is the background.
    """
    need_shape("images", images, "B", 3, "H", "W")
    pixels = images.permute(0, 2, 3, 1)
    colour = torch.unique(pixels.reshape(-1, 3), dim=0, return_inverse=True)[1].view(pixels.shape[:3])
    shape = colour != colour.flatten(1).mode(1).values[:, None, None]
    around = pad(shape, (1, 1, 1, 1))  # what lies outside is no shape
    inner = around[:, :-2, 1:-1] & around[:, 2:, 1:-1] & around[:, 1:-1, :-2] & around[:, 1:-1, 2:]
    return torch.where(shape & ~inner, WHITE, -WHITE).to(images)[:, None]


def grey(images: Tensor) -> Tensor:
    """The grey values 0.299 R + 0.587 G + 0.114 B, (N, 3, H, W) to (N, 1, H, W)."""
    need_shape("images", images, "B", 3, "H", "W")
    return torch.einsum("bchw,c->bhw", images, images.new_tensor(LUMA))[:, None]


INPUTS: dict[str, Callable[[Tensor], Tensor]] = {"outline": outline, "grey": grey}
