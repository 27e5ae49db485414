"""Reports on clips: exact samples obey, broken ones do not; the entropy of the next frame falls as it should."""

from __future__ import annotations

import math

import pytest
import torch
from refusals import refused
from small_shapes import seeded

from minigen.metrics import clip_report, frame_entropies, validity
from minigen.worlds import Sequences, Shapes

WORLD = Sequences(Shapes(12, sizes=(5,), positions=(8, 8), backgrounds=("black",), colours=("red", "cyan")))


def test_exact_samples_obey_and_those_without_turns_are_steady() -> None:
    clips, states, _ = WORLD.sample_with_states(150, length=6, generator=seeded())
    report = clip_report(clips, WORLD)
    assert report[:3] == (1, 1, 1)
    # A step with a new velocity is not steady, unless another velocity that fits so far makes the step, too.
    turned = (WORLD._after[states[:, :-1]] != states[:, 1:]).double()[:, 1:].mean().item()
    assert 1 - turned <= report.steady + 0.02 < 1
    steady = Sequences(WORLD.frames, turn=0.0)
    assert clip_report(steady.sample(20, length=6, generator=seeded()), steady) == (1, 1, 1, 1)


def test_broken_clips_are_seen() -> None:
    clips = WORLD.sample(60, length=6, generator=seeded())
    whole = clip_report(clips, WORLD)
    shuffled = clip_report(clips[:, torch.randperm(6, generator=seeded())], WORLD)
    assert shuffled[:2] == whole[:2]
    assert shuffled.possible < 0.8
    assert shuffled.steady < whole.steady - 0.3
    mixed = clip_report(torch.cat([clips[:, :3], clips.roll(1, 0)[:, 3:]], dim=1), WORLD)
    assert mixed.identity < 0.3
    assert mixed.valid == 1
    noise = clip_report(torch.randn(4, 3, 3, 12, 12, generator=seeded()), WORLD)
    assert noise.valid == validity(torch.randn(12, 3, 12, 12, generator=seeded()), WORLD.frames) == 0


def test_the_past_makes_the_next_frame_less_uncertain_as_far_as_the_law_says() -> None:
    """Where a frame shows its place, H(X_t | X_<t) is the entropy of the place given the past, plus the noise."""
    entropies = frame_entropies(WORLD, length=5, clips=400, generator=seeded())
    noise = 432 * math.log(2 * math.pi * math.e * 0.01) / 2
    excess = [entropy.mean - noise for entropy in entropies]
    errors = [entropy.standard_error for entropy in entropies]
    assert all(error < 1.2 for error in errors)
    matrix = torch.unflatten(WORLD.transition_matrix(), 1, (64, 16)).sum(2)  # P(next place | state), (S, P)
    of_places = torch.special.entr(torch.unflatten(matrix, 0, (64, 16)).mean(1)).sum(1).mean().item()
    of_states = torch.special.entr(matrix).sum(1).mean().item()
    assert abs(excess[0] - math.log(10 * 64)) < 4 * errors[0]  # which of ten shapes, and where
    assert abs(excess[1] - of_places) < 4 * errors[1]  # by which velocity
    for rest, error in zip(excess[2:], errors[2:], strict=True):  # then the velocity is known, up to a turn
        assert of_states - 4 * error < rest < of_places + 4 * error
    assert of_states < 0.6 < 2 < of_places
    assert sum(excess[2:]) / 3 < of_places - 1


def test_what_cannot_be_judged_is_refused() -> None:
    refused(lambda: clip_report(WORLD.sample(2, length=1), WORLD), "of two frames or more; got (2, 1, 3, 12, 12)")
    refused(lambda: clip_report(torch.zeros(2, 3, 12, 12), WORLD), "clips must be (B, T, 3, 12, 12)")
    refused(lambda: frame_entropies(WORLD, clips=1), "clips must be 2 or more; got 1")
    with pytest.raises(ValueError, match="tolerance"):
        clip_report(WORLD.sample(2), WORLD, tolerance=2.0)
