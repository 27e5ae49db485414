"""Where a run's batches and noise come from: on the device, seeded, resumable, sliced by rank.

Each of the three says where it stands in `state_dict` and goes on from there after `load_state_dict`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch
from torch import Tensor


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


# Seeds of what must not be drawn with a run's own seed. (Of a seed, torch's CPU generator takes the low 32 bits alone.)
NOISE_SEED = 0x9E3779B9  # is added to that of a run, for the noise of its objective
HELD_OUT_SEED = 0xB5297A4D  # of images that no training sees


def held_out() -> torch.Generator:
    """A fresh generator on the CPU for images that no training sees."""
    return torch.Generator().manual_seed(HELD_OUT_SEED)


class Noise:
    """The randomness of a run, as an argument: what an objective draws, it draws from here.

    A `Stream` of the same seed draws other numbers: else a world's own pixel noise would be the objective's, too.

    Under N processes every rank draws the rows of the global batch and keeps its slice, so that N processes see the
    noise that one would. The first size given is always the rank's own number of rows.
    """

    def __init__(
        self, device: torch.device | str = "cpu", *, seed: int = 0, rank: int = 0, world_size: int = 1
    ) -> None:
        self.generator = torch.Generator(device).manual_seed(seed + NOISE_SEED)
        self.rank, self.world_size = rank, world_size

    def normal(self, rows: int, *shape: int) -> Tensor:
        """Standard normal numbers, (rows, *shape)."""
        size = (rows * self.world_size, *shape)
        return self._slice(torch.randn(size, generator=self.generator, device=self.generator.device))

    def uniform(self, rows: int, *shape: int) -> Tensor:
        """Uniform numbers in [0, 1), (rows, *shape)."""
        size = (rows * self.world_size, *shape)
        return self._slice(torch.rand(size, generator=self.generator, device=self.generator.device))

    def integers(self, high: int, rows: int, *shape: int) -> Tensor:
        """Uniform integers in 0..high-1, int64, (rows, *shape)."""
        size = (rows * self.world_size, *shape)
        return self._slice(torch.randint(high, size, generator=self.generator, device=self.generator.device))

    def _slice(self, whole: Tensor) -> Tensor:
        return whole if self.world_size == 1 else whole.chunk(self.world_size)[self.rank]

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps of it."""
        return {"generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self.generator.set_state(state["generator"])


class Batches:
    """Endless batches of a dataset that lives on the device, in a seeded random order, anew for each epoch.

    tensors: of equal length N, such as uint8 images and labels. A batch is a tensor, or a tuple of as many tensors.
    batch_size: rows of the whole batch, over all processes. An epoch has N // batch_size batches.
    transform: applied to the first tensor's rows when drawn, such as `minigen.data.to_float`.
    device: where the data are to live; None leaves them where they are.

    Raises ValueError for tensors of unequal length or a batch larger than the data.
    """

    def __init__(
        self,
        *tensors: Tensor,
        batch_size: int,
        seed: int = 0,
        transform: Callable[[Tensor], Tensor] | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        lengths = {len(t) for t in tensors}
        if len(lengths) != 1:
            raise ValueError(f"tensors must have one common length; got {[len(t) for t in tensors]}")
        self.size = lengths.pop()
        if not 1 <= batch_size <= self.size:
            raise ValueError(f"batch_size must be in 1..{self.size}, the number of rows; got {batch_size}")
        self.tensors = tuple(t if device is None else t.to(device) for t in tensors)
        self.batch_size, self.seed, self.transform = batch_size, seed, transform
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
        first, *rest = (t.index_select(0, rows) for t in self.tensors)
        first = first if self.transform is None else self.transform(first)
        return (first, *rest) if rest else first

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
        self.epoch, self.index = state["epoch"], state["index"]
        self._order = self._permutation()


class Draw(Protocol):
    """A source of fresh samples, such as the `sample` of a world."""

    def __call__(self, n: int, /, *, generator: torch.Generator) -> Any: ...


class Stream:
    """Endless batches of fresh samples: `Stream(world.sample, batch_size=256)`.

    draw: called as draw(batch_size, generator=...), with a seeded generator on `device`.
    """

    def __init__(self, draw: Draw, *, batch_size: int, seed: int = 0, device: torch.device | str = "cpu") -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be 1 or more; got {batch_size}")
        self.draw, self.batch_size = draw, batch_size
        self.generator = torch.Generator(device).manual_seed(seed)

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        return self.draw(self.batch_size, generator=self.generator)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps of it."""
        return {"generator": self.generator.get_state(), "batch_size": self.batch_size}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        if state["batch_size"] != self.batch_size:
            raise ValueError(
                f"the checkpoint's stream had batch_size = {state['batch_size']}; this one has {self.batch_size}"
            )
        self.generator.set_state(state["generator"])
