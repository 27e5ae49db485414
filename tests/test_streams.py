"""Batches, streams and noise: seeded, resumable, sliced by rank."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch

from minigen.streams import HELD_OUT_SEED, NOISE_SEED, Batches, Noise, Stream, map_tensors


def test_an_epoch_is_a_permutation_and_epochs_differ() -> None:
    batches = Batches(torch.arange(10), batch_size=5)
    first, second = (torch.cat([next(batches), next(batches)]) for _ in range(2))
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(10))
    assert not torch.equal(first, second)
    assert len(batches) == 2


def test_rows_of_several_tensors_stay_together_and_the_last_partial_batch_is_dropped() -> None:
    x = torch.arange(11)
    batches = Batches(x, x * 10, batch_size=4, transform=lambda t: t + 1)
    for _ in range(7):
        a, b = next(batches)
        assert len(a) == 4
        assert torch.equal((a - 1) * 10, b)


def test_same_seed_same_order_other_seed_other_order() -> None:
    def order(seed: int) -> list[int]:
        return next(Batches(torch.arange(100), batch_size=100, seed=seed)).tolist()

    assert order(1) == order(1)
    assert order(1) != order(2)


@pytest.mark.parametrize("taken", [0, 1, 2, 3, 7])
def test_position_resumes_in_the_middle_of_an_epoch(taken: int) -> None:
    def fresh() -> Batches:
        return Batches(torch.arange(12), batch_size=4, seed=2)

    reference, other = fresh(), fresh()
    for _ in range(taken):
        next(reference)
    other.load_state_dict(reference.state_dict())
    for _ in range(5):
        assert torch.equal(next(reference), next(other))


def test_stream_resumes() -> None:
    def draw(n: int, *, generator: torch.Generator) -> torch.Tensor:
        return torch.randn(n, generator=generator)

    a, b = Stream(draw, batch_size=3, seed=1), Stream(draw, batch_size=3, seed=9)
    next(a)
    b.load_state_dict(a.state_dict())
    assert torch.equal(next(a), next(b))


def test_slices_of_the_ranks_make_the_noise_of_one_process() -> None:
    one = Noise(seed=3)
    ranks = [Noise(seed=3, rank=r, world_size=4) for r in range(4)]
    assert torch.equal(one.normal(8, 5), torch.cat([r.normal(2, 5) for r in ranks]))
    assert torch.equal(one.uniform(8), torch.cat([r.uniform(2) for r in ranks]))
    assert torch.equal(one.integers(7, 8, 2), torch.cat([r.integers(7, 2, 2) for r in ranks]))


def test_noise_has_the_law_it_says() -> None:
    noise = Noise()
    x = noise.normal(20_000, 2)
    assert x.mean().abs() < 0.02
    assert (x.var() - 1).abs() < 0.03
    u = noise.uniform(20_000)
    assert (u.mean() - 0.5).abs() < 0.01
    assert ((u >= 0) & (u < 1)).all()
    assert noise.integers(3, 20_000).unique().tolist() == [0, 1, 2]


def test_map_tensors_keeps_the_structure() -> None:
    class Pair(NamedTuple):
        x: torch.Tensor
        y: torch.Tensor

    one = torch.ones(1)
    out = map_tensors(lambda t: t + 1, {"a": (one, [one]), "b": Pair(one, one), "c": "text"})
    assert out == {"a": (one + 1, [one + 1]), "b": Pair(one + 1, one + 1), "c": "text"}


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ValueError, match=r"one common length; got \[3, 4\]"):
        Batches(torch.ones(3), torch.ones(4), batch_size=1)
    with pytest.raises(ValueError, match=r"batch_size must be in 1\.\.3"):
        Batches(torch.ones(3), batch_size=4)
    with pytest.raises(ValueError, match="batch_size must be 1 or more"):
        Stream(lambda n, *, generator: None, batch_size=0)
    state = Batches(torch.ones(3), batch_size=1).state_dict()
    with pytest.raises(ValueError, match="had size = 3; these have 4"):
        Batches(torch.ones(4), batch_size=1).load_state_dict(state)
    state = Stream(lambda n, *, generator: None, batch_size=1).state_dict()
    with pytest.raises(ValueError, match="batch_size = 1"):
        Stream(lambda n, *, generator: None, batch_size=2).load_state_dict(state)


def test_the_noise_of_a_run_is_not_the_noise_of_its_data() -> None:
    def draw(n: int, /, *, generator: torch.Generator) -> torch.Tensor:
        which = torch.randint(1000, (n,), generator=generator, device=generator.device)
        return which[:, None] + 0.1 * torch.randn(n, 100, generator=generator, device=generator.device)

    for seed in (0, 1, 7):
        data, noise = next(Stream(draw, batch_size=200, seed=seed)), Noise(seed=seed)
        which, drawn = noise.integers(1000, 200), noise.normal(200, 100)
        together = torch.stack([(data - data.round()).flatten(), drawn.flatten()])
        assert abs(torch.corrcoef(together)[0, 1].item()) < 0.05
        assert (which == data.mean(1).round().long()).double().mean() < 0.1


def test_held_out_images_are_not_those_of_a_small_seed() -> None:
    held_out = torch.rand(4, generator=torch.Generator().manual_seed(HELD_OUT_SEED))
    for seed in (0, 1, NOISE_SEED, HELD_OUT_SEED % 2**31):
        assert not torch.equal(held_out, torch.rand(4, generator=torch.Generator().manual_seed(seed)))
