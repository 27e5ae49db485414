"""`python -m minigen`: the command line."""

import os
import sys

os.environ.setdefault("MPLBACKEND", "agg")  # pictures go to files; nothing may ask for a screen

from minigen.cli import main

sys.exit(main())
