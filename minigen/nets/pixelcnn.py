"""Masked convolutions, and the PixelCNN made of them (chapter 10): each pixel is predicted from those before it.

"Before" is raster order, row by row from the top left. Images are levels (B, 1, H, W), int64, in 0..K-1; a network
gives logits (B, K, H, W), those at a pixel from the pixels before it alone.

`init_cache(n, height, width)` begins a cached pass over n images: for each pixel in raster order `logits(row, column)`
and `append(levels, row, column)`. It gives the numbers of `forward`, up to rounding, for the work of one position each.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from minigen.data.checks import need_entry
from minigen.nets.conditioning import encode_context


class Cache(Protocol):
    """A cached pass of an autoregressive network over n images: for each pixel in raster order `logits`, `append`."""

    def logits(self, row: int, column: int) -> Tensor:
        """Logits of this pixel, (n, K), given those put before it."""

    def append(self, levels: Tensor, row: int, column: int) -> None:
        """Set this pixel to levels (n,), int64."""


class MaskedConv2d(nn.Conv2d):
    """A convolution of odd size that sees pixels before its own alone (mask "A"), or its own as well ("B").

    van den Oord et al. 2016 (Pixel recurrent neural networks), section 3.4 and figure 4; for one channel of the image,
    so that all features of a pixel are alike. A sees nothing of the pixel that is to be predicted and belongs to the
    first layer alone; in every layer it would lose a pixel of context each time.
    """

    mask: Tensor

    def __init__(self, c_in: int, c_out: int, size: int, *, mask: str) -> None:
        if size % 2 == 0 or mask not in ("A", "B"):
            raise ValueError(f'size must be odd and mask "A" or "B"; got size {size} and mask {mask!r}')
        super().__init__(c_in, c_out, size, padding=size // 2)
        seen = torch.zeros(size, size)
        seen[: size // 2] = 1
        seen[size // 2, : size // 2 + (mask == "B")] = 1
        self.register_buffer("mask", seen, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, c_in, H, W) to (B, c_out, H, W)."""
        return functional.conv2d(x, self.weight * self.mask, self.bias, padding=self.padding)

    def init_cache(self, n: int, height: int, width: int) -> ConvCache:
        """A cached pass over n feature maps."""
        return ConvCache(self, n, height, width)


class ConvCache:
    """One masked convolution, a position at a time: its inputs so far, (n, H + r, W + 2r, C), padded with zeros."""

    @torch.no_grad()
    def __init__(self, conv: MaskedConv2d, n: int, height: int, width: int) -> None:
        r = self.reach = conv.kernel_size[0] // 2
        weight = (conv.weight * conv.mask)[:, :, : r + 1]  # the rows below see nothing
        self.weight = weight.permute(2, 3, 1, 0).flatten(0, 2).contiguous()  # (positions c_in, c_out)
        self.bias = weight.new_zeros(len(conv.weight)) if conv.bias is None else conv.bias
        self.inputs = weight.new_zeros(n, height + r, width + 2 * r, conv.in_channels)

    def append(self, x: Tensor, row: int, column: int) -> None:
        """Set the input at this position, (n, c_in)."""
        self.inputs[:, row + self.reach, column + self.reach] = x

    def at(self, row: int, column: int) -> Tensor:
        """The output at this position, (n, c_out), from what was put."""
        window = self.inputs[:, row : row + self.reach + 1, column : column + 2 * self.reach + 1]
        return torch.addmm(self.bias, window.flatten(1), self.weight)


def pointwise(conv: nn.Conv2d) -> tuple[Tensor, Tensor | None]:
    """Weight (c_out, c_in) and bias of a convolution of size 1, as `functional.linear` takes them at one position."""
    return conv.weight[:, :, 0, 0], conv.bias


class ResidualBlock(nn.Module):
    """relu, 1x1 to h; relu, masked 3x3; relu, 1x1 back to 2h; added. van den Oord et al. 2016, figure 5, left."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.narrow = nn.Conv2d(2 * width, width, 1)
        self.masked = MaskedConv2d(width, width, 3, mask="B")
        self.widen = nn.Conv2d(width, 2 * width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 2h, H, W) to the same."""
        y: Tensor = self.masked(self.narrow(x.relu()).relu())
        added: Tensor = x + self.widen(y.relu())
        return added


class PixelCNN(nn.Module):
    """Levels (B, 1, H, W) to logits (B, K, H, W). van den Oord et al. 2016 (Pixel recurrent neural networks), table 1.

    A 7x7 convolution with mask A, residual blocks with mask B, two 1x1 layers. Its field of view has a blind spot: the
    pixels above and to the right that no chain of 3x3 steps reaches. `GatedPixelCNN` has none.

    levels: K. width: h, half of the features of a block. outputs: channels of the result; K unless given.

    >>> levels = torch.randint(8, (2, 1, 12, 12))
    >>> PixelCNN(8, width=16, blocks=2)(levels).shape
    torch.Size([2, 8, 12, 12])
    """

    def __init__(self, levels: int, *, width: int = 32, blocks: int = 15, outputs: int | None = None) -> None:
        super().__init__()
        self.levels = levels
        self.first = MaskedConv2d(levels, 2 * width, 7, mask="A")
        self.blocks: Any = nn.ModuleList(ResidualBlock(width) for _ in range(blocks))
        self.hidden, self.last = nn.Conv2d(2 * width, 2 * width, 1), nn.Conv2d(2 * width, outputs or levels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Levels (B, 1, H, W), int64, to logits (B, K, H, W)."""
        h = self.first(one_hot(x, self.levels, self.last.weight.dtype))  # (B, 2h, H, W)
        for block in self.blocks:
            h = block(h)
        logits: Tensor = self.last(self.hidden(h.relu()).relu())
        return logits

    def init_cache(self, n: int, height: int, width: int) -> Cache:
        """A cached pass over n images."""
        return PixelCNNCache(self, n, height, width)


def one_hot(x: Tensor, levels: int, dtype: torch.dtype) -> Tensor:
    """Levels (B, 1, H, W) as (B, K, H, W), 1 at the level of each pixel."""
    if x.ndim != 4 or x.shape[1] != 1 or x.dtype != torch.int64:
        raise ValueError(f"levels must be int64 (B, 1, H, W); got {x.dtype} {tuple(x.shape)}")
    need_entry("levels", x, levels)
    return functional.one_hot(x[:, 0], levels).movedim(-1, 1).to(dtype)


class PixelCNNCache:
    """The cached pass of a `PixelCNN`: one position through every layer."""

    @torch.no_grad()
    def __init__(self, net: PixelCNN, n: int, height: int, width: int) -> None:
        self.levels, self.first, self.blocks = net.levels, net.first.init_cache(n, height, width), []
        for block in net.blocks:
            masked = block.masked.init_cache(n, height, width)
            self.blocks.append((pointwise(block.narrow), masked, pointwise(block.widen)))
        self.hidden, self.last = pointwise(net.hidden), pointwise(net.last)

    @torch.no_grad()
    def logits(self, row: int, column: int) -> Tensor:
        """Logits of this pixel, (n, K)."""
        h = self.first.at(row, column)  # (n, 2h)
        for narrow, masked, widen in self.blocks:
            masked.append(functional.linear(h.relu(), *narrow).relu(), row, column)
            h = h + functional.linear(masked.at(row, column).relu(), *widen)
        return functional.linear(functional.linear(h.relu(), *self.hidden).relu(), *self.last)

    def append(self, levels: Tensor, row: int, column: int) -> None:
        """Set this pixel to levels (n,)."""
        self.first.append(functional.one_hot(levels, self.levels).to(self.first.inputs.dtype), row, column)


def gate(x: Tensor) -> Tensor:
    """tanh of one half of the features times the logistic function of the other, (B, 2C, ...) to (B, C, ...). Eq. 2."""
    f, g = x.chunk(2, dim=1)
    return torch.tanh(f) * torch.sigmoid(g)


class GatedLayer(nn.Module):
    """A vertical stack, which sees the rows above, and a horizontal one, which sees the row and the vertical stack.

    van den Oord et al. 2016, figure 2. The vertical convolution is of size (reach + 1) x (2 reach + 1) and ends in its
    own row; the horizontal one of 1 x (reach + 1) ends in its own pixel. In the `first` layer both end one earlier, so
    that vertical features never see their row of the image, and horizontal ones never their pixel.
    """

    def __init__(self, c_in: int, width: int, *, reach: int, context_dim: int, first: bool) -> None:
        super().__init__()
        self.reach, self.first = reach, first
        length = reach if first else reach + 1
        self.vertical = nn.Conv2d(c_in, 2 * width, (length, 2 * reach + 1))
        self.horizontal = nn.Conv2d(c_in, 2 * width, (1, length))
        self.down = nn.Conv2d(2 * width, 2 * width, 1)
        self.out = nn.Conv2d(width, width, 1)
        self.context = nn.Linear(context_dim, 4 * width, bias=False) if context_dim else None

    def forward(self, v: Tensor, h: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Both stacks, (B, C, H, W) each, to (B, width, H, W) each; context (B, features)."""
        r, last = self.reach, -1 if self.first else None
        rows: Tensor = self.vertical(functional.pad(v, (r, r, r, 0))[:, :, :last])
        pixels: Tensor = self.horizontal(functional.pad(h, (r, 0))[:, :, :, :last]) + self.down(rows)
        if self.context is not None and context is not None:
            for_v, for_h = self.context(context)[:, :, None, None].chunk(2, dim=1)
            rows, pixels = rows + for_v, pixels + for_h
        new: Tensor = self.out(gate(pixels))
        return gate(rows), new if self.first else h + new


class GatedPixelCNN(nn.Module):
    """Levels (B, 1, H, W) to logits (B, K, H, W), each from all pixels before its own within reach.

    levels: K. width: features of each stack. context_dim: number of features of what is drawn for, or of classes; 0 is
    none. A context of zeros, or class -1, says nothing. reach: of the first layer; the others have half of it, at least
    1. outputs: channels of the result; K unless given.
    """

    def __init__(
        self,
        levels: int,
        *,
        width: int = 32,
        layers: int = 8,
        reach: int = 3,
        context_dim: int = 0,
        outputs: int | None = None,
    ) -> None:
        super().__init__()
        self.levels, self.context_dim = levels, context_dim
        self.layers: Any = nn.ModuleList(
            GatedLayer(
                width if i else levels,
                width,
                reach=max(1, reach // 2) if i else reach,
                context_dim=context_dim,
                first=not i,
            )
            for i in range(layers)
        )
        self.hidden, self.last = nn.Conv2d(width, 2 * width, 1), nn.Conv2d(2 * width, outputs or levels, 1)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Levels (B, 1, H, W), int64, and a context (B, features), or classes (B,), to logits (B, K, H, W)."""
        v = h = one_hot(x, self.levels, self.last.weight.dtype)
        context = encode_context(context, len(x), self.context_dim, self.last.weight.dtype)
        for layer in self.layers:
            v, h = layer(v, h, context)
        logits: Tensor = self.last(self.hidden(h.relu()).relu())
        return logits

    def init_cache(self, n: int, height: int, width: int, context: Tensor | None = None) -> GatedCache:
        """A cached pass over n images: whole rows of the vertical stack, single pixels of the horizontal one."""
        context = encode_context(context, n, self.context_dim, self.last.weight.dtype)
        return GatedCache(self, n, height, width, context)


class GatedCache:
    """The cached pass of a `GatedPixelCNN`: the vertical stack by rows, the horizontal one by pixels."""

    @torch.no_grad()
    def __init__(self, net: GatedPixelCNN, n: int, height: int, width: int, context: Tensor | None) -> None:
        self.levels, self.row = net.levels, -1
        self.layers = [LayerCache(layer, n, height, width, context) for layer in net.layers]
        self.hidden, self.last = pointwise(net.hidden), pointwise(net.last)

    @torch.no_grad()
    def logits(self, row: int, column: int) -> Tensor:
        """Logits of this pixel, (n, K)."""
        if row != self.row:
            self.row, v = row, None
            for layer in self.layers:
                v = layer.begin(v, row)
        h = self.layers[0].step(None, column)
        for layer in self.layers[1:]:
            h = layer.step(h, column)
        return functional.linear(functional.linear(h.relu(), *self.hidden).relu(), *self.last)

    def append(self, levels: Tensor, row: int, column: int) -> None:
        """Set this pixel to levels (n,)."""
        first = self.layers[0]
        x = functional.one_hot(levels, self.levels).to(first.rows.dtype)
        first.rows[:, :, row + first.reach, column + first.reach] = first.pixels[:, column + first.reach] = x


class LayerCache:
    """One layer, with its vertical inputs so far, (n, C, H + r, W + 2r), and this row's horizontal ones, (n, W + r, C).

    Vertical features of a row depend on rows of the image that are done: they are computed once, when their row begins,
    with what they add to each of its pixels.
    """

    added: Tensor

    @torch.no_grad()
    def __init__(self, layer: GatedLayer, n: int, height: int, width: int, context: Tensor | None) -> None:
        r, c, across = layer.reach, layer.vertical.in_channels, layer.horizontal
        self.layer, self.reach, self.length, self.width = layer, r, r + (not layer.first), width
        self.rows = across.weight.new_zeros(n, c, height + r, width + 2 * r)
        self.pixels = across.weight.new_zeros(n, width + r, c)
        # Taps in the order of the window (position, feature), to be one matrix product.
        self.taps = across.weight[:, :, 0].permute(2, 1, 0).flatten(0, 1).contiguous()
        self.out = pointwise(layer.out)
        given: Tensor = across.weight.new_zeros(1, 2) if layer.context is None else layer.context(context)
        self.for_v, self.for_h = given[:, :, None].chunk(2, dim=1)  # (n, 2C, 1)

    def begin(self, v: Tensor | None, row: int) -> Tensor:
        """Vertical features of a row, (n, C, W), from those of the layer before; the first layer knows the image."""
        r = self.reach
        if v is not None:
            self.rows[:, :, row + r, r : r + self.width] = v
        new = self.layer.vertical(self.rows[:, :, row : row + self.length])  # (n, 2C, 1, W)
        self.added = (self.layer.down(new)[:, :, 0] + self.for_h).permute(2, 0, 1) + self.layer.horizontal.bias
        return gate(new[:, :, 0] + self.for_v)

    def step(self, h: Tensor | None, column: int) -> Tensor:
        """Horizontal features of a pixel, (n, C), from those of the layer before; the first layer knows the image."""
        if h is not None:
            self.pixels[:, column + self.reach] = h
        seen = self.pixels[:, column : column + self.length].flatten(1)  # (n, positions * C)
        new = functional.linear(gate(torch.addmm(self.added[column], seen, self.taps)), *self.out)
        return new if h is None else h + new
