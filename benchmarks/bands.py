"""Run a chapter from many seeds and show that every asserted band holds.

usage: python benchmarks/bands.py 02_minimax [--seeds 20] [--jobs 2] [--json FILE]

The code cells of the stored notebook run as they are, with MINIGEN_SEED set; the numbers behind the bands are collected
through MINIGEN_RECORD. Exits with 1 where a band fails in any run.
"""

from __future__ import annotations

import argparse
import json
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


def code(chapter: str) -> str:
    """The chapter's code cells as one script, without notebook commands."""
    cells = json.loads((ROOT / "chapters" / f"{chapter}.ipynb").read_text(encoding="utf-8"))["cells"]
    source = "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    return re.sub(r"^(\s*)%.*$", r"\1pass", source, flags=re.MULTILINE)


def run(script: Path, seed: int) -> dict[str, Any]:
    record = script.with_name(f"seed{seed}.jsonl")
    environment = {**os.environ, "MINIGEN_SEED": str(seed), "MINIGEN_RECORD": str(record), "MPLBACKEND": "Agg"}
    start = time.perf_counter()
    done = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True, cwd=ROOT)
    numbers = [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []
    error = done.stderr.strip().splitlines()[-1] if done.returncode else ""
    print(
        f"seed {seed}: {'failed, ' + error if error else 'all bands hold'} ({time.perf_counter() - start:.0f} s)",
        flush=True,
    )
    return {"seed": seed, "error": error, "seconds": time.perf_counter() - start, "numbers": numbers}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("chapter")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "chapter.py"
        script.write_text(code(arguments.chapter), encoding="utf-8")
        with ThreadPoolExecutor(arguments.jobs) as pool:
            runs = list(pool.map(lambda seed: run(script, seed), range(arguments.seeds)))
    table: dict[str, dict[str, Any]] = {}
    for one in runs:
        for row in one["numbers"]:
            entry = table.setdefault(row["what"], {"low": row["low"], "high": row["high"], "numbers": []})
            entry["numbers"].append(row["number"])
    for what, entry in table.items():
        numbers = entry["numbers"]
        span = f"{min(numbers):.4g} to {max(numbers):.4g} over {len(numbers)} seeds"
        print(f"{what}: {span}; band {entry['low']}..{entry['high']}")
    failed = [one["seed"] for one in runs if one["error"]]
    print(f"{len(runs) - len(failed)} of {len(runs)} seeds hold every band" + (f"; failed: {failed}" if failed else ""))
    if arguments.json:
        device = f"cpu, {platform.processor() or platform.machine()}, torch {torch.__version__}"
        rounded = {w: {**e, "numbers": [float(f"{n:.5g}") for n in e["numbers"]]} for w, e in table.items()}
        result = {"chapter": arguments.chapter, "device": device, "failed": failed, "bands": rounded}
        arguments.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
