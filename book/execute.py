"""Execute chapters: python book/execute.py [--check] [NAME ...]

``chapters/NN_name.md`` is the source. This makes ``chapters/NN_name.ipynb`` from it, runs it, and stores what it
printed and drew, so that running it again changes no byte unless a result has changed. With ``--check`` it writes
nothing and fails where a source or a printed text differs from what is stored; pictures may differ between machines.
"""

import argparse
import base64
import hashlib
import io
import os
import re
import sys
import time
from pathlib import Path

import jupytext
import nbformat
import numpy as np
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode
from PIL import Image

import records

ROOT = Path(__file__).resolve().parent.parent
CHAPTERS = ROOT / "chapters"
WIDGET = "application/vnd.jupyter.widget-view+json"
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python", "pygments_lexer": "ipython3"},
}
# The one tag of a cell that a reader need not read: the book collapses it, and so do JupyterLab and Colab.
FOLDED = "hide-input"
PICTURE = re.compile(r"data:image/png;base64,[A-Za-z0-9+/=]+")  # differs between machines
# What differs from run to run: addresses, and the temporary files that the kernel names in warnings. What stands for
# them matches the patterns of nbval.cfg as well.
VARYING = [
    ("0x", r"\b0x[0-9a-fA-F]{6,}", "0x000000000000"),
    ("ipykernel_", r"\S*[\\/]ipykernel_\d+[\\/]\d+\.py", "ipykernel_0/0.py"),
]


def from_source(path: Path) -> NotebookNode:
    """The notebook of a chapter's source, without outputs: what is not in the text is the same for every chapter."""
    parsed = jupytext.read(path, fmt="md:myst")
    seen: dict[str, int] = {}
    cells = []
    for cell in parsed.cells:
        digest = hashlib.sha256(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:12]
        seen[digest] = seen.get(digest, 0) + 1
        kept = {key: value for key, value in cell.metadata.items() if key in ("tags", "mystnb")}
        if FOLDED in kept.get("tags", []):
            kept |= {"jupyter": {"source_hidden": True}, "cellView": "form"}  # JupyterLab, Colab
        new = nbformat.v4.new_code_cell if cell.cell_type == "code" else nbformat.v4.new_markdown_cell
        # An id that follows from the text: editing one cell leaves all the others as they are.
        cells.append(new(cell.source, metadata=kept, id=f"{digest}-{seen[digest]}"))
    return nbformat.v4.new_notebook(cells=cells, metadata=METADATA)


def run(notebook: NotebookNode, *, cwd: Path, timeout: int) -> NotebookNode:
    """Execute in a fresh kernel of this Python, on one thread, on the data that come with the library."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MINIGEN_")}
    path = os.pathsep.join(filter(None, [str(ROOT), str(ROOT / "book"), environment.get("PYTHONPATH")]))
    environment |= {"OMP_NUM_THREADS": "1", "MINIGEN_LIVE": "0", "PYTHONHASHSEED": "0", "PYTHONPATH": path}
    os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"
    client = NotebookClient(
        notebook,
        kernel_name="python3",
        timeout=timeout,
        record_timing=False,
        resources={"metadata": {"path": str(cwd)}},
        extra_arguments=["--log-level=ERROR", "--IPKernelApp.exec_lines=import letters"],
    )
    return client.execute(env=environment)


def normalise(notebook: NotebookNode) -> NotebookNode:
    """Keep of the outputs what a reader sees and what every run gives again."""
    notebook.metadata = nbformat.from_dict(METADATA)
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        cell.metadata.pop("execution", None)
        alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt")
        outputs: list[NotebookNode] = []
        for output in cell.outputs:
            if output.output_type == "stream":
                output.text = sanitised(output.text)
                if outputs and outputs[-1].output_type == "stream" and outputs[-1].name == output.name:
                    outputs[-1].text += output.text
                    continue
            elif "data" in output:
                if WIDGET in output.data:  # without its kernel a widget is dead; keep a picture of it, if it has one
                    del output.data[WIDGET]
                    if set(output.data) <= {"text/plain"}:
                        continue
                noted = output.metadata.get("image/png", {})
                kept = {key: noted[key] for key in ("letters", "columns") if key in noted}
                kept |= {"alt": alt} if alt else {}
                output.metadata = nbformat.from_dict({"image/png": kept} if "image/png" in output.data and kept else {})
                for kind, value in output.data.items():
                    if kind == "image/png":
                        output.data[kind] = base64.b64encode(smaller_png(base64.b64decode(value))).decode()
                    elif isinstance(value, str):
                        output.data[kind] = sanitised(value)
            outputs.append(output)
        cell.outputs = outputs
    return notebook


def sanitised(text: str) -> str:
    for sign, pattern, stable in VARYING:
        if sign in text:  # a film is a long text without spaces, on which the pattern of paths is slow
            text = re.sub(pattern, stable, text)
    return text


def smaller_png(data: bytes) -> bytes:
    """The same picture with a palette, where nobody can see the difference, and without metadata."""
    picture = Image.open(io.BytesIO(data))
    transparent = picture.mode == "RGBA" and picture.getextrema()[3] != (255, 255)
    mode, method = ("RGBA", Image.Quantize.FASTOCTREE) if transparent else ("RGB", Image.Quantize.MEDIANCUT)
    picture = picture.convert(mode)
    palette = picture.quantize(256, method=method, dither=Image.Dither.NONE)
    error = np.abs(np.asarray(picture, dtype=int) - np.asarray(palette.convert(mode), dtype=int))
    best = palette if np.quantile(error, 0.999) <= 8 and error.mean() <= 1 else picture
    buffer = io.BytesIO()
    best.save(buffer, "PNG", optimize=True)
    return min(data, buffer.getvalue(), key=len)


def differences(stored: NotebookNode, fresh: NotebookNode) -> list[str]:
    """The cells whose source or printed text is not what is stored."""
    if len(stored.cells) != len(fresh.cells):
        return [f"{len(stored.cells)} cells are stored, the source has {len(fresh.cells)}"]
    found = []
    for number, (old, new) in enumerate(zip(stored.cells, fresh.cells, strict=True)):
        if (old.cell_type, old.source, old.metadata) != (new.cell_type, new.source, new.metadata):
            found.append(f"cell {number}: the source differs")
        elif printed(old) != printed(new):
            found.append(f"cell {number}: stored\n{printed(old)}\nnow\n{printed(new)}")
    return found


def printed(cell: NotebookNode) -> str:
    """The text of a cell's outputs, as far as every machine prints the same."""
    texts = []
    for output in cell.get("outputs", []):
        data = output.get("data", {})
        texts += [output.get("text", ""), data.get("text/html", data.get("text/plain", ""))]
    return PICTURE.sub("data:PICTURE", records.MEASURED.sub("", "".join(texts)))


def write(notebook: NotebookNode, path: Path) -> None:
    """Write the whole file or nothing."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(nbformat.writes(notebook, version=4), encoding="utf-8", newline="\n")
    os.replace(temporary, path)


def sources(names: list[str]) -> list[Path]:
    """The chapters with these names, such as 02_minimax or chapters/02_minimax.md; all of them if none is given."""
    paths = {path.stem: path for path in sorted(CHAPTERS.glob("[0-9]*.md"))}
    if unknown := [name for name in names if Path(name).stem not in paths]:
        sys.exit(f"no chapter {', '.join(unknown)}; there are: {', '.join(paths) or 'none'}")
    return [paths[Path(name).stem] for name in names] or list(paths.values())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="chapters, such as 02_minimax; default: all of them")
    parser.add_argument("--check", action="store_true", help="compare with what is stored, write nothing")
    parser.add_argument("--timeout", type=int, default=600, help="seconds for one cell (default 600)")
    arguments = parser.parse_args()
    failed = False
    for source in sources(arguments.names):
        target, start = source.with_suffix(".ipynb"), time.perf_counter()
        try:
            notebook = normalise(run(from_source(source), cwd=CHAPTERS, timeout=arguments.timeout))
        except CellExecutionError as error:
            print(f"{source.stem}: a cell failed; nothing was written\n{error}", file=sys.stderr)
            failed = True
            continue
        took = f"{time.perf_counter() - start:.0f} s"
        if not arguments.check:
            write(notebook, target)
            print(f"{source.stem}: executed in {took}, {target.stat().st_size / 1e6:.2f} MB")
        elif not target.exists():
            print(f"{source.stem}: {target.name} is missing; run python book/execute.py {source.stem}", file=sys.stderr)
            failed = True
        elif found := differences(nbformat.read(target, as_version=4), notebook):
            print(f"{source.stem}: differs after {took}", *found, sep="\n", file=sys.stderr)
            failed = True
        else:
            print(f"{source.stem}: the same, in {took}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
