"""Averages follow what happens to their network, and do not lose small changes to rounding."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

from games import flat
from minigen.train.ema import EMA


def move(net: nn.Module, by: float) -> None:
    with torch.no_grad():
        for p in net.parameters():
            p.add_(by)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_parameters_are_averaged_in_float32(dtype: torch.dtype) -> None:
    """In bfloat16 1 + 0.001 is 1: an average without masters would never move."""
    net = nn.Linear(1, 1, bias=False).to(dtype)
    nn.init.zeros_(net.weight)
    ema = EMA(net, 0.999)
    ema.update()
    nn.init.ones_(net.weight)
    for _ in range(9_000):
        ema._calls = max(ema._calls, 10_000)  # past the warm-up
        ema.update()
    assert ema.module.weight.dtype == dtype
    assert ema.module.weight.item() == pytest.approx(1 - 0.999**9_000, abs=0.004)
    assert ema.module(torch.ones(1, 1, dtype=dtype)).dtype == dtype


@pytest.mark.parametrize("change", ["double", "bfloat16", "data", "replaced"])
def test_an_average_follows_parameters_that_were_converted_or_replaced(change: str) -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    ema, reference = EMA(net, 0.5), EMA(net, 0.5)
    for e in (ema, reference):
        e.update()
    before = flat(net)
    if change == "data":
        for p in net.parameters():
            p.data = p.data.clone()
    elif change == "replaced":
        net[0].weight = nn.Parameter(net[0].weight.detach().clone())
    else:
        getattr(net, change)()
    move(net, 1.0)
    net[1].running_mean.fill_(3.0)
    ema.update()
    decay = 2 / 11
    expected = before.double() + (1 - decay)
    assert torch.allclose(flat(ema.module).double(), expected, atol=1e-6 if change != "bfloat16" else 2e-2)
    assert {p.dtype for p in ema.module.parameters()} == {p.dtype for p in net.parameters()}
    assert ema.module[1].running_mean.tolist() == [3.0, 3.0]
    ema.module(torch.ones(3, 2, dtype=net[0].weight.dtype))
    assert not any(p.requires_grad for p in ema.module.parameters())


def test_masters_survive_a_conversion_there_and_back() -> None:
    net = nn.Linear(2, 1, bias=False)
    nn.init.constant_(net.weight, 1.0)
    ema = EMA(net, 0.0)
    net.weight.data.add_(1e-4)
    ema.update()
    kept = ema.module.weight.clone()
    net.bfloat16()
    ema._bind()
    net.float()
    ema._bind()
    assert torch.equal(ema.module.weight, kept)


def test_another_structure_is_refused() -> None:
    net = nn.Sequential(nn.Linear(2, 2))
    ema = EMA(net, 0.9)
    net[0].weight = nn.Parameter(torch.ones(3, 2))
    with pytest.raises(ValueError, match=r"shapes \[\(3, 2\), \(2,\)\]; its average was made for \[\(2, 2\), \(2,\)\]"):
        ema.update()


@pytest.mark.parametrize("norm", ["weight_norm", "spectral_norm"])
def test_hooks_that_compute_weights_are_averaged_in_their_own_parameters(norm: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = getattr(nn.utils, norm)(nn.Linear(3, 2))
    net(torch.ones(1, 3))  # leaves a computed weight on the layer
    ema = EMA(net, 0.5)
    ema.update()
    before = flat(net)
    move(net, 1.0)
    net(torch.ones(1, 3))
    ema.update()
    assert torch.allclose(flat(ema.module), before + 9 / 11, atol=1e-6)
    g, v = (getattr(ema.module, f"weight_{part}", None) for part in "gv")
    if norm == "weight_norm":
        expected = torch.ones(1, 3) @ (v * g / v.norm(dim=1, keepdim=True)).T + ema.module.bias
        assert torch.allclose(ema.module(torch.ones(1, 3)), expected, atol=1e-6)


def test_frozen_calls_do_not_count_and_the_state_resumes() -> None:
    net = nn.Linear(2, 1).bfloat16()
    ema = EMA(net, 0.9)
    ema.update()
    for _ in range(5):
        ema.update(frozen=torch.tensor(1.0))
    assert ema.updates == 1
    move(net, 1.0)
    other = EMA(nn.Linear(2, 1).bfloat16(), 0.9)
    other.source = net
    other._bind()
    other.load_state_dict(ema.state_dict())
    for e in (ema, other):
        e.update()
    assert ema.updates == other.updates == 2
    assert torch.equal(ema._masters[0], other._masters[0])
