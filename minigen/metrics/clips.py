"""Clips against `worlds.Sequences`, whose law is known: valid frames, identity, motion, entropy by frame."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from minigen.data.checks import need_count
from minigen.worlds import Sequences

from .likelihood import Estimate, nll
from .worlds import validity


class ClipReport(NamedTuple):
    """Shares, 0 to 1: of frames that are valid, of clips that keep their identity, of steps that obey the law."""

    valid: float
    identity: float
    possible: float
    steady: float


def clip_report(clips: Tensor, world: Sequences, *, tolerance: float = 0.01) -> ClipReport:
    """How far clips (B, T, 3, H, W), T at least 2, obey the law of a world: see `validity` and `Sequences.obeyed`.

    In a world with turns not all steps of exact samples are steady; compare with their share.

    >>> world = Sequences(turn=0.0)
    >>> clip_report(world.sample(4, length=3, generator=torch.Generator().manual_seed(0)), world)
    ClipReport(valid=1.0, identity=1.0, possible=1.0, steady=1.0)
    """
    obeyed = world.obeyed(clips)
    if not obeyed.possible.numel():
        raise ValueError(f"a share of steps needs one clip or more, of two frames or more; got {tuple(clips.shape)}")
    shares = (answer.double().mean().item() for answer in obeyed)
    return ClipReport(validity(clips.flatten(0, 1), world.frames, tolerance=tolerance), *shares)


def frame_entropies(
    world: Sequences, *, length: int = 8, clips: int = 256, generator: torch.Generator | None = None
) -> list[Estimate]:
    """H(X_t | X_<t) for t = 1..length, nats: the floor of any NLL of the next frame.

    Each is the mean of -log p(x_t | x_<t) over exact samples, with its standard error.
    """
    need_count("clips", clips, least=2)
    log_prob = world.frame_log_prob(world.sample(clips, length=length, generator=generator))
    return [nll(column) for column in log_prob.unbind(1)]
