"""Tuning: the smallest budget whose answers equal those with all tokens on a sample of the user's own questions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vidcompress.checks import flag
from vidcompress.core.method_spec import parse_method_spec
from vidcompress.errors import ArgumentError, UnsupportedInputError, shown
from vidcompress.tools.evaluation.report.comparison.pairing import answers_of
from vidcompress.tools.evaluation.report.load import ResultRow, read_row
from vidcompress.tools.evaluation.run.distributed import Ranks
from vidcompress.tools.evaluation.run.model_cache import ModelCache
from vidcompress.tools.evaluation.run.outcome import RowOutcome
from vidcompress.tools.evaluation.run.result_file import NAME as RESULT
from vidcompress.tools.evaluation.run.runner import ProgressListener, Runner
from vidcompress.tools.evaluation.run.sweep import BASELINE, Sweep
from vidcompress.tools.evaluation.run.sweep_file import read_sweep
from vidcompress.tools.evaluation.tuning.agreement import CONFIDENCE, Agreement, Verdict, confirmed
from vidcompress.tools.runs.journal import write_whole
from vidcompress.tools.runs.provenance import provenance
from vidcompress.tools.runs.validation import is_number

NAME = "tune.json"
SCHEMA = 1
RATIOS = (0.5, 0.25, 0.1, 0.05)
"""Budgets that are tried where none is named."""
CONTROLS = ("random", "uniform")
LEAST, MOST = 0.6, 0.999
"""Range of an agreement: below it a test of a handful of questions errs in more than 5 % of samples."""
_MODEL = (
    "revision",
    "dtype",
    "attn_implementation",
    "device",
    "device_map",
    "quantization",
    "preset",
    "num_frames",
    "fps",
    "max_frames",
)


@dataclass(frozen=True)
class TunedRow:
    """A method at a budget, against the same model with all tokens.

    Attributes:
        method: label. budget: `retention_ratio` or `max_tokens`. shown: the budget as a table shows it.
        agreement: on all questions. kinds: the same by kind of question; empty where there are not two.
        score: the main score, or None. kept: visual tokens sent per question, or None.
        unreachable: why the method cannot serve the budget or the input, or None.
    """

    method: str
    budget: Mapping[str, Any]
    shown: str
    agreement: Agreement
    kinds: Mapping[str, Agreement] = field(default_factory=dict)
    score: float | None = None
    kept: float | None = None
    unreachable: str | None = None

    def verdict(self, agreement: float, kind: str | None = None) -> Verdict:
        """What the sample says of an agreement, on all questions or on one kind; `below` for an unreachable budget."""
        counted = self.agreement if kind is None else self.kinds[kind]
        return "below" if self.unreachable is not None else counted.verdict(agreement)


@dataclass(frozen=True)
class Tuning:
    """Result of tuning.

    Attributes:
        model: as in tables. task: name of the task. data: SHA-256 of its data.
        method: label of the method that is tuned.
        agreement: least share of equal answers that was asked for.
        rows: of the method, from the largest budget down. controls: of `random` and `uniform`, likewise.
        score, total: main score and visual tokens per question with all tokens, or None.
        left_out: number of questions that failed with all tokens, which nothing can be compared with.
        media: number of distinct pictures, clips and sets of these that the questions are about; None where unknown.
        failed: questions that failed, by id of the row.
    """

    model: str
    task: str
    data: str
    method: str
    agreement: float
    rows: Sequence[TunedRow]
    controls: Sequence[TunedRow] = ()
    score: float | None = None
    total: float | None = None
    left_out: int = 0
    media: int | None = None
    failed: Mapping[str, int] = field(default_factory=dict)

    @property
    def kinds(self) -> list[str]:
        """Kinds of question, in the order of the task; empty where there are not two."""
        return list(self.rows[0].kinds) if self.rows else []

    def confirmed(self, kind: str | None = None) -> int:
        """Number of budgets that are confirmed, from the largest down, on all questions or on one kind."""
        return confirmed([row.verdict(self.agreement, kind) for row in self.rows])

    def choice(self, kind: str | None = None) -> TunedRow | None:
        """The smallest budget that is confirmed, on all questions or on one kind; None where none is."""
        count = self.confirmed(kind)
        return self.rows[count - 1] if count else None

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, for JSON."""
        chosen = self.choice()
        return {
            "schema": SCHEMA,
            "model": self.model,
            "task": {"name": self.task, "revision": self.data},
            "method": self.method,
            "agreement": self.agreement,
            "confidence": CONFIDENCE,
            "tests": "fixed sequence from the largest budget down; Bonferroni over kinds",
            "choice": None if chosen is None else dict(chosen.budget),
            "kinds": {
                kind: None if (row := self.choice(kind)) is None else dict(row.budget) for kind in self.kinds
            },
            "score": self.score,
            "tokens": self.total,
            "left_out": self.left_out,
            "media": self.media,
            "failed": dict(self.failed),
            "rows": [self._entry(row) for row in (*self.rows, *self.controls)],
        }

    def _entry(self, row: TunedRow) -> dict[str, Any]:
        return {
            "method": row.method,
            **row.budget,
            "control": row in self.controls,
            **_counts(row.agreement, row.verdict(self.agreement)),
            "score": row.score,
            "tokens": row.kept,
            "unreachable": row.unreachable,
            "kinds": {
                kind: _counts(counted, row.verdict(self.agreement, kind))
                for kind, counted in row.kinds.items()
            },
        }


def tune(
    model: str,
    task: str | Mapping[str, Any],
    *,
    out: str | Path,
    method: str = "globalcom2",
    retention_ratios: Sequence[float | str] | None = None,
    max_tokens: Sequence[int] | None = None,
    agreement: float = 0.95,
    controls: bool = True,
    ranks: Ranks | None = None,
    progress: ProgressListener | None = None,
    models: ModelCache | None = None,
    **settings: Any,
) -> Tuning | None:
    """Find the smallest budget whose answers equal those with all tokens, on a sample.

    Args:
        model: embedded model, folder or hub id.
        task: what `vidcompress eval` runs itself, such as "data:my-questions", or a table of a sweep file.
        out: folder of the run. The same call goes on with a run that was stopped or killed; its rows are those of
            `vidcompress eval`, and `tune.json` has what `Tuning.to_dict` returns, with its provenance.
        method: label, such as "globalcom2:tau=5".
        retention_ratios: shares of the visual tokens; 0.5, 0.25, 0.1 and 0.05 by default.
        max_tokens: numbers of visual tokens, instead.
        agreement: least share of equal answers, from 0.6 to 0.999.
        controls: whether `random` and `uniform` are asked too.
        ranks: the processes that share the work. progress: listener of the run. models: loads the model.
        **settings: `limit`, `batch_size`, `max_new_tokens`, `seed` and what a model's table of a sweep file holds, such
            as `dtype` or `num_frames`.

    Returns:
        The counts, what they confirm, and the budget that was found; None on all processes but the first.

    Raises:
        ArgumentError: an argument is not allowed, or the folder belongs to another run.
        UnsupportedInputError: a row could not be run; what was answered is kept.
    """
    sweep = tuning_sweep(
        model,
        task,
        method=method,
        ratios=retention_ratios,
        max_tokens=max_tokens,
        controls=controls,
        **settings,
    )
    target = check_agreement(agreement)
    ranks = ranks or Ranks()
    outcomes = Runner(sweep, Path(out), ranks, progress, models).run()
    if not ranks.first:
        return None
    tuning = read_tuning(outcomes, Path(out), target)
    content = json.dumps({**tuning.to_dict(), "provenance": provenance()}, indent=1, allow_nan=False)
    write_whole(Path(out) / NAME, [content.encode() + b"\n"])
    return tuning


def tuning_sweep(
    model: str,
    task: str | Mapping[str, Any],
    *,
    method: str,
    ratios: Sequence[float | str] | None,
    max_tokens: Sequence[int] | None,
    controls: bool,
    name: str = "tune",
    **settings: Any,
) -> Sweep:
    """Make the sweep of a tuning, its budgets from the largest down; arguments as in `tune`.

    Raises:
        ArgumentError: an argument is not allowed.
    """
    flag("controls", controls)
    if not isinstance(method, str) or parse_method_spec(method)[0] == BASELINE:
        raise ArgumentError(
            f"method={shown(method)}: has no budget to tune; name a method, such as 'globalcom2'"
        )
    if ratios is None and max_tokens is None:
        ratios = RATIOS
    labels = [method, *(label for label in CONTROLS if controls and label != method)]
    loading = {key: settings.pop(key) for key in _MODEL if key in settings}
    sweep = read_sweep(
        {
            "models": [{"name": model, **{k: v for k, v in loading.items() if v is not None}}],
            "tasks": [task],
            "methods": labels,
            **{k: list(v) for k, v in (("ratios", ratios), ("max_tokens", max_tokens)) if v is not None},
            **{k: v for k, v in settings.items() if v is not None},
        },
        name=name,
    )
    if sweep.tasks[0].kind == "lmms":
        raise ArgumentError(
            f"task={sweep.tasks[0].name!r}: lmms-eval asks it, and its answers are not compared here; pass shapes:, "
            "data:, parquet: or hub:"
        )
    if len(sweep.rows()) == 1:
        raise ArgumentError("retention_ratios: 1 alone is the model with all tokens; give a smaller one")
    return sweep


def check_agreement(value: Any) -> float:
    """Return an agreement as a number.

    Raises:
        ArgumentError: it is none from 0.6 to 0.999.
    """
    if not is_number(value) or not LEAST <= value <= MOST:
        raise ArgumentError(
            f"agreement={shown(value)}: must be a share of equal answers from {LEAST} to {MOST}, such as 0.95"
        )
    return float(value)


def read_tuning(outcomes: Sequence[RowOutcome], out: Path, agreement: float) -> Tuning:
    """Count equal answers in the rows of a run.

    Args:
        outcomes: of all rows, the uncompressed model first. out: folder of the run. agreement: as in `tune`.

    Raises:
        UnsupportedInputError: a row has no result, or the model without compression answered nothing.
    """
    for outcome in outcomes:
        if outcome.result is None or outcome.error is not None:
            raise UnsupportedInputError(
                f"{outcome.row.method} at {outcome.row.budget_text}: {outcome.error or 'no result'}; the answers so "
                f"far are in {out}, and the same command goes on from there"
            )
    first, *others = outcomes
    base = read_row(out / first.row.id / RESULT)
    answers = answers_of(base)
    if not answers:
        raise UnsupportedInputError(
            f"task={base.task!r}: with all tokens no question was answered, so there is nothing to compare with; see "
            f"{base.path}"
        )
    rows = [_row(outcome, read_row(out / outcome.row.id / RESULT), base, answers) for outcome in others]
    rows.sort(key=lambda row: -float(next(iter(row.budget.values()))))  # stable: methods keep their order
    method = others[0].row.method
    return Tuning(
        base.model,
        base.task,
        base.data,
        method,
        agreement,
        [row for row in rows if row.method == method],
        [row for row in rows if row.method != method],
        base.value,
        base.tokens.get("total"),
        len(base.ids) - len(answers),
        None if base.media is None else len({tuple(paths) for paths in base.media if paths}),
        {outcome.row.id: outcome.failed for outcome in outcomes if outcome.failed},
    )


def _row(outcome: RowOutcome, row: ResultRow, base: ResultRow, answers: Mapping[str, object]) -> TunedRow:
    mine = answers_of(row)
    equal = {key: key in mine and mine[key] == answer for key, answer in answers.items()}
    of_kind: dict[str, list[bool]] = {}
    for key, kind in zip(base.ids, base.kinds_of or ("",) * len(base.ids), strict=True):
        if key in equal:
            of_kind.setdefault(kind, []).append(equal[key])
    return TunedRow(
        outcome.row.method,
        dict(outcome.row.budget),
        row.budget,
        Agreement(sum(equal.values()), len(equal)),
        {kind or "other": Agreement(sum(same), len(same), len(of_kind)) for kind, same in of_kind.items()}
        if len(of_kind) > 1
        else {},
        row.value,
        row.tokens.get("kept"),
        row.unreachable,
    )


def _counts(counted: Agreement, verdict: Verdict) -> dict[str, Any]:
    low, high = counted.limits
    return {
        "equal": counted.equal,
        "questions": counted.questions,
        "low": low,
        "high": high,
        "verdict": verdict,
    }
