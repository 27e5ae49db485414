"""The executor: what it stores is what every run gives again."""

import base64
import importlib.util
import io
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode
from PIL import Image

ROOT = Path(__file__).parents[2]


def notebook(*cells: NotebookNode) -> NotebookNode:
    return nbformat.v4.new_notebook(cells=list(cells))


def figure(**metadata: object) -> NotebookNode:
    output = nbformat.v4.new_output("display_data", {"image/png": "", "text/plain": "<Figure>"})
    return nbformat.v4.new_code_cell("plt.show()", metadata=metadata, outputs=[output], execution_count=1)


@pytest.fixture(scope="module")
def execute():
    spec = importlib.util.spec_from_file_location("execute", ROOT / "book" / "execute.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SOURCE = """# T

```{code-cell}
print("a"); print(object())
```

```{code-cell}
:tags: [hide-input]
from IPython.display import Image, display
import os, sys
sys.stdout.flush()
print(os.environ["OMP_NUM_THREADS"], sorted(k for k in os.environ if k.startswith("MINIGEN_")))
```
"""


def test_executor_stores_the_same_bytes_twice(execute, tmp_path, monkeypatch):
    monkeypatch.setenv("MINIGEN_FULL", "1")
    (tmp_path / "01_a.md").write_text(SOURCE)
    files = []
    for name in ("one.ipynb", "two.ipynb"):
        done = execute.normalise(execute.run(execute.from_source(tmp_path / "01_a.md"), cwd=tmp_path, timeout=60))
        execute.write(done, tmp_path / name)
        files.append((tmp_path / name).read_bytes())
    assert files[0] == files[1]
    first, second = nbformat.read(tmp_path / "one.ipynb", as_version=4).cells[1:]
    assert first.outputs[0].text == "a\n<object object at 0x000000000000>\n"
    assert second.outputs[0].text == "1 ['MINIGEN_LIVE']\n"
    assert second.metadata == {"tags": ["hide-input"], "jupyter": {"source_hidden": True}, "cellView": "form"}
    assert not list(tmp_path.glob("*.tmp"))


def test_executor_keeps_the_ids_of_other_cells(execute, tmp_path):
    path = tmp_path / "01_a.md"
    path.write_text(SOURCE)
    before = [cell.id for cell in execute.from_source(path).cells]
    path.write_text(SOURCE.replace('print("a")', 'print("b")'))
    after = [cell.id for cell in execute.from_source(path).cells]
    assert [old == new for old, new in zip(before, after, strict=True)] == [True, False, True]


def test_executor_drops_widgets_and_names_pictures(execute):
    widget = "application/vnd.jupyter.widget-view+json"
    cell = figure(mystnb={"image": {"alt": "A picture."}}, execution={"iopub.status.busy": "now"})
    cell.outputs[0].data["image/png"] = png()
    cell.outputs += [
        nbformat.v4.new_output("display_data", {widget: {}, "text/plain": "Box()"}),
        nbformat.v4.new_output("display_data", {widget: {}, "text/html": "<p>a</p>", "text/plain": "Box()"}),
        nbformat.v4.new_output("stream", name="stdout", text="a"),
        nbformat.v4.new_output("stream", name="stdout", text="b"),
    ]
    done = notebook(cell)
    done.metadata["widgets"] = {"state": {}}
    picture, html, stream = execute.normalise(done).cells[0].outputs
    assert picture.metadata == {"image/png": {"alt": "A picture."}}
    assert (set(html.data), stream.text) == ({"text/html", "text/plain"}, "ab")
    assert "widgets" not in done.metadata
    assert "execution" not in done.cells[0].metadata


def png() -> str:
    buffer = io.BytesIO()
    Image.radial_gradient("L").convert("RGB").save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def test_executor_reports_differences(execute):
    old, new = notebook(figure()), notebook(figure())
    assert execute.differences(old, new) == []
    new.cells[0].outputs[0].data["image/png"] = "another machine's fonts"
    assert execute.differences(old, new) == []
    for cells, measured in ((old, "8"), (new, "7")):
        text = f"✓ modes: at least 7 (measured {measured})"
        cells.cells[0].outputs.append(nbformat.v4.new_output("stream", name="stdout", text=text))
    assert execute.differences(old, new) == [], "another machine's digits"
    new.cells[0].outputs.append(nbformat.v4.new_output("stream", name="stdout", text="3.2"))
    assert execute.differences(old, new)
    assert execute.differences(old, notebook())
