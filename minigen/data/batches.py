"""Where a run's batches and noise come from: on the device, seeded, resumable, sliced by rank.

Each of the three says where it stands in `state_dict` and goes on from there after `load_state_dict`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from minigen.data.checks import need_integer, need_rows, need_seed


def map_tensors(function: Callable[[Tensor], Tensor], batch: Any) -> Any:
    """Apply `function` to every tensor of a batch: a tensor, or a tuple, list or dict of batches."""
    if isinstance(batch, Tensor):
        return function(batch)
    if isinstance(batch, dict):
        return {key: map_tensors(function, value) for key, value in batch.items()}
    if isinstance(batch, tuple | list):
        parts = [map_tensors(function, part) for part in batch]
        return type(batch)(*parts) if hasattr(batch, "_fields") else type(batch)(parts)
    return batch


HELD_OUT_SEED = 0xB5297A4D  # of images that no training sees


def held_out() -> torch.Generator:
    """A fresh generator on the CPU for images that no training sees."""
    return torch.Generator().manual_seed(HELD_OUT_SEED)


Transform = Callable[[Tensor], Tensor] | None


class Batches:
    """Endless batches of a dataset that lives on the device, in a seeded random order, anew for each epoch.

    tensors: of equal length N, such as uint8 images and labels. A batch is a tensor, or a tuple of as many tensors.
    batch_size: rows of the whole batch, over all processes. An epoch has N // batch_size batches.
    seed: of the order, 0..2^32 - 1.
    transform: applied to rows when drawn: one function for the first tensor, such as `minigen.data.to_float`, or a
        sequence with one entry for each tensor, where None leaves the rows as they are.
    device: where the data are to live; None leaves them where they are. A memory-mapped tensor on the CPU is not read
        as a whole: a batch touches its own rows.

    Raises ValueError for tensors of unequal length or on several devices, a batch larger than the data, and transforms
    that are not as many as the tensors; TypeError for what is no tensor, no integer or no function.

    >>> import torch
    >>> images, labels = torch.zeros(6, 1, 8, 8, dtype=torch.uint8), torch.arange(6)
    >>> pictures, classes = next(Batches(images, labels, batch_size=4, transform=(lambda rows: rows / 255, None)))
    >>> pictures.dtype, classes.dtype
    (torch.float32, torch.int64)
    """

    def __init__(
        self,
        *tensors: Tensor,
        batch_size: int,
        seed: int = 0,
        transform: Transform | Sequence[Transform] = None,
        device: torch.device | str | None = None,
    ) -> None:
        self.size = need_rows(*tensors)
        self.batch_size = need_integer("batch_size", batch_size, 1, self.size, ", the number of rows")
        self.seed = need_seed(seed)
        self.transforms = _transforms(transform, len(tensors))
        self.tensors = tuple(t if device is None else t.to(device) for t in tensors)
        devices = {str(t.device) for t in self.tensors}
        if len(devices) > 1:
            raise ValueError(f"tensors must be on one device; got {', '.join(sorted(devices))}: give device=")
        self.epoch = self.index = 0
        self._order = self._permutation()

    def __len__(self) -> int:
        """Batches in an epoch."""
        return self.size // self.batch_size

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        if self.index == len(self):
            self.epoch, self.index = self.epoch + 1, 0
            self._order = self._permutation()
        rows = self._order[self.index * self.batch_size : (self.index + 1) * self.batch_size]
        self.index += 1
        drawn = (t.index_select(0, rows) for t in self.tensors)
        batch = tuple(t if f is None else f(t) for t, f in zip(drawn, self.transforms, strict=True))
        return batch if len(batch) > 1 else batch[0]

    def _permutation(self) -> Tensor:
        """The order of this epoch, drawn on the CPU so that every device sees the same."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        return torch.randperm(self.size, generator=generator).to(self.tensors[0].device, non_blocking=True)

    def state_dict(self) -> dict[str, int]:
        """What a checkpoint keeps of it."""
        kept = ("size", "batch_size", "seed", "epoch", "index")
        return {name: getattr(self, name) for name in kept}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from what `state_dict` gave."""
        mine = self.state_dict()
        for name in ("size", "batch_size", "seed"):
            if state.get(name) != mine[name]:
                raise ValueError(f"the checkpoint's batches had {name} = {state.get(name)}; these have {mine[name]}")
        epoch = need_integer("the checkpoint's epoch", state.get("epoch"), 0, 2**63 - 1)
        position = need_integer("the checkpoint's index", state.get("index"), 0, len(self), ", the batches of an epoch")
        self.epoch, self.index = epoch, position
        self._order = self._permutation()


def _transforms(transform: Transform | Sequence[Transform], tensors: int) -> tuple[Transform, ...]:
    """One transform for each tensor."""
    if transform is None or callable(transform):
        return (transform, *[None] * (tensors - 1))
    if not isinstance(transform, Sequence) or not all(part is None or callable(part) for part in transform):
        raise TypeError(f"transform must be a function, None, or a sequence of these; got {transform!r}")
    if len(transform) != tensors:
        raise ValueError(f"transform must have {tensors} entries, one for each tensor; got {len(transform)}")
    return tuple(transform)


class Draw(Protocol):
    """A source of fresh samples, such as the `sample` of a world."""

    def __call__(self, n: int, /, *, generator: torch.Generator) -> Any: ...


class Stream:
    """Endless batches of fresh samples: `Stream(world.sample, batch_size=256)`.

    draw: called as draw(batch_size, generator=...), with a seeded generator on `device`.

    >>> from minigen.worlds import GaussianMixture
    >>> next(Stream(GaussianMixture.ring().sample, batch_size=4, seed=0)).shape
    torch.Size([4, 2])
    """

    def __init__(self, draw: Draw, *, batch_size: int, seed: int = 0, device: torch.device | str = "cpu") -> None:
        if not callable(draw):
            raise TypeError(f"draw must be a function, such as world.sample; got a {type(draw).__name__}")
        self.draw, self.batch_size = draw, need_integer("batch_size", batch_size, 1)
        self.generator = torch.Generator(device).manual_seed(need_seed(seed))

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        return self.draw(self.batch_size, generator=self.generator)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps of it."""
        return {"generator": self.generator.get_state(), "batch_size": self.batch_size}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        if "generator" not in state:
            raise ValueError(
                f"the checkpoint's batches were no Stream: expected the state of a generator; got {sorted(state)}. "
                "Give batches like those that the run was trained on"
            )
        if (size := state["batch_size"]) != self.batch_size:
            raise ValueError(f"the checkpoint's stream had batch_size = {size}; this one has {self.batch_size}")
        self.generator.set_state(state["generator"])


class Unpaired:
    """Batches (a, b) of two sources that know nothing of each other: different lengths, independent orders.

    a, b: batches of images, `Batches` or `Stream`, of one batch size; each comes back to its beginning by itself, so
    that the longer one is seen less often. Give them different seeds: one order for both would pair them.

    Raises ValueError for different batch sizes, and for two `Batches` of one length and one seed.

    >>> import torch
    >>> a, b = torch.zeros(6, 1, 8, 8), torch.ones(9, 1, 8, 8)
    >>> x, y = next(Unpaired(Batches(a, batch_size=4, seed=0), Batches(b, batch_size=4, seed=1)))
    >>> x.mean().item(), y.mean().item()
    (0.0, 1.0)
    """

    def __init__(self, a: Batches | Stream, b: Batches | Stream) -> None:
        for name, source in (("a", a), ("b", b)):
            if not isinstance(source, Batches | Stream):
                raise TypeError(f"{name} must be Batches or a Stream; got a {type(source).__name__}")
        if a.batch_size != b.batch_size:
            raise ValueError(f"both must give batches of one size; got {a.batch_size} and {b.batch_size}")
        alike = isinstance(a, Batches) and isinstance(b, Batches) and (a.size, a.seed) == (b.size, b.seed)
        if a is b or alike:
            raise ValueError("a and b would be drawn in one order, which pairs them; give them different seeds")
        self.a, self.b, self.batch_size = a, b, a.batch_size

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        return next(self.a), next(self.b)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps of it."""
        return {"a": self.a.state_dict(), "b": self.b.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        if set(state) != {"a", "b"}:
            raise ValueError(f"the checkpoint's batches were no Unpaired: expected a and b; got {sorted(state)}")
        self.a.load_state_dict(state["a"])
        self.b.load_state_dict(state["b"])
