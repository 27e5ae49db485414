"""The reference of the library: every public name says what it is, in which shapes, and leads to its code."""

from __future__ import annotations

import importlib
import inspect
import re
from html import unescape
from pathlib import Path

import pytest

import apidoc

ROOT = Path(__file__).parents[2]
MODULES = apidoc.modules(ROOT / "minigen")
# A shape in parentheses, such as (B, C, H, W), (N,), (..., 2) or (D, D); or a word for a tensor of no dimensions.
SHAPE = re.compile(
    r"\((\d+|[A-Z]\w*|\.\.\.|n|d|size|points|latent|resolution)(, ?[\w.*]+)*,?\)|2x2|\b(scalar|number|encoded)\b"
)
MATHEMATICS = ("objectives", "samplers", "nets", "worlds", "metrics", "homework", "show")
ANY_SHAPE = {"exact", "like", "encode"}
# Methods whose protocol, or whose class in PyTorch, says what they do.
BY_PROTOCOL = {"turns": "minigen.train.loop.Objective", "batches": "minigen.tasks.task.Task"}
BY_PROTOCOL |= dict.fromkeys(("evaluate", "picture"), "minigen.tasks.task.Task")


def public(module: str) -> dict[str, object]:
    """The functions, classes and methods that a module defines, by dotted name."""
    found: dict[str, object] = {}
    for name, value in vars(importlib.import_module(module)).items():
        if name.startswith("_") or getattr(value, "__module__", None) != module:
            continue
        if inspect.isclass(value):
            found[f"{module}.{name}"] = value
            for part, method in vars(value).items():
                function = method.fget if isinstance(method, property) else method
                if not part.startswith("_") and inspect.isfunction(function):
                    found[f"{module}.{name}.{part}"] = function
        elif inspect.isfunction(value):
            found[f"{module}.{name}"] = value
    return found


PUBLIC = {name: value for module in MODULES for name, value in public(module).items()}


def described(name: str) -> str:
    """The docstring of a public name; of a method, its protocol's where it has none itself."""
    value, last = PUBLIC[name], name.rsplit(".", 1)[1]
    text = vars(value).get("__doc__") if inspect.isclass(value) else value.__doc__
    if not text and last in BY_PROTOCOL:
        return PUBLIC[f"{BY_PROTOCOL[last]}.{last}"].__doc__ or ""
    return "" if (text or "").startswith(f"{last}(") else text or ""  # what a dataclass writes by itself says nothing


def context(name: str) -> str:
    """What a reader of the reference has read before: the docstrings of the class and of the module."""
    above = name.rsplit(".", 1)[0]
    parts = [described(name), described(above) if above in PUBLIC else ""]
    module = next(module for module in sorted(MODULES, key=len, reverse=True) if name.startswith(f"{module}."))
    return "\n".join([*parts, importlib.import_module(module).__doc__ or ""])


@pytest.mark.parametrize("module", MODULES)
def test_a_module_and_all_that_is_public_in_it_say_what_they_are(module: str) -> None:
    assert importlib.import_module(module).__doc__
    assert [name for name in public(module) if len(described(name)) < 12] == []


def test_functions_of_tensors_name_shapes() -> None:
    silent = [
        name
        for name, value in PUBLIC.items()
        if name.split(".")[1] in MATHEMATICS
        and inspect.isfunction(value)
        and "Tensor" in str(inspect.signature(value))
        and name.rsplit(".", 1)[1] not in ANY_SHAPE | {"turns"}
        and not SHAPE.search(context(name))
    ]
    assert silent == []


def test_the_rules_see_what_is_missing() -> None:
    assert SHAPE.search("a batch (B, C, H, W)")
    assert SHAPE.search("means (K, ...)")
    assert not SHAPE.search("the same noise for the same seed (slow)")
    assert len(PUBLIC) > 250
    assert len(MODULES) > 30


def test_an_example_stands_as_code_line_by_line() -> None:
    text = "What it does.\n\nn: how many.\n\n>>> f(2) < 3  # `two`\nTrue\n>>> f(3)\ntensor([[1, 2],\n        [3, 4]])"
    html = apidoc.docstring_html(text, {})
    example = "&gt;&gt;&gt; f(2) &lt; 3  # `two`\nTrue\n&gt;&gt;&gt; f(3)\ntensor([[1, 2],\n        [3, 4]])"
    assert html.endswith(f"<pre>{example}</pre>")
    assert html.startswith("<p>What it does.</p>")


def test_all_examples_of_the_library_stand_as_code() -> None:
    found = 0
    for name in PUBLIC:
        html = apidoc.docstring_html(inspect.cleandoc(described(name)), {})
        code = "".join(re.findall(r"<pre>(.*?)</pre>", html, flags=re.DOTALL))
        assert code.count("&gt;&gt;&gt;") == html.count("&gt;&gt;&gt;"), name
        found += "&gt;&gt;&gt;" in code
    assert found >= 24


@pytest.fixture(scope="module")
def page(book: Path) -> str:
    """The pages of all rooms, one after the other."""
    return unescape("".join(path.read_text(encoding="utf-8") for path in (book / "book" / "api").glob("*.html")))


@pytest.mark.browser
def test_every_public_name_has_a_place_with_a_link_to_its_code(book: Path, page: str) -> None:
    heads = re.findall(r'<dt class="sig[^>]*id="([^"]+)">(.*?)</dt>', page, flags=re.DOTALL)
    link_of = re.compile(r'href="(?:\.\./)+([^"#]+)#([^"]+)"><span class="viewcode-link"')
    source = {name: link_of.search(head) for name, head in heads}
    missing = [name for name in PUBLIC if name not in source and name.rsplit(".", 1)[1] not in BY_PROTOCOL]
    assert missing == []
    for name, value in PUBLIC.items():
        if link := source.get(name):
            code = (book / link[1]).read_text(encoding="utf-8")
            assert f'id="{link[2]}"' in code, name
        else:
            assert not inspect.isclass(value), name
    linked = sum(bool(link) for link in source.values())
    assert linked >= 0.9 * len(PUBLIC)
