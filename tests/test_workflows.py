"""What runs on other machines and what readers fill in: workflows, hooks, issue forms, and the scripts in .ci."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import yaml  # jupytext brings it

import contents

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = SETTINGS["project"]
REPOSITORY = PROJECT["urls"]["Repository"]


def read(path: Path) -> dict[Any, Any]:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


WORKFLOWS = {path.name: read(path) for path in sorted((ROOT / ".github/workflows").glob("*.yml"))}
JOBS = {(file, name): job for file, flow in WORKFLOWS.items() for name, job in flow["jobs"].items()}
FORMS = {path.name: read(path) for path in (ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml") if path.stem != "config"}


def steps(key: str) -> list[tuple[tuple[str, str], Any]]:
    return [(where, step[key]) for where, job in JOBS.items() for step in job["steps"] if key in step]


def minor(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))


# Workflows


def test_there_are_the_workflows_of_a_public_project() -> None:
    assert set(WORKFLOWS) == {"book.yml", "ci.yml", "newest.yml", "release.yml"}
    trigger = {file: flow[True] for file, flow in WORKFLOWS.items()}  # YAML 1.1 reads `on` as true
    assert set(trigger["ci.yml"]) == {"push", "pull_request"}
    assert trigger["book.yml"]["push"] == {"branches": ["main"]}
    assert trigger["release.yml"] == {"push": {"tags": ["v*"]}}
    (time,) = trigger["newest.yml"]["schedule"]
    minute, hour, day, month, weekday = time["cron"].split()
    assert (minute.isdigit(), hour.isdigit(), day.isdigit(), month, weekday) == (True, True, True, "*", "*")


def test_every_job_has_a_limit_and_the_whole_run_has_twice_what_a_slow_machine_takes() -> None:
    for where, job in JOBS.items():
        whole = any(step.get("run") == ".ci/run" for step in job["steps"])
        assert (90 if whole else 10) <= job["timeout-minutes"] <= (120 if whole else 30), where


def test_the_pythons_are_those_that_the_project_promises() -> None:
    oldest = minor(PROJECT["requires-python"])
    matrix = JOBS["ci.yml", "test"]["strategy"]["matrix"]["include"]
    rows = {row["constraints"]: row["python"] for row in matrix}
    assert set(rows) == {"constraints-oldest.txt", "constraints.txt"}
    assert minor(rows["constraints-oldest.txt"]) == oldest
    given = [with_.get("python-version") for _, with_ in steps("with") if "python-version" in with_]
    assert len(given) == len(WORKFLOWS)
    assert {version for version in given if version[0] != "$"} == {rows["constraints.txt"]}
    assert minor(rows["constraints.txt"]) >= oldest
    assert SETTINGS["tool"]["ruff"]["target-version"] == "py" + "".join(map(str, oldest))
    assert minor(SETTINGS["tool"]["mypy"]["python_version"]) == oldest


def test_only_the_jobs_that_publish_may_write_and_no_password_is_needed() -> None:
    publishing = {("book.yml", "deploy"): {"pages", "id-token"}, ("release.yml", "publish"): {"id-token"}}
    for file, flow in WORKFLOWS.items():
        assert flow["permissions"] == {"contents": "read"}, file
    for where, job in JOBS.items():
        assert set(job.get("permissions", {})) == publishing.get(where, set()), where
        assert not publishing.get(where) or (job["needs"] == "build" and "environment" in job), where
    for path in (ROOT / ".github/workflows").glob("*.yml"):
        assert not re.search(r"secrets\.|password:", path.read_text(encoding="utf-8")), path.name


def test_a_tag_is_tried_before_it_is_published() -> None:
    build = JOBS["release.yml", "build"]["steps"]
    assert [step["run"].split()[0] for step in build if "run" in step] == [".ci/package"]
    taken = [step["with"]["path"] for where, job in JOBS.items() if where[0] == "release.yml"
             for step in job["steps"] if "artifact" in step.get("uses", "")]  # fmt: skip
    assert taken == ["dist/", "dist/"]


def test_an_action_has_one_version_in_all_workflows() -> None:
    versions: dict[str, set[str]] = {}
    for _, action in steps("uses"):
        name, version = action.split("@")
        versions.setdefault(name, set()).add(version)
    assert {name: found for name, found in versions.items() if len(found) > 1} == {}


TARGETS = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def targets_in(text: str) -> set[str]:
    """Targets of make that a text names: in a line of code that begins with it, or in backquotes."""
    return set(re.findall(r"(?:^|`|run: )make ([a-z]+)", text, re.MULTILINE))


def test_every_target_of_make_that_is_named_exists() -> None:
    pages = [*ROOT.glob("*.md"), *ROOT.glob("book/*.md"), *ROOT.glob("*.yaml"), ROOT / ".pre-commit-config.yaml"]
    pages += [*ROOT.glob(".github/*/*.yml"), *ROOT.glob(".ci/*"), *ROOT.glob("*.txt")]
    named = {path.name: targets_in(path.read_text(encoding="utf-8")) for path in pages}
    assert {name: found - TARGETS for name, found in named.items() if found - TARGETS} == {}
    assert "book" in named["book.yml"]
    assert "test" in named["run"]
    assert len(named["README.md"]) >= 6
    phony = re.search(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)[1]
    assert set(phony.split()) == TARGETS


def test_what_a_workflow_runs_and_reads_is_there() -> None:
    for where, command in steps("run"):
        program = command.split()[0]
        assert program == "make" or program.startswith(".venv/bin/") or os.access(ROOT / program, os.X_OK), where
    for where, variables in steps("env"):
        if (name := variables.get("CONSTRAINTS", "$"))[0] != "$":
            assert (ROOT / name).is_file(), where
    for row in JOBS["ci.yml", "test"]["strategy"]["matrix"]["include"]:
        assert (ROOT / row["constraints"]).is_file()


# Versions of tools


def pins(name: str) -> dict[str, str]:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def test_the_newest_run_keeps_the_judges_of_the_code_and_nothing_else() -> None:
    judges = re.findall(r"^\t@\$\(BIN\)/(\w+)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    kept = pins("constraints-newest.txt")
    assert set(kept) == {judge for judge in judges if judge not in ("python", "jupyter")}
    assert kept.items() <= pins("constraints.txt").items()


HOOKS = list(chain.from_iterable(repo["hooks"] for repo in read(ROOT / ".pre-commit-config.yaml")["repos"]))


def test_hooks_have_the_versions_that_are_tested_together() -> None:
    pinned = pins("constraints.txt")
    for hook in HOOKS:
        assert hook["additional_dependencies"]
        for requirement in hook["additional_dependencies"]:
            name, version = requirement.split("==")
            assert pinned[name] == version, f"{hook['id']}: {requirement}"


def test_hooks_run_what_make_test_runs() -> None:
    recipe = (ROOT / "Makefile").read_text(encoding="utf-8").split("\ntest:")[1].split("\n\n")[0]
    entries = {hook["id"]: hook["entry"] for hook in HOOKS}
    assert f"/{entries['ruff']}\n" in recipe
    assert f"/{entries['ruff-format'].replace('format', 'format --check -q')}\n" in recipe
    (spelled,) = re.findall(r"/codespell (.+)", recipe)
    (pattern,) = [hook["files"] for hook in HOOKS if hook["id"] == "codespell"]
    folders = [word for word in spelled.split() if word != "*.md"]
    assert all(re.search(pattern, f"{folder}/x.py") for folder in folders)
    assert re.search(pattern, "README.md")
    assert [name for name in ("shared/x.md", "nbval.cfg", "a/README.md") if re.search(pattern, name)] == []


def test_the_hook_of_notebooks_selects_a_test(monkeypatch) -> None:
    (entry,) = [hook["entry"] for hook in HOOKS if hook["id"] == "notebooks"]
    file = next(word for word in entry.split() if word.endswith(".py"))
    word = re.search(r'-k "(\w+)"', entry)[1]
    names = re.findall(r"^def (test_\w+)", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)
    assert "test_notebook_is_that_of_its_source" in [name for name in names if word in name]


# Issue forms


def test_there_are_the_forms_and_each_is_whole() -> None:
    assert set(FORMS) == {"wrong-equation.yml", "unclear-passage.yml", "failing-cell.yml"}
    for file, form in FORMS.items():
        assert {"name", "description", "body"} <= set(form), file
        names = [field["id"] for field in form["body"]]
        assert len(set(names)) == len(names), file
        assert any(field.get("validations", {}).get("required") for field in form["body"]), file


@pytest.mark.parametrize("file", FORMS)
def test_a_form_offers_the_chapters_that_are_written(file: str) -> None:
    written = [chapter.heading for part in contents.parts() for chapter in part.chapters if chapter.name]
    *offered, other = FORMS[file]["body"][0]["attributes"]["options"]
    assert offered == written
    assert other in ("Another page", "The library or its command line")


def test_forms_lead_to_files_and_commands_that_exist() -> None:
    links = [link["url"] for link in read(ROOT / ".github/ISSUE_TEMPLATE/config.yml")["contact_links"]]
    for link in links:
        assert link.startswith(f"{REPOSITORY}/blob/main/")
        assert (ROOT / link.removeprefix(f"{REPOSITORY}/blob/main/")).is_file()
    texts = "".join(path.read_text(encoding="utf-8") for path in (ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"))
    assert set(re.findall(r"`(python [^`]+)`", texts)) == {"python -m minigen --version"}
    command = [sys.executable, "-m", "minigen", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True, cwd=ROOT)
    assert done.stdout.startswith(f"minigen {PROJECT['version']}, torch ")


# The scripts in .ci


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder with .ci/run, and a `make` that says which data it was given."""
    home = tmp_path / "work" / "clone"
    for folder in (home / ".ci", tmp_path / "bin"):
        folder.mkdir(parents=True)
    (home / ".ci" / "run").write_bytes((ROOT / ".ci" / "run").read_bytes())
    for name in ("make", "chromium"):
        (tmp_path / "bin" / name).write_text('#!/bin/sh\necho "$@ CI=$CI MINIGEN_DATA=$MINIGEN_DATA"\n')
        (tmp_path / "bin" / name).chmod(0o755)
    return home


def said(clone: Path, **variables: str) -> str:
    kept = {name: value for name, value in os.environ.items() if name not in ("MINIGEN_DATA", "CI")}
    path = f"{clone.parents[1] / 'bin'}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(["bash", clone / ".ci" / "run"], capture_output=True, text=True, timeout=60, check=True,
                          env=kept | {"PATH": path} | variables)  # fmt: skip
    return done.stdout.strip()


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script")
def test_ci_reads_data_from_the_named_folder_else_from_the_one_beside_it(clone: Path) -> None:
    assert said(clone) == "test CI=true MINIGEN_DATA="
    beside = clone.parent / "shared" / "data"
    beside.mkdir(parents=True)
    assert said(clone) == f"test CI=true MINIGEN_DATA={beside}"
    assert said(clone, MINIGEN_DATA="/named") == "test CI=true MINIGEN_DATA=/named"
    assert said(clone, MINIGEN_DATA="") == f"test CI=true MINIGEN_DATA={beside}"


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script")
def test_a_package_is_not_made_for_another_tag_or_beside_other_files(tmp_path: Path) -> None:
    def refused(*arguments: str) -> str:
        done = subprocess.run([ROOT / ".ci/package", *arguments], capture_output=True, text=True, timeout=60)
        assert done.returncode == 1
        return done.stderr

    assert f"the tag must be v{PROJECT['version']}" in refused(str(tmp_path / "new"), "v9.9.9")
    assert refused(str(tmp_path / "new"), PROJECT["version"]).startswith("the tag is ")
    (tmp_path / "old.whl").touch()
    assert "is not empty" in refused(str(tmp_path))
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["old.whl"]


# What a release holds and says


def test_every_file_of_the_library_that_is_no_code_goes_into_the_package() -> None:
    patterns = SETTINGS["tool"]["setuptools"]["package-data"]["minigen"]
    files = [path.relative_to(ROOT / "minigen") for path in (ROOT / "minigen").rglob("*") if path.is_file()]
    data = [path.as_posix() for path in files if path.suffix not in (".py", ".pyc")]
    assert {"checkpoints/diffusion-emoji.safetensors", "data/emoji_sheets/noto.webp", "py.typed"} <= set(data)

    def taken(name: str, pattern: str) -> bool:  # an asterisk stands for no slash
        return fnmatch(name, pattern) and name.count("/") == pattern.count("/")

    assert [name for name in data if not any(taken(name, pattern) for pattern in patterns)] == []


def test_one_version_is_named_everywhere() -> None:
    import minigen

    citation = read(ROOT / "CITATION.cff")
    newest, month = re.search(r"^## (\S+) \((\d{4}-\d\d)\)$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.M).groups()
    assert PROJECT["version"] == minigen.__version__ == str(citation["version"]) == newest
    assert str(citation["date-released"]).startswith(month)
    assert citation["repository-code"] == REPOSITORY
    assert [author["name"] for author in citation["authors"]] == [author["name"] for author in PROJECT["authors"]]


README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_readme_begins_with_emoji_and_its_archive_is_the_repositorys() -> None:
    (first, *_) = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", README)
    assert first == "book/_static/emoji.png"
    assert README.index(first) < README.index("## ")
    archives = re.findall(r"https://\S+?\.zip", README)
    assert set(archives) == {f"{REPOSITORY}/archive/main.zip"}
    extras = set(
        chain.from_iterable(found.split(",") for found in re.findall(r"(?:minigen|\.)\[([\w,]+)\](?! @|\()", README))
    )
    extras |= set(re.findall(r"minigen\[(\w+)\] @", README))
    assert extras == {"notebook"}
    assert extras <= set(PROJECT["optional-dependencies"])


def test_the_three_lines_of_the_readme_draw_emoji(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    (block,) = (b for b in blocks if "runs.stored" in b)
    assert len([line for line in block.splitlines() if line]) == 3
    assert ", 24, " in block
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "MPLBACKEND": "agg"}
    command = [sys.executable, "-c", block.replace(", 24, ", ", 2, ")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200, env=environment)
    assert done.returncode == 0, done.stderr
    from PIL import Image

    with Image.open(tmp_path / "emoji.png") as picture:
        colours = picture.convert("RGB").getcolors(1 << 20)
    assert len(colours) > 200
