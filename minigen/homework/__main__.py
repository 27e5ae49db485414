"""python -m minigen.homework: the table for a folder of submissions."""

from __future__ import annotations

import argparse
import sys

from minigen.homework.console import say
from minigen.homework.report import grade_all


def main() -> int:
    """The command line; 2 where there is nothing to grade or the contracts cannot be read."""
    parser = argparse.ArgumentParser(
        prog="python -m minigen.homework",
        description="Grade a folder of submissions: one .py or .ipynb file for each student, named after the student.",
    )
    parser.add_argument("folder", nargs="?", default=".", help="the folder, or one file (default: this folder)")
    parser.add_argument("--json", metavar="FILE", help="write the table as JSON too")
    parser.add_argument("--contracts", metavar="FILE", help="a Python file of your own that defines CONTRACTS")
    parser.add_argument("--personal", action="store_true", help="ask for each student's own constants")
    parser.add_argument("--seconds", type=float, default=3.0, help="time limit for one answer (default: 3)")
    parser.add_argument("--memory", type=float, default=4.0, help="memory for one file, GiB, on Linux (default: 4)")
    given = parser.parse_args()
    options = {"personal": given.personal, "contracts": given.contracts}
    try:
        report = grade_all(given.folder, **options, seconds=given.seconds, memory=given.memory)
        try:
            say(report)
        finally:  # the table may be longer than whoever reads it wants, as with `| head`
            if given.json:
                report.save(given.json)
    except (OSError, ImportError, TypeError, SyntaxError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
