"""Drawing by inversion, by value at the ends of the cells."""

from __future__ import annotations

import pytest
import torch

from minigen.samplers.autoregressive import draw


def test_a_number_at_the_end_of_a_cell_belongs_to_the_next() -> None:
    logits = torch.zeros(7, 4)  # cells [0, 1/4), [1/4, 1/2), ...: exact in binary
    uniform = torch.tensor([0.0, 0.2499, 0.25, 0.4999, 0.5, 0.75, 0.9999])
    assert draw(logits, uniform).tolist() == [0, 0, 1, 1, 2, 3, 3]


def test_a_level_of_no_probability_is_never_drawn() -> None:
    logits = torch.tensor([[-torch.inf, 0.0, -torch.inf, 0.0, -torch.inf]]).expand(3, 5)
    assert draw(logits, torch.tensor([0.0, 0.5, 0.9999])).tolist() == [1, 3, 3]


def test_logits_are_divided_by_the_temperature() -> None:
    logits = torch.tensor([[0.0, 2.0]]).log_softmax(1).expand(2, 2)
    share = torch.softmax(torch.tensor([0.0, 4.0]), 0)[0].item()  # at temperature 1/2
    assert draw(logits, torch.tensor([share - 1e-3, share + 1e-3]), temperature=0.5).tolist() == [0, 1]


def test_the_last_level_takes_what_rounding_leaves() -> None:
    logits = torch.randn(500, 1000)  # whose cumulated probabilities end a little above or below 1
    assert draw(logits, torch.full((500,), 1 - 2.0**-24)).max() <= 999


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_logits_in_half_precision_are_drawn_as_exactly_as_others(dtype: torch.dtype) -> None:
    """Probabilities that are cumulated in half precision miss levels: their sum moves in steps of 1/256 or 1/2048."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 3000, generator=generator).to(dtype).expand(4000, -1)
    uniform = torch.rand(4000, generator=generator)
    assert torch.equal(draw(logits, uniform), draw(logits.float(), uniform))
