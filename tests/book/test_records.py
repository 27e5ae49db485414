"""Bands follow from 20 seeds: the rule of their edges, and records that are current."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

import records

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "benchmarks"))

import bands as benchmark  # noqa: E402

NOTEBOOKS = sorted((ROOT / "chapters").glob("[0-9]*.ipynb"))
chapters = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)


def load(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


@chapters
def test_every_band_has_a_current_record_of_20_seeds(path: Path) -> None:
    notebook, record = load(path), records.load(path.stem)
    now = records.fingerprints(notebook)
    assert record["failed"] == []
    assert {what: entry["depends"] for what, entry in record["bands"].items()} == now, (
        f"run: python benchmarks/bands.py {path.stem} (with --carry where no number has changed)"
    )
    assert {what: len(entry["numbers"]) for what, entry in record["bands"].items()} == dict.fromkeys(now, 20)


@chapters
def test_every_edge_stands_where_the_seeds_put_it(path: Path) -> None:
    notebook, bands = load(path), records.load(path.stem)["bands"]
    assert [
        line for band in records.bands(notebook) for line in records.outside(band, bands[band.what]["numbers"])
    ] == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_each_band_of_a_chapter_has_a_text_of_its_own(path: Path) -> None:
    names = [band.what for band in records.bands(load(path))]
    assert [name for name in names if names.count(name) > 1] == []


@pytest.mark.parametrize(
    ("numbers", "side", "inside", "beyond"),
    [
        ([0.8, 0.9, 1.0], "low", [0.6, 0.65, 0.7], [0.55, 0.72, 0.8, 0.9]),
        ([0.8, 0.9, 1.0], "high", [1.1, 1.15, 1.2], [1.0, 1.08, 1.21]),
        ([8, 8, 8], "low", [7, 5], [8, 4]),
        ([2.6306, 2.63061], "high", [2.632, 2.633], [2.6306, 2.634, 3.0]),
        ([0.0, 0.0], "high", [1, 3], [0, 4]),
        ([-0.2, -0.1], "low", [-0.3, -0.25], [-0.31, -0.24]),
    ],
)
def test_edges(numbers: list[float], side: str, inside: list[float], beyond: list[float]) -> None:
    near, far = records.allowed(numbers, side)
    assert all(near <= edge <= far for edge in inside)
    assert not any(near <= edge <= far for edge in beyond)


def band(**given: object) -> records.Band:
    return records.Band(**{"what": "share", "low": None, "high": None, "why": "", "measured": 0.9, "cell": 0} | given)


def test_an_edge_outside_is_found_unless_the_band_says_why() -> None:
    assert records.outside(band(low=0.65), [0.8, 1.0]) == []
    assert len(records.outside(band(low=0.1, high=2.0), [0.8, 1.0])) == 2
    assert records.outside(band(low=0.0, why="a divergence"), [0.8, 1.0]) == []


LINES = (
    "✓ modes captured, of 8: at least 7 (measured 8)\n"
    "✓ (2.9) JS in between: between 0.3 and 0.7, the bounds of (2.9) (measured 0.6327)\n"
    "✓ gap (in nats): at most 1e-05 (measured 2.1e-07)\n"
    "✓ (2.5) V: within 1e-05 (measured 1, off by 2e-7)\n"
)


def test_bands_are_read_from_what_a_run_printed() -> None:
    output = {"output_type": "stream", "name": "stdout", "text": LINES}
    notebook = {"cells": [{"cell_type": "code", "source": "", "outputs": [output]}]}
    assert records.bands(notebook) == [
        band(what="modes captured, of 8", low=7, measured=8),
        band(what="JS in between", low=0.3, high=0.7, why="the bounds of (2.9)", measured=0.6327),
        band(what="gap (in nats)", high=1e-5, measured=2.1e-7),
    ]


CHAPTER = [
    "import torch\nfrom minigen import show",
    "x = torch.randn(3)\nhere = 1",
    "figure = show.clouds({'data': x})\nfigure.savefig('a')",
    "y = 2 * x\nother = here",
    "check('2.1', y, 2 * x, atol=0)\nband('size', y.norm(), low=1)",
]


@pytest.mark.parametrize(
    ("cell", "text", "same"),
    [
        (0, "import torch, math\nfrom minigen import show", True),
        (1, "x = torch.randn(4)\nhere = 1", False),
        (1, "# a comment\nx = torch.randn( 3 )\nhere = 1", True),
        (3, "y = 3 * x\nother = here", False),
        (4, "print(y)\nband('size', y.norm(), low=0.5, high=9, why='a reason')", True),
        (4, "check('2.1', y, 2 * x, atol=0)\nband('size', y.norm() + 1, low=1)", False),
    ],
)
def test_a_fingerprint_changes_with_what_the_number_depends_on(cell: int, text: str, same: bool) -> None:
    changed = [*CHAPTER[:cell], text, *CHAPTER[cell + 1 :]]
    assert (records.fingerprint(changed, 4) == records.fingerprint(CHAPTER, 4)) == same


def test_a_band_alone_needs_the_cells_that_its_number_comes_from() -> None:
    assert records.depends(CHAPTER, 4) == [0, 1, 3, 4], "all but the picture"
    assert records.depends(CHAPTER, 1) == [0, 1]


@pytest.mark.parametrize(
    ("printed", "recorded", "same"),
    [
        ("0.3011", 0.30105, True),  # 0.301051, rounded twice
        ("0.3011", 0.3013, False),
        ("22026", 22026.0, True),
        ("22026", 22028.0, False),
        ("8", 7.0, False),
        ("-0.0027", -0.0026741, False),
    ],
)
def test_a_record_is_kept_where_the_stored_run_gives_its_number(printed: str, recorded: float, same: bool) -> None:
    output = {"output_type": "stream", "name": "stdout", "text": f"✓ x: at least -1 (measured {printed})\n"}
    notebook = {"cells": [{"cell_type": "code", "source": "", "outputs": [output]}]}
    assert (benchmark.carried(notebook, {"x": {"numbers": [recorded]}}) != {}) == same


@pytest.mark.parametrize(
    "step",
    ["for _ in run(batches, 10):\n    pass", "train(run)", "run.rate = 3", "run[0] = 1"],
)
def test_what_changes_an_object_in_place_counts(step: str) -> None:
    chapter = ["run = make()\nother = 1", step, "other = 2", "band('loss', run.loss(), high=1)"]
    without = [chapter[0], "pass", *chapter[2:]]
    assert records.fingerprint(chapter, 3) != records.fingerprint(without, 3)
    unrelated = [*chapter[:2], "other = 3", chapter[3]]
    assert records.fingerprint(chapter, 3) == records.fingerprint(unrelated, 3)


def test_recipes_and_checkpoints_count(monkeypatch, tmp_path) -> None:
    for folder in ("recipes", "checkpoints"):
        (tmp_path / "minigen" / folder).mkdir(parents=True)
    recipe, weights = tmp_path / "minigen/recipes/elbo.py", tmp_path / "minigen/checkpoints/elbo-shapes.safetensors"
    recipe.write_text('"""Doc."""\nSTEPS = 1\n')
    weights.write_bytes(b"1")
    monkeypatch.setattr(records, "ROOT", tmp_path)
    chapter = ['model = stored("elbo", "shapes")', "band('bits', model.bits(), high=1)"]
    first = records.fingerprint(chapter, 1)
    recipe.write_text('"""Another."""\nSTEPS = 1  # now\n')
    assert records.fingerprint(chapter, 1) == first
    recipe.write_text("STEPS = 2\n")
    second = records.fingerprint(chapter, 1)
    weights.write_bytes(b"2")
    assert len({first, second, records.fingerprint(chapter, 1)}) == 3
