"""Clips of a coloured shape that moves, bounces and sometimes turns, under noise: the exact law of the next frame.

A clip's frames are images of a `Shapes` world. Its identity, whatever is neither row nor column, stays; its state, row
and column and their velocities, is a Markov chain that is seen through the noise of the frames. This is a hidden Markov
model: the forward and backward recursions answer every question about it (Rabiner 1989, "A tutorial on hidden Markov
models and selected applications in speech recognition", section III). Two facts keep them small. Given its identity a
clip has S states, not S times the number of identities; and a move permutes the states, so no S x S matrix is formed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from minigen.data.checks import need_batch, need_count, need_finite, need_index, need_integer, need_number, need_shape

from .precision import Device, drawing_device, like
from .shapes import Shapes
from .templates import CHUNK

MARGIN = 60.0  # nats: an identity that is certainly this much worse than another adds less than 1e-26 of it


class Obedience(NamedTuple):
    """What a clip keeps of the law; see `Sequences.obeyed`."""

    identity: Tensor  # (B,) bool: all frames show one identity
    possible: Tensor  # (B, T - 1) bool: some allowed velocity makes this step
    steady: Tensor  # (B, T - 1) bool: the velocity of the steps before makes it, bounces included


class _Chains(NamedTuple):
    """K chains, each a clip of a chunk with an identity that it may have; ordered by clip."""

    clip: Tensor  # (K,) number of the clip in its chunk
    rank: Tensor  # (K,) number of the chain among those of its clip
    identity: Tensor  # (K,)
    ll: Tensor  # (K, T, S) log p(x_t | state, identity)
    steps: Tensor  # (K, T) log p(x_t | x_<t, identity)
    filtered: Tensor  # (K, T, S) log P(state | x_1..x_t, identity)
    weight: Tensor  # (K, T) log P(identity | x_1..x_t)
    evidence: Tensor  # (b, T) log p(x_1..x_t)

    def total(self, values: Tensor) -> Tensor:
        """Log-sum-exp over the chains of every clip: (K, ...) to (b, ...)."""
        return self.side_by_side(values).logsumexp(1)

    def side_by_side(self, values: Tensor) -> Tensor:
        """The chains of every clip beside each other, (K, ...) to (b, R, ...); -infinity where a clip has fewer."""
        shape = len(self.evidence), int(self.rank.max()) + 1, *values.shape[1:]
        table = values.new_full(shape, -math.inf)
        table[self.clip, self.rank] = values
        return table


class Sequences:
    """Clips (B, T, 3, H, W) of one shape that moves over a plain background and bounces off the walls.

    The identity (background, kind, colour and size) is drawn once. The state is (row, column, vertical velocity,
    horizontal velocity); rows and columns count the positions of `frames`, 0..n-1. At each step, with probability
    `turn`, a new velocity is drawn uniformly, maybe the old one. Then the velocity is added, and position and velocity
    are reflected at walls half a position outside of the first and the last: n - 2 with velocity 3 becomes n - 2 with
    velocity -3. So a move permutes the states, the transition matrix is doubly stochastic, and the uniform law of the
    first state is the law of all others: every single frame has the law of `frames`.

    States are numbers 0..S-1, rows of `states`; identities 0..I-1, rows of `identities`. Probabilities are computed in
    float64 on the device of the clips and returned in their float type, in nats. Identities that a bound shows to be
    less than e^-60 as probable as another are left out. Memory is bounded: clips are taken in chunks.

    Args:
        frames: `Shapes` of one shape, continuous form: what one frame shows, the noise included. By default 12 x 12
            pixels, shapes of 5, a position at each pixel: 85 identities, 1,024 states.
        speeds: different whole numbers, 0 or more, below the numbers of rows and columns. Each of the two components of
            a velocity is one of them, in either direction.
        turn: probability of a new velocity, 0 to 1.

    Raises:
        ValueError: for other frames, speeds too large for the room, a turn that is no probability; in the methods for
            clips of another shape, without a frame, of integers, or with NaN.

    >>> world = Sequences()
    >>> clips, states, identities = world.sample_with_states(2, length=6, generator=torch.Generator().manual_seed(0))
    >>> clips.shape, bool((world.most_probable(clips)[:, :5] == states[:, :5]).all())
    (torch.Size([2, 6, 3, 12, 12]), True)
    >>> world.next_frame_mean(clips[:, :5]).shape, world.log_prob(clips).shape
    (torch.Size([2, 3, 12, 12]), torch.Size([2]))
    """

    def __init__(self, frames: Shapes | None = None, *, speeds: Sequence[int] = (1, 2), turn: float = 0.1) -> None:
        frames = Shapes(12, sizes=(5,), positions=(8, 8)) if frames is None else frames
        if not isinstance(frames, Shapes) or frames.shapes != 1 or frames.form != "continuous":
            got = f"{frames.shapes} in the {frames.form} form" if isinstance(frames, Shapes) else type(frames).__name__
            raise ValueError(f"frames must be a world of Shapes, of 1 shape in the continuous form; got {got}")
        rows, columns = (len(frames.values[axis]) for axis in ("row", "column"))
        most, why = min(rows, columns) - 1, f", for there are {rows} rows and {columns} columns"
        speeds = [need_integer("a speed", speed, 0, most, why) for speed in speeds]
        if not speeds or len(set(speeds)) < len(speeds):
            raise ValueError(f"speeds must be one or more different whole numbers; got {speeds}")
        need_number("turn", turn, low=0, high=1)
        self.frames, self.turn = frames, turn

        component = torch.tensor(sorted({sign * speed for speed in speeds for sign in (-1, 1)}))
        self.velocities = torch.cartesian_prod(component, component)
        """(V, 2) vertical and horizontal velocity; all are equally likely."""
        positions = torch.cartesian_prod(torch.arange(rows), torch.arange(columns))  # (P, 2)
        self._count = len(positions), len(self.velocities)
        places, speeds_of = (torch.arange(n) for n in self._count)
        pairs = torch.cartesian_prod(places, speeds_of)  # (S, 2)
        self.states = torch.cat([positions[pairs[:, 0]], self.velocities[pairs[:, 1]]], dim=1)
        """(S, 4) row, column, vertical velocity, horizontal velocity."""
        self.identities = frames._table[:: len(positions), :4]
        """(I, 4) background, kind, colour and size, as numbers into `frames.values`."""
        self._after = self._moved()
        self._before = self._after.argsort()
        other = turn / len(self.velocities)  # the probability of each velocity that the shape did not have
        chances = torch.tensor([1 - turn, turn, 1 - turn + other, other], dtype=torch.float64).log()
        self._log_keep, self._log_turn, self._log_same, self._log_other = chances.tolist()

    def _moved(self) -> Tensor:
        """The state after a move without a turn, (S,)."""
        room = torch.tensor([len(self.frames.values[axis]) for axis in ("row", "column")])
        target = self.states[:, :2] + self.states[:, 2:]
        low, high = target < 0, target >= room
        target = torch.where(low, -1 - target, torch.where(high, 2 * room - 1 - target, target))
        velocity = torch.where(low | high, -self.states[:, 2:], self.states[:, 2:])
        number = (velocity[:, None] == self.velocities).all(2).int().argmax(1)
        return (target[:, 0] * room[1] + target[:, 1]) * len(self.velocities) + number

    def transition_matrix(self) -> Tensor:
        """P(next state | state), (S, S) float64: rows and columns have sum 1."""
        return self._predict(torch.eye(len(self.states), dtype=torch.float64).log()).exp()

    def state_entropy_rate(self) -> float:
        """H(next state | state), nats: the same for each state, since a move loses nothing."""
        others = self._count[1] - 1
        chances = torch.tensor([self._log_same, *[self._log_other] * others], dtype=torch.float64).exp()
        return float(torch.special.entr(chances).sum())

    def sample(
        self, n: int, *, length: int = 8, generator: torch.Generator | None = None, device: Device = None
    ) -> Tensor:
        """n clips of `length` frames, drawn where `generator` lives and moved to `device`."""
        return self.sample_with_states(n, length=length, generator=generator, device=device)[0]

    def sample_with_states(
        self, n: int, *, length: int = 8, generator: torch.Generator | None = None, device: Device = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """n clips, their states (n, T) and their identities (n,)."""
        need_count("n", n, least=0)
        need_count("length", length)
        where = drawing_device(generator, device)
        after, velocities = self._after.to(where), self._count[1]
        identities = torch.randint(len(self.identities), (n,), generator=generator, device=where)
        path = [torch.randint(len(self.states), (n,), generator=generator, device=where)]
        for _ in range(length - 1):
            turned = torch.rand(n, generator=generator, device=where) < self.turn
            fresh = torch.randint(velocities, (n,), generator=generator, device=where)
            now = path[-1]
            path.append(after[torch.where(turned, now - now % velocities + fresh, now)])
        states = torch.stack(path, dim=1)
        clips = self.frames._core.law.corrupt(self.render(identities, states), generator)
        return clips.to(device or where), states.to(device or where), identities.to(device or where)

    def render(self, identities: Tensor, states: Tensor) -> Tensor:
        """The clips (B, T, 3, H, W) of identities (B,) in states (B, T), without noise."""
        need_index("identities", identities, len(self.identities))
        need_index("states", states, len(self.states))
        need_shape("identities", identities, "B")
        need_shape("states", states, len(identities), "T")
        positions, velocities = self._count
        index = identities[:, None] * positions + states // velocities  # (B, T)
        shown = self.frames._core.points_on(states.device)[index]
        return torch.unflatten(shown, 2, (3, self.frames.size, self.frames.size))

    def log_prob(self, clips: Tensor) -> Tensor:
        """log p(x_1..x_T) of clips (B, T, 3, H, W), (B,)."""
        return like(torch.cat([chains.evidence[:, -1] for chains in self._chains(clips)]), clips)

    def frame_log_prob(self, clips: Tensor) -> Tensor:
        """log p(x_t | x_<t) for every frame, (B, T); of the first frame its own log-density. The sum is `log_prob`."""
        evidence = torch.cat([chains.evidence for chains in self._chains(clips)])
        return like(torch.cat([evidence[:, :1], evidence.diff(dim=1)], dim=1), clips)

    def next_log_prob(self, past: Tensor, frame: Tensor) -> Tensor:
        """log p(frame | past), (B,), of frames (B, 3, H, W) that follow clips (B, T, 3, H, W)."""
        need_shape("frame", frame, *past.shape[:1], *past.shape[2:])
        return self.frame_log_prob(torch.cat([past, frame[:, None].to(past)], dim=1))[:, -1]

    def filter(self, clips: Tensor) -> Tensor:
        """log P(state of frame t | x_1..x_t), (B, T, S)."""
        found = [chains.total(chains.filtered + chains.weight[:, :, None]) for chains in self._chains(clips)]
        return like(torch.cat(found), clips)

    def smooth(self, clips: Tensor) -> Tensor:
        """log P(state of frame t | x_1..x_T), (B, T, S): forward times backward, Rabiner 1989, eq. 27."""
        found = []
        for chains in self._chains(clips):
            of_chain = chains.filtered + self._backward(chains.ll, chains.steps)
            found.append(chains.total(of_chain + chains.weight[:, -1:, None]))
        return like(torch.cat(found), clips)

    def identity_posterior(self, clips: Tensor) -> Tensor:
        """log P(identity | x_1..x_T), (B, I); -infinity for those that are left out."""
        found = []
        for chains in self._chains(clips):
            table = chains.weight.new_full((len(chains.evidence), len(self.identities)), -math.inf)
            table[chains.clip, chains.identity] = chains.weight[:, -1]
            found.append(table)
        return like(torch.cat(found), clips)

    def most_probable(self, clips: Tensor) -> Tensor:
        """The states (B, T) of the most probable path and identity together: Viterbi, Rabiner 1989, eq. 32 to 35."""
        return torch.cat([self._viterbi(chains) for chains in self._chains(clips)]).to(clips.device)

    def next_frame_mean(self, past: Tensor) -> Tensor:
        """E[x_t | x_<t], (B, 3, H, W): the best guess in squared error, a blur of all frames that may follow."""
        templates = torch.unflatten(self.frames._core.points.double(), 0, (len(self.identities), -1))  # (I, P, d)
        found = []
        for chains in self._chains(past):
            state = (self._predict(chains.filtered[:, -1]) + chains.weight[:, -1:]).exp()
            position = torch.unflatten(state, 1, self._count).sum(2)  # (K, P)
            of_chain = torch.einsum("kp,kpd->kd", position, templates.to(state.device)[chains.identity])
            mean = of_chain.new_zeros(len(chains.evidence), of_chain.shape[1])
            found.append(mean.index_add(0, chains.clip, of_chain))
        return like(torch.cat(found).view(len(past), *past.shape[2:]), past)

    def obeyed(self, clips: Tensor) -> Obedience:
        """What clips, drawn by any model, keep of the law: judged by the most probable template of each frame alone.

        Identity: it is that of all frames. Steps: the velocities that explain the way since the last turn are kept in a
        set. A step is `steady` if one of them makes it; else it is `possible` if any velocity does, a turn from which a
        new set begins. Without turns in the world each step must be steady; with them compare the share of steady steps
        with that of exact samples.
        """
        self._need_clips(clips)
        images = self.frames._parts(clips.flatten(0, 1))
        template = self.frames._core.most_probable(images).flatten().view(clips.shape[:2])  # (B, T)
        positions, velocities = self._count
        identity, position = template // positions, template % positions
        there = position[:, :, None] == torch.arange(len(self.states)) // velocities  # (B, T, S)
        explaining, possible, steady = there[:, 0], [], []
        for before, after in zip(there[:, :-1].unbind(1), there[:, 1:].unbind(1), strict=True):
            kept, fresh = explaining[:, self._before] & after, before[:, self._before] & after
            steady.append(kept.any(1, keepdim=True))
            possible.append(fresh.any(1, keepdim=True))
            explaining = torch.where(steady[-1], kept, torch.where(possible[-1], fresh, after))
        none = torch.empty(len(clips), 0, dtype=torch.bool)
        found = (identity == identity[:, :1]).all(1), torch.cat([none, *possible], 1), torch.cat([none, *steady], 1)
        return Obedience(*(answer.to(clips.device) for answer in found))

    def _need_clips(self, clips: Tensor) -> None:
        size = self.frames.size
        need_batch("clips", clips, "T", 3, size, size)
        need_finite("clips", clips)
        if not clips.numel():
            raise ValueError(f"clips must be one clip or more, each of one frame or more; got {tuple(clips.shape)}")

    def _chains(self, clips: Tensor) -> Iterator[_Chains]:
        """The forward recursion for all identities that may matter, chunk after chunk of the clips."""
        self._need_clips(clips)
        identities = len(self.identities)
        rows = max(1, CHUNK // (clips.shape[1] * len(self.states) * identities))
        for chunk in torch.split(clips, rows):
            blocks = list(self.frames._core._blocks(self.frames._parts(chunk.flatten(0, 1))))
            by_position = torch.cat(blocks).view(len(chunk), -1, identities, self._count[0])  # (b, T, I, P)
            followed = self._may_matter(by_position)
            clip, identity = followed.nonzero().unbind(1)
            rank = followed.cumsum(1)[clip, identity] - 1
            ll, steps, filtered = self._forward(by_position[clip, :, identity])
            joint = steps.cumsum(1) - math.log(identities)  # log p(x_1..x_t, identity)
            chains = _Chains(clip, rank, identity, ll, steps, filtered, joint, joint.new_empty(len(chunk), 0))
            evidence = chains.total(joint)
            yield chains._replace(weight=joint - evidence[clip], evidence=evidence)

    def _may_matter(self, by_position: Tensor) -> Tensor:
        """Which identities to follow for log p(x_t | position, identity) (b, T, I, P): (b, I) bool.

        The product of the best p(x_t | position) bounds p(x_1..x_t | identity) from above. Left out is what this bound
        keeps, at each t, below another identity's exact value by the margin, which is wide enough for single paths too.
        """
        bound = by_position.amax(3).cumsum(1)  # (b, T, I)
        leader = bound[:, -1].argmax(1)
        _, steps, _ = self._forward(by_position[torch.arange(len(leader)), :, leader])
        margin = MARGIN + math.log(self._count[1]) * (bound.shape[1] - 1)
        return (bound > steps.cumsum(1)[:, :, None] - margin).any(1)

    def _forward(self, by_position: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The forward recursion, scaled at each step: Rabiner 1989, eq. 19 to 21 and section V.A.

        by_position: log p(x_t | position), (K, T, P). Returns log p(x_t | state), (K, T, S), log p(x_t | x_<t), (K, T),
        and log P(state | x_1..x_t), (K, T, S).
        """
        ll = by_position.repeat_interleave(self._count[1], 2)
        prior = torch.full_like(ll[:, 0], -math.log(len(self.states)))
        steps, filtered = [], []
        for now in ll.unbind(1):
            joint = prior + now
            steps.append(joint.logsumexp(1))
            filtered.append(joint - steps[-1][:, None])
            prior = self._predict(filtered[-1])
        return ll, torch.stack(steps, 1), torch.stack(filtered, 1)

    def _backward(self, ll: Tensor, steps: Tensor) -> Tensor:
        """log p(x_t+1..x_T | state t) less log p(x_t+1..x_T | x_1..x_t), (K, T, S): Rabiner 1989, eq. 24 and 25."""
        messages = [torch.zeros_like(ll[:, 0])]
        for t in range(ll.shape[1] - 1, 0, -1):
            arrived = ll[:, t] - steps[:, t, None] + messages[-1]
            messages.append(self._turned(arrived[:, self._after]))
        return torch.stack(messages[::-1], 1)

    def _predict(self, log_p: Tensor) -> Tensor:
        """The law of the next state from that of the state, logarithms (K, S): a turn, then a move."""
        return self._turned(log_p)[:, self._before]

    def _turned(self, log_p: Tensor) -> Tensor:
        """What a turn makes of the law of the state, logarithms (K, S). It is its own transpose."""
        grouped = torch.unflatten(log_p, 1, self._count)  # (K, P, V)
        fresh = grouped.logsumexp(2, keepdim=True) - math.log(self._count[1])
        return torch.logaddexp(grouped + self._log_keep, fresh + self._log_turn).flatten(1)

    def _viterbi(self, chains: _Chains) -> Tensor:
        """The most probable path of every clip of a chunk, (b, T)."""
        best = [torch.unflatten(chains.ll[:, 0], 1, self._count)]  # (K, P, V)
        for now in chains.ll[:, 1:].unbind(1):
            turned = torch.maximum(best[-1] + self._log_same, best[-1].amax(2, keepdim=True) + self._log_other)
            best.append(torch.unflatten(turned.flatten(1)[:, self._before] + now, 1, self._count))
        score = chains.side_by_side(best[-1].flatten(1).amax(1))
        first = torch.searchsorted(chains.clip, torch.arange(len(score), device=score.device))
        chosen = first + score.argmax(1)
        path = [best[-1][chosen].flatten(1).argmax(1)]
        before, velocities = self._before.to(score.device), self._count[1]
        for values in reversed(best[:-1]):
            turned_state = before[path[-1]]  # after the turn, before the move
            position, velocity = turned_state // velocities, turned_state % velocities
            from_any = values[chosen, position]  # (b, V)
            same = torch.arange(velocities, device=score.device) == velocity[:, None]
            origin = torch.where(same, from_any + self._log_same, from_any + self._log_other).argmax(1)
            path.append(position * velocities + origin)
        return torch.stack(path[::-1], 1)
