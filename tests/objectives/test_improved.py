"""Label smoothing and feature matching against other formulations, and their wrong variants."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid

from minigen.objectives import improved, minimax

REAL = torch.tensor([-3.0, -0.5, 0.0, 2.0], dtype=torch.float64)
FAKE = torch.tensor([1.0, -2.0, 0.7, -0.1], dtype=torch.float64)


def test_the_smoothed_loss_is_a_cross_entropy_with_soft_targets_and_wrong_variants_are_not() -> None:
    def expected(r: float) -> float:
        soft = binary_cross_entropy_with_logits(REAL, torch.full((4,), r, dtype=torch.float64))
        return (soft + binary_cross_entropy_with_logits(FAKE, torch.zeros(4).double())).item()

    for r in (0.9, 0.6, 1.0):
        assert improved.smoothed_discriminator_loss(REAL, FAKE, real=r).item() == pytest.approx(expected(r), abs=1e-12)
    for wrong in (
        0.9 * minimax.discriminator_loss(REAL, FAKE),  # the whole loss weighted
        -(0.9 * logsigmoid(REAL) + logsigmoid(-FAKE)).mean(),  # the rest of the target lost
        -(logsigmoid(REAL) + 0.9 * logsigmoid(-FAKE)).mean(),  # the fakes smoothed
        -(0.9 * logsigmoid(REAL) + 0.1 * logsigmoid(-REAL) + 0.9 * logsigmoid(-FAKE) + 0.1 * logsigmoid(FAKE)).mean(),
    ):
        assert abs(wrong.item() - expected(0.9)) > 1e-3
    with pytest.raises(ValueError, match="target of real samples"):
        improved.smoothed_discriminator_loss(REAL, FAKE, real=1.1)


def test_the_smoothed_optimum_is_where_the_loss_has_no_slope() -> None:
    p, q = torch.tensor([0.3, 0.02, 0.7]).double(), torch.tensor([0.1, 0.5, 0.7]).double()
    for r, f in ((0.9, 0.0), (0.9, 0.2), (1.0, 0.0)):
        d = improved.smoothed_optimum(p.log(), q.log(), real=r, fake=f)
        assert torch.allclose(d, (r * p + f * q) / (p + q), atol=1e-12)
        logit = torch.logit(d).requires_grad_()
        soft = [t * logsigmoid(logit) + (1 - t) * logsigmoid(-logit) for t in (r, f)]
        (slope,) = torch.autograd.grad((p * soft[0] + q * soft[1]).sum(), logit)
        assert slope.abs().max() < 1e-12
    assert torch.isfinite(improved.smoothed_optimum(torch.tensor([-900.0]), torch.tensor([-1000.0]))).all()


def test_feature_matching_by_hand_and_wrong_variants() -> None:
    real, fake = torch.tensor([[1.0, 2.0], [3.0, 6.0]]), torch.tensor([[0.0, 1.0], [2.0, 1.0], [4.0, 1.0]])
    assert improved.feature_matching_loss(real, fake).item() == pytest.approx((2 - 2) ** 2 + (4 - 1) ** 2)
    pairs = fake[:2]
    for wrong in ((real - pairs).square().sum(1).mean(), (real.mean() - fake.mean()).square(), torch.tensor(9.0 / 2)):
        assert abs(wrong.item() - 9.0) > 0.1
    assert improved.feature_matching_loss(real, real.flip(0)).item() == 0
