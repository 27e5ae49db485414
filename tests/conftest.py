"""Fixtures that several test files share."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from filelock import FileLock

import browser


def pytest_configure(config: pytest.Config) -> None:
    config.option.loadscopereorder = False  # xdist would begin with the files of most tests, not with the longest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The tour of the book first, then chapters, then what else opens a browser.

    Whoever begins one of them at the end keeps the others waiting.
    """
    browsed = {item.path for item in items if item.get_closest_marker("browser")}

    def late(item: pytest.Item) -> tuple[bool, ...]:
        return item.path.name != "test_browser.py", item.path.suffix != ".ipynb", item.path not in browsed

    items.sort(key=late)


@pytest.fixture(autouse=True)
def _the_same_start():
    """Every test begins from the same seed, one thread, single precision and the plain look of figures."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    yield
    torch.set_default_dtype(torch.float32)
    if "matplotlib" in sys.modules:
        sys.modules["matplotlib"].rcdefaults()  # a chapter's `setup` gives figures its own look, and no background


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
def shared(tmp_path_factory) -> Path:
    """A folder of this session that all workers see."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


def sphinx(builder: str, out: Path) -> None:
    """Build the book, warnings being errors. Both builders read the same pages, so that the second one only writes."""
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-c", "book", "-b", builder]
    command += ["-d", str(out.parent / "doctrees"), ".", str(out)]
    done = subprocess.run(command, cwd=browser.ROOT, capture_output=True, text=True, timeout=1200)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture(scope="session")
def book(shared) -> Path:
    """The folder of the built pages; MINIGEN_BOOK names one that is built already."""
    if given := os.environ.get("MINIGEN_BOOK"):
        return Path(given).resolve()
    with FileLock(shared / "book.lock"):  # built by whoever comes first
        if not (shared / "html" / "index.html").exists():
            sphinx("html", shared / "html")
    return shared / "html"


@pytest.fixture(scope="session")
def epub_file(shared, book) -> Path:
    """The book as one file, written from the pages that were read for the web."""
    with FileLock(shared / "book.lock"):
        if not (shared / "epub" / "minigen.epub").exists():
            sphinx("epub", shared / "epub")
    return shared / "epub" / "minigen.epub"
