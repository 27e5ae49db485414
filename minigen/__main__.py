"""`python -m minigen`: the command line."""

import os
import sys

os.environ.setdefault("MPLBACKEND", "agg")  # pictures go to files; nothing may ask for a screen

try:
    from minigen.cli import main
except ModuleNotFoundError as error:
    if error.name not in ("torch", "numpy"):
        raise
    sys.exit(f"minigen: {sys.executable} has no {error.name}; after `make book`: source .venv/bin/activate")

sys.exit(main())
