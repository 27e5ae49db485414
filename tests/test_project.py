"""The project's own promises: one set of requirements, files of readable size, no addresses that drift."""

from __future__ import annotations

import ast
import io
import os
import re
import shutil
import subprocess
import sys
import tokenize
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
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


def lines_of_code(text: str) -> int:
    """Lines that hold code: no blanks, no comments, no docstrings; lines as the formatter makes them."""
    held: set[int] = set()
    skipped = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in skipped:
            held |= set(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                held -= set(range(first.lineno, first.end_lineno + 1))
    return len(held)


def test_lines_of_code_are_counted_without_docstrings_comments_and_blanks() -> None:
    text = '"""Doc.\n\nMore."""\n\n# comment\nx = """a\nb"""\n\ndef f():\n    "Doc."\n    return (\n        1\n    )\n'
    assert lines_of_code(text) == 2 + 1 + 3


@pytest.mark.parametrize("folder", ["minigen", "tests", "book", "benchmarks"])
def test_no_file_has_more_than_300_lines_of_code(folder: str) -> None:
    for path in (ROOT / folder).rglob("*.py"):
        if "_build" not in path.parts:
            assert lines_of_code(path.read_text(encoding="utf-8")) <= 300, path


def test_the_library_stays_small(record_testsuite_property) -> None:
    """At most 9,000 lines of code for all families of all chapters, without homework, cli, show, book and recipes.

    Recipes are tables of settings, which grow with each family.
    """
    apart = {"homework", "cli", "show", "book", "recipes"}
    total = 0
    for path in (ROOT / "minigen").rglob("*.py"):
        if room(".".join(path.relative_to(ROOT).with_suffix("").parts)) not in apart:
            total += lines_of_code(path.read_text(encoding="utf-8"))
    record_testsuite_property("lines_of_code", total)
    assert total <= 9000, f"{total} lines of code"


def test_chapters_name_the_repository_that_the_project_names() -> None:
    repository = PROJECT["urls"]["Repository"].removeprefix("https://github.com/")
    for path in (ROOT / "chapters").glob("[0-9]*.md"):
        text = path.read_text(encoding="utf-8")
        assert f"colab.research.google.com/github/{repository}/blob/main/chapters/{path.stem}.ipynb" in text
        assert f"git+https://github.com/{repository}@" in text
        assert not re.search(r"pip install(?!.*--no-deps)", text), "a chapter must not touch the installed torch"


RANKS = (  # arrows point downward alone: from a room to those in the lines below it
    {"__main__"},
    {"cli", "book"},
    {"homework", "runs"},
    {"recipes"},
    {"tasks"},
    {"samplers", "show"},
    {"objectives", "metrics"},
    {"nets", "train"},
    {"worlds"},  # which takes its checks of arguments from data
    {"data"},
)
NO_CODE = {"checkpoints"}


def room(module: str) -> str:
    """The room of a dotted module name; "" is the package itself, the public face."""
    return [*module.split("."), ""][1]


def arrows(path: Path) -> set[str]:
    """The rooms that a file of minigen imports from, anywhere in it."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {room(alias.name) for alias in node.names if alias.name.split(".")[0] == "minigen"}
        elif isinstance(node, ast.ImportFrom):
            base = [*package[: len(package) - node.level + 1]] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            if module == "minigen":
                found |= {alias.name if alias.name in set().union(*RANKS) else "" for alias in node.names}
            elif module.split(".")[0] == "minigen":
                found.add(room(module))
    return found


def test_every_room_is_in_the_table_of_ranks() -> None:
    rooms = {p.stem for p in (ROOT / "minigen").iterdir() if p.suffix == ".py" or p.is_dir()} - {
        "__init__",
        "__pycache__",
    }
    assert rooms - NO_CODE == set().union(*RANKS)


def test_arrows_between_rooms_point_downward() -> None:
    rank = {name: i for i, row in enumerate(RANKS) for name in row}
    for path in sorted((ROOT / "minigen").rglob("*.py")):
        mine = room(".".join(path.relative_to(ROOT).with_suffix("").parts))
        if mine == "__init__":
            continue
        for other in arrows(path) - {mine}:
            if other == "":  # the package itself: its version
                continue
            assert rank[other] > rank[mine], (
                f"{path.relative_to(ROOT)} imports {other}, which does not stand below {mine}"
            )


def test_an_upward_arrow_is_seen(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    file = tmp_path / "minigen" / "objectives" / "x.py"
    file.parent.mkdir(parents=True)
    for line in (
        "from minigen.samplers import ode",
        "import minigen.samplers.ode",
        "from ..samplers import ode",
        "from minigen import samplers",
    ):
        file.write_text(f"def f():\n    {line}\n")
        assert arrows(file) == {"samplers"}, line


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
