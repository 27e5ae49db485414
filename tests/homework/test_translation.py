"""The contracts of chapters 06 and 07 against loops, the Jacobian of a network, and the definitions of the papers."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from minigen.homework import CONTRACTS


def test_the_loss_of_pix2pix_by_loops() -> None:
    for case in CONTRACTS["paired.generator_loss"].inputs():
        logits, answer, target, weight = case.arguments
        game = sum(math.log1p(math.exp(-v)) if v > -30 else -v for v in logits.flatten().tolist()) / logits.numel()
        error = sum(abs(a - t) for a, t in zip(answer.flatten().tolist(), target.flatten().tolist(), strict=True))
        got = CONTRACTS["paired.generator_loss"].reference(*case.arguments).item()
        assert got == pytest.approx(game + weight * error / len(answer), rel=1e-5)


def test_the_receptive_field_by_what_moves_an_output() -> None:
    for case in CONTRACTS["paired.receptive_field"].inputs():
        kernels, strides = case.arguments
        net = nn.Sequential(*(nn.Conv1d(1, 1, k, s) for k, s in zip(kernels, strides, strict=True)))
        x = torch.randn(1, 1, 160, requires_grad=True)
        (slope,) = torch.autograd.grad(net(x)[0, 0, 1], x)
        seen = slope[0, 0].nonzero().flatten()
        assert CONTRACTS["paired.receptive_field"].reference(kernels, strides) == int(seen.max() - seen.min()) + 1


@pytest.mark.parametrize("name", ["cycle_error", "identity_error"])
def test_the_errors_of_the_cycle_image_by_image(name) -> None:
    contract = CONTRACTS[f"cycle.{name}"]
    for case in contract.inputs():
        a, b, to_a, to_b = case.arguments
        total = 0.0
        with torch.no_grad():
            for own, back, there in ((a, to_a, to_b), (b, to_b, to_a)):
                for image in own:
                    made = back(there(image[None])) if name == "cycle_error" else back(image[None])
                    total += (made[0] - image).abs().sum().item() / len(own)
            assert contract.reference(*case.arguments).item() == pytest.approx(total, rel=1e-5)
