"""Denoising networks, and the loop that trains them, against three libraries at equal parameters and FLOPs.

usage: python benchmarks/diffusion.py [--rounds 7] [--peers diffusers lucidrains smalldiffusion] [--steps 300]
                                      [--skip times|losses] [--json FILE, which is added to]

The peers are no dependency of minigen. Install them beside it, in an environment that may be thrown away:
`pip install diffusers`, and `pip install --no-deps denoising-diffusion-pytorch smalldiffusion ema-pytorch pytorch-fid`
with `accelerate einops scipy pillow tqdm`. (torchvision, which the last two want for reading image files, is not needed
here: where it is missing, an empty stand-in takes its name.) MNIST comes from where `minigen.data` finds it.

The peers' networks, for images (1, 28, 28):

diffusers:      UNet2DModel of 32, 64, 128 features, two layers each, attention at the lower two resolutions.
lucidrains:     Unet of denoising-diffusion-pytorch, dim 32, dim_mults (1, 2, 4), flash_attn as in its README.
smalldiffusion: Unet as its example for images of this size has it: 64, 64, 128, attention at 14 x 14.

For each there are two U-Nets of minigen with as many parameters and FLOPs (torch's FlopCounterMode, one call): one with
the peer's proportions, and, as another architecture, one that is thin at full resolution, wide below, attends at the
lowest alone and has one block on each side where the peers have two.

Training, in images a second, batches of 16, one thread, contenders taking turns, every second round in reverse:

peer, README:   the peer's network in the loop of its README, example or trainer, fp32, images ready in memory.
peer:           its network in minigen's `Run`, so that the loop counts for nothing.
minigen:        minigen's U-Net in `Run`.
minigen, wide:  the other architecture in `Run`.

The last three in fp32 (strict: no reduced precision anywhere) and in bf16 autocast. Calls, without gradient, likewise.
All tensors are contiguous (B, C, H, W). Seconds are those of the process on its processor (all work is in it), so that
what else the machine does counts little. A ratio is the median over rounds of the ratio within a round, beside its
smallest and largest. Validation losses are those after equal steps of the same `Run`, on the same batches and noise,
minigen's in bf16 and the peer's in fp32: squared error of the predicted noise, per pixel, of the averaged weights.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import platform
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import MagicMock

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from minigen.data.batches import Batches
from minigen.data.images import mnist
from minigen.data.levels import to_float
from minigen.nets.unet import UNet
from minigen.objectives.diffusion import Denoiser, Diffusion, Schedule, add_noise
from minigen.train.loop import Run

try:
    from diffusers import DDPMScheduler, UNet2DModel
    from diffusers.optimization import get_cosine_schedule_with_warmup

    if importlib.util.find_spec("torchvision") is None:
        sys.modules |= {f"torchvision{part}": MagicMock() for part in ("", ".transforms", ".utils", ".datasets")}
    import smalldiffusion
    from accelerate import Accelerator
    from denoising_diffusion_pytorch import GaussianDiffusion, Unet
    from ema_pytorch import EMA
except ImportError as error:
    raise SystemExit(f"a peer is missing ({error}); the first lines of this file say what to install") from error

SIDE, BATCH, CALLS = 28, 16, 3  # CALLS: steps, and calls, of one contender in one round
RATE, WARM_UP, AVERAGE, TESTED = 5e-4, 50, 0.99, 500
SCHEDULE = Schedule.linear()
Block = Callable[[], float]


class Adapter(nn.Module):
    """A peer's network, called as minigen's are: it is told the step 0..999 of the linear schedule, or sigma."""

    log_snr: Tensor

    def __init__(self, net: nn.Module, *, sigma: bool = False) -> None:
        super().__init__()
        self.net, self.sigma = net, sigma
        self.register_buffer("log_snr", SCHEDULE.log_snr.float().flip(0))

    def forward(self, x: Tensor, log_snr: Tensor) -> Tensor:
        if self.sigma:
            told = (-log_snr / 2).exp()
        else:
            told = len(self.log_snr) - 1 - torch.searchsorted(self.log_snr, log_snr - 1e-4)
        found = self.net(x, told)
        return found if isinstance(found, Tensor) else found.sample


def unet_2d() -> nn.Module:
    return UNet2DModel(
        sample_size=SIDE,
        in_channels=1,
        out_channels=1,
        layers_per_block=2,
        block_out_channels=(32, 64, 128),
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    )


def lucid() -> nn.Module:
    return Unet(dim=32, dim_mults=(1, 2, 4), channels=1, flash_attn=True)


def small(dropout: float = 0.0) -> nn.Module:
    make = smalldiffusion.Scaled(smalldiffusion.Unet)
    return make(SIDE, 1, 1, ch=64, ch_mult=(1, 1, 2), attn_resolutions=(14,), dropout=dropout)


class Unscaled(nn.Module):
    """smalldiffusion's network for images whose scale is minigen's already."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        return smalldiffusion.Unet.forward(self.net, x, sigma)


def diffusers_loop(images: Tensor) -> Iterator[None]:
    """The training tutorial that the README leads to ("Train a diffusion model"), without its progress bar."""
    model, scheduler, accelerator = unet_2d(), DDPMScheduler(num_train_timesteps=1000), Accelerator(cpu=True)
    loader = DataLoader(images, batch_size=BATCH, shuffle=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    rates = get_cosine_schedule_with_warmup(optimizer, num_warmup_steps=500, num_training_steps=10_000)
    model, optimizer, loader, rates = accelerator.prepare(model, optimizer, loader, rates)
    while True:
        for clean in loader:
            noise = torch.randn(clean.shape)
            steps = torch.randint(0, 1000, (len(clean),), dtype=torch.int64)
            noisy = scheduler.add_noise(clean, noise, steps)
            with accelerator.accumulate(model):
                loss = functional.mse_loss(model(noisy, steps, return_dict=False)[0], noise)
                accelerator.backward(loss)
                accelerator.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                rates.step()
                optimizer.zero_grad()
            loss.detach().item()
            yield


def lucidrains_loop(images: Tensor) -> Iterator[None]:
    """`Trainer.train`, whose README loop reads image files; the same calls on images in memory, one batch a step."""
    diffusion, accelerator = GaussianDiffusion(lucid(), image_size=SIDE, timesteps=1000), Accelerator(cpu=True)
    loader = DataLoader((images + 1) / 2, batch_size=BATCH, shuffle=True)
    optimizer = torch.optim.Adam(diffusion.parameters(), lr=8e-5, betas=(0.9, 0.99))
    average = EMA(diffusion, beta=0.995, update_every=10)
    model, optimizer, loader = accelerator.prepare(diffusion, optimizer, loader)
    while True:
        for data in loader:
            model.train()
            loss = model(data)
            loss.item()
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            average.update()
            yield


def smalldiffusion_loop(images: Tensor) -> Iterator[None]:
    """`training_loop` as its example for Fashion-MNIST calls it, dropout included, its average left out."""
    loader = DataLoader(images, batch_size=BATCH, shuffle=True)
    schedule = smalldiffusion.ScheduleLogLinear(sigma_min=0.01, sigma_max=20, N=800)
    for state in smalldiffusion.training_loop(loader, small(0.1), schedule, epochs=1000, lr=7e-4):
        state.loss.item()
        yield


class Peer(NamedTuple):
    """What is compared: the peer's package, network and loop, and minigen's networks of the same size."""

    package: str
    net: Callable[[], nn.Module]
    loop: Callable[[Tensor], Iterator[None]]
    same: dict[str, Any]
    other: dict[str, Any]


PEERS = {
    "diffusers": Peer(
        "diffusers",
        lambda: Adapter(unet_2d()),
        diffusers_loop,
        {"width": 40, "multipliers": (1, 2, 3.6), "blocks": 2, "attention": (1, 2), "heads": 2},
        {"width": 32, "multipliers": (1, 5.25, 5.25), "attention": (2,)},
    ),
    "lucidrains": Peer(
        "denoising-diffusion-pytorch",
        lambda: Adapter(lucid()),
        lucidrains_loop,
        {"width": 32, "multipliers": (1, 2.5, 3.5), "blocks": 2, "attention": (1,), "heads": 2},
        {"width": 32, "multipliers": (1, 4.75, 3.75), "attention": (2,)},
    ),
    "smalldiffusion": Peer(
        "smalldiffusion",
        lambda: Adapter(Unscaled(small()), sigma=True),
        smalldiffusion_loop,
        {"width": 64, "multipliers": (1, 1.75, 2), "blocks": 2, "attention": (1,), "heads": 1},
        {"width": 32, "multipliers": (1, 8, 3.25), "attention": (2,)},
    ),
}


def networks(peer: Peer) -> dict[str, Callable[[], nn.Module]]:
    """By the name that they have in the results."""
    return {
        "peer": peer.net,
        "minigen": lambda: UNet(1, **peer.same),
        "minigen, wide": lambda: UNet(1, **peer.other),
    }


def size(net: nn.Module) -> dict[str, float]:
    """Parameters, and millions of floating point operations to see one image once."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        net(torch.zeros(1, 1, SIDE, SIDE), torch.zeros(1))
    return {"parameters": sum(p.numel() for p in net.parameters()), "MFLOP": counter.get_total_flops() / 1e6}


def run(net: nn.Module, precision: str) -> Run:
    """minigen's loop, with what the peers' loops have too: an average, and a bound on the gradient."""
    objective = Diffusion(Denoiser(net, "epsilon"), SCHEDULE)
    optimizer = torch.optim.Adam(objective.parameters(), RATE, fused=True)
    warm = lambda n: min(1.0, n / WARM_UP)  # noqa: E731
    average = {"model": AVERAGE}
    return Run(objective, optimizer, ema=average, clip=float(SIDE**2), precision=precision, schedule=warm)


def clock(work: Callable[[], object]) -> float:
    """Images a second."""
    start = time.process_time()
    for _ in range(CALLS):
        work()
    return CALLS * BATCH / (time.process_time() - start)


def training(net: nn.Module, precision: str, levels: Tensor) -> Block:
    steps = run(net, precision)(Batches(levels, batch_size=BATCH, transform=to_float), 10**9)
    return lambda: clock(lambda: next(steps))


def calling(net: nn.Module, precision: str) -> Block:
    net.eval()
    x, log_snr = torch.randn(BATCH, 1, SIDE, SIDE), SCHEDULE.log_snr[:: 1000 // BATCH][:BATCH].float()

    def call() -> None:
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            net(x, log_snr)

    return lambda: clock(call)


def interleaved(blocks: dict[str, Block], rounds: int) -> dict[str, list[float]]:
    """Images a second of each, by round; AB BA AB ..., after a round that warms up."""
    found: dict[str, list[float]] = {name: [] for name in blocks}
    for turn in range(rounds + 1):
        for name in blocks if turn % 2 else reversed(blocks):
            rate = blocks[name]()
            if turn:
                found[name].append(rate)
    return found


def ratio(found: dict[str, list[float]], mine: str, theirs: str) -> list[float]:
    """Median, smallest and largest over rounds."""
    ratios = [a / b for a, b in zip(found[mine], found[theirs], strict=True)]
    return [round(value, 2) for value in (statistics.median(ratios), min(ratios), max(ratios))]


def faster(found: dict[str, list[float]], name: str) -> str:
    """The better precision of a network."""
    return max((f"{name}, fp32", f"{name}, bf16"), key=lambda contender: statistics.median(found[contender]))


def columns(found: dict[str, list[float]], reference: str | None) -> dict[str, dict[str, list[float]]]:
    """Ratios of minigen to the peer, column by column, and to the peer as its README runs it."""
    best, other = faster(found, "minigen"), faster(found, "minigen, wide")
    against = {
        "strict fp32": ("minigen, fp32", "peer, fp32"),
        "best precision": (best, faster(found, "peer")),
        "best architecture, fp32": ("minigen, wide, fp32", "peer, fp32"),
        "best architecture": (other, faster(found, "peer")),
    }
    table = {column: {"network": ratio(found, mine, theirs)} for column, (mine, theirs) in against.items()}
    if reference is not None:
        for column, (mine, _) in against.items():
            table[column]["to the README"] = ratio(found, mine, reference)
        table["loop alone, fp32"] = {"to the README": ratio(found, "peer, fp32", reference)}
    return table


def times(peer: Peer, levels: Tensor, rounds: int) -> dict[str, Any]:
    """Images a second and ratios, of training and of calls."""
    readme = peer.loop(to_float(levels))
    train: dict[str, Block] = {"peer, README": lambda: clock(lambda: next(readme))}
    call: dict[str, Block] = {}
    for precision in ("fp32", "bf16"):
        for name, make in networks(peer).items():
            train[f"{name}, {precision}"] = training(make(), precision, levels)
            call[f"{name}, {precision}"] = calling(make(), precision)
    result: dict[str, Any] = {"rounds": rounds}
    for what, blocks, reference in (("training", train, "peer, README"), ("call", call, None)):
        found = interleaved(blocks, rounds)
        result[what] = {
            "images/s": {name: round(statistics.median(rates), 1) for name, rates in found.items()},
            "ratios: median, smallest, largest": columns(found, reference),
        }
    return result


@torch.no_grad()
def validation(net: nn.Module, x: Tensor) -> float:
    """Squared error of the predicted noise, per pixel, on the same images, levels and noise for every network."""
    generator = torch.Generator().manual_seed(1)
    steps, eps = torch.arange(len(x)) * len(SCHEDULE) // len(x), torch.randn(x.shape, generator=generator)
    errors = []
    for rows in torch.arange(len(x)).split(100):
        alpha, sigma = SCHEDULE.alpha[steps[rows]], SCHEDULE.sigma[steps[rows]]
        found = net(add_noise(x[rows], eps[rows], alpha, sigma), SCHEDULE.log_snr[steps[rows]].float())
        errors.append((found - eps[rows]).square().mean().item())
    return statistics.mean(errors)


def losses(peer: Peer, levels: Tensor, tested: Tensor, steps: int) -> dict[str, dict[str, float]]:
    """Validation losses after half and all of the steps: the peer's in fp32, minigen's in bf16."""
    result: dict[str, dict[str, float]] = {}
    for name, make in networks(peer).items():
        torch.manual_seed(0)
        precision = "fp32" if name == "peer" else "bf16"
        loop, curve = run(make(), precision), {}
        for step in loop(Batches(levels, batch_size=BATCH, transform=to_float), steps):
            if step.n % (steps // 2) == 0:
                model = loop.ema["model"].eval()
                assert isinstance(model, Denoiser)
                curve[str(step.n)] = round(validation(model.net, tested), 5)
        result[f"{name}, {precision}"] = curve
        print(f"    {name + ', ' + precision:20} {curve}", flush=True)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--peers", nargs="+", choices=list(PEERS), default=list(PEERS))
    parser.add_argument("--skip", choices=["times", "losses"])
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    levels, tested = mnist().images, to_float(mnist("test").images[:TESTED])
    result: dict[str, Any] = {}
    if arguments.json and arguments.json.exists():
        result = json.loads(arguments.json.read_text())
    result |= {
        "device": f"cpu, {platform.machine()}, {torch.backends.cpu.get_cpu_capability()}, one thread",
        "torch": torch.__version__,
        "batch": BATCH,
    }
    for name in arguments.peers:
        peer = PEERS[name]
        print(name, version(peer.package))
        found = result.setdefault(name, {})
        found["version"] = version(peer.package)
        found["networks"] = {part: size(make()) for part, make in networks(peer).items()}
        for part, counted in found["networks"].items():
            print(f"    {part:20} {counted['parameters']:>10,} parameters {counted['MFLOP']:8.1f} MFLOP", flush=True)
        if arguments.skip != "times":
            found["times"] = times(peer, levels, arguments.rounds)
            for what in ("training", "call"):
                for key, values in found["times"][what].items():
                    print(f"    {what}, {key}")
                    for part, value in values.items():
                        print(f"        {part:26} {value}", flush=True)
        if arguments.skip != "losses":
            found["validation loss"] = losses(peer, levels, tested, arguments.steps)
        if arguments.json:
            arguments.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
