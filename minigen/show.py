"""Pictures: image grids, film strips, fields in the plane, curves, a live training view, a film player.

Colours mean the same through the whole book. Drawing libraries are imported when something is drawn.
"""

from __future__ import annotations

import html
import math
import os
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from minigen.player import Film as Film
from minigen.player import player as player
from minigen.player import png, tiles
from minigen.player import slider as slider

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from minigen.train import Step

# Okabe and Ito's palette, told apart by colour-blind readers. "exact" is what a world knows.
COLOURS = {
    "data": "#0072B2",
    "model": "#D55E00",
    "generator": "#D55E00",
    "discriminator": "#009E73",
    "noise": "#999999",
    "exact": "#222222",
    "other": "#CC79A7",
}
Extent = tuple[float, float, float, float]


def image_grid(images: Tensor, *, columns: int | None = None, inches: float = 0.55) -> Figure:
    """Images (B, C, H, W) in [-1, 1], C = 1 or 3, as one picture, row by row; values outside are clipped.

    columns: as near to square as possible unless given. inches: the width of one image.
    """
    from matplotlib import pyplot as plt

    picture = tiles(images, columns or math.ceil(math.sqrt(len(images))))
    height, width = picture.shape[:2]
    count = width / (images.shape[-1] + 1)
    figure = plt.figure(figsize=(inches * count, inches * count * height / width))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(picture, cmap="gray", vmin=-1, vmax=1, interpolation="nearest")
    axes.set_axis_off()
    return figure


def side_by_side(groups: dict[str, Tensor], *, columns: int = 8, inches: float = 3.6) -> Figure:
    """Image grids beside each other, {title: images (B, C, H, W)}."""
    from matplotlib import pyplot as plt

    figure, row = plt.subplots(1, len(groups), figsize=(inches * len(groups), inches + 0.3), squeeze=False)
    for axes, (title, images) in zip(row[0], groups.items(), strict=True):
        axes.imshow(tiles(images, columns), cmap="gray", vmin=-1, vmax=1, interpolation="nearest")
        axes.set_title(title, fontsize=10)
        axes.set_axis_off()
    figure.tight_layout()
    return figure


def film_strip(frames: Sequence[Tensor], labels: Sequence[str], *, inches: float = 0.45) -> Figure:
    """One row for each frame, an image batch (B, C, H, W) of the same samples at successive moments; labels at left."""
    from matplotlib import pyplot as plt

    if len(frames) != len(labels):
        raise ValueError(f"each frame needs a label; got {len(frames)} frames and {len(labels)} labels")
    columns = len(frames[0])
    figure, rows = plt.subplots(len(frames), 1, figsize=(inches * columns + 1.1, inches * len(frames)), squeeze=False)
    for axes, frame, label in zip(rows[:, 0], frames, labels, strict=True):
        axes.imshow(tiles(frame, columns), cmap="gray", vmin=-1, vmax=1, interpolation="nearest")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_ylabel(label, rotation=0, ha="right", va="center", fontsize=9)
        for side in axes.spines.values():
            side.set_visible(False)
    figure.subplots_adjust(left=1.1 / (inches * columns + 1.1), right=1, top=1, bottom=0, hspace=0.06)
    return figure


def scoreboard(scores: Tensor, good: Tensor, rows: Sequence[str], columns: Sequence[str]) -> Figure:
    """A table of scores (R, C), blue where `good` (R, C) is true and orange where not. nan is shown as "?"."""
    from matplotlib import pyplot as plt

    if not scores.shape == good.shape == (len(rows), len(columns)):
        shapes = f"scores {tuple(scores.shape)} and good {tuple(good.shape)}"
        raise ValueError(f"got {shapes} for {len(rows)} rows and {len(columns)} columns")
    figure, axes = plt.subplots(figsize=(1.6 + 0.8 * len(columns), 0.4 + 0.4 * len(rows)), layout="constrained")
    axes.imshow(torch.tensor([[0.97, 0.82, 0.71], [0.72, 0.85, 0.95]])[good.cpu().long()].numpy(), aspect="auto")
    for row, line in enumerate(scores.tolist()):
        for column, score in enumerate(line):
            text = "?" if math.isnan(score) else f"{score:,.0f}" if score > 9 else f"{score:.2g}"
            axes.text(column, row, text.replace("inf", "∞"), ha="center", va="center", fontsize=9)
    axes.set_xticks(range(len(columns)), columns, fontsize=8)
    axes.set_yticks(range(len(rows)), rows, fontsize=9)
    axes.tick_params(length=0, top=True, labeltop=True, labelbottom=False)
    return figure


def plane(axes: Axes, extent: Extent, *, title: str = "") -> None:
    """Square units, few ticks: `extent` is (left, right, bottom, top)."""
    axes.set_xlim(extent[0], extent[1])
    axes.set_ylim(extent[2], extent[3])
    axes.set_aspect("equal")
    axes.locator_params(nbins=5)
    axes.tick_params(labelsize=8)
    if title:
        axes.set_title(title, fontsize=10)


def scatter(axes: Axes, points: Tensor, role: str, *, label: str | None = None, size: float = 3.0) -> None:
    """Points (B, 2) in the colour of their role: "data", "model", "noise"..."""
    x = points.detach().cpu()
    axes.scatter(x[:, 0], x[:, 1], s=size, c=COLOURS[role], alpha=0.5, linewidths=0, label=label, rasterized=True)


def clouds(panels: dict[str, dict[str, Tensor]], *, reach: float, size: float = 3.0) -> Figure:
    """A row of scatter plots over [-reach, reach]^2: {title: {role: points (B, 2)}}, drawn in the order given."""
    from matplotlib import pyplot as plt

    figure, row = plt.subplots(
        1, len(panels), figsize=(2.7 * len(panels), 2.8), squeeze=False, sharey=True, layout="constrained"
    )
    for axes, (title, layers) in zip(row[0], panels.items(), strict=True):
        for role, points in layers.items():
            scatter(axes, points, role, size=size)
        plane(axes, (-reach, reach, -reach, reach), title=title)
    return figure


def lattice(extent: Extent, resolution: int) -> Tensor:
    """The points of a square lattice over `extent`, (resolution, resolution, 2), rows from bottom to top."""
    x = torch.linspace(extent[0], extent[1], resolution)
    y = torch.linspace(extent[2], extent[3], resolution)
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)


def field(
    axes: Axes,
    function: Callable[[Tensor], Tensor],
    extent: Extent,
    *,
    kind: str = "probability",
    resolution: int = 200,
    title: str = "",
) -> Any:
    """Colour the plane by function((N, 2)) -> (N,). Returns the mappable, for a colour bar.

    kind: "probability" runs from the model's colour (0) through white (1/2) to the data's (1), with the line of 1/2
    drawn; "density" runs from white to the data's colour; "signed" is symmetric about 0.
    """
    from matplotlib.colors import LinearSegmentedColormap as Map

    points = lattice(extent, resolution)
    with torch.no_grad():
        values = function(points.flatten(0, 1)).reshape(resolution, resolution).float().cpu().numpy()
    two_sided = Map.from_list("model-data", [COLOURS["model"], "#ffffff", COLOURS["data"]])
    largest = abs(values).max()
    maps, low, high = {
        "probability": (two_sided, 0.0, 1.0),
        "signed": (two_sided, -largest, largest),
        "density": (Map.from_list("data", ["#ffffff", COLOURS["data"]]), 0.0, largest),
    }[kind]
    shown = axes.imshow(values, origin="lower", extent=extent, cmap=maps, vmin=low, vmax=high, alpha=0.85)
    if kind != "density":
        middle = (low + high) / 2
        if values.min() < middle < values.max():
            axes.contour(
                values, levels=[middle], origin="lower", extent=extent, colors=COLOURS["exact"], linewidths=0.8
            )
    plane(axes, extent, title=title)
    return shown


def vectors(
    axes: Axes,
    function: Callable[[Tensor], Tensor],
    extent: Extent,
    *,
    role: str = "exact",
    resolution: int = 17,
    title: str = "",
) -> None:
    """Arrows of a vector field, function((N, 2)) -> (N, 2), on a lattice.

    A length r is drawn as r / (r + the median length), so that weak and strong arrows are both seen.
    """
    points = lattice(extent, resolution).flatten(0, 1)  # (resolution**2, 2)
    arrows = function(points).detach().cpu()
    length = arrows.norm(dim=1, keepdim=True)
    arrows = arrows / (length + length.median())
    axes.quiver(points[:, 0], points[:, 1], arrows[:, 0], arrows[:, 1], color=COLOURS[role], angles="xy", width=0.004)
    plane(axes, extent, title=title)


def curves(
    axes: Axes, history: dict[str, list[tuple[int, float]]], names: Sequence[str], *, levels: Sequence[float] = ()
) -> None:
    """Logs against the step number; the player's name before the slash chooses the colour. levels: dotted lines."""
    for level in levels:
        axes.axhline(level, color=COLOURS["exact"], linewidth=0.6, linestyle=":")
    for name in names:
        steps, values = zip(*history[name], strict=True)
        axes.plot(steps, values, label=name, color=COLOURS.get(name.split("/")[0]), linewidth=1)
    axes.set_xlabel("step")
    axes.legend(fontsize=8, frameon=False)


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
