"""The exercise `cycle.cycle_error`: there and back again, from both sides."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from minigen.homework.contract import Contract, Function, Input, gradients
from minigen.homework.mistakes import CUT, SUM_OVER_EVERYTHING
from minigen.objectives import cycle
from minigen.objectives.paired import absolute_error, squared_error


def cycle_error(a: Tensor, b: Tensor, to_a: nn.Module, to_b: nn.Module) -> Tensor:
    """E |to_a(to_b(a)) - a| + E |to_b(to_a(b)) - b| of images (B, C, H, W), summed over each."""
    return cycle.cycle_error(a, b, to_a(to_b(a)), to_b(to_a(b)))


def maps() -> list[Input]:
    """Images of two domains and the two generators: small networks with other weights each."""
    generator = torch.Generator().manual_seed(0)

    def network(channels: int) -> nn.Module:
        with torch.random.fork_rng(devices=()), torch.no_grad():
            layer = nn.Conv2d(channels, channels, 1)
            for parameter in layer.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
        return layer

    few = torch.randn(2, 2, 1, 1, 2, generator=generator)
    more = torch.randn(2, 3, 2, 4, 4, generator=generator)
    return [
        Input((*few, network(1), network(1)), "two images of two pixels in each domain"),
        Input((*more, network(2), network(2)), "three images of two channels in each domain"),
    ]


def _sides(side: Callable[..., Tensor]) -> Function:
    """The sum over both domains of an error of one, side(own, other, to own, to other)."""
    return lambda a, b, to_a, to_b: side(a, b, to_a, to_b) + side(b, a, to_b, to_a)


CONTRACT = Contract(
    cycle_error,
    maps,
    {
        "not back": (
            _sides(lambda x, y, to_x, to_y: absolute_error(to_y(x), x)),
            "compares an image with its translation, which asks the generators to do nothing; go back first",
        ),
        "paired": (
            _sides(lambda x, y, to_x, to_y: absolute_error(to_y(x), y)),
            "compares a translation with the row's image of the other domain, and the rows have nothing to do with it",
        ),
        "identity": (
            _sides(lambda x, y, to_x, to_y: absolute_error(to_x(x), x)),
            "this is the identity error: an image through the generator of its own domain",
        ),
        "one generator twice": (
            _sides(lambda x, y, to_x, to_y: absolute_error(to_y(to_y(x)), x)),
            "goes there twice with one generator; the way back is the other one's",
        ),
        "other end": (
            _sides(lambda x, y, to_x, to_y: absolute_error(to_x(to_y(x)), y)),
            "compares what came back with an image of the other domain; it has to be the image that went",
        ),
        "between translations": (
            lambda a, b, to_a, to_b: 2 * absolute_error(to_b(a), to_a(b)),
            "compares the two translations with each other, which are images of two domains",
        ),
        "one side": (
            lambda a, b, to_a, to_b: absolute_error(to_a(to_b(a)), a),
            "follows the images of a alone; without those of b two images of a may share one translation",
        ),
        "the other side": (
            lambda a, b, to_a, to_b: absolute_error(to_b(to_a(b)), b),
            "follows the images of b alone; those of a have to come back, too",
        ),
        "squares": (
            _sides(lambda x, y, to_x, to_y: squared_error(to_x(to_y(x)), x)),
            "squares the differences; the paper takes their absolute values",
        ),
        "mean over pixels": (
            _sides(lambda x, y, to_x, to_y: (to_x(to_y(x)) - x).abs().mean()),
            "averages over all numbers of an image; in this book an error is their sum",
        ),
        "sum over the batch": (
            _sides(lambda x, y, to_x, to_y: (to_x(to_y(x)) - x).abs().sum()),
            SUM_OVER_EVERYTHING,
        ),
        "half": (
            lambda *given: cycle_error(*given) / 2,
            "takes the mean of both sides; they are added",
        ),
        "the way there cut off": (
            _sides(lambda x, y, to_x, to_y: absolute_error(to_x(to_y(x).detach()), x)),
            "detaches the translation, so that only the generator on the way back learns",
        ),
        "no gradient": (lambda *given: cycle_error(*given).detach(), CUT),
    },
    gradients("to_a", "to_b"),
)
