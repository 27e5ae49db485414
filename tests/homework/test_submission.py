"""Files as students hand them in: every call of grade is reached, or the table says why it was not."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import unicodedata
from pathlib import Path

import nbformat
import pytest

from minigen.homework import CONTRACTS, Grade, Report, grade_all
from minigen.homework.reading import statements
from minigen.homework.submission import needed

LOSS, START, MEAN = "minimax.non_saturating_loss", "start.to_float", "images.log_mean"
RIGHT = "lambda k, n: (2 * k + 1) / n - 1"
HEAD = "from minigen.homework import grade\n"

FILES = {
    "guarded": f'{HEAD}f = {RIGHT}\nif __name__ == "__main__":\n    grade({START!r}, f)\n',
    "called": f"{HEAD}def main():\n    grade({START!r}, {RIGHT})\n\nif '__main__' == __name__:\n    main()\n",
    "uncalled": f"{HEAD}def main():\n    grade({START!r}, {RIGHT})\n",
    "half": f"{HEAD}def later():\n    grade({LOSS!r}, sum)\n\ngrade({START!r}, {RIGHT})\n",
    "wrapped": f"{HEAD}def check(*given):\n    return grade(*given)\n\ncheck({START!r}, {RIGHT})\n",
    "renamed": f"from minigen.homework import grade as g\ng({START!r}, {RIGHT})\n",
    "assigned": f"import minigen.homework\ng = minigen.homework.grade\ng({START!r}, {RIGHT})\n",
    "by_name": f"{HEAD}grade(name={START!r}, function={RIGHT})\n",
    "hidden": f"{HEAD}try:\n    grade({START!r}, missing)\nexcept NameError:\n    pass\n",
    "looped": f"{HEAD}for name in []:\n    grade(name, sum)\n",
    "leaves": f"{HEAD}import os\ngrade({START!r}, {RIGHT})\ngrade({LOSS!r}, lambda f: os._exit(0))\n",
    "marked": f"\ufeff{HEAD}grade({START!r}, {RIGHT})\n",
    "latin": f"# coding: latin-1\n{HEAD}name = 'Zoë'\ngrade({START!r}, {RIGHT})\n".encode("latin-1"),
    "dataclass": (
        f"from __future__ import annotations\nfrom dataclasses import dataclass\n{HEAD}@dataclass\nclass Levels:\n"
        f"    count: int\n\ndef f(k: Undefined, n):\n    return (2 * k + 1) / Levels(n).count - 1\n"
        f"grade({START!r}, f)\n"
    ),
    "annotated": f"{HEAD}def f(k: Undefined, n):\n    return (2 * k + 1) / n - 1\ngrade({START!r}, f)\n",
    "returns": f"{HEAD}grade({START!r}, {RIGHT})\nreturn 1\n",
    "greedy": f"import torch\n{HEAD}grade({MEAN!r}, lambda p: torch.ones(2**31).sum() + p.logsumexp(0))\n"
    f"grade({START!r}, {RIGHT})\n",
}
# Answers that are right because of a statement that binds nothing: left out, they were marked wrong.
CHANGED = {
    "appends": "c = []\nc.append(2)\nfor x in (1, -1):\n    c.append(x)\n"
    "def f(k, n): return (c[0] * k + c[1]) / n + c[2]\n",
    "updates": "c = {'a': 5}\nc.update(a=2)\ndef f(k, n): return (c['a'] * k + 1) / n - 1\n",
    "comprehends": "c = []\n[c.append(x) for x in (2,)]\ndef f(k, n): return (c[0] * k + 1) / n - 1\n",
    "in_place": "import torch\nc = torch.ones(1)\nwith torch.no_grad():\n    c.mul_(2)\n"
    "def f(k, n): return (c[0] * k + 1) / n - 1\n",
    "initialises": "from torch import nn, ones\nc = ones(1)\nnn.init.constant_(c, 2)\n"
    "def f(k, n): return (c[0] * k + 1) / n - 1\n",
    "sets_an_attribute": "class C: a = 5\nsetattr(C, 'a', 2)\ndef f(k, n): return (C.a * k + 1) / n - 1\n",
    "sets_a_global": "c = 5\ndef start():\n    global c\n    c = 2\nstart()\ndef f(k, n): return (c * k + 1) / n - 1\n",
    "through_a_function": "c = []\ndef add(x): c.append(x)\ndef start(): add(2)\nstart()\n"
    "def f(k, n): return (c[0] * k + 1) / n - 1\n",
}
REGISTERED = (
    f"{HEAD}answers = {{}}\ndef answer(name):\n    def enter(f):\n        answers[name] = f\n        return f\n"
    f"    return enter\n@answer({START!r})\ndef f(k, n): return (2 * k + 1) / n - 1\n"
    "for name in answers: grade(name, answers[name])\n"
)
FILES |= {name: f"{HEAD}{text}grade({START!r}, f)\n" for name, text in CHANGED.items()}
FILES |= {"registers": REGISTERED}
FILES["parses"] = f"import argparse\none = argparse.ArgumentParser().parse_args() and 1\n{HEAD}"
FILES["parses"] += f"grade({START!r}, lambda k, n: (2 * k + one) / n - 1)\n"
REACHED = {
    *("guarded", "called", "wrapped", "renamed", "assigned", "by_name", "leaves", "marked", "latin", "dataclass"),
    *("returns", "greedy", "half"),
    *(*CHANGED, "registers", "parses"),
}
CELLS = [
    "%%time\nfrom minigen.homework import grade",
    "%%capture out\nimport torch\ntwo = 2",
    "total = (7\n% two)",
    "files = !ls",
    "one = %time 1",
    "torch?",
    "def f(k, n):\n    return (two * k + one) / n - total\n\n%time grade('start.to_float', f)",
    "%timeit -n 1 -r 1 2 + 2",
    "for name in ['images.log_mean']:\n    %time grade(name, lambda p: p.logsumexp(0))",
    "%%bash\necho 'grade()'",
    "answers = files\ngrade('images.bits_per_dim', lambda nats, dims, levels: answers)",
]


def notebook(cells: list[str]) -> str:
    return nbformat.writes(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells]))


ONE_AFTER_ANOTHER = """
import sys
from pathlib import Path
from minigen.homework.submission import run
for path in sorted(Path(sys.argv[1]).iterdir()):
    run(path, Path(sys.argv[2]) / f"{path.stem}.json", student=None, contracts=None, seconds=10.0)
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Report:
    """What `grade_all` makes of them; one process for all that do not end theirs, since each takes seconds to start."""
    folder, alone, out = (tmp_path_factory.mktemp(name) for name in ("homework", "alone", "out"))
    for name, text in FILES.items():
        place = alone if name in ("leaves", "greedy", "parses") else folder
        (place / f"{name}.py").write_bytes(text if isinstance(text, bytes) else text.encode())
    (folder / "cells.ipynb").write_text(notebook(CELLS), encoding="utf-8-sig")
    subprocess.run([sys.executable, "-c", ONE_AFTER_ANOTHER, folder, out], check=True, timeout=300)
    report = grade_all(alone, memory=2.0, seconds=30.0)
    for path in out.glob("*.json"):
        found = json.loads(path.read_text(encoding="utf-8"))
        report.grades[path.stem] = {name: Grade(**grade) for name, grade in found["grades"].items()}
        report.problems[path.stem] = found["problems"]
    return report


@pytest.mark.parametrize("name", sorted(REACHED))
def test_a_call_is_found_wherever_python_would_run_it(report, name: str) -> None:
    assert report.grades[name][START].verdict == "right", report.problems[name]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("uncalled", f"uncalled.py, line 2: the call of grade({START!r}, ...) was not reached"),
        ("half", f"half.py, line 2: the call of grade({LOSS!r}, ...) was not reached"),
        ("hidden", f"hidden.py, line 2: the call of grade({START!r}, ...) was not reached"),
        ("looped", "no call of grade(...) in looped.py was reached"),
        ("leaves", "its process left before the end, as os._exit does; what came before is graded"),
        ("returns", "returns.py cannot be read: SyntaxError: 'return' outside function"),
        ("annotated", "annotated.py, line 2: NameError: name 'Undefined' is not defined"),
    ],
)
def test_no_mark_is_missing_without_a_reason(report, name: str, says: str) -> None:
    assert any(problem.startswith(says) for problem in report.problems[name]), report.problems[name]


def test_where_all_is_well_there_is_nothing_to_say(report) -> None:
    for name in REACHED - {"leaves", "returns", "half"}:
        assert report.problems[name] == []


def test_an_answer_that_takes_too_much_memory_is_told_so(report) -> None:
    message = report.grades["greedy"][MEAN].message
    assert message.startswith("raises MemoryError: needs more memory than the 2 GiB that an answer may take (for two")


def test_a_notebook_is_read_as_ipython_reads_it(report) -> None:
    grades, problems = report.grades["cells"], report.problems["cells"]
    assert grades[START].verdict == "right"
    assert grades[MEAN].misconception == "log K forgotten"
    assert "cells.ipynb, cell 10 is a cell of %%bash, which is not run" in problems
    assert any("cell 4, line 1: RuntimeError: commands of IPython (%..., !...) are not run here" in p for p in problems)


def test_without_ipython_a_notebook_is_read_nearly_as_well(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "IPython.core.inputtransformer2", None)
    path = tmp_path / "cells.ipynb"
    path.write_text(notebook([*CELLS, "no Python at all"]), encoding="utf-8")
    found, problems = statements(path)
    source = "\n".join(ast.unparse(statement) for _, statement in found)
    assert "from minigen.homework import grade" in source
    assert "total = 7 % two" in source
    assert "one = 1" in source
    assert "\ngrade('start.to_float', f)\n" in source
    assert "    grade(name, " in source
    assert [problem.partition(":")[0] for problem in problems] == [
        "cells.ipynb, cell 10 is a cell of %%bash, which is not run",
        "cells.ipynb, cell 12 cannot be read",
    ]


def test_places_are_those_of_the_cell(tmp_path) -> None:
    path = tmp_path / "cells.ipynb"
    path.write_text(notebook(["%%time\nx = 1\n\ny = 2", "a = 1\n%time b = 2"]), encoding="utf-8")
    places = [(place, ast.unparse(s)) for place, s in statements(path)[0]]
    assert places == [
        ("cells.ipynb, cell 1, line 2", "x = 1"),
        ("cells.ipynb, cell 1, line 4", "y = 2"),
        ("cells.ipynb, cell 2, line 1", "a = 1"),
        ("cells.ipynb, cell 2, line 2", "b = 2"),
    ]


def test_statements_that_only_act_are_left_out_of_a_guard_too(tmp_path) -> None:
    path = tmp_path / "a.py"
    path.write_text('f = 1\nif __name__ == "__main__":\n    train()\n    grade("a", f)\n', encoding="utf-8")
    assert [statement.lineno for _, statement in needed(statements(path)[0])] == [1, 4]


def test_what_changes_other_things_than_an_answer_rests_on_is_left_out(tmp_path) -> None:
    path = tmp_path / "a.py"
    path.write_text(
        "import torch\nlosses = []\nc = torch.ones(1)\nfor x in slow():\n    losses.append(x)\n"
        "    torch.manual_seed(x)\nprint(c.mean())\nplot(c.numpy())\ndef f(c): c.append(1)\nrun(losses)\n"
        "grade('a', lambda x: f(x) * c)\n",
        encoding="utf-8",
    )
    assert [statement.lineno for _, statement in needed(statements(path)[0])] == [1, 3, 9, 11]


@pytest.mark.parametrize("name", [unicodedata.normalize("NFD", "Zoë"), "zoë", " Zoë ", "ZOË"])
def test_a_name_is_the_same_however_a_file_system_spells_it(name: str) -> None:
    personal = CONTRACTS[LOSS].personal
    assert personal.constants(name) == personal.constants("Zoë")
    assert personal.constants(f"{name} 7") != personal.constants("Zoë")


def test_files_whose_names_are_spelt_alike_keep_their_rows(tmp_path: Path) -> None:
    for name in ("Zoë", unicodedata.normalize("NFD", "Zoë"), "ada "):
        (tmp_path / f"{name}.py").write_text("", encoding="utf-8")
    assert sorted(grade_all(tmp_path).grades) == sorted(["Zoë.py", unicodedata.normalize("NFD", "Zoë.py"), "ada"])
