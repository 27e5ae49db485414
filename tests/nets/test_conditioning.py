"""What a network is conditioned on: level, label as numbers or as a class, words; and what says nothing."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from minigen.nets.conditioning import Conditioning, drop_context, encode_label
from minigen.nets.embeddings import FEATURES, sinusoidal
from minigen.nets.pixel_transformer import PixelTransformer
from minigen.nets.pixelcnn import GatedPixelCNN
from minigen.objectives.diffusion import Denoiser, Diffusion, Schedule
from minigen.train.rng import Rng

pytestmark = pytest.mark.usefixtures("float64")

SOME = torch.tensor([[True, True, False, True, False], [False, True, True, True, True]])  # (B, S)


def test_conditions_take_what_the_network_is_for_and_nothing_else() -> None:
    x, levels, label, words = torch.randn(2, 3, 4, 4), torch.randn(2), torch.randn(2, 7), torch.randn(2, 5, 6)
    plain, labelled = Conditioning(16), Conditioning(16, label_dim=7)
    worded, both = Conditioning(16, context_dim=6), Conditioning(16, context_dim=6, label_dim=7)
    for net, context in ((plain, ()), (labelled, (label,)), (worded, (words,)), (both, (label, words, SOME))):
        cond = net(x, (levels, *context))
        assert cond.embedding.shape == (2, 16)
        assert cond.context is (words if net.context_dim else None)
        assert cond.mask is (SOME if len(context) == 3 else None)
    refused = {
        "log_snr must be": (plain, levels[:1], ()),
        "got 2 tensors, 1 too many": (plain, levels, (label,)),
        "label must be": (labelled, levels, ()),
        r"label must be \(2, 7\)": (labelled, levels, (label[:, :3],)),
        "words must be": (worded, levels, ()),
        r"words must be \(2, T, 6\)": (worded, levels, (label,)),
        "mask must be bool": (worded, levels, (words, SOME.double())),
        r"mask must be bool \(2, 5\)": (worded, levels, (words, SOME[:, :3])),
        "5 tensors, 1 too many": (both, levels, (label, words, SOME, SOME)),
    }
    for message, (net, at, context) in refused.items():
        with pytest.raises(ValueError, match=message):
            net(x, (at, *context))


def test_level_and_label_are_told_and_a_label_of_zeros_says_nothing() -> None:
    net, x = Conditioning(16, label_dim=3), torch.randn(2, 3, 4, 4)
    levels, label = torch.tensor([-3.0, 4.0]), torch.randn(2, 3)
    nothing = net(x, (levels, torch.zeros(2, 3))).embedding
    torch.testing.assert_close(nothing, nn.functional.silu(net.level(sinusoidal(levels, FEATURES))))
    assert (net(x, (levels, label)).embedding - nothing).abs().amax(1).min() > 1e-2
    assert (nothing[0] - nothing[1]).abs().max() > 1e-2


def test_without_a_noise_level_there_is_none_to_give() -> None:
    net, x, label = Conditioning(16, noise_level=False, label_dim=3), torch.randn(2, 3, 4, 4), torch.randn(2, 3)
    nothing = net(x, (torch.zeros(2, 3),)).embedding
    torch.testing.assert_close(nothing, nn.functional.silu(net.constant).expand(2, 16))
    assert (net(x, (label,)).embedding - nothing).abs().amax(1).min() > 1e-2
    with pytest.raises(ValueError, match="got 2 tensors, 1 too many"):
        net(x, (label, torch.zeros(2)))
    with pytest.raises(ValueError, match="got 1 tensors, 1 too many"):
        Conditioning(16, noise_level=False)(x, (torch.zeros(2),))


def test_a_class_is_its_one_hot_and_minus_one_is_unconditional() -> None:
    net, x, levels = Conditioning(16, label_dim=3), torch.randn(4, 3, 4, 4), torch.randn(4)
    classes = torch.tensor([2, 0, 1, -1])
    one_hot = torch.tensor([[0.0, 0, 1], [1, 0, 0], [0, 1, 0], [0, 0, 0]])
    assert torch.equal(encode_label(classes, 4, 3, torch.float64), one_hot)
    found = net(x, (levels, classes)).embedding
    assert torch.equal(found, net(x, (levels, one_hot)).embedding)
    assert torch.equal(found, net(x, (levels, one_hot.long())).embedding), "one-hots of integers, too"
    for wrong, says in (
        (torch.tensor([0, 1, 2, 3]), r"-1\.\.2; got 0\.\.3"),
        (torch.tensor([0, 1, 2, -2]), r"-1\.\.2; got -2\.\.2"),
        (classes.int(), r"int64 in -1\.\.2; got torch.int32"),
        (classes.double(), r"label must be \(4, 3\), or classes, int64 \(4,\); got torch.float64 \(4,\)"),
        (classes[:3], r"got torch.int64 \(3,\)"),
    ):
        with pytest.raises(ValueError, match=says):
            net(x, (levels, wrong))


@pytest.mark.parametrize(
    "net",
    [
        lambda: GatedPixelCNN(3, width=8, layers=2, context_dim=4),
        lambda: PixelTransformer(3, size=(3, 4), width=8, blocks=1, heads=2, context_dim=4),
    ],
)
def test_networks_of_pixels_take_classes_too(net) -> None:
    net, x, classes = net(), torch.randint(3, (3, 1, 3, 4)), torch.tensor([3, -1, 0])
    one_hot = torch.tensor([[0.0, 0, 0, 1], [0, 0, 0, 0], [1, 0, 0, 0]])
    assert torch.equal(net(x, classes), net(x, one_hot))
    first = [net.init_cache(3, 3, 4, given).logits(0, 0) for given in (classes, one_hot)]
    assert torch.equal(*first)
    assert (first[0][0] - first[0][2]).abs().max() > 1e-3
    for wrong in (torch.tensor([4, 0, 0]), one_hot[:1], one_hot[:, :3]):
        with pytest.raises(ValueError, match="context"):
            net(x, wrong)
        with pytest.raises(ValueError, match="context"):
            net.init_cache(3, 3, 4, wrong)


def test_what_is_dropped_says_nothing() -> None:
    kept, classes = torch.tensor([True, False]), torch.tensor([3, 0])
    assert drop_context(classes, kept).tolist() == [3, -1]
    assert drop_context(torch.ones(2, 2), kept).tolist() == [[1, 1], [0, 0]]
    assert drop_context(torch.ones(2, 2, dtype=torch.bool), kept).tolist() == [[True, True], [False, False]]
    assert drop_context(torch.tensor([[1, 5, 2], [1, 4, 2]]), kept).tolist() == [[1, 5, 2], [0, 0, 0]]


def test_diffusion_drops_classes_to_none_and_not_to_the_first() -> None:
    class Records(nn.Module):
        def forward(self, x, log_snr, label):
            self.label = label
            return x

    net, batch = Records(), (torch.randn(400, 2), torch.randint(1, 4, (400,)))
    objective = Diffusion(Denoiser(net), Schedule.linear(10), p_uncond=0.25)
    next(objective.turns(batch, Rng()))
    share = (net.label == -1).double().mean().item()
    assert 0.15 < share < 0.35
    assert torch.equal(net.label[net.label != -1], batch[1][net.label != -1])
