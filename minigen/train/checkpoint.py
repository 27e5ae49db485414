"""Checkpoints: written whole or not at all, and read only where every byte is the one that was written.

A file is what `torch.save` writes, a zip archive, whose comment is the SHA-256 of all bytes before it. Tensors, plain
numbers, strings, lists and dicts are all that goes in, so that `torch.load(..., weights_only=True)` reads it.
"""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

FORMAT = 2
MARK = b"minigen sha256 "
COMMENT = len(MARK) + 64
ALONE = (
    "its weights alone can still be used: "
    "objective.load_state_dict(torch.load(path, map_location='cpu', weights_only=True)['objective'])"
)
# Options of optimisers that say how to compute on this device, not what: a run keeps its own.
MANNER = ("fused", "foreach", "capturable", "differentiable")
LIKE_PARAMETERS = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq", "momentum_buffer", "square_avg", "grad_avg", "sum")


def plain(value: Any, where: str = "state") -> Any:
    """The same value of plain types; numpy's numbers become Python's.

    Raises TypeError for what `torch.load(..., weights_only=True)` would not read; `where` names the place.
    """
    if value is None or type(value) in (bool, int, float, str, bytes) or isinstance(value, Tensor):
        return value
    if isinstance(value, np.generic):
        return plain(value.item(), where)
    for kind in (int, float, str):
        if isinstance(value, kind):
            return kind(value)
    if isinstance(value, Mapping):
        pairs = [(plain(key, f"a key of {where}"), plain(part, f"{where}[{key!r}]")) for key, part in value.items()]
        if not isinstance(value, OrderedDict):
            return dict(pairs)
        ordered = OrderedDict(pairs)
        if hasattr(value, "_metadata"):
            ordered._metadata = value._metadata  # type: ignore[attr-defined]  # the versions of a module's parts
        return ordered
    if isinstance(value, tuple | list):
        parts = [plain(part, f"{where}[{i}]") for i, part in enumerate(value)]
        return tuple(parts) if isinstance(value, tuple) else parts
    raise TypeError(
        f"{where} is a {type(value).__module__}.{type(value).__qualname__}, which a checkpoint cannot hold: "
        "expected tensors, numbers, strings, lists, tuples and dicts. Nothing was written"
    )


def write(path: Path, state: dict[str, Any]) -> None:
    """Write a state; a reader sees the old file or the new one, whole, whenever the process dies.

    Raises TypeError for a state that could not be read again and OSError where the disk does not take it; the file that
    was there stays, and no other is left.
    """
    state = {key: plain(value, key) for key, value in state.items()}
    partial = path.with_name(path.name + ".tmp")
    try:
        with open(partial, "wb+") as file:
            torch.save(state, file)
            file.seek(-2, os.SEEK_END)  # an archive ends with the length of its comment
            file.write(COMMENT.to_bytes(2, "little"))
            length = file.tell()
            file.seek(0)
            digest = _digest(file, length)
            file.seek(length)
            file.write(MARK + digest)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if isinstance(error, OSError | RuntimeError):  # torch's writer hides the system's error in a RuntimeError
            kept = "; the checkpoint that was there is unchanged" if path.exists() else ""
            raise OSError(
                f"cannot write the checkpoint {path} ({error}){kept}. Is the disk full, or the folder missing or "
                "write-protected? Make room, or save elsewhere"
            ) from error
        raise


def read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The state that `write` wrote, its tensors on the CPU.

    Raises FileNotFoundError, or ValueError for a file that is damaged, of another format, or no checkpoint at all.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}; expected a file written by Run.save")
    with open(path, "rb") as file:
        length = file.seek(0, os.SEEK_END) - COMMENT
        file.seek(max(length, 0))
        comment = file.read()
        file.seek(0)
        if marked := length > 0 and comment.startswith(MARK):
            whole = _digest(file, length) == comment[len(MARK) :]
            file.seek(0)
            if not whole:
                raise ValueError(
                    f"{path} is no readable checkpoint: its bytes are not those that were written (the SHA-256 "
                    "differs); delete it or load an older one"
                )
        try:
            state: Any = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:
            raise ValueError(f"{path} is no readable checkpoint ({error}); delete it or load an older one") from error
    found = state.get("format") if isinstance(state, dict) else None
    if found == 1 and "objective" in state:
        raise ValueError(
            f"{path} was not written by this version's Run.save: it has format 1, of minigen 0.1, and this is format "
            f"{FORMAT}. Finish that run with minigen 0.1, or start a new one; {ALONE}"
        )
    if found == FORMAT and not marked:
        raise ValueError(f"{path} is no readable checkpoint: its SHA-256 is missing; delete it or load an older one")
    if not isinstance(state, dict) or found != FORMAT:
        raise ValueError(f"{path} was not written by this version's Run.save (format {FORMAT})")
    return state


def _digest(file: BinaryIO, length: int) -> bytes:
    """The SHA-256 of the next `length` bytes, in hexadecimal digits."""
    sha = hashlib.sha256()
    while length > 0 and (block := file.read(min(length, 2**20))):
        sha.update(block)
        length -= len(block)
    return sha.hexdigest().encode()


def check(path: object, state: dict[str, Any], mine: dict[str, Any], optimizers: Mapping[str, Optimizer]) -> None:
    """Raise ValueError unless a state fits a run whose own state is `mine`, in every part."""
    if missing := {"batches", *mine} - state.keys() - {"precision"}:  # which the first of this format did not have
        raise ValueError(f"{path} is no readable checkpoint: it has no {sorted(missing)}; load an older one")
    for part in ("optimizers", "averages"):
        if set(state[part]) != set(mine[part]):
            raise ValueError(f"{path} holds {part} of {sorted(state[part])}; this run has {sorted(mine[part])}")
    check_tensors(path, "objective", state["objective"], mine["objective"])
    for name, optimizer in optimizers.items():
        check_optimizer(path, name, state["kinds"][name], state["optimizers"][name], optimizer)
    for name, own in mine["averages"].items():
        there = state["averages"][name]
        check_tensors(path, f"average of {name}", there["module"], own["module"])
        masters, here = (dict(enumerate(a["masters"])) for a in (there, own))
        check_tensors(path, f"float32 average of {name}", masters, here)
    generators = ["cpu_generator", *(["device_generator"] if state["device"] == mine["device"] else [])]
    check_tensors(path, "generators", {n: state[n] for n in generators}, {n: mine[n] for n in generators})


def check_tensors(path: object, part: str, saved: Mapping[Any, Any], mine: Mapping[Any, Any]) -> None:
    """Raise ValueError unless two state dicts have the same names, and tensors of the same shapes and types."""
    wrong = [f"{name} is missing there" for name in mine if name not in saved]
    wrong += [f"{name} is unknown here" for name in saved if name not in mine]
    for name in mine.keys() & saved.keys():
        here, there = (
            f"{tuple(t.shape)} {t.dtype}" if isinstance(t, Tensor) else "no tensor" for t in (mine[name], saved[name])
        )
        if here != there:
            wrong.append(f"{name} is {there} there and {here} here")
    if wrong:
        raise ValueError(
            f"{path} is of another objective or network ({part}): {'; '.join(sorted(wrong)[:5])}. Nothing was changed; "
            "build the run as it was built when the file was saved"
        )


def check_optimizer(path: object, name: str, kind: str, saved: dict[str, Any], optimizer: Optimizer) -> None:
    """Raise ValueError unless a saved optimiser's state fits `optimizer`: its kind, groups and shapes."""
    where = f"{path}: the optimiser of {name!r}"
    if kind != type(optimizer).__name__:
        raise ValueError(f"{where} is {kind} there and {type(optimizer).__name__} here; nothing was changed")
    there, here = ([len(g["params"]) for g in groups] for groups in (saved["param_groups"], optimizer.param_groups))
    if there != here:
        raise ValueError(f"{where} has groups of {there} parameters there and of {here} here; nothing was changed")
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for index, state in saved["state"].items():
        for key in LIKE_PARAMETERS:
            if isinstance(state.get(key), Tensor) and state[key].shape != parameters[index].shape:
                shapes = f"{tuple(state[key].shape)} there and {tuple(parameters[index].shape)} here"
                raise ValueError(f"{where} has {key} of parameter {index} of shape {shapes}; nothing was changed")


def load_optimizer(saved: dict[str, Any], optimizer: Optimizer) -> None:
    """Give `optimizer` a saved state, in its own manner of computing: fused or not, and so on."""
    groups = [
        {**group, **{key: mine[key] for key in MANNER if key in mine}}
        for group, mine in zip(saved["param_groups"], optimizer.param_groups, strict=True)
    ]
    optimizer.load_state_dict({"state": saved["state"], "param_groups": groups})
