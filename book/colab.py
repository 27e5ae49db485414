"""Try chapters as Colab would: python book/colab.py [NAME ...]

A fresh environment with what Colab brings and a chapter uses (torch, numpy, matplotlib, tqdm, scikit-learn,
ipywidgets, safetensors), and an empty folder with the notebook file alone. The notebook's first cell installs minigen
from GitHub's address, which git is told to read from this clone's last commit. Everything must run to the end, and no
other package may change.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COLAB = ["torch", "numpy", "matplotlib", "tqdm", "scikit-learn", "ipywidgets", "safetensors"]
KERNEL = ["ipykernel", "nbclient"]  # what runs a notebook here, in place of Colab's own
RUN = """
import sys
from pathlib import Path
import nbformat
from nbclient import NotebookClient

path = Path(sys.argv[1])
notebook = nbformat.read(path, as_version=4)
for cell in notebook.cells:
    if cell.cell_type == "code":
        cell.outputs = []
folder = {"metadata": {"path": str(path.parent)}}
NotebookClient(notebook, kernel_name="python3", timeout=600, resources=folder).execute()
print("".join(o.text for c in notebook.cells if c.cell_type == "code" for o in c.outputs if o.output_type == "stream"))
"""


def environment(folder: Path) -> Path:
    """A virtual environment with Colab's packages, in the versions that are tested together; returns its Python."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    constraints = ROOT / "constraints.txt"
    torch = re.search(r"^torch==\S+", constraints.read_text(encoding="utf-8"), re.MULTILINE)
    install = [python, "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
    subprocess.run([*install, torch[0] if torch else "torch"], check=True)
    subprocess.run([*install, "-c", constraints, *COLAB[1:], *KERNEL], check=True)
    return python


def packages(python: Path) -> set[str]:
    freeze = [python, "-m", "pip", "list", "--format=freeze", "--disable-pip-version-check"]
    return set(subprocess.run(freeze, check=True, capture_output=True, text=True).stdout.split())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="such as 02_minimax; default: all chapters")
    names = parser.parse_args().names or [path.stem for path in sorted((ROOT / "chapters").glob("*.ipynb"))]
    address = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]["Repository"]
    git = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": f"url.{ROOT.as_uri()}.insteadOf", "GIT_CONFIG_VALUE_0": address}
    failed = False
    with tempfile.TemporaryDirectory() as temporary:
        python = environment(Path(temporary) / "colab")
        before = packages(python)
        for name in names:
            alone = Path(temporary) / name
            alone.mkdir()
            shutil.copy(ROOT / "chapters" / f"{name}.ipynb", alone)
            clean = {key: value for key, value in os.environ.items() if not key.startswith(("MINIGEN_", "PYTHONPATH"))}
            start = time.perf_counter()
            command = [python, "-c", RUN, alone / f"{name}.ipynb"]
            done = subprocess.run(command, cwd=alone, env=clean | git, capture_output=True, text=True, check=False)
            took = f"{time.perf_counter() - start:.0f} s"
            changed = {package for package in packages(python) ^ before if not package.startswith("minigen")}
            if done.returncode or changed:
                print(f"{name}: failed after {took}; changed packages: {sorted(changed)}\n{done.stderr[-3000:]}")
                failed = True
            else:
                print(f"{name}: ran to the end in {took}, {done.stdout.count('✓')} checks, nothing else changed")
            subprocess.run([python, "-m", "pip", "uninstall", "-q", "-y", "minigen"], check=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
