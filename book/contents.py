"""The parts and chapters of the book, written and planned, as the front page and the sidebar show them.

`chapters.toml` lists them; a chapter is written as soon as its file exists. Nobody counts by hand.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from pathlib import Path

BOOK = Path(__file__).parent


@dataclass(frozen=True)
class Chapter:
    """One chapter. name: of its file without the ending, such as "02_minimax"; empty while it is planned."""

    number: int
    title: str
    name: str

    @property
    def heading(self) -> str:
        return f"{self.number}. {self.title}"


@dataclass(frozen=True)
class Part:
    """A part of the book, with its chapters in their order."""

    title: str
    chapters: tuple[Chapter, ...]


def parts(book: Path = BOOK) -> list[Part]:
    """The parts of the book. book: the folder of `chapters.toml`, beside which the folder `chapters` stands."""
    written = {path.stem[:2]: path.stem for path in (book.parent / "chapters").glob("[0-9][0-9]_*.md")}
    listed = tomllib.loads((book / "chapters.toml").read_text(encoding="utf-8"))["part"]
    return [
        Part(
            part["title"],
            tuple(Chapter(int(number), title, written.get(number, "")) for number, title in part["chapters"].items()),
        )
        for part in listed
    ]


def counted(book: Sequence[Part]) -> str:
    """The sentence that says how many chapters there are."""
    chapters = [chapter for part in book for chapter in part.chapters]
    written = sum(bool(chapter.name) for chapter in chapters)
    if written == len(chapters):
        return f"All {written} chapters are written."
    return f"Of the book's {len(chapters)} chapters {written} are written; the others are planned."


def listing(book: Sequence[Part]) -> str:
    """The map of the front page, in Markdown: each part with its chapters, of which the planned ones lead nowhere."""
    lines = ["::::{container} chapter-map", ""]
    for part in book:
        lines += [":::{container} chapter-part", "", f"```{{rubric}} {part.title}", ":heading-level: 3", "```", ""]
        for chapter in part.chapters:
            if chapter.name:
                lines += [f"- [{chapter.heading}](../chapters/{chapter.name}.ipynb)"]
            else:
                lines += [f'- <span class="planned">{escape(chapter.heading)} (planned)</span>']
        lines += ["", ":::", ""]
    return "\n".join([*lines, "::::", ""])


def trees(book: Sequence[Part]) -> str:
    """The tables of contents that Sphinx orders the pages by, one for each part that has a written chapter."""
    blocks = []
    for part in book:
        if pages := [f"../chapters/{chapter.name}" for chapter in part.chapters if chapter.name]:
            options = [f":caption: {part.title}", ":hidden:", ":maxdepth: 1"]
            blocks += ["\n".join(["```{toctree}", *options, "", *pages, "```", ""])]
    return "\n".join(blocks)


def fill(text: str, book: Sequence[Part]) -> str:
    """The front page with its count and its map."""
    text = text.replace("<!-- counted -->", counted(book))
    return text.replace("<!-- chapters -->", listing(book) + "\n" + trees(book))


def with_planned(nav, book: Sequence[Part]):
    """The sidebar (a BeautifulSoup) with the planned chapters in their places, as text that is no link."""
    last = None
    for part in book:
        captions = [p for p in nav.find_all("p", class_="caption") if p.get_text(strip=True) == part.title]
        if captions:
            listed = captions[0].find_next_sibling("ul")
        else:  # Sphinx knows no part without a page
            caption = nav.new_tag("p", attrs={"class": "caption", "role": "heading", "aria-level": "2"})
            label = nav.new_tag("span", attrs={"class": "caption-text"})
            label.string = part.title
            caption.append(label)
            listed = nav.new_tag("ul", attrs={"class": "nav bd-sidenav"})
            if last is None:
                nav.insert(0, caption)
            else:
                last.insert_after(caption)
            caption.insert_after(listed)
        entries = iter(listed.find_all("li", recursive=False))
        before = None
        for chapter in part.chapters:
            if chapter.name:
                before = next(entries)
                continue
            entry = nav.new_tag("li", attrs={"class": "toctree-l1 planned"})
            label = nav.new_tag("span")
            label.string = chapter.heading
            said = nav.new_tag("span", attrs={"class": "visually-hidden"})  # others see that it is pale
            said.string = " (planned)"
            label.append(said)
            entry.append(label)
            if before is None:
                listed.insert(0, entry)
            else:
                before.insert_after(entry)
            before = entry
        last = listed
    return nav


def share_trees(app, pagename, templatename, context, doctree) -> None:
    """Make the table of contents once for all pages of source code in folders as deep: it takes a third of the build.

    No table lists such a page, so what is shown in it depends only on how far up the pages of the book are.
    """
    if "toctree" in context and pagename not in app.env.all_docs:
        made = app.builder.__dict__.setdefault("book_trees", {})
        make, place = context["toctree"], (pagename.split("/")[0], pagename.count("/"))

        def toctree(**options):
            key = (*place, *sorted(options.items()))
            if key not in made:
                made[key] = make(**options)
            return made[key]

        context["toctree"] = toctree


def show_planned(app, pagename, templatename, context, doctree) -> None:
    if "generate_toctree_html" in context:
        theirs, book = context["generate_toctree_html"], parts()

        @cache  # the theme returns the same object for the same question, which must not be filled twice
        def generate(*arguments, **options):
            return with_planned(theirs(*arguments, **options), book)

        context["generate_toctree_html"] = generate


def fill_front_page(app, docname, source) -> None:
    if docname == app.config.root_doc:
        source[0] = fill(source[0], parts())


def setup(app) -> dict[str, bool]:
    # As a configuration value: when a chapter is added or renamed, Sphinx reads every page again.
    app.add_config_value("book_chapters", [repr(part) for part in parts()], "env")
    app.connect("source-read", fill_front_page)
    app.connect("html-page-context", share_trees, priority=890)
    app.connect("html-page-context", show_planned, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
