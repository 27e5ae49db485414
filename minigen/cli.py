"""The command line, `python -m minigen train|sample|evaluate`: recipes trained into a folder, resumed, judged."""

from __future__ import annotations

import argparse
import difflib
import importlib.util
import io
import os
import shlex
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import minigen
from minigen import distributed, recipes
from minigen.guard import NonFiniteError
from minigen.player import png
from minigen.recipes import RECIPES, Recipe, Settings, training
from minigen.recipes.training import SAMPLE_SEED
from minigen.train import best_device

DEVICES = ("cpu", "cuda", "mps")


class UsageError(Exception):
    """What the user asked for cannot be done; the message says what can. Exit code 2."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0, 1 for a failure, 2 for a wrong request, 130 after Ctrl-C."""
    parser, commands = _parsers()
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if not words:
            parser.print_help()
            return 0
        if not words[0].startswith("-") and words[0] not in commands:
            raise UsageError(f"there is no command {_did_you_mean(words[0], commands)}")
        given, unknown = parser.parse_known_args(words)
        if unknown:
            word, options = unknown[0].split("=")[0], commands[given.command]
            kind = "option" if word.startswith("-") else "further argument"
            raise UsageError(f"{given.command} takes no {kind} {_did_you_mean(word, options)}")
        code: int = given.run(given)
        return code
    except UsageError as error:
        return _fail(error, 2)
    except (OSError, ImportError, ValueError, NonFiniteError) as error:
        return _fail(error, 1)
    except KeyboardInterrupt:
        return _fail("interrupted", 130)


def _fail(error: object, code: int) -> int:
    if training.rank() == 0:
        print(f"minigen: {error}", file=sys.stderr)
    return code


def _train(given: argparse.Namespace) -> int:
    recipe = _find(given.family, given.data)
    folder = Path(given.out or f"runs/{recipe.family}-{recipe.target.name}")
    settings = _settings(given, recipe, folder)
    every = given.every or max(1, settings.steps // 50)
    sync = distributed.setup(backend="gloo" if settings.device == "cpu" else None)
    device = sync.device if sync else _device(settings.device)
    if device.type != settings.device:
        raise UsageError(f"under torchrun this machine computes on {device.type}, not on {settings.device}")
    run = recipe.build(steps=settings.steps, seed=settings.seed, device=device, precision=settings.precision, sync=sync)
    batches = recipe.batches(seed=settings.seed, device=device)
    checkpoint, chief = folder / "run.pt", training.rank() == 0
    if given.resume and checkpoint.exists():
        run.load(checkpoint)
    elif given.resume and chief:
        print(f"no checkpoint in {folder} yet: starting at step 0", file=sys.stderr)
    if chief:
        training.begin(recipe, settings, folder)
    stopped_by = training.fit(run, batches, settings.steps, every, recipe, folder)
    if stopped_by is None and chief:
        print(_table(training.finish(run, recipe, folder), recipe))
        if not (folder / "samples.png").exists():
            print('no picture: matplotlib is not installed (pip install "minigen[notebook]")', file=sys.stderr)
        print(f"written to {folder}: {', '.join(sorted(path.name for path in folder.iterdir()))}")
    elif chief:
        print(f"stopped at step {run.n:,} of {settings.steps:,}, saved. To go on:\n  {_again(recipe, folder)}")
    distributed.teardown()
    return 0 if stopped_by is None else 128 + stopped_by


def _settings(given: argparse.Namespace, recipe: Recipe, folder: Path) -> Settings:
    """What the command asks for, or what the run to be resumed was started with; an error where they differ."""
    asked = {name: getattr(given, name) for name in ("steps", "seed", "device", "precision")}
    if given.full:
        if given.steps is not None:
            raise UsageError(f"--full stands for --steps {recipe.full_steps}; give one of the two")
        asked["steps"] = recipe.full_steps
    asked = {name: value for name, value in asked.items() if value is not None}
    there = [name for name in ("recipe.json", "run.pt") if (folder / name).exists()]
    if given.resume and there:
        stored_recipe, stored = recipes.read(folder)
        old, new = {"recipe": stored_recipe.name, **asdict(stored)}, {"recipe": recipe.name, **asked}
        if changed := [f"{name} {old[name]}, not {value}" for name, value in new.items() if old[name] != value]:
            raise UsageError(
                f"the run in {folder} was started with {'; '.join(changed)}. A resumed run keeps its settings: leave "
                "these out, or start another run with another --out"
            )
        return stored
    if there and training.rank() == 0:  # the other processes of a torchrun may come when this one has begun to write
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


def _sample(given: argparse.Namespace) -> int:
    loaded = recipes.load(given.folder, device=_device(given.device))
    out = Path(given.out or Path(given.folder) / f"sample-{given.seed}.png")
    if out.suffix not in (".png", ".pt", ".npz"):
        raise UsageError(f"--out must end in .png, .pt or .npz; got {out}")
    samples = loaded.recipe.draw(loaded.run, given.n, seed=given.seed)
    out.parent.mkdir(parents=True, exist_ok=True)
    training.write(out, _encoded(samples, out.suffix, loaded.recipe))
    print(f"{out}: {len(samples):,} samples {tuple(samples.shape)} of {loaded.recipe.name}, step {loaded.run.n:,}")
    return 0


def _encoded(samples: Tensor, suffix: str, recipe: Recipe) -> bytes:
    if suffix == ".png":
        if not importlib.util.find_spec("matplotlib"):
            raise UsageError('a picture needs matplotlib: pip install "minigen[notebook]", or --out FILE.pt')
        return png(recipe.target.picture(samples), dpi=110)
    buffer = io.BytesIO()
    if suffix == ".pt":
        torch.save(samples, buffer)
    else:
        import numpy as np

        np.savez(buffer, samples=samples.numpy())
    return buffer.getvalue()


def _evaluate(given: argparse.Namespace) -> int:
    loaded = recipes.load(given.folder, device=_device(given.device))
    samples = loaded.recipe.draw(loaded.run, given.n or loaded.recipe.target.count, seed=given.seed)
    result = training.judge(loaded.run, loaded.recipe, samples, given.seed)
    if given.json:
        training.write_json(Path(given.json), result)
    print(_table(result, loaded.recipe))
    return 0


def _export(given: argparse.Namespace) -> int:
    loaded = recipes.load(given.folder, device=_device("cpu"))
    path = recipes.export(loaded, given.out or recipes.FOLDER, seed=SAMPLE_SEED)
    print(f"{path}: {path.stat().st_size:,} bytes of {loaded.recipe.name}, step {loaded.run.n:,}")
    return 0


def _table(result: dict[str, Any], recipe: Recipe) -> str:
    def shown(value: float | None) -> str:
        return "-" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:.4g}"

    yardstick = recipe.target.yardstick
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
    wrong = [] if family in families else [f"there is no family {_did_you_mean(family, families)}"]
    wrong += [] if data in names else [f"there is no data set {_did_you_mean(data, names)}"]
    raise UsageError("\n".join(wrong or [f"there is no recipe for {family} on {data}; see python -m minigen list"]))


def _did_you_mean(word: str, known: Iterable[str]) -> str:
    known = list(known)
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"{word!r}; did you mean {near[0]!r}?" if near else f"{word!r}; there are: {', '.join(known)}"


def _device(name: str | None) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("there is no CUDA device here (or torch was installed without CUDA); try --device cpu")
    if name == "mps" and not torch.backends.mps.is_available():
        raise UsageError("there is no MPS device here; try --device cpu")
    return torch.device(name) if name else best_device()


def _list(given: argparse.Namespace) -> int:
    print(_recipes())
    return 0


def _recipes() -> str:
    """What there is, one paragraph a recipe, at most 80 columns wide."""
    lines = ["recipes (FAMILY DATA; default steps and what they reached on one CPU thread):"]
    for recipe in RECIPES.values():
        text = f"{recipe.steps:,} steps: {recipe.reaches}"
        head = f"  {recipe.name:<26}"
        lines += textwrap.wrap(recipe.target.title, 79, initial_indent=head, subsequent_indent=" " * 28)
        lines += textwrap.wrap(text, 79, initial_indent=" " * 28, subsequent_indent=" " * 28)
    return "\n".join(lines)


ABOUT = "The recipes of the book, trained, sampled and judged from the command line."
EXAMPLES = """\
examples:
  python -m minigen train minimax ring            a GAN on eight spots, into
                                                  runs/minimax-ring
  python -m minigen train minimax ring --resume   go on after an interruption
  python -m minigen sample runs/minimax-ring -n 10000 --out samples.npz
  python -m minigen evaluate runs/minimax-ring --json result.json
  torchrun --nproc-per-node 2 -m minigen train minimax ring
                                                  two processes that act as one
"""
TRAIN = """\
Train a recipe into a folder:
  recipe.json   what was asked for, and the versions that ran it
  run.pt        the whole state: the run goes on from it bit-exactly
  log.jsonl     losses and other logs, a line every N steps
  samples.png   samples of the model, or of its average over steps
  result.json   figures of quality, each beside what exact samples or real
                images reach

Ctrl-C saves and says how to go on. Under torchrun the processes act as one, and
--resume in the first start lets a restarted worker go on.
"""
SAMPLE = """\
Draw samples from the run in a folder, and write them as
  .png   a picture
  .pt    a torch tensor (N, C, H, W), or (N, 2) in the plane
  .npz   the same as a NumPy array, named samples
"""
EVALUATE = """\
Judge samples of the run in a folder. Each figure stands beside the yardstick:
what exact samples of a world, or unseen real images, reach at the same size.
"""
EXPORT = """\
Write the averaged networks of the run in a folder, without optimisers, as
  FAMILY-DATA.safetensors   their weights
  FAMILY-DATA.json          the command that made them, hash, licence, figures
"""


def _parsers() -> tuple[argparse.ArgumentParser, dict[str, list[str]]]:
    """The parser, and the options of each command."""
    raw = argparse.RawDescriptionHelpFormatter
    top = argparse.ArgumentParser(
        "python -m minigen", description=ABOUT, epilog=f"{_recipes()}\n\n{EXAMPLES}", formatter_class=raw
    )
    top.add_argument("--version", action="version", version=f"minigen {minigen.__version__}, torch {torch.__version__}")
    subs = top.add_subparsers(dest="command", metavar="COMMAND", title="commands", required=True)
    commands: dict[str, list[str]] = {}

    def command(
        name: str, run: Callable[[argparse.Namespace], int], brief: str, about: str, epilog: str = ""
    ) -> Callable[..., None]:
        parser = subs.add_parser(name, help=brief, description=about, epilog=epilog, formatter_class=raw)
        parser.set_defaults(run=run)
        commands[name] = ["--help"]

        def add(*names: str, **settings: Any) -> None:
            parser.add_argument(*names, **settings)
            commands[name].extend(option for option in names if option.startswith("--"))

        return add

    add = command("train", _train, "train a recipe into a folder, or resume it", TRAIN, _recipes())
    add("family", metavar="FAMILY", help="how it learns: " + ", ".join(dict.fromkeys(f for f, _ in RECIPES)))
    add("data", metavar="DATA", help="what it learns: " + ", ".join(dict.fromkeys(d for _, d in RECIPES)))
    add(
        "--steps",
        type=_positive,
        metavar="N",
        help="steps of the whole run, which cannot be made longer (default: see below)",
    )
    add("--full", action="store_true", help="as many steps as the book's full scale")
    add("--out", metavar="DIR", help="the folder (default: runs/FAMILY-DATA)")
    add("--resume", action="store_true", help="go on with the run in the folder, if there is one")
    add("--every", type=_positive, metavar="N", help="steps between checkpoints (default: 1/50 of all)")
    add("--seed", type=int, metavar="S", help="of initial weights, data and noise (default: 0)")
    add("--device", choices=DEVICES, help="where to compute (default: cuda, else mps, else cpu)")
    add("--precision", choices=("fp32", "bf16"), help="bf16: autocast (default: fp32)")

    for name, run, brief, about in (
        ("sample", _sample, "draw samples from a trained run", SAMPLE),
        ("evaluate", _evaluate, "judge a trained run", EVALUATE),
    ):
        add = command(name, run, brief, about)
        add("folder", metavar="DIR", help="a folder that train wrote")
        if name == "sample":
            add("-n", type=_positive, default=64, metavar="N", help="number of samples (default: 64)")
            add("--out", metavar="FILE", help=".png, .pt or .npz (default: DIR/sample-S.png)")
        else:
            add("-n", type=_positive, metavar="N", help="number of samples (default: what the figures are made for)")
            add("--json", metavar="FILE", help="write the figures there as well")
        add("--seed", type=int, default=SAMPLE_SEED, metavar="S", help=f"of the noise (default: {SAMPLE_SEED})")
        add("--device", choices=DEVICES, help="where to compute (default: cuda, else mps, else cpu)")
    add = command("export", _export, "keep a trained run's networks as a checkpoint", EXPORT)
    add("folder", metavar="DIR", help="a folder that train wrote")
    add("--out", metavar="DIR", help="where to (default: the checkpoints that come with minigen)")
    command("list", _list, "the recipes that there are", "The recipes that there are.")
    return top, commands


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number, 1 or more; got {text!r}")
    return int(text)
