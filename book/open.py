"""Open a built page where there is a window to open it in; say where it is in any case. Returns at once."""

from __future__ import annotations

import os
import sys
import webbrowser
from pathlib import Path

page = Path(sys.argv[1]).resolve()
windowed = sys.platform in ("darwin", "win32") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
print(f"The book is {page}")
if windowed and not os.environ.get("CI"):
    webbrowser.open(page.as_uri())
