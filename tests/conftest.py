"""Fixtures that several test files share."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import browser
import pytest
import torch
from filelock import FileLock


@pytest.fixture(autouse=True)
def _the_same_start():
    """Every test begins from the same seed, one thread and single precision, whatever the last one left behind."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def float64(_the_same_start) -> None:
    """Double precision as the default, for structure and derivatives that must be exact."""
    torch.set_default_dtype(torch.float64)


@pytest.fixture(scope="module")
def chromium():
    """A headless browser. For one module: while Playwright runs, no other event loop can."""
    with browser.headless() as found:
        yield found


@pytest.fixture(scope="session")
def book(tmp_path_factory) -> Path:
    """The folder of the built pages, warnings being errors; MINIGEN_BOOK names one that is built already."""
    if given := os.environ.get("MINIGEN_BOOK"):
        return Path(given).resolve()
    shared = tmp_path_factory.getbasetemp()
    shared = shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared  # built by whoever comes first
    out = shared / "book" / "html"
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-c", "book", "-b", "html", ".", str(out)]
    with FileLock(shared / "book.lock"):
        if not (out / "index.html").exists():
            done = subprocess.run(command, cwd=browser.ROOT, capture_output=True, text=True, timeout=280)
            assert done.returncode == 0, done.stderr
    return out
