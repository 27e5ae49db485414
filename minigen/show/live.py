"""Pictures that change while one watches: a training run, and a slider that asks the kernel."""

from __future__ import annotations

import html
import os
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from minigen.show.films import png

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from minigen.train.loop import Step


class LiveView:
    """Watch a run: `view.update(step)` now and then. In Jupyter and Colab a picture that is redrawn; elsewhere silent.

    panel: draws the figure to show, given nothing; called at most every `seconds`. Without it only numbers are shown.
    history: {log: [(step, number), ...]} of every update, for curves afterwards, live or not.

    Silent where nobody watches: outside a notebook kernel, under pytest (nbval), and with MINIGEN_LIVE=0.
    """

    def __init__(self, panel: Callable[[], Figure] | None = None, *, total: int = 0, seconds: float = 0.5) -> None:
        self.panel, self.total, self.seconds = panel, total, seconds
        self.history: dict[str, list[tuple[int, float]]] = {}
        self._shown, self._widgets = 0.0, _live_widgets(total) if _watched() else None

    def update(self, step: Step) -> None:
        """Read the step's logs (this waits for the device) and show them. Updating twice is harmless."""
        numbers = step.read()
        for name, value in numbers.items():
            self.history.setdefault(name, []).append((step.n, value))
        now = time.monotonic()
        if self._widgets is None or (now - self._shown < self.seconds and step.n < self.total):
            return
        bar, text, picture = self._widgets
        self._shown, bar.value = now, step.n
        rows = "".join(f"<tr><td>{html.escape(n)}</td><td>{v:.4g}</td></tr>" for n, v in numbers.items())
        text.value = f"<table><tr><td>step</td><td>{step.n}</td></tr>{rows}</table>"
        if self.panel is not None:
            picture.value = png(self.panel())


def live(
    draw: Callable[[Any], Figure | bytes],
    values: Sequence[float | str],
    *,
    name: str,
    unit: str = "",
    start: float | str | None = None,
) -> None:
    """A slider that asks the kernel for each picture: beside `slider`, with finer values, or for what you changed.

    draw: a figure, or PNG bytes, of a value. The other arguments are those of `slider`. Silent where `LiveView` is, so
    that nothing is stored which a page without a kernel could not move.
    """
    if not _watched():
        return
    import ipywidgets
    from IPython.display import display

    options = [(f"{value if isinstance(value, str) else f'{value:g}'} {unit}".strip(), value) for value in values]
    first = values[0] if start is None else start
    widget = ipywidgets.SelectionSlider(options=options, value=first, description=name)
    picture = ipywidgets.Image(format="png")

    def redraw(value: float | str) -> None:
        shown = draw(value)
        picture.value = shown if isinstance(shown, bytes) else png(shown, dpi=90)

    redraw(widget.value)
    widget.observe(lambda change: redraw(change["new"]), "value")
    layout = ipywidgets.Layout(align_items="flex-start")  # else the picture is stretched over the page
    display(ipywidgets.VBox([widget, picture], layout=layout))  # type: ignore[no-untyped-call]


def _watched() -> bool:
    if os.environ.get("MINIGEN_LIVE") == "0" or "PYTEST_VERSION" in os.environ:
        return False
    try:
        from IPython import get_ipython
    except ImportError:
        return False
    return getattr(get_ipython(), "kernel", None) is not None


def _live_widgets(total: int) -> tuple[Any, Any, Any]:
    import ipywidgets
    from IPython.display import display

    bar = ipywidgets.IntProgress(max=max(total, 1), description="training")
    text, picture = ipywidgets.HTML(), ipywidgets.Image(format="png")
    display(ipywidgets.HBox([ipywidgets.VBox([bar, text]), picture]))  # type: ignore[no-untyped-call]
    return bar, text, picture
