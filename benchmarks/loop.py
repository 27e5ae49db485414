"""The loop against the same loop written by hand, interleaved in one run.

usage: python benchmarks/loop.py [--blocks 200] [--steps 20] [--json FILE]

Same networks, data, optimisers and noise; blocks of steps alternate between the contenders, and each block is compared
with its neighbour (a paired median), so that whatever else the machine does falls on both. Three questions:

one player:  minigen's loop against a loop of five lines (draw, zero_grad, backward, step).
gan:         minigen's loop against a loop by hand that also computes gradients for the mover alone.
gan, leaky:  minigen's loop against the loop in circulation, whose generator loss leaves gradients in D as well.

On a CPU the seconds are those that this process computed for, so that other processes count only by the caches that
they share; on CUDA they are those of the clock.

On CUDA it also gives images/s with and without compile, bf16, on MNIST-size data.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from minigen.data.batches import Batches
from minigen.data.levels import to_float
from minigen.nets.mlp import MLPDiscriminator, MLPGenerator, mlp
from minigen.objectives.minimax import Minimax, discriminator_loss, non_saturating_loss
from minigen.train.devices import best_device
from minigen.train.loop import Objective, Run
from minigen.train.rng import Rng

BATCH = 64


def images(device: torch.device) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (10_000, 1, 28, 28), generator=generator, dtype=torch.uint8).to(device)


def adam(module: nn.Module) -> torch.optim.Adam:
    return torch.optim.Adam(module.parameters(), 1e-4, betas=(0.5, 0.99), fused=True)


class Autoencode(Objective):
    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Sequential(nn.Flatten(), mlp([784, 256, 64, 256, 784]))

    def loss(self, x: Tensor) -> Tensor:
        return (self.model(x) - x.flatten(1)).square().sum(1).mean()

    def turns(self, x: Tensor, rng: Rng) -> Iterator[tuple[str, Tensor, dict[str, Tensor]]]:
        yield "model", self.loss(x), {}


def game(device: torch.device) -> Minimax:
    torch.manual_seed(0)
    generator, discriminator = MLPGenerator(64, (1, 28, 28)), MLPDiscriminator((1, 28, 28))
    return Minimax(generator, discriminator).to(device)


def ours(
    objective: Objective,
    optimizers: dict[str, torch.optim.Optimizer],
    batches: Batches,
    *,
    precision: str = "fp32",
    compile: bool = False,
) -> Callable[[int], None]:
    run = Run(objective, optimizers, precision=precision, compile=compile)

    def take(steps: int) -> None:
        for _ in run(batches, steps):
            pass

    return take


def one_by_hand(objective: Autoencode, data: Tensor) -> Callable[[int], None]:
    optimizer, batches = adam(objective.model), Batches(data, batch_size=BATCH, transform=to_float)

    def take(steps: int) -> None:
        for _ in range(steps):
            loss = objective.loss(next(batches))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return take


def gan_by_hand(objective: Minimax, data: Tensor, *, leaky: bool) -> Callable[[int], None]:
    g, d = objective.generator, objective.discriminator
    opt_g, opt_d = adam(g), adam(d)
    batches, noise = Batches(data, batch_size=BATCH, transform=to_float), Rng(data.device)
    inputs = [None, None] if leaky else [list(d.parameters()), list(g.parameters())]

    def take(steps: int) -> None:
        for _ in range(steps):
            real = next(batches)
            fake = g(noise.normal(BATCH, 64))
            loss = discriminator_loss(d(real), d(fake.detach()))
            opt_d.zero_grad()
            loss.backward(inputs=inputs[0])
            opt_d.step()
            loss = non_saturating_loss(d(fake))
            opt_g.zero_grad()
            loss.backward(inputs=inputs[1])
            opt_g.step()

    return take


def interleaved(
    contenders: dict[str, Callable[[int], None]], *, blocks: int, steps: int, wait: Callable[[], None]
) -> dict[str, list[float]]:
    """Microseconds a step of each contender, block by block; every second block takes them in reverse."""
    now = time.perf_counter if torch.cuda.is_available() else time.process_time
    for take in [*contenders.values()] * 2:
        take(steps)
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for block in range(blocks):
        for name in contenders if block % 2 else reversed(contenders):
            wait()
            start = now()
            contenders[name](steps)
            wait()
            found[name].append((now() - start) / steps * 1e6)
    return found


def compare(
    mine: Callable[[int], None], other: Callable[[int], None], *, blocks: int, steps: int, wait: Callable[[], None]
) -> dict[str, float]:
    """Paired medians of the seconds a step, in microseconds; which of the two begins alternates."""
    found = interleaved({"minigen": mine, "hand": other}, blocks=blocks, steps=steps, wait=wait)
    hand = statistics.median(found["hand"])
    more = statistics.median(a - b for a, b in zip(*found.values(), strict=True))
    return {
        "hand_us": hand,
        "minigen_us": statistics.median(found["minigen"]),
        "more_us": more,
        "more_percent": 100 * more / hand,
    }


def throughput(device: torch.device, *, compiled: bool, seconds: float = 10.0) -> float:
    """Images a second of the GAN step, bf16, batch 1,024."""
    objective = game(device)
    optimizers = {name: adam(getattr(objective, name)) for name in ("generator", "discriminator")}
    run = Run(objective, optimizers, precision="bf16", compile=compiled)
    batches = Batches(images(device), batch_size=1024, transform=to_float)
    for _ in run(batches, 50):
        pass
    torch.cuda.synchronize()
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        for _ in run(batches, 100):
            pass
        torch.cuda.synchronize()
        count += 100
    return count * 1024 / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=200)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    device = best_device()
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    data = images(device)

    def batches() -> Batches:
        return Batches(data, batch_size=BATCH, transform=to_float)

    name = torch.cuda.get_device_name() if device.type == "cuda" else platform.processor() or platform.machine()
    result: dict[str, object] = {
        "device": f"{device.type}, {name}",
        "torch": torch.__version__,
        "blocks": arguments.blocks,
        "steps": arguments.steps,
    }

    torch.manual_seed(0)
    one, other = Autoencode().to(device), Autoencode().to(device)
    contenders = {"one player": (ours(one, {"model": adam(one.model)}, batches()), one_by_hand(other, data))}
    for label, leaky in (("gan", False), ("gan, leaky", True)):
        objective = game(device)
        optimizers = {name: adam(getattr(objective, name)) for name in ("generator", "discriminator")}
        contenders[label] = (ours(objective, optimizers, batches()), gan_by_hand(game(device), data, leaky=leaky))
    for label, (mine, hand) in contenders.items():
        result[label] = row = compare(mine, hand, blocks=arguments.blocks, steps=arguments.steps, wait=wait)
        print(
            f"{label:12} hand {row['hand_us']:8.1f} us a step, minigen {row['more_us']:+7.1f} us"
            f" ({row['more_percent']:+.2f} %)"
        )
    if device.type == "cuda":
        for compiled in (False, True):
            result[f"images/s, compile={compiled}"] = rate = throughput(device, compiled=compiled)
            print(f"images/s, bf16, batch 1024, compile={compiled}: {rate:,.0f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
