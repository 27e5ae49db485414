"""The library's reference from its docstrings: plain text with backticks, which need not be valid reStructuredText."""

import re
from collections.abc import Mapping
from html import escape
from pathlib import Path
from textwrap import dedent

HEAD = re.compile(r"[A-Z]\w+:")
ITEM = re.compile(r"- |(?P<name>\w+(, \w+)*): ")
MARKUP = re.compile(
    r"(`{1,2})(?P<code>[^`]+)\1"
    r"|(?<![\w*])(\*{1,2})(?P<stress>\w[^*\n]*)(?<=\S)\3(?![\w*])"
    r"|arXiv:(?P<paper>\d{4}\.\d{4,5})"
    r"|\((?P<tag>\d+\.\d+[a-z]?)\)"
)


def modules(package: Path) -> list[str]:
    """Dotted names of the public modules that hold any code."""
    names = []
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        if path.name != "__init__.py" and not any(part.startswith("_") for part in parts):
            names.append(".".join(parts))
    return names


def page_of(name: str) -> str:
    """The page of a module: its room in the library; what is graded has a page of its own."""
    parts = name.split(".")
    return "contracts" if "contracts" in parts else parts[1]


def directives(package: Path, page: str) -> str:
    """MyST source: a section for each module of a page."""
    lines = []
    for name in modules(package):
        if page_of(name) == page:
            lines += [f"## {name}", "", "```{eval-rst}", f".. automodule:: {name}", "```", ""]
    return "\n".join(lines)


def blocks(text: str) -> list[list[str]]:
    """The blocks of a docstring; what is indented stays with the heading or the indented lines before it."""
    found: list[list[str]] = []
    blank = True
    for line in text.splitlines():
        if not line.strip():
            blank = True
            continue
        first = found[-1][0] if found else ""
        stays = line.startswith(" ") and (first.startswith(" ") or HEAD.fullmatch(first))
        if (blank and not stays) or (line.startswith("- ") and not first.startswith("- ")):
            found.append([])
        elif blank:
            found[-1].append("")
        found[-1].append(line)
        blank = False
    return found


def docstring_html(text: str, pages: Mapping[str, str]) -> str:
    """A docstring as HTML; ``pages`` maps an equation's tag to the address of the page that derives it.

    Paragraphs flow; lines that open with ``- `` or ``name: `` are items; ``Args:`` or another such word alone heads
    what is indented under it; anything else that is indented, and an example (``>>>``), stands as it is.
    """
    html = []
    for first, *rest in blocks(text):
        whole = "\n".join([first, *rest])
        if first.startswith((" ", ">>> ")):
            html.append(f"<pre>{escape(dedent(whole), quote=False)}</pre>")
        elif HEAD.fullmatch(first) and rest:
            html.append(f'<p class="rubric">{first[:-1]}</p>\n{docstring_html(dedent(chr(10).join(rest)), pages)}')
        elif ITEM.match(first):
            items = []
            for line in [first, *rest]:
                if item := ITEM.match(line):
                    name = f"<code>{item['name']}</code>: " if item["name"] else ""
                    items.append(f"<li>{name}{inline(line[item.end() :], pages)}")
                else:
                    items[-1] += "\n" + inline(line.strip(), pages)
            html.append("<ul>" + "".join(f"{item}</li>" for item in items) + "</ul>")
        else:
            html.append(f"<p>{inline(re.sub(r'::$', ':', whole), pages)}</p>")
    return "\n".join(html)


def inline(text: str, pages: Mapping[str, str]) -> str:
    """Backticks mark code, stars emphasis; a paper's arXiv number and an equation's tag become links."""

    def mark(match: re.Match[str]) -> str:
        if match["code"]:
            return f"<code>{match['code']}</code>"
        if match["stress"]:
            return f"<em>{match['stress']}</em>"
        if match["paper"]:
            return f'<a href="https://arxiv.org/abs/{match["paper"]}">{match[0]}</a>'
        page = pages.get(match["tag"])
        return f'<a href="{page}#eq-{match["tag"].replace(".", "-")}">{match[0]}</a>' if page else match[0]

    return MARKUP.sub(mark, escape(text, quote=False))
