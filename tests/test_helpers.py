"""The chapters' checks: they pass on the truth, fail on anything else, and print the same on every machine."""

from __future__ import annotations

import json
import math
import textwrap

import pytest
import torch

from minigen import book
from minigen.book import CheckError, band, check, refute
from minigen.nets.mlp import MLPGenerator


def test_check_prints_the_statement_and_not_the_numbers(capsys) -> None:
    check("2.5", torch.tensor([1.0, 2.0]), [1.0, 2.0 + 1e-7], atol=1e-6, what="logits")
    check("2.6", 1, 1, atol=0.001)
    check("2.7", [True, False], [1, 0], atol=0, what="limits")
    assert capsys.readouterr().out == "✓ (2.5) logits: within 1e-06\n✓ (2.6) within 0.001\n✓ (2.7) limits: exactly\n"


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


def test_band(capsys, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("MINIGEN_RECORD", str(tmp_path / "bands.jsonl"))
    band("modes", 8, low=8)
    band("gap", torch.tensor(0.5, requires_grad=True), low=0.1, high=1, tag="2.9")
    out = capsys.readouterr().out
    assert out == "✓ modes: at least 8\n✓ (2.9) gap: between 0.1 and 1\n"
    for number in (0.05, 1.5, float("nan")):
        with pytest.raises(CheckError, match=r"is not between 0\.1 and 1"):
            band("gap", number, low=0.1, high=1)
    with pytest.raises(ValueError, match="low="):
        band("gap", 1.0)
    lines = [json.loads(line) for line in (tmp_path / "bands.jsonl").read_text().splitlines()]
    assert [line["number"] for line in lines[:2]] == [8, 0.5]


def test_refute_fails_where_the_claim_holds_after_all(capsys) -> None:
    refute("a misprint", 1.0, 2.0, by=0.5)
    assert capsys.readouterr().out == "✗ a misprint: off by more than 0.5\n"
    for claimed in (2.2, float("nan")):
        with pytest.raises(CheckError):
            refute("a misprint", claimed, 2.0, by=0.5)
    with pytest.raises(CheckError, match=r"shapes differ, \(3,\) and \(\)"):
        refute("a misprint", torch.zeros(3), 1.0, by=0.5)


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


def test_minimise_finds_the_nearest_minimum_to_rounding(float64) -> None:
    found = book.minimise(lambda p: (p[0] - 3).square() + (p[1].exp() - 2).square(), 0.0, 0.0)
    torch.testing.assert_close(found, torch.tensor([3.0, math.log(2)]), atol=1e-7, rtol=0)


def test_the_source_of_a_method_is_shown_as_python_without_its_docstring() -> None:
    shown = book.source(MLPGenerator.forward)
    assert "Another shape is a ValueError" not in shown
    compile(textwrap.dedent(shown), "shown", "exec")
