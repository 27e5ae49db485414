"""The chapters' checks: they pass on the truth, fail on anything else, and print the same on every machine."""

from __future__ import annotations

import configparser
import json
import math
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch

from minigen import book
from minigen.book import CheckError, band, check, refute
from minigen.nets.mlp import MLPGenerator


def test_check_prints_the_statement_and_not_the_numbers(capsys) -> None:
    check("2.5", torch.tensor([1.0, 2.0]), [1.0, 2.0 + 1e-7], atol=1e-6, what="logits")
    check("2.6", 1, 1, atol=0.001)
    check("2.7", [True, False], [1, 0], atol=0, what="limits")
    check("2.8", 2.0794415, 2.0794, atol=1e-3)
    assert capsys.readouterr().out == (
        "✓ (2.5) logits: within 1e-06 (measured off by 1e-07)\n"
        "✓ (2.6) within 0.001 (measured 1, off by 0)\n"
        "✓ (2.7) limits: exactly\n"
        "✓ (2.8) within 0.001 (measured 2.079, off by 4.2e-05)\n"
    )


def test_what_a_run_measured_is_not_compared() -> None:
    """The strict comparison of chapters leaves out the parentheses, and nothing else."""
    settings = configparser.ConfigParser()
    settings.read(Path(__file__).parents[2] / "nbval.cfg")
    rule = settings["measured values"]
    line = "✓ f(x) (in nats): at least 7 (measured 8)"
    assert re.sub(rule["regex"], rule["replace"], line) == "✓ f(x) (in nats): at least 7 (measured)"
    assert re.sub(rule["regex"], rule["replace"], line.replace("7", "6")) != re.sub(
        rule["regex"], rule["replace"], line
    )


@pytest.mark.parametrize(
    ("value", "expected", "match"),
    [
        (1.0, 1.1, r"\(2\.1\) x: 1\.0 against 1\.1; they differ by 0\.1, more than 0\.01"),
        ([1.0, 2.0], [2.0, 1.0], "differ by 1"),
        (float("nan"), float("nan"), "differ by nan"),
        (float("inf"), 1.0, "differ by inf"),
        ([1.0, 1.0], 1.0, "shapes differ"),
        ([], [], "nothing to compare"),
        (True, False, "differ by 1"),
    ],
)
def test_check_fails_with_the_numbers(value, expected, match: str, capsys) -> None:
    with pytest.raises(CheckError, match=match):
        check("2.1", value, expected, atol=0.01, what="x")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: check("2.1", torch.tensor(1 + 2j), 1.0, atol=0.1), TypeError, "complex numbers"),
        (lambda: check("2.1", 1.0, np.complex128(1 + 2j), atol=0.1), TypeError, "complex numbers"),
        (lambda: check("2.1", torch.tensor(2**53 + 1), torch.tensor(2**53), atol=0), TypeError, "integers beyond"),
        (lambda: check("2.1", math.inf, 1.0, atol=math.inf), ValueError, "atol must be a finite number"),
        (lambda: check("2.1", 1.0, 1.0, atol=math.nan), ValueError, "got nan"),
        (lambda: band("gap", math.inf, low=1), CheckError, "inf is no finite number, and so not at least 1"),
        (lambda: band("gap", -math.inf, high=1), CheckError, "-inf is no finite number, and so not at most 1"),
        (lambda: band("gap", torch.tensor(1 + 5j), low=0), TypeError, "complex numbers"),
        (lambda: refute("a claim that holds", 1.0, 1.0, by=0), ValueError, "by must be a number other than 0"),
        (lambda: refute("a claim that holds", 1.0, 1.0, by=-1), CheckError, "too small by"),
        (lambda: refute("nothing", [], [], by=0.1), CheckError, "off by nan"),
    ],
)
def test_bad_input(call, error: type[Exception], match: str, capsys) -> None:
    with pytest.raises(error, match=match):
        call()
    assert capsys.readouterr().out == ""


def test_a_console_without_the_mark_does_not_break_a_check() -> None:
    code = "from minigen.book import check, refute; check('1.1', 1, 1, atol=0); refute('µ', 1, 2, by=-0.5)"
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == [
        "+ (1.1) exactly",
        r"x \xb5: too small by more than 0.5 (measured 1 against 2)",
    ], done.stderr


def test_band(capsys, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("MINIGEN_RECORD", str(tmp_path / "bands.jsonl"))
    band("modes", 8, low=8)
    band("gap", torch.tensor(0.5, requires_grad=True), low=0.1, high=1, tag="2.9", why="by (2.9)")
    out = capsys.readouterr().out
    assert out == ("✓ modes: at least 8 (measured 8)\n✓ (2.9) gap: between 0.1 and 1, by (2.9) (measured 0.5)\n")
    for number in (0.05, 1.5, float("nan")):
        with pytest.raises(CheckError, match=r"is not between 0\.1 and 1"):
            band("gap", number, low=0.1, high=1)
    with pytest.raises(ValueError, match="low="):
        band("gap", 1.0)
    lines = [json.loads(line) for line in (tmp_path / "bands.jsonl").read_text().splitlines()]
    assert [line["number"] for line in lines[:2]] == [8, 0.5]


def test_refute_fails_where_the_claim_holds_after_all_or_errs_on_the_other_side(capsys) -> None:
    refute("a misprint", 1.0, 2.0, by=-0.5)
    refute("another", [1.0, 2.0], [2.0, 1.0], by=0.5)
    assert capsys.readouterr().out == (
        "✗ a misprint: too small by more than 0.5 (measured 1 against 2)\n"
        "✗ another: off by more than 0.5 (measured 1 off)\n"
    )
    for claimed in (2.2, 1.0, float("nan")):
        with pytest.raises(CheckError):
            refute("a misprint", claimed, 2.0, by=0.5)
    with pytest.raises(CheckError):
        refute("a misprint", 3.0, 2.0, by=-0.5)
    with pytest.raises(CheckError, match=r"shapes differ, \(3,\) and \(\)"):
        refute("a misprint", torch.zeros(3), 1.0, by=0.5)
    for claimed, by in ((1.0, 0.0), ([1.0, 2.0], -1.0), (1.0, float("nan"))):
        with pytest.raises(ValueError, match="by must be"):
            refute("a misprint", claimed, claimed, by=by)


def test_setup_seeds_and_switches(monkeypatch) -> None:
    for name in ("MINIGEN_FULL", "MINIGEN_SEED"):
        monkeypatch.delenv(name, raising=False)
    here = book.setup(seed=3)
    first = torch.rand(1)
    assert (here.full, here.seed, here.device.type) == (False, 3, "cpu")
    assert here.scale(10, 1000) == 10
    book.setup(seed=3)
    assert torch.equal(first, torch.rand(1))
    monkeypatch.setenv("MINIGEN_FULL", "1")
    monkeypatch.setenv("MINIGEN_SEED", "9")
    here = book.setup(seed=3)
    assert (here.full, here.seed, here.scale(10, 1000)) == (True, 9, 1000)
    monkeypatch.setenv("MINIGEN_FULL", "0")
    assert not book.setup().full
    assert "torch" in book.versions()


def test_switches_that_are_set_to_nothing_or_off_are_off(monkeypatch) -> None:
    monkeypatch.setenv("MINIGEN_SEED", "")
    for off in ("", "0", "false", "No"):
        monkeypatch.setenv("MINIGEN_FULL", off)
        here = book.setup(seed=3)
        assert (here.full, here.seed) == (False, 3)
    for seed in ("abc", "-1", "1.5", str(2**32)):
        monkeypatch.setenv("MINIGEN_SEED", seed)
        with pytest.raises(ValueError, match=rf"got '?{seed}"):
            book.setup()


def test_minimise_finds_the_nearest_minimum_to_rounding(float64) -> None:
    found = book.minimise(lambda p: (p[0] - 3).square() + (p[1].exp() - 2).square(), 0.0, 0.0)
    torch.testing.assert_close(found, torch.tensor([3.0, math.log(2)]), atol=1e-7, rtol=0)


def test_the_source_of_a_method_is_shown_as_python_without_its_docstring() -> None:
    shown = book.source(MLPGenerator.forward)
    assert "Another shape is a ValueError" not in shown
    compile(textwrap.dedent(shown), "shown", "exec")
