"""Training into a folder: checkpoints, log, picture and figures, interrupted and resumed without a trace.

recipe.json says what was asked for, run.pt is the whole state, log.jsonl has the logs, result.json the figures.
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor

import minigen
from minigen.recipes import RECIPES, Recipe
from minigen.runs.files import strict, write, write_json
from minigen.runs.judge import judge
from minigen.runs.lock import locked
from minigen.runs.progress import Progress
from minigen.show.films import png
from minigen.train.loop import Run
from minigen.train.precision import PRECISIONS

SAMPLE_SEED = 1
PICTURE_SECONDS = 20.0  # at most one picture in so many seconds of training, and in ten times what drawing it takes
SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


@dataclass(frozen=True)
class Settings:
    """What decides the result of a training run, besides the recipe; `recipe.json` keeps it.

    path: of a reader's own images, for a recipe that learns from these.
    """

    steps: int
    seed: int
    device: str
    precision: str
    path: str | None = None

    def given(self) -> dict[str, Any]:
        """All that were given, by name."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def __post_init__(self) -> None:
        numbers = all(type(n) is int for n in (self.steps, self.seed))
        if not numbers or self.steps < 1 or not 0 <= self.seed < 2**32:
            raise ValueError(f"steps must be 1 or more and the seed in 0..2^32 - 1, whole numbers; got {asdict(self)}")
        if self.device not in ("cpu", "cuda", "mps"):
            raise ValueError(f"device must be cpu, cuda or mps; got {self.device!r}")
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}; got {self.precision!r}")


@dataclass(frozen=True)
class Loaded:
    """A training run from a folder: `run.ema["generator"]`, `recipe.draw(run, 64, seed=1)`..."""

    recipe: Recipe
    settings: Settings
    run: Run


def rank() -> int:
    """This process's number under torchrun, known before it joins the others."""
    return int(os.environ.get("RANK", 0))


def read(folder: str | os.PathLike[str]) -> tuple[Recipe, Settings]:
    """The recipe and the settings of the run in a folder.

    Raises FileNotFoundError where no run was started there, ValueError for a file that this version cannot read.
    """
    path = Path(folder) / "recipe.json"
    if not path.is_file():
        raise FileNotFoundError(f"no run in {folder}: there is no {path.name}; expected a folder that `train` wrote")
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        recipe = RECIPES[stored["family"], stored["data"]]
        settings = Settings(**stored["settings"])
        return recipe.at(settings.path) if recipe.at and settings.path else recipe, settings
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(f"{path} is not readable by this version of minigen ({error!r}); train anew") from error


def load(folder: str | os.PathLike[str], *, device: torch.device | str = "cpu") -> Loaded:
    """The run that `python -m minigen train` keeps in a folder, rebuilt from recipe.json and run.pt (weights_only).

    On the kind of device that it was trained on, the run goes on bit-exactly, as after `Run.load`. On another, it has
    weights, optimisers, averages and step number, but other noise, since generators' states do not move.

    Raises FileNotFoundError or ValueError where there is no run, or none that this version can read.
    """
    recipe, settings = read(folder)
    same = torch.device(device).type == settings.device
    run = recipe.build(
        steps=settings.steps,
        seed=settings.seed,
        device=device,
        precision=settings.precision if same else "fp32",
        fresh=False,
        compile=False,
    )
    path = Path(folder) / "run.pt"
    if not path.is_file():
        raise FileNotFoundError(f"the run in {folder} has no checkpoint yet: there is no {path.name}; train it further")
    with warnings.catch_warnings():
        if not same:  # as the docstring says
            warnings.simplefilter("ignore", RuntimeWarning)
        return Loaded(recipe, settings, restore(run, path, settings))


def restore(run: Run, path: Path, settings: Settings) -> Run:
    """`run.load(path)`, where whatever is wrong with the checkpoint is a ValueError that names the file.

    Also where its step is beyond the steps that the settings name.
    """
    try:
        run.load(path)
    except (KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise ValueError(f"{path} is no readable checkpoint ({error!r}); delete it and train anew") from error
    if type(run.n) is not int or not 0 <= run.n <= settings.steps:
        raise ValueError(
            f"{path} is no readable checkpoint of this run: it is at step {run.n}, and recipe.json says "
            f"{settings.steps} steps in all; delete both and train anew"
        )
    return run


def begin(recipe: Recipe, settings: Settings, folder: Path) -> None:
    """Write recipe.json, or say what has changed since it was written."""
    path, versions = folder / "recipe.json", {"minigen": minigen.__version__, "torch": torch.__version__}
    versions["python"] = platform.python_version()
    if path.exists():
        before = json.loads(path.read_text(encoding="utf-8")).get("versions")
        before = before if isinstance(before, dict) else {}
        if changed := [f"{name} {before.get(name)}, now {v}" for name, v in versions.items() if before.get(name) != v]:
            print(f"started with {'; '.join(changed)}: the result may differ in rounding", file=sys.stderr)
        return
    about = {"family": recipe.family, "data": recipe.task.name, "settings": settings.given(), "versions": versions}
    write_json(path, about)


def fit(run: Run, batches: Iterable[Any], steps: int, every: int, recipe: Recipe, folder: Path) -> int | None:
    """Train to step `steps`, keeping log and checkpoint; returns the signal that stopped it early, if one did.

    Raises FolderInUseError where another process writes into the folder.
    """
    if rank():
        return _fit(run, batches, steps, every, recipe, folder)
    with locked(folder):
        return _fit(run, batches, steps, every, recipe, folder)


def _fit(run: Run, batches: Iterable[Any], steps: int, every: int, recipe: Recipe, folder: Path) -> int | None:
    chief, due = rank() == 0, time.monotonic() + PICTURE_SECONDS
    log = _rows(folder / "log.jsonl", until=run.n)
    progress = Progress(run.n, steps, recipe.batch_size, sys.stderr) if chief else None
    with _signals() as stop:
        for step in run(batches, steps - run.n):
            if progress:
                progress.update(step)
            last = stop.asked()
            if chief and (last or step.n % every == 0 or step.n == steps):
                if step.n % every == 0 or step.n == steps:
                    log.append({"step": step.n, **step.read()})
                # The log first: a resumed run drops what its checkpoint does not know of.
                write(folder / "log.jsonl", "".join(f"{json.dumps(strict(row))}\n" for row in log).encode())
                run.save(folder / "run.pt")
                if not last and step.n < steps and (now := time.monotonic()) > due:
                    _draw(run, recipe, folder)
                    due = time.monotonic() + max(PICTURE_SECONDS, 9 * (time.monotonic() - now))
            if last:
                break
    if progress:
        progress.close()
    return stop.number if stop.number and run.n < steps else None


def _rows(path: Path, *, until: int) -> list[dict[str, Any]]:
    """The lines of a log up to a step. ValueError for a line that is none."""
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines() if path.exists() else [], start=1):
        try:
            row = json.loads(line)
            if row["step"] <= until:
                rows.append(row)
        except (ValueError, LookupError, TypeError) as error:
            raise ValueError(f"{path}, line {number}, is no line of a log: {line[:60]!r}; delete the line") from error
    return rows


def _draw(run: Run, recipe: Recipe, folder: Path) -> Tensor:
    """Draw samples, and a picture of them where matplotlib is installed; returns the samples."""
    samples = recipe.draw(run, recipe.task.count, seed=SAMPLE_SEED)
    if importlib.util.find_spec("matplotlib"):
        write(folder / "samples.png", png(recipe.task.picture(samples), dpi=110))
    return samples


def finish(run: Run, recipe: Recipe, folder: Path) -> dict[str, Any]:
    """Draw the last picture, write result.json, and return what is in it."""
    result = judge(run, recipe, _draw(run, recipe, folder), SAMPLE_SEED)
    write_json(folder / "result.json", result)
    return result


class _Stop:
    """The first signal that asked this process to stop, in `number`; 0 while there was none."""

    def __init__(self) -> None:
        self.number = 0
        self.parent = os.getppid() if "TORCHELASTIC_RUN_ID" in os.environ else None

    def asked(self) -> bool:
        """Whether to stop. Where torchrun was killed, its processes would go on alone: that counts as SIGTERM."""
        if not self.number and self.parent is not None and os.getppid() != self.parent:
            self.number = signal.SIGTERM
        return self.number != 0


@contextmanager
def _signals() -> Iterator[_Stop]:
    """Notes the first SIGINT, SIGTERM or SIGHUP, so that a step is finished and saved before the process ends.

    A second one does what it would have done without this.
    """
    stop, before = _Stop(), dict[int, Any]()

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def catch(number: int, frame: FrameType | None) -> None:
        stop.number = number
        restore()

    if threading.current_thread() is threading.main_thread():  # no other may set a handler
        before |= {number: signal.signal(number, catch) for number in SIGNALS}
    try:
        yield stop
    finally:
        restore()
