"""Training into a folder: checkpoints, log, picture and figures, interrupted and resumed without a trace.

All files are written beside and moved into place, so that a reader sees whole files alone.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import platform
import shutil
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

import torch
from torch import Tensor

import minigen
from minigen import metrics
from minigen.player import png
from minigen.recipes.recipe import Recipe, Scored
from minigen.recipes.registry import Settings
from minigen.train import Run, Step

SAMPLE_SEED = 1
PICTURE_SECONDS = 20.0  # at most one picture in so many seconds of training, and in ten times what drawing it takes


def rank() -> int:
    """This process's number under torchrun, known before it joins the others."""
    return int(os.environ.get("RANK", 0))


def begin(recipe: Recipe, settings: Settings, folder: Path) -> None:
    """Write recipe.json, or say what has changed since it was written."""
    path, versions = folder / "recipe.json", {"minigen": minigen.__version__, "torch": torch.__version__}
    versions["python"] = platform.python_version()
    if path.exists():
        before = json.loads(path.read_text(encoding="utf-8")).get("versions", {})
        if changed := [f"{name} {before.get(name)}, now {v}" for name, v in versions.items() if before.get(name) != v]:
            print(f"started with {'; '.join(changed)}: the result may differ in rounding", file=sys.stderr)
        return
    folder.mkdir(parents=True, exist_ok=True)
    write_json(
        path,
        {
            "family": recipe.family,
            "data": recipe.target.name,
            "settings": asdict(settings),
            "versions": versions,
        },
    )


def fit(run: Run, batches: Iterable[Any], steps: int, every: int, recipe: Recipe, folder: Path) -> int | None:
    """Train to step `steps`, keeping log and checkpoint; returns the signal that stopped it early, if one did."""
    chief, due = rank() == 0, time.monotonic() + PICTURE_SECONDS
    log = _rows(folder / "log.jsonl", until=run.n)
    progress = Progress(run.n, steps, recipe.batch_size, sys.stderr) if chief else None
    with _signals() as caught:
        for step in run(batches, steps - run.n):
            if progress:
                progress.update(step)
            stop = bool(caught)
            if chief and (stop or step.n % every == 0 or step.n == steps):
                if step.n % every == 0 or step.n == steps:
                    log.append({"step": step.n, **step.read()})
                # The log first: a resumed run drops what its checkpoint does not know of.
                write(folder / "log.jsonl", "".join(f"{json.dumps(_strict(row))}\n" for row in log).encode())
                run.save(folder / "run.pt")
                if not stop and step.n < steps and (now := time.monotonic()) > due:
                    _draw(run, recipe, folder)
                    due = time.monotonic() + max(PICTURE_SECONDS, 9 * (time.monotonic() - now))
            if stop:
                break
    if progress:
        progress.close()
    return caught[0] if caught and run.n < steps else None


def _rows(path: Path, *, until: int) -> list[dict[str, Any]]:
    """The lines of a log up to a step."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [row for row in map(json.loads, lines) if row["step"] <= until]


def _draw(run: Run, recipe: Recipe, folder: Path) -> Tensor:
    """Draw samples, and a picture of them where matplotlib is installed; returns the samples."""
    samples = recipe.draw(run, recipe.target.count, seed=SAMPLE_SEED)
    if importlib.util.find_spec("matplotlib"):
        write(folder / "samples.png", png(recipe.target.picture(samples), dpi=110))
    return samples


def finish(run: Run, recipe: Recipe, folder: Path) -> dict[str, Any]:
    """Draw the last picture, write result.json, and return what is in it."""
    result = judge(run, recipe, _draw(run, recipe, folder), SAMPLE_SEED)
    write_json(folder / "result.json", result)
    return result


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Collects SIGINT and SIGTERM, so that a step is finished and saved before the process ends."""
    caught: list[int] = []
    before = {
        number: signal.signal(number, lambda number, frame: caught.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Progress:
    """Step, losses, samples a second and time left: one line redrawn on a screen, a line now and then in a pipe.

    Logs are read (which waits for the device) only when a line is written: every half second, or every ten.
    """

    def __init__(self, start: int, total: int, batch_size: int, stream: TextIO) -> None:
        self.total, self.batch_size, self.stream = total, batch_size, stream
        self.screen = stream.isatty()
        self.gap = 0.5 if self.screen else 10.0
        self.n, self.time = start, time.monotonic()

    def update(self, step: Step) -> None:
        """Write a line, if it is time for one."""
        passed = time.monotonic() - self.time
        if passed < self.gap and step.n < self.total:
            return
        losses = {name.removesuffix("/loss"): v for name, v in step.read().items() if name.endswith("/loss")}
        now = time.monotonic()  # after the read, which waited for all steps so far
        rate = (step.n - self.n) / max(now - self.time, 1e-9)
        left = (self.total - step.n) / rate
        self.n, self.time = step.n, now
        parts = [f"{step.n:,}/{self.total:,}", *(f"{name} {value:.3f}" for name, value in losses.items())]
        line = "  ".join([*parts, f"{rate * self.batch_size:,.0f} samples/s", f"{_duration(left)} left"])
        if self.screen:
            width = shutil.get_terminal_size().columns - 1
            self.stream.write("\r" + line[:width].ljust(width))
        else:
            self.stream.write(line + "\n")
        self.stream.flush()

    def close(self) -> None:
        """End the line on a screen."""
        if self.screen:
            self.stream.write("\n")


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def judge(run: Run, recipe: Recipe, samples: Tensor, seed: int) -> dict[str, Any]:
    """The figures of samples that were drawn with `seed`, and what they are of."""
    yardstick, figures = recipe.target.yardstick, recipe.target.evaluate(samples)
    if recipe.log_prob and isinstance(recipe.target, Scored):
        scores = torch.cat([recipe.log_prob(run, x, seed=seed) for x in torch.split(recipe.target.held_out(), 200)])
        figures |= recipe.target.likelihood(metrics.nll(scores))
    if recipe.measure:
        figures |= recipe.measure(run)
    return {
        "recipe": recipe.name,
        "step": run.n,
        "samples": len(samples),
        "seed": seed,
        "figures": {
            name: {"model": measured.model, yardstick: measured.yardstick} for name, measured in figures.items()
        },
    }


def write(path: Path, content: bytes) -> None:
    """Atomic: a reader sees the old file or the new one."""
    partial = path.with_name(path.name + ".tmp")
    partial.write_bytes(content)
    os.replace(partial, path)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write JSON atomically; a number that JSON cannot hold becomes null."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, (json.dumps(_strict(content), indent=1, allow_nan=False) + "\n").encode())


def _strict(value: Any) -> Any:
    """JSON knows no infinity and no NaN: null stands for them."""
    if isinstance(value, dict):
        return {key: _strict(part) for key, part in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
