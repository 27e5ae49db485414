"""No figure of a chapter has more than two columns of panels, as it is built and as it is written."""

from __future__ import annotations

import ast

import nbformat
import pytest
from nbformat import NotebookNode
from notebooks import called, calls, chapters, notebook, stored

MANY_AXES = {"add_subplot", "add_gridspec", "GridSpec", "subplot", "subplot2grid", "subplot_mosaic", "subfigures"}


def too_many_columns(notebook: NotebookNode) -> list[str]:
    """Figures with more than two columns of panels, or with a number of columns that the source does not say.

    `show.side_by_side` and `show.clouds` refuse more than two themselves; `show.Row` makes one picture of each panel.
    """
    wrong = []
    for number, cell in enumerate(notebook.cells):
        for call in calls(cell) if cell.cell_type == "code" else []:
            named = {keyword.arg: keyword.value for keyword in call.keywords}
            columns = named.get("ncols", call.args[1] if len(call.args) > 1 else ast.Constant(1))
            row = called(call) == "Row"
            columns = named.get("ncols", ast.Constant(1)) if row else columns
            if called(call) in MANY_AXES:
                wrong.append(f"cell {number}: {ast.unparse(call)}: say the columns with plt.subplots, or use show.Row")
            elif (called(call) == "subplots" or row) and not (
                isinstance(columns, ast.Constant) and columns.value in ((1,) if row else (1, 2))
            ):
                wrong.append(f"cell {number}: {ast.unparse(columns)} columns of panels; at most two: use show.Row")
    return wrong


@chapters
def test_figures_have_at_most_two_columns_of_panels(source):
    assert too_many_columns(stored(source)) == []


@pytest.mark.parametrize(
    "text",
    [
        "figure, axes = plt.subplots(2, 4, figsize=(9, 4))  # noqa: it has to be",
        "plt.subplots(nrows=1, ncols=3)",
        "plt.subplots(1, len(groups))",
        "figure.subplots(1, 3)",
        "plt.subplot(1, 3, 1)",
        "figure.add_subplot(131)",
        "plt.subplot_mosaic('abc')",
        "def draw():\n    return plt.subplots(1, 3)",
        "show.Row(alts, size=(2, 2), ncols=2)",
    ],
)
def test_rule_finds_wide_figures(text):
    assert too_many_columns(notebook(nbformat.v4.new_code_cell(text)))


def test_rule_lets_narrow_figures_pass():
    for text in ("plt.subplots()", "plt.subplots(3, 2)", "plt.subplots(4)", "show.Row(alts, size=(2, 2), nrows=3)"):
        assert too_many_columns(notebook(nbformat.v4.new_code_cell(text))) == []
