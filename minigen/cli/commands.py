"""What each command of the command line does, and the errors of wrong requests."""

from __future__ import annotations

import argparse
import difflib
import importlib.util
import io
import math
import os
import shlex
import shutil
import sys
import textwrap
from collections.abc import Iterable
from contextlib import nullcontext, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from minigen import runs
from minigen.homework.console import say
from minigen.recipes import RECIPES, Recipe
from minigen.runs import SAMPLE_SEED, Settings
from minigen.runs.files import make_folder, write, write_json
from minigen.show.films import png
from minigen.train import distributed
from minigen.train.devices import best_device, one_thread_unless_chosen
from minigen.train.loop import Run

SMALL = 2_000_000  # parameters up to which one CPU thread is enough


class UsageError(Exception):
    """What the user asked for cannot be done; the message says what can. Exit code 2."""


def train(given: argparse.Namespace) -> int:
    """Train a recipe into a folder, or go on with it; returns the exit code."""
    recipe = _find(given.family, given.data)
    if (given.path is None) != (recipe.at is None) and not given.resume:
        says = "learns from your own images: --data PATH" if recipe.at else "has data of its own: leave out --data"
        raise UsageError(f"{recipe.name} {says}")
    folder = Path(given.out or f"runs/{recipe.family}-{recipe.task.name}")
    with runs.locked(folder) if runs.rank() == 0 else nullcontext():
        return _train_into(folder, recipe, given)


def _train_into(folder: Path, recipe: Recipe, given: argparse.Namespace) -> int:
    settings = _settings(given, recipe, folder)
    if settings.path is not None and recipe.at:
        recipe = recipe.at(settings.path)
    every = given.every or max(1, settings.steps // 50)
    sync = distributed.setup(backend="gloo" if settings.device == "cpu" else None)
    device = sync.device if sync else _device(settings.device)
    if device.type != settings.device:
        raise UsageError(f"under torchrun this machine computes on {device.type}, not on {settings.device}")
    checkpoint, chief = folder / "run.pt", runs.rank() == 0
    fresh = not (given.resume and checkpoint.exists())
    run = recipe.build(
        steps=settings.steps, seed=settings.seed, device=device, fresh=fresh, precision=settings.precision, sync=sync
    )
    _choose_threads(run)
    batches = recipe.batches(seed=settings.seed, device=device)
    if not fresh:
        runs.restore(run, checkpoint, settings)
    elif given.resume and chief:
        print(f"no checkpoint in {folder} yet: starting at step 0", file=sys.stderr)
    if chief:
        runs.begin(recipe, settings, folder)
    stopped_by = runs.fit(run, batches, settings.steps, every, recipe, folder)
    if stopped_by is None and chief:
        say(_table(runs.finish(run, recipe, folder), recipe))
        if not (folder / "samples.png").exists():
            print('no picture: matplotlib is not installed (pip install "minigen[notebook]")', file=sys.stderr)
        names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
        say(f"written to {folder}: {', '.join(names)}")
    elif chief:
        with suppress(OSError):  # the terminal may be gone
            say(f"stopped at step {run.n:,} of {settings.steps:,}, saved. To go on:\n  {_again(recipe, folder)}")
    distributed.teardown()
    return 0 if stopped_by is None else 128 + stopped_by


def _choose_threads(run: Run) -> None:
    """One CPU thread for a small network, which more of them make slower on a busy machine."""
    if run.device.type == "cpu" and sum(p.numel() for p in run.objective.parameters()) < SMALL:
        one_thread_unless_chosen()


def _settings(given: argparse.Namespace, recipe: Recipe, folder: Path) -> Settings:
    """What the command asks for, or what the run to be resumed was started with; an error where they differ."""
    asked = {name: getattr(given, name) for name in ("steps", "seed", "device", "precision", "path")}
    if given.path is not None:
        asked["path"] = str(Path(given.path).expanduser().resolve())
    if given.full:
        if given.steps is not None:
            raise UsageError(f"--full stands for --steps {recipe.full_steps}; give one of the two")
        asked["steps"] = recipe.full_steps
    asked = {name: value for name, value in asked.items() if value is not None}
    there = [name for name in ("recipe.json", "run.pt") if (folder / name).exists()]
    if given.resume and there:
        stored_recipe, stored = runs.read(folder)
        old, new = {"recipe": stored_recipe.name, **asdict(stored)}, {"recipe": recipe.name, **asked}
        if changed := [f"{name} {old[name]}, not {value}" for name, value in new.items() if old[name] != value]:
            raise UsageError(
                f"the run in {folder} was started with {'; '.join(changed)}. A resumed run keeps its settings: leave "
                "these out, or start another run with another --out"
            )
        return stored
    if there and runs.rank() == 0:  # the other processes of a torchrun may come when this one has begun to write
        raise UsageError(
            f"{folder} holds a run already. Go on with it:\n  {_again(recipe, folder)}\n"
            "or keep it and choose another folder with --out, or delete it first"
        )
    best = best_device().type
    device = asked.pop("device", best if best == "cuda" or "LOCAL_RANK" not in os.environ else "cpu")
    return Settings(**{"steps": recipe.steps, "seed": 0, "precision": "fp32", **asked, "device": device})


def _again(recipe: Recipe, folder: Path) -> str:
    python = "python" if shutil.which("python") == sys.executable else shlex.quote(sys.executable)
    return f"{python} -m minigen train {recipe.name} --out {shlex.quote(str(folder))} --resume"


def sample(given: argparse.Namespace) -> int:
    """Draw samples from the run in a folder into a file."""
    loaded = _load(given)
    out = Path(given.out or Path(given.folder) / f"sample-{given.seed}.png")
    if out.suffix not in (".png", ".pt", ".npz"):
        raise UsageError(f"--out must end in .png, .pt or .npz; got {out}")
    samples = loaded.recipe.draw(loaded.run, _affordable(given.n, loaded.recipe), seed=given.seed)
    make_folder(out.parent)
    write(out, _encoded(samples, out.suffix, loaded.recipe))
    say(f"{out}: {len(samples):,} samples {tuple(samples.shape)} of {loaded.recipe.name}, step {loaded.run.n:,}")
    return 0


def _encoded(samples: Tensor, suffix: str, recipe: Recipe) -> bytes:
    if suffix == ".png":
        if not importlib.util.find_spec("matplotlib"):
            raise UsageError('a picture needs matplotlib: pip install "minigen[notebook]", or --out FILE.pt')
        return png(recipe.task.picture(samples), dpi=110)
    buffer = io.BytesIO()
    if suffix == ".pt":
        torch.save(samples, buffer)
    else:
        import numpy as np

        np.savez(buffer, samples=samples.numpy())
    return buffer.getvalue()


def evaluate(given: argparse.Namespace) -> int:
    """Judge the run in a folder, and print its figures."""
    loaded = _load(given)
    count = _affordable(given.n or loaded.recipe.task.count, loaded.recipe)
    samples = loaded.recipe.draw(loaded.run, count, seed=given.seed)
    result = runs.judge(loaded.run, loaded.recipe, samples, given.seed)
    if given.json:
        write_json(Path(given.json), result)
    say(_table(result, loaded.recipe))
    return 0


def export(given: argparse.Namespace) -> int:
    """Keep the networks of the run in a folder as a checkpoint."""
    given.device = "cpu"
    loaded = _load(given)
    path = runs.export(loaded, given.out, seed=SAMPLE_SEED, into_package=given.into_package)
    say(f"{path}: {path.stat().st_size:,} bytes of {loaded.recipe.name}, step {loaded.run.n:,}")
    return 0


def _load(given: argparse.Namespace) -> runs.Loaded:
    loaded = runs.load(given.folder, device=_device(given.device))
    _choose_threads(loaded.run)
    return loaded


def _affordable(n: int, recipe: Recipe) -> int:
    """n, or an error where so many samples, and the noise that they are made from, do not fit into memory."""
    needed, there = 2 * 4 * n * math.prod(recipe.task.shape), _memory()
    if needed > there:
        raise UsageError(
            f"{n:,} samples of {recipe.name} take {needed / 2**30:,.0f} GiB, and this machine has "
            f"{there / 2**30:,.0f}; ask for fewer with -n"
        )
    return n


def _memory() -> int:
    """The machine's memory in bytes; where it does not say, more than any has."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 2**46


def _table(result: dict[str, Any], recipe: Recipe) -> str:
    def shown(value: float | None) -> str:
        return "-" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:.4g}"

    yardstick = recipe.task.yardstick
    head = f"{result['recipe']} at step {result['step']:,}; {result['samples']:,} samples, seed {result['seed']}"
    figures, rows = dict(result["figures"]), [("", "model", yardstick)]
    if images := figures.pop("training_images_of_published", None):
        head += f"\ntrained on {shown(images['model'])} of the {shown(images[yardstick])} images that were published"
    rows += [(n.replace("_", " "), shown(v["model"]), shown(v[yardstick])) for n, v in figures.items()]
    return "\n".join([head, *(f"  {name:<32}{model:>10}{exact:>10}" for name, model, exact in rows)])


def _find(family: str, data: str) -> Recipe:
    """The recipe, or an error that suggests the near one."""
    if (family, data) in RECIPES:
        return RECIPES[family, data]
    families = list(dict.fromkeys(family for family, _ in RECIPES))
    names = list(dict.fromkeys(name for _, name in RECIPES))
    wrong = [] if family in families else [f"there is no family {did_you_mean(family, families)}"]
    wrong += [] if data in names else [f"there is no data set {did_you_mean(data, names)}"]
    raise UsageError("\n".join(wrong or [f"there is no recipe for {family} on {data}; see python -m minigen list"]))


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A wrong word beside the near one that there is, or beside all that there are."""
    known = list(known)
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"{word!r}; did you mean {near[0]!r}?" if near else f"{word!r}; there are: {', '.join(known)}"


def _device(name: str | None) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("there is no CUDA device here (or torch was installed without CUDA); try --device cpu")
    if name == "mps" and not torch.backends.mps.is_available():
        raise UsageError("there is no MPS device here; try --device cpu")
    return torch.device(name) if name else best_device()


def list_recipes(given: argparse.Namespace) -> int:
    """Print the recipes that there are."""
    say(recipe_list())
    return 0


def recipe_list() -> str:
    """What there is, one paragraph a recipe, at most 80 columns wide."""
    lines = ["recipes (FAMILY DATA; default steps and what they reached on one CPU thread):"]
    for recipe in RECIPES.values():
        text = f"{recipe.steps:,} steps: {recipe.reaches}"
        head = f"  {recipe.name:<26}"
        lines += textwrap.wrap(recipe.task.title, 79, initial_indent=head, subsequent_indent=" " * 28)
        lines += textwrap.wrap(text, 79, initial_indent=" " * 28, subsequent_indent=" " * 28)
    return "\n".join(lines)
