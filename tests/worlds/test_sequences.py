"""Clips against enumeration of all ways, unfolded bounces, quadrature, samples; wrong variants fail the same checks."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from functools import cache

import pytest
import torch
from small_sequences import NOISE, World, enumerated, enumerated_transitions, tiny, unfolded
from small_shapes import seeded
from torch import Tensor

from minigen.worlds import Sequences, Shapes, sequences

CLOSE = {"rtol": 0, "atol": 1e-9}


@cache
def truth(length: int, noise: float = NOISE) -> tuple[Tensor, Tensor, Tensor]:
    """Clips (6, T, ...) of the tiny world, all ways, and log p(clip, way)."""
    world = tiny(Sequences, noise=noise)
    clips = world.sample(6, length=length, generator=seeded()).double()
    return clips, *enumerated(world, clips)


def marginal(ways: Tensor, log_p: Tensor, column: int, size: int) -> Tensor:
    """log of the sum of p over all ways with each value in a column, (B, size)."""
    return torch.stack([log_p[:, ways[:, column] == value].logsumexp(1) for value in range(size)], dim=1)


def moves(world: World) -> None:
    """Every state bounces as the straight way does when it is folded; many steps on, too."""
    made = world(Shapes(12, sizes=(5,), positions=(6, 8)), speeds=(0, 1, 3), turn=0.0)
    number = torch.arange(len(made.states))
    for step in range(1, 30):
        number = made._after[number]
        for start, now in zip(made.states[::7].tolist(), made.states[number][::7].tolist(), strict=True):
            row, column = unfolded(start[0], start[2], step, 6), unfolded(start[1], start[3], step, 8)
            assert now == [row[0], column[0], row[1], column[1]]


def chain(world: World) -> None:
    """The transition matrix is that of the story, doubly stochastic; its rows have the stated entropy."""
    for made in (
        tiny(world),
        tiny(world, turn=0.0),
        tiny(world, turn=1.0),
        tiny(world, positions=(3, 4), speeds=(0, 2)),
    ):
        matrix = made.transition_matrix()
        torch.testing.assert_close(matrix, enumerated_transitions(made), **CLOSE)
        torch.testing.assert_close(matrix.sum(1), torch.ones(len(matrix), dtype=torch.float64), **CLOSE)
        torch.testing.assert_close(matrix.sum(0), torch.ones(len(matrix), dtype=torch.float64), **CLOSE)
        rows = torch.special.entr(matrix).sum(1)
        torch.testing.assert_close(rows, torch.full_like(rows, made.state_entropy_rate()), **CLOSE)


def density(world: World) -> None:
    for length in (1, 2, 3):
        clips, _, log_p = truth(length)
        torch.testing.assert_close(tiny(world).log_prob(clips), log_p.logsumexp(1), **CLOSE)


def by_frame(world: World) -> None:
    """log p(x_t | x_<t) is the difference of two densities of enumeration, at each frame."""
    clips, _, log_p = truth(3)
    made = tiny(world)
    shorter = [enumerated(made, clips[:, :t])[1].logsumexp(1) for t in (1, 2)]
    before = [torch.zeros(6), *shorter, log_p.logsumexp(1)]
    expected = torch.stack([b - a for a, b in itertools.pairwise(before)], dim=1)
    torch.testing.assert_close(made.frame_log_prob(clips), expected, **CLOSE)
    torch.testing.assert_close(made.next_log_prob(clips[:, :2], clips[:, 2]), expected[:, 2], **CLOSE)


def filtering(world: World) -> None:
    clips, _, _ = truth(3)
    found = tiny(world).filter(clips)
    for t in (1, 2, 3):
        ways, log_p = enumerated(tiny(Sequences), clips[:, :t])
        expected = marginal(ways, log_p, t, found.shape[2]) - log_p.logsumexp(1, keepdim=True)
        torch.testing.assert_close(found[:, t - 1], expected, **CLOSE)


def smoothing(world: World) -> None:
    clips, ways, log_p = truth(3)
    found = tiny(world).smooth(clips)
    for t in (1, 2, 3):
        expected = marginal(ways, log_p, t, found.shape[2]) - log_p.logsumexp(1, keepdim=True)
        torch.testing.assert_close(found[:, t - 1], expected, **CLOSE)


def identifying(world: World) -> None:
    clips, ways, log_p = truth(3)
    expected = marginal(ways, log_p, 0, 2) - log_p.logsumexp(1, keepdim=True)
    assert float(expected.exp().amax(1).mean()) < 0.99  # the noise does confuse identities
    torch.testing.assert_close(tiny(world).identity_posterior(clips), expected, **CLOSE)


def best_way(world: World) -> None:
    """No way has a greater joint probability than the one found, maximised over its identity."""
    for noise in (1.0, NOISE):  # where the frames decide, and where the law of the states does
        clips, ways, log_p = truth(3, noise)
        path = tiny(world, noise=noise).most_probable(clips)
        for row, states in zip(log_p, path, strict=True):
            mine = row[(ways[:, 1:] == states).all(1)].max()
            torch.testing.assert_close(mine, row.max(), **CLOSE)


def next_mean(world: World) -> None:
    """E[x_3 | x_1, x_2] by enumeration of all ways that go one step further."""
    clips, _, _ = truth(2)
    made = tiny(Sequences)
    ways, log_p = enumerated(made, clips)
    weight = (log_p.softmax(1)[:, :, None] * enumerated_transitions(made)[ways[:, 2]]).flatten(1)  # (B, N S)
    factors = torch.cat(
        [
            made.identities[ways[:, 0]][:, None].expand(-1, len(made.states), -1),
            made.states[:, :2].expand(len(ways), -1, -1),
        ],
        dim=2,
    )
    images = made.frames.render(factors.flatten(0, 1)).double().flatten(1)
    torch.testing.assert_close(tiny(world).next_frame_mean(clips).flatten(1), weight @ images, rtol=0, atol=1e-7)


def drawing(world: World) -> None:
    """Samples move by the matrix of the story, begin uniformly, keep their identity, and have the stated noise."""
    made, n = tiny(world, noise=0.2), 20_000
    clips, states, identities = made.sample_with_states(n, length=3, generator=seeded())
    total = len(made.states)
    for t in range(3):
        share = torch.bincount(states[:, t], minlength=total) / n
        assert ((share - 1 / total).abs() < 4.5 * (1 / total / n) ** 0.5).all()
    pairs = torch.bincount(states[:, 1] * total + states[:, 2], minlength=total**2).view(total, total) / n
    expected = enumerated_transitions(made) / total
    assert ((pairs - expected).abs() <= 4.5 * (expected / n).sqrt()).all()
    residual = clips - made.render(identities, states)
    assert float(residual.std()) == pytest.approx(0.2, rel=0.01)
    assert abs(float(residual.mean())) < 4 * 0.2 / residual.numel() ** 0.5
    assert torch.equal(clips[:5], made.sample(n, length=3, generator=seeded())[:5])


CHECKS: list[Callable[[World], None]] = [
    *(moves, chain, density, by_frame, filtering, smoothing, identifying, best_way, next_mean, drawing)
]


@pytest.mark.parametrize("holds", CHECKS, ids=lambda check: check.__name__)
def test_it_holds(holds: Callable[[World], None]) -> None:
    holds(Sequences)


class NotReflected(Sequences):
    """Position is reflected, velocity is not."""

    def _moved(self) -> Tensor:
        velocities = len(self.velocities)
        return super()._moved() // velocities * velocities + torch.arange(len(self.states)) % velocities


class WallsOnTheEnds(Sequences):
    """Reflected at the first and the last position themselves: two states lead to one."""

    def _moved(self) -> Tensor:
        room = torch.tensor([len(self.frames.values[axis]) for axis in ("row", "column")])
        target = self.states[:, :2] + self.states[:, 2:]
        outside = (target < 0) | (target >= room)
        target = torch.where(target >= room, 2 * room - 2 - target, target.abs())
        velocity = torch.where(outside, -self.states[:, 2:], self.states[:, 2:])
        there = torch.cat([target, velocity], dim=1)
        return (there[:, None] == self.states).all(2).int().argmax(1)


class TurnsAfterTheMove(Sequences):
    """The same law of clips, for the first velocity is uniform and the last is not seen, but another one of states."""

    def _predict(self, log_p: Tensor) -> Tensor:
        return self._turned(log_p[:, self._before])


class TurnsToAnotherVelocity(Sequences):
    """A new velocity is never the old one."""

    def _turned(self, log_p: Tensor) -> Tensor:
        grouped = log_p.unflatten(1, self._count).exp()
        others = (grouped.sum(2, keepdim=True) - grouped) / (self._count[1] - 1)
        return ((1 - self.turn) * grouped + self.turn * others).log().flatten(1)


class LosesTheNormaliser(Sequences):
    """Scaled at each step, the scale kept for the last step alone."""

    def log_prob(self, clips: Tensor) -> Tensor:
        return self.frame_log_prob(clips)[:, -1]


class ForgetsThePrior(Sequences):
    """The posterior of each frame alone: the likelihood, normalised."""

    def filter(self, clips: Tensor) -> Tensor:
        alone = [super(ForgetsThePrior, self).filter(clips[:, t : t + 1]) for t in range(clips.shape[1])]
        return torch.cat(alone, dim=1)


class SmoothsByFiltering(Sequences):
    def smooth(self, clips: Tensor) -> Tensor:
        return self.filter(clips)


class ChangesIdentity(Sequences):
    """Identity is drawn anew for each frame: one law of states, seen through a mixture of identities."""

    def _may_matter(self, by_position: Tensor) -> Tensor:
        return torch.ones(len(by_position), len(self.identities), dtype=torch.bool)

    def _forward(self, by_position: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        identities = len(self.identities)
        mixed = torch.unflatten(by_position, 0, (-1, identities)).logsumexp(1) - math.log(identities)
        return super()._forward(mixed.repeat_interleave(identities, 0))


class BestStateByState(Sequences):
    """The most probable state of every frame alone, which need not be a way."""

    def most_probable(self, clips: Tensor) -> Tensor:
        return self.smooth(clips).argmax(2)


class TurnsForNothing(Sequences):
    """The best way never turns."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self._log_other = -math.inf


class MeanOfTheFrameBefore(Sequences):
    """One frame too early: the last frame of the past is not looked at."""

    def next_frame_mean(self, past: Tensor) -> Tensor:
        return super().next_frame_mean(past[:, :-1])


class BackwardWithoutScale(Sequences):
    """The backward messages are not divided by p(x_t | x_<t)."""

    def _backward(self, ll: Tensor, steps: Tensor) -> Tensor:
        return super()._backward(ll, torch.zeros_like(steps))


WRONG: list[tuple[World, Callable[[World], None]]] = [
    (NotReflected, moves),
    (NotReflected, chain),
    (WallsOnTheEnds, moves),
    (WallsOnTheEnds, chain),
    (WallsOnTheEnds, drawing),
    (TurnsAfterTheMove, chain),
    (TurnsAfterTheMove, filtering),
    (TurnsAfterTheMove, smoothing),
    (TurnsToAnotherVelocity, chain),
    (TurnsToAnotherVelocity, density),
    (LosesTheNormaliser, density),
    (ForgetsThePrior, filtering),
    (SmoothsByFiltering, smoothing),
    (ChangesIdentity, density),
    (ChangesIdentity, identifying),
    (BestStateByState, best_way),
    (TurnsForNothing, best_way),
    (MeanOfTheFrameBefore, next_mean),
    (BackwardWithoutScale, smoothing),
]


@pytest.mark.parametrize(("wrong", "refuses"), WRONG, ids=lambda each: each.__name__)
def test_a_wrong_variant_is_refused_by_the_same_check(wrong: World, refuses: Callable[[World], None]) -> None:
    with pytest.raises(AssertionError):
        refuses(wrong)


@pytest.mark.parametrize("turn", [0.0, 0.3])
def test_the_density_integrates_to_one(turn: float) -> None:
    """Frames of one identity in two places differ along one direction; all others are Gaussian and integrate to 1."""
    world = tiny(Sequences, turn=turn, kinds=("square",), positions=(1, 2), speeds=(0,), noise=0.4)
    shown = world.render(torch.zeros(2, dtype=torch.int64), torch.tensor([[0], [1]]))[:, 0].double()  # (2, 3, H, W)
    middle, across = shown.mean(0), shown[1] - shown[0]
    z = torch.linspace(-7, 7, 88, dtype=torch.float64)
    line = middle + z[:, None, None, None] * across / across.norm()
    clips = torch.stack([line[:, None].expand(-1, len(z), -1, -1, -1), line.expand(len(z), -1, -1, -1, -1)], dim=2)
    rest = math.log(2 * math.pi * 0.4**2) * (across.numel() - 1)  # of both frames
    log_p = world.log_prob(clips.flatten(0, 1)).view(len(z), len(z)) + rest
    assert float(log_p.exp().sum()) * float(z[1] - z[0]) ** 2 == pytest.approx(1, abs=1e-6)


def test_the_density_has_mean_one_against_frames_that_are_independent() -> None:
    """E_q[p / q] = 1 for q of independent frames, whose ratio is bounded; and p and q agree for one frame."""
    world, n = tiny(Sequences, noise=0.5), 4000
    frames = world.frames.sample(3 * n, generator=seeded()).double()
    by_frame = world.frames.log_prob(frames)
    torch.testing.assert_close(world.log_prob(frames[:9, None]), by_frame[:9], **CLOSE)
    ratio = (world.log_prob(frames.unflatten(0, (n, 3))) - by_frame.view(n, 3).sum(1)).exp()
    assert abs(float(ratio.mean()) - 1) < 4 * float(ratio.std()) / n**0.5 < 0.25


def test_bayes_rule_holds_along_the_clip() -> None:
    """p(x_1..x_T) = p(past) p(frame | past), and the filter is the smoother at the last frame."""
    world = tiny(Sequences)
    clips = world.sample(5, length=4, generator=seeded()).double()
    product = world.log_prob(clips[:, :3]) + world.next_log_prob(clips[:, :3], clips[:, 3])
    torch.testing.assert_close(product, world.log_prob(clips), **CLOSE)
    torch.testing.assert_close(world.frame_log_prob(clips).sum(1), world.log_prob(clips), **CLOSE)
    torch.testing.assert_close(world.filter(clips)[:, -1], world.smooth(clips)[:, -1], **CLOSE)


def garbage(world: Sequences) -> Tensor:
    """Clips that the world draws, clips whose identity changes midway, clips that jump, pure noise."""
    real, other = world.sample(4, length=4, generator=seeded()).double().split(2)
    noise = torch.randn(other.shape, generator=seeded(), dtype=torch.float64)
    return torch.cat([real, torch.cat([real[:, :2], other[:, 2:]], dim=1), real[:, [0, 3, 1, 2]], noise])


def test_what_the_bound_leaves_out_adds_nothing(monkeypatch) -> None:
    world = Sequences(
        Shapes(12, sizes=(5,), positions=(4, 4), backgrounds=("black",), colours=("red", "cyan")), turn=0.0
    )
    clips = garbage(world)
    names = ("log_prob", "frame_log_prob", "most_probable", "next_frame_mean")
    probabilities = ("filter", "smooth", "identity_posterior")
    kept = [chains.clip for chains in world._chains(clips)]
    found = [getattr(world, name)(clips) for name in names] + [
        getattr(world, name)(clips).exp() for name in probabilities
    ]
    monkeypatch.setattr(sequences, "MARGIN", math.inf)
    assert sum(map(len, kept)) < len(clips) * len(world.identities) / 2
    whole = [getattr(world, name)(clips) for name in names] + [
        getattr(world, name)(clips).exp() for name in probabilities
    ]
    for few, all_of_them in zip(found, whole, strict=True):
        torch.testing.assert_close(few, all_of_them, rtol=1e-11, atol=1e-11)
    assert all(answer.isfinite().all() for answer in found)


def test_chunks_change_nothing_and_float32_is_kept(monkeypatch) -> None:
    world = tiny(Sequences)
    clips = world.sample(7, length=3, generator=seeded())
    names = ("log_prob", "filter", "smooth", "most_probable", "next_frame_mean", "identity_posterior")
    whole = [getattr(world, name)(clips) for name in names]
    monkeypatch.setattr(sequences, "CHUNK", 2 * 3 * len(world.states) * 3)
    assert len(list(world._chains(clips))) > 2
    for name, expected in zip(names, whole, strict=True):
        found = getattr(world, name)(clips)
        torch.testing.assert_close(found, expected)
        assert found.dtype == (torch.int64 if name == "most_probable" else torch.float32)


def test_the_default_world_is_read_through_its_noise() -> None:
    world = Sequences()
    clips, states, identities = world.sample_with_states(12, length=6, generator=seeded())
    path = world.most_probable(clips)
    assert torch.equal(world.states[path][:, :, :2], world.states[states][:, :, :2])
    assert (path == states)[:, :-1].double().mean() > 0.9
    assert torch.equal(world.identity_posterior(clips).argmax(1), identities)
    obeyed = world.obeyed(clips)
    assert obeyed.identity.all()
    assert obeyed.possible.all()
    assert world.state_entropy_rate() == pytest.approx(
        -(0.90625 * math.log(0.90625) + 15 * 0.00625 * math.log(0.00625))
    )


def test_a_world_of_one_velocity_and_one_of_large_and_small_shapes() -> None:
    still = Sequences(speeds=(0,), turn=1.0)
    assert still.state_entropy_rate() == 0
    clips, states, _ = still.sample_with_states(3, length=3, generator=seeded())
    assert (states == states[:, :1]).all()
    assert torch.equal(still.most_probable(clips), states)
    sized = Sequences(Shapes(12, sizes=(5, 7), positions=(4, 4), backgrounds=("black",)))
    assert len(sized.identities) == 2 * 5 * 6
    clips, _, identities = sized.sample_with_states(3, length=3, generator=seeded())
    assert torch.equal(sized.identity_posterior(clips).argmax(1), identities)
    assert torch.equal(sized.frames.map_factors(clips[:, 0])[:, :4], sized.identities[identities])


def test_the_judge_knows_a_turn_from_a_jump_and_a_changed_identity() -> None:
    world = Sequences(Shapes(12, sizes=(5,), positions=(8, 8)), speeds=(1, 2), turn=0.1)

    def seen(*positions: tuple[int, int], identity: int = 3) -> Tensor:
        velocities = len(world.velocities)
        states = torch.tensor([[(row * 8 + column) * velocities for row, column in positions]])
        return world.render(torch.tensor([identity]), states)

    straight = seen((5, 5), (7, 6), (6, 7), (4, 7), (2, 6))  # by (2, 1), bounced below and then at the right
    assert world.obeyed(straight).steady.all()
    turned = world.obeyed(seen((1, 1), (2, 2), (3, 3), (2, 4), (1, 5)))
    assert turned.steady.tolist() == [[True, True, False, True]]
    assert turned.possible.all()
    jumped = world.obeyed(seen((1, 1), (2, 2), (6, 6), (7, 7), (7, 7)))
    assert jumped.possible.tolist() == [[True, False, True, True]]
    assert jumped.steady.tolist() == [[True, False, True, True]]
    wrong_bounce = world.obeyed(seen((5, 5), (6, 6), (7, 7), (6, 6)))  # its first step at the wall stays there
    assert wrong_bounce.steady.tolist() == [[True, True, False]]
    assert wrong_bounce.possible.all()
    changed = torch.cat([seen((1, 1), (2, 2)), seen((3, 3), identity=4)], dim=1)
    assert world.obeyed(changed).identity.tolist() == [False]
    assert world.obeyed(straight).identity.tolist() == [True]
    assert world.obeyed(straight[:, :1]).steady.shape == (1, 0)
