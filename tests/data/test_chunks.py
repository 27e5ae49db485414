"""A part at a time gives what all at once gives."""

from __future__ import annotations

import pytest
import torch

from minigen.data.chunks import in_chunks


@pytest.mark.parametrize("size", [1, 3, 7, 500])
def test_parts_are_the_whole_in_order(size: int) -> None:
    x, y, rows = torch.randn(7, 2, requires_grad=True), torch.arange(7), []

    def function(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        rows.append(len(a))
        return a.sum(1) * b

    found = in_chunks(function, x, y, size=size)
    torch.testing.assert_close(found, x.detach().sum(1) * y)
    assert not found.requires_grad
    assert max(rows) == min(size, 7)
    assert sum(rows) == 7


def test_what_has_no_common_length_is_refused() -> None:
    for wrong in ((torch.zeros(3), torch.zeros(4)), (torch.zeros(0),), ()):
        with pytest.raises(ValueError, match="one common length, 1 or more"):
            in_chunks(torch.add, *wrong)
    with pytest.raises(ValueError, match="rows of a chunk, 1 or more; got 0"):
        in_chunks(torch.neg, torch.zeros(3), size=0)
