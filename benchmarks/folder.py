"""Memory and time of a folder of pictures: decoding it, mapping it, and training from the map.

usage: python benchmarks/folder.py [--files 20000] [--size 64] [--json FILE]

Synthetic pictures are written to a temporary folder by another process. Growth is counted from the moment when all
modules are loaded. "Anonymous" is memory that the process itself filled; "total" adds the pages of mapped files, which
the system takes back when it needs them. Peaks of both are sampled every 10 ms. Needs Linux.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import platform
import re
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import PIL
import torch
from PIL import Image
from torch import nn

from minigen import data

CLASSES, BATCH = 10, 64


def write(folder: Path, files: int, size: int) -> None:
    """Noise on a slope, PNG and JPEG in turn, in ten folders."""
    random = np.random.default_rng(0)
    slope = np.linspace(0, 200, size)[None, :, None]
    for i in range(files):
        pixels = (slope + random.integers(0, 56, (size, size, 3))).astype(np.uint8)
        place = folder / f"class{i % CLASSES}"
        place.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(place / f"{i:06d}.{('png', 'jpg')[i % 2]}")


def memory() -> dict[str, float]:
    """Memory of this process in MB: its own, and with the pages of mapped files."""
    status = dict(re.findall(r"^(\w+):\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE))
    return {"anonymous": int(status["RssAnon"]) * 1024 / 1e6, "total": int(status["VmRSS"]) * 1024 / 1e6}


@contextmanager
def phase(name: str, before: dict[str, float], result: dict[str, object]) -> Iterator[None]:
    """Measure the peak growth of memory and the time of what happens within."""
    peak, done = memory(), threading.Event()

    def watch() -> None:
        while not done.wait(0.01):
            for kind, value in memory().items():
                peak[kind] = max(peak[kind], value)

    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.perf_counter()
    try:
        yield
    finally:
        seconds = time.perf_counter() - start
        done.set()
        watcher.join()
    row = {f"{kind}_mb": round(max(peak[kind], memory()[kind]) - before[kind], 1) for kind in before}
    result[name] = row | {"seconds": round(seconds, 1)}
    print(f"{name:22} +{row['anonymous_mb']:6.1f} MB anonymous, +{row['total_mb']:6.1f} MB total, {seconds:6.1f} s")


def train(images: data.Images) -> None:
    """One epoch of a small classifier, so that every picture is touched."""
    net = nn.Sequential(
        nn.Conv2d(3, 8, 4, stride=4), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(128, CLASSES)
    )
    optimizer = torch.optim.Adam(net.parameters())
    batches = data.Batches(
        images.images, images.labels, batch_size=BATCH, transform=(data.to_float, None), device="cpu"
    )
    for _ in range(len(batches)):
        x, labels = next(batches)
        loss = nn.functional.cross_entropy(net(x), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    result: dict[str, object] = {
        "files": arguments.files,
        "size": arguments.size,
        "pixels_mb": arguments.files * arguments.size**2 * 3 / 1e6,
        "machine": platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "pillow": PIL.__version__,
    }
    with tempfile.TemporaryDirectory() as place:
        folder, cache = Path(place) / "pictures", Path(place) / "cache"
        folder.mkdir()
        writer = multiprocessing.get_context("spawn").Process(
            target=write, args=(folder, arguments.files, arguments.size)
        )
        writer.start()
        writer.join()

        def load() -> data.Images:
            return data.folder(folder, arguments.size, test_share=0, cache=cache, progress=False)

        train(data.Images(torch.zeros(BATCH, 3, 8, 8, dtype=torch.uint8), torch.zeros(BATCH).long(), (), "", "", BATCH))
        before = memory()
        print(
            f"{arguments.files:,} files, {result['pixels_mb']:.0f} MB of pixels; growth from {before['total']:.0f} MB"
        )
        with phase("decoding", before, result):
            images = load()
        del images
        with phase("mapping again", before, result):
            images = load()
        with phase("training, one epoch", before, result):
            train(images)
        with phase("training, second epoch", before, result):
            train(images)
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
