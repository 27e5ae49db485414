"""A transformer over pixels: what each token is made of. Its structure and cached pass: see `test_pixelcnn`."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from minigen.nets.pixel_transformer import PixelTransformer

pytestmark = pytest.mark.usefixtures("float64")


def tokens_of(net: PixelTransformer, *given: Tensor) -> Tensor:
    """What the first block is given, (B, T, width)."""
    found = []
    hook = net.blocks[0].register_forward_pre_hook(lambda _, before: found.append(before[0]))
    net(*given)
    hook.remove()
    return found[0]


def test_a_token_is_the_level_before_its_row_its_column_and_the_context() -> None:
    net = PixelTransformer(3, size=(3, 4), width=8, blocks=1, heads=2, context_dim=5)
    x, context = torch.randint(3, (2, 1, 3, 4)), torch.randn(2, 5)
    found, added = tokens_of(net, x, context), context @ net.given.weight.T
    for i in range(2):
        for t in range(12):
            level = net.level.weight[x[i].flatten()[t - 1] if t else 3]
            expected = level + net.row.weight[t // 4] + net.column.weight[t % 4] + added[i]
            torch.testing.assert_close(found[i, t], expected)


def test_the_context_is_added_to_every_token() -> None:
    net = PixelTransformer(3, size=(3, 4), width=8, blocks=1, heads=2, context_dim=5)
    x, context = torch.randint(3, (2, 1, 3, 4)), torch.randn(2, 5)
    moved = tokens_of(net, x, context) - tokens_of(net, x, 0 * context)
    assert moved.abs().amax(2).min() > 1e-2
    torch.testing.assert_close(moved, moved[:, :1].expand_as(moved))
    cache, other = (net.init_cache(2, 3, 4, c) for c in (context, 0 * context))
    assert ((cache.places - other.places).abs().amax((1, 2)) > 1e-2).all(), "in the cached pass, too"
