"""What the tests of the command line share."""

from __future__ import annotations

import pytest

from minigen import cli


@pytest.fixture(autouse=True)
def _terminal(monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("MPLBACKEND", "agg")


@pytest.fixture
def call(capsys):
    """Run a command in this process: its exit code, what it printed and what it complained of."""

    def run(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            code = cli.main([str(word) for word in words])
        except SystemExit as left:  # argparse's own
            code = int(left.code or 0)
        return code, *capsys.readouterr()

    return run
