"""The players of a game, with or without a label: discriminators and generators of images and points (chapter 04).

Strided 4x4 convolutions halve the sides and transposed ones double them (`nets.conv`); nothing mixes the images of a
batch. A label is a class, int64 (B,), which becomes a one-hot, or numbers (B, label_dim); one-hots of classes are
scaled so that their mean square is 1, as that of numbers should be. Class -1 and zeros say nothing.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from minigen.data.checks import need_batch, need_count, need_shape
from minigen.nets.conditioning import encode_label
from minigen.nets.conv import downsample, num_downsamples, upsample
from minigen.nets.init import he_init, zero_init
from minigen.nets.minibatch import MinibatchStd
from minigen.nets.mlp import MLPGenerator, mlp

Judging = Literal["projection", "concatenation", "auxiliary"]
Making = Literal["concatenation", "normalisation"]


def labels(label: Tensor | None, batch: int, label_dim: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """A label as numbers (B, label_dim): as they are given, or classes, int64 (B,), as one-hots of mean square 1."""
    numbers = encode_label(label, batch, label_dim, dtype)
    classes = label is not None and label.ndim == 1 and not label.is_floating_point()
    return numbers * math.sqrt(label_dim) if classes else numbers


class ConditionalNorm(nn.Module):
    """Features (B, C, H, W), normalised for each image, then scaled and shifted by what a label says.

    y = (1 + gamma(c)) (h - mean) / std + beta(c), gamma and beta linear in the label and 0 at the start: the label
    picks the scale and the shift of every feature.

    groups: of features with one mean and one std; as many as features is instance normalisation, 1 is over all.
    Source: Dumoulin et al. 2017, eq. 5, and de Vries et al. 2017, eq. 5 (there with a batch's statistics, which would
    mix images, and which a generator's average would have to carry along).
    """

    def __init__(self, channels: int, label_dim: int, *, groups: int = 1) -> None:
        super().__init__()
        need_count("groups", groups)
        if channels % groups:
            raise ValueError(f"groups must divide the number of features; got {groups} for {channels}")
        self.norm = nn.GroupNorm(groups, channels, affine=False)
        self.affine = zero_init(nn.Linear(label_dim, 2 * channels))

    def forward(self, h: Tensor, label: Tensor) -> Tensor:
        """(B, C, H, W) and numbers (B, label_dim) to (B, C, H, W)."""
        gamma, beta = self.affine(label)[:, :, None, None].chunk(2, dim=1)  # (B, C, 1, 1) each
        y: Tensor = (1 + gamma) * self.norm(h) + beta
        return y


class Discriminator(nn.Module):
    """A sample (B, *shape), and a label where it is for one, to a logit (B,).

    trunk: a network from samples to features phi(x), (B, features). flat: give it samples as rows (B, n).

    condition says how the label, numbers (B, label_dim), comes in.

    - "projection": l(x, c) = w phi(x) + b + (V c + v) phi(x) / sqrt(features). Miyato and Koyama 2018, eq. 5.
    - "concatenation": the sample and the label side by side go through the trunk. Mirza and Osindero 2014, section 3.
    - "auxiliary": the logit does not see the label; `judge` gives logits of the classes besides. Odena et al. 2017.

    Without label_dim there is no label, as in chapters 02 and 03.
    """

    def __init__(
        self,
        trunk: nn.Module,
        features: int,
        shape: Sequence[int],
        *,
        label_dim: int | None = None,
        condition: Judging = "projection",
        flat: bool = False,
    ) -> None:
        super().__init__()
        _need_way(condition, Judging)
        self.trunk, self.shape, self.label_dim, self.flat = trunk, tuple(shape), label_dim, flat
        self.condition = condition if label_dim else None
        self.head = he_init(nn.Linear(features, 1), 1.0)
        if self.condition == "projection":
            self.label = he_init(nn.Linear(label_dim or 0, features), 1.0)
        if self.condition == "auxiliary":
            self.classes = he_init(nn.Linear(features, label_dim or 0), 1.0)

    def features(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        """phi(x), (B, features); with "concatenation" of the sample beside its label."""
        need_batch("samples", x, *self.shape)
        x = x.flatten(1) if self.flat else x
        if self.condition == "concatenation":
            numbers = labels(label, len(x), self.label_dim or 0, x.dtype)
            x = torch.cat([x, append_dims(numbers, x)], dim=1)
        found: Tensor = self.trunk(x)
        return found

    def forward(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        """(B, *shape), and what stands for its label, to logits (B,)."""
        if label is not None and self.condition in (None, "auxiliary"):
            raise ValueError("the logit of this discriminator takes no label; make it with another condition=")
        phi = self.features(x, label)
        logits: Tensor = self.head(phi).squeeze(1)  # (B,)
        return logits + self._projection(phi, label) if self.condition == "projection" else logits

    def pair(self, x: Tensor, label: Tensor) -> Tensor:
        """(B, *shape) and labels to logits (B, 2): of the sample alone, and of it with its label; for "projection".

        The first leaves the projection out. Xu et al. 2018, eq. 5, judge both.
        """
        if self.condition != "projection":
            raise ValueError('only a discriminator with condition="projection" judges with and without the label')
        phi = self.features(x)
        alone: Tensor = self.head(phi).squeeze(1)  # (B,)
        return torch.stack([alone, alone + self._projection(phi, label)], dim=1)

    def _projection(self, phi: Tensor, label: Tensor | None) -> Tensor:
        """(V c + v) phi / sqrt(features), (B,)."""
        direction: Tensor = self.label(labels(label, len(phi), self.label_dim or 0, phi.dtype))  # (B, features)
        return (direction * phi).sum(1) / math.sqrt(phi.shape[1])

    def judge(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, *shape) to logits of being real, (B,), and of the classes, (B, label_dim); for "auxiliary" alone."""
        if self.condition != "auxiliary":
            raise ValueError('only a discriminator with condition="auxiliary" names classes')
        phi = self.features(x)
        return self.head(phi).squeeze(1), self.classes(phi)


def append_dims(numbers: Tensor, x: Tensor) -> Tensor:
    """Numbers (B, F), the same at every place of x (B, C, ...): (B, F, ...)."""
    return numbers.view(*numbers.shape, *[1] * (x.ndim - 2)).expand(-1, -1, *x.shape[2:])


def _need_way(condition: str, ways: object) -> None:
    if condition not in get_args(ways):
        raise ValueError(f"condition must be one of {', '.join(get_args(ways))}; got {condition!r}")


def _beside(label_dim: int | None, condition: str) -> int:
    """How many numbers of a label stand beside what a network sees."""
    return (label_dim or 0) * (condition == "concatenation")


class ConvDiscriminator(Discriminator):
    """Images (B, C, H, W), and a label where it is for one, to a logit (B,).

    Strided convolutions down to a side of 4 to 7 and a linear layer to features; LeakyReLU(0.2) behind each.
    width: features after the first convolution; each further one doubles them. features: of the last hidden layer.
    label_dim, condition: see `Discriminator`. Sides must be 8, 12, 16, 28, 32 or others as `conv.num_downsamples` says.
    detail: begin with a 3x3 convolution to `width` features at full size, and end with one at the smallest.
    minibatch: the features' standard deviation over the batch joins them, see `MinibatchStd`.
    Source: Radford et al. 2016, section 3, without batch normalisation.

    >>> net = ConvDiscriminator((3, 8, 8), width=8, label_dim=3)
    >>> net(torch.zeros(4, 3, 8, 8), torch.tensor([0, 1, 2, -1])).shape
    torch.Size([4])
    """

    def __init__(
        self,
        shape: Sequence[int],
        *,
        width: int = 32,
        features: int = 128,
        label_dim: int | None = None,
        condition: Judging = "projection",
        detail: bool = False,
        minibatch: bool = False,
    ) -> None:
        times, (channels, height, side) = num_downsamples(shape), shape
        channels += _beside(label_dim, condition)
        widths = [width * 2**i for i in range(times)]
        layers: list[nn.Module] = [downsample(channels, width, gain=1.0), nn.LeakyReLU(0.2)]
        if detail:
            layers, widths = _detail(channels, width, gain=1.0), [width, *(2 * n for n in widths)]
        for narrow, wide in itertools.pairwise(widths):
            layers += [downsample(narrow, wide), nn.LeakyReLU(0.2)]
        layers += _detail(widths[-1], widths[-1]) if detail else []
        layers += [MinibatchStd()] if minibatch else []
        last = (widths[-1] + minibatch) * (height >> times) * (side >> times)
        layers += [nn.Flatten(), he_init(nn.Linear(last, features)), nn.LeakyReLU(0.2)]
        super().__init__(nn.Sequential(*layers), features, shape, label_dim=label_dim, condition=condition)


def _detail(c_in: int, c_out: int, *, gain: float = 2.0) -> list[nn.Module]:
    return [he_init(nn.Conv2d(c_in, c_out, 3, padding=1), gain), nn.LeakyReLU(0.2)]


class DenseDiscriminator(Discriminator):
    """Samples (B, *shape), points or small images, and a label where it is for one, to a logit (B,).

    hidden: widths of the LeakyReLU(0.2) layers; the last is that of the features. label_dim, condition: see
    `Discriminator`. scale: the samples are multiplied by it, so that the structure to be seen is of order 1.
    """

    def __init__(
        self,
        shape: Sequence[int],
        *,
        hidden: Sequence[int] = (256, 256),
        label_dim: int | None = None,
        condition: Judging = "projection",
        scale: float = 1.0,
    ) -> None:
        seen = math.prod(shape) + _beside(label_dim, condition)
        trunk = nn.Sequential(mlp([seen, *hidden], activation=lambda: nn.LeakyReLU(0.2)), nn.LeakyReLU(0.2))
        super().__init__(trunk, hidden[-1], shape, label_dim=label_dim, condition=condition, flat=True)
        self.scale = scale

    def features(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        """phi(x), (B, features); with "concatenation" of the sample beside its label."""
        return super().features(x * self.scale, label)


class LabelledGenerator(nn.Module):
    """Latent (B, latent), and a label where it is for one, to images (B, C, H, W) in [-1, 1].

    A linear layer to a side of 4 to 7, then transposed convolutions, ReLU before each, tanh at the end.

    condition: "concatenation" puts the label beside the latent (Mirza and Osindero 2014, section 3); "normalisation"
    gives it to a `ConditionalNorm` before each ReLU, and to nothing else (Miyato and Koyama 2018, section 5).
    width: features before the last convolution; each one before it has twice as many. groups: see `ConditionalNorm`.

    >>> net = LabelledGenerator(16, (3, 12, 12), width=8, label_dim=5)
    >>> net(torch.randn(4, 16), torch.tensor([0, 4, 2, -1])).shape
    torch.Size([4, 3, 12, 12])
    """

    def __init__(
        self,
        latent: int,
        shape: Sequence[int],
        *,
        width: int = 32,
        label_dim: int | None = None,
        condition: Making = "concatenation",
        groups: int = 1,
    ) -> None:
        super().__init__()
        _need_way(condition, Making)
        times, (channels, height, side) = num_downsamples(shape), shape
        self.latent, self.shape, self.label_dim = latent, tuple(shape), label_dim
        self.condition = condition if label_dim else None
        widths = [width * 2**i for i in reversed(range(times))]
        first = (widths[0], height >> times, side >> times)
        enter = he_init(nn.Linear(latent + _beside(label_dim, condition), math.prod(first)), 1.0)
        self.start = nn.Sequential(enter, nn.Unflatten(1, first))
        normalised = self.condition == "normalisation"
        self.norms = nn.ModuleList(ConditionalNorm(n, label_dim or 0, groups=groups) for n in widths if normalised)
        self.ups = nn.ModuleList(upsample(a, b) for a, b in itertools.pairwise([*widths, channels]))

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """(B, latent), and what stands for its label, to (B, C, H, W)."""
        h, numbers = _entered(self.start, z, label, self.latent, self.label_dim, self.condition)
        for i, up in enumerate(self.ups):
            h = up(torch.relu(self.norms[i](h, numbers) if self.condition == "normalisation" else h))
        return torch.tanh(h)


class DenseGenerator(MLPGenerator):
    """Latent (B, latent) with a label beside it to samples (B, *shape), points or small images.

    settings: of `MLPGenerator`; its `scale` multiplies the latent, not the label.
    """

    def __init__(self, latent: int, shape: Sequence[int], *, label_dim: int | None = None, **settings: Any) -> None:
        super().__init__(latent + (label_dim or 0), shape, **settings)
        self.latent, self.label_dim = latent, label_dim

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """(B, latent), and what stands for its label, to (B, *shape)."""
        x, _ = _entered(self.net, z * self.scale, label, self.latent, self.label_dim, "concatenation")
        x = x.view(len(x), *self.shape)
        return torch.tanh(x) if self.bounded else x


def _entered(
    start: nn.Module, z: Tensor, label: Tensor | None, latent: int, label_dim: int | None, condition: str | None
) -> tuple[Tensor, Tensor]:
    """What a generator's first layers make of latent and label, and the label as numbers (B, label_dim)."""
    need_shape("latent", z, "B", latent)
    if label is not None and not label_dim:
        raise ValueError("this generator is for no label; make it with label_dim=")
    numbers = labels(label, len(z), label_dim, z.dtype) if label_dim else z.new_empty(len(z), 0)
    h: Tensor = start(torch.cat([z, numbers], dim=1) if condition == "concatenation" else z)
    return h, numbers
