"""The words that the command line understands, and its help."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch

import minigen
from minigen.cli import commands as run_of
from minigen.cli.commands import recipe_list
from minigen.recipes import RECIPES
from minigen.runs import SAMPLE_SEED

DEVICES = ("cpu", "cuda", "mps")
PRECISIONS = ("fp32", "bf16", "fp16", "auto")

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

Ctrl-C saves and says how to go on, and a second one stops at once; a terminal
that closes saves, too. One process writes into a folder: others are refused.
Under torchrun the processes act as one, and --resume in the first start lets a
restarted worker go on. Small networks compute on one CPU thread, unless
OMP_NUM_THREADS names another number.
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


def parser_and_options() -> tuple[argparse.ArgumentParser, dict[str, list[str]]]:
    """The parser, and the options of each command."""
    raw = argparse.RawDescriptionHelpFormatter
    top = argparse.ArgumentParser(
        "python -m minigen", description=ABOUT, epilog=f"{recipe_list()}\n\n{EXAMPLES}", formatter_class=raw
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

    add = command("train", run_of.train, "train a recipe into a folder, or resume it", TRAIN, recipe_list())
    add("family", metavar="FAMILY", help="how it learns: " + ", ".join(dict.fromkeys(f for f, _ in RECIPES)))
    add("data", metavar="DATA", help="what it learns: " + ", ".join(dict.fromkeys(d for _, d in RECIPES)))
    add(
        "--steps",
        type=_positive,
        metavar="N",
        help="steps of the whole run, which cannot be made longer (default: see below)",
    )
    add("--full", action="store_true", help="as many steps as the book's full scale")
    add("--out", type=_path, metavar="DIR", help="the folder (default: runs/FAMILY-DATA)")
    add("--resume", action="store_true", help="go on with the run in the folder, if there is one")
    add("--data", dest="path", type=_path, metavar="PATH", help="your own images, for the recipes that learn from them")
    add("--every", type=_positive, metavar="N", help="steps between checkpoints (default: 1/50 of all)")
    add("--seed", type=_seed, metavar="S", help="of initial weights, data and noise (default: 0)")
    add("--device", choices=DEVICES, help="where to compute (default: cuda, else mps, else cpu)")
    add("--precision", choices=PRECISIONS, help="all but fp32: autocast (default: fp32)")

    for name, run, brief, about in (
        ("sample", run_of.sample, "draw samples from a trained run", SAMPLE),
        ("evaluate", run_of.evaluate, "judge a trained run", EVALUATE),
    ):
        add = command(name, run, brief, about)
        add("folder", type=_path, metavar="DIR", help="a folder that train wrote")
        if name == "sample":
            add("-n", type=_positive, default=64, metavar="N", help="number of samples (default: 64)")
            add("--out", type=_path, metavar="FILE", help=".png, .pt or .npz (default: DIR/sample-S.png)")
        else:
            add("-n", type=_positive, metavar="N", help="number of samples (default: what the figures are made for)")
            add("--json", type=_path, metavar="FILE", help="write the figures there as well")
        add("--seed", type=_seed, default=SAMPLE_SEED, metavar="S", help=f"of the noise (default: {SAMPLE_SEED})")
        add("--device", choices=DEVICES, help="where to compute (default: cuda, else mps, else cpu)")
    add = command("export", run_of.export, "keep a trained run's networks as a checkpoint", EXPORT)
    add("folder", type=_path, metavar="DIR", help="a folder that train wrote")
    add("--out", type=_path, metavar="DIR", required=True, help="where to")
    add("--into-package", action="store_true", help="allow minigen's own folder, which the book is made from")
    command("list", run_of.list_recipes, "the recipes that there are", "The recipes that there are.")
    return top, commands


def _path(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("must be a path; got an empty text: is the variable set?")
    return text


def _seed(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"must be a whole number from 0 to {2**32 - 1:,}; got {text!r}")
    return int(text)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number, 1 or more; got {text!r}")
    return int(text)
