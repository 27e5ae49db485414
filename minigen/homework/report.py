"""Many answers at once: a table for a teacher, and the same as JSON."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import minigen
from minigen.homework.contract import Function, tidy
from minigen.homework.grading import SOMEONE_ELSES, Contracts, Grade, assess, constants_text, known_contracts
from minigen.homework.limit import check_seconds, threads

PASSED_OVER = "passed over"


@dataclass(frozen=True, repr=False)
class Report:
    """grades: {student: {contract: Grade}}. problems: {student: what could not be read or run, or seems copied}, and
    under "passed over" what was not looked into.

    `str(report)` is the table: a row for each student, a column for each contract, and under it how many got each
    right and which misconceptions they have.
    """

    grades: dict[str, dict[str, Grade]]
    problems: dict[str, list[str]]

    @property
    def contracts(self) -> list[str]:
        """Every contract that somebody answered, in the order in which they came up."""
        return list(dict.fromkeys(name for row in self.grades.values() for name in row))

    def misconceptions(self, contract: str) -> list[tuple[str, int]]:
        """(misconception, how many students have it), the most frequent first."""
        rows = [row[contract] for row in self.grades.values() if contract in row]
        return Counter(g.misconception for g in rows if g.misconception).most_common()

    def __str__(self) -> str:
        names, n = self.contracts, len(self.grades)
        wide = max([len(student) for student in self.grades] + [len("student")])
        columns = [str(i) for i in range(1, len(names) + 1)]
        lines = [f"{'student':{wide}}  {'  '.join(columns)}  right"]
        for student, row in self.grades.items():
            marks = [
                (row[name].mark if name in row else "○").rjust(len(c)) for name, c in zip(names, columns, strict=True)
            ]
            right = sum(grade.verdict == "right" for grade in row.values())
            lines.append(f"{student:{wide}}  {'  '.join(marks)}  {right} of {len(names)}")
        for column, name in zip(columns, names, strict=True):
            right = sum(name in row and row[name].verdict == "right" for row in self.grades.values())
            lines += ["", f"{column}. {name}: {right} of {n} right"]
            texts = {g.misconception: g.message for row in self.grades.values() if (g := row.get(name))}
            lines += [f"   {count} of {n}: {wrong} ({texts[wrong]})" for wrong, count in self.misconceptions(name)]
            other = sum(name in row and row[name].verdict == "wrong" for row in self.grades.values())
            lines += [f"   {other} of {n}: wrong in another way"] if other else []
        for student, problems in self.problems.items():
            lines += ["", f"{student}:", *(f"   {problem}" for problem in problems)] if problems else []
        return "\n".join(lines)

    __repr__ = __str__

    def as_dict(self) -> dict[str, Any]:
        """What the JSON holds."""
        return {
            "minigen": minigen.__version__,
            "contracts": {
                name: {
                    "right": sum(name in row and row[name].verdict == "right" for row in self.grades.values()),
                    "misconceptions": dict(self.misconceptions(name)),
                }
                for name in self.contracts
            },
            "passed_over": self.problems.get(PASSED_OVER, []),
            "students": {
                student: {
                    "right": sum(grade.verdict == "right" for grade in row.values()),
                    "grades": {
                        name: {"verdict": g.verdict, "misconception": g.misconception, "message": g.message}
                        for name, g in row.items()
                    },
                    "problems": self.problems.get(student, []),
                }
                for student, row in self.grades.items()
            },
        }

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the JSON; a file of that name is replaced as a whole or left as it is."""
        path = Path(path)
        handle, new = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
                json.dump(self.as_dict(), file, indent=1, ensure_ascii=False)
                file.write("\n")
            os.replace(new, path)
        except BaseException:
            os.unlink(new)
            raise


def grade_all(
    answers: Mapping[str, Function] | str | os.PathLike[str] = ".",
    *,
    student: str | None = None,
    personal: bool = False,
    contracts: Contracts = None,
    seconds: float = 3.0,
    file_seconds: float = 120.0,
    memory: float = 4.0,
) -> Report:
    """Grade everything that was handed in.

    answers: a folder with one .py or .ipynb file for each student, named after the student; one such file; or
    {contract: function}. Of a file, only its calls of grade("name", function) are run, and the imports, definitions and
    assignments that they need; each file in a process of its own, which is ended after `file_seconds`.
    student: the name of the row, and of the parameters, for one file or a mapping; a file's own name otherwise.
    personal: ask for each student's own constants wherever a contract has a personal form.
    contracts, seconds: as in `assess`; for files, `contracts` must be a path.
    memory: how many GiB a file may take beyond what Python and the library need, on Linux.

    Raises FileNotFoundError where there is nothing to grade, ValueError for a limit that is none, ContractError for a
    contract that cannot judge; never for what a submission does.
    """
    for limit in (seconds, file_seconds):
        check_seconds(limit)
    if not 0 < memory < math.inf:
        raise ValueError(f"a memory limit must be a positive number of GiB; got {memory}")
    if isinstance(answers, Mapping):
        name, known = student or "you", known_contracts(contracts)
        row = {}
        for contract, function in answers.items():
            who = name if personal and contract in known and known[contract].personal else None
            row[contract] = assess(contract, function, student=who, contracts=contracts, seconds=seconds)
        return Report({name: row}, {})
    if isinstance(contracts, Mapping):
        raise TypeError("files are graded in other processes: give contracts as the path of a Python file")
    contracts = contracts if contracts is not None else os.environ.get("MINIGEN_CONTRACTS") or None
    known_contracts(contracts)  # a broken file is reported once, here
    path = Path(answers)
    files = _submissions(path)
    names = [student] if student and path.is_file() else _names(files)
    own = str(Path(contracts).resolve()) if contracts is not None else None
    options = {"contracts": own, "seconds": seconds, "memory": memory}

    def one(file: Path, name: str) -> tuple[dict[str, Grade], list[str]]:
        return _in_a_process(file, {**options, "student": name if personal else None}, file_seconds)

    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        results = dict(zip(names, pool.map(one, files, names), strict=True))
    report = Report({name: grades for name, (grades, _) in results.items()}, {n: p for n, (_, p) in results.items()})
    for name in names:
        report.problems[name] += _whose(report.grades[name], [n for n in names if n != name], contracts)
    if passed := _passed_over(path):
        report.problems[PASSED_OVER] = passed
    return report


def _whose(row: dict[str, Grade], others: list[str], contracts: Contracts) -> list[str]:
    """Where an answer has someone else's constants, the students in this table whose they are."""
    lines = []
    for contract, grade in row.items():
        personal = known_contracts(contracts)[contract].personal
        if personal and grade.misconception == SOMEONE_ELSES:
            theirs = [n for n in others if f" {constants_text(personal.constants(n))};" in grade.message]
            lines += [f"{contract}: the constants are those of {' or '.join(theirs)}"] if theirs else []
    return lines


def _submissions(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    files = sorted(p for p in path.glob("[!._]*") if _is_submission(p)) if path.is_dir() else []
    if not files:
        passed = "".join(f"; it has {what}" for what in _passed_over(path))
        raise FileNotFoundError(
            f"nothing to grade in {path}; put one .py or .ipynb file there for each student{passed}"
        )
    return files


def _is_submission(path: Path) -> bool:
    return path.suffix.lower() in (".py", ".ipynb") and path.is_file()


def _passed_over(path: Path) -> list[str]:
    """What else in a folder may be a submission, so that none is missing without a word."""
    found = []
    for entry in sorted(path.iterdir()) if path.is_dir() else ():
        if entry.name.startswith("_") and not entry.name.startswith("__") and _is_submission(entry):
            found.append(f"{entry.name}, since its name begins with _")
        elif entry.is_dir() and not entry.name.startswith((".", "__")):
            inside = sorted(p.name for p in entry.iterdir() if _is_submission(p))
            found += [f"the folder {entry.name}, which holds {', '.join(inside[:3])}"] if inside else []
    return found


def _names(files: list[Path]) -> list[str]:
    """A file's name without its ending, tidied; as it stands and with the ending, where two would be the same."""
    stems = Counter(tidy(file.stem) for file in files)
    return [tidy(file.stem) if stems[tidy(file.stem)] == 1 else file.name for file in files]


def _in_a_process(file: Path, options: dict[str, Any], seconds: float) -> tuple[dict[str, Grade], list[str]]:
    """What submission.run writes, as far as it came."""
    with tempfile.TemporaryDirectory() as folder:
        out, errors = Path(folder) / "grades.json", Path(folder) / "errors.txt"
        arguments = json.dumps({"path": str(file.resolve()), "out": str(out), **options})
        here = str(Path(minigen.__file__).parents[1])
        environment = (
            {"OMP_NUM_THREADS": str(threads())}
            | os.environ
            | {
                "PYTHONPATH": os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")])),
                "PYTHONIOENCODING": "utf-8",
                "MPLBACKEND": "Agg",
                "CUDA_VISIBLE_DEVICES": "",
            }
        )
        command = [sys.executable, "-c", "from minigen.homework.submission import main; main()", arguments]
        with errors.open("w") as stderr:
            process = subprocess.Popen(
                command,
                cwd=folder,
                env=environment,
                stderr=stderr,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            )
            try:
                process.wait(seconds)
                problem = _crash(process.returncode, errors) if process.returncode else ""
            except subprocess.TimeoutExpired:
                problem = f"{file.name} does not end within {seconds:g} s; what came before is graded"
            finally:
                _kill(process)
        found: dict[str, Any] = {"grades": {}, "problems": [], "done": False}
        with suppress(OSError, ValueError):
            found = json.loads(out.read_text(encoding="utf-8"))
        if not problem and not found["done"]:
            problem = "its process left before the end, as os._exit does; what came before is graded"
    grades = {name: Grade(**grade) for name, grade in found["grades"].items()}
    return grades, [*found["problems"], *([problem] if problem else [])]


def _crash(code: int, errors: Path) -> str:
    lines = errors.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return f"its process ended with code {code}; what came before is graded{': ' + lines[-1] if lines else ''}"


def _kill(process: subprocess.Popen[bytes]) -> None:
    """The process and, where the system has process groups, all that it started."""
    with suppress(OSError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, 9)
    process.kill()
    process.wait()
