"""Power iteration and spectral normalisation against the singular value decomposition."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from minigen.nets.mlp import MLPDiscriminator
from minigen.nets.spectral import lipschitz_bound, power_iteration, spectrally_normalised


def test_power_iteration_finds_the_largest_singular_value_from_below() -> None:
    torch.manual_seed(0)
    for shape in ((5, 3), (3, 5), (8, 8)):
        matrix, v = torch.randn(shape).double(), torch.randn(shape[1]).double()
        true = torch.linalg.svdvals(matrix)[0]
        estimates = [power_iteration(matrix, v, steps=n)[0].item() for n in (0, 1, 2, 5, 500)]
        assert estimates == sorted(estimates)
        assert estimates[-1] == pytest.approx(true.item(), rel=1e-9)
        assert estimates[1] < true.item() * (1 + 1e-12)
    value, v = power_iteration(matrix, v, steps=500)
    assert torch.allclose((matrix.T @ (matrix @ v)), value**2 * v, atol=1e-6), "a right singular vector"


def test_wrong_norms_differ_from_it() -> None:
    matrix, v = torch.tensor([[3.0, 1.0], [0.0, 2.0]]).double(), torch.tensor([1.0, 1.0]).double()
    value = power_iteration(matrix, v, steps=100)[0]
    for wrong in (matrix.norm(), matrix.abs().max(), matrix.norm(dim=1).max(), value**2, torch.linalg.det(matrix)):
        assert abs(wrong - value) > 0.05


def test_a_normalised_network_has_slope_1_at_most() -> None:
    torch.manual_seed(0)
    net = spectrally_normalised(MLPDiscriminator((3,), hidden=(16, 16)))
    assert lipschitz_bound(MLPDiscriminator((3,), hidden=(16, 16)).net) != pytest.approx(1.0, abs=0.05)
    for _ in range(100):
        net(torch.randn(4, 3))
    assert lipschitz_bound(net.net).item() == pytest.approx(1.0, abs=1e-3)
    x, y = torch.randn(2, 2000, 3)
    assert ((net(x) - net(y)).abs() / (x - y).norm(dim=1)).max() <= 1.001
    kernel = spectrally_normalised(nn.Conv2d(2, 3, 3)).weight.flatten(1)
    assert torch.linalg.matrix_norm(kernel, ord=2).item() == pytest.approx(1.0, abs=0.05)


def test_the_bound_is_the_product_and_refuses_what_it_does_not_know() -> None:
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    norms = [torch.linalg.svdvals(net[i].weight)[0].item() for i in (0, 2)]
    assert lipschitz_bound(net).item() == pytest.approx(norms[0] * norms[1], rel=1e-5)
    with pytest.raises(TypeError, match="got BatchNorm1d"):
        lipschitz_bound(nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)))
    with pytest.raises(TypeError, match="got LeakyReLU"):
        lipschitz_bound(nn.Sequential(nn.LeakyReLU(2.0)))
    with pytest.raises(ValueError, match=r"v must be \(3,\)"):
        power_iteration(torch.ones(2, 3), torch.ones(2), steps=1)
