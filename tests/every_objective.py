"""What torchrun starts to hold every objective to the result of one process.

usage: every_objective.py FOLDER: writes the results of `play` to FOLDER/rankR.pt
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from games import flat, game
from minigen import Run
from minigen.nets import (
    Captioner,
    ConvDiscriminator,
    DenseDiscriminator,
    DenseGenerator,
    ImageEncoder,
    Mixture,
    MLPDenoiser,
    MLPDiscriminator,
    MLPEncoder,
    MLPGenerator,
    PatchDiscriminator,
    PixelCNN,
    RegionEncoder,
    TextEncoder,
    TranslationUNet,
    UNet,
    WordGenerator,
)
from minigen.nets.mlp import mlp
from minigen.objectives import (
    Relativistic,
    Wasserstein,
    autoregressive,
    captioning,
    conditional,
    contrastive,
    cycle,
    diffusion,
    distillation,
    elbo,
    flow,
    paired,
    vq,
    words,
)
from minigen.objectives.likelihood import MaximumLikelihood
from minigen.train import distributed, per_player
from minigen.train.loop import Objective

IMAGES = torch.randn(8, 1, 4, 4, generator=torch.Generator().manual_seed(1))
POINTS = torch.randn(8, 2, generator=torch.Generator().manual_seed(2))
LEVELS = torch.randint(3, (8, 1, 4, 4), generator=torch.Generator().manual_seed(3))
LABELS = torch.arange(8) % 3
LARGER = torch.randn(8, 1, 8, 8, generator=torch.Generator().manual_seed(4))
TOKENS = torch.tensor([[1, 3, 2, 0], [1, 4, 2, 0], [1, 3, 5, 2], [1, 5, 5, 2]]).repeat(2, 1)


def model() -> elbo.LatentModel:
    encoder, decoder = MLPEncoder((1, 4, 4), 2, hidden=(8,)), MLPGenerator(2, (1, 4, 4), hidden=(8,), bounded=False)
    return elbo.LatentModel(encoder, decoder, elbo.Gaussian(0.5, learned=True), latent=2)


def quantiser() -> vq.VQVAE:
    encoder, decoder = nn.Conv2d(1, 3, 2, stride=2), nn.ConvTranspose2d(3, 1, 2, stride=2)
    return vq.VQVAE(vq.VQModel(encoder, decoder, elbo.Gaussian(1.0), codes=4, size=3))


def distilled() -> distillation.ProgressiveDistillation:
    student = diffusion.Denoiser(MLPDenoiser(2, hidden=(8,)))
    torch.manual_seed(0)  # a teacher is no player: each rank brings the same one
    teacher = diffusion.Denoiser(MLPDenoiser(2, hidden=(8,))).requires_grad_(False)
    return distillation.ProgressiveDistillation(student, teacher, diffusion.Schedule.cosine(20).path(4))


def labelled(game: type[conditional.Conditional], way: Any = "projection", **settings: Any) -> conditional.Conditional:
    generator = DenseGenerator(2, (2,), label_dim=3, hidden=(8,), bounded=False)
    discriminator = DenseDiscriminator((2,), hidden=(8,), label_dim=3, condition=way)
    return game(generator, discriminator, r1=0.1, **settings)


def matcher() -> words.WordMatcher:
    return words.WordMatcher(RegionEncoder((1, 8, 8), width=8), TextEncoder(6, length=4, width=8, blocks=1))


def painted(**settings: Any) -> words.AttnGAN:
    judges = [
        DenseDiscriminator((1, 4, 4), hidden=(8,), label_dim=8),
        ConvDiscriminator((1, 8, 8), width=4, label_dim=8),
    ]
    return words.AttnGAN(WordGenerator(2, (1, 8, 8), word_dim=8, condition=2, width=4), judges, matcher(), **settings)


def unet(**settings: Any) -> UNet:
    return UNet(1, width=8, multipliers=(1, 2), attention=(), **settings)


def eye() -> ImageEncoder:
    return ImageEncoder((1, 4, 4), width=8)


def plane(kind: Callable[..., Objective], **settings: Any) -> Objective:
    return kind(MLPGenerator(2, (2,), hidden=(8,), bounded=False), MLPDiscriminator((2,), hidden=(8,)), **settings)


def translated(**settings: Any) -> paired.Paired:
    networks = TranslationUNet(1, 1, width=4, depth=2, noise=2), PatchDiscriminator(1, condition_channels=1, layers=1)
    encoder = nn.Sequential(nn.Flatten(), mlp([64, 8, 2]))
    return paired.Paired(*networks, weight=0.1, encoder=encoder, **settings)


def there_and_back() -> cycle.Cycle:
    maps = (TranslationUNet(1, 1, width=4, depth=2) for _ in "ab")
    judges = (PatchDiscriminator(1, width=4, layers=1) for _ in "ab")
    return cycle.Cycle(*maps, *judges, weight=0.1, identity=0.5, pool=12, shape=((1, 8, 8), (1, 8, 8)))


GAMES: dict[str, tuple[Callable[[], Objective], Any]] = {
    "minimax": (game, POINTS),
    "wasserstein": (lambda: plane(Wasserstein, critic_steps=2), POINTS),
    "clipped": (lambda: plane(Wasserstein, critic_steps=2, penalty=0.0, clip=0.1), POINTS),
    "pairs": (lambda: plane(Relativistic, r1=0.1, r2=0.2), POINTS),
    "conditional": (lambda: labelled(conditional.Conditional), (POINTS, LABELS)),
    "labels that lie": (
        lambda: labelled(conditional.Conditional, transition=torch.full((3, 3), 1 / 3)),
        (POINTS, LABELS),
    ),
    "wrong pairs": (lambda: labelled(conditional.Conditional, mismatched=True), (POINTS, LABELS)),
    "auxiliary": (lambda: labelled(conditional.Auxiliary, "auxiliary", twin=mlp([2, 8, 3])), (POINTS, LABELS)),
    "likelihood": (lambda: MaximumLikelihood(Mixture(torch.randn(3, 2), std=1.0)), POINTS),
    "elbo": (lambda: elbo.ELBO(model()), IMAGES),
    "free bits": (lambda: elbo.ELBO(model(), free=0.05), IMAGES),
    "importance weighted": (lambda: elbo.ELBO(model(), samples=3), IMAGES),
    "vq": (quantiser, IMAGES),
    "autoregressive": (lambda: autoregressive.Autoregressive(PixelCNN(3, width=4, blocks=1)), LEVELS),
    "diffusion": (
        lambda: diffusion.Diffusion(diffusion.Denoiser(unet(label_dim=3)), diffusion.Schedule.cosine(20), p_uncond=0.5),
        (IMAGES, LABELS),
    ),
    "flow": (lambda: flow.FlowMatching(flow.Velocity(MLPDenoiser(2, hidden=(8,)))), POINTS),
    "distillation": (distilled, POINTS),
    "contrastive": (
        lambda: contrastive.Contrastive(
            contrastive.DualEncoder(eye(), TextEncoder(6, length=4, width=8, blocks=1), size=4)
        ),
        (IMAGES, TOKENS),
    ),
    "damsm": (lambda: words.DAMSM(matcher()), (LARGER, TOKENS)),
    "words": (lambda: painted(r1=0.1), (LARGER, TOKENS)),
    "words, wrong pairs": (lambda: painted(mismatched=True), (LARGER, TOKENS[:4].repeat_interleave(2, 0))),
    "regression": (lambda: paired.Regression(TranslationUNet(1, 1, width=4, depth=2)), (LARGER, LARGER.flip(3))),
    "paired": (lambda: translated(r1=0.1), (LARGER, LARGER.flip(3))),
    "cycle": (there_and_back, (LARGER, LARGER.flip(2))),
    "captioning": (lambda: captioning.Captioning(Captioner(eye(), 6, length=4, blocks=1)), (IMAGES, TOKENS)),
}


def play(sync: distributed.ProcessGroup | None) -> dict[str, Tensor]:
    """The parameters after three steps of plain gradient descent, and the logs of the last, of every game."""
    torch.set_num_threads(1)
    found = {}
    for name, (make, batch) in GAMES.items():
        torch.manual_seed(sync.rank if sync else 0)  # the ranks start apart: rank 0's parameters must win
        objective = make()
        run = Run(objective, per_player(objective, lambda p: torch.optim.SGD(p, 1e-3)), sync=sync, seed=1)
        *_, last = run([batch], 3)
        found[name] = flat(objective)
        found |= {f"{name}: {log}": torch.tensor(value) for log, value in last.read().items()}
    return found


if __name__ == "__main__":
    group = distributed.setup(backend="gloo")
    torch.save(play(group), Path(sys.argv[1]) / f"rank{group.rank if group else 0}.pt")
    distributed.teardown()
