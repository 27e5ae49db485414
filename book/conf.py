"""Sphinx configuration: sphinx-build -W --keep-going -q -c book -b html . book/_build/html

The source directory is the repository root, so that chapters, pages and the library are found where readers see them.
Chapters are built from their stored outputs; nothing is executed here, and no page asks anything of another server.
"""

import hashlib
import sys
import tomllib
from pathlib import Path

BOOK = Path(__file__).parent
ROOT = BOOK.parent
sys.path[:0] = [str(BOOK), str(ROOT)]

import apidoc  # noqa: E402
import pages  # noqa: E402
import portable  # noqa: E402
import records  # noqa: E402

project = "minigen"
author = "The minigen authors"
version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
copyright = "The minigen authors. Text CC BY 4.0, code MIT"
root_doc = "book/index"
include_patterns = ["book/*.md", "book/api/*.md", "chapters/*.ipynb"]
exclude_patterns = ["book/_build", "book/_static", "**/.ipynb_checkpoints"]
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.viewcode",
    "sphinx.ext.mathjax",
    "sphinxcontrib.bibtex",
    "sphinx_copybutton",
    "accessible",
    "contents",
    "ebook",
]

nb_execution_mode = "off"
nb_merge_streams = True
nb_ipywidgets_js = {}
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3
bibtex_bibfiles = ["references.bib"]
bibtex_default_style = "plain"

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints = "signature"
autodoc_default_options = {"members": True}
add_module_names = False
maximum_signature_line_length = 88
default_role = "code"

html_theme = "sphinx_book_theme"
html_title = "minigen"
html_static_path = ["_static"]
html_extra_path = ["_extra"]
html_css_files = ["book.css"]
html_favicon = "_static/favicon.svg"
html_use_index = False
html_domain_indices = False
html_copy_source = True
html_show_sourcelink = False
html_show_search_summary = False  # it is fetched page by page, which a browser refuses for file://
html_context = {"default_mode": "auto"}
html_theme_options = {
    "path_to_docs": "",
    "navbar_persistent": [],
    "search_bar_text": "Search the book",
    "show_navbar_depth": 1,
    "max_navbar_depth": 1,  # the pages of the library stand in its own list
    "show_toc_level": 2,
    "home_page_in_toc": True,
    "use_download_button": True,
    "use_fullscreen_button": False,
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
copybutton_exclude = ".linenos, .gp, .go"

epub_title = "Image generation, where every equation runs"
epub_description = "A textbook on image generation whose equations are checked by running them."
epub_publisher = "minigen"
epub_identifier = epub_uid = "minigen"
epub_tocdepth = 2
epub_tocscope = "includehidden"  # the table of contents as the package has it, not read again from the front page
epub_show_urls = "no"
epub_use_index = False
epub_css_files = ["ebook.css"]
epub_exclude_files = ["search.html", ".buildinfo", ".nojekyll"]

html_math_renderer = "mathjax"
mathjax_path = "mathjax/tex-chtml.js"
mathjax_config_path = "mathjax.js"
# The menu would load parts that the book does not carry, and makes every formula a stop of the Tab key.
mathjax3_config = {"options": {"enableMenu": False}}


def upgrade_source(app, docname, source):
    """Rewrite a page's text before it is parsed."""
    if docname.startswith("chapters/"):
        source[0] = portable.upgrade_notebook(source[0], app.config.book_tags.keys())
    if docname.startswith("book/api/"):
        listed = apidoc.directives(ROOT / "minigen", Path(docname).name)
        source[0] = source[0].replace("<!-- modules -->", listed)
    if docname == "book/errata":
        source[0] = pages.fill(source[0], BOOK)


def upgrade_docstring(app, what, name, obj, options, lines):
    pages = {tag: f"../../chapters/{chapter}.html" for tag, chapter in app.config.book_tags.items()}
    html = apidoc.docstring_html("\n".join(lines), pages)
    lines[:] = [".. raw:: html", "", *(f"    {line}" for line in html.splitlines()), ""]


def drop_unused(app, exception):
    """Remove what the theme copies and no reader's browser asks for: 4 of 11 MB."""
    static = Path(app.outdir) / "_static"
    for path in [*static.rglob("*.map"), *static.glob("locales/**/*.[mp]o")]:
        path.unlink()


def setup(app):
    # As configuration values: when one of them changes, Sphinx reads every page again.
    app.add_config_value("book_tags", portable.known_tags(ROOT / "chapters"), "env")
    app.add_config_value("book_modules", apidoc.modules(ROOT / "minigen"), "env")
    names = ("portable.py", "records.py", "apidoc.py", "pages.py", "contents.py", "errata.toml")
    files = [*(BOOK / name for name in names), *sorted(records.RESULTS.glob("bands_*.json"))]
    rewriters = b"".join(file.read_bytes() for file in files)
    app.add_config_value("book_rewriters", hashlib.sha256(rewriters).hexdigest(), "env")
    app.connect("source-read", upgrade_source)
    app.connect("autodoc-process-docstring", upgrade_docstring)
    app.connect("build-finished", drop_unused)
