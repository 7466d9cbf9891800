"""`vidcompress results`: tables, paired differences, plots, and comparisons with published figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vidcompress.cli.options import OUTPUT, PLACE, PLOT_PATH, Json
from vidcompress.cli.show import show, show_all

if TYPE_CHECKING:
    from vidcompress.table import Table
    from vidcompress.tools.evaluation.report.load import ResultRow
    from vidcompress.tools.evaluation.report.published_comparison import PublishedComparison

PUBLISHED = "published"


def results(
    runs: Annotated[
        list[str],
        typer.Argument(
            help="What `vidcompress eval --out` wrote: folders of runs or rows, or result files.",
            metavar="RUNS...",
        ),
    ],
    against: Annotated[
        str | None,
        typer.Option(
            help="Put published figures beside ours: `published` for those that come with the package, or a file.",
            metavar="published|<file>",
            show_default=False,
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    pairs: Annotated[
        list[str] | None,
        typer.Option(
            help="Compare two methods on the same questions; repeat it for more.",
            metavar="<m,m>",
            show_default=False,
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    parts: Annotated[
        bool,
        typer.Option(
            "--parts",
            help="Show also a task's other scores (precision, recall, ...) and its kinds of question.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    plot: Annotated[
        Path | None,
        typer.Option(
            help=f"Draw scores against tokens and time. {PLOT_PATH}",
            metavar=PLACE,
            show_default=False,
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    as_markdown: Annotated[
        bool, typer.Option("--markdown", help="Print Markdown.", rich_help_panel=OUTPUT)
    ] = False,
    as_json: Json = False,
) -> None:
    """Show scores per task, the average share of the uncompressed model, and paired differences with intervals."""
    from vidcompress.errors import ArgumentError
    from vidcompress.tools.evaluation.report.load import read_rows

    if as_json and as_markdown:
        raise ArgumentError("--json and --markdown exclude each other; pass one of them")
    compared = [_pair(text) for text in pairs or ()]
    rows, notes = read_rows([Path(run) for run in runs])
    published, unknown = ([], []) if against is None else _published(rows, against)
    notes += unknown
    if as_json:
        entry = _entry(rows, compared, published, notes)
    else:
        tables = _tables(rows, compared, published, parts)
    files = []
    if plot is not None:
        from vidcompress.tools.evaluation.report.run_plots import plot_rows

        files = plot_rows(rows, plot)
    if as_json:
        typer.echo(json.dumps({**entry, "plots": [str(path) for path in files]}, ensure_ascii=False))
        return
    if as_markdown:
        from vidcompress.tools.evaluation.report.render import to_markdown

        typer.echo("\n".join(map(to_markdown, tables)))
    else:
        show_all(tables)
    for note in notes:
        if as_markdown:
            typer.echo(f"- {note}")
        else:
            show(f"note: {note}", hanging=6)
    if files:
        where = files[0] if len(files) == 1 else plot
        typer.echo(f"{'- ' * as_markdown}wrote {len(files)} plot{'s' * (len(files) > 1)} to {where}")


def _pair(text: str) -> tuple[str, str]:
    from vidcompress.core.method_spec import split_method_specs
    from vidcompress.errors import ArgumentError

    labels = split_method_specs(text)
    if len(labels) != 2:
        raise ArgumentError(
            f"--pairs={text!r}: must be two methods with a comma between them, as globalcom2,random"
        )
    return labels[0], labels[1]


def _published(rows: list[ResultRow], against: str) -> tuple[list[PublishedComparison], list[str]]:
    """Return comparisons with published tables about our models, and a note where there is none."""
    from vidcompress.tools.evaluation.report.published import published_tables, read_table
    from vidcompress.tools.evaluation.report.published_comparison import compare_with_published, is_about
    from vidcompress.tools.evaluation.report.published_comparison_table import (
        has_matches,
        reason_without_match,
    )

    if against != PUBLISHED:
        return [compare_with_published(read_table(Path(against)), rows)], []
    tables = published_tables()
    models = list(dict.fromkeys(row.model for row in rows))
    notes = []
    for model in models:
        if not any(is_about(table, model) for table in tables):
            named = ", ".join(dict.fromkeys(name for table in tables for name in table.models))
            notes.append(f"no published table is about {model}; they are about {named}")
    comparisons = [
        compare_with_published(t, rows) for t in tables if any(is_about(t, model) for model in models)
    ]
    notes += [reason_without_match(comparison) for comparison in comparisons if not has_matches(comparison)]
    return [comparison for comparison in comparisons if has_matches(comparison)], notes


def _tables(
    rows: list[ResultRow], pairs: list[tuple[str, str]], published: list[PublishedComparison], parts: bool
) -> list[Table]:
    from vidcompress.tools.evaluation.report.published_comparison_table import comparison_table
    from vidcompress.tools.evaluation.report.tables import report_tables

    return [*report_tables(rows, pairs, parts), *map(comparison_table, published)]


def _entry(
    rows: list[ResultRow],
    pairs: list[tuple[str, str]],
    published: list[PublishedComparison],
    notes: list[str],
) -> dict[str, Any]:
    from vidcompress.tools.evaluation.report import published_comparison_table, tables
    from vidcompress.tools.evaluation.report.leaderboard import leaderboards_of

    leaderboards = leaderboards_of(rows)
    return {
        "tables": [tables.to_dict(leaderboard) for leaderboard in leaderboards],
        "pairs": tables.pairs_to_dict(leaderboards, pairs),
        "published": [published_comparison_table.to_dict(comparison) for comparison in published],
        "notes": notes,
    }
