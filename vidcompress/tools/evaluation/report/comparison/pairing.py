"""Pairing of runs with those of a baseline: rows of one task, method and budget, on the same questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from vidcompress.errors import ArgumentError, nearest, shown
from vidcompress.tools.evaluation.report.differences import Difference, difference
from vidcompress.tools.evaluation.report.load import ResultRow
from vidcompress.tools.evaluation.report.plot_style import CONTROLS
from vidcompress.tools.runs.journal import has_answer, read_lines

ANSWERS = "answers.jsonl"
"""Journal of a row, beside its result file."""
MOST_NAMED = 5
"""Most tasks, or rows, that one message names."""


class RowKey(NamedTuple):
    """What a row is compared by; the model is empty where either side has one model only."""

    model: str
    task: str
    method: str
    budget: str


@dataclass(frozen=True)
class RowPair:
    """A row and that of the baseline, on the same questions.

    Attributes:
        row: of the runs. base: of the baseline.
    """

    row: ResultRow
    base: ResultRow

    @cached_property
    def difference(self) -> Difference | None:
        """Paired difference of the main score, row minus base; None where no question counts in both."""
        return difference(self.row.question_scores, self.base.question_scores)

    @cached_property
    def answers(self) -> tuple[int, int] | None:
        """Number of answers alike, letter for letter, and of questions answered in both; None without both journals."""
        mine, theirs = answers_of(self.row), answers_of(self.base)
        both = [key for key in mine if key in theirs]
        return (sum(mine[key] == theirs[key] for key in both), len(both)) if both else None

    @property
    def speed_up(self) -> float | None:
        """Time to the first token of the baseline over that of the row; None where one is missing."""
        ours, theirs = self.row.first_token_ms, self.base.first_token_ms
        return theirs / ours if ours and theirs else None


def pair_rows(
    rows: Sequence[ResultRow], base_rows: Sequence[ResultRow], labels: Sequence[tuple[str, str]] = ()
) -> tuple[list[RowPair], list[str]]:
    """Pair rows with those of a baseline.

    Args:
        rows: of the runs.
        base_rows: of the baseline.
        labels: (method of the runs, method of the baseline) that are compared; by default each method with itself.

    Returns:
        The pairs by task, falling budget and method, controls last, and remarks on rows without a pair.

    Raises:
        ArgumentError: two rows of one side are alike, a label has no row, no row has a pair, or the questions of a pair
            differ; the message says how many are shared.
    """
    by_model = min(len({row.model for row in side}) for side in (rows, base_rows)) > 1
    mine, theirs = (
        _by_key(side, name, by_model) for side, name in ((rows, "the runs"), (base_rows, "the baseline"))
    )
    for place, side in enumerate((mine, theirs)):
        methods = {key.method for key in side}
        for label in (pair[place] for pair in labels):
            if label not in methods:
                where = ("the runs", "the baseline")[place]
                raise ArgumentError(
                    f"pairs: no row of {where} is of method {shown(label)}; {nearest(label, methods)}"
                )
    of_label = dict(labels) if labels else {key.method: key.method for key in mine}
    keys = {key: key._replace(method=of_label[key.method]) for key in mine if key.method in of_label}
    matches = [RowPair(mine[key], theirs[other]) for key, other in keys.items() if other in theirs]
    if not matches:
        raise ArgumentError(
            f"baseline: has no row of the same task, method and budget; the runs have {_listed(mine)}; it has "
            f"{_listed(theirs)}; name two methods by --pairs to compare one with another"
        )
    empty = [pair for pair in matches if pair.row.value is None or pair.base.value is None]
    pairs = [pair for pair in matches if pair not in empty]
    _check_questions(pairs)
    notes = _empty(empty)
    if not labels:
        of_runs = {key: row for key, row in mine.items() if key not in theirs}
        of_baseline = {key: row for key, row in theirs.items() if key not in mine}
        notes += [f"only in the runs: {_listed(of_runs)}"] * bool(of_runs)
        notes += [f"only in the baseline: {_listed(of_baseline)}"] * bool(of_baseline)
    tasks = list(dict.fromkeys(pair.row.task for pair in pairs))
    return sorted(pairs, key=lambda pair: (tasks.index(pair.row.task), *_place(pair.row))), notes


def _by_key(rows: Sequence[ResultRow], side: str, by_model: bool) -> dict[RowKey, ResultRow]:
    keyed: dict[RowKey, ResultRow] = {}
    for row in rows:
        method = "none" if row.is_baseline else row.method
        key = RowKey(row.model if by_model else "", row.task, method, row.budget)
        if key in keyed:
            raise ArgumentError(
                f"{'runs' if side == 'the runs' else 'baseline'}: {method} at {row.budget} on {row.task} is in "
                f"{keyed[key].path} and in {row.path}; name one of these runs"
            )
        keyed[key] = row
    return keyed


def _check_questions(pairs: Sequence[RowPair]) -> None:
    """Refuse pairs on different questions."""
    reasons: dict[str, str] = {}
    for pair in pairs:
        row, base = pair.row, pair.base
        counts = f"{row.task}: {len(row.ids)} and {len(base.ids)} questions, {len({*row.ids} & {*base.ids})} ids shared"
        if row.data and base.data and row.data != base.data:
            reasons.setdefault(
                row.task, f"{counts}, of other data (revision {row.data[:8]} and {base.data[:8]})"
            )
        elif {*row.ids} != {*base.ids}:
            reasons.setdefault(row.task, counts)
        elif row.main != base.main:
            reasons.setdefault(row.task, f"{counts}, scored by {row.main} and by {base.main}")
    if reasons:
        more = len(reasons) - MOST_NAMED
        raise ArgumentError(
            f"baseline: its questions are others, {'; '.join([*reasons.values()][:MOST_NAMED])}"
            f"{f'; and {more} more tasks' if more > 0 else ''}; run `vidcompress eval` on the same questions "
            "for both (the same tasks, data and --limit)"
        )


def answers_of(row: ResultRow) -> Mapping[str, object]:
    """Answers by id from the journal beside a result file, but for failed questions; none where it is missing."""
    lines = read_lines(row.path.parent / ANSWERS)
    return {
        str(line.get("id")): line["answer"] for line in lines if has_answer(line) and not line.get("error")
    }


def _empty(pairs: Sequence[RowPair]) -> list[str]:
    """Remarks on pairs with an empty row, one per side, method, task and reason."""
    budgets: dict[tuple[str, str, str, str], list[str]] = {}
    for pair in sorted(pairs, key=lambda pair: _place(pair.row)):
        side, row = ("the runs", pair.row) if pair.row.value is None else ("the baseline", pair.base)
        reason = row.unreachable or "no question is scored"
        budgets.setdefault((row.method, row.task, side, reason), []).append(row.budget)
    return [
        f"{method} at {', '.join(its)} on {task} is empty in {side}: {reason}"
        for (method, task, side, reason), its in budgets.items()
    ]


def _listed(rows: Mapping[RowKey, ResultRow]) -> str:
    """Methods and budgets by task, the first few."""
    keys = sorted(rows, key=lambda key: (key.task, *_place(rows[key])))
    names = list(dict.fromkeys(f"{key.method} at {key.budget} on {key.task}" for key in keys))
    more = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _place(row: ResultRow) -> tuple[bool, float, bool]:
    """Sort key within a task: the uncompressed model, falling ratios, falling numbers of tokens; controls last."""
    size = 2.0**40 + row.retention_ratio if row.retention_ratio is not None else float(row.max_tokens or 0)
    return not row.is_baseline, -size, row.method.partition(":")[0] in CONTROLS
