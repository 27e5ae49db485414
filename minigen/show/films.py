"""Films and sliders that need no kernel: pictures drawn beforehand, in one piece of HTML that asks for nothing else.

The same HTML works in the book, in JupyterLab, in Colab and in a page opened from disk. Without scripts, and in print,
one picture stands with its alternative text.
"""

from __future__ import annotations

import base64
import html
import io
import json
import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image

    Picture: TypeAlias = Figure | bytes | Tensor

ROOM = 9_000  # bytes of a film beside its frames: texts, controls, script
LIMIT = 150_000  # bytes of HTML: a chapter with several films stays below 1.5 MB, and opens at once on a phone


def tiles(images: Tensor, columns: int) -> Any:
    """Images (B, C, H, W) in [-1, 1] as one array for imshow, (rows * (H + 1) + 1, columns * (W + 1) + 1[, 3])."""
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        raise ValueError(f"images must be (B, 1 or 3, H, W) in [-1, 1]; got {tuple(images.shape)}")
    x = images.detach().float().cpu().clamp(-1, 1)
    n, channels, height, width = x.shape
    rows = math.ceil(n / columns)
    canvas = torch.full((channels, rows * (height + 1) + 1, columns * (width + 1) + 1), 1.0)
    for i, image in enumerate(x):
        top, left = (i // columns) * (height + 1) + 1, (i % columns) * (width + 1) + 1
        canvas[:, top : top + height, left : left + width] = image
    return canvas[0].numpy() if channels == 1 else (canvas.permute(1, 2, 0).numpy() + 1) / 2


def png(figure: Figure, *, dpi: int = 72, colours: int | None = None) -> bytes:
    """The figure as PNG bytes without dates or versions, and closed.

    colours: at most so many, from 2 to 256. With 32 a scatter plot takes less than half the bytes and looks the same.
    """
    from matplotlib import pyplot as plt

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    plt.close(figure)
    if colours is not None:
        few = _few_colours(_opened(buffer.getvalue(), 0, dpi), colours)
        buffer = io.BytesIO()
        few.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


class Film:
    """Pictures and their controls as HTML, in `data`; a notebook shows them, plain text says what they are."""

    def __init__(self, data: str, text: str) -> None:
        self.data, self.text = data, text

    def _repr_html_(self) -> str:
        return self.data

    def __repr__(self) -> str:
        return self.text


def film(
    frames: Iterable[Picture],
    labels: Sequence[str],
    *,
    alt: str,
    name: str = "step",
    fps: float = 4.0,
    descriptions: Sequence[str] | None = None,
    dpi: int = 90,
    limit: int = LIMIT,
) -> Film:
    """A film to play, step through and scrub, without a kernel. The last frame stands first: the result.

    frames: figures (drawn at `dpi`, and closed), PNG bytes of one size, or image batches (B, C, H, W) in [-1, 1]. Give
        figures by a generator, `(draw(x) for x in xs)`: matplotlib warns when 20 are open. Image batches are stored
        pixel for pixel and enlarged on the page, which is the smallest and sharpest film of images.
    labels: what is shown beside each frame, such as "step 500".
    alt: what the film shows, for readers who do not see it. descriptions: what each frame shows, read after its label.
    name: what the slider moves through, for screen readers. fps: frames in a second.
    limit: the most bytes of HTML; more raises a ValueError.

    Frames are WebP in their true colours; where these do not fit into `limit`, in the best 256 of each frame.

    The same frames give the same bytes. A film repeated on one page works twice.
    """
    if not 0 < fps <= 60:
        raise ValueError(f"fps must be frames in a second, above 0 and at most 60; got {fps}")
    texts = _described(labels, descriptions)
    title, start, pause = f"Film of {len(texts)} frames", len(texts) - 1, round(1000 / fps)
    return _film(frames, texts, title=title, start=start, pause=pause, alt=alt, name=name, dpi=dpi, limit=limit)


def slider(
    pictures: Iterable[Picture] | Callable[[Any], Picture],
    values: Sequence[float | str],
    *,
    alt: str,
    name: str,
    unit: str = "",
    start: float | str | None = None,
    descriptions: Sequence[str] | None = None,
    dpi: int = 90,
    limit: int = LIMIT,
) -> Film:
    """A parameter to move over pictures drawn beforehand: temperature, noise level... `show.live` is its live sister.

    pictures: one for each value, or a function that draws the picture of a value; kinds of pictures as in `film`.
    values: numbers, or texts where a number would read badly. name, unit: of the parameter; shown with the value.
    start: the value that stands first, the first one unless given. The other arguments are those of `film`.
    """
    if start is not None and start not in values:
        raise ValueError(f"start must be one of the values {list(values)}; got {start!r}")
    first = 0 if start is None else list(values).index(start)
    texts = _described([_reading(name, value, unit) for value in values], descriptions)
    frames = map(pictures, values) if callable(pictures) else pictures
    title = f"{len(values)} pictures by {name}"
    return _film(frames, texts, title=title, start=first, pause=0, alt=alt, name=name, dpi=dpi, limit=limit)


def _reading(name: str, value: float | str, unit: str) -> str:
    number = value if isinstance(value, str) else f"{value:g}"
    return f"{name} = {number} {unit}".strip()


def _described(labels: Sequence[str], descriptions: Sequence[str] | None) -> list[str]:
    """What is read beside each frame."""
    if blank := [i for i, label in enumerate(labels) if not label.strip()]:
        raise ValueError(f"each frame needs a label that says something; those of frames {blank} are blank")
    if descriptions is None:
        return list(labels)
    if len(descriptions) != len(labels):
        raise ValueError(f"describe each frame or none; got {len(labels)} labels and {len(descriptions)} descriptions")
    return [f"{label}: {text}" if text else label for label, text in zip(labels, descriptions, strict=True)]


def _film(
    frames: Iterable[Picture],
    texts: list[str],
    *,
    title: str,
    start: int,
    pause: int,
    alt: str,
    name: str,
    dpi: int,
    limit: int,
) -> Film:
    """pause: milliseconds between frames; 0 for a slider, which has no play button."""
    if not alt.strip() or not name.strip():
        raise ValueError("say in alt= what the film shows and in name= what its slider moves, for screen readers")
    opened, pixels = [], True
    for number, frame in enumerate(frames):
        opened.append(_opened(frame, number, dpi))
        pixels &= isinstance(frame, Tensor)
    if not opened or len(opened) != len(texts):
        raise ValueError(f"a film needs frames, each with a label; got {len(opened)} frames and {len(texts)} labels")
    sizes = [image.size for image in opened]
    if odd := [i for i, size in enumerate(sizes) if size != sizes[0]]:
        raise ValueError(f"frames must be of one size; frame 0 is {sizes[0]}, frame {odd[0]} is {sizes[odd[0]]}")
    width, height = sizes[0]
    zoom = max(1, 400 // width) if pixels else 1
    encoded = [base64.b64encode(data).decode() for data in _packed(opened)]
    if sum(map(len, set(encoded))) + len(encoded[start]) + ROOM > limit:
        encoded = [base64.b64encode(data).decode() for data in _packed([_few_colours(image, 256) for image in opened])]
    distinct = list(dict.fromkeys(encoded))
    film = {
        "alt": alt,
        "texts": texts,
        "start": start,
        "pause": pause,
        "order": [distinct.index(frame) for frame in encoded],
        "frames": distinct,
    }
    buttons = [("play", "Play"), ("back", "Previous"), ("next", "Next")][0 if pause else 1 :]
    values = {
        "title": title,
        "film": json.dumps(film, separators=(",", ":"), ensure_ascii=False),
        "alt": f"{alt} Shown: {texts[start]}",
        "first": encoded[start],
        "name": name,
        "text": texts[start],
    }
    data = _HTML.format(
        **{key: html.escape(value, quote=True) for key, value in values.items()},
        buttons="".join(_BUTTON.format(do=do, label=label, icon=_ICONS[do]) for do, label in buttons),
        style=_STYLE.strip(),
        script=_SCRIPT.strip(),
        width=width * zoom,
        height=height * zoom,
        room=max(320, width * zoom),
        rendering="pixelated" if pixels else "auto",
        last=len(texts) - 1,
        start=start,
    )
    if (size := len(data.encode())) > limit:
        raise ValueError(
            f"the film takes {size / 1000:.0f} kB of HTML, and limit={limit / 1000:.0f} kB: give fewer frames (now "
            f"{len(distinct)} that differ), a smaller dpi (now {width} x {height} pixels), or image batches in place "
            "of figures of images; or raise the limit"
        )
    return Film(data, f"{title}: {alt}")


def _opened(frame: Picture, number: int, dpi: int) -> Image:
    """A frame as RGB on white."""
    from PIL import Image

    if isinstance(frame, Tensor):
        array = tiles(frame, math.ceil(math.sqrt(len(frame))))
        array = (array + 1) / 2 if array.ndim == 2 else array
        return Image.fromarray((array * 255).round().astype("uint8")).convert("RGB")
    if not isinstance(frame, bytes) and not hasattr(frame, "savefig"):
        kind = type(frame).__name__
        raise TypeError(f"frame {number} must be a figure, PNG bytes or images (B, C, H, W); got {kind}")
    picture = Image.open(io.BytesIO(frame if isinstance(frame, bytes) else png(frame, dpi=dpi))).convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")


def _packed(images: Sequence[Image]) -> list[bytes]:
    """WebP of each picture without loss; the same picture gives the same bytes.

    More effort (quality=100, method=6) makes films at most 3 % smaller, and takes 20 to 200 times as long.
    """
    packed = []
    for image in images:
        buffer = io.BytesIO()
        image.convert("RGB").save(buffer, "WEBP", lossless=True, quality=50, method=4)
        packed.append(buffer.getvalue())
    return packed


def _few_colours(image: Image, colours: int) -> Image:
    """Maximum coverage keeps rare colours, such as one circle on a white ground; k-means then moves it to the means."""
    from PIL import Image

    return image.quantize(colours, method=Image.Quantize.MAXCOVERAGE, kmeans=3)


# Well-formed as XML too (EPUB), hence hidden="hidden" and no "<" or "&" in the script. No ids, so that a page may hold
# the same film twice.
_HTML = """<figure class="minigen-film" role="group" aria-label="{title}" style="margin:0;max-width:{room}px" \
data-film="{film}">
<style>{style}</style>
<img src="data:image/webp;base64,{first}" alt="{alt}" width="{width}" height="{height}" \
style="margin:0;padding:0;background:#fff;image-rendering:{rendering}" />
<div hidden="hidden">{buttons}<input type="range" min="0" max="{last}" value="{start}" step="1" autocomplete="off" \
aria-label="{name}" aria-valuetext="{text}" /></div>
<output aria-live="off">{text}</output>
<script>{script}</script>
</figure>"""

_BUTTON = """<button type="button" data-do="{do}" aria-label="{label}" title="{label}">\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16" width="16" height="16" aria-hidden="true">\
<path fill="currentColor" d="{icon}" /></svg></button>"""

_ICONS = {"play": "M3 1v14l12-7z", "back": "M2 2h2v12H2zM14 2v12L5 8z", "next": "M14 2h-2v12h2zM2 2v12l9-6z"}

# Colours are those of the text around, so that they are legible on a light and on a dark page; the slider's blue keeps
# 3 to 1 on white and on Colab's dark grey. 44 pixels suit a finger.
_STYLE = """
.minigen-film img{display:block;max-width:100%;height:auto}
.minigen-film div:not([hidden]){display:flex;align-items:center;gap:6px;margin:8px 3px 4px}
.minigen-film button{display:grid;place-items:center;flex:none;width:36px;height:36px;margin:0;padding:0;\
border:1px solid;border-radius:6px;background:none;color:inherit;cursor:pointer}
.minigen-film input{flex:1;min-width:60px;height:36px;margin:0 4px;color:inherit;accent-color:#3a86d8;cursor:pointer}
.minigen-film output{display:block;margin:0 3px;min-height:1.5em;font-variant-numeric:tabular-nums}
.minigen-film :focus-visible{outline:3px solid;outline-offset:2px}
@media (max-width:600px),(pointer:coarse){\
.minigen-film button{width:44px}.minigen-film :is(button,input){height:44px}}
@media print{.minigen-film div:not([hidden]){display:none}}
"""

_SCRIPT = """
(() => {
  const icons = {Play: "M3 1v14l12-7z", Pause: "M3 2h4v12H3zM9 2h4v12H9z"};
  const begin = root => {
    if (root.begun) return;
    root.begun = true;
    const film = JSON.parse(root.dataset.film), last = film.texts.length - 1;
    const [image, controls, slider, output] = ["img", "div", "input", "output"].map(tag => root.querySelector(tag));
    let timer = null;
    const show = (n, live) => {
      slider.value = n;  // a range keeps to its ends
      const text = film.texts[slider.value];
      image.src = "data:image/webp;base64," + film.frames[film.order[slider.value]];
      image.alt = film.alt + " Shown: " + text;
      slider.setAttribute("aria-valuetext", text);
      output.setAttribute("aria-live", live);  // said aloud after a button, not while it plays; a slider speaks itself
      output.textContent = text;
    };
    const run = on => {
      clearInterval(timer);
      timer = on ? setInterval(tick, film.pause) : null;
      const play = root.querySelector("[data-do=play]"), name = on ? "Pause" : "Play";
      if (!play) return;
      play.setAttribute("aria-label", name);
      play.title = name;
      play.querySelector("path").setAttribute("d", icons[name]);
    };
    const step = by => { run(false); show(+slider.value + by, "polite"); };
    const tick = () => +slider.value + 1 === last ? step(1) : show(+slider.value + 1, "off");
    const actions = {
      back: () => step(-1),
      next: () => step(1),
      play: () => {
        if (timer) return step(0);
        if (+slider.value === last) show(0, "off");
        run(last !== 0);
      },
    };
    const buttons = root.querySelectorAll("button");
    buttons.forEach(button => button.addEventListener("click", actions[button.dataset.do]));
    slider.addEventListener("input", () => { run(false); show(slider.value, "off"); });
    // JupyterLab's own shortcuts would take the arrow keys and Enter.
    [slider, ...buttons].forEach(control => control.dataset.lmSuppressShortcuts = "true");
    show(film.start, "off");
    controls.hidden = false;
  };
  const all = () => document.querySelectorAll("figure.minigen-film[data-film]").forEach(begin);
  all();
  // Some notebooks run a script before they insert it. While a page is being read, the next film is not yet whole.
  if (document.readyState !== "loading") setTimeout(all);
})();
"""
