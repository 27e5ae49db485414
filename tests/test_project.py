"""The project's own promises: one set of requirements, files of readable size, no addresses that drift."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CONDA_NAMES = {"torch": "pytorch"}


def requirements() -> dict[str, str]:
    listed = [*PROJECT["dependencies"], *(r for extra in PROJECT["optional-dependencies"].values() for r in extra)]
    return dict(re.fullmatch(r"([A-Za-z0-9_.-]+)(.*)", r).groups() for r in listed)


def pins(name: str) -> dict[str, str]:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def test_environment_yml_lists_the_same_set() -> None:
    text = (ROOT / "environment.yml").read_text(encoding="utf-8")
    entries = re.findall(r"^\s+- ([A-Za-z0-9_.-]+)((?:[<>=!~].*)?)$", text, flags=re.MULTILINE)
    given = {name: spec for name, spec in entries if name not in ("pip", "conda-forge")}
    assert given.pop("python") == PROJECT["requires-python"]
    expected = {CONDA_NAMES.get(name, name): spec for name, spec in requirements().items()}
    assert given == expected
    assert re.search(r"- pip:\n(?:\s+- .*\n)*\s+- -e \.\n", text)


@pytest.mark.parametrize("name", ["constraints.txt", "constraints-oldest.txt"])
def test_every_requirement_is_pinned_within_its_range(name: str) -> None:
    def version(text: str) -> tuple[int, ...]:
        return tuple(int(part) for part in re.findall(r"\d+", text))

    pinned = pins(name)
    for requirement, spec in requirements().items():
        assert requirement in pinned, f"{requirement} is not in {name}"
        assert spec.startswith(">=")
        assert version(pinned[requirement]) >= version(spec)


def test_the_oldest_torch_is_the_one_that_is_promised() -> None:
    assert requirements()["torch"] == ">=2.4"
    assert pins("constraints-oldest.txt")["torch"].startswith("2.4.")


@pytest.mark.parametrize("folder", ["minigen", "tests", "book", "benchmarks"])
def test_no_file_has_more_than_400_lines(folder: str) -> None:
    for path in (ROOT / folder).rglob("*.py"):
        if "_build" not in path.parts:
            assert len(path.read_text(encoding="utf-8").splitlines()) <= 400, path


def test_chapters_name_the_repository_that_the_project_names() -> None:
    repository = PROJECT["urls"]["Repository"].removeprefix("https://github.com/")
    for path in (ROOT / "chapters").glob("[0-9]*.md"):
        text = path.read_text(encoding="utf-8")
        assert f"colab.research.google.com/github/{repository}/blob/main/chapters/{path.stem}.ipynb" in text
        assert f"git+https://github.com/{repository}@" in text
        assert not re.search(r"pip install(?!.*--no-deps)", text), "a chapter must not touch the installed torch"


def test_only_minigen_layers_below_are_imported() -> None:
    """Arrows only downward: ground knows no objective, objectives know no loop, the loop knows no objective."""
    above = {
        "ground": (
            r"minigen\.(objectives|samplers|train|distributed|show|book|homework|cli)",
            ["nets", "worlds", "data.py", "metrics.py", "streams.py", "guard.py"],
        ),
        "objectives": (r"minigen\.(train|distributed|show|book|homework|cli)", ["objectives", "samplers"]),
        "loop": (
            r"minigen\.(objectives|samplers|nets|worlds|data|metrics|show|book|homework)",
            ["train.py", "distributed.py"],
        ),
    }
    for name, (forbidden, places) in above.items():
        for place in places:
            path = ROOT / "minigen" / place
            for file in [path] if path.suffix else path.rglob("*.py"):
                lines = re.findall(
                    rf"^\s*(?:from|import) {forbidden}.*$", file.read_text(encoding="utf-8"), flags=re.MULTILINE
                )
                assert not lines, f"{name}: {file.name} imports {lines}"


@pytest.mark.parametrize(
    ("python", "says"), [("no-such-python", "needs Python 3.11"), ("old-python", "needs Python 3.11")]
)
def test_make_names_a_missing_or_old_python_in_one_line(tmp_path, python: str, says: str) -> None:
    if shutil.which("make") is None:
        pytest.skip("no make here")
    old = tmp_path / "old-python"
    old.write_text('#!/bin/sh\ncase "$1" in --version) echo "Python 3.8.10";; *) exit 1;; esac\n')
    old.chmod(0o755)
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    command = ["make", "book", f"PYTHON={old if python == 'old-python' else python}"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MAKE") and k != "MFLAGS"}  # no outer make's
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode
    assert len(done.stdout.strip().splitlines()) == 1
    assert says in done.stdout
    assert not (tmp_path / ".venv").exists()


def test_the_librarys_references_to_equations_exist() -> None:
    chapters = {path.stem[:2]: path.read_text(encoding="utf-8") for path in (ROOT / "chapters").glob("[0-9]*.md")}
    found = 0
    for path in (ROOT / "minigen").rglob("*.py"):
        for number, equation in re.findall(r"(?<!\w)\((\d+)\.(\d+)\)", path.read_text(encoding="utf-8")):
            text = chapters.get(f"{int(number):02d}")
            if text is not None:
                found += 1
                assert f"\\tag{{{number}.{equation}}}" in text, f"{path.name} refers to ({number}.{equation})"
    assert found > 5


@pytest.mark.parametrize("processes", [1, 2])
def test_the_readmes_training_script_reaches_what_it_says(tmp_path, processes: int) -> None:
    """On one process as it stands; on two, which gloo makes slow, for a few steps."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    (block,) = (b for b in blocks if "metrics.modes" in b)
    assert "all 8 spots, 96 %" in block
    script = tmp_path / "script.py"
    script.write_text(block if processes == 1 else block.replace("2_000", "60").replace("% 500", "% 30"))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command = [sys.executable, script] if processes == 1 else [*launcher, script]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr
    *logs, report = done.stdout.splitlines()
    assert [line.split()[0] for line in logs] == (["500", "1000", "1500", "2000"] if processes == 1 else ["30", "60"])
    assert (tmp_path / "run.pt").exists()
    if processes == 1:
        captured, quality = re.match(r"ModeReport\(captured=(\d+), high_quality=([\d.]+)", report).groups()
        assert int(captured) == 8
        assert float(quality) > 0.9


def test_what_the_readme_shows_of_the_grader_is_what_it_prints() -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    (block,) = (b for b in blocks if "grade(" in b)
    expected = block.rsplit("# ", 1)[1]
    done = subprocess.run([sys.executable, "-c", block], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == expected
