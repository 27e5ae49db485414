"""The randomness of a run, as an argument of its objective: seeded, resumable, sliced by rank."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from minigen.data.checks import need_seed

# Seeds of what must not be drawn with a run's own seed. (Of a seed, torch's CPU generator takes the low 32 bits alone.)
NOISE_SEED = 0x9E3779B9  # is added to that of a run, for the noise of its objective


class Rng:
    """The randomness of a run, as an argument: what an objective draws, it draws from here.

    A `Stream` of the same seed draws other numbers: else a world's own pixel noise would be the objective's, too.

    Under N processes every rank draws the rows of the global batch and keeps its slice, so that N processes see the
    noise that one would. The first size given is always the rank's own number of rows.

    >>> rng = Rng(seed=0)
    >>> rng.normal(2, 3).shape
    torch.Size([2, 3])
    >>> bool((rng.integers(10, 100) < 10).all())
    True
    """

    def __init__(
        self, device: torch.device | str = "cpu", *, seed: int = 0, rank: int = 0, world_size: int = 1
    ) -> None:
        self.generator = torch.Generator(device).manual_seed(need_seed(seed) + NOISE_SEED)
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
