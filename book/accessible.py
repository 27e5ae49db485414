"""Mend what Sphinx and the theme write in a way that screen readers or keyboards cannot use.

Each mend answers one rule of axe-core, which tests/test_browser.py runs on every page.
"""

import re
from pathlib import Path

PARAMETERS = re.compile(r"<dl>(\s*<dd><em class=\"sig-param\">.*?)</dl>", re.DOTALL)


def mended(body: str) -> str:
    """The HTML of a page's text with lists that are lists."""
    # definition-list: a long signature stands as a list of descriptions of nothing.
    body = PARAMETERS.sub(lambda match: f'<div class="sig-params">{lines(match[1])}</div>', body)
    # list: the index of source files nests a list beside the entry that it belongs to.
    body = re.sub(r"</li>\s*<ul>", "<ul>", body)
    # label-content-name-mismatch: a folded cell says what it shows; another name would hide that.
    body = body.replace('<summary aria-label="Toggle hidden content">', "<summary>")
    # aria-required-children: a list's entries, in place of a role that is deprecated.
    return body.replace('role="doc-biblioentry"', 'role="listitem"')


def lines(parameters: str) -> str:
    return parameters.replace("<dd>", "<div>").replace("</dd>", "</div>")


def mend_page(app, pagename, templatename, context, doctree) -> None:
    if "body" in context:
        context["body"] = mended(context["body"])


def add_templates(app, config) -> None:
    config.templates_path.append(str(Path(__file__).parent / "_templates"))


def add_script(app) -> None:
    if app.builder.name == "html":
        app.add_js_file("book.js", loading_method="defer")  # scrollable-region-focusable


def setup(app) -> dict[str, bool]:
    app.connect("config-inited", add_templates)
    app.connect("builder-inited", add_script)
    app.connect("html-page-context", mend_page)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
