"""Training throughput against pythae on the same networks, interleaved in one run.

usage: python benchmarks/throughput.py [--rounds 5] [--networks mlp conv] [--json FILE]

The peer is no dependency of minigen. Install it beside minigen, in an environment that may be thrown away:
`pip install pythae` (Chadebec, Vincent and Allassonniere 2022). MNIST comes from where `minigen.data` finds it.

Both train the variational autoencoder of the peer's README: latents of size 10, squared error, batches of 200, AdamW at
1e-3; with the peer's default MLP and with its convolutional networks for MNIST (17 million parameters). The
peer's initial weights are copied, and before any timing both must give the same loss and gradient on the same noise.

What takes turns, on one thread, in single precision unless it says bf16:

pythae, README:     an epoch of its trainer, with the two loader processes that its README asks for.
pythae, in process: the same, without loader processes, its class default.
minigen:            `Run` on `Batches`, as many steps on the same images.
minigen, bf16:      the same with precision="bf16": not equal precision.
step only:          forward, backward and optimiser on a batch that is ready, for both. "fused" gives the peer the
                    fused optimiser that minigen has by default, and so tells what is left.

Ratios are medians over rounds of the ratio within a round. Whatever else the machine does falls on both.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import math
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from minigen.data.batches import Batches
from minigen.data.images import mnist
from minigen.nets.mlp import MLPGenerator, mlp
from minigen.objectives.elbo import ELBO, Gaussian, LatentModel
from minigen.train.loop import Run
from minigen.train.rng import Rng

try:
    from pythae.data.datasets import BaseDataset
    from pythae.models import VAE, VAEConfig
    from pythae.models.nn.benchmarks.mnist import Decoder_Conv_AE_MNIST, Encoder_Conv_VAE_MNIST
    from pythae.trainers import BaseTrainer, BaseTrainerConfig
except ImportError as error:
    raise SystemExit(f"the peer is missing ({error}): pip install pythae, beside minigen") from error

LATENT, BATCH, RATE = 10, 200, 1e-3
ADAMW: dict[str, Any] = {"weight_decay": 0.05, "betas": (0.91, 0.995)}
IMAGES = {"mlp": 10_000, "conv": 400}  # of a round
CONSTANT = 784 / 2 * math.log(2 * math.pi)  # of a Gaussian of standard deviation 1, which the peer leaves out

Contender = Callable[[], float]


class Encoder(nn.Module):
    """A network that puts out mean and log variance, as the peer's do, for an objective that takes log_std."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.net = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = self.net(x).chunk(2, dim=1)
        return mean, log_variance / 2


def mlp_pair() -> tuple[nn.Module, nn.Module]:
    encoder = Encoder(nn.Flatten(), mlp([784, 512, 2 * LATENT]))
    return encoder, nn.Sequential(MLPGenerator(LATENT, (1, 28, 28), hidden=(512,), bounded=False), nn.Sigmoid())


def conv_pair() -> tuple[nn.Module, nn.Module]:
    down: list[nn.Module] = []
    for c_in, c_out in ((1, 128), (128, 256), (256, 512), (512, 1024)):
        down += [nn.Conv2d(c_in, c_out, 4, stride=2, padding=1), nn.BatchNorm2d(c_out), nn.ReLU()]
    up: list[nn.Module] = [nn.Linear(LATENT, 1024 * 4 * 4), nn.Unflatten(1, (1024, 4, 4))]
    for c_in, c_out, more in ((1024, 512, 0), (512, 256, 1)):
        layer = nn.ConvTranspose2d(c_in, c_out, 3, stride=2, padding=1, output_padding=more)
        up += [layer, nn.BatchNorm2d(c_out), nn.ReLU()]
    last = nn.ConvTranspose2d(256, 1, 3, stride=2, padding=1, output_padding=1)
    return Encoder(*down, nn.Flatten(), nn.Linear(1024, 2 * LATENT)), nn.Sequential(*up, last, nn.Sigmoid())


def the_peer(network: str) -> VAE:
    config = VAEConfig(input_dim=(1, 28, 28), latent_dim=LATENT)
    if network == "mlp":
        return VAE(config)
    return VAE(config, Encoder_Conv_VAE_MNIST(config), Decoder_Conv_AE_MNIST(config))


def joined(encoder: Iterable[Tensor], decoder: Iterable[Tensor]) -> list[Tensor]:
    """The peer's tensors in minigen's order: its encoder ends in two layers, which are one here."""
    *layers, mean, mean_bias, variance, variance_bias = encoder
    return [*layers, torch.cat([mean, variance]), torch.cat([mean_bias, variance_bias]), *decoder]


def the_same(network: str, peer: VAE) -> ELBO:
    """minigen's objective on the same networks with the same weights."""
    encoder, decoder = {"mlp": mlp_pair, "conv": conv_pair}[network]()
    theirs = joined(peer.encoder.parameters(), peer.decoder.parameters())
    mine = [*encoder.parameters(), *decoder.parameters()]
    assert [p.shape for p in mine] == [p.shape for p in theirs]
    assert sum(p.numel() for p in mine) == sum(p.numel() for p in peer.parameters())
    with torch.no_grad():
        for to, source in zip(mine, theirs, strict=True):
            to.copy_(source)
    return ELBO(LatentModel(encoder, decoder, Gaussian(1.0), latent=LATENT))


class Given(Rng):
    """Noise that is known beforehand."""

    def __init__(self, noise: Tensor) -> None:
        super().__init__()
        self.noise = noise

    def normal(self, rows: int, *shape: int) -> Tensor:
        assert self.noise.shape == (rows, *shape)
        return self.noise


def disagreement(peer: VAE, objective: ELBO, x: Tensor) -> dict[str, float]:
    """Relative differences of loss and gradient on the same images and noise; an error where they are not small."""
    torch.manual_seed(1)
    theirs = peer({"data": x}).loss
    torch.manual_seed(1)
    _, mine, _ = next(objective.turns(x, Given(torch.randn(len(x), LATENT))))
    encoder, decoder = list(peer.encoder.parameters()), list(peer.decoder.parameters())
    slopes = torch.autograd.grad(theirs, encoder + decoder)
    expected = joined(slopes[: len(encoder)], slopes[len(encoder) :])
    found = torch.autograd.grad(mine, [p for p in objective.parameters() if p.requires_grad])
    error = math.hypot(*((a - b).norm().item() for a, b in zip(found, expected, strict=True)))
    gaps = {
        "loss": abs((mine - CONSTANT - theirs).item() / theirs.item()),
        "gradient": error / math.hypot(*(b.norm().item() for b in expected)),
    }
    assert gaps["loss"] < 1e-4, gaps
    assert gaps["gradient"] < 1e-3, gaps
    return gaps


def unit(levels: Tensor) -> Tensor:
    """uint8 to [0, 1], the range of the peer's sigmoid."""
    return levels.float() / 255


def clock(work: Callable[[], object], images: int) -> float:
    """Images a second."""
    start = time.perf_counter()
    work()
    return images / (time.perf_counter() - start)


def run(objective: ELBO, batches: Iterable[Tensor], images: int, *, precision: str = "fp32") -> Contender:
    """minigen's loop."""
    optimizer = torch.optim.AdamW(objective.parameters(), RATE, fused=True, **ADAMW)
    loop = Run(objective, optimizer, precision=precision)
    return lambda: clock(lambda: [None for _ in loop(batches, images // BATCH)], images)


def epochs(peer: VAE, x: Tensor, folder: str, *, workers: int) -> Contender:
    """The peer's trainer, an epoch of which is all of x; its progress bar is drawn, but not shown."""
    config = BaseTrainerConfig(
        output_dir=folder,
        learning_rate=RATE,
        per_device_train_batch_size=BATCH,
        train_dataloader_num_workers=workers,
        optimizer_cls="AdamW",
        optimizer_params=ADAMW,
        no_cuda=True,
    )
    trainer = BaseTrainer(peer, BaseDataset(x, torch.ones(len(x))), training_config=config)
    trainer.prepare_training()

    def block() -> float:
        with contextlib.redirect_stderr(io.StringIO()):
            return clock(lambda: trainer.train_step(1), len(x))

    return block


def steps(peer: VAE, x: Tensor, images: int, *, fused: bool) -> Contender:
    """The peer's step on a batch that is ready."""
    optimizer = torch.optim.AdamW(peer.parameters(), RATE, fused=fused, **ADAMW)
    peer.train()

    def work() -> None:
        for _ in range(images // BATCH):
            loss = peer({"data": x}).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return lambda: clock(work, images)


def measure(network: str, levels: Tensor, folder: str, *, rounds: int) -> dict[str, Any]:
    """Medians of images a second, and of the ratios within a round."""
    images, ready = IMAGES[network], unit(levels[:BATCH])
    levels, x = levels[:images], unit(levels[:images])
    torch.manual_seed(0)
    first = the_peer(network)
    gaps = disagreement(first, the_same(network, first), ready)

    def batches() -> Batches:
        return Batches(levels, batch_size=BATCH, transform=unit)

    contenders: dict[str, Contender] = {
        "pythae, README": epochs(the_peer(network), x, folder, workers=2),
        "minigen": run(the_same(network, first), batches(), images),
        "minigen, bf16": run(the_same(network, first), batches(), images, precision="bf16"),
        "pythae, in process": epochs(the_peer(network), x, folder, workers=0),
        "pythae, step only": steps(the_peer(network), ready, images, fused=False),
        "minigen, step only": run(the_same(network, first), [ready] * (images // BATCH), images),
        "pythae, step only, fused": steps(the_peer(network), ready, images, fused=True),
    }
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(rounds + 1):  # the first is a warm-up
        for name in contenders if turn % 2 else reversed(contenders):
            rate = contenders[name]()
            if turn:
                found[name].append(rate)

    def ratio(mine: str, theirs: str) -> float:
        return statistics.median(a / b for a, b in zip(found[mine], found[theirs], strict=True))

    return {
        "parameters": sum(p.numel() for p in first.parameters()),
        "images a round": images,
        "relative difference at the start": gaps,
        "images/s": {name: round(statistics.median(rates), 1) for name, rates in found.items()},
        "ratios": {
            "minigen to pythae as its README runs it": ratio("minigen", "pythae, README"),
            "minigen to pythae, loader in process": ratio("minigen", "pythae, in process"),
            "minigen in bf16 to pythae as its README runs it": ratio("minigen, bf16", "pythae, README"),
            "step only": ratio("minigen, step only", "pythae, step only"),
            "step only, both fused": ratio("minigen, step only", "pythae, step only, fused"),
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--networks", nargs="+", choices=list(IMAGES), default=list(IMAGES))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable(logging.INFO)
    levels = mnist().images[:10_000]
    result: dict[str, Any] = {
        "device": f"cpu, {platform.machine()}, {torch.backends.cpu.get_cpu_capability()}, one thread",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "pythae": version("pythae"),
        "batch": BATCH,
        "rounds": arguments.rounds,
    }
    with tempfile.TemporaryDirectory() as folder:
        for network in arguments.networks:
            result[network] = found = measure(network, levels, folder, rounds=arguments.rounds)
            print(f"{network}, {found['parameters']:,} parameters")
            for name, rate in found["images/s"].items():
                print(f"    {name:26} {rate:10,.1f} images/s")
            for name, value in found["ratios"].items():
                print(f"    {value:5.2f} times: {name}")
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
