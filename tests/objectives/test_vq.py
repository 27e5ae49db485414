"""Discrete codes: the nearest one, the gradient through it, and the autoencoder that learns them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from minigen.data.batches import Stream
from minigen.objectives import elbo, vq
from minigen.train.loop import Run
from minigen.train.optimizers import adam_per_player
from minigen.train.rng import Rng


def test_the_nearest_code_is_found_and_the_gradient_goes_straight_through() -> None:
    codes = torch.tensor([[0.0, 0.0], [1.0, 1.0], [-2.0, 0.0]])
    z = torch.tensor([[[0.4, 0.3], [0.9, 0.2]], [[-1.1, 0.0], [5.0, 5.0]]], requires_grad=True)
    index = vq.nearest_code(z, codes)
    assert index.tolist() == [[0, 1], [2, 1]]
    through = vq.straight_through(z, codes[index])
    torch.testing.assert_close(through, codes[index])
    (slope,) = torch.autograd.grad((through * torch.arange(2.0)).sum(), z)
    assert slope.tolist() == [[[0.0, 1.0]] * 2] * 2


def test_the_nearest_code_is_found_far_from_the_origin() -> None:
    draw = torch.Generator().manual_seed(0)
    codes, z = torch.randn(64, 8, generator=draw), torch.randn(500, 8, generator=draw)
    nearest = (z[:, None] - codes).square().sum(2).argmin(1)
    assert vq.nearest_code(z + 10_000, codes + 10_000).eq(nearest).float().mean() > 0.99  # less what rounding moves


def coder(codes: int = 4) -> vq.VQVAE:
    torch.manual_seed(0)
    encoder, decoder = nn.Conv2d(1, 3, 2, stride=2), nn.ConvTranspose2d(3, 1, 2, stride=2)
    return vq.VQVAE(vq.VQModel(encoder, decoder, elbo.Gaussian(1.0), codes=codes, size=3))


def test_each_part_of_a_vqvae_learns_from_its_own_term() -> None:
    game, x = coder(), torch.randn(5, 1, 4, 4)
    ((_, loss, logs),) = list(game.turns(x, Rng()))
    model = game.model
    z = model.encoder(x).movedim(1, -1)
    index = model.encode(x)
    code = model.codebook[index]
    pull = (z - code).square().flatten(1).sum(1).mean()
    torch.testing.assert_close(loss, logs["distortion"] + 1.25 * pull)
    for_codes, for_encoder = torch.autograd.grad(loss, [model.codebook, model.encoder.weight], retain_graph=True)
    (alone,) = torch.autograd.grad(pull, model.codebook, retain_graph=True)
    torch.testing.assert_close(for_codes, alone)  # the codebook learns from its distance to the encoder alone
    assert (for_codes[[k for k in range(4) if k not in index]] == 0).all()
    output = model.decoder(vq.straight_through(z, code).movedim(-1, 1))
    parts = -model.likelihood.log_prob(x, output).mean() + 0.25 * (z - code.detach()).square().flatten(1).sum(1).mean()
    (both,) = torch.autograd.grad(parts, model.encoder.weight)
    torch.testing.assert_close(for_encoder, both)
    assert 1 <= logs["perplexity"] <= 4


def test_codes_are_spread_over_what_the_encoder_gives() -> None:
    model, x = coder(codes=9).model, torch.randn(5, 1, 4, 4)
    model.spread_codes(x, generator=torch.Generator().manual_seed(0))
    vectors = model.encoder(x).movedim(1, -1).flatten(0, 2)
    nearest = torch.cdist(model.codebook, vectors).min(1)
    assert nearest.values.max() < 1e-3
    assert len(set(nearest.indices.tolist())) == 9, "no vector is drawn twice"
    more = coder(codes=30).model  # than there are vectors
    more.spread_codes(x, generator=torch.Generator().manual_seed(0))
    assert torch.cdist(more.codebook, more.vectors(x).flatten(0, 2)).min(1).values.max() < 1e-3


def test_a_vqvae_learns_as_many_kinds_of_patches_as_it_has_codes() -> None:
    game = coder(codes=4)
    kinds = torch.tensor([[1.0, 1, -1, -1], [-1, -1, 1, 1], [1, -1, 1, -1], [1, -1, -1, 1]]).view(4, 1, 2, 2)

    def draw(n: int, *, generator: torch.Generator) -> Tensor:
        patches = kinds[torch.randint(4, (n, 2, 2), generator=generator)]  # (n, 2, 2, 1, 2, 2)
        return patches.permute(0, 3, 1, 4, 2, 5).reshape(n, 1, 4, 4)

    run = Run(game, adam_per_player(game, 0.01))
    for _ in run(Stream(draw, batch_size=128), 800):
        pass
    model, x = game.model, draw(200, generator=torch.Generator().manual_seed(3))
    index = model.encode(x)
    assert index.shape == (200, 2, 2)
    assert (model.decode(index) - x).square().flatten(1).sum(1).mean() < 0.5 * 16  # two codes would leave half of it
    with pytest.raises(ValueError, match="at least 0; got -1"):
        vq.VQVAE(model, commitment=-1)


def test_the_codebook_loss_moves_the_codes_alone_and_exchanged_the_vectors_alone() -> None:
    z, code = torch.randn(3, 2, 2, 4, requires_grad=True), torch.randn(3, 2, 2, 4, requires_grad=True)
    distance = [((a - b) ** 2).sum() for a, b in zip(z, code, strict=True)]
    torch.testing.assert_close(vq.codebook_loss(z, code), torch.stack(distance))
    for loss, moved, rests in ((vq.codebook_loss(z, code), code, z), (vq.codebook_loss(code, z), z, code)):
        still, slope = torch.autograd.grad(loss.sum(), [rests, moved], allow_unused=True)
        assert still is None
        torch.testing.assert_close(slope, 2 * (moved - rests))


def test_perplexity_counts_the_codes_in_use() -> None:
    assert vq.perplexity(torch.tensor([[0, 3], [3, 0]]), 8).item() == pytest.approx(2)
    assert vq.perplexity(torch.arange(5), 5).item() == pytest.approx(5)
    share = torch.tensor([0.5, 0.25, 0.25])
    index = torch.tensor([0, 0, 1, 2])
    assert vq.perplexity(index, 3).item() == pytest.approx(math.exp(-(share * share.log()).sum()))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_logged_perplexity_is_that_of_single_precision_under_autocast(dtype: torch.dtype) -> None:
    """A sum of ones in bfloat16 stops at 256: 1,600 codes in two kinds would be counted as 512."""
    game, x = coder(), torch.randn(400, 1, 4, 4)
    game.model.spread_codes(x, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", dtype):
        ((_, _, logs),) = list(game.turns(x, Rng()))
        index = game.model.encode(x)
    assert logs["perplexity"].dtype == torch.float32
    share = index.flatten().bincount(minlength=4).double() / index.numel()
    assert logs["perplexity"].item() == pytest.approx(torch.special.entr(share).sum().exp().item(), rel=1e-5)


def test_only_the_networks_are_compiled(monkeypatch) -> None:
    compiled: list[nn.Module] = []
    monkeypatch.setattr(nn.Module, "compile", lambda self, *a, **k: compiled.append(self))
    game = coder()
    Run(game, adam_per_player(game, 0.1), compile=True)
    assert compiled == [game.model.encoder, game.model.decoder]


def test_it_has_one_player() -> None:
    game = vq.VQVAE(vq.VQModel(nn.Identity(), nn.Identity(), elbo.Gaussian(0.5, learned=True), codes=2, size=1))
    assert list(adam_per_player(game, 0.1)) == ["model"]
    assert len(list(game.parameters())) == len({name for name, _ in game.model.named_parameters()}) == 2
