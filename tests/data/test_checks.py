"""What a caller gives is refused in words, the same words in all rooms."""

from __future__ import annotations

import pytest
import torch

from minigen.data.checks import need_entry, need_index, need_integer, need_scaled


def test_an_index_is_looked_at_in_its_range() -> None:
    need_entry("classes", torch.tensor([0, 2]), 3)
    need_entry("classes", torch.tensor([], dtype=torch.int64), 3)
    need_entry("classes", torch.tensor([-1, 2]), 3, first=-1)
    for wrong in ([3], [-1, 0]):
        with pytest.raises(ValueError, match=r"classes must be int64 in 0\.\.2"):
            need_entry("classes", torch.tensor(wrong), 3)
    need_scaled("images", torch.zeros(1, dtype=torch.bfloat16))


def test_an_empty_index_has_no_ends_and_is_taken() -> None:
    need_index("labels", torch.tensor([], dtype=torch.int64), 3)
    with pytest.raises(ValueError, match=r"labels must be in 0\.\.2; got -1\.\.3"):
        need_index("labels", torch.tensor([-1, 3]), 3)


def test_an_integer_of_any_type_is_a_plain_int() -> None:
    assert type(need_integer("size", torch.tensor(3), 1)) is int
    with pytest.raises(ValueError, match=r"size must be in 1\.\.2, the most; got 3"):
        need_integer("size", 3, 1, 2, ", the most")
