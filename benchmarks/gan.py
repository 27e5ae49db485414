"""The training step of two games against the scripts in circulation, on their own networks, interleaved in one run.

usage: python benchmarks/gan.py CHECKOUT [--scripts dcgan wgan_gp] [--blocks 20] [--steps 10] [--compile]
                                [--json FILE, which is added to]

The peers are `dcgan.py` and `wgan_gp.py` of PyTorch-GAN (Linder-Noren 2018, MIT) as they stand at commit 36d3c77;
CHECKOUT is a clone of https://github.com/eriklindernoren/PyTorch-GAN, and another text than that commit's is reported.
They need torchvision beside minigen, in an environment that may be thrown away: `pip install --no-deps torchvision==X`,
of the release that belongs to the torch that is there. Only its Python is called, so a build for another kind of
device will do.

Nothing of theirs is rewritten. What stands before a script's training loop is executed as it is, in a temporary folder,
with as many synthetic strokes of 28 by 28 pixels in place of MNIST; then the body of its loop, step by step, with its
printing (into nothing) and its pictures. What takes turns, on one thread, in batches of 64:

script:          the body of its loop on the batches of its own loader.
script, ready:   the same on batches that are ready in a list, on the device.
loader:          its loader alone: images are opened, resized and normalised one by one.
minigen:         `Run` on the networks that the script built, with its rates, on the same images, uint8 on the device.
by hand:         a clean loop on the same: fused Adam, gradients for the mover alone, nothing but the step.

minigen and the loop by hand in fp32 and in bf16, on CUDA in fp16, too, and minigen compiled in bf16 (on a CPU with
--compile). The discriminator of `dcgan.py` ends in a sigmoid, which minigen and the loop by hand leave out, since their
losses take logits; its generator moves first, minigen's second. One step is one batch of 64 real images; for
`wgan_gp.py`, whose generator moves at every fifth, minigen's step deals out a batch of 320 among five moves of the
critic, and counts as five. Before any timing the body of the script and minigen's objective must give the same losses
and gradients on the same images and noise (of `wgan_gp.py` those of the critic, which moves before the generator).

On a CPU the seconds are those that this process computed for; on CUDA they are those of the clock. A ratio is the
median over blocks of the ratio within a block, beside its smallest and largest.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import math
import platform
import statistics
import tempfile
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn

from circulating import Script, Take, scaled, strokes
from loop import interleaved, ours
from minigen.data.batches import Batches
from minigen.objectives.minimax import Minimax, discriminator_loss, non_saturating_loss
from minigen.objectives.wasserstein import Wasserstein, critic_loss, generator_loss
from minigen.train.loop import Objective
from minigen.train.optimizers import adam_per_player
from minigen.train.precision import AUTOCAST
from minigen.train.rng import Rng

COMMIT = "36d3c77e5ff20ebe0aeefd322326a134a279b93e"
BATCH, IMAGES, READY = 64, 9_920, 50  # IMAGES: whole rounds of five batches, so that none is short


class Hand:
    """A clean loop by hand: the players of an objective, their optimisers, images, noise and scalers."""

    def __init__(
        self, objective: Objective, optimizers: dict[str, torch.optim.Optimizer], batches: Batches, precision: str
    ) -> None:
        self.players, self.optimizers, self.batches = dict(objective.named_children()), optimizers, batches
        self.device, self.dtype, self.latent = batches.tensors[0].device, AUTOCAST[precision], objective.latent
        scaling = precision == "fp16"
        self.scalers = {name: torch.amp.GradScaler(self.device.type, enabled=scaling) for name in self.players}

    def cast(self) -> Any:
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not None)

    def noise(self) -> Tensor:
        return torch.randn(BATCH, self.latent, device=self.device)

    def move(self, player: str, loss: Tensor) -> None:
        optimizer, scaler = self.optimizers[player], self.scalers[player]
        optimizer.zero_grad()
        scaler.scale(loss).backward(inputs=list(self.players[player].parameters()))
        scaler.step(optimizer)
        scaler.update()


def minimax_by_hand(hand: Hand) -> None:
    g, d, real = hand.players["generator"], hand.players["discriminator"], next(hand.batches)
    with hand.cast():
        fake = g(hand.noise())
        loss = discriminator_loss(d(real), d(fake.detach()))
    hand.move("discriminator", loss)
    with hand.cast():
        loss = non_saturating_loss(d(fake))
    hand.move("generator", loss)


def wasserstein_by_hand(hand: Hand) -> None:
    g, d = hand.players["generator"], hand.players["critic"]
    for _ in range(5):
        real = next(hand.batches)
        with hand.cast():
            with torch.no_grad():
                fake = g(hand.noise())
            loss = critic_loss(d(real), d(fake))
        u = torch.rand(BATCH, 1, 1, 1, device=hand.device)
        between = (u * real + (1 - u) * fake.float()).requires_grad_()
        (slope,) = torch.autograd.grad(d(between).sum(), between, create_graph=True)
        hand.move("critic", loss + 10 * (slope.flatten(1).norm(dim=1) - 1).square().mean())
    with hand.cast():
        loss = generator_loss(d(g(hand.noise())))
    hand.move("generator", loss)


class Peer(NamedTuple):
    """A script, and minigen's part in the comparison.

    losses: of each player whose loss the script has before anyone has moved: its name there, and ours over theirs.
    """

    sha256: str
    objective: Callable[[nn.Module, nn.Module], Objective]
    by_hand: Callable[[Hand], None]
    moves: int
    losses: dict[str, tuple[str, float]]


PEERS = {
    "dcgan": Peer(
        "d8e43dd0308b444697520a4ac86f8c60448aa21498d6872b475b17911262268b",
        Minimax,
        minimax_by_hand,
        1,
        {"discriminator": ("d_loss", 2.0), "generator": ("g_loss", 1.0)},
    ),
    "wgan_gp": Peer(
        "40a55c85c75358b82edefd3e8470b3937c8f05c8900c746224fd5b3ef89e1e86",
        Wasserstein,
        wasserstein_by_hand,
        5,
        {"critic": ("d_loss", 1.0)},
    ),
}


class Given(Rng):
    """Numbers that are known beforehand: normal z, uniform u."""

    def __init__(self, z: Tensor, u: Tensor) -> None:
        super().__init__()
        self.z, self.u = z, u

    def normal(self, rows: int, *shape: int) -> Tensor:
        assert self.z.shape == (rows, *shape)
        return self.z

    def uniform(self, rows: int, *shape: int) -> Tensor:
        assert self.u.shape == (rows, *shape)
        return self.u


def disagreement(peer: Peer, script: Script, real: Tensor) -> dict[str, float]:
    """Relative differences of losses and gradients on the same images and noise; an error where they are not small.

    Normalisation as in evaluation, and no dropout: the script draws it in another order. Takes a step of the script.
    """
    g, d = (script.names[name].eval() for name in ("generator", "discriminator"))
    theirs = {"generator": g, "discriminator": d, "critic": d}
    objective, random = peer.objective(*script.networks()).eval(), np.random.default_rng(1)
    z, u = random.normal(size=(BATCH, script.names["opt"].latent_dim)), random.random((BATCH, 1, 1, 1))
    rng = Given(*(torch.from_numpy(x).float().to(real.device) for x in (z, u.reshape(-1))))
    turns = objective.turns(real.repeat_interleave(peer.moves, 0), rng)  # deals out these images at each move
    mine = {player: loss for player, loss, _ in itertools.islice(turns, len(peer.losses))}
    drawn = patch.multiple(np.random, normal=lambda *_: z, random=lambda *_: u)
    with drawn, script.aside():
        script.step(0, 1, (real, torch.zeros(BATCH)))  # i = 1: the generator of wgan_gp.py has no move
    gaps = {}
    for player, (loss, times) in peer.losses.items():
        found = torch.autograd.grad(mine[player], list(objective.get_submodule(player).parameters()))
        expected = [times * p.grad for p in theirs[player].parameters()]
        error = math.hypot(*((a - b).norm().item() for a, b in zip(found, expected, strict=True)))
        value = times * script.names[loss].item()
        gaps[f"{player}, loss"] = abs(mine[player].item() - value) / abs(value)
        gaps[f"{player}, gradient"] = error / math.hypot(*(b.norm().item() for b in expected))
    assert max(gaps.values()) < 1e-4, gaps
    return gaps


def repeat(step: Callable[[], object]) -> Take:
    """So many steps, one after the other."""

    def take(steps: int) -> None:
        for _ in range(steps):
            step()

    return take


def contenders(peer: Peer, script: Script, other: Script, levels: Tensor, *, compiled: bool) -> dict[str, Take]:
    """What takes turns, by name; a step is a batch of the script's size."""
    device, opt, loader = levels.device, script.names["opt"], script.names["dataloader"]
    formats = ("fp32", "bf16", "fp16") if device.type == "cuda" else ("fp32", "bf16")
    names = [f"{who}, {precision}" for precision in formats for who in ("minigen", "by hand")]
    names += ["minigen, bf16, compiled"] if compiled else []
    found: dict[str, Take] = {}
    for name in names:  # before the script has taken a step: all begin with the same weights
        who, precision, *more = name.split(", ")
        objective = peer.objective(*script.networks())
        optimizers = adam_per_player(objective, opt.lr, betas=(opt.b1, opt.b2))
        rows = BATCH * peer.moves if who == "minigen" else BATCH
        batches = Batches(levels, batch_size=rows, transform=scaled)
        if who == "minigen":
            whole = ours(objective, optimizers, batches, precision=precision, compile=bool(more))
        else:
            whole = repeat(partial(peer.by_hand, Hand(objective, optimizers, batches, precision)))
        found[name] = lambda steps, whole=whole: whole(steps // peer.moves)
    ready = [(imgs.to(device), labels) for imgs, labels in itertools.islice(loader, READY)]
    again = itertools.chain.from_iterable(loader for _ in itertools.count())
    return {
        "script": script.take(),
        "script, ready": other.take(ready),
        "loader": repeat(lambda: next(again)),
        **found,
    }


def ratio(found: dict[str, list[float]], name: str, other: str) -> list[float]:
    """How many times as long `other` takes as `name`: median, smallest and largest over blocks."""
    ratios = [b / a for a, b in zip(found[name], found[other], strict=True)]
    return [round(value, 2) for value in (statistics.median(ratios), min(ratios), max(ratios))]


def measure(path: Path, images: Tensor, folder: str, *, blocks: int, steps: int, compiled: bool) -> dict[str, Any]:
    """Medians of microseconds a step, and of the ratios within a block."""
    peer, device = PEERS[path.stem], torch.device("cuda" if torch.cuda.is_available() else "cpu")
    first, script, other = (Script(path, images, folder) for _ in range(3))
    levels = script.levels().to(device)
    g, d = script.networks()
    gaps = disagreement(peer, first, scaled(levels[:BATCH]))
    takes = contenders(peer, script, other, levels, compiled=compiled)
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    found = interleaved(takes, blocks=blocks, steps=steps, wait=wait)
    loops = [name for name in found if name not in ("script", "script, ready", "loader")]
    against: dict[str, dict[str, list[float]]] = {}
    for name in loops:
        against[name] = {"to the script": ratio(found, name, "script")}
        against[name]["to the script, ready"] = ratio(found, name, "script, ready")
        if name.startswith("minigen"):
            precision = name.split(", ")[1]
            against[name]["to the loop by hand"] = ratio(found, name, f"by hand, {precision}")
    mine = [name for name in loops if name.startswith("minigen")]
    return {
        "as at the commit": hashlib.sha256(path.read_bytes()).hexdigest() == peer.sha256,
        "parameters": {"generator": size(g), "discriminator": size(d)},
        "relative difference at the start": gaps,
        "blocks": blocks,
        "steps": steps,
        "microseconds a step": {name: round(statistics.median(times), 1) for name, times in found.items()},
        "share of the loader in the script": ratio(found, "script", "loader"),
        "pictures saved in timed blocks": script.pictures(2 * steps),
        "best": max(mine, key=lambda name: against[name]["to the script"][0]),
        "ratios: median, smallest, largest": against,
    }


def size(net: nn.Module) -> int:
    """Number of parameters."""
    return sum(p.numel() for p in net.parameters())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--scripts", nargs="+", choices=list(PEERS), default=list(PEERS))
    parser.add_argument("--blocks", type=int, default=20)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.steps % 5:
        parser.error(
            f"--steps must be a multiple of 5, the critic's moves to one of the generator; got {arguments.steps}"
        )
    torch.set_num_threads(1)
    cuda, images = torch.cuda.is_available(), strokes(IMAGES)
    result: dict[str, Any] = {}
    if arguments.json and arguments.json.exists():
        result = json.loads(arguments.json.read_text())
    cpu = f"cpu, {platform.machine()}, {torch.backends.cpu.get_cpu_capability()}, one thread"
    result |= {
        "device": f"cuda, {torch.cuda.get_device_name()}" if cuda else cpu,
        "torch": torch.__version__,
        "torchvision": version("torchvision"),
        "commit": COMMIT,
        "batch": BATCH,
        "images": IMAGES,
    }
    for name in arguments.scripts:
        path = arguments.checkout / "implementations" / name / f"{name}.py"
        with tempfile.TemporaryDirectory() as folder:
            result[name] = found = measure(
                path.resolve(),
                images,
                folder,
                blocks=arguments.blocks,
                steps=arguments.steps,
                compiled=arguments.compile or cuda,
            )
        print(f"{path.name}{'' if found['as at the commit'] else f', NOT as it stands at commit {COMMIT}'}")
        for contender, microseconds in found["microseconds a step"].items():
            print(f"    {contender:24} {microseconds:12,.1f} us a step")
        share = 100 * found["share of the loader in the script"][0]
        print(f"    the loader is {share:.0f} % of the script; best: {found['best']}")
        for contender, ratios in found["ratios: median, smallest, largest"].items():
            print(f"    {contender}")
            for other, value in ratios.items():
                print(f"        {other:22} {value}", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
