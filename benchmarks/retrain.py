"""Make the stored checkpoints again: python benchmarks/retrain.py [--replace] [FAMILY-DATA ...]

Each card in minigen/checkpoints names the command that made its file. This runs the command in a folder of its own,
exports the result into runs/retrained, or with --replace in the place of the old one, and says how far the new score is
from the one on the card. Up to 20 minutes of one core each.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from pathlib import Path

from minigen import runs


def score(card: dict) -> tuple[str, float]:
    """The negative log-likelihood of a card by its name, or the first of its other figures in nats, or of all."""
    figures = card["figures"]
    names = [n for n in figures if n.endswith("per_image")] + [n for n in figures if "nats" in n] + list(figures)
    name = names[0]
    return name, figures[name]["model"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    stored = sorted(path.stem for path in runs.FOLDER.glob("*.json"))
    parser.add_argument("names", nargs="*", metavar="FAMILY-DATA", help=f"of: {', '.join(stored)}; all unless given")
    parser.add_argument("--replace", action="store_true", help="write into minigen/checkpoints instead")
    given = parser.parse_args()
    target = runs.FOLDER if given.replace else Path("runs/retrained")
    if wrong := [name for name in given.names if name not in stored]:
        parser.error(f"no checkpoint {wrong[0]!r}; there are: {', '.join(stored)}")
    for name in given.names or stored:
        before, out = json.loads((runs.FOLDER / f"{name}.json").read_text()), Path("runs") / f"retrain-{name}"
        words = shlex.split(before["command"])[1:]
        subprocess.run([sys.executable, *words, "--out", str(out), *(["--resume"] if out.exists() else [])], check=True)
        export = [sys.executable, "-m", "minigen", "export", str(out), "--out", str(target)]
        subprocess.run([*export, *(["--into-package"] if given.replace else [])], check=True)
        (what, old), (_, new) = score(before), score(json.loads((target / f"{name}.json").read_text()))
        print(f"{name}: {what} {new:.4f}, was {old:.4f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
