"""The exercise `elbo.straight_through`: value of the code, gradient of the vector."""

from __future__ import annotations

import torch

from minigen.homework.contract import Contract, Input, gradients
from minigen.objectives import vq


def _vectors() -> list[Input]:
    generator = torch.Generator().manual_seed(0)
    z, quantised = torch.randn(2, 2, 3, 4, generator=generator)
    return [
        Input((torch.tensor([0.5]), torch.tensor([2.0])), "one number"),
        Input((z, quantised), "random vectors"),
        Input((20 * z, quantised), "vectors far from their codes"),
    ]


CONTRACT = Contract(
    vq.straight_through,
    _vectors,
    {
        "codes as they are": (
            lambda z, q: q.clone(),
            "the value is right, but the gradient goes into the codes and none reaches z; add z - z.detach() to"
            " quantised.detach()",
        ),
        "detached": (
            lambda z, q: q.detach(),
            "the value is right, but no gradient reaches z; in z + (quantised - z) the two z cancel: detach the whole"
            " difference",
        ),
        "gradient into the codes as well": (
            lambda z, q: q + z - z.detach(),
            "the gradient goes to z and into the codes as well, which learn from their own term; detach quantised too",
        ),
        "z": (lambda z, q: z + 0 * q, "returns z, so that nothing is quantised; the value is that of quantised"),
        "swapped": (
            lambda z, q: q + (z - q).detach(),
            "z and quantised are swapped: the value is that of quantised, the gradient that of z",
        ),
        "z detached": (
            lambda z, q: z.detach() + (q - z),
            "detaches z where it should not, which turns its gradient round; the difference quantised - z is detached",
        ),
        "twice": (
            lambda z, q: 2 * z + (q - 2 * z).detach(),
            "the gradient that reaches z is doubled; let z enter once outside of detach",
        ),
        "halved": (
            lambda z, q: (z + q) / 2 + ((q - z) / 2).detach(),
            "shares the gradient between z and the codes; all of it goes to z",
        ),
        "turned round": (
            lambda z, q: -z + (q + z).detach(),
            "the gradient of z has the wrong sign; z enters with a plus, and the detached difference takes it off",
        ),
    },
    gradients("z", "quantised"),
)
