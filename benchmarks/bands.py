"""Run a chapter from many seeds and show that every asserted band holds.

usage: python benchmarks/bands.py 02_minimax [--seeds 20] [--jobs 2] [--carry | --missing]

The code cells of the stored notebook run as they are, with MINIGEN_SEED set; the numbers behind the bands are collected
through MINIGEN_RECORD and written to benchmarks/results/bands_NN.json, each band with the fingerprint of what it
depends on (book/records.py). Exits with 1 where a band fails in any run, or an edge breaks the rule.

--carry runs nothing: it keeps the record of every band for which the stored run, whose seed is one of the 20, gives the
number that is recorded for this seed, to four digits. A change that moves no number needs no new record.

--missing keeps those records as well, and runs the other bands alone: the cells that their numbers come from, and those
that set the chapter up. Where cells that are left out draw from a generator that others share, the rest would measure
another problem: such a band is not recorded, since its number for the stored run's seed is not that of the stored run.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parent.parent
PRECISION = re.compile(r"^torch\.set_default_dtype\(.*$", re.MULTILINE)  # holds for all cells that follow
EDGES = (("low", -1), ("high", 1))
sys.path.insert(0, str(ROOT / "book"))

import records  # noqa: E402
from minigen.book import number  # noqa: E402

# A number outside its band is recorded like the others, and the run goes on: an edge that has to move hides no other.
GO_ON = """import minigen.book


def _band(*args, _judge=minigen.book.band, **options):
    try:
        _judge(*args, **options)
    except minigen.book.CheckError as outside:
        print(outside)


minigen.book.band = _band
"""


def code(notebook: dict[str, Any], wanted: set[int] | None = None) -> str:
    """The code cells as one script, without notebook commands; wanted: only those that these cells depend on."""
    sources = records.sources(notebook)
    if wanted is not None:
        first = next(number for number, source in enumerate(sources) if "setup(" in source)
        kept = {number for target in wanted for number in records.depends(sources, target)}
        sources = [
            source if number <= first or number in kept else "\n".join(PRECISION.findall(source))
            for number, source in enumerate(sources)
        ]
    source = "\n\n".join(sources)
    return GO_ON + re.sub(r"^(\s*)%.*$", r"\1pass", source, flags=re.MULTILINE)


def outside(row: dict[str, Any]) -> bool:
    """Whether a recorded number lies outside the edges that stood beside it."""
    low, high = (math.copysign(math.inf, side) if row[name] is None else row[name] for name, side in EDGES)
    return not low <= row["number"] <= high


def run(script: Path, seed: int) -> dict[str, Any]:
    record = script.with_name(f"seed{seed}.jsonl")
    environment = {**os.environ, "MINIGEN_SEED": str(seed), "MINIGEN_RECORD": str(record), "MPLBACKEND": "Agg"}
    start = time.perf_counter()
    done = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True, cwd=ROOT)
    numbers = [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []
    wrong = [f"{row['what']}: {row['number']:.6g}" for row in numbers if outside(row)]
    error = done.stderr.strip().splitlines()[-1] if done.returncode else "; ".join(wrong)
    print(
        f"seed {seed}: {'failed, ' + error if error else 'all bands hold'} ({time.perf_counter() - start:.0f} s)",
        flush=True,
    )
    return {"seed": seed, "error": error, "seconds": time.perf_counter() - start, "numbers": numbers}


def measured(
    notebook: dict[str, Any], seeds: int, jobs: int, wanted: set[int] | None = None
) -> tuple[dict[str, list[float]], list[int]]:
    """The numbers of every band, a seed each, and the seeds that failed. wanted: the cells whose bands are needed."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "chapter.py"
        script.write_text(code(notebook, wanted), encoding="utf-8")
        with ThreadPoolExecutor(jobs) as pool:
            runs = list(pool.map(lambda seed: run(script, seed), range(seeds)))
    table: dict[str, list[float]] = {}
    for one in runs:
        for row in one["numbers"]:
            table.setdefault(row["what"], []).append(float(f"{row['number']:.5g}"))
    failed = [one["seed"] for one in runs if one["error"]]
    print(f"{len(runs) - len(failed)} of {len(runs)} seeds hold every band" + (f"; failed: {failed}" if failed else ""))
    return table, failed


def carried(notebook: dict[str, Any], old: dict[str, Any]) -> dict[str, list[float]]:
    """The recorded numbers of the bands that the stored run gives again; the others are named and dropped."""
    found = re.search(r"setup\(.*?seed=(\d+)", "\n".join(records.sources(notebook)))
    seed, same = int(found[1]) if found else 0, {}
    for band in records.bands(notebook):
        numbers = old.get(band.what, {"numbers": []})["numbers"]
        recorded = numbers[seed] if len(numbers) > seed else None
        # One number, printed with four digits, or whole, and recorded with five: half a unit of each may lie between.
        first = records.exponent(band.measured)
        rounding = 0.5001 * (min(10.0 ** (first - 3), 1.0) + 10.0 ** (first - 4))
        if recorded is not None and abs(recorded - band.measured) <= rounding:
            same[band.what] = numbers
        else:
            print(f"needs new seeds: {band.what}: now {number(band.measured)}, recorded {recorded}")
    return same


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("chapter")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--carry", action="store_true", help="run nothing; keep what the stored run gives again")
    parser.add_argument("--missing", action="store_true", help="keep these, and run what the other bands come from")
    arguments = parser.parse_args()
    notebook = json.loads((ROOT / "chapters" / f"{arguments.chapter}.ipynb").read_text(encoding="utf-8"))
    table: dict[str, list[float]] = {}
    failed: list[int] = []
    if arguments.carry or arguments.missing:
        table = carried(notebook, records.load(arguments.chapter)["bands"])
    missing = {band.cell for band in records.bands(notebook) if band.what not in table}
    if arguments.missing and missing:
        new, failed = measured(notebook, arguments.seeds, arguments.jobs, missing)
        table = carried(notebook, {what: {"numbers": numbers} for what, numbers in new.items()}) | table
    elif not (arguments.carry or arguments.missing):
        table, failed = measured(notebook, arguments.seeds, arguments.jobs)
    now = records.fingerprints(notebook)
    entries = {what: {"numbers": numbers, "depends": now[what]} for what, numbers in table.items() if what in now}
    broken = [line for band in records.bands(notebook) if band.what in entries
              for line in records.outside(band, entries[band.what]["numbers"])]  # fmt: skip
    print(*broken, f"{len(entries)} of {len(now)} bands recorded, {len(broken)} edges outside the rule", sep="\n")
    device = f"cpu, {platform.processor() or platform.machine()}, torch {torch.__version__}"
    result = {"chapter": arguments.chapter, "device": device, "failed": failed, "bands": entries}
    path = records.RESULTS / f"bands_{arguments.chapter[:2]}.json"
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return bool(failed or broken)


if __name__ == "__main__":
    sys.exit(main())
