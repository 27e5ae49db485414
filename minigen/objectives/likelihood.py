"""Maximum likelihood (chapter 01): one player, a model whose density can be computed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from minigen.streams import Noise


class MaximumLikelihood(nn.Module):
    """The mean negative log-likelihood of a model, nats. Chapter 01, (1.8).

    model: a module with `log_prob`, which takes a batch (B, ...) and gives nats, (B,).
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model: Any = model

    def turns(self, batch: Tensor, noise: Noise) -> Iterator[tuple[str, Tensor, dict[str, Tensor]]]:
        yield "model", -self.model.log_prob(batch).mean(), {}
