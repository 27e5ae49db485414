"""Masked convolutions, and the PixelCNN made of them (chapter 10): each pixel is predicted from those before it.

"Before" is raster order, row by row from the top left. Images are levels (B, 1, H, W), int64, in 0..K-1; a network
gives logits (B, K, H, W), those at a pixel from the pixels before it alone.

`start(n, height, width)` begins a cached pass over n images: `logits(row, column)` and `put(levels, row, column)`,
pixel by pixel in raster order. It gives the numbers of `forward`, up to rounding, for the work of one position each.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional


class Pass(Protocol):
    """A cached pass of an autoregressive network over n images: for each pixel in raster order `logits`, then `put`."""

    def logits(self, row: int, column: int) -> Tensor:
        """Logits of this pixel, (n, K), given those put before it."""
        ...

    def put(self, levels: Tensor, row: int, column: int) -> None:
        """Set this pixel to levels (n,), int64."""
        ...


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

    def start(self, n: int, height: int, width: int) -> ConvPass:
        """A cached pass over n feature maps."""
        return ConvPass(self, n, height, width)


class ConvPass:
    """One masked convolution, a position at a time: its inputs so far, (n, H + r, W + 2r, C), padded with zeros."""

    @torch.no_grad()
    def __init__(self, conv: MaskedConv2d, n: int, height: int, width: int) -> None:
        r = self.reach = conv.kernel_size[0] // 2
        weight = (conv.weight * conv.mask)[:, :, : r + 1]  # the rows below see nothing
        self.weight = weight.permute(2, 3, 1, 0).flatten(0, 2).contiguous()  # (positions c_in, c_out)
        self.bias = weight.new_zeros(len(conv.weight)) if conv.bias is None else conv.bias
        self.inputs = weight.new_zeros(n, height + r, width + 2 * r, conv.in_channels)

    def put(self, x: Tensor, row: int, column: int) -> None:
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
    pixels above and to the right that no chain of 3x3 steps reaches. `nets.gated` has none.

    levels: K. width: h, half of the features of a block. outputs: channels of the result; K unless given.
    """

    def __init__(self, levels: int, *, width: int = 32, blocks: int = 15, outputs: int | None = None) -> None:
        super().__init__()
        self.levels = levels
        self.first = MaskedConv2d(levels, 2 * width, 7, mask="A")
        self.blocks = nn.ModuleList(ResidualBlock(width) for _ in range(blocks))
        self.hidden, self.last = nn.Conv2d(2 * width, 2 * width, 1), nn.Conv2d(2 * width, outputs or levels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Levels (B, 1, H, W), int64, to logits (B, K, H, W)."""
        h = self.first(one_hot(x, self.levels, self.last.weight.dtype))  # (B, 2h, H, W)
        for block in self.blocks:
            h = block(h)
        logits: Tensor = self.last(self.hidden(h.relu()).relu())
        return logits

    def start(self, n: int, height: int, width: int) -> Pass:
        """A cached pass over n images."""
        return PixelCNNPass(self, n, height, width)


def one_hot(x: Tensor, levels: int, dtype: torch.dtype) -> Tensor:
    """Levels (B, 1, H, W) as (B, K, H, W), 1 at the level of each pixel."""
    if x.ndim != 4 or x.shape[1] != 1 or x.dtype != torch.int64:
        raise ValueError(f"levels must be int64 (B, 1, H, W); got {x.dtype} {tuple(x.shape)}")
    return functional.one_hot(x[:, 0], levels).movedim(-1, 1).to(dtype)


class PixelCNNPass:
    """The cached pass of a `PixelCNN`: one position through every layer."""

    @torch.no_grad()
    def __init__(self, net: PixelCNN, n: int, height: int, width: int) -> None:
        self.levels, self.first, self.blocks = net.levels, net.first.start(n, height, width), []
        for block in net.blocks:
            assert isinstance(block, ResidualBlock)
            masked = block.masked.start(n, height, width)
            self.blocks.append((pointwise(block.narrow), masked, pointwise(block.widen)))
        self.hidden, self.last = pointwise(net.hidden), pointwise(net.last)

    @torch.no_grad()
    def logits(self, row: int, column: int) -> Tensor:
        """Logits of this pixel, (n, K)."""
        h = self.first.at(row, column)  # (n, 2h)
        for narrow, masked, widen in self.blocks:
            masked.put(functional.linear(h.relu(), *narrow).relu(), row, column)
            h = h + functional.linear(masked.at(row, column).relu(), *widen)
        return functional.linear(functional.linear(h.relu(), *self.hidden).relu(), *self.last)

    def put(self, levels: Tensor, row: int, column: int) -> None:
        """Set this pixel to levels (n,)."""
        self.first.put(functional.one_hot(levels, self.levels).to(self.first.inputs.dtype), row, column)
