"""Building of the page of results."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Sequence
from importlib.resources import files
from typing import Any

import jinja2
from markupsafe import Markup

from vidcompress.errors import UnsupportedInputError
from vidcompress.qa.viewer.page import json_in_html, page_of
from vidcompress.table import Table
from vidcompress.tools.evaluation.report.leaderboard import leaderboards_of
from vidcompress.tools.evaluation.report.load import ResultRow
from vidcompress.tools.evaluation.report.origins import run_origins
from vidcompress.tools.evaluation.report.page.difference_plot import difference_figures
from vidcompress.tools.evaluation.report.page.masks import rows_with_views, viewer_of
from vidcompress.tools.evaluation.report.page.questions import QuestionGroup, facts_of, question_groups
from vidcompress.tools.evaluation.report.run_plots import run_figures
from vidcompress.tools.runs.plot_files import svg_of

MOST_LISTED = 5_000
"""Most questions of a task that the page lists; of more the first are listed."""
DATA = "@data@"


def results_page(
    rows: Sequence[ResultRow],
    tables: Sequence[Table],
    notes: Sequence[str],
    *,
    questions: int = 40,
    advance: Callable[[int], None] = lambda done: None,
) -> tuple[str, list[str]]:
    """Make the page of some runs.

    Args:
        rows: from `read_rows`.
        tables: scores and differences.
        notes: remarks below them.
        questions: most questions of each task that are shown with their pictures and masks.
        advance: called with the number of questions whose masks were drawn.

    Returns:
        The HTML file, and remarks on what it lacks, such as plots without matplotlib.
    """
    groups = question_groups(rows)
    figures, lacking = _figures(rows)
    if not groups:
        lacking.append("no row states its questions: rows of `vidcompress eval` of this version do")
    listed = [_group(group, number, questions, advance) for number, group in enumerate(groups)]
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    page = environment.from_string(_part("page.html")).render(
        style=Markup(_part("page.css")),
        script=Markup(_part("page.js")),
        title=" and ".join(dict.fromkeys(row.model for row in rows)),
        tables=tables,
        notes=[*notes, *lacking],
        figures=figures,
        origins=[origin.text() for origin in run_origins(rows)],
        data=Markup(json_in_html([entry for entry, _ in listed])),
        viewers=[viewer for _, viewers in listed for viewer in viewers],
        shell=Markup(json_in_html(_shell())),
        json=lambda value: Markup(json_in_html(value)),
    )
    return page, lacking


def _part(name: str) -> str:
    return files("vidcompress.tools.evaluation.report.page").joinpath(name).read_text(encoding="utf-8")


def _shell() -> str:
    """Return the page of the viewer with a mark where its data go."""
    head, _, tail = page_of({"mark": DATA}).partition(json_in_html({"mark": DATA}))
    return f"{head}{DATA}{tail}"


def _figures(rows: Sequence[ResultRow]) -> tuple[list[dict[str, str]], list[str]]:
    """Return the plots as pictures in data URIs, or a remark where there is no matplotlib."""
    try:
        drawn = [
            (name, svg_of(figure))
            for leaderboard in leaderboards_of(rows)
            for name, figure in (*run_figures(leaderboard), *difference_figures(leaderboard))
        ]
    except UnsupportedInputError as error:
        return [], [str(error)]
    encoded = [(name, base64.b64encode(svg.encode("utf-8")).decode("ascii")) for name, svg in drawn]
    return [{"name": name, "source": f"data:image/svg+xml;base64,{text}"} for name, text in encoded], []


def _group(
    group: QuestionGroup, number: int, most: int, advance: Callable[[int], None]
) -> tuple[dict[str, Any], list[tuple[str, Any]]]:
    """Return a task's questions for the list, and the data of the viewer of some, by the id of their element."""
    chosen = set(group.telling(most))
    viewers, questions = [], []
    for place, facts in enumerate(_first(facts_of(group), chosen)):
        if facts["id"] in chosen:
            found = viewer_of(group, facts["id"])
            advance(1)
            if isinstance(found, str):
                facts["why"] = found
            else:
                facts["viewer"] = f"v-{number}-{place}"
                facts["rows"] = rows_with_views(group, facts["id"])
                viewers.append((facts["viewer"], found))
        questions.append(facts)
    methods = [row.method.partition(":")[0] for row in group.rows]
    entry = {
        "title": group.title,
        "rows": group.names,
        "budgets": ["all" if row.is_baseline else row.budget for row in group.rows],
        "methods": methods,
        "questions": questions,
        "asked": len(group.ids),
    }
    return entry, viewers


def _first(questions: Iterator[dict[str, Any]], chosen: set[str]) -> Iterator[dict[str, Any]]:
    """Yield the first questions, and those that are shown with masks wherever they stand."""
    for place, facts in enumerate(questions):
        if place < MOST_LISTED or facts["id"] in chosen:
            yield facts
