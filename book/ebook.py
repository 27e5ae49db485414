"""The book as an EPUB: formulas as MathML, films as their last picture, solutions at the end of each chapter.

A reading device runs no scripts and has no network. `make epub` builds it from the same pages as the web book.
"""

import base64
import hashlib
import io
import posixpath
import re
from pathlib import Path

from docutils.nodes import SkipNode
from latex2mathml.converter import convert
from PIL import Image
from sphinx.builders.epub3 import Epub3Builder

FILM = re.compile(r'<figure class="minigen-film".*?</figure>', re.DOTALL)
PANEL = re.compile(r'src="data:image/png;base64,([^"]+)"')
FIRST = re.compile(r'<img src="data:image/(?:png|webp);base64,([^"]+)"(.*?)/>', re.DOTALL)
SHOWN = re.compile(r"<output[^>]*>(.*?)</output>", re.DOTALL)
SOLUTION = re.compile(r'<details class="solution"><summary>(.*?)</summary>(.*?)</details>', re.DOTALL)
TAG = re.compile(r"\\tag\{([^}]*)\}")
# Sizes that TeX wants to be told; MathML's fences grow by themselves.
SIZE = re.compile(r"\\[bB]igg?[lrm]?(?![A-Za-z])")
ITEM = re.compile(r'<item id="epub-\d+" href="([^"]+\.xhtml)"')
WEB_PAGE = re.compile(r'(href="(?!\w+:)[^"#]+)\.html(["#])')
# What the converter leaves to be said: one sign for two characters, the kind of a sign, and the space after a function.
REPAIRS = [
    (re.compile("<mi>:</mi><mo>&#x0003D;</mo>"), "<mo>:=</mo>"),
    (re.compile("<mi>&#x0007E;</mi>"), "<mo>&#x0223C;</mo>"),
    (re.compile(r"(<mo[^>]*>(?!&#x0(?:0029|005D|007C|2016);)[^<]+</mo>|<mspace[^>]*/>)<mo>&#x02212;</mo>"),
     r'\1<mo form="prefix">&#x02212;</mo>'),
    (re.compile(r"(?<!sub>)(?<!sup>)(?<!under>)(?<!over>)(<m([io])>(?:log|exp|min|max|inf|sup|det)</m\2>)(?=<m(?:[inst]|over|under|frac))"),
     r'\1<mspace width="0.17em" />'),
]  # fmt: skip
STYLES = {"ebook.css", "pygments.css"}
LAYOUT = re.compile(r"\\(begin|end)\{equation\*?\}|\\(label|nonumber)\b(\{[^}]*\})?")


def mathml(tex: str, *, display: bool) -> str:
    """A formula as MathML; the number of a displayed one stands after it. An unknown command raises a ValueError."""
    number = TAG.search(tex)
    body = SIZE.sub("", LAYOUT.sub("", TAG.sub("", tex))).strip().replace("{aligned}", "{split}")  # what convert knows
    markup = convert(body, display="block" if display else "inline")
    if unknown := re.findall(r"\\[A-Za-z]+", re.sub(r"<[^>]*>", " ", markup)):
        raise ValueError(f"no MathML for {', '.join(unknown)} in {body!r}; write it otherwise, or add it to SIZE")
    for wrong, right in REPAIRS:
        markup = wrong.sub(right, markup)
    return markup + (f' <span class="eqno">({number[1]})</span>' if number else "")


def visit_inline(translator, node) -> None:
    translator.body.append(mathml(node.astext(), display=False))
    raise SkipNode


def visit_block(translator, node) -> None:
    opening = translator.starttag(node, "div", CLASS="math")  # with the place that links to the equation lead to
    translator.body.append(f"{opening}{mathml(node.astext(), display=True)}</div>\n")
    raise SkipNode


def still(film: str, images: Path) -> str:
    """The picture that a film shows first, as a file in `images`, and what is shown."""
    data, attributes = FIRST.search(film).groups()
    buffer = io.BytesIO()
    Image.open(io.BytesIO(base64.b64decode(data))).save(buffer, "PNG", optimize=True)  # older readers know no WebP
    png = buffer.getvalue()
    name = f"film-{hashlib.sha256(png).hexdigest()[:16]}.png"
    store(png, images / name)
    picture = f'<p><img src="../{images.name}/{name}"{attributes}/></p>'
    return f"{picture}<p>Shown: {SHOWN.search(film)[1]}. The web book plays the film.</p>"


def store(png: bytes, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(png)


def panel(data: str, images: Path) -> str:
    """A panel of a row as a file in `images`: readers differ in what they make of a picture inside of a page."""
    png = base64.b64decode(data)
    name = f"panel-{hashlib.sha256(png).hexdigest()[:16]}.png"
    store(png, images / name)
    return f'src="../{images.name}/{name}"'


def still_page(body: str, images: Path) -> str:
    """A page for a device without scripts: films stand still, and solutions follow at the end."""
    body = WEB_PAGE.sub(r"\1.xhtml\2", body)
    body = FILM.sub(lambda match: still(match[0], images), body)
    body = PANEL.sub(lambda match: panel(match[1], images), body)
    solutions = SOLUTION.findall(body)
    body = SOLUTION.sub("<p>(Solution at the end of the chapter.)</p>", body)
    if not solutions:
        return body
    listed = "".join(f"<h3>{title}</h3>{text}" for title, text in solutions)
    return f"{body}<section><h2>Solutions</h2>{listed}</section>"


class Ebook(Epub3Builder):
    """Sphinx's builder, mended where the front page stands in a folder and where pages hold MathML."""

    def init(self) -> None:
        # No scripts, and none of the web book's styles.
        self.config.html_static_path, self.config.html_extra_path = ["_epub"], []
        super().init()

    def get_toc(self) -> None:
        super().get_toc()
        for item in self.refnodes:
            item["refuri"] = posixpath.normpath(item["refuri"])

    def build_content(self) -> None:
        super().build_content()
        package = Path(self.outdir) / "content.opf"
        package.write_text(ITEM.sub(self.with_properties, package.read_text("utf-8")), encoding="utf-8")

    def with_properties(self, item: re.Match[str]) -> str:
        """A page of the package's list, which has to say where MathML and drawings are used."""
        page = (Path(self.outdir) / item[1]).read_text(encoding="utf-8")
        used = [name for name, sign in (("mathml", "<math"), ("svg", "<svg")) if sign in page]
        return item[0] + (f' properties="{" ".join(used)}"' if used else "")


def simplify(app, pagename, templatename, context, doctree) -> None:
    if app.builder.name == "epub" and "body" in context:
        context["body"] = still_page(context["body"], Path(app.outdir) / app.builder.imagedir)
        context["css_files"] = [file for file in context["css_files"] if Path(str(file.filename)).name in STYLES]


def setup(app) -> dict[str, bool]:
    app.add_builder(Ebook, override=True)
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    app.add_config_value("epub_math_renderer", "mathml", "")
    app.connect("html-page-context", simplify, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
