"""Recurrent networks over images (chapter 10): the Row LSTM and the Diagonal BiLSTM.

Source: van den Oord et al. 2016 (Pixel recurrent neural networks), section 3. Levels and logits are those of
`nets.pixelcnn`; a new pixel takes the whole network, since both pass over an image row by row or diagonal by diagonal.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from minigen.nets.pixelcnn import MaskedConv2d, one_hot


def lstm(gates: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """One step of a convolutional LSTM, (B, 4C, L) and the cell (B, C, L) to hidden and cell. Eq. 3 of the paper."""
    o, f, i, g = gates.chunk(4, dim=1)
    cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(cell), cell


class RowLSTM(nn.Module):
    """Row by row from the top; the state of a pixel sees three neighbours in the row above. Section 3.1.

    With each row up that is one pixel more to either side: the context is a triangle above the pixel, and its own row
    enters through the masked input alone.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.input = MaskedConv2d(width, 4 * width, 3, mask="B")
        with torch.no_grad():
            self.input.mask[0] = 0  # a convolution along the row: 1 x 3
        self.state = nn.Conv1d(width, 4 * width, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same."""
        gates = self.input(x)
        hidden = cell = x.new_zeros(len(x), x.shape[1], x.shape[3])
        rows = []
        for row in range(x.shape[2]):
            hidden, cell = lstm(gates[:, :, row] + self.state(hidden), cell)
            rows.append(hidden)
        return torch.stack(rows, dim=2)


def skew(x: Tensor) -> Tensor:
    """Each row moved right by one more than the one above: (B, C, H, W) to (B, C, H, W + H - 1). Figure 3.

    A column of the result is a diagonal of the image: the pixel to the left and the one above are in the column before.
    """
    height, width = x.shape[2:]
    padded = functional.pad(x, (0, height)).flatten(2)[:, :, : height * (width + height - 1)]
    return padded.unflatten(2, (height, width + height - 1))  # type: ignore[no-any-return, no-untyped-call]


def unskew(x: Tensor, width: int) -> Tensor:
    """Back from `skew`: (B, C, H, W + H - 1) to (B, C, H, W)."""
    height, wide = x.shape[2:]
    flat = functional.pad(x.flatten(2), (0, height))
    return flat.unflatten(2, (height, wide + 1))[..., :width]  # type: ignore[no-any-return, no-untyped-call]


class DiagonalLSTM(nn.Module):
    """Diagonal by diagonal from the top left; the state of a pixel sees those to its left and above. Section 3.2."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.input = nn.Conv2d(width, 4 * width, 1)
        self.state = nn.Conv1d(width, 4 * width, 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same."""
        gates = skew(self.input(x))
        hidden = cell = x.new_zeros(len(x), x.shape[1], x.shape[2])
        columns = []
        for column in range(gates.shape[3]):
            before = self.state(functional.pad(hidden, (1, 0)))  # the row above and this row, one diagonal back
            hidden, cell = lstm(gates[..., column] + before, cell)
            columns.append(hidden)
        return unskew(torch.stack(columns, dim=3), x.shape[3])


class DiagonalBiLSTM(nn.Module):
    """One pass from the top left and one from the top right: together they see every pixel before. Section 3.2.

    The second pass would see pixels to the right in its own row, so its result is moved down by one row.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.left, self.right = DiagonalLSTM(width), DiagonalLSTM(width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same."""
        from_right: Tensor = self.right(x.flip(3)).flip(3)
        both: Tensor = self.left(x) + functional.pad(from_right, (0, 0, 1, 0))[:, :, :-1]
        return both


KINDS = {"row": RowLSTM, "diagonal": DiagonalBiLSTM}


class PixelRNN(nn.Module):
    """Levels (B, 1, H, W) to logits (B, K, H, W): a 7x7 convolution with mask A, LSTM layers with residuals, two 1x1.

    levels: K. kind: "row" or "diagonal". width: features.
    """

    def __init__(self, levels: int, *, kind: str, width: int = 32, layers: int = 2) -> None:
        super().__init__()
        if kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}; got {kind!r}")
        self.levels = levels
        self.first = MaskedConv2d(levels, width, 7, mask="A")
        self.layers = nn.ModuleList(KINDS[kind](width) for _ in range(layers))
        self.hidden, self.last = nn.Conv2d(width, width, 1), nn.Conv2d(width, levels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Levels (B, 1, H, W), int64, to logits (B, K, H, W)."""
        h = self.first(one_hot(x, self.levels, self.last.weight.dtype))
        for layer in self.layers:
            h = h + layer(h)
        logits: Tensor = self.last(self.hidden(h.relu()).relu())
        return logits
