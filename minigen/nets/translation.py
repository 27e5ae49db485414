"""Networks that make an image of an image, and a judge of its patches: chapters 06 and 07.

Isola et al. 2017 (pix2pix): an encoder and a decoder with skips between, and a discriminator that sees one patch at a
time. Johnson et al. 2016 and Zhu et al. 2017 (CycleGAN): residual blocks at a quarter of the resolution. Strided
convolutions and transposed ones are those of `nets.conv`; nothing mixes the images of a batch.

Norms are "none" or "instance": with the latter every feature of every image has mean 0 and variance 1 over its places,
by torch's own InstanceNorm2d without scale and shift, so that a feature's contrast and brightness are erased (Ulyanov
et al. 2017). A layer with a norm behind it has no bias, which the norm would erase.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, pairwise
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from minigen.data.checks import need_batch, need_count, need_number, need_scaled, need_shape
from minigen.nets.conv import downsample, upsample
from minigen.nets.discriminators import append_dims
from minigen.nets.init import he_init
from minigen.nets.unet import UNet

Norm = Literal["none", "instance"]
WIDEST = 8  # times the width: where features stop doubling


def receptive_field(layers: Sequence[tuple[int, int]]) -> int:
    """The side in pixels of the square that one output of a stack of convolutions sees.

    r = 1 + sum_i (k_i - 1) prod_{j < i} s_j

    layers: (kernel, stride) of each, from the image on. Isola et al. 2017, section 4.4, name discriminators by it.

    >>> receptive_field([(4, 2), (4, 2), (4, 2), (4, 1), (4, 1)])
    70
    """
    side, step = 1, 1  # pixels that an output sees; pixels between the inputs of this layer
    for kernel, stride in layers:
        need_count("a kernel", kernel)
        need_count("a stride", stride)
        side, step = side + (kernel - 1) * step, step * stride
    return side


def normed(layer: nn.Conv2d | nn.ConvTranspose2d, norm: Norm) -> list[nn.Module]:
    """The layer and the norm behind it, which takes the place of its bias; the layer alone with "none"."""
    if norm not in get_args(Norm):
        raise ValueError(f"norm must be one of {', '.join(get_args(Norm))}; got {norm!r}")
    if norm == "none":
        return [layer]
    layer.bias = None
    return [layer, nn.InstanceNorm2d(layer.out_channels)]


def _need_images(x: Tensor, channels: int, *, multiple: int = 1, least: int = 1) -> None:
    """Refuse what is no (B, channels, H, W) of floats, H and W multiples of a number and no less than another."""
    need_batch("images", x, channels, "H", "W")
    if any(n % multiple or n < max(multiple, least) for n in x.shape[2:]):
        of = f"multiples of {multiple}, " if multiple > 1 else ""
        raise ValueError(f"sides must be {of}{max(multiple, least)} or more; got {x.shape[2]} x {x.shape[3]}: pad them")


class PatchDiscriminator(nn.Module):
    """Images (B, C, H, W), with the image that they were made of beside them, to logits (B, h, w), one for each patch.

    4x4 convolutions with a padding of 1: `layers` of stride 2, then two of stride 1, the last one to the logits;
    LeakyReLU(0.2) between. A logit sees a square of `receptive_field` pixels a side, those beyond the border being 0:
    16, 34, 70 for 1, 2, 3 layers. h is H / 2^layers, rounded down, less 2, so that sides must be 3 2^layers at least.
    With 0 layers all convolutions are 1x1, h is H, and a logit sees one pixel.

    condition_channels: of the image beside; 0 is for a discriminator that is given none. width: features behind the
    first convolution; each further one doubles them, up to 8 times as many.
    norm: none by default, for games with a penalty on the gradient; "instance" has no part in the first layer and in
    the last. It measures whole images: through it every pixel moves every logit, however small the patch.
    Source: Isola et al. 2017, section 3.2.2 and appendix 6.1.2, who normalise over the batch.

    >>> judge = PatchDiscriminator(3, condition_channels=1, width=8, layers=1)
    >>> judge(torch.zeros(2, 3, 12, 12), torch.zeros(2, 1, 12, 12)).shape
    torch.Size([2, 4, 4])
    >>> judge.receptive_field, PatchDiscriminator(3).receptive_field
    (16, 70)
    """

    def __init__(
        self, channels: int, *, condition_channels: int = 0, width: int = 64, layers: int = 3, norm: Norm = "none"
    ) -> None:
        super().__init__()
        need_count("channels", channels)
        need_count("condition_channels", condition_channels, least=0)
        need_count("width", width)
        need_count("layers", layers, least=0)
        self.channels, self.condition_channels = channels, condition_channels
        self.least = 3 * 2**layers if layers else 1 + (norm != "none")  # pixels a side; a norm needs two places
        widths = [min(2**i, WIDEST) * width for i in range(max(layers, 1) + 1)]
        enter = channels + condition_channels
        if layers:
            convs = [downsample(enter, width, gain=1.0), *(downsample(a, b) for a, b in pairwise(widths[:-1]))]
            convs += [
                he_init(nn.Conv2d(widths[-2], widths[-1], 4, padding=1)),
                he_init(nn.Conv2d(widths[-1], 1, 4, padding=1), 1),
            ]
        else:
            sizes = list(pairwise([enter, *widths, 1]))
            gains = (1.0, 2.0, 1.0)
            convs = [he_init(nn.Conv2d(a, b, 1), gain) for (a, b), gain in zip(sizes, gains, strict=True)]
        self.receptive_field = receptive_field([(conv.kernel_size[0], conv.stride[0]) for conv in convs])
        inner = [[*normed(conv, norm), nn.LeakyReLU(0.2)] for conv in convs[1:-1]]
        self.net = nn.Sequential(convs[0], nn.LeakyReLU(0.2), *chain.from_iterable(inner), convs[-1])

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """(B, C, H, W), and (B, condition_channels, H, W) where there are any, to logits (B, h, w)."""
        _need_images(x, self.channels, least=self.least)
        if (condition is None) == (self.condition_channels > 0):
            says = "needs the image beside; got none" if condition is None else "takes no image beside"
            raise ValueError(f"this discriminator {says}: it has condition_channels={self.condition_channels}")
        if condition is not None:
            need_shape("the image beside", condition, len(x), self.condition_channels, *x.shape[2:])
            need_scaled("the image beside", condition)
            x = torch.cat([x, condition], dim=1)
        logits: Tensor = self.net(x).squeeze(1)
        return logits


class TranslationUNet(nn.Module):
    """Images (B, in_channels, H, W) to images (B, out_channels, H, W) of the same sides, multiples of 2^depth.

    `depth` strided 4x4 convolutions down to the bottleneck, LeakyReLU(0.2) before each but the first; as many
    transposed ones up again, ReLU before each. Each one on the way up but the first is given, beside what comes from
    below, what the one opposite gave on the way down: a skip. Through the first skip a pixel of the output sees 6x6
    pixels around the same place, whatever the bottleneck lets pass.

    width: features behind the first convolution; each further one doubles them, up to 8 times as many.
    skips: off leaves the encoder and decoder that Isola et al. compare with: the same layers, without what was beside.
    noise: channels of z, (B, noise), the same at every place of the bottleneck; 0 is a network without. With
        norm="instance" the next norm takes away what z adds to the mean of a feature over its places.
    dropout: rate in the first three layers of the decoder at most, never in the last. As everywhere in torch it acts in
        training mode alone; Isola et al. leave it on for samples, as `network.train()` does.
    norm: behind each convolution but the first, the one to the bottleneck and the last.
    bounded: end in tanh, for images in [-1, 1].
    Source: Isola et al. 2017, section 3.2.1 and appendix 6.1.1.

    >>> net = TranslationUNet(1, 3, width=8, noise=4)
    >>> net(torch.zeros(2, 1, 16, 24), torch.randn(2, net.latent)).shape
    torch.Size([2, 3, 16, 24])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        width: int = 32,
        depth: int = 3,
        skips: bool = True,
        noise: int = 0,
        dropout: float = 0.0,
        norm: Norm = "none",
        bounded: bool = True,
    ) -> None:
        super().__init__()
        for name, n in (("in_channels", in_channels), ("out_channels", out_channels), ("width", width)):
            need_count(name, n)
        need_count("depth", depth, least=2)
        need_count("noise", noise, least=0)
        need_number("dropout", dropout, low=0, high=1)
        self.in_channels, self.out_channels, self.depth, self.skips = in_channels, out_channels, depth, skips
        self.latent, self.bounded = noise, bounded
        widths = [min(2**i, WIDEST) * width for i in range(depth)]
        deepest = widths[-1]
        self.down = nn.ModuleList([downsample(in_channels, width, gain=1.0)])
        for narrow, wide in pairwise(widths[:-1]):
            self.down.append(nn.Sequential(*normed(downsample(narrow, wide), norm)))
        self.down.append(downsample(widths[-2], deepest))
        gain = (deepest + noise) / (deepest / 2 + noise)  # a ReLU halves the features' mean square, not that of z
        self.up = nn.ModuleList()
        for i, (wide, narrow) in enumerate(pairwise(widths[::-1])):
            layer = upsample(wide * (1 + (skips and i > 0)), narrow) if i else upsample(wide + noise, narrow, gain=gain)
            self.up.append(nn.Sequential(*normed(layer, norm), *[nn.Dropout(dropout)] * (dropout > 0 and i < 3)))
        self.up.append(upsample(width * (1 + skips), out_channels))

    def forward(self, x: Tensor, z: Tensor | None = None) -> Tensor:
        """(B, in_channels, H, W), and z (B, noise) where there is any, to (B, out_channels, H, W)."""
        _need_images(x, self.in_channels, multiple=2**self.depth)
        z = self._noise(x, z)
        left = [self.down[0](x)]
        for down in self.down[1:]:
            left.append(down(functional.leaky_relu(left[-1], 0.2)))
        h = functional.relu(left.pop())  # the bottleneck, (B, deepest, H / 2^depth, W / 2^depth)
        h = self.up[0](torch.cat([h, append_dims(z, h)], dim=1))
        for up in self.up[1:]:
            h = up(functional.relu(torch.cat([h, left.pop()], dim=1) if self.skips else h))
        return torch.tanh(h) if self.bounded else h

    def _noise(self, x: Tensor, z: Tensor | None) -> Tensor:
        """z (B, noise), or (B, 0) where there is none."""
        if z is None and self.latent:
            raise ValueError(
                f"this network needs z, ({len(x)}, {self.latent}); got none: draw it, or make it with noise=0"
            )
        z = x.new_empty(len(x), 0) if z is None else z
        need_shape("z", z, len(x), self.latent)
        return z


class ResnetBlock(nn.Module):
    """x + f(x), f being two 3x3 convolutions with reflected borders, a norm behind each, ReLU between.

    share: of the variance of x that it adds, where there is no norm. Source: Johnson et al. 2016, section 3.1; there is
    no ReLU behind the sum.
    """

    def __init__(self, width: int, *, norm: Norm = "instance", share: float = 1.0) -> None:
        super().__init__()
        first, last = (nn.Conv2d(width, width, 3, padding=1, padding_mode="reflect") for _ in range(2))
        self.branch = nn.Sequential(
            *normed(he_init(first, 1.0), norm), nn.ReLU(), *normed(he_init(last, 2 * share), norm)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, h, w) to the same."""
        added: Tensor = x + self.branch(x)
        return added


class ResnetGenerator(nn.Module):
    """Images (B, in_channels, H, W) to images (B, out_channels, H, W) in [-1, 1], of the same sides.

    A 7x7 convolution to `width` features, two strided 3x3 ones that double them, residual blocks at a quarter of the
    resolution, two transposed 3x3 ones that halve them, a 7x7 one and tanh; ReLU between, a norm behind each but the
    last. Borders are reflected in the blocks and by the 7x7 layers. Sides must be multiples of 4, and 8 at least.

    blocks: 6 for images of 128 pixels a side in the paper, 9 for larger ones; width: 64 there. With norm="instance" the
    first norm erases the contrast and brightness of each whole image: the output is the same for a x + b, a > 0.
    Source: Zhu et al. 2017, appendix 7.2 (c7s1-k, dk, Rk, uk), from Johnson et al. 2016.

    >>> ResnetGenerator(3, 1, width=8, blocks=2)(torch.zeros(2, 3, 16, 16)).shape
    torch.Size([2, 1, 16, 16])
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, width: int = 32, blocks: int = 6, norm: Norm = "instance"
    ) -> None:
        super().__init__()
        for name, n in (("in_channels", in_channels), ("out_channels", out_channels), ("width", width)):
            need_count(name, n)
        need_count("blocks", blocks)
        self.in_channels, self.out_channels = in_channels, out_channels
        widths = [width, 2 * width, 4 * width]

        first, last = ((in_channels, width), (width, out_channels))
        enter, leave = (nn.Conv2d(a, b, 7, padding=3, padding_mode="reflect") for a, b in (first, last))
        layers = [*normed(he_init(enter, 1.0), norm), nn.ReLU()]
        for narrow, wide in pairwise(widths):
            layers += [*normed(he_init(nn.Conv2d(narrow, wide, 3, stride=2, padding=1)), norm), nn.ReLU()]
        layers += [ResnetBlock(widths[-1], norm=norm, share=1 / blocks) for _ in range(blocks)]
        for i, (wide, narrow) in enumerate(pairwise(widths[::-1])):
            grow = nn.ConvTranspose2d(wide, narrow, 3, stride=2, padding=1, output_padding=1)
            layers += [*normed(he_init(grow, 2.0 if i else 1.0), norm), nn.ReLU()]  # no ReLU behind the blocks
        self.net = nn.Sequential(*layers, he_init(leave, 2.0))

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) to (B, out_channels, H, W)."""
        _need_images(x, self.in_channels, multiple=4, least=8)
        return torch.tanh(self.net(x))


class ResidualUNet(UNet):
    """`UNet` as a translator: images (B, in_channels, H, W), and z if there is any, to (B, out_channels, H, W).

    Its first skip has the image's own resolution, which that of `TranslationUNet` has not: for small images, of which
    each pixel counts. Its last layer begins at 0, so that with `change` it begins by giving back its input.

    noise: numbers of z, (B, noise), which shift and scale the features of every block; 0 is a network without.
    change: add the output to the input, of which it then is the change; both must have the same channels.
    settings: of `UNet`, such as width, multipliers, attention and patch.

    >>> net = ResidualUNet(1, 3, width=8, multipliers=(1, 2), attention=(), noise=4)
    >>> net(torch.zeros(2, 1, 12, 12), torch.randn(2, net.latent)).shape
    torch.Size([2, 3, 12, 12])
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, noise: int = 0, change: bool = False, **settings: Any
    ) -> None:
        need_count("noise", noise, least=0)
        if change and in_channels != out_channels:
            raise ValueError(f"the change of an image has its channels; got {in_channels} and {out_channels}")
        label_dim = noise or None
        super().__init__(in_channels, out_channels=out_channels, noise_level=False, label_dim=label_dim, **settings)
        self.latent, self.change = noise, change

    def forward(self, x: Tensor, z: Tensor | None = None) -> Tensor:  # type: ignore[override]
        """(B, in_channels, H, W), and z (B, noise) where there is any, to (B, out_channels, H, W)."""
        if (z is None) == (self.latent > 0):
            says = f"needs z, ({len(x)}, {self.latent}); got none" if z is None else "takes no z: its noise is 0"
            raise ValueError(f"this network {says}")
        made: Tensor = super().forward(x) if z is None else super().forward(x, z)
        return x + made if self.change else made
