"""The exercise `cycle.identity_error`: who makes images of a domain leaves those that are there as they are."""

from __future__ import annotations

from torch import Tensor, nn

from minigen.homework.contract import Contract, gradients
from minigen.homework.contracts.cycle.cycle_error import _sides, cycle_error, maps
from minigen.homework.mistakes import CUT, SUM_OVER_EVERYTHING
from minigen.objectives import cycle
from minigen.objectives.paired import absolute_error, squared_error


def identity_error(a: Tensor, b: Tensor, to_a: nn.Module, to_b: nn.Module) -> Tensor:
    """E |to_a(a) - a| + E |to_b(b) - b| of images (B, C, H, W), summed over each."""
    return cycle.identity_error(a, b, to_a(a), to_b(b))


CONTRACT = Contract(
    identity_error,
    maps,
    {
        "domains exchanged": (
            _sides(lambda x, y, to_x, to_y: absolute_error(to_y(x), x)),
            "gives each generator the images that it should change, and asks for none; here to_a takes images of a",
        ),
        "paired": (
            _sides(lambda x, y, to_x, to_y: absolute_error(to_y(x), y)),
            "compares a translation with the row's image of the other domain, to which it does not belong",
        ),
        "wrong target": (
            _sides(lambda x, y, to_x, to_y: absolute_error(to_x(x), y)),
            "compares with the image of the other domain; an image of a through to_a has to stay that image",
        ),
        "cycle": (
            cycle_error,
            "this is the cycle error, there and back; here an image goes through the generator of its own domain",
        ),
        "one domain": (
            lambda a, b, to_a, to_b: absolute_error(to_a(a), a),
            "asks it of to_a alone; both generators leave their own domain as it is",
        ),
        "the other domain": (
            lambda a, b, to_a, to_b: absolute_error(to_b(b), b),
            "asks it of to_b alone; both generators leave their own domain as it is",
        ),
        "squares": (
            _sides(lambda x, y, to_x, to_y: squared_error(to_x(x), x)),
            "squares the differences; the paper takes their absolute values",
        ),
        "mean over pixels": (
            _sides(lambda x, y, to_x, to_y: (to_x(x) - x).abs().mean()),
            "averages over all numbers of an image; in this book an error is their sum",
        ),
        "sum over the batch": (_sides(lambda x, y, to_x, to_y: (to_x(x) - x).abs().sum()), SUM_OVER_EVERYTHING),
        "half": (
            lambda *given: identity_error(*given) / 2,
            "takes the mean of both domains; they are added",
        ),
        "signs cancel": (
            _sides(lambda x, y, to_x, to_y: (to_x(x) - x).flatten(1).sum(1).mean()),
            "adds differences with their signs, so that too bright and too dark cancel; take absolute values first",
        ),
        "no gradient": (lambda *given: identity_error(*given).detach(), CUT),
    },
    gradients("to_a", "to_b"),
)
