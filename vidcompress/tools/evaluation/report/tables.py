"""Tables like the papers': scores per task, the average share of the uncompressed model, paired differences."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from vidcompress.errors import ArgumentError, nearest, shown
from vidcompress.tools.evaluation.report.breakdown import parts_entry, parts_of
from vidcompress.tools.evaluation.report.leaderboard import Board, Column, Line, boards_of
from vidcompress.tools.evaluation.report.load import Row
from vidcompress.tools.evaluation.report.render import Sheet, drawn, plain, written

if TYPE_CHECKING:
    from rich.console import RenderableType


def render(rows: Iterable[Row], pairs: Sequence[tuple[str, str]] = ()) -> RenderableType:
    """Return tables for a rich console: scores, then paired differences.

    Args:
        rows: from `read_rows`.
        pairs: (first, second) labels that are compared with each other too.

    Raises:
        ArgumentError: a pair names a method that no row has.
    """
    from rich.console import Group

    return Group(*(drawn(sheet) for sheet in sheets_of(rows, pairs)))


def markdown(rows: Iterable[Row], pairs: Sequence[tuple[str, str]] = ()) -> str:
    """Return the same tables in Markdown.

    Args:
        rows: from `read_rows`. pairs: as in `render`.

    Raises:
        ArgumentError: a pair names a method that no row has.
    """
    return "\n".join(written(sheet) for sheet in sheets_of(rows, pairs))


def text(rows: Iterable[Row], pairs: Sequence[tuple[str, str]] = ()) -> str:
    """Return the same tables as text, as wide as they are.

    Args:
        rows: from `read_rows`. pairs: as in `render`.

    Raises:
        ArgumentError: a pair names a method that no row has.
    """
    return "\n".join(plain(sheet) for sheet in sheets_of(rows, pairs))


def sheets_of(rows: Iterable[Row], pairs: Sequence[tuple[str, str]] = (), parts: bool = False) -> list[Sheet]:
    """All tables of some rows: per model the scores, the differences to the baseline, and those of the pairs.

    Args:
        rows: from `read_rows`. pairs: as in `render`.
        parts: also every other score of a task, and the main one by kind of question.

    Raises:
        ArgumentError: a pair names a method that no row has.
    """
    sheets: list[Sheet] = []
    boards = boards_of(rows)
    check_pairs(pairs, boards)
    for board in boards:
        sheets.append(_scores(board))
        sheets += parts_of(board, names_of(board.columns)) if parts else ()
        if board.lines and board.baseline.cells:
            sheets.append(_differences(board, "difference to the uncompressed model", board.lines, None))
        for first, second in pairs:
            lines = [line for line in board.lines if line.method == first]
            if lines:
                sheets.append(_differences(board, f"{first} minus {second}", lines, second))
    return sheets


def check_pairs(pairs: Sequence[tuple[str, str]], boards: Sequence[Board]) -> None:
    """Refuse a label that no line has.

    Raises:
        ArgumentError: the message lists the labels.
    """
    known = {line.method for board in boards for line in board.lines}
    for label in (label for pair in pairs for label in pair):
        if label not in known:
            raise ArgumentError(f"pairs: no row is of method {shown(label)}; {nearest(label, known)}")


def names_of(columns: Sequence[Column]) -> dict[Column, str]:
    """Headings: the task, with split and data where two columns would be called alike."""
    names = {}
    for column in columns:
        alike = [other for other in columns if other.task == column.task]
        more = [column.split] if len({other.split for other in alike}) > 1 else []
        more += [column.data[:8]] if len(alike) > len({(o.task, o.split) for o in alike}) else []
        names[column] = " ".join(filter(None, [column.task.removeprefix("lmms:"), *more]))
    return names


def score_text(row: Row) -> str:
    """A score in per cent where every question counts from 0 to 1 and the score does, else in the task's own unit."""
    value = row.value
    if value is None:
        return ""
    return f"{100 * value:.1f}" if in_per_cent(row) else f"{value:.1f}"


def in_per_cent(row: Row) -> bool:
    """Whether a row's score is a share."""
    return row.is_share and 0 <= (row.value or 0.0) <= 1


def _scores(board: Board) -> Sheet:
    names = names_of(board.columns)
    head = ["retention", "method", "kept %", *names.values(), "average %"]
    groups = [[[(text, False) for text in _score_line(board, board.baseline, "all tokens")]]]
    for budget, lines in board.groups():
        best = {column: board.best(lines, column) for column in (*board.columns, None)}
        groups.append([_bold(board, line, _score_line(board, line, budget), best) for line in lines])
    notes = [
        "Scores, in brackets their share of the uncompressed model in per cent; average %: mean of the shares. "
        "Bold: best of its group.",
        *board.notes,
    ]
    return Sheet(board.title, head, groups, notes)


def _score_line(board: Board, line: Line, budget: str) -> list[str]:
    cells = [budget, line.method.replace(":schedule=fit", "") + " †" * line.is_fitted, _kept(line)]
    for column in board.columns:
        row, share = line.cells.get(column), board.share(line, column)
        score = "" if row is None else score_text(row)
        score += f" ({share:.1f})" if share is not None and line is not board.baseline else ""
        cells.append(f"{score}, {row.failed} failed" if row is not None and row.failed and score else score)
    mean = board.average(line)
    partial = "" if mean is None or mean[1] == len(board.columns) else f" (of {mean[1]})"
    return [*cells, "" if mean is None else f"{mean[0]:.1f}{partial}"]


def _kept(line: Line) -> str:
    """Tokens sent, as a mean share over the tasks."""
    shares = [
        100 * row.tokens["kept"] / row.tokens["total"]
        for row in line.cells.values()
        if row.value is not None and row.tokens.get("total") and "kept" in row.tokens
    ]
    return f"{sum(shares) / len(shares):.1f}" if shares else ""


def _bold(
    board: Board, line: Line, texts: Sequence[str], best: dict[Column | None, float | None]
) -> list[tuple[str, bool]]:
    values: list[float | None] = [None, None, None]
    values += [row.value if (row := line.cells.get(column)) else None for column in board.columns]
    mean = board.average(line)
    values.append(mean[0] if mean is not None and mean[1] == len(board.columns) else None)
    bests = [None, None, None, *best.values()]
    return [(t, v is not None and v == b) for t, v, b in zip(texts, values, bests, strict=True)]


def _differences(board: Board, title: str, lines: Sequence[Line], second: str | None) -> Sheet:
    names = names_of(board.columns)
    groups = []
    for budget in dict.fromkeys(line.budget for line in lines):
        group = []
        for line in (line for line in lines if line.budget == budget):
            other = next((o for o in board.lines if (o.method, o.budget) == (second, budget)), None)
            if second is None or other is not None:
                gaps = [_gap_text(board, line, column, other) for column in board.columns]
                if any(text for text, _ in gaps):
                    group.append([(budget, False), (line.method, False), *gaps])
        if group:
            groups.append(group)
    notes = [
        "Means over the questions that count in both, with 95 % intervals; in points of a hundred where questions "
        "count from 0 to 1. Bold: 0 is outside."
    ]
    odd = [names[column] for column in board.columns if _is_odd(board, column)]
    if odd:
        notes.append(
            f"the main score is not the mean over questions, which is what is compared: {', '.join(odd)}"
        )
    return Sheet(f"{board.title}: {title}", ["retention", "method", *names.values()], groups, notes)


def _gap_text(board: Board, line: Line, column: Column, other: Line | None) -> tuple[str, bool]:
    gap = board.gap(line, column, other)
    if gap is None:
        return "", False
    scale = 100 if line.cells[column].is_share else 1
    low, mean, high = (scale * value for value in (gap.low, gap.mean, gap.high))
    return f"{mean:+.1f} [{low:+.1f}, {high:+.1f}]", gap.is_clear


def _is_odd(board: Board, column: Column) -> bool:
    """Whether a task's main score is something else than the mean over its questions."""
    for line in [board.baseline, *board.lines]:
        row = line.cells.get(column)
        marks = [mark for mark in row.marks.values() if mark is not None] if row is not None else []
        if row is not None and row.value is not None and marks:
            mean = sum(marks) / len(marks)
            return min(abs(row.value - mean), abs(row.value - 100 * mean) / 100) > 1e-3
    return False


def to_dict(board: Board) -> dict[str, Any]:
    """A board as JSON types."""
    names = names_of(board.columns)
    lines = []
    for line in [board.baseline, *board.lines]:
        mean = board.average(line)
        lines.append(
            {
                "method": line.method,
                "budget": line.budget,
                "scores": {names[c]: row.value for c, row in line.cells.items()},
                "per_cent": {names[c]: board.share(line, c) for c in line.cells},
                "average_per_cent": None if mean is None else mean[0],
                "tasks_in_average": 0 if mean is None else mean[1],
                "parts": {
                    names[c]: parts_entry(row) for c, row in line.cells.items() if row.value is not None
                },
                "differences": {
                    names[c]: vars(gap)
                    for c in line.cells
                    if line is not board.baseline and (gap := board.gap(line, c)) is not None
                },
                "failed": {
                    names[c]: {"questions": row.failed, "left_out": row.leaves_out_failed}
                    for c, row in line.cells.items()
                    if row.failed
                },
                "unreachable": {
                    names[c]: row.unreachable for c, row in line.cells.items() if row.unreachable
                },
            }
        )
    return {"title": board.title, "tasks": list(names.values()), "rows": lines, "notes": board.notes}


def pairs_to_dict(boards: Sequence[Board], pairs: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
    """Differences between two methods, by board, budget and task.

    Raises:
        ArgumentError: a pair names a method that no row has.
    """
    check_pairs(pairs, boards)
    found = []
    for board in boards:
        names = names_of(board.columns)
        for first, second in pairs:
            for line in (line for line in board.lines if line.method == first):
                other = next((o for o in board.lines if (o.method, o.budget) == (second, line.budget)), None)
                if other is None:
                    continue
                gaps = {
                    names[c]: vars(gap) for c in line.cells if (gap := board.gap(line, c, other)) is not None
                }
                found.append(
                    {
                        "title": board.title,
                        "first": first,
                        "second": second,
                        "budget": line.budget,
                        "differences": gaps,
                    }
                )
    return found
