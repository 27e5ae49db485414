"""Small RGB images of coloured shapes under noise of known law: finitely many templates, so everything is exact."""

from collections import Counter
from collections.abc import Sequence
from itertools import product
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from minigen.data.checks import need_count, need_finite, need_index, need_number, need_numbers, need_seed, need_shape

from . import captions
from .drawing import COLOURS, KINDS
from .noise import FlipNoise, GaussianNoise
from .precision import Device, drawing_device
from .templates import Entropy, Templates

SIZE_WORDS = {1: ("medium",), 2: ("small", "large"), 3: ("small", "medium", "large")}
SHAPE_FACTORS = ("kind", "colour", "size", "row", "column")

# Number of templates for one and for two shapes: 1,530 and 87,300; 4,080 and 620,800; 6,375 and 3,142,800.
PRESETS: dict[tuple[str, int], dict[str, Any]] = {
    ("12x12", 1): {"size": 12, "sizes": (5, 7), "positions": (3, 3)},
    ("12x12", 2): {"size": 12, "sizes": (5,), "positions": (3, 2)},
    ("16x16", 1): {"size": 16, "sizes": (5, 7, 9), "positions": (4, 4)},
    ("16x16", 2): {"size": 16, "sizes": (5, 7), "positions": (4, 2)},
    ("32x32", 1): {"size": 32, "sizes": (9, 13, 17), "positions": (5, 5)},
    ("32x32", 2): {"size": 32, "sizes": (7, 9, 13), "positions": (4, 3)},
}


class Split(NamedTuple):
    """Template numbers of the combinations to train on and of those held out."""

    train: Tensor
    test: Tensor


class Shapes:
    """Images of one or two coloured shapes on a coloured background, plus noise of known law.

    The factors are discrete: background, and for every shape kind, colour, size and position (row, column). All tuples
    in which no shape has the background's colour are equally likely. With two shapes each has its own half of the
    image, left or right, and its own factors; only the background is shared, so the halves are independent given it.

    *Continuous form*: images `(B, 3, H, W)`, the template's RGB values in [-0.8, 0.8] plus Gaussian noise, not clipped.
    *Discrete form*: images `(B, 1, H, W)` of int64 numbers into `palette`; each pixel keeps its colour, or with
    probability `flip` takes one of the others, each equally likely.

    Factors are `(B, F)` int64 in the order of `factor_names`; `values[name]` has the words for a factor's values. A
    template's number runs over all valid tuples. Probabilities are computed in float64 on the device of the images and
    returned in their float type (float64 for the discrete form).

    Args:
        size: height and width in pixels, at least 8.
        kinds, colours, backgrounds: names out of `drawing.KINDS` and `drawing.COLOURS`.
        sizes: one to three sizes of shapes in pixels, ascending.
        positions: numbers of rows and columns, spread evenly over the room that a shape has in the image or its half.
        shapes: 1 or 2.
        form: "continuous" or "discrete".
        noise: standard deviation in the continuous form.
        flip: probability that a pixel changes in the discrete form.

    Raises:
        ValueError: for an unknown name, or shapes that do not fit or look the same.

    >>> world = Shapes.preset("12x12")
    >>> len(world)
    1530
    >>> images, factors = world.sample_with_factors(2, generator=torch.Generator().manual_seed(0))
    >>> images.shape, bool((world.map_factors(images) == factors).all())
    (torch.Size([2, 3, 12, 12]), True)
    >>> [caption] = world.caption(factors[:1])
    >>> world.parse(caption)["kind"] == factors[0, world.factor_names.index("kind")].item()
    True
    """

    def __init__(
        self,
        size: int = 12,
        *,
        kinds: Sequence[str] = tuple(KINDS),
        colours: Sequence[str] = ("red", "green", "blue", "yellow", "magenta", "cyan"),
        sizes: Sequence[int] = (5, 7),
        positions: tuple[int, int] = (3, 3),
        backgrounds: Sequence[str] = ("black", "white", "blue"),
        shapes: int = 1,
        form: Literal["continuous", "discrete"] = "continuous",
        noise: float = 0.1,
        flip: float = 0.01,
    ) -> None:
        if shapes not in (1, 2) or form not in ("continuous", "discrete"):
            raise ValueError(f'shapes must be 1 or 2 and form "continuous" or "discrete"; got {shapes} and {form!r}')
        for given, known in [(kinds, list(KINDS)), (colours, list(COLOURS)), (backgrounds, list(COLOURS))]:
            if not given or len(set(given)) < len(given) or not set(given) <= set(known):
                raise ValueError(f"need different names out of {', '.join(known)}; got {given}")
        if len(colours) == 1 and colours[0] in backgrounds:
            raise ValueError(f"no shape may have its background's colour, and {colours[0]} is the only colour")
        for name, count in zip(("rows", "columns", *positions[2:]), positions, strict=False):
            need_count(f"positions, the number of {name},", count)
        if len(positions) != 2:
            raise ValueError(f"positions must be the numbers of rows and columns; got {positions}")
        if len(sizes) not in SIZE_WORDS or list(sizes) != sorted(set(sizes)):
            raise ValueError(f"sizes must be one to three, ascending; got {sizes}")
        room = size - sizes[-1], size // shapes - sizes[-1]
        if size < 8 or size % shapes or min(r - p for r, p in zip(room, positions, strict=True)) < -1:
            raise ValueError(
                f"{positions} positions of a shape of {sizes[-1]} pixels do not fit into {size} x {size // shapes} "
                "pixels, the part of the image that it has; give smaller sizes=, fewer positions= or a larger size"
            )
        self.size, self.shapes, self.form, self.noise, self.flip = size, shapes, form, noise, flip
        words = {"kind": kinds, "colour": colours, "size": SIZE_WORDS[len(sizes)]}
        words |= {axis: [str(i) for i in range(n)] for axis, n in zip(("row", "column"), positions, strict=True)}
        self.values = {"background": tuple(backgrounds)}
        for prefix in captions.prefixes(shapes):
            self.values |= {prefix + name: tuple(words[name]) for name in SHAPE_FACTORS}
        self.factor_names = tuple(self.values)

        names = [name for name in COLOURS if name in {*colours, *backgrounds}]
        self.palette = torch.tensor([COLOURS[name] for name in names])
        """(K, 3) RGB values of the colours that occur."""

        every = product(*(range(len(v)) for v in [backgrounds, *(words[name] for name in SHAPE_FACTORS)]))
        table = torch.tensor([row for row in every if backgrounds[row[0]] != colours[row[2]]])
        self._table = table  # (n, 6): background and the factors of one shape, in the image or its half
        levels = torch.empty(len(table), size, size // shapes, dtype=torch.int64)
        masks = {(kind, s): KINDS[kind](s) for kind in kinds for s in sizes}
        for image, (background, kind, colour, scale, row, column) in zip(levels, table.tolist(), strict=True):
            s = sizes[scale]
            top = _spread(row, positions[0], size - s)
            left = _spread(column, positions[1], size // shapes - s)
            image.fill_(names.index(backgrounds[background]))
            image[top : top + s, left : left + s][masks[kinds[kind], s]] = names.index(colours[colour])
        if len({image.numpy().tobytes() for image in levels}) < len(levels):
            raise ValueError(f"some of these shapes look the same; give other sizes= than {sizes} or fewer kinds=")
        self._lookup = torch.full([len(v) for v in list(self.values.values())[:6]], -1)
        self._lookup[tuple(table.T)] = torch.arange(len(table))

        by_level = Templates(levels.flatten(1), FlipNoise(flip, len(names)), groups=table[:, 0], parts=shapes)
        self._by_level = by_level  # counts differing pixels, in both forms
        self._core = by_level
        if form == "continuous":
            rgb = self.palette[levels].permute(0, 3, 1, 2).flatten(1)  # (n, 3 * H * W)
            self._core = Templates(rgb, GaussianNoise(noise), groups=table[:, 0], parts=shapes)

    @classmethod
    def preset(cls, name: str, *, shapes: int = 1, **overrides: Any) -> "Shapes":
        """The world "12x12", "16x16" or "32x32", for one shape or two; keywords override its arguments."""
        if (name, shapes) not in PRESETS:
            raise ValueError(f"presets are 12x12, 16x16 and 32x32 with 1 or 2 shapes; got {name!r} with {shapes}")
        return cls(shapes=shapes, **(PRESETS[name, shapes] | overrides))

    def __len__(self) -> int:
        """Number of templates."""
        return len(self._core)

    def prior(self, name: str) -> Tensor:
        """Probability of every value of a factor, (V,). Not always uniform: blue is rarer among the colours where it is
        a background too."""
        _, values = self._column(name)
        return torch.bincount(values, weights=self._core.weights, minlength=len(self.values[name]))

    def factors(self, index: Tensor) -> Tensor:
        """Template numbers (B,) to factors (B, F)."""
        return self._assemble(self._core.decode(index))

    def index(self, factors: Tensor) -> Tensor:
        """Factors (B, F) to template numbers (B,); an error for tuples that do not occur."""
        self._need_factors(factors)
        background, own = factors[:, :1].cpu(), factors[:, 1:].cpu().reshape(-1, self.shapes, len(SHAPE_FACTORS))
        rows = torch.cat([background[:, None].expand(-1, self.shapes, -1), own], dim=2)  # (B, shapes, 6)
        limits = torch.tensor(self._lookup.shape)
        inside = ((rows >= 0) & (rows < limits)).all()
        parts = self._lookup[tuple(rows.permute(2, 0, 1))] if inside else torch.tensor([-1])  # (B, shapes)
        if (parts < 0).any():
            raise ValueError(
                "factors must be tuples that occur; got one out of range, or a shape has its background's colour: "
                "see `values`"
            )
        return self._core.encode(parts).to(factors.device)

    def _need_factors(self, factors: Tensor) -> None:
        need_shape("factors", factors, "B", len(self.factor_names))
        need_index("factors", factors, max(map(len, self.values.values())))

    def render(self, factors: Tensor) -> Tensor:
        """The templates for factors (B, F), without noise: (B, 3, H, W) RGB or (B, 1, H, W) levels."""
        return self._images(self._core.points_on(factors.device)[self._core.decode(self.index(factors))])

    def to_rgb(self, levels: Tensor) -> Tensor:
        """Images of the discrete form (B, 1, H, W) as RGB values (B, 3, H, W)."""
        need_shape("levels", levels, "B", 1, "H", "W")
        need_index("levels", levels, len(self.palette))
        return self.palette.to(levels.device)[levels.squeeze(1)].permute(0, 3, 1, 2)

    def to_levels(self, x: Tensor) -> Tensor:
        """RGB images (B, 3, H, W) as numbers (B, 1, H, W) of the palette colours nearest to their pixels."""
        need_shape("images", x, "B", 3, "H", "W")
        need_numbers("images", x)
        palette = self.palette.to(x)
        closeness = torch.einsum("bchw,kc->bkhw", x, palette) - palette.square().sum(1)[:, None, None] / 2
        return closeness.argmax(1, keepdim=True)

    def sample(
        self, n: int, *, generator: torch.Generator | None = None, device: Device = None, index: Tensor | None = None
    ) -> Tensor:
        """n images, drawn where `generator` lives and moved to `device`; of the templates `index` only, if given."""
        return self.sample_with_factors(n, generator=generator, device=device, index=index)[0]

    def sample_with_factors(
        self, n: int, *, generator: torch.Generator | None = None, device: Device = None, index: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """n images and their factors (n, F)."""
        if index is not None and not len(index):
            raise ValueError("index names no template to sample from: give one number or more; got none")
        need_count("n", n, least=0)
        if index is not None:
            need_index("index of a template", index, len(self))
        drawn_on = drawing_device(generator, device)
        choices = len(self) if index is None else len(index)
        number = torch.randint(choices, (n,), generator=generator, device=drawn_on)
        number = number if index is None else index.to(drawn_on)[number]
        parts = self._core.decode(number)
        x = self._core.law.corrupt(self._core.points_on(drawn_on)[parts], generator)
        return self._images(x).to(device or drawn_on), self._assemble(parts).to(device or drawn_on)

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) in nats/image, (B,): of a density in the continuous form, of a probability in the discrete one."""
        return self._core.log_prob(self._parts(x))

    def marginal_log_prob(self, x_t: Tensor, alpha: float | Tensor, sigma: float | Tensor) -> Tensor:
        """log p(x_t), nats/image, (B,), where x_t = alpha x_0 + sigma eps; alpha and sigma are numbers or (B,).
        Continuous form only."""
        return self._continuous().log_prob(self._parts(x_t), alpha=alpha, sigma=sigma)

    def denoise(
        self, x_t: Tensor, alpha: float | Tensor, sigma: float | Tensor, caption: str | Sequence[str] | None = None
    ) -> Tensor:
        """E[x_0 | x_t], or E[x_0 | x_t, caption] with one caption for all images or one each, (B, 3, H, W).

        x_0 is the image *with* its own noise. Continuous form only; ValueError for a caption that no template fits."""
        allowed = None
        if caption is not None:
            fits, which = self._fitting(caption, len(x_t))
            groups = [(fits & (self._core.groups == i)).any(2).all(1) for i in range(len(self.values["background"]))]
            if not torch.stack(groups).any(0).all():
                raise ValueError(f"no image of this world fits a caption among {caption!r}: nothing can be denoised")
            allowed = fits[which]
        return self._images(self._continuous().denoise(self._parts(x_t), alpha, sigma, allowed=allowed))

    def score(self, x_t: Tensor, alpha: float | Tensor = 1.0, sigma: float | Tensor = 0.0) -> Tensor:
        """Gradient of the log-density at x_t, (B, 3, H, W). Continuous form only."""
        return self._images(self._continuous().score(self._parts(x_t), alpha, sigma))

    def posterior(self, x: Tensor, alpha: float | Tensor = 1.0, sigma: float | Tensor = 0.0) -> Tensor:
        """log p(template | x), (B, N). With two shapes: of the template of each half alone, (B, 2, n).

        With alpha and sigma, numbers or (B,), x is alpha x_0 + sigma eps; continuous form only."""
        posterior = self._core.posterior(self._parts(x), alpha=alpha, sigma=sigma)
        return posterior.squeeze(1) if self.shapes == 1 else posterior

    def factor_posterior(self, x: Tensor, name: str) -> Tensor:
        """Probability of every value of one factor given x, (B, V)."""
        part, values = self._column(name)
        if name == "background":
            return self._core.group_posterior(self._parts(x)).exp()
        posterior = self._core.posterior(self._parts(x))[:, part].exp()  # (B, n)
        share = posterior.new_zeros(len(x), len(self.values[name]))
        return share.index_add(1, values.to(x.device), posterior)

    def map_factors(self, x: Tensor) -> Tensor:
        """Factors of the most probable template given x, (B, F): the most probable tuple, not factor by factor."""
        need_finite("images", x)
        return self._assemble(self._core.most_probable(self._parts(x))).to(x.device)

    def nearest_template(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Number (B,) of the template nearest to x once every pixel is set to its nearest palette colour, and the
        number (B,) of pixels that differ from it."""
        parts = self._parts(x)
        levels = parts if self.form == "discrete" else self._split_halves(self.to_levels(x))
        nearest = self._by_level.most_probable(levels)
        differing = (self._by_level.points_on(x.device)[nearest.to(x.device)] != levels).sum((1, 2))
        return self._by_level.encode(nearest).to(x.device), differing

    def entropy(self) -> Entropy:
        """H(X) in nats/image, the floor of any NLL: certainly within `value` ± `error`; see `Templates.entropy`."""
        return self._core.entropy()

    def independent_pixel_nll(self) -> float:
        """NLL in nats/image of the best model with independent pixels: the product of the true marginals of every pixel
        (discrete form) or of every channel of every pixel (continuous form)."""
        return self._core.marginal_entropy()

    def caption(self, factors: Tensor) -> list[str]:
        """A caption for every row of factors (B, F): "a small red disc on blue". It leaves the position free."""
        self._need_factors(factors)
        limits = torch.tensor([len(value) for value in self.values.values()])
        if (factors.cpu() >= limits).any():
            most = factors.amax(0).tolist()
            raise ValueError(f"factors must be below the number of values, {limits.tolist()}; got {most}")
        rows = [dict(zip(self.factor_names, row, strict=True)) for row in factors.tolist()]
        return [captions.write(row, self.values, self.shapes) for row in rows]

    def parse(self, caption: str) -> dict[str, int]:
        """The factor values that a caption names, as numbers into `values`; an error names any unknown word."""
        return captions.parse(caption, self.values, self.shapes)

    def caption_indices(self, caption: str) -> Tensor:
        """Numbers of all templates that fit a caption, ascending; none where a shape has its background's colour."""
        allowed = self._allowed(caption)  # (shapes, n)
        numbers = []
        for background in range(len(self.values["background"])):
            choices = [(row & (self._core.groups == background)).nonzero().flatten() for row in allowed]
            numbers.append(self._core.encode(torch.cartesian_prod(*choices).view(-1, self.shapes)))
        return torch.cat(numbers)

    def caption_posterior(self, x: Tensor, caption: str | Sequence[str]) -> Tensor:
        """Probability that x obeys its caption, (B,): p(factors fit | x). One caption for all images, or one each."""
        return self._core.log_prob_within(self._parts(x), *self._fitting(caption, len(x))).exp()

    def split(self, *, fraction: float = 0.2, seed: int = 0) -> Split:
        """Hold out a random `fraction` of the combinations of kind, colour, size (of all shapes) and background, at all
        positions. Every single value still occurs in training; an error where that is impossible."""
        need_number("fraction", fraction, low=0, high=1)
        seed = need_seed(seed)
        named = torch.tensor([0, *(1 + SHAPE_FACTORS.index(name) for name in captions.NAMED)])
        combinations, of_template = torch.unique(self._table[:, named], dim=0, return_inverse=True)
        parts = self._core.decode(torch.arange(len(self)))
        pairs = torch.cartesian_prod(*[torch.arange(len(combinations))] * self.shapes).view(-1, self.shapes)
        pairs = pairs[(combinations[pairs][..., 0] == combinations[pairs][:, :1, 0]).all(1)]
        order = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(seed))
        wanted = round(fraction * len(pairs))

        rows = combinations[pairs].flatten(1).tolist()
        left = Counter((column, value) for row in rows for column, value in enumerate(row))
        held_out = torch.zeros([len(combinations)] * self.shapes, dtype=torch.bool)
        count = 0
        for i in order.tolist():
            if count < wanted and all(left[column, value] > 1 for column, value in enumerate(rows[i])):
                left.subtract(enumerate(rows[i]))
                held_out[tuple(pairs[i])] = True
                count += 1
        if not 0 < count == wanted:
            raise ValueError(f"cannot hold out {wanted} of {len(pairs)} combinations and keep every factor value")
        test = held_out[tuple(of_template[parts].T)]
        return Split(train=(~test).nonzero().flatten(), test=test.nonzero().flatten())

    def _parts(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W), checked, as (B, shapes, C * H * W / shapes)."""
        need_shape("images", x, "B", 3 if self.form == "continuous" else 1, self.size, self.size)
        if self.form == "continuous":
            if not x.is_floating_point():
                raise ValueError(f"images of the continuous form must be floats; got {x.dtype}")
            return self._split_halves(x)
        if x.is_floating_point():
            raise ValueError(f"images of the discrete form must be int64 levels; got {x.dtype}: `to_levels` makes them")
        outside, levels = int(((x < 0) | (x >= len(self.palette))).sum()), f"int64 in 0..{len(self.palette) - 1}"
        if x.dtype != torch.int64 or outside:
            raise ValueError(f"images must be {levels}; got {x.dtype} with {outside} pixels out of range")
        return self._split_halves(x)

    def _split_halves(self, x: Tensor) -> Tensor:
        return torch.unflatten(x, 3, (self.shapes, -1)).permute(0, 3, 1, 2, 4).flatten(2)

    def _images(self, parts: Tensor) -> Tensor:
        """(B, shapes, C * H * W / shapes) as images (B, C, H, W)."""
        halves = torch.unflatten(parts, 2, (-1, self.size, self.size // self.shapes))
        return halves.permute(0, 2, 3, 1, 4).flatten(3)

    def _assemble(self, parts: Tensor) -> Tensor:
        """Template of each part (B, shapes) to factors (B, F)."""
        rows = self._table.to(parts.device)[parts]  # (B, shapes, 6)
        return torch.cat([rows[:, 0, :1], rows[..., 1:].flatten(1)], dim=1)

    def _column(self, name: str) -> tuple[int, Tensor]:
        """The part that a factor belongs to, and its value in every template of that part, (n,)."""
        if name not in self.values:
            raise ValueError(f"unknown factor {name!r}; this world has {', '.join(self.values)}")
        part, column = divmod(max(self.factor_names.index(name) - 1, 0), len(SHAPE_FACTORS))
        return part, self._table[:, 0 if name == "background" else 1 + column]

    def _fitting(self, caption: str | Sequence[str], n: int) -> tuple[Tensor, Tensor]:
        """Which templates fit each of the different captions, (M, shapes, n), and the number of each image's, (B,)."""
        each = [caption] * n if isinstance(caption, str) else list(caption)
        if len(each) != n:
            raise ValueError(f"need one caption or one for each of {n} images; got {len(each)}")
        different = {text: i for i, text in enumerate(dict.fromkeys(each))}
        allowed = torch.stack([self._allowed(text) for text in different])
        return allowed, torch.tensor([different[text] for text in each])

    def _allowed(self, caption: str) -> Tensor:
        """Which templates fit a caption, for every part: (shapes, n) bool."""
        allowed = torch.ones(self.shapes, len(self._table), dtype=torch.bool)
        for name, value in self.parse(caption).items():
            part, values = self._column(name)
            rows = slice(None) if name == "background" else part
            allowed[rows] &= values == value
        return allowed

    def _continuous(self) -> Templates:
        if self.form != "continuous":
            raise ValueError('this needs form="continuous"; discrete images have no Gaussian noise levels')
        return self._core


def _spread(i: int, n: int, room: int) -> int:
    """The i-th of n offsets from 0 to room, as even as whole pixels allow; the middle if there is only one."""
    return room // 2 if n == 1 else round(i * room / (n - 1))
