"""Drawing images one pixel at a time (chapter 10), in raster order: with a cache, or by the whole network each time.

Randomness is an argument: uniform numbers (n, H, W) decide each pixel, so that both ways draw the same images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import torch
from torch import Tensor

from minigen.nets.masked import Pass


class RasterNet(Protocol):
    """A network from levels (B, 1, H, W) to logits (B, K, H, W), each from the pixels before its own alone.

    A network that draws for a context takes it, (B, features), as a last argument of both.
    """

    def __call__(self, x: Tensor, *context: Tensor) -> Tensor:
        """All logits at once."""
        ...

    @property
    def start(self) -> Callable[..., Pass]:
        """`start(n, height, width, *context)` begins a cached pass over n images."""
        ...


def draw(logits: Tensor, uniform: Tensor, *, temperature: float = 1.0) -> Tensor:
    """Levels (n,) from logits (n, K) by inversion: the first at which the cumulated probability exceeds `uniform`.

    uniform: (n,) in [0, 1). temperature: logits are divided by it; 0 takes the most probable level.
    """
    if temperature < 0:
        raise ValueError(f"temperature must be 0 or more; got {temperature}")
    if temperature == 0:
        return logits.argmax(1)
    cumulated = torch.softmax(logits / temperature, dim=1).cumsum(1)[:, :-1]  # the last one is 1, up to rounding
    return (cumulated <= uniform[:, None]).sum(1)


def sample(
    net: RasterNet,
    uniform: Tensor,
    *,
    context: Tensor | None = None,
    temperature: float = 1.0,
    known: tuple[Tensor, Tensor] | None = None,
    cached: bool = True,
) -> Iterator[Tensor]:
    """Images pixel by pixel; yields the levels so far, (n, 1, H, W), int64, after each row. Missing pixels are 0.

    uniform: (n, H, W) in [0, 1), what decides each pixel.
    context: what to draw for, (n, features), where the network takes one.
    known: levels (n, 1, H, W) and a mask (H, W) of the pixels to take from them; the others are drawn. It is a sample
    given the known pixels only where these come first in raster order, such as an upper half.
    cached: False runs the whole network for every pixel, the slow way, for comparison, and for a network that has no
    cached pass, `start`. Raises ValueError where such a one is to be cached.
    """
    if cached and not hasattr(net, "start"):
        raise ValueError(f"{type(net).__name__} has no cached pass, start(n, height, width); draw with cached=False")
    n, height, width = uniform.shape
    levels = torch.zeros(n, 1, height, width, dtype=torch.int64, device=uniform.device)
    given = () if context is None else (context,)
    run = net.start(n, height, width, *given) if cached else None
    for row in range(height):
        with torch.inference_mode():  # left before the yield, where the caller goes on
            for column in range(width):  # through known pixels too: a cached pass has to see them
                logits = run.logits(row, column) if run else net(levels, *given)[:, :, row, column]
                if known is not None and known[1][row, column]:
                    new = known[0][:, 0, row, column]
                else:
                    new = draw(logits, uniform[:, row, column], temperature=temperature)
                levels[:, 0, row, column] = new
                if run:
                    run.put(new, row, column)
        yield levels.clone()
