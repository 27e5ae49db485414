"""Films and sliders in a page opened from disk: they play, scrub, obey the keyboard and can be read by everybody."""

from __future__ import annotations

import base64
import io
import re

import pytest
from PIL import Image

from minigen import show

ALT = "A cloud of dots gathers in eight circles."
LABELS = ["step 1", "step 10", "step 100"]
GREYS = [0, 100, 200]


def grey(value: float) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (20, 10), int(value)).save(buffer, "PNG")
    return buffer.getvalue()


FILM = show.film(map(grey, GREYS), LABELS, alt=ALT, fps=20)
LONG = show.film(map(grey, GREYS * 20), LABELS * 20, alt=ALT, fps=8)
SLIDER = show.slider(map(grey, GREYS), [0.5, 1.0, 2.0], alt=ALT, name="temperature", start=1.0)
pytestmark = pytest.mark.browser


@pytest.fixture
def opened(chromium, tmp_path):
    """open(*films, **context) shows films in a page opened from disk; at the end nothing may have gone wrong there."""
    problems, contexts = [], []

    def open_page(*films: show.Film, before: str = "", **context):
        path = tmp_path / "page.html"
        body = "\n".join(film.data for film in films)
        path.write_text(
            f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
            f"<title>Films</title>{before}<main>{body}</main></html>",
            encoding="utf-8",
        )
        contexts.append(chromium.new_context(**context))
        page = contexts[-1].new_page()
        page.on("console", lambda message: problems.append(message.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", lambda r: r.url.startswith(("file:", "data:")) or problems.append(r.url))
        page.goto(path.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert problems == []


def shown(page, number: int = 0) -> tuple[int, str]:
    """The grey of the picture that a film shows, and the text beside it, which a screen reader must hear too."""
    figure = page.locator("figure").nth(number)
    text = figure.locator("output").text_content()
    assert figure.locator("input").get_attribute("aria-valuetext") == text
    assert figure.locator("img").get_attribute("alt") == f"{ALT} Shown: {text}"
    picture = base64.b64decode(figure.locator("img").get_attribute("src").split(",")[1])
    return Image.open(io.BytesIO(picture)).convert("L").getpixel((0, 0)), text


def test_a_film_plays_to_its_end_and_again(opened) -> None:
    page = opened(FILM)
    page.evaluate("""() => {
      const output = document.querySelector("output"), play = document.querySelector("button");
      window.texts = [];
      window.names = [];
      new MutationObserver(() => texts.push([output.textContent, output.ariaLive])).observe(output, {childList: true});
      new MutationObserver(() => names.push(play.ariaLabel)).observe(play, {attributeFilter: ["aria-label"]});
    }""")
    for _ in range(2):
        page.get_by_role("button", name="Play").click()
        page.wait_for_function("names.at(-1) === 'Play'")
        assert page.evaluate("names.splice(0)") == ["Pause", "Play"]
        # Silent while it plays; where it ends is said.
        assert page.evaluate("texts.splice(0)") == [["step 1", "off"], ["step 10", "off"], ["step 100", "polite"]]
        assert shown(page) == (200, "step 100")
    page.wait_for_timeout(150)
    assert page.evaluate("texts") == [], "the clock stands"


def test_a_film_never_starts_by_itself_and_pauses(opened) -> None:
    page = opened(LONG)
    page.wait_for_timeout(300)
    assert page.locator("input").input_value() == "59"
    page.get_by_role("button", name="Play").click()
    page.wait_for_function("+document.querySelector('input').value === 2")
    page.get_by_role("button", name="Pause").click()
    value = page.locator("input").input_value()
    page.wait_for_timeout(300)
    assert page.locator("input").input_value() == value
    page.get_by_role("button", name="Play").click()
    page.wait_for_function(f"+document.querySelector('input').value > {value}")
    page.locator("input").press("ArrowLeft")
    assert page.get_by_role("button", name="Play").count() == 1, "scrubbing pauses"


def test_a_film_is_stepped_through_and_keeps_to_its_ends(opened) -> None:
    page = opened(FILM)
    back, forward = (page.get_by_role("button", name=name) for name in ("Previous", "Next"))
    forward.click()
    assert shown(page) == (200, "step 100")
    back.click()
    assert shown(page) == (100, "step 10")
    assert page.locator("output").get_attribute("aria-live") == "polite"
    back.click()
    back.click()
    assert shown(page) == (0, "step 1")
    forward.click()
    assert shown(page) == (100, "step 10")


def test_the_keyboard_is_enough(opened) -> None:
    page = opened(FILM, SLIDER)
    reached = []
    for _ in range(7):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.ariaLabel"))
        width = page.evaluate("parseFloat(getComputedStyle(document.activeElement).outlineWidth)")
        assert width >= 2, "focus is seen"
    assert reached == ["Play", "Previous", "Next", "step", "Previous", "Next", "temperature"]
    assert shown(page, 1) == (100, "temperature = 1")
    for key, expected in [("End", 200), ("ArrowLeft", 100), ("Home", 0), ("ArrowUp", 100), ("PageDown", 0)]:
        page.keyboard.press(key)
        assert shown(page, 1)[0] == expected, key


def test_keys_play_and_pause(opened) -> None:
    page = opened(LONG)
    page.get_by_role("button", name="Play").focus()
    for key, name in [("Space", "Pause"), ("Enter", "Play"), ("Enter", "Pause"), ("Space", "Play")]:
        page.keyboard.press(key)
        page.get_by_role("button", name=name).wait_for()


def test_a_screen_reader_hears_what_the_controls_belong_to(opened) -> None:
    page = opened(FILM, SLIDER)
    assert page.get_by_role("group", name="Film of 3 frames").get_by_role("button").count() == 3
    assert page.get_by_role("group", name="3 pictures by temperature").get_by_role("slider").count() == 1


def test_equal_films_on_one_page_work_each_for_itself(opened) -> None:
    page = opened(FILM, FILM, SLIDER)
    page.get_by_role("button", name="Previous").nth(1).click()
    assert shown(page, 0) == (200, "step 100")
    assert shown(page, 1) == (100, "step 10")
    page.get_by_role("slider", name="temperature").press("End")
    assert shown(page, 2) == (200, "temperature = 2")
    assert shown(page, 1) == (100, "step 10")


def test_a_film_works_however_a_notebook_inserts_it(opened) -> None:
    page = opened()
    in_place = """data => {
      const box = document.createElement("div");
      box.innerHTML = data;
      const old = box.querySelector("script"), script = document.createElement("script");
      script.textContent = old.textContent;
      old.replaceWith(script);
      document.body.append(box);
    }"""
    before_it = """data => {
      const box = document.createElement("div");
      box.innerHTML = data;
      (0, eval)(box.querySelector("script").textContent);
      document.body.append(box);
    }"""
    for number, insert in enumerate((in_place, before_it)):
        page.evaluate(insert, FILM.data)
        page.get_by_role("button", name="Previous").nth(number).click()
        assert shown(page, number) == (100, "step 10")


def test_a_film_waits_until_the_page_has_been_read(opened) -> None:
    """A long page comes in pieces: the first film must not begin the second before its controls have arrived."""
    page = opened()
    cut = len(FILM.data) + FILM.data.index("<img")
    page.evaluate(
        """async ([first, rest]) => {
          document.open();
          document.write(first);
          await new Promise(resolve => setTimeout(resolve, 100));
          document.write(rest);
          document.close();
        }""",
        [(FILM.data * 2)[:cut], (FILM.data * 2)[cut:]],
    )
    for number in range(2):
        page.get_by_role("button", name="Previous").nth(number).click()
        assert shown(page, number) == (100, "step 10")


def test_a_film_that_a_notebook_has_cleaned_stands_still_and_stops_no_other(opened) -> None:
    """JupyterLab takes scripts and data-film from the stored outputs of a notebook that it does not trust."""
    cleaned = re.sub(r"<(script|style)>.*?</\1>| data-film=\"[^\"]*\"", "", FILM.data, flags=re.DOTALL)
    page = opened(show.Film(cleaned, ""), FILM)
    assert page.locator("figure").first.locator("img").is_visible()
    assert page.get_by_role("button").count() == 3, "the other's"
    page.get_by_role("button", name="Previous").click()
    assert shown(page, 1) == (100, "step 10")


def test_the_shortcuts_of_jupyterlab_keep_off(opened) -> None:
    """It looks for a shortcut from the element with the focus upwards, and this attribute stops it where it stands."""
    page = opened(FILM)
    for control in page.locator("button, input").all():
        assert control.get_attribute("data-lm-suppress-shortcuts") == "true"


def test_without_scripts_the_result_stands(opened) -> None:
    page = opened(FILM, java_script_enabled=False)
    assert page.locator("img").is_visible()
    assert page.locator("output").text_content() == "step 100"
    assert not page.locator("button, input").first.is_visible()


def test_print_shows_the_picture_alone(opened) -> None:
    page = opened(FILM)
    page.emulate_media(media="print")
    assert page.locator("img").is_visible()
    assert not page.locator("button, input").first.is_visible()


def test_a_finger_hits_the_controls_of_a_phone(opened) -> None:
    page = opened(FILM, SLIDER, viewport={"width": 390, "height": 844}, has_touch=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    for control in page.locator("button, input").all():
        box = control.bounding_box()
        assert box["height"] >= 44
        assert box["width"] >= 44
    page.get_by_role("button", name="Previous").first.tap()
    assert shown(page) == (100, "step 10")


LEGIBLE = r"""() => {
  const channel = v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const light = colour => colour.match(/[\d.]+/g).slice(0, 3).map(Number).map(channel)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0.05);
  const ground = light(getComputedStyle(document.body).backgroundColor);
  const ratio = colour => Math.max(light(colour), ground) / Math.min(light(colour), ground);
  return ["output", "button", "input"].map(tag => getComputedStyle(document.querySelector(tag)))
    .map((style, i) => ratio(i === 2 ? style.accentColor : style.color));
}"""


@pytest.mark.parametrize(
    "colours", ["#fff;color:#323232", "#14181e;color:#ced6dd", "#111;color:#fff", "#383838;color:#d5d5d5"]
)
def test_text_and_controls_are_legible_on_light_and_dark_pages(opened, colours: str) -> None:
    """WCAG 2.2: text 4.5 to 1 (1.4.3), what is not text 3 to 1 (1.4.11). The book, JupyterLab's dark theme, Colab's."""
    text, button, slider = opened(FILM, before=f"<style>body{{background:{colours}}}</style>").evaluate(LEGIBLE)
    assert text >= 4.5
    assert button >= 4.5
    assert slider >= 3
