"""How layers begin."""

from __future__ import annotations

import math
from typing import TypeVar

from torch import nn

Layer = TypeVar("Layer", nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


def he_init(layer: Layer, gain: float = 2.0) -> Layer:
    """Weights of variance gain / fan-in and no biases at the start; returns the layer.

    Fan-in is how many inputs one output sums: for a transposed convolution the window is shared by stride^2 outputs.
    With gain 2 behind a ReLU and 1 elsewhere every layer puts out variance 1. He et al. 2015, eq. 10.
    """
    fan_in = layer.weight[0].numel()
    if isinstance(layer, nn.ConvTranspose2d):
        fan_in = layer.in_channels * math.prod(layer.kernel_size) // math.prod(layer.stride)
    nn.init.normal_(layer.weight, std=(gain / fan_in) ** 0.5)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


def zero_init(layer: Layer) -> Layer:
    """The layer with weights and biases of 0, whose branch so begins as nothing."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer
