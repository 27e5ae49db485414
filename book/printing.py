"""Print the built book, a PDF for each page: python book/printing.py book/_build/html book/_build/pdf [NAME ...]

Films stand still, and solutions follow at the end. It needs Chromium or Chrome; MINIGEN_BROWSER names another.
"""

from __future__ import annotations

import os
import shutil
import sys
from html import escape
from pathlib import Path

BROWSERS = ["chromium", "chromium-browser", "google-chrome"]
TYPESET = "async () => { if (window.MathJax?.startup) await MathJax.startup.promise }"
READY = "async () => { await document.fonts.ready; await Promise.all([...document.images].map(i => i.decode())) }"
# On paper nothing unfolds: solutions stand at the end, under their own heading.
UNFOLD = """() => {
  const solutions = [...document.querySelectorAll("details.solution")], article = document.querySelector("article");
  if (!solutions.length) return 0;
  const end = document.createElement("section");
  end.innerHTML = "<h2>Solutions</h2>";
  for (const solution of solutions) {
    const title = document.createElement("h3");
    title.textContent = solution.querySelector("summary").textContent;
    solution.querySelector("summary").remove();
    end.append(title, ...solution.childNodes);
    solution.remove();
  }
  article.append(end);
  return solutions.length;
}"""
LINE = "width: 100%; margin: 0 18mm; font: 7pt sans-serif; display: flex; justify-content: space-between"
FOOT = f"""<div style="{LINE}"><span>{{title}}</span><span class="pageNumber"></span></div>"""


def browser() -> str | None:
    """The path of a browser that can print, or None."""
    names = [os.environ.get("MINIGEN_BROWSER"), *BROWSERS]
    return next((path for name in names if name and (path := shutil.which(name))), None)


def print_page(tab, source: Path, target: Path) -> None:
    """Write one built page as a tagged PDF with an outline; `tab` is a page of a headless browser."""
    tab.goto(source.resolve().as_uri())
    tab.evaluate(TYPESET)
    tab.evaluate(READY)
    tab.evaluate(UNFOLD)
    foot = FOOT.format(title=escape(tab.title().removesuffix(" — minigen")))
    margin = {"top": "16mm", "bottom": "18mm", "left": "18mm", "right": "18mm"}
    data = tab.pdf(
        format="A4", margin=margin, display_header_footer=True, header_template="<span></span>", footer_template=foot,
        tagged=True, outline=True, print_background=True,
    )  # fmt: skip
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(".part")
    partial.write_bytes(data)
    partial.replace(target)


def main(html: Path, out: Path, names: list[str]) -> int:
    pages = sorted([*html.glob("chapters/*.html"), *html.glob("book/**/*.html")])
    if not pages:
        sys.exit(f"no pages in {html}: build the book first, with make book")
    if unknown := set(names) - {page.stem for page in pages}:
        sys.exit(f"no page {', '.join(sorted(unknown))}; there are {', '.join(page.stem for page in pages)}")
    if not (path := browser()):
        sys.exit("no browser to print with: install chromium, or name one in MINIGEN_BROWSER")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        tab = chromium.new_page(color_scheme="light")
        for page in pages:
            if not names or page.stem in names:
                print_page(tab, page, out / f"{page.stem}.pdf")
                print(out / f"{page.stem}.pdf")
        chromium.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]))
