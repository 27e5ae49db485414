"""Worlds of clips that are small enough for all ways through them to be enumerated, for tests."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor
from torch.distributions import Normal

from minigen.worlds import Sequences, Shapes

World = type[Sequences]
TINY = {"sizes": (5,), "positions": (2, 2), "backgrounds": ("black",)}
NOISE = 4.0  # enough to confuse states and identities


def tiny(world: World, *, turn: float = 0.3, speeds: tuple[int, ...] = (1,), **overrides: object) -> Sequences:
    """8 x 8 pixels, 2 identities, 4 positions, and with one speed 4 velocities."""
    settings = TINY | {"kinds": ("square", "cross"), "colours": ("red",), "noise": NOISE} | overrides
    return world(Shapes(8, **settings), speeds=speeds, turn=turn)


def unfolded(start: int, velocity: int, steps: int, room: int) -> tuple[int, int]:
    """Position and velocity after steps without a turn: a straight way on a circle of 2 room places, folded once."""
    place = (start + steps * velocity) % (2 * room)
    return (place, velocity) if place < room else (2 * room - 1 - place, -velocity)


def enumerated_transitions(world: Sequences) -> Tensor:
    """P(next state | state), (S, S), from the story: a new velocity or the old one, then the move."""
    states, velocities = world.states.tolist(), world.velocities.tolist()
    number = {tuple(state): i for i, state in enumerate(states)}
    room = [len(world.frames.values[axis]) for axis in ("row", "column")]
    matrix = torch.zeros(len(states), len(states), dtype=torch.float64)
    for i, (row, column, *old) in enumerate(states):
        for velocity, chance in [(old, 1 - world.turn), *((v, world.turn / len(velocities)) for v in velocities)]:
            (r, vr), (c, vc) = unfolded(row, velocity[0], 1, room[0]), unfolded(column, velocity[1], 1, room[1])
            matrix[i, number[r, c, vr, vc]] += chance
    return matrix


def enumerated(world: Sequences, clips: Tensor) -> tuple[Tensor, Tensor]:
    """All ways (N, T + 1), an identity and then states, and log p(clip, way) (B, N), by torch.distributions."""
    identities, states = len(world.identities), len(world.states)
    factors = torch.cat(
        [
            world.identities[:, None].expand(-1, states, -1),
            world.states[None, :, :2].expand(identities, -1, -1),
        ],
        dim=2,
    )
    images = world.frames.render(factors.flatten(0, 1)).double()  # (I S, 3, H, W)
    ll = Normal(images, world.frames.noise).log_prob(clips[:, :, None].double()).sum((3, 4, 5))
    ll = ll.unflatten(2, (identities, states))  # (B, T, I, S)
    ways = torch.tensor(list(itertools.product(range(identities), *[range(states)] * clips.shape[1])))
    log_p = torch.full((len(clips), len(ways)), -math.log(identities * states), dtype=torch.float64)
    move = enumerated_transitions(world).log()
    for t in range(clips.shape[1]):
        log_p += ll[:, t, ways[:, 0], ways[:, t + 1]]
        if t:
            log_p += move[ways[:, t], ways[:, t + 1]]
    return ways, log_p
