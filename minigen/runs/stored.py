"""Checkpoints that come with minigen: weights of a recipe trained for longer than a chapter can, with their hash.

Each is NAME.safetensors and NAME.json in `minigen/checkpoints`: the averaged networks, and those that nobody trains, as
32-bit numbers, or as 16-bit ones where these are too many, and beside them the command that made them, what they reach
as they are stored, their SHA-256 and licence. `python -m minigen export` writes both.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
from pathlib import Path
from typing import Any

import torch
from torch import nn

from minigen.recipes import RECIPES
from minigen.runs.files import make_folder, write, write_json
from minigen.runs.folder import Loaded, Settings
from minigen.runs.judge import judge
from minigen.train.loop import Run

FOLDER = Path(__file__).resolve().parent.parent / "checkpoints"
LIMITS = {"diffusion-emoji": 5_000_000}  # bytes of a file, where more than the usual are needed
LIMIT = 2_500_000  # bytes of any other
WHOLE = 2**19  # bytes up to which weights stay 32-bit numbers
LICENCE = "CC0-1.0"


def export(loaded: Loaded, folder: str | os.PathLike[str], *, seed: int, into_package: bool = False) -> Path:
    """Write the averaged networks of a run and what they reach; returns the path of the .safetensors.

    More than 512 KiB are rounded to 16-bit floats, in the run's averages, too: what is judged is what is stored.
    into_package: allow a folder of minigen itself, such as `FOLDER`, whose checkpoints the book's numbers are of.

    Raises ValueError for such a folder without `into_package`, for a run without averages and for a file that is still
    too large, ImportError without safetensors.
    """
    package, wanted = FOLDER.resolve().parent, Path(folder).resolve()
    if package in (wanted, *wanted.parents) and not into_package:
        raise ValueError(
            f"{folder} belongs to minigen itself, whose checkpoints the book's numbers are of; export into another "
            "folder, or say that these are to be replaced (into_package=True, --into-package)"
        )
    recipe, settings, run = loaded.recipe, loaded.settings, loaded.run
    tensors = {
        f"{part}.{name}": value.detach().cpu().contiguous()
        for part, network in _kept(run).items()
        for name, value in network.state_dict().items()
    }
    if not run.ema:
        raise ValueError(f"{recipe.name} keeps no averaged network: there is nothing to export")
    content: bytes = _safetensors().save(tensors)
    if len(content) > WHOLE:
        tensors = {name: value.half() if value.is_floating_point() else value for name, value in tensors.items()}
        content = _safetensors().save(tensors)
        for part, network in _kept(run).items():
            network.load_state_dict(_of(part, tensors))
    limit = LIMITS.get(f"{recipe.family}-{recipe.task.name}", LIMIT)
    if len(content) > limit:
        raise ValueError(f"{recipe.name} takes {len(content):,} bytes; a stored checkpoint has at most {limit:,}")
    samples = recipe.draw(run, recipe.task.count, seed=seed)
    path = Path(folder) / f"{recipe.family}-{recipe.task.name}.safetensors"
    make_folder(path.parent)
    write(path, content)
    words = [f"--{name} {value}" for name, value in settings.given().items()]
    write_json(
        path.with_suffix(".json"),
        {
            "family": recipe.family,
            "data": recipe.task.name,
            "command": f"python -m minigen train {recipe.name} {' '.join(words)}",
            "settings": settings.given(),
            "sha256": hashlib.sha256(content).hexdigest(),
            "bytes": len(content),
            "licence": getattr(recipe.task, "licence", LICENCE),
            **judge(run, recipe, samples, seed),
        },
    )
    return path


def stored(family: str, data: str, *, folder: str | os.PathLike[str] = FOLDER) -> Loaded:
    """The run of a checkpoint that comes with minigen: its networks and averages hold the stored weights.

    It can draw and be scored; its optimisers are new. Raises FileNotFoundError where there is none, ValueError where
    the file is not the one that was hashed, ImportError without safetensors.
    """
    path = Path(folder) / f"{family}-{data}.safetensors"
    if not path.is_file():
        there = sorted(p.stem.replace("-", " ", 1) for p in Path(folder).glob("*.safetensors"))
        raise FileNotFoundError(f"no checkpoint is stored for {family} {data}; there are: {', '.join(there) or 'none'}")
    content, about = path.read_bytes(), card(family, data, folder=folder)
    if hashlib.sha256(content).hexdigest() != about["sha256"]:
        raise ValueError(f"{path} is not the file that {path.stem}.json describes: its hash differs; install anew")
    recipe, settings = RECIPES[family, data], Settings(**about["settings"])
    run = recipe.build(steps=settings.steps, seed=settings.seed, device="cpu", fresh=False, compile=False)
    tensors: dict[str, torch.Tensor] = _safetensors().load(content)
    for part, network in _kept(run).items():
        weights = _of(part, tensors)
        network.load_state_dict(weights)
        getattr(run.objective, part).load_state_dict(weights)
    run.n = about["step"]
    return Loaded(recipe, settings, run)


def _kept(run: Run) -> dict[str, nn.Module]:
    """What a checkpoint holds: the averaged networks, and those of the objective that nobody trains."""
    frozen = {n: m for n, m in run.objective.named_children() if not any(p.requires_grad for p in m.parameters())}
    return frozen | run.ema


def _of(part: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The part of a checkpoint that belongs to one network, by the names of its weights."""
    return {name.split(".", 1)[1]: t for name, t in tensors.items() if name.split(".", 1)[0] == part}


def card(family: str, data: str, *, folder: str | os.PathLike[str] = FOLDER) -> dict[str, Any]:
    """What is known of a stored checkpoint: command, settings, sha256, licence, figures.

    Raises FileNotFoundError where there is none, ValueError for a file that is no such card.
    """
    path = Path(folder) / f"{family}-{data}.json"
    if not path.is_file():
        raise FileNotFoundError(f"no card is stored for {family} {data}: there is no {path}; install minigen anew")
    try:
        about: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        missing = {"settings", "sha256", "step", "figures"} - set(about)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is not readable ({error}); install minigen anew") from error
    if missing:
        raise ValueError(f"{path} does not say {', '.join(sorted(missing))}; install minigen anew")
    return about


def _safetensors() -> Any:
    try:
        return importlib.import_module("safetensors.torch")
    except ImportError as error:
        raise ImportError("stored checkpoints need safetensors: pip install safetensors") from error
