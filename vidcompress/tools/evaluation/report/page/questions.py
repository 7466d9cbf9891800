"""Questions of a task beside what each row answered, and the ones that are worth a look."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from vidcompress.tools.evaluation.report.leaderboard import column_of
from vidcompress.tools.evaluation.report.load import ResultRow
from vidcompress.tools.runs.journal import read_lines

ANSWERS = "answers.jsonl"
"""Journal beside a result file."""
RIGHT = 0.5
"""Score from which an answer counts as right, in the unit of a share."""


@dataclass(frozen=True)
class QuestionGroup:
    """Questions of one task that rows of one model answered.

    Attributes:
        rows: the uncompressed model first, then by falling budget; all have the questions' texts.
        ids: of the questions, in order.
    """

    rows: tuple[ResultRow, ...]
    ids: tuple[str, ...]

    @property
    def title(self) -> str:
        """Model and task."""
        return f"{self.rows[0].model}, {self.rows[0].task}"

    @property
    def names(self) -> list[str]:
        """Name of each row: its method and budget."""
        return ["all tokens" if row.is_baseline else f"{row.method} at {row.budget}" for row in self.rows]

    @cached_property
    def lines(self) -> list[Mapping[str, Mapping[str, Any]]]:
        """Lines of the journal of each row by question; empty where the journal is not there."""
        return [
            {str(line["id"]): line for line in read_lines(row.path.parent / ANSWERS) if "id" in line}
            for row in self.rows
        ]

    def is_right(self, row: ResultRow, name: str) -> bool | None:
        """Whether a row answered a question rightly; None where it is in no score."""
        score = row.question_scores.get(name)
        return None if score is None else score >= RIGHT

    def telling(self, most: int) -> list[str]:
        """Return the ids of at most so many questions that tell rows apart, in the order of the task.

        Each in turn is the one that shows most pairs of rows, lost by the one and kept by the other, that no question
        before it shows; so a pair of any two rows is among them as far as there is room.
        """
        shows = {name: self._pairs(name) for name in self.ids}
        chosen: list[str] = []
        covered = 0
        while len(chosen) < most and shows:
            best = max(
                shows, key=lambda name: ((shows[name] & ~covered).bit_count(), shows[name].bit_count())
            )
            if not shows[best] & ~covered:
                if not covered:
                    break
                covered = 0  # every pair is shown; once more with other questions
                continue
            covered |= shows.pop(best)
            chosen.append(best)
        chosen += [name for name in self.ids if name not in set(chosen)][: max(0, most - len(chosen))]
        order = {name: place for place, name in enumerate(self.ids)}
        return sorted(chosen, key=order.__getitem__)

    def _pairs(self, name: str) -> int:
        """Return a bit for each ordered pair of rows of which the first lost the question and the second kept it."""
        right = [self.is_right(row, name) for row in self.rows]
        kept = sum(1 << place for place, one in enumerate(right) if one)
        return sum(kept << len(right) * place for place, one in enumerate(right) if one is False)


def question_groups(rows: Iterable[ResultRow]) -> list[QuestionGroup]:
    """Return the questions of rows whose results state them, by model and task.

    Args:
        rows: from `read_rows`.
    """
    groups: dict[tuple[Any, ...], list[ResultRow]] = {}
    for row in rows:
        if row.prompts is not None and row.unreachable is None:
            groups.setdefault((row.model, row.revision, *column_of(row)), []).append(row)
    return [QuestionGroup(*_in_order(mine)) for mine in groups.values()]


def _in_order(rows: Sequence[ResultRow]) -> tuple[tuple[ResultRow, ...], tuple[str, ...]]:
    """Return rows, the uncompressed first, and the questions that all of them have."""
    ordered = sorted(rows, key=lambda row: (not row.is_baseline, -(row.retention_ratio or 0.0)))
    shared = set(ordered[0].ids).intersection(*(row.ids for row in ordered))
    return tuple(ordered), tuple(name for name in ordered[0].ids if name in shared)


def facts_of(group: QuestionGroup) -> Iterator[dict[str, Any]]:
    """Yield each question as JSON types: id, text, expected answers, type, and what each row answered and scored."""
    first = group.rows[0]
    places = {name: place for place, name in enumerate(first.ids)}
    for name in group.ids:
        at = places[name]
        answers = [str(lines.get(name, {}).get("answer", "")) for lines in group.lines]
        yield {
            "id": name,
            "text": (first.prompts or ())[at],
            "expected": list((first.expected or ((),) * len(first.ids))[at]),
            "kind": (first.kinds_of or ("",) * len(first.ids))[at],
            "right": [group.is_right(row, name) for row in group.rows],
            "answers": [answer if len(answer) <= 200 else f"{answer[:199]}…" for answer in answers],
        }
