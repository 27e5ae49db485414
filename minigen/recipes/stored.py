"""Checkpoints that come with minigen: weights of a recipe trained for longer than a chapter can, with their hash.

Each is NAME.safetensors and NAME.json in `minigen/checkpoints`: the averaged networks as 32-bit numbers, or as 16-bit
ones where these are too many, and beside them the command that made them, what they reach as they are stored, their
SHA-256 and licence. `python -m minigen export` writes both.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from minigen.recipes.registry import RECIPES, Loaded, Settings
from minigen.recipes.training import judge, write, write_json

FOLDER = Path(__file__).resolve().parent.parent / "checkpoints"
LIMIT = 2 * 2**20  # bytes of one file
WHOLE = 2**19  # bytes up to which weights stay 32-bit numbers
LICENCE = "CC0-1.0"


def export(loaded: Loaded, folder: str | os.PathLike[str] = FOLDER, *, seed: int) -> Path:
    """Write the averaged networks of a run and what they reach; returns the path of the .safetensors.

    More than 512 KiB are rounded to 16-bit floats, in the run's averages, too: what is judged is what is stored. Raises
    ValueError for a run without averages or a file that is still too large, ImportError without safetensors.
    """
    recipe, settings, run = loaded.recipe, loaded.settings, loaded.run
    tensors = {
        f"{player}.{name}": value.detach().cpu().contiguous()
        for player, network in run.average.items()
        for name, value in network.state_dict().items()
    }
    if not tensors:
        raise ValueError(f"{recipe.name} keeps no averaged network: there is nothing to export")
    content: bytes = _safetensors().save(tensors)
    if len(content) > WHOLE:
        tensors = {name: value.half() if value.is_floating_point() else value for name, value in tensors.items()}
        content = _safetensors().save(tensors)
        for player, network in run.average.items():
            network.load_state_dict(_of(player, tensors))
    if len(content) > LIMIT:
        raise ValueError(f"{recipe.name} takes {len(content):,} bytes; a stored checkpoint has at most {LIMIT:,}")
    samples = recipe.draw(run, recipe.target.count, seed=seed)
    path = Path(folder) / f"{recipe.family}-{recipe.target.name}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, content)
    words = [f"--{name} {value}" for name, value in asdict(settings).items()]
    write_json(
        path.with_suffix(".json"),
        {
            "family": recipe.family,
            "data": recipe.target.name,
            "command": f"python -m minigen train {recipe.name} {' '.join(words)}",
            "settings": asdict(settings),
            "sha256": hashlib.sha256(content).hexdigest(),
            "bytes": len(content),
            "licence": LICENCE,
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
    run = recipe.build(steps=settings.steps, seed=settings.seed, device="cpu", compile=False)
    tensors: dict[str, torch.Tensor] = _safetensors().load(content)
    for player, network in run.average.items():
        weights = _of(player, tensors)
        network.load_state_dict(weights)
        getattr(run.objective, player).load_state_dict(weights)
    run.n = about["step"]
    return Loaded(recipe, settings, run)


def _of(player: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The part of a checkpoint that belongs to one player, by the names of its network."""
    return {name.split(".", 1)[1]: t for name, t in tensors.items() if name.split(".", 1)[0] == player}


def card(family: str, data: str, *, folder: str | os.PathLike[str] = FOLDER) -> dict[str, Any]:
    """What is known of a stored checkpoint: command, settings, sha256, licence, figures."""
    about: dict[str, Any] = json.loads((Path(folder) / f"{family}-{data}.json").read_text(encoding="utf-8"))
    return about


def _safetensors() -> Any:
    try:
        return importlib.import_module("safetensors.torch")
    except ImportError as error:
        raise ImportError("stored checkpoints need safetensors: pip install safetensors") from error
