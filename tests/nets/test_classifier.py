"""The classifier that judges samples: what it takes, that it learns, and how its pictures are varied."""

from __future__ import annotations

import pytest
import torch

from minigen.nets.classifier import ConvClassifier, warp


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_logits_are_the_last_layers_of_the_features() -> None:
    net, x = ConvClassifier((3, 16, 24), 5, width=4).eval(), torch.rand(2, 3, 16, 24)
    assert net.features(x).shape == (2, 16)
    torch.testing.assert_close(net(x), net.features(x) @ net.head[1].weight.T + net.head[1].bias)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: ConvClassifier((3, 12, 12), 2), ValueError, "multiples of 8; got .3, 12, 12."),
        (lambda: ConvClassifier((16, 16), 2), ValueError, "shape must be .C, H, W."),
        (lambda: ConvClassifier((3, 16, 16), 2)(torch.zeros(1, 3, 8, 8)), ValueError, r"\(B, 3, 16, 16\); got"),
        (lambda: ConvClassifier((3, 16, 16), 2)(torch.zeros(3, 16, 16)), ValueError, r"\(B, 3, 16, 16\); got"),
        (lambda: ConvClassifier((1, 8, 8), 2)(torch.zeros(1, 1, 8, 8).byte()), TypeError, "data.to_float"),
    ],
)
def test_what_it_cannot_take_is_said(call, error, words: str) -> None:
    with pytest.raises(error, match=words):
        call()


def test_it_learns_to_tell_two_kinds_of_pictures_apart() -> None:
    net = ConvClassifier((1, 8, 8), 2, width=8)
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(40):
        y = torch.randint(2, (32,))
        x = 0.3 * torch.randn(32, 1, 8, 8)
        x[torch.arange(32), 0, :, 2 + 3 * y] += 1  # a line on the left or on the right
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()
    assert (net.eval()(x).argmax(1) == y).double().mean() > 0.95


def test_without_turn_zoom_and_move_a_picture_is_itself_or_its_mirror_image() -> None:
    x = torch.rand(64, 3, 8, 8)
    y = warp(x, generator=seeded(), turn=0, zoom=0, move=0)
    same = torch.isclose(y, x, atol=1e-5).flatten(1).all(1)
    mirrored = torch.isclose(y, x.flip(3), atol=1e-5).flatten(1).all(1)
    assert (same | mirrored).all()
    assert 16 < same.sum() < 48


def test_a_warped_picture_is_moved_and_what_comes_in_is_white() -> None:
    x = -torch.ones(200, 1, 16, 16)
    y = warp(x, generator=seeded(1))
    assert ((y - x).abs().flatten(1).amax(1) > 0.5).double().mean() > 0.9  # white at some border of nearly all
    assert y[:, :, 6:10, 6:10].max() < -0.999
    assert torch.equal(warp(x, generator=seeded(1)), y)
    dot = torch.ones(200, 1, 17, 17)
    dot[:, :, 7:10, 7:10] = -1
    shares = (1 - warp(dot, generator=seeded(2), turn=0, zoom=0.15, move=0)).sum((1, 2, 3)) / (1 - dot).sum((1, 2, 3))
    assert shares.min() > 0.6  # the size changes by at most 15 %, so the area by about a third
    assert shares.max() < 1.5
