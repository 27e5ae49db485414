"""Optimisers: one for each player of a game."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import nn
from torch.optim import Optimizer


def per_player(objective: nn.Module, factory: Callable[[Iterator[nn.Parameter]], Optimizer]) -> dict[str, Optimizer]:
    """One optimiser for each player: for each module with parameters that the objective holds, by its name.

    A module whose parameters are all frozen is no player.
    factory: makes an optimiser of parameters, such as `lambda p: torch.optim.SGD(p, 0.1)`.

    Raises ValueError where parameters stand directly on the objective, since they are no player's, or where no module
    has any.
    """
    if own := [name for name, _ in objective.named_parameters(recurse=False)]:
        raise ValueError(
            f"the parameters {own} stand directly on the objective and are no player's: put them into a module of a "
            "player, or make the dict of optimisers by hand"
        )
    made = {
        name: factory(player.parameters())
        for name, player in objective.named_children()
        if any(p.requires_grad for p in player.parameters())
    }
    if not made:
        raise ValueError("the objective holds no module with parameters: there is nothing to optimise")
    return made


def adam_per_player(
    objective: nn.Module, rate: float, *, betas: tuple[float, float] = (0.9, 0.999), weight_decay: float = 0.0
) -> dict[str, Optimizer]:
    """One fused Adam for each player, by `per_player`; with a weight decay, AdamW.

    weight_decay: decoupled from the gradient, as in Loshchilov and Hutter 2019; 0 is off.
    """
    adam = partial(torch.optim.AdamW, weight_decay=weight_decay) if weight_decay else torch.optim.Adam
    return per_player(objective, lambda p: adam(p, rate, betas=betas, fused=True))
