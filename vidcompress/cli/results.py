"""`vidcompress results`: tables, paired differences, plots, comparisons with a baseline and with published figures."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vidcompress.cli.options import OUTPUT, PLACE, PLOT_PATH
from vidcompress.cli.show import show, show_all

if TYPE_CHECKING:
    from vidcompress.table import Table
    from vidcompress.tools.evaluation.report.load import ResultRow
    from vidcompress.tools.evaluation.report.published_comparison import PublishedComparison

PUBLISHED = "published"
FORMATS = ("text", "markdown", "csv", "latex", "json")


def results(
    runs: Annotated[
        list[str],
        typer.Argument(
            help="What `vidcompress eval --out` wrote: folders of runs or rows, or result files.",
            metavar="RUNS...",
        ),
    ],
    baseline: Annotated[
        list[str] | None,
        typer.Option(
            help="Compare the runs with this one on the same questions; repeat it where the baseline is in several.",
            metavar="<run>",
            show_default=False,
            rich_help_panel=OUTPUT,
        ),
    ] = None,
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
            help="Compare two methods on the same questions; repeat it for more. The second is of --baseline, if any.",
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
    html: Annotated[
        Path | None,
        typer.Option(
            help="Write one page with tables, plots, and single questions with what each row kept.",
            metavar="<file.html>",
            show_default=False,
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    questions: Annotated[
        int,
        typer.Option(
            help="With --html: questions of each task that are shown with their masks; about 40 KB each.",
            metavar="<int>",
            rich_help_panel=OUTPUT,
        ),
    ] = 40,
    card: Annotated[
        Path | None,
        typer.Option(
            "--model-index",
            help="Write the scores into the metadata of a Hugging Face model card, a new one or one that exists.",
            metavar="<README.md>",
            show_default=False,
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    output_format: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="text, markdown, csv (one table: a line per row, task and score), latex (booktabs) or json.",
            metavar="<name>",
            show_default="text",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    as_markdown: Annotated[
        bool, typer.Option("--markdown", help="Short for --format markdown.", rich_help_panel=OUTPUT)
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Short for --format json.", rich_help_panel=OUTPUT)
    ] = False,
) -> None:
    """Show scores per task, the average share of the uncompressed model, and paired differences with intervals."""
    from vidcompress.checks import whole_number
    from vidcompress.cli.ask import check_page, check_place
    from vidcompress.tools.evaluation.report.load import read_rows
    from vidcompress.tools.evaluation.report.origins import differences_of_origins

    chosen = _format(output_format, as_markdown, as_json)
    _check_together(
        {"--against": against, "--parts": parts, "--plot": plot, "--html": html} if baseline else {},
        "--baseline={}: cannot go with {}; leave it out",
        baseline,
    )
    _check_together(
        {"--pairs": pairs if not baseline else None, "--against": against} if chosen == "csv" else {},
        "--format={}: is one table and cannot go with {}; leave it out or pass --format json",
        chosen,
    )
    compared = [_pair(text) for text in pairs or ()]
    check_page(html, True)
    if card is not None:
        check_place("--model-index", card, (".md",))
    whole_number("questions", questions, least=0, most=10_000)
    rows, notes = read_rows([Path(run) for run in runs])
    if baseline:
        base_rows, base_notes = read_rows([Path(run) for run in baseline])
        report = _comparison(rows, base_rows, compared, chosen)
        report.notes[:0] = [*notes, *(f"baseline: {note}" for note in base_notes)]
        shown_rows = [*rows, *base_rows]
    else:
        report, shown_rows = _report(rows, compared, against, parts, chosen), rows
        report.notes[:0] = notes
    report.notes += differences_of_origins(shown_rows)
    if plot is not None:
        from vidcompress.tools.evaluation.report.run_plots import plot_rows

        report.plots = plot_rows(rows, plot)
    if html is not None:
        report.notes += _write_html(rows, compared, against, parts, report.notes, html, questions)
    if card is not None:
        report.notes += _write_card(rows, card)
    _print(report, shown_rows, chosen, plot)
    for path in filter(None, (html, card)):
        typer.echo(f"wrote {path}", err=True)


def _write_card(rows: list[ResultRow], path: Path) -> list[str]:
    """Put the scores into a card; return remarks."""
    from vidcompress.cli.ask import save_text
    from vidcompress.tools.evaluation.report.model_card import read_card, with_model_index

    card, notes = with_model_index(read_card(path), rows, str(path))
    save_text("--model-index", card, path)
    return notes


def _write_html(
    rows: list[ResultRow],
    pairs: list[tuple[str, str]],
    against: str | None,
    parts: bool,
    notes: list[str],
    path: Path,
    questions: int,
) -> list[str]:
    """Write the page; return remarks on what it lacks."""
    from vidcompress.cli.ask import save_text
    from vidcompress.progress import counting_bar
    from vidcompress.tools.evaluation.report.page.build import results_page

    published = [] if against is None else _published(rows, against)[0]
    with counting_bar() as bar:
        task = bar.add_task("questions", total=None)
        page, lacking = results_page(
            rows,
            _tables(rows, pairs, published, parts),
            notes,
            questions=questions,
            advance=lambda done: bar.advance(task, done),
        )
    save_text("--html", page, path)
    return lacking


@dataclass
class _Report:
    """What is printed.

    Attributes:
        tables: for people; of csv the only one.
        entry: for JSON.
        notes: below the tables.
        plots: files that were written.
    """

    tables: list[Table]
    entry: dict[str, Any]
    notes: list[str]
    plots: list[Path] | None = None


def _format(name: str | None, as_markdown: bool, as_json: bool) -> str:
    from vidcompress.checks import one_of
    from vidcompress.errors import ArgumentError

    if name is not None:
        one_of("--format", name, FORMATS)
    passed = {
        f"--format={name}": name,
        "--markdown": as_markdown and "markdown",
        "--json": as_json and "json",
    }
    chosen = {option: value for option, value in passed.items() if value}
    if len(set(chosen.values())) > 1:
        raise ArgumentError(f"{' and '.join(chosen)} exclude each other; pass one of them")
    return next(iter(chosen.values()), "text")


def _check_together(options: dict[str, Any], message: str, value: Any) -> None:
    """Refuse options that are passed and do not go with another one."""
    from vidcompress.errors import ArgumentError

    passed = [option for option, given in options.items() if given]
    if passed:
        raise ArgumentError(message.format(value if isinstance(value, str) else ",".join(value), passed[0]))


def _report(
    rows: list[ResultRow], pairs: list[tuple[str, str]], against: str | None, parts: bool, chosen: str
) -> _Report:
    """Scores of runs, paired differences, and comparisons with published tables."""
    published, notes = ([], []) if against is None else _published(rows, against)
    if chosen == "json":
        return _Report([], _entry(rows, pairs, published), notes)
    if chosen == "csv":
        from vidcompress.tools.evaluation.report.leaderboard import leaderboards_of
        from vidcompress.tools.evaluation.report.long_form import score_table

        leaderboards = leaderboards_of(rows)
        notes += [note for leaderboard in leaderboards for note in leaderboard.notes]
        return _Report([score_table(leaderboards, kinds=parts)], {}, notes)
    return _Report(_tables(rows, pairs, published, parts), {}, notes)


def _comparison(
    rows: list[ResultRow], base_rows: list[ResultRow], pairs: list[tuple[str, str]], chosen: str
) -> _Report:
    """Runs against those of a baseline."""
    from vidcompress.tools.evaluation.report.comparison.pairing import pair_rows
    from vidcompress.tools.evaluation.report.comparison.table import comparison_records, comparison_tables
    from vidcompress.tools.evaluation.report.long_form import record_table

    matches, notes = pair_rows(rows, base_rows, pairs)
    if chosen == "json":
        return _Report([], {"comparison": comparison_records(matches)}, notes)
    if chosen == "csv":
        return _Report([record_table(comparison_records(matches))], {}, notes)
    return _Report(comparison_tables(matches), {}, notes)


def _print(report: _Report, rows: list[ResultRow], chosen: str, plot: Path | None) -> None:
    """Print a report: tables, notes, origins of the rows, files of plots."""
    from vidcompress.tools.evaluation.report.origins import run_origins

    origins = run_origins(rows)
    if chosen == "json":
        provenance = [origin.to_dict() for origin in origins]
        files = [str(path) for path in report.plots or ()]
        entry = {**report.entry, "provenance": provenance, "notes": report.notes, "plots": files}
        typer.echo(json.dumps(entry, ensure_ascii=False))
        return
    lines = [f"note: {note}" for note in report.notes] + [f"run: {origin.text()}" for origin in origins]
    if report.plots:
        count = len({path.stem for path in report.plots})
        suffixes = " and ".join(dict.fromkeys(path.suffix for path in report.plots))
        where = f"as {suffixes}, to {plot}" if len(report.plots) > 1 else f"to {report.plots[0]}"
        lines.append(f"wrote {count} plot{'s' * (count > 1)}{', ' * where.startswith('as') or ' '}{where}")
    if chosen == "text":
        show_all(report.tables)
        for line in lines:
            show(line, hanging=line.index(": ") + 2 if line.startswith(("note: ", "run: ")) else 0)
        return
    from vidcompress.tools.evaluation.report import render

    if chosen == "csv":
        typer.echo(render.to_csv(report.tables[0]), nl=False)
        for line in lines:  # the table is alone on stdout
            typer.echo(line, err=True)
    elif chosen == "markdown":
        typer.echo("\n".join(map(render.to_markdown, report.tables)))
        for line in lines:
            typer.echo(f"- {render.escape_markdown(line.removeprefix('note: '))}")
    else:
        typer.echo("\n".join([render.PREAMBLE, *map(render.to_latex, report.tables)]))
        for line in lines:
            typer.echo(render.latex_comment(line))


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
    rows: list[ResultRow], pairs: list[tuple[str, str]], published: list[PublishedComparison]
) -> dict[str, Any]:
    from vidcompress.tools.evaluation.report import published_comparison_table, tables
    from vidcompress.tools.evaluation.report.leaderboard import leaderboards_of
    from vidcompress.tools.evaluation.report.long_form import score_records

    leaderboards = leaderboards_of(rows)
    return {
        "tables": [tables.to_dict(leaderboard) for leaderboard in leaderboards],
        "pairs": tables.pairs_to_dict(leaderboards, pairs),
        "published": [published_comparison_table.to_dict(comparison) for comparison in published],
        "scores": score_records(leaderboards, kinds=True),
    }
