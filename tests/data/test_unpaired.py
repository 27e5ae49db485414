"""Two sources that know nothing of each other: independent orders, resumed exactly, never paired by accident."""

from __future__ import annotations

import pytest
import torch

from minigen.data import Batches, Stream, Unpaired


def sources(*, seed: int = 1, length: int = 9) -> Unpaired:
    a, b = torch.arange(6.0)[:, None], 100 + torch.arange(float(length))[:, None]
    return Unpaired(Batches(a, batch_size=3, seed=0), Batches(b, batch_size=3, seed=seed))


def test_each_source_goes_through_its_own_images_in_its_own_order() -> None:
    batches = sources()
    drawn = [next(batches) for _ in range(6)]
    first = torch.cat([a for a, _ in drawn[:2]]).flatten().sort().values
    second = torch.cat([b for _, b in drawn[:3]]).flatten().sort().values
    assert first.tolist() == list(range(6))
    assert second.tolist() == list(range(100, 109))


def test_rows_are_independent() -> None:
    batches = sources(length=6)
    meets = torch.zeros(6, 6)
    for _ in range(2000):
        a, b = next(batches)
        meets[a.flatten().long(), (b.flatten() - 100).long()] += 1
    share = meets / meets.sum()
    assert (share - 1 / 36).abs().max() < 0.006


def test_it_goes_on_where_it_stood() -> None:
    whole = sources()
    all_of = [next(whole) for _ in range(7)]
    part = sources()
    for _ in range(4):
        next(part)
    again = sources()
    again.load_state_dict(part.state_dict())
    for want in all_of[4:]:
        assert all(torch.equal(x, y) for x, y in zip(next(again), want, strict=True))


def test_streams_of_worlds_serve_as_well() -> None:
    def draw(n: int, /, *, generator: torch.Generator) -> torch.Tensor:
        return torch.randn(n, 2, generator=generator)

    a, b = next(Unpaired(Stream(draw, batch_size=4, seed=0), Stream(draw, batch_size=4, seed=1)))
    assert not torch.equal(a, b)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: sources(seed=0, length=6), ValueError, "different seeds"),
        (lambda: Unpaired(*[Batches(torch.zeros(4, 1), batch_size=2)] * 2), ValueError, "different seeds"),
        (lambda: Unpaired([torch.zeros(1)], Batches(torch.zeros(4, 1), batch_size=2)), TypeError, "a must be"),  # type: ignore[arg-type]
        (
            lambda: Unpaired(
                Batches(torch.zeros(4, 1), batch_size=2), Batches(torch.zeros(4, 1), batch_size=3, seed=1)
            ),
            ValueError,
            "one size",
        ),
        (lambda: sources().load_state_dict({"epoch": 0}), ValueError, "no Unpaired"),
    ],
)
def test_bad_input_is_refused(make, error, message) -> None:
    with pytest.raises(error, match=message):
        make()
