"""What a network over images sees: which pixels of its input move which pixels of its output (chapter 10)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


def positive(net: nn.Module) -> nn.Module:
    """The network with the absolute value of every parameter, in place: no path to cancel, no rectifier off."""
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.abs_()
    return net


def field_of_view(net: Callable[[Tensor], Tensor], first: nn.Module, given: Tensor) -> Tensor:
    """Whether the input at pixel j moves the output at pixel i, (H W, H W) with rows i: where the derivative is not 0.

    net: from levels (1, 1, H, W) to logits (1, K, H, W). Levels have no derivative, so `given`, (1, C, H, W), stands in
    for the tensors that `first`, the module that reads the image, is called with; the logits of each level are asked
    for themselves. In float64 a zero is one of the network's structure, of a rectifier that is off, or of paths of
    opposite signs that cancel: `positive` weights leave the first kind alone.
    """

    def outputs(features: Tensor) -> Tensor:
        def replace(_: nn.Module, before: tuple[Any, ...]) -> tuple[Any, ...]:
            return tuple(features if isinstance(part, Tensor) else part for part in before)

        hook = first.register_forward_pre_hook(replace)
        try:
            return net(torch.zeros(1, 1, *given.shape[2:], dtype=torch.int64))[0]  # (K, H, W)
        finally:
            hook.remove()

    jacobian: Tensor = torch.autograd.functional.jacobian(outputs, given, vectorize=True)  # type: ignore[no-untyped-call]
    moved = jacobian.abs().sum((0, 3, 4)) > 0  # (H, W, H, W), from (K, H, W, 1, C, H, W)
    return moved.flatten(2).flatten(0, 1)
