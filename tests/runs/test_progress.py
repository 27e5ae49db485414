"""What a training says of itself, and how often it asks the device for it."""

from __future__ import annotations

import re

import pytest

from minigen.runs import progress as module
from minigen.train.loop import Step


class Screen:
    def __init__(self, *, tty: bool) -> None:
        self.text, self.isatty = "", lambda: tty

    def write(self, text: str) -> None:
        self.text += text

    def flush(self) -> None: ...


@pytest.mark.parametrize(("tty", "lines"), [(True, 20), (False, 1)])
def test_progress_reads_logs_only_when_it_shows_them(monkeypatch, tty: bool, lines: int) -> None:
    """1,000 of 9,000 steps of a batch of 64, 10 ms each: 10 seconds."""
    clock, reads = [0.0], []
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(Step, "read", lambda step: reads.append(step.n) or {"generator/loss": 0.5, "r1": 3.0})
    screen = Screen(tty=tty)
    progress = module.Progress(0, 9_000, 64, screen)
    for n in range(1, 1001):
        clock[0] = n / 100
        progress.update(Step(n, {}))
    assert len(reads) == lines
    last = re.split(r"[\r\n]", screen.text.strip())[-1].strip()
    assert last == "1,000/9,000  generator 0.500  6,400 samples/s  1 min 20 s left"
    assert screen.text.startswith("\r" if tty else "1,000")


def test_durations_read_well() -> None:
    assert [module.duration(s) for s in (0.4, 59.4, 59.6, 3599.6, 7260)] == [
        "0 s", "59 s", "1 min 00 s", "1 h 00 min", "2 h 01 min",
    ]  # fmt: skip


def test_a_stream_that_is_gone_ends_the_lines_alone() -> None:
    class Gone(Screen):
        def write(self, text: str) -> None:
            super().write(text)
            raise OSError(5, "Input/output error")

    screen = Gone(tty=True)
    progress = module.Progress(0, 3, 1, screen)
    progress.gap = 0.0
    for n in (1, 2, 3):
        progress.update(Step(n, {}))
    progress.close()
    assert screen.text.count("\r") == 1
