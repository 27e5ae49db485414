"""The command line, `python -m minigen train|sample|evaluate|export|list`: recipes trained, resumed, judged."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress

from minigen import runs
from minigen.cli.commands import UsageError, did_you_mean
from minigen.cli.parsers import parser_and_options
from minigen.train.guard import NonFiniteError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0, 1 for a failure, 2 for a wrong request, 130 after Ctrl-C."""
    parser, commands = parser_and_options()
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if not words:
            parser.print_help()
            return 0
        if not words[0].startswith("-") and words[0] not in commands:
            raise UsageError(f"there is no command {did_you_mean(words[0], commands)}")
        given, unknown = parser.parse_known_args(words)
        if unknown:
            word, options = unknown[0].split("=")[0], commands[given.command]
            kind = "option" if word.startswith("-") else "further argument"
            raise UsageError(f"{given.command} takes no {kind} {did_you_mean(word, options)}")
        code: int = given.run(given)
        return code
    except UsageError as error:
        return _fail(error, 2)
    except (OSError, ImportError, ValueError, NonFiniteError) as error:
        return _fail(error, 1)
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "memory" not in str(error):
            raise
        hint = "; ask for fewer samples with -n" if words[0] in ("sample", "evaluate") else ""
        return _fail(f"out of memory{hint} ({error})", 1)
    except KeyboardInterrupt:
        return _fail("interrupted", 130)


def _fail(error: object, code: int) -> int:
    if runs.rank() == 0:
        with suppress(OSError):  # the terminal may be gone
            print(f"minigen: {error}", file=sys.stderr)
    return code
