"""One writer in a folder: others are refused by name, dead ones are forgotten."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import windows_locks
from processes import spawn

from minigen import runs
from minigen.recipes import RECIPES
from minigen.runs.lock import NAME

HOLD = """
import sys, time
from minigen import runs
with runs.locked(sys.argv[1]):
    print("held", flush=True)
    time.sleep(100)
"""


AS_ON_WINDOWS = f"""
import sys
sys.path.append({str(Path(windows_locks.__file__).parent)!r})
import pytest, windows_locks
windows_locks.pretend(pytest.MonkeyPatch())
"""


@pytest.fixture(params=["fcntl", "msvcrt"])
def system(request, monkeypatch) -> str:
    """By what folders are locked: as here, and as on Windows."""
    if request.param == "msvcrt" and sys.platform != "win32":
        windows_locks.pretend(monkeypatch)
    return request.param


@pytest.fixture
def holder(tmp_path, system):
    """Another process that writes into the folder."""
    program = (AS_ON_WINDOWS if system == "msvcrt" and sys.platform != "win32" else "") + HOLD
    child = subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "a")], stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "held\n"
    yield child
    child.kill()
    child.wait()
    child.stdout.close()


def test_a_second_writer_is_refused_and_hears_who_the_first_is(tmp_path, holder) -> None:
    said = rf"a is being written by process {holder.pid} on .*kill {holder.pid}.*another folder with --out"
    with pytest.raises(runs.FolderInUseError, match=said), runs.locked(tmp_path / "a"):
        pytest.fail("two writers in one folder")
    recipe = RECIPES["minimax", "ring"]
    run, batches = recipe.build(steps=4), recipe.batches(seed=0, device="cpu")
    with pytest.raises(runs.FolderInUseError, match=f"process {holder.pid}"):
        runs.fit(run, batches, 4, 2, recipe, tmp_path / "a")
    assert run.n == 0
    assert [path.name for path in (tmp_path / "a").iterdir()] == [NAME]


def test_a_process_that_was_killed_leaves_no_lock(tmp_path, holder) -> None:
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (tmp_path / "a" / NAME).exists()
    with runs.locked(tmp_path / "a"):
        assert json.loads((tmp_path / "a" / NAME).read_text())["pid"] == os.getpid()
        with runs.locked(tmp_path / "a"):  # the same process goes through
            assert (tmp_path / "a" / NAME).exists()
        assert (tmp_path / "a" / NAME).exists()
    assert not (tmp_path / "a").exists() or not list((tmp_path / "a").iterdir())


def test_a_folder_that_was_made_for_nothing_is_gone(tmp_path, system) -> None:
    with pytest.raises(RuntimeError, match="before anything"), runs.locked(tmp_path / "new" / "a"):
        raise RuntimeError("before anything is written")
    assert not list(tmp_path.iterdir())
    with runs.locked(tmp_path / "new" / "a"):
        (tmp_path / "new" / "a" / "file").touch()
    assert [path.name for path in (tmp_path / "new" / "a").iterdir()] == ["file"]
    with pytest.raises(NotADirectoryError, match="file is a file; expected a folder"):
        runs.locked(tmp_path / "new" / "a" / "file").__enter__()


def test_a_process_whose_torchrun_was_killed_saves_and_stops(tmp_path, monkeypatch) -> None:
    recipe, parents = RECIPES["minimax", "ring"], iter([7, *[7] * 5, *[1] * 100])
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    monkeypatch.setattr(os, "getppid", lambda: next(parents))
    run = recipe.build(steps=20)
    (tmp_path / "a").mkdir()
    assert runs.fit(run, recipe.batches(seed=0, device="cpu"), 20, 10, recipe, tmp_path / "a") == signal.SIGTERM
    assert run.n == 6
    again = recipe.build(steps=20).load(tmp_path / "a" / "run.pt")
    assert again.n == 6


@pytest.mark.slow
def test_killing_torchrun_ends_its_processes_and_frees_the_folder(tmp_path) -> None:
    folder = tmp_path / "a"
    child = spawn("train", "minimax", "ring", "--steps", 100_000, "--every", 5, "--device", "cpu", "--out", folder,
                  processes=2)  # fmt: skip
    while not (folder / "run.pt").exists():
        assert child.poll() is None, child.communicate()
        time.sleep(0.1)
    worker = json.loads((folder / NAME).read_text())["pid"]
    child.kill()
    end = time.monotonic() + 100
    while Path(f"/proc/{worker}").exists() and "State:\tZ" not in Path(f"/proc/{worker}/status").read_text():
        assert time.monotonic() < end, "the process goes on without its torchrun"
        time.sleep(0.1)
    with runs.locked(folder):
        assert 0 < runs.load(folder).run.n < 100_000
