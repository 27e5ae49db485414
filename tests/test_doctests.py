"""The examples in the docstrings print what they say, on any machine; the classes that one meets first have one."""

from __future__ import annotations

import doctest
import importlib
import inspect
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in sorted((ROOT / "minigen").rglob("*.py"))
    if path.name != "__main__.py"
]
FINDER = doctest.DocTestFinder(exclude_empty=True)
WITH_EXAMPLES = [name for name in MODULES if ">>> " in inspect.getsource(importlib.import_module(name))]


def examples(module: str) -> list[doctest.DocTest]:
    """The docstrings of a module that have an example."""
    return [test for test in FINDER.find(importlib.import_module(module)) if test.examples]


@pytest.mark.parametrize("module", WITH_EXAMPLES)
def test_examples_print_what_they_say(module: str) -> None:
    for test in examples(module):
        said: list[str] = []
        failed, tried = doctest.DocTestRunner(verbose=False).run(test, out=said.append)
        assert not failed, "".join(said)
        assert tried


def test_the_main_classes_and_functions_have_an_example() -> None:
    names = {test.name.rsplit(".", 1)[1] for module in WITH_EXAMPLES for test in examples(module)}
    assert {"Batches", "Run", "Stream"} <= names
    assert {"Denoiser", "Diffusion", "ELBO", "Minimax", "Schedule", "TimestepAdapter"} <= names
    assert {"Attention", "DiT", "PixelCNN", "PixelTransformer", "TransformerBlock", "UNet"} <= names
    assert {"GaussianMixture", "Line", "Shapes", "Vocabulary"} <= names
    assert {"ancestral", "check", "frechet_distance", "grade"} <= names
    assert len(names) >= 24


def test_a_wrong_example_is_seen(tmp_path, monkeypatch) -> None:
    (tmp_path / "wrong_example.py").write_text('"""Sums.\n\n>>> 1 + 1\n3\n"""\n')
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(AssertionError, match=r"Expected:\s+3\s+Got:\s+2"):
        test_examples_print_what_they_say("wrong_example")
