"""One thread for chapters on a CPU, unless the user chose."""

from __future__ import annotations

import pytest
import torch

from minigen import book
from minigen.train.devices import one_thread_unless_chosen


def test_one_thread_unless_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("MINIGEN_FULL", raising=False)
    torch.set_num_threads(2)
    assert one_thread_unless_chosen()
    assert torch.get_num_threads() == 1
    torch.set_num_threads(2)
    book.setup()
    assert torch.get_num_threads() == 1
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        torch.set_num_threads(2)
        with monkeypatch.context() as inner:
            inner.setenv(name, "2")
            assert not one_thread_unless_chosen()
            book.setup()
        assert torch.get_num_threads() == 2
    book.setup(full=True)
    assert torch.get_num_threads() == 2  # full scale has the machine to itself
