"""The exercise `minimax.generator_turn`: loss of the other turn, with its gradient."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from minigen.homework.contract import Contract, Input, gradients
from minigen.homework.contracts.minimax._games import games, sigmoid_log, through
from minigen.homework.mistakes import SIGMOID_OVERFLOWS, SIGMOID_TWICE, SUM
from minigen.objectives import minimax


def _fakes() -> list[Input]:
    return [Input((case.arguments[0], case.arguments[2]), case.description) for case in games()]


def generator_turn(discriminator: nn.Module, fake: Tensor) -> Tensor:
    """The non-saturating loss that G minimises in its turn; its gradient passes through D to the fakes (B, ...)."""
    return minimax.non_saturating_loss(discriminator(fake))


CONTRACT = Contract(
    generator_turn,
    _fakes,
    {
        "detached": (
            lambda d, g: generator_turn(d, g).detach(),
            "no gradient reaches the fakes, so that the generator cannot learn; detach belongs in D's turn alone",
        ),
        "saturating": (
            through(minimax.saturating_loss),
            "this is the saturating loss, E log(1 - D), whose gradient vanishes where D knows the fakes; use -E log D",
        ),
        "min and max swapped": (
            through(lambda f: -minimax.saturating_loss(f)),
            "this is D's own term: minimising it makes the fakes easier to recognise; use -E log D",
        ),
        "sign": (
            through(lambda f: -minimax.non_saturating_loss(f)),
            "this is E log D, which G maximises; a loss is minimised: change the sign",
        ),
        "sum": (through(lambda f: -logsigmoid(f).sum()), SUM),
        "sigmoid twice": (through(lambda f: minimax.non_saturating_loss(torch.sigmoid(f))), SIGMOID_TWICE),
        "overflow": (through(lambda f: -sigmoid_log(f).mean()), SIGMOID_OVERFLOWS),
    },
    gradients("fake"),
)
