"""A teacher's table over files of every kind, none of which may break it."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from torch.nn.functional import logsigmoid

from minigen.homework import CONTRACTS, Grade, Report, grade_all
from minigen.homework.reading import statements
from minigen.homework.submission import needed

ROOT = Path(__file__).parents[2]
LOSS, TURN, START = "minimax.non_saturating_loss", "minimax.discriminator_turn", "start.to_float"

FILES = {
    "ada.py": """
from minigen import homework
from torch.nn.functional import logsigmoid
print("a line of its own")
scale = -1
def my_loss(fake_logits):
    return scale * logsigmoid(fake_logits).mean()
homework.grade("minimax.non_saturating_loss", my_loss)
def my_loss(discriminator, real, fake):  # the same name again
    return -logsigmoid(discriminator(real)).mean() - logsigmoid(-discriminator(fake)).mean()
homework.grade("minimax.discriminator_turn", my_loss)
raise SystemExit(1)
""",
    "bob.py": """
from minigen.homework import grade
grade("start.to_float", lambda k, n: undefined)
grade("start.to_float", lambda k, n: (2 * k + 1) / n - 1)
grade("start.no_such", lambda k, n: k)
grade("minimax.non_saturating_loss", missing)
grade("minimax.discriminator_turn", lambda d, x, g: 0 * d(x).mean())
""",
    "crash.py": """
import os
from minigen.homework import grade
grade("start.to_float", lambda k, n: (2 * k + 1) / n - 1)
grade("minimax.non_saturating_loss", lambda f: os._exit(7))
""",
    "syntax.py": "def f(:\n",
    "nothing.py": "print('hello')\n",
    "text.ipynb": "not a notebook",
    "latin.py": b"name = '\xe9'\n",
}
CELLS = [
    "%matplotlib inline\n!echo hello\nimport torch",
    "%%html\n<b>no Python</b>",
    "no Python at all",
    "network = train(forever)",
    "from minigen.homework import grade\nfrom torch.nn.functional import *",
    "options = {}\noptions['sign'] = -1",
    "def helper(network):\n    return options['sign'] * logsigmoid(network).mean()",
    f"def loss(fake_logits):\n    return helper(fake_logits)\n\ngrade({LOSS!r}, loss)",
    "raise RuntimeError('this cell defines nothing')",
]


def notebook(cells: list[str]) -> str:
    made = [nbformat.v4.new_code_cell(cell) for cell in cells] + [nbformat.v4.new_markdown_cell("grade(text)")]
    return nbformat.writes(nbformat.v4.new_notebook(cells=made))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("homework")
    for name, text in (FILES | {"zoe.ipynb": notebook(CELLS)}).items():
        (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    (folder / "readme.txt").write_text("no submission", encoding="utf-8")
    (folder / ".hidden.py").write_text("no submission", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def report(folder) -> Report:
    return grade_all(folder)


def test_each_file_gets_its_row_whatever_the_others_do(report) -> None:
    assert sorted(report.grades) == ["ada", "bob", "crash", "latin", "nothing", "syntax", "text", "zoe"]
    verdicts = {s: {name: g.misconception or g.verdict for name, g in row.items()} for s, row in report.grades.items()}
    assert verdicts["ada"] == {LOSS: "right", TURN: "missing detach"}
    assert verdicts["bob"] == {START: "right", TURN: "wrong"}, "the last call for a contract counts"
    assert verdicts["zoe"] == {LOSS: "right"}
    assert verdicts["crash"] == {START: "right"}
    for student in ("syntax", "nothing", "text", "latin"):
        assert verdicts[student] == {}


def test_problems_say_what_could_not_be_read_or_run(report) -> None:
    problems = {student: "\n".join(lines) for student, lines in report.problems.items()}
    assert problems["ada"] == ""
    assert "bob.py, line 5: no contract 'start.no_such'; if it is one of yours, give --contracts" in problems["bob"]
    assert "bob.py, line 6: NameError: name 'missing' is not defined" in problems["bob"]
    assert problems["crash"] == "its process ended with code 7; what came before is graded"
    assert "syntax.py cannot be read: SyntaxError" in problems["syntax"]
    assert problems["nothing"] == "nothing.py has no call of grade(...)"
    assert "text.ipynb cannot be read: JSONDecodeError" in problems["text"]
    assert "latin.py cannot be read: UnicodeDecodeError" in problems["latin"]
    assert problems["zoe"] == "zoe.ipynb, cell 3 cannot be read: SyntaxError: invalid syntax (<unknown>, line 1)"


def test_the_table_counts(report) -> None:
    table = str(report)
    rows = {line.split()[0]: line.split()[1:] for line in table.splitlines()[1:9]}
    assert report.contracts == [LOSS, TURN, START]
    assert table.splitlines()[0].split() == ["student", "1", "2", "3", "right"]
    assert rows["ada"] == ["✓", "✗", "○", "1", "of", "3"]
    assert rows["bob"] == ["○", "✗", "✓", "1", "of", "3"]
    assert f"1. {LOSS}: 2 of 8 right" in table
    assert "   1 of 8: missing detach (the value is right, but a gradient reaches the generator" in table
    assert "   1 of 8: wrong in another way" in table
    assert table.endswith(f"\n\nzoe:\n   {report.problems['zoe'][0]}")
    assert repr(report) == table


def test_json_says_the_same_and_is_written_whole(report, tmp_path, monkeypatch) -> None:
    path = tmp_path / "table.json"
    report.save(path)
    data = json.loads(path.read_text(encoding="utf-8"))
    assert data == report.as_dict()
    assert data["contracts"][TURN] == {"right": 0, "misconceptions": {"missing detach": 1}}
    assert data["students"]["ada"]["right"] == 1
    assert data["students"]["ada"]["grades"][TURN]["message"] == CONTRACTS[TURN].wrong["missing detach"][1]
    assert list(data["students"]) == sorted(data["students"])

    before = path.read_bytes()
    monkeypatch.setattr(Report, "as_dict", lambda self: {"a": object()})
    with pytest.raises(TypeError):
        report.save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["table.json"]


def test_no_submission_is_missing_without_a_word(tmp_path, capsys) -> None:
    """Endings in capitals are Windows'; folders are how a course's site hands out what was handed in."""
    text = "from minigen.homework import grade\ngrade('start.to_float', lambda k, n: (2 * k + 1) / n - 1)\n"
    for name in ("ADA.PY", "_bob.py", "zoe_17/answer.py", "__init__.py", "pictures/a.png", "__pycache__/x.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "Eve.IPYNB").write_text(notebook([text]), encoding="utf-8")
    report = grade_all(tmp_path)
    assert {name: row[START].verdict for name, row in report.grades.items()} == {"ADA": "right", "Eve": "right"}
    passed = ["_bob.py, since its name begins with _", "the folder zoe_17, which holds answer.py"]
    assert report.as_dict()["passed_over"] == passed
    assert str(report).endswith("passed over:\n   " + "\n   ".join(passed))
    for name in ("ADA.PY", "Eve.IPYNB", "_bob.py"):
        (tmp_path / name).unlink()
    with pytest.raises(FileNotFoundError, match=r"nothing to grade .*; it has the folder zoe_17, which holds ans"):
        grade_all(tmp_path)


def test_a_file_that_does_not_end_is_ended(tmp_path) -> None:
    (tmp_path / "slow.py").write_text(
        "import time\nfrom minigen.homework import grade\nf = time.sleep(1000)\ngrade('start.to_float', f)\n"
    )
    report = grade_all(tmp_path / "slow.py", student="Zoë", file_seconds=5)
    assert report.problems == {"Zoë": ["slow.py does not end within 5 s; what came before is graded"]}


def test_an_endless_function_does_not_stop_the_others(tmp_path) -> None:
    (tmp_path / "loop.py").write_text(
        "from minigen.homework import grade\n\ndef f(k, n):\n    while True:\n        pass\n\n"
        f"grade({START!r}, f)\ngrade({LOSS!r}, lambda fake_logits: fake_logits)\n"
    )
    (row,) = grade_all(tmp_path, seconds=0.5).grades.values()
    assert "does not end within 0.5 s" in row[START].message
    assert row[LOSS].verdict == "wrong"


def test_personal_constants_come_from_the_files_name(tmp_path) -> None:
    mine = CONTRACTS[LOSS].personal.constants("ada")
    text = (
        "from torch.nn.functional import logsigmoid\nfrom minigen.homework import grade\n"
        f"def f(x):\n    return -{mine['weight']} * logsigmoid(x / {mine['temperature']}).mean()\n"
        f"grade({LOSS!r}, f, student='ada')\ngrade({START!r}, lambda k, n: (2 * k + 1) / n - 1)\n"
    )
    for name in ("ada", "bob"):
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
    report = grade_all(tmp_path, personal=True)
    assert report.grades["ada"][LOSS].verdict == "right"
    assert report.grades["bob"][LOSS].misconception == "someone else's"
    assert report.grades["bob"][START].verdict == "right"
    assert report.problems == {"ada": [], "bob": [f"{LOSS}: the constants are those of ada"]}


def test_a_mapping_is_graded_here() -> None:
    answers = {LOSS: lambda f: logsigmoid(-f).mean(), START: lambda k, n: (2 * k + 1) / n - 1}
    report = grade_all(answers, student="ada")
    assert report.grades["ada"][START] == Grade(START, "right", "right, on random and on extreme inputs")
    assert report.misconceptions(LOSS) == [("saturating", 1)]
    assert "ada      ✗  ✓  1 of 2" in str(report)
    constants = CONTRACTS[LOSS].personal.constants("ada")
    right = CONTRACTS[LOSS].personal.make(**constants).reference
    assert grade_all({LOSS: right}, student="ada", personal=True).grades["ada"][LOSS].verdict == "right"


def test_the_most_frequent_misconception_comes_first() -> None:
    def row(misconception):
        return {LOSS: Grade(LOSS, "recognised", f"about {misconception}", misconception)}

    report = Report({"a": row("x"), "b": row("y"), "c": row("y"), "d": {}}, {})
    assert report.misconceptions(LOSS) == [("y", 2), ("x", 1)]
    assert str(report).splitlines()[-3:] == [
        f"1. {LOSS}: 0 of 4 right",
        "   2 of 4: y (about y)",
        "   1 of 4: x (about x)",
    ]


def test_errors_say_what_to_do(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nothing to grade in .*one \.py or \.ipynb file there"):
        grade_all(tmp_path)
    with pytest.raises(FileNotFoundError, match="nothing to grade"):
        grade_all(tmp_path / "nowhere")
    with pytest.raises(TypeError, match="as the path of a Python file"):
        grade_all(tmp_path, contracts=dict(CONTRACTS))
    with pytest.raises(FileNotFoundError, match="no contracts file"):
        grade_all(tmp_path, contracts="nowhere.py")


def test_two_files_of_one_name_keep_their_endings(tmp_path) -> None:
    (tmp_path / "ada.py").write_text("", encoding="utf-8")
    (tmp_path / "ada.ipynb").write_text(notebook([]), encoding="utf-8")
    assert sorted(grade_all(tmp_path).grades) == ["ada.ipynb", "ada.py"]


def test_the_command_line(tmp_path) -> None:
    def run(*arguments):
        command = [sys.executable, "-m", "minigen.homework", *arguments]
        return subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", timeout=120)

    done = run(str(tmp_path))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: nothing to grade in")
    assert "--personal" in run("--help").stdout


def test_only_what_a_grade_needs_is_kept_of_a_chapter() -> None:
    """A whole chapter's notebook is graded without training anything."""
    for path in sorted((ROOT / "chapters").glob("[0-9]*.ipynb")):
        found, problems = statements(path)
        kept = needed(found)
        assert not problems
        text = "\n".join(ast.unparse(statement) for _, statement in kept)
        if "grade(" in text:
            assert "Run(" not in text, path.name
            assert len(kept) < len(found) / 4


def test_names_of_arguments_do_not_draw_in_globals_of_the_same_name(tmp_path) -> None:
    path = tmp_path / "a.py"
    path.write_text(
        "x = slow()\ny = slow()\ndef f(x):\n    y = x\n    return y\nclass C:\n    z = 1\nC.z = 2\nC.w[0] = 3\n"
        "if True:\n    def g(): return C\ngrade('a', f)\ngrade('b', lambda x: [g(i) for i in x])\n",
        encoding="utf-8",
    )
    lines = [statement.lineno for _, statement in needed(statements(path)[0])]
    assert lines == [3, 6, 8, 9, 10, 12, 13]
