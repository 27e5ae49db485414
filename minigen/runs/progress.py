"""What a training says of itself while it runs."""

from __future__ import annotations

import shutil
import time
from typing import TextIO

from minigen.train.loop import Step


class Progress:
    """Step, losses, samples a second and time left: one line redrawn on a screen, a line now and then in a pipe.

    Logs are read (which waits for the device) only when a line is written: every half second, or every ten. A stream
    that is gone, as that of a lost terminal, ends the lines and not the training.
    """

    def __init__(self, start: int, total: int, batch_size: int, stream: TextIO) -> None:
        self.total, self.batch_size, self.stream = total, batch_size, stream
        self.screen = stream.isatty()
        self.gap = 0.5 if self.screen else 10.0
        self.n, self.time = start, time.monotonic()
        self.lost = False

    def update(self, step: Step) -> None:
        """Write a line, if it is time for one."""
        passed = time.monotonic() - self.time
        if self.lost or (passed < self.gap and step.n < self.total):
            return
        losses = {name.removesuffix("/loss"): v for name, v in step.read().items() if name.endswith("/loss")}
        now = time.monotonic()  # after the read, which waited for all steps so far
        rate = (step.n - self.n) / max(now - self.time, 1e-9)
        left = (self.total - step.n) / rate
        self.n, self.time = step.n, now
        parts = [f"{step.n:,}/{self.total:,}", *(f"{name} {value:.3f}" for name, value in losses.items())]
        line = "  ".join([*parts, f"{rate * self.batch_size:,.0f} samples/s", f"{duration(left)} left"])
        if self.screen:
            width = shutil.get_terminal_size().columns - 1
            self._write("\r" + line[:width].ljust(width))
        else:
            self._write(line + "\n")

    def close(self) -> None:
        """End the line on a screen."""
        if self.screen and not self.lost:
            self._write("\n")

    def _write(self, text: str) -> None:
        try:
            self.stream.write(text)
            self.stream.flush()
        except OSError:
            self.lost = True


def duration(seconds: float) -> str:
    """Seconds as words: "2 h 01 min", "1 min 00 s", "59 s"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
