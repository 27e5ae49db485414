"""Chapter 00 in a real JupyterLab: it runs from top to bottom, and its reader sees the training live."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

from browser import ROOT, plays, watch

pytestmark = [pytest.mark.browser, pytest.mark.timeout(420)]
CHAPTER = ROOT / "chapters" / "00_start_here.ipynb"
SETTINGS = {
    # Every cell is in the page, also those off the screen.
    "@jupyterlab/notebook-extension/tracker": {"windowingMode": "none"},
    # No question about news, and no request for them.
    "@jupyterlab/apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}
# Records what the live view shows, as it changes: how far the bar is, and which pictures stood beside it.
RECORD = """() => {
  window.bars = new Set(); window.pictures = new Set();
  new MutationObserver(() => {
    document.querySelectorAll(".jp-OutputArea .progress-bar").forEach(bar => bars.add(bar.style.width));
    document.querySelectorAll(".jp-OutputArea img.widget-image").forEach(image => image.src && pictures.add(image.src));
  }).observe(document.body, {subtree: true, childList: true, attributes: true});
}"""

RUN = """async () => {
  const panel = jupyterapp.shell.currentWidget;
  await Promise.all([panel.context.ready, panel.sessionContext.ready]);
  await jupyterapp.commands.execute("notebook:run-all-cells");
}"""
ENDED = """() => {
  const cells = jupyterapp.shell.currentWidget.content.widgets.filter(cell => cell.model.type === "code");
  const failed = cells.some(cell => cell.model.outputs.toJSON().some(output => output.output_type === "error"));
  return failed || cells.every(cell => cell.model.executionCount && !cell.model.isDirty
      && cell.model.executionState !== "running");
}"""


def unrun(path: Path, folder: Path) -> nbformat.NotebookNode:
    """A copy of a notebook without its outputs, so that whatever is seen later was made by running it."""
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    nbformat.write(notebook, folder / path.name)
    return notebook


@pytest.fixture
def lab(tmp_path) -> Iterator[tuple[str, Path]]:
    """A JupyterLab of its own, at a free port: its address and its folder. Nothing of it is left afterwards."""
    folder, private = tmp_path / "chapters", tmp_path / "jupyter"
    folder.mkdir()
    for name, settings in SETTINGS.items():
        file = private / "settings" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(settings))
    # PYTEST_VERSION would silence the live view.
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "MINIGEN_", "JUPYTER", "COV_"))}
    environment = kept | {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
        "JUPYTER_PREFER_ENV_PATH": "1",
        "JUPYTER_CONFIG_DIR": str(private / "config"),
        "JUPYTER_DATA_DIR": str(private / "data"),
        "JUPYTER_RUNTIME_DIR": str(private / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(private / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(private / "workspaces"),
        "IPYTHONDIR": str(private / "ipython"),
    }
    command = [sys.executable, "-m", "jupyter", "lab", "--no-browser", "--allow-root", "--ip=127.0.0.1", "--port=0",
               "--LabApp.expose_app_in_browser=True", f"--notebook-dir={folder}"]  # fmt: skip
    log = tmp_path / "log"
    with log.open("w") as output:
        server = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=output, stderr=output, start_new_session=True
        )
    try:
        yield address(server, private / "runtime", log), folder
    finally:
        server.terminate()  # it ends its kernels
        try:
            server.wait(timeout=20)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)  # a kernel ends when it sees that its server has gone
            server.wait(timeout=20)


def address(server: subprocess.Popen, runtime: Path, log: Path) -> str:
    """Where the server listens, as soon as it does."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and server.poll() is None:
        for file in runtime.glob("jpserver-*.json"):
            try:
                info = json.loads(file.read_text())
            except json.JSONDecodeError:
                continue  # it is being written
            return f"{info['url']}lab/tree/{{}}?token={info['token']}"
        time.sleep(0.1)
    raise RuntimeError(f"JupyterLab does not start:\n{log.read_text()[-3000:]}")


def texts(outputs: list[dict]) -> str:
    return "".join("".join(output.get("text", "")) for output in outputs if output["output_type"] == "stream")


def test_chapter_00_runs_in_jupyterlab_and_shows_its_training_live(chromium, lab):
    url, folder = lab
    notebook = unrun(CHAPTER, folder)
    context = chromium.new_context(viewport={"width": 1280, "height": 1000})
    badge = (
        "<svg xmlns='http://www.w3.org/2000/svg' width='117' height='20'/>"  # the chapter's only picture from outside
    )
    context.route("**/colab-badge.svg", lambda route: route.fulfill(body=badge, content_type="image/svg+xml"))
    page = context.new_page()
    page.set_default_timeout(60_000)
    origin = url.partition("lab/")[0]
    wrong = watch(page, origin)
    page.goto(url.format(CHAPTER.name))
    page.wait_for_function("count => document.querySelectorAll('.jp-Notebook .jp-Cell').length === count",
                           arg=len(notebook.cells))  # fmt: skip
    page.evaluate(RECORD)
    page.evaluate(RUN)
    page.wait_for_function(ENDED, timeout=240_000, polling=200)
    page.evaluate("() => jupyterapp.commands.execute('docmanager:save')")
    page.set_default_timeout(20_000)

    # What its reader saw while it ran.
    assert len(page.evaluate("[...bars]")) >= 4, "the bar of the live view moves at least three times"
    assert len(page.evaluate("[...pictures]")) >= 4, "the picture of the live view changes at least three times"

    # What stands there at the end.
    ran = json.loads((folder / CHAPTER.name).read_text(encoding="utf-8"))
    cells = [cell for cell in ran["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert [output["evalue"] for output in outputs if output["output_type"] == "error"] == []
    assert texts([output for output in outputs if output.get("name") == "stderr"]) == ""
    stored = nbformat.read(CHAPTER, as_version=4)
    expected = texts([output for cell in stored.cells for output in cell.get("outputs", [])])
    marks = [line for line in texts(outputs).splitlines() if "✓" in line]
    assert marks == [line for line in expected.splitlines() if "✓" in line] != []
    shown = page.locator(".jp-Notebook").inner_text()
    assert [mark for mark in marks if mark.strip() not in shown] == []

    plays(page, page.locator("figure.minigen-film").first)
    assert [problem for problem in wrong if not problem.endswith("/colab-badge.svg")] == []
    context.close()
