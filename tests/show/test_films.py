"""Films and sliders that need no kernel: what they hold, and how large they are. test_films_browser.py moves them."""

from __future__ import annotations

import base64
import io
import json
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pytest
import torch
from PIL import Image

mpl.use("Agg")

from matplotlib import pyplot as plt

from minigen import show
from minigen.worlds import GaussianMixture

ALT = "A cloud of dots gathers in eight circles."


def dots(t: float, *, seed: int = 0):
    """The picture of chapter 02 at moment t of 1: five hundred samples on their way to eight circles."""
    random = torch.Generator().manual_seed(seed)
    ring = GaussianMixture.ring()
    x = t * ring.sample(500, generator=random) + (1 - t) * 0.6 * torch.randn(500, 2, generator=random)
    figure = show.clouds({"": {"model": x}}, reach=1.5, size=6)
    figure.axes[0].scatter(*ring.means.T, s=90, facecolors="none", edgecolors=show.COLOURS["data"])
    return figure


def grey(value: int, size: tuple[int, int] = (20, 10)) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", size, value).save(buffer, "PNG")
    return buffer.getvalue()


GREYS = [grey(value) for value in (0, 100, 200)]
LABELS = ["step 1", "step 10", "step 100"]


class Tags(HTMLParser):
    """The attributes of every tag, as a browser reads them."""

    def __init__(self, data: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict]] = []
        self.feed(data)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def __getitem__(self, tag: str) -> dict:
        return next(attributes for name, attributes in self.found if name == tag)


def film_of(data: str) -> dict:
    return json.loads(Tags(data)["figure"]["data-film"])


def pixels(encoded: str | bytes) -> np.ndarray:
    data = base64.b64decode(encoded) if isinstance(encoded, str) else encoded
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), dtype=int)


# Pictures.


def test_png_bytes_are_the_same_every_time_and_the_figure_is_closed() -> None:
    first, second = (show.png(show.image_grid(torch.zeros(4, 1, 8, 8))) for _ in range(2))
    assert first == second
    assert not plt.get_fignums()


def test_few_colours_are_smaller_and_look_the_same() -> None:
    full, few = show.png(dots(0.5)), show.png(dots(0.5), colours=32)
    assert len(few) < 0.45 * len(full)
    error = abs(pixels(few) - pixels(full))
    assert np.quantile(error, 0.999) <= 24
    assert error.mean() < 0.5
    assert len(np.unique(pixels(few).reshape(-1, 3), axis=0)) <= 32
    assert (pixels(few)[0, 0] == 255).all(), "white stays white"


def test_a_rare_colour_is_kept() -> None:
    """One red dot among thousands of blues: a palette by frequency alone, as the median cut's, turns it blue."""
    noise = np.random.default_rng(0).integers(0, 256, (100, 100, 3)).astype("uint8")
    noise[..., :2] //= 4
    noise[50, 50:53] = (255, 0, 0)
    figure = plt.figure(figsize=(1, 1))
    figure.figimage(noise)
    assert abs(pixels(show.png(figure, dpi=100, colours=32))[50, 51] - [255, 0, 0]).max() <= 32


# Films.


def test_a_film_shows_its_frames_in_order_and_stores_equal_ones_once() -> None:
    film = film_of(show.film([GREYS[1], GREYS[0], GREYS[1]], LABELS, alt=ALT).data)
    assert len(film["frames"]) == 2
    assert [pixels(film["frames"][i])[0, 0, 0] for i in film["order"]] == [100, 0, 100]
    assert film["texts"] == LABELS


def test_the_last_frame_stands_first_with_its_text() -> None:
    tags = Tags(show.film(GREYS, LABELS, alt=ALT, descriptions=["dark", "", "light"]).data)
    assert pixels(tags["img"]["src"].removeprefix("data:image/webp;base64,"))[0, 0, 0] == 200
    assert tags["img"]["alt"] == f"{ALT} Shown: step 100: light"
    assert (tags["img"]["width"], tags["img"]["height"]) == ("20", "10")
    assert "hidden" in tags["div"], "without scripts there are no dead controls"
    assert tags["input"]["aria-valuetext"] == "step 100: light"
    assert film_of(show.film(GREYS, LABELS, alt=ALT, descriptions=["dark", "", "light"]).data)["texts"][1] == "step 10"


def test_a_slider_formats_its_values_and_starts_where_told() -> None:
    film = show.slider(GREYS, [0.1 + 0.2, 1, "none"], alt=ALT, name="noise", unit="nats", start=1)
    assert film_of(film.data)["texts"] == ["noise = 0.3 nats", "noise = 1 nats", "noise = none nats"]
    assert Tags(film.data)["input"]["value"] == "1"
    assert pixels(Tags(film.data)["img"]["src"].split(",")[1])[0, 0, 0] == 100
    assert Tags(film.data)["input"]["aria-label"] == "noise"
    assert 'data-do="play"' not in film.data
    assert Tags(show.slider(GREYS, [1, 2, 3], alt=ALT, name="noise").data)["input"]["value"] == "0"


def test_a_slider_draws_its_own_pictures() -> None:
    drawn = show.slider(lambda value: grey(int(value)), [0, 100, 200], alt=ALT, name="grey")
    assert drawn.data == show.slider(GREYS, [0, 100, 200], alt=ALT, name="grey").data


def test_image_batches_are_stored_pixel_for_pixel() -> None:
    images = [torch.full((4, channels, 3, 3), 0.0) for channels in (1, 1)]
    images[1][0] = -1.0
    data = show.film(images, ["a", "b"], alt=ALT).data
    first, second = (pixels(frame) for frame in film_of(data)["frames"])
    assert first.shape == (9, 9, 3)
    assert (first[1:4, 1:4] == 128).all()
    assert (second[1:4, 1:4] == 0).all()
    assert (second[1:4, 5:8] == 128).all()
    assert (second[0] == 255).all()
    assert Tags(data)["img"]["width"] == str(9 * 44)
    assert "pixelated" in Tags(data)["img"]["style"]
    colour = film_of(show.film([torch.tensor([1.0, -1.0, 0.0]).view(1, 3, 1, 1)], ["a"], alt=ALT).data)
    assert pixels(colour["frames"][0])[1, 1].tolist() == [255, 0, 128]


def test_figures_may_come_one_by_one_and_are_closed() -> None:
    data = show.film((dots(t) for t in (0.0, 1.0)), ["a", "b"], alt=ALT, dpi=50).data
    assert pixels(film_of(data)["frames"][0]).shape == (140, 135, 3)
    assert not plt.get_fignums()


def test_transparent_pictures_stand_on_white() -> None:
    buffer = io.BytesIO()
    Image.new("RGBA", (4, 4), (0, 0, 0, 0)).save(buffer, "PNG")
    assert (pixels(film_of(show.film([buffer.getvalue()], ["a"], alt=ALT).data)["frames"][0]) == 255).all()


def test_films_of_images_keep_every_colour() -> None:
    """Thousands of colours in one frame, none of them moved by even one level of 256."""
    random = torch.Generator().manual_seed(0)
    images = [2 * torch.rand(25, 3, 12, 12, generator=random) - 1 for _ in range(3)]
    for frame, x in zip(film_of(show.film(images, LABELS, alt=ALT).data)["frames"], images, strict=True):
        seen = pixels(frame)[1:13, 1:13]
        assert abs(seen - ((x[0].permute(1, 2, 0).numpy() + 1) / 2 * 255)).max() <= 0.51
        assert len(np.unique(pixels(frame).reshape(-1, 3), axis=0)) > 2000


def test_films_of_figures_keep_their_colours_to_one_per_cent() -> None:
    """Too large in true colours, so that each frame keeps its best 256."""
    moments = torch.linspace(0, 1, 24).tolist()
    frames = [show.png(dots(t, seed=i), dpi=90) for i, t in enumerate(moments)]
    kept = film_of(show.film(frames, [f"step {i}" for i in range(24)], alt=ALT).data)
    errors = [
        abs(pixels(kept["frames"][n]) - pixels(frame)).mean() / 255
        for n, frame in zip(kept["order"], frames, strict=True)
    ]
    assert max(errors) < 0.01
    assert len(np.unique(pixels(kept["frames"][0]).reshape(-1, 3), axis=0)) >= 256


@pytest.mark.parametrize("kind", ["scatter plots", "images"])
def test_24_realistic_frames_take_at_most_150_kilobytes(kind: str) -> None:
    moments = torch.linspace(0, 1, 24).tolist()
    if kind == "images":  # what compresses worst: fresh noise in every frame
        random = torch.Generator().manual_seed(0)
        frames = (t + (1 - t) * torch.randn(64, 1, 8, 8, generator=random) for t in moments)
    else:
        frames = (dots(t, seed=i) for i, t in enumerate(moments))
    film = show.film(frames, [f"step {round(5000 * t)}" for t in moments], alt=ALT)
    assert 80_000 < len(film.data.encode()) <= 150_000
    assert len(film_of(film.data)["frames"]) == 24


def test_a_film_that_is_too_large_says_what_to_do() -> None:
    noise = [2 * torch.rand(64, 1, 16, 16, generator=torch.Generator().manual_seed(i)) - 1 for i in range(24)]
    with pytest.raises(ValueError, match=r"limit=150 kB: give fewer frames \(now 24 that differ\).*raise the limit"):
        show.film(noise, ["a"] * 24, alt=ALT)
    assert len(show.film(noise, ["a"] * 24, alt=ALT, limit=1_000_000).data) > 150_000


def test_the_same_film_is_the_same_bytes_and_names_no_element() -> None:
    first, second = (show.film((dots(t) for t in (0, 1)), ["a", "b"], alt=ALT).data for _ in range(2))
    assert first == second
    assert not any("id" in attributes for _, attributes in Tags(first).found), "ids would meet on a page"
    assert show.film(GREYS, LABELS, alt=ALT).data != show.film(GREYS, LABELS, alt=ALT, fps=2).data


def test_text_is_escaped() -> None:
    film = show.film(GREYS, ["<b>", '"', "{}</script>"], alt='dots <i>turn</i> "white" & don\'t', name='"')
    tags = Tags(film.data)
    assert {"b", "i"}.isdisjoint(tag for tag, _ in tags.found)
    assert tags["img"]["alt"] == 'dots <i>turn</i> "white" & don\'t Shown: {}</script>'
    assert film_of(film.data)["texts"] == ["<b>", '"', "{}</script>"]
    assert film.data.count("</script>") == 1


def test_films_are_well_formed_xml_for_the_epub() -> None:
    for film in (show.film(GREYS, LABELS, alt=ALT), show.slider(GREYS, [1, 2, 3], alt=ALT, name="noise")):
        assert ElementTree.fromstring(film.data).tag == "figure"


def test_nothing_is_asked_of_another_server() -> None:
    data = show.film(GREYS, LABELS, alt=ALT).data.replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert not re.search(r"https?:|//\w|@import|url\(", re.sub(r"base64,[^&\"]*|// .*", "", data))


def test_plain_text_says_what_it_is() -> None:
    film = show.film(GREYS, LABELS, alt=ALT)
    assert repr(film) == f"Film of 3 frames: {ALT}"
    assert film._repr_html_() == film.data
    assert repr(show.slider(GREYS, [1, 2, 3], alt=ALT, name="noise")) == f"3 pictures by noise: {ALT}"


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"frames": [], "labels": []}, ValueError, "got 0 frames and 0 labels"),
        ({"labels": LABELS[:2]}, ValueError, "got 3 frames and 2 labels"),
        ({"labels": ["a", " ", "c"]}, ValueError, r"frames \[1\] are blank"),
        ({"descriptions": ["a"]}, ValueError, "got 3 labels and 1 descriptions"),
        ({"alt": " "}, ValueError, "say in alt="),
        ({"name": ""}, ValueError, "in name="),
        ({"fps": 0}, ValueError, "above 0 and at most 60; got 0"),
        ({"frames": [*GREYS[:2], "a.png"]}, TypeError, "frame 2 must be a figure, PNG bytes or images.*got str"),
        ({"frames": [*GREYS[:2], grey(0, (3, 4))]}, ValueError, r"frame 0 is \(20, 10\), frame 2 is \(3, 4\)"),
        ({"frames": [torch.zeros(3, 8, 8)] * 3}, ValueError, r"images must be \(B, 1 or 3, H, W\)"),
    ],
)
def test_what_is_wrong_with_a_film_is_said(wrong, error, message) -> None:
    given = {"frames": GREYS, "labels": LABELS, "alt": ALT} | wrong
    with pytest.raises(error, match=message):
        show.film(given.pop("frames"), given.pop("labels"), **given)


def test_a_slider_starts_at_one_of_its_values() -> None:
    with pytest.raises(ValueError, match=r"start must be one of the values \[1, 2, 3\]; got 4"):
        show.slider(GREYS, [1, 2, 3], alt=ALT, name="noise", start=4)
    with pytest.raises(ValueError, match="got 3 frames and 2 labels"):
        show.slider(GREYS, [1, 2], alt=ALT, name="noise")
