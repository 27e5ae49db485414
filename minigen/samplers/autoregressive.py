"""Drawing images one pixel at a time (chapter 10), in raster order: with a cache, or by the whole network each time.

Randomness is an argument: uniform numbers (n, H, W) decide each pixel, so that both ways draw the same images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import torch
from torch import Tensor

from minigen.data.checks import need_float, need_index, need_number, need_shape
from minigen.nets.pixelcnn import Cache
from minigen.worlds.precision import widen


class RasterNet(Protocol):
    """A network from levels (B, 1, H, W) to logits (B, K, H, W), each from the pixels before its own alone.

    A network that draws for a context takes it, (B, features), as a last argument of both.
    """

    def __call__(self, x: Tensor, *context: Tensor) -> Tensor:
        """All logits at once."""

    @property
    def init_cache(self) -> Callable[..., Cache]:
        """`init_cache(n, height, width, *context)` begins a cached pass over n images."""


def draw(logits: Tensor, uniform: Tensor, *, temperature: float = 1.0) -> Tensor:
    """Levels (n,) from logits (n, K) by inversion: the first at which the cumulated probability exceeds `uniform`.

    uniform: (n,) in [0, 1). temperature: logits are divided by it; 0 takes the most probable level. Logits that give no
    probabilities (NaN, infinity, all of a row minus infinity) and numbers outside [0, 1) are a ValueError, on a CPU.
    """
    need_number("temperature", temperature, low=0)
    need_float("logits", logits, todo="they are what a network puts out")
    need_shape("logits", logits, "n", "K")
    if not logits.shape[1]:
        raise ValueError(f"logits must be (n, K), K at least 1; got {tuple(logits.shape)}")
    need_shape("uniform", uniform, len(logits))
    need_float("uniform", uniform, todo="draw it by torch.rand")
    if logits.device.type == "cpu" and not logits.amax(1).isfinite().all():
        raise ValueError(
            "logits must be finite or minus infinity, not all of a row; got NaN or infinity: look for the "
            "step that diverged"
        )
    if uniform.device.type == "cpu" and len(uniform) and not (uniform.min() >= 0 and uniform.max() < 1):
        raise ValueError(f"uniform must be in [0, 1); got {uniform.min():g}..{uniform.max():g}: draw it by torch.rand")
    if temperature == 0:
        return logits.argmax(1)
    cumulated = torch.softmax(widen(logits) / temperature, dim=1).cumsum(1)[:, :-1]  # the last one is 1, up to rounding
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
    cached pass, `init_cache`. Raises ValueError where such a one is to be cached.

    >>> from minigen.nets import PixelCNN
    >>> *_, images = sample(PixelCNN(4, width=8, blocks=1), torch.rand(2, 6, 6))
    >>> images.shape, images.dtype
    (torch.Size([2, 1, 6, 6]), torch.int64)
    """
    if cached and not hasattr(net, "init_cache"):
        raise ValueError(
            f"{type(net).__name__} has no cached pass: give one with init_cache(...), or draw with cached=False"
        )
    need_shape("uniform", uniform, "n", "H", "W")
    n, height, width = uniform.shape
    if known is not None:
        need_shape("the known levels", known[0], n, 1, height, width)
        need_shape("the mask of known pixels", known[1], height, width)
        need_index("the known levels", known[0], 2**31)
        if known[1].dtype != torch.bool:
            raise TypeError(f"the mask must be bool, True where a pixel is known; got {known[1].dtype}")
    if context is not None:
        need_shape("context", context, n, "...")
    levels = torch.zeros(n, 1, height, width, dtype=torch.int64, device=uniform.device)
    given = () if context is None else (context,)
    cache = net.init_cache(n, height, width, *given) if cached else None
    for row in range(height):
        with torch.inference_mode():  # left before the yield, where the caller goes on
            for column in range(width):  # through known pixels too: a cached pass has to see them
                logits = cache.logits(row, column) if cache else net(levels, *given)[:, :, row, column]
                if known is not None and known[1][row, column]:
                    new = known[0][:, 0, row, column]
                    need_index("the known levels", new, logits.shape[1])
                else:
                    new = draw(logits, uniform[:, row, column], temperature=temperature)
                levels[:, 0, row, column] = new
                if cache:
                    cache.append(new, row, column)
        yield levels.clone()
