"""Batches, streams and noise: seeded, resumable, sliced by rank."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
import torch

from minigen.data.batches import HELD_OUT_SEED, Batches, Stream, map_tensors
from minigen.data.images import digits
from minigen.train.rng import NOISE_SEED, Rng


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


def test_no_epoch_of_one_seed_is_an_epoch_of_another() -> None:
    """With seed + epoch, the second epoch of seed 0 would be the first of seed 1."""
    epochs = {
        (seed, epoch): tuple(next(batches).tolist())
        for seed in range(4)
        for batches in [Batches(torch.arange(50), batch_size=50, seed=seed)]
        for epoch in range(4)
    }
    assert len(set(epochs.values())) == 16


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
    one = Rng(seed=3)
    ranks = [Rng(seed=3, rank=r, world_size=4) for r in range(4)]
    assert torch.equal(one.normal(8, 5), torch.cat([r.normal(2, 5) for r in ranks]))
    assert torch.equal(one.uniform(8), torch.cat([r.uniform(2) for r in ranks]))
    assert torch.equal(one.integers(7, 8, 2), torch.cat([r.integers(7, 2, 2) for r in ranks]))


def test_noise_has_the_law_it_says() -> None:
    noise = Rng()
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
    with pytest.raises(ValueError, match="batch_size must be at least 1; got 0"):
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
        data, noise = next(Stream(draw, batch_size=200, seed=seed)), Rng(seed=seed)
        which, drawn = noise.integers(1000, 200), noise.normal(200, 100)
        together = torch.stack([(data - data.round()).flatten(), drawn.flatten()])
        assert abs(torch.corrcoef(together)[0, 1].item()) < 0.05
        assert (which == data.mean(1).round().long()).double().mean() < 0.1


def test_held_out_images_are_not_those_of_a_small_seed() -> None:
    held_out = torch.rand(4, generator=torch.Generator().manual_seed(HELD_OUT_SEED))
    for seed in (0, 1, NOISE_SEED, HELD_OUT_SEED % 2**31):
        assert not torch.equal(held_out, torch.rand(4, generator=torch.Generator().manual_seed(seed)))


def test_each_tensor_has_its_own_transform_and_labels_stay_as_they_are() -> None:
    levels, labels = torch.arange(8, dtype=torch.uint8), torch.arange(8)
    halved = next(Batches(levels, labels, labels, batch_size=8, transform=(lambda t: t / 2, None, lambda t: -t)))
    assert [part.dtype for part in halved] == [torch.float32, torch.int64, torch.int64]
    assert torch.equal(halved[0] * 2, halved[1].float())
    assert torch.equal(halved[1], -halved[2])
    one = next(Batches(levels, labels, batch_size=8, transform=lambda t: t / 2))
    assert torch.equal(one[0], halved[0])
    assert torch.equal(one[1], halved[1])
    only_second = next(Batches(levels, labels, batch_size=8, transform=[None, lambda t: -t]))
    assert torch.equal(only_second[0].long(), -only_second[1])
    assert next(Batches(levels, batch_size=8, transform=[lambda t: t / 2])).dtype == torch.float32


def test_any_integer_is_a_seed_and_is_kept_as_a_plain_one() -> None:
    x = torch.arange(50)
    plain = Batches(x, batch_size=50, seed=3)
    for seed in (np.int64(3), np.uint8(3), torch.tensor(3)):
        batches = Batches(x, batch_size=np.int64(50), seed=seed)
        assert batches.state_dict() == plain.state_dict()
        assert {type(value) for value in batches.state_dict().values()} == {int}
        assert torch.equal(next(batches), next(Batches(x, batch_size=50, seed=3)))
    assert len(next(Batches(x, batch_size=50, seed=2**32 - 1))) == 50


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda x: Batches(x, batch_size=2, seed=-1), ValueError, r"seed must be in 0\.\.4294967295.*got -1"),
        (lambda x: Batches(x, batch_size=2, seed=10**23), ValueError, f"32 bits of it; got {10**23}"),
        (lambda x: Batches(x, batch_size=2, seed=0.5), TypeError, "seed must be an integer; got 0.5, a float"),
        (lambda x: Batches(x, batch_size=2, seed="1"), TypeError, "seed must be an integer; got '1', a str"),
        (lambda x: Batches(x, batch_size=2, seed=None), TypeError, "seed must be an integer; got None"),
        (lambda x: Batches(x, batch_size=2.0), TypeError, "batch_size must be an integer; got 2.0"),
        (lambda x: Batches(x, batch_size=-2), ValueError, r"batch_size must be in 1\.\.4.*got -2"),
        (lambda x: Batches(batch_size=2), ValueError, "no tensors given"),
        (lambda x: Batches(x[0], batch_size=1), ValueError, r"tensor 0 must have rows, \(N, ...\); got a single"),
        (lambda x: Batches(x, x.tolist(), batch_size=1), TypeError, "tensor 1 must be a torch.Tensor; got list"),
        (lambda x: Batches(digits("test"), batch_size=1), TypeError, "got Images: give its images and labels"),
        (lambda x: Batches(x, x.to("meta"), batch_size=1), ValueError, "one device; got cpu, meta: give device="),
        (lambda x: Batches(x, batch_size=1, transform=(None, None)), ValueError, "have 1 entries.*got 2"),
        (lambda x: Batches(x, x, batch_size=1, transform=(None,)), ValueError, "have 2 entries.*got 1"),
        (lambda x: Batches(x, batch_size=1, transform="float"), TypeError, "transform must be a function"),
        (lambda x: Batches(x, batch_size=1, transform=[3]), TypeError, r"sequence of these; got \[3\]"),
        (lambda x: Stream(x, batch_size=1), TypeError, "draw must be a function, such as world.sample; got a Tensor"),
        (lambda x: Stream(len, batch_size=1.5), TypeError, "batch_size must be an integer; got 1.5"),
        (lambda x: Stream(len, batch_size=1, seed=-3), ValueError, "seed must be in .*got -3"),
    ],
)
def test_what_cannot_be_drawn_from_is_refused(make, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        make(torch.arange(4))


@pytest.mark.parametrize("change", [{"index": 3}, {"index": -1}, {"index": 0.5}, {"epoch": None}, {"epoch": -1}])
def test_a_position_that_there_is_not_changes_nothing(change) -> None:
    batches = Batches(torch.arange(4), batch_size=2)
    next(batches)
    before = batches.state_dict()
    with pytest.raises((TypeError, ValueError), match=f"the checkpoint's {next(iter(change))} must be"):
        batches.load_state_dict(before | change)
    assert batches.state_dict() == before
