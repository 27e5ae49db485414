"""The exercise `minimax.discriminator_turn`: loss of a whole turn, with `detach` where it belongs."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from minigen.homework.contract import Contract, gradients
from minigen.homework.contracts.minimax._games import games, through
from minigen.homework.mistakes import CUT, REAL_AND_FAKE_SWAPPED, SIGMOID_TWICE
from minigen.objectives import minimax


def discriminator_turn(discriminator: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
    """The loss that D minimises in its turn, on real and fake (B, ...); no gradient reaches the generator."""
    return minimax.discriminator_loss(discriminator(real), discriminator(fake.detach()))


CONTRACT = Contract(
    discriminator_turn,
    games,
    {
        "missing detach": (
            lambda d, x, g: minimax.discriminator_loss(d(x), d(g)),
            "the value is right, but a gradient reaches the generator, which is not on turn; give D fake.detach()",
        ),
        "the logits detached": (
            lambda d, x, g: minimax.discriminator_loss(d(x), d(g).detach()),
            "detaches D's logits, so that D learns nothing from fakes; detach the samples, before D",
        ),
        "no gradient": (lambda d, x, g: discriminator_turn(d, x, g).detach(), CUT),
        "min and max swapped": (
            through(minimax.value),
            "this is V, which D maximises; in its turn D minimises -V: change the sign",
        ),
        "real and fake swapped": (
            through(lambda r, f: minimax.discriminator_loss(f, r)),
            REAL_AND_FAKE_SWAPPED,
        ),
        "the generator's term": (
            through(lambda r, f: -(logsigmoid(r).mean() + logsigmoid(f).mean())),
            "asks D to call fakes real as well, which is the generator's wish; the second term is log(1 - D(G(z)))",
        ),
        "the mean of the two": (
            through(lambda r, f: minimax.discriminator_loss(r, f) / 2),
            "half of -V: the two expectations are summed, not averaged",
        ),
        "sigmoid twice": (
            through(lambda r, f: minimax.discriminator_loss(torch.sigmoid(r), torch.sigmoid(f))),
            SIGMOID_TWICE,
        ),
        "real samples alone": (
            through(lambda r, f: -logsigmoid(r).mean()),
            "leaves out the fakes, so that D may call everything real; add -E log(1 - D(G(z)))",
        ),
    },
    gradients("discriminator", "fake"),
)
