"""Maximum likelihood (chapter 01): one player, a model whose density can be computed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from minigen.data.checks import need_shape
from minigen.train.loop import Objective
from minigen.train.rng import Rng
from minigen.worlds.precision import widen


class MaximumLikelihood(Objective):
    """The mean negative log-likelihood of a model, nats. Chapter 01, (1.8).

    model: a module with `log_prob`, which takes a batch (B, ...) and gives nats, (B,).
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        if not callable(getattr(model, "log_prob", None)):
            raise TypeError(f"the model must have log_prob(x), nats, (B,); got {type(model).__name__} without it")
        self.model: Any = model

    def turns(self, batch: Tensor, rng: Rng) -> Iterator[tuple[str, Tensor, dict[str, Tensor]]]:
        log_prob = widen(self.model.log_prob(batch))
        need_shape("the model's log_prob", log_prob, len(batch))
        yield "model", -log_prob.mean(), {}
