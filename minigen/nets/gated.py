"""The gated PixelCNN (chapter 10): two stacks of convolutions without a blind spot, gates, and a context to draw for.

Source: van den Oord et al. 2016 (Conditional image generation with PixelCNN decoders), section 2. Levels, logits and
cached passes are those of `nets.masked`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from minigen.nets.masked import one_hot, pointwise


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

    def __init__(self, c_in: int, width: int, *, reach: int, context: int, first: bool) -> None:
        super().__init__()
        self.reach, self.first = reach, first
        length = reach if first else reach + 1
        self.vertical = nn.Conv2d(c_in, 2 * width, (length, 2 * reach + 1))
        self.horizontal = nn.Conv2d(c_in, 2 * width, (1, length))
        self.down = nn.Conv2d(2 * width, 2 * width, 1)
        self.out = nn.Conv2d(width, width, 1)
        self.context = nn.Linear(context, 4 * width, bias=False) if context else None

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

    levels: K. width: features of each stack. context: number of features of what is drawn for, such as a label's
    one-hot; 0 is none. reach: of the first layer; the others have half of it, at least 1. outputs: channels of the
    result; K unless given.
    """

    def __init__(
        self,
        levels: int,
        *,
        width: int = 32,
        layers: int = 8,
        reach: int = 3,
        context: int = 0,
        outputs: int | None = None,
    ) -> None:
        super().__init__()
        self.levels, self.context = levels, context
        self.layers = nn.ModuleList(
            GatedLayer(
                width if i else levels, width, reach=max(1, reach // 2) if i else reach, context=context, first=not i
            )
            for i in range(layers)
        )
        self.hidden, self.last = nn.Conv2d(width, 2 * width, 1), nn.Conv2d(2 * width, outputs or levels, 1)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Levels (B, 1, H, W), int64, and a context (B, features) to logits (B, K, H, W)."""
        self._check(context)
        v = h = one_hot(x, self.levels, self.last.weight.dtype)
        for layer in self.layers:
            v, h = layer(v, h, context)
        logits: Tensor = self.last(self.hidden(h.relu()).relu())
        return logits

    def start(self, n: int, height: int, width: int, context: Tensor | None = None) -> GatedPass:
        """A cached pass over n images: whole rows of the vertical stack, single pixels of the horizontal one."""
        self._check(context)
        return GatedPass(self, n, height, width, context)

    def _check(self, context: Tensor | None) -> None:
        if (context is None) != (self.context == 0):
            raise ValueError(f"context must be (B, {self.context})" if self.context else "this net takes no context")


class GatedPass:
    """The cached pass of a `GatedPixelCNN`: the vertical stack by rows, the horizontal one by pixels."""

    @torch.no_grad()
    def __init__(self, net: GatedPixelCNN, n: int, height: int, width: int, context: Tensor | None) -> None:
        self.levels, self.row, self.layers = net.levels, -1, []
        for layer in net.layers:
            assert isinstance(layer, GatedLayer)
            self.layers.append(LayerPass(layer, n, height, width, context))
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

    def put(self, levels: Tensor, row: int, column: int) -> None:
        """Set this pixel to levels (n,)."""
        first = self.layers[0]
        x = functional.one_hot(levels, self.levels).to(first.rows.dtype)
        first.rows[:, :, row + first.reach, column + first.reach] = first.pixels[:, column + first.reach] = x


class LayerPass:
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
