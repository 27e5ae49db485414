"""Cached sampling against the naive loop, which runs the whole network over the whole image for every pixel.

usage: python benchmarks/sampling.py [--threads 1 2] [--levels 2] [--exact 2] [--whole] [--json FILE]

The networks are fixed: PixelCNN with 15 residual blocks of 32, gated PixelCNN with 8 layers of 32, transformer with 4
layers of width 128 and 4 heads that share one group of keys and values. They are untrained, since the time does not
depend on what was learnt, but their last layers are scaled until pixels depend on each other. Both ways draw 16 images
of 28x28 in float32 from the same uniform numbers.

Every pixel of the naive loop costs the same, since the whole image goes through each time. So each round times a whole
cached sampling, a few naive pixels and another cached sampling; the naive loop takes 784 times the median of its
pixels, which over all rounds are spread evenly over the image. Each is drawn given the cached image, whose pixel it has
to give. `--whole` runs the naive loop in full, once.

Then both ways sample whole images in float64, `--exact` of them, and all pixels have to be identical.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from minigen.nets.pixel_transformer import PixelTransformer
from minigen.nets.pixelcnn import GatedPixelCNN, PixelCNN
from minigen.samplers.autoregressive import draw, sample
from minigen.train.devices import best_device

SIDE = 28
PIXELS = SIDE * SIDE
NETS: dict[str, Callable[[int], nn.Module]] = {
    "PixelCNN": lambda levels: PixelCNN(levels, width=32, blocks=15),
    "gated PixelCNN": lambda levels: GatedPixelCNN(levels, width=32, layers=8),
    "transformer": lambda levels: PixelTransformer(levels, size=(SIDE, SIDE), width=128, blocks=4, heads=4, groups=1),
}


@torch.no_grad()
def network(label: str, levels: int) -> nn.Module:
    """One of the networks, its logits of mean 0 and moving by 1 with the pixels before: untrained ones hardly move."""
    torch.manual_seed(0)
    net = NETS[label](levels)
    found = net(torch.randint(levels, (16, 1, SIDE, SIDE)))  # (16, K, H, W)
    assert isinstance(net.last, nn.Conv2d | nn.Linear)
    factor = 1 / found.std(0).mean()
    net.last.weight.mul_(factor)
    net.last.bias.sub_(found.mean((0, 2, 3))).mul_(factor)
    return net


def whole(net: nn.Module, uniform: Tensor, *, cached: bool) -> Tensor:
    """Levels of images, (n, PIXELS)."""
    *_, levels = sample(net, uniform, cached=cached)
    return levels.flatten(1)


def one_pixel(net: nn.Module, images: Tensor, uniform: Tensor, pixel: int) -> Tensor:
    """One step of the naive loop, (n,), at a pixel counted in raster order."""
    row, column = divmod(pixel, SIDE)
    with torch.inference_mode():
        logits = net(images.view(-1, 1, SIDE, SIDE))[:, :, row, column]
        return draw(logits, uniform[:, row, column])


def clock(work: Callable[..., Tensor], *arguments: object, **options: object) -> tuple[float, Tensor]:
    """Seconds that it takes, and what it gives."""
    start = time.perf_counter()
    found = work(*arguments, **options)
    if found.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start, found


def naive(net: nn.Module, images: Tensor, uniform: Tensor, pixels: list[int]) -> tuple[float, int]:
    """Seconds of the naive loop, from these pixels, and how many of them are those of the images."""
    timed = [clock(one_pixel, net, images, uniform, pixel) for pixel in pixels]
    equal = sum(int((drawn == images[:, pixel]).sum()) for pixel, (_, drawn) in zip(pixels, timed, strict=True))
    return PIXELS * statistics.median(seconds for seconds, _ in timed), equal


def compare(net: nn.Module, uniform: Tensor, *, rounds: int, per_round: int, in_full: bool) -> dict[str, object]:
    """Seconds of both ways, and how many times faster the cached one is: by medians, and in the extreme rounds."""
    images = whole(net, uniform, cached=True)
    naive(net, images, uniform, [0])
    slow, fast, equal, total = [], [], 0, 0
    spread = [(2 * i + 1) * PIXELS // (2 * rounds * per_round) for i in range(rounds * per_round)]
    for n in range(1 if in_full else rounds):
        before, _ = clock(whole, net, uniform, cached=True)
        if in_full:
            seconds, drawn = clock(whole, net, uniform, cached=False)
            same, count = int((drawn == images).sum()), PIXELS
        else:
            seconds, same = naive(net, images, uniform, spread[n::rounds])
            count = per_round
        after, _ = clock(whole, net, uniform, cached=True)
        slow.append(seconds)
        fast.append((before + after) / 2)
        equal, total = equal + same, total + count * len(images)
    ratios = [a / b for a, b in zip(slow, fast, strict=True)]
    return {
        "naive_s": statistics.median(slow),
        "cached_s": statistics.median(fast),
        "times_faster": statistics.median(slow) / statistics.median(fast),
        "times_faster_in_rounds": [min(ratios), max(ratios)],
        "float32_pixels_equal": f"{equal} of {total}",
    }


def exact(net: nn.Module, uniform: Tensor) -> str:
    """How many pixels of whole images are identical in float64, cached and naive: all, or it raises."""
    cached, by_naive = (whole(net.double(), uniform.double(), cached=way) for way in (True, False))
    equal = f"{int((cached == by_naive).sum())} of {cached.numel()}"
    assert torch.equal(cached, by_naive), f"only {equal} pixels are identical"
    return equal


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--levels", type=int, default=2, help="K: 2 are binary digits, 256 all grey levels")
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--pixels", type=int, default=4, help="of the naive loop, in each round")
    parser.add_argument("--whole", action="store_true", help="the naive loop in full: 7 minutes for the transformer")
    parser.add_argument("--exact", type=int, default=2, help="images to be identical in float64")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    device = best_device()
    name = torch.cuda.get_device_name() if device.type == "cuda" else platform.processor() or platform.machine()
    result: dict[str, object] = {
        "device": f"{device.type}, {name}",
        "torch": torch.__version__,
        **{key: getattr(arguments, key) for key in ("levels", "images", "rounds", "pixels", "whole")},
    }
    for label in NETS:
        net, uniform = network(label, arguments.levels).to(device), torch.rand(arguments.images, SIDE, SIDE).to(device)
        result[label] = found = {"parameters": sum(parameter.numel() for parameter in net.parameters())}
        for threads in arguments.threads:
            torch.set_num_threads(threads)
            found[f"threads={threads}"] = row = compare(
                net, uniform, rounds=arguments.rounds, per_round=arguments.pixels, in_full=arguments.whole
            )
            low, high = row["times_faster_in_rounds"]
            print(
                f"{label:14} threads {threads}: naive {row['naive_s']:6.1f} s, cached {row['cached_s']:.3f} s, "
                f"{row['times_faster']:.0f} times faster ({low:.0f} to {high:.0f})",
                flush=True,
            )
        if arguments.exact:
            found["float64_pixels_identical"] = equal = exact(net, uniform[: arguments.exact])
            print(f"{label:14} float64: {equal} pixels identical", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
