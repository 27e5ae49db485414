"""Pictures: image grids, film strips, fields in the plane, curves.

Colours mean the same through the whole book. Drawing libraries are imported when something is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from minigen.show.films import tiles

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


# Okabe and Ito's palette, told apart by colour-blind readers. "exact" is what a world knows.
COLOURS = {
    "data": "#0072B2",
    "model": "#D55E00",
    "generator": "#D55E00",
    "discriminator": "#009E73",
    "noise": "#999999",
    "exact": "#6B6B6B",
    "other": "#CC79A7",
}


INK = "#757575"  # text and axes: 4.5 to 1 on white and on black
LEGIBLE = 1.65  # points for each inch of a figure's width: on a page 390 wide such letters are 8 pixels high
Extent = tuple[float, float, float, float]


def on_any_ground() -> None:
    """Draw what follows without a ground of its own, text and axes in a grey that is legible on light and on dark."""
    from matplotlib import rcParams

    rcParams.update(
        {
            "figure.facecolor": "none",
            "axes.facecolor": "none",
            "savefig.facecolor": "none",
            "legend.facecolor": "none",
            "text.color": INK,
            "axes.labelcolor": INK,
            "axes.titlecolor": INK,
            "axes.edgecolor": INK,
            "xtick.color": INK,
            "ytick.color": INK,
        }
    )


def image_grid(images: Tensor, *, columns: int | None = None, inches: float = 0.55) -> Figure:
    """Images (B, C, H, W) in [-1, 1], C = 1 or 3, as one picture, row by row; values outside are clipped.

    columns: as near to square as possible unless given. inches: the width of one image.
    """
    from matplotlib import pyplot as plt

    if images.ndim == 4 and (not len(images) or (columns is not None and columns < 1)):
        raise ValueError(
            f"images must be (B, C, H, W), B and columns 1 or more; got {tuple(images.shape)} in {columns}"
        )
    picture = tiles(images, columns or math.ceil(math.sqrt(len(images))))
    height, width = picture.shape[:2]
    count = width / (images.shape[-1] + 1)
    figure = plt.figure(figsize=(inches * count, inches * count * height / width))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(picture, cmap="gray", vmin=-1, vmax=1, interpolation="nearest")
    axes.set_axis_off()
    return figure


def images(axes: Axes, x: Tensor, *, columns: int = 8, title: str = "", size: float = 10.0) -> None:
    """Images (B, C, H, W) in [-1, 1] as a grid on given axes; size: of the title, in points."""
    axes.imshow(tiles(x, columns), cmap="gray", vmin=-1, vmax=1, interpolation="nearest")
    axes.set_axis_off()
    if title:
        axes.set_title(title, fontsize=size)


def side_by_side(groups: dict[str, Tensor], *, columns: int = 8, inches: float = 3.6) -> Figure:
    """One or two image grids beside each other, {title: images (B, C, H, W)}. More raise a ValueError."""
    from matplotlib import pyplot as plt

    need_two_columns(len(groups))
    width = inches * len(groups)
    figure, row = plt.subplots(1, len(groups), figsize=(width, inches + 0.3), squeeze=False)
    for axes, (title, x) in zip(row[0], groups.items(), strict=True):
        images(axes, x, columns=columns, title=title, size=max(10, LEGIBLE * width))
    figure.tight_layout()
    return figure


def need_two_columns(panels: int) -> None:
    """Raises ValueError for more panels beside each other than are legible on a phone."""
    if not 1 <= panels <= 2:
        raise ValueError(f"a figure has one or two columns of panels; got {panels}: show.Row makes a row that wraps")


def film_strip(frames: Sequence[Tensor], labels: Sequence[str], *, inches: float = 0.45) -> Figure:
    """One row for each frame, an image batch (B, C, H, W) of the same samples at successive moments; labels at left."""
    from matplotlib import pyplot as plt

    if len(frames) != len(labels):
        raise ValueError(f"each frame needs a label; got {len(frames)} frames and {len(labels)} labels")
    columns = len(frames[0])
    # The margin holds 9 letters of the size that the width asks for, and is part of the width.
    width = max(inches * columns + 1.1, inches * columns / (1 - LEGIBLE * 1.1 / 9))
    size = max(9, LEGIBLE * width)
    margin = 1.1 * size / 9
    figure, rows = plt.subplots(len(frames), 1, figsize=(width, inches * len(frames)), squeeze=False)
    for axes, frame, label in zip(rows[:, 0], frames, labels, strict=True):
        axes.imshow(tiles(frame, columns), cmap="gray", vmin=-1, vmax=1, interpolation="nearest")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_ylabel(label, rotation=0, ha="right", va="center", fontsize=size)
        for side in axes.spines.values():
            side.set_visible(False)
    figure.subplots_adjust(left=margin / width, right=1, top=1, bottom=0, hspace=0.06)
    return figure


def scoreboard(scores: Tensor, good: Tensor, rows: Sequence[str], columns: Sequence[str]) -> Figure:
    """A table of scores (R, C), blue where `good` (R, C) is true and orange where not; nan is a grey "?"."""
    from matplotlib import pyplot as plt

    if not scores.shape == good.shape == (len(rows), len(columns)):
        shapes = f"scores {tuple(scores.shape)} and good {tuple(good.shape)}"
        raise ValueError(f"got {shapes} for {len(rows)} rows and {len(columns)} columns")
    figure, axes = plt.subplots(figsize=(1.6 + 0.55 * len(columns), 1.2 + 0.36 * len(rows)), layout="constrained")
    colours = torch.tensor([[0.97, 0.82, 0.71], [0.72, 0.85, 0.95], [0.87, 0.87, 0.87]])  # caught, fooled, not judged
    judged = torch.where(scores.isnan().cpu(), 2, good.cpu().long())
    axes.imshow(colours[judged].numpy(), aspect="auto")
    size = max(9, LEGIBLE * figure.get_figwidth())
    for row, line in enumerate(scores.tolist()):
        for column, score in enumerate(line):
            text = "?" if math.isnan(score) else f"{score:,.0f}" if score > 9 else f"{score:.2g}"
            axes.text(column, row, text.replace("inf", "∞"), ha="center", va="center", fontsize=size, color="#222222")
    names = [name.replace("\n", " ") for name in columns]
    axes.set_xticks(range(len(columns)), names, fontsize=size, rotation=45, ha="left")
    axes.set_yticks(range(len(rows)), rows, fontsize=size)
    axes.tick_params(length=0, top=True, labeltop=True, labelbottom=False)
    return figure


def plane(axes: Axes, extent: Extent, *, title: str = "") -> None:
    """Square units, few ticks: `extent` is (left, right, bottom, top)."""
    axes.set_xlim(extent[0], extent[1])
    axes.set_ylim(extent[2], extent[3])
    axes.set_aspect("equal")
    axes.locator_params(nbins=5)
    axes.tick_params(labelsize=9)
    if title:
        axes.set_title(title, fontsize=10)


def scatter(axes: Axes, points: Tensor, role: str, *, label: str | None = None, size: float = 3.0) -> None:
    """Points (B, 2) in the colour of their role: "data", "model", "noise"..."""
    x = points.detach().cpu()
    axes.scatter(x[:, 0], x[:, 1], s=size, c=COLOURS[role], alpha=0.5, linewidths=0, label=label, rasterized=True)


def clouds(panels: dict[str, dict[str, Tensor]], *, reach: float, size: float = 3.0) -> Figure:
    """One or two scatter plots over [-reach, reach]^2: {title: {role: points (B, 2)}}, drawn in the order given."""
    from matplotlib import pyplot as plt

    need_two_columns(len(panels))

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
    axes.legend(frameon=False)
