"""Pictures, the live view and the live slider; the films are in test_films.py."""

from __future__ import annotations

import math
import subprocess
import sys

import matplotlib as mpl
import pytest
import torch

mpl.use("Agg")

from matplotlib import pyplot as plt

from minigen import show
from minigen.train.loop import Step


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


def test_tiles_put_every_image_in_its_place() -> None:
    images = torch.linspace(-1, 1, 5).view(5, 1, 1, 1).expand(5, 1, 2, 3)
    canvas = show.tiles(images, columns=2)
    assert canvas.shape == (3 * 3 + 1, 2 * 4 + 1)
    for i, value in enumerate(torch.linspace(-1, 1, 5)):
        top, left = (i // 2) * 3 + 1, (i % 2) * 4 + 1
        assert (canvas[top : top + 2, left : left + 3] == value.item()).all()
    colour = show.tiles(torch.tensor([-1.0, 0.0, 1.0]).view(1, 3, 1, 1), columns=1)
    assert colour[1, 1].tolist() == [0.0, 0.5, 1.0]


def test_a_field_draws_the_function_the_right_way_up() -> None:
    _, axes = plt.subplots()
    shown = show.field(axes, lambda p: torch.sigmoid(4 * p[:, 1] + p[:, 0]), (-2, 2, -1, 3), resolution=5)
    values = shown.get_array()
    assert values[0, 0] == pytest.approx(torch.sigmoid(torch.tensor(-6.0)).item())  # lower left: (-2, -1)
    assert values[-1, 0] == pytest.approx(torch.sigmoid(torch.tensor(10.0)).item())  # upper left: (-2, 3)
    assert list(shown.get_extent()) == [-2, 2, -1, 3]


def test_figures_of_images_and_curves_are_drawn() -> None:
    show.image_grid(torch.zeros(7, 3, 8, 8))
    show.film_strip([torch.zeros(4, 1, 8, 8)] * 3, ["a", "b", "c"])
    _, axes = plt.subplots()
    show.vectors(axes, lambda p: -p, (-1, 1, -1, 1))
    show.scatter(axes, torch.zeros(3, 2), "data")
    show.curves(axes, {"generator/loss": [(1, 2.0), (2, 1.0)]}, ["generator/loss"])
    with pytest.raises(ValueError, match=r"images must be \(B, 1 or 3, H, W\)"):
        show.image_grid(torch.zeros(7, 8, 8))
    with pytest.raises(ValueError, match="each frame needs a label"):
        show.film_strip([torch.zeros(4, 1, 8, 8)], [])


def test_the_live_view_is_silent_here_and_keeps_the_history(capsys) -> None:
    drawn = []
    view = show.LiveView(lambda: drawn.append(1), total=10)
    for n in (1, 2):
        view.update(Step(n, {"generator/loss": torch.tensor(float(n))}))
    assert view.history == {"generator/loss": [(1, 1.0), (2, 2.0)]}
    assert not drawn
    assert capsys.readouterr() == ("", "")


def test_the_live_view_draws_where_somebody_watches(monkeypatch) -> None:
    monkeypatch.setattr(sys.modules["minigen.show.live"], "_watched", lambda: True)
    view = show.LiveView(lambda: show.image_grid(torch.zeros(4, 1, 8, 8)), total=2, seconds=0)
    view.update(Step(2, {"generator/loss": torch.tensor(1.5)}))
    bar, text, picture = view._widgets
    assert bar.value == 2
    assert "1.5" in text.value
    assert bytes(picture.value).startswith(b"\x89PNG")


def test_the_live_slider_is_silent_here(capsys) -> None:
    drawn = []
    show.live(drawn.append, [0.5, 1.0], name="temperature")
    assert not drawn
    assert capsys.readouterr() == ("", "")


def test_the_live_slider_draws_what_it_is_moved_to(monkeypatch) -> None:
    shown, drawn = [], []

    def draw(value: float):
        drawn.append(value)
        return show.image_grid(torch.full((1, 1, 4, 4), value))

    monkeypatch.setattr(sys.modules["minigen.show.live"], "_watched", lambda: True)
    monkeypatch.setattr("IPython.display.display", shown.append)
    show.live(draw, [0.1 + 0.2, 0.5, 1], name="noise", unit="s", start=0.5)
    slider, picture = shown[0].children
    first = bytes(picture.value)
    assert [text for text, _ in slider.options] == ["0.3 s", "0.5 s", "1 s"]
    assert slider.description == "noise"
    slider.value = 1
    assert drawn == [0.5, 1]
    assert first.startswith(b"\x89PNG")
    assert bytes(picture.value) != first


@pytest.mark.parametrize(
    "module", ["train", "train.distributed", "data", "metrics", "show", "book", "worlds", "objectives.minimax"]
)
def test_importing_the_library_is_light(module: str) -> None:
    heavy = ["matplotlib", "ipywidgets", "sphinx", "sklearn", "pooch", "IPython"]
    code = f"import minigen.{module}, sys; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "[]"


def test_scoreboard_shows_each_score_in_its_cell() -> None:
    scores = torch.tensor([[0.123, math.nan, 1234.5], [math.inf, 0.0, -2.0]])
    good = torch.tensor([[True, False, True], [False, True, False]])
    axes = show.scoreboard(scores, good, ["a", "b"], ["x", "y", "z"]).axes[0]
    texts = {text.get_position(): text.get_text() for text in axes.texts}
    assert texts == {(0, 0): "0.12", (1, 0): "?", (2, 0): "1,234", (0, 1): "∞", (1, 1): "0", (2, 1): "-2"}
    colours = axes.images[0].get_array().data
    assert (colours[..., 2] > colours[..., 0]).tolist() == good.tolist()
    grey = (colours[..., 2] == colours[..., 0]).tolist()
    assert grey == scores.isnan().tolist(), "what has no score is neither caught nor taken for the truth"
    with pytest.raises(ValueError, match=r"scores \(2, 3\) and good \(2, 3\) for 1 rows and 3 columns"):
        show.scoreboard(scores, good, ["a"], ["x", "y", "z"])


def test_figures_of_a_chapter_have_no_ground_and_a_grey_for_any() -> None:
    from matplotlib import pyplot as plt
    from matplotlib import rc_context

    with rc_context():
        show.on_any_ground()
        figure, axes = plt.subplots()
        assert figure.get_facecolor()[3] == axes.get_facecolor()[3] == 0
        colours = {axes.xaxis.label.get_color(), axes.title.get_color(), axes.spines["left"].get_edgecolor()[:3]}
        assert show.INK in colours
        plt.close(figure)
