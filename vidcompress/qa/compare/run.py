"""Runs of a comparison: the input is decoded and preprocessed once, then every variant is timed in turns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any

from vidcompress.core.devices import input_device
from vidcompress.errors import BudgetError
from vidcompress.loading.resources import model_name
from vidcompress.progress import question_progress
from vidcompress.qa.answer import Answer
from vidcompress.qa.compare.grid import Variant
from vidcompress.qa.compare.result import Comparison
from vidcompress.qa.compare.row import TIMES, ComparisonRow
from vidcompress.qa.pipeline import Pipeline
from vidcompress.qa.question import Question


@dataclass
class VariantRuns:
    """Runs of one variant: the first timed answer, and the times (milliseconds) and texts of all timed ones."""

    variant: Variant
    answer: Answer | None = None
    times: list[dict[str, float]] = field(default_factory=list)
    texts: set[str] = field(default_factory=set)
    failed: str = ""

    def add(self, answer: Answer) -> None:
        """Count an answer as a timed run."""
        self.answer = self.answer or answer
        ms = answer.timing_ms
        first = ms["encode"] + ms["compress"] + ms["prefill"]
        self.times.append({**ms, "first_token": first, "total": first + ms["generate"]})
        self.texts.add(answer.text)


def run_comparison(
    pipeline: Pipeline,
    question: Question,
    variants: Sequence[Variant],
    skipped: Mapping[str, str],
    *,
    generation: Mapping[str, Any],
    repeats: int,
    progress: bool | None,
) -> Comparison:
    """Measure the rows of a comparison.

    Args:
        pipeline: of the model; its compression is not used.
        question: the question and its media.
        variants: the rows, the uncompressed model first; see `make_grid`.
        skipped: label to reason of each method that `make_grid` left out.
        generation: arguments of the model's `generate`.
        repeats: runs per row; the first of several is not counted.
        progress: show a bar on stderr; None shows it on a terminal.

    Raises:
        VidcompressError: raised by a requested method or by the uncompressed model. A budget out of reach becomes a
            row without an answer; a method that was not requested is left out.
    """
    batch = pipeline.preprocess([question])
    shared_ms = {phase: batch.clock.ms[phase] for phase in ("decode", "preprocess")}
    left_out = dict(skipped)

    def run(variant: Variant) -> Answer:
        compressing = replace(pipeline, config=variant.settings)
        return compressing.answer(replace(batch, clock=pipeline.clock()), generation)[0]

    rows = [VariantRuns(variant) for variant in variants]
    with question_progress(len(rows) * repeats, progress, len(rows) * repeats) as advance:
        for row in rows:
            answer = _first_run(row, run, left_out)
            if answer is not None and repeats == 1:
                row.add(answer)
            advance(1)
        rows = [row for row in rows if row.variant.label not in left_out]
        advance((len(variants) - len(rows)) * (repeats - 1))
        for number in range(1, repeats):
            # In alternating order, so that a machine that grows slower or faster favours no row.
            for row in rows if number % 2 else reversed(rows):
                if not row.failed:
                    row.add(run(row.variant))
                advance(1)
    return comparison_of(
        pipeline,
        question,
        [row_of(row, rows[0]) for row in rows],
        left_out,
        shared_ms,
        runs=max(1, repeats - 1),
        warmed_up=repeats > 1,
    )


def comparison_of(
    pipeline: Pipeline,
    question: Question,
    rows: Sequence[ComparisonRow],
    skipped: Mapping[str, str],
    shared_ms: Mapping[str, float],
    *,
    runs: int,
    warmed_up: bool,
) -> Comparison:
    """Make a comparison of its rows.

    Args:
        pipeline: of the model.
        question: that was asked.
        rows: the uncompressed model first.
        skipped: label to reason of each method that was left out.
        shared_ms: milliseconds of `decode` and `preprocess`.
        runs: timed runs of each row.
        warmed_up: whether a run that is not counted came before them.
    """
    model = pipeline.model
    return Comparison(
        question=question.text,
        rows=tuple(rows),
        skipped=skipped,
        shared_ms=shared_ms,
        runs=runs,
        warmed_up=warmed_up,
        model=model_name(model),
        settings={
            "dtype": str(model.dtype).removeprefix("torch."),
            "device": str(input_device(model)),
            "attn_implementation": str(getattr(model.config, "_attn_implementation", "")),
        },
    )


def _first_run(row: VariantRuns, run: Callable[[Variant], Answer], skipped: dict[str, str]) -> Answer | None:
    """Return the answer of a variant's first run; None for one that cannot run, which is marked failed or left out."""
    if row.variant.label in skipped:
        return None
    try:
        return run(row.variant)
    except BudgetError as error:
        row.failed = str(error)
    except Exception as error:
        if row.variant.requested:
            raise
        skipped[row.variant.label] = f"{type(error).__name__}: {error}"
    return None


def row_of(row: VariantRuns, baseline: VariantRuns) -> ComparisonRow:
    """Make the row of a variant's runs; without one, a row whose note is the reason."""
    budget = row.variant.settings.budget
    ratio = None if budget.ratio is None else float(budget.ratio)
    if row.answer is None or baseline.answer is None:
        return ComparisonRow(row.variant.label, ratio, budget.max_tokens, note=row.failed)
    middle, best = ({name: pick(t[name] for t in row.times) for name in TIMES} for pick in (median, min))
    baseline_ms = {name: median(t[name] for t in baseline.times) for name in ("first_token", "total")}
    return ComparisonRow(
        row.variant.label,
        ratio,
        budget.max_tokens,
        answer=row.answer,
        median_ms=middle,
        fastest_ms=best,
        speedup={name: ms / middle[name] for name, ms in baseline_ms.items()},
        speedup_range={name: _range(row, baseline, name) for name in baseline_ms},
        agreement=None if row is baseline else agreement(row.answer.text, baseline.answer.text),
        note="" if len(row.texts) == 1 else f"its runs gave {len(row.texts)} different answers",
    )


def _range(row: VariantRuns, baseline: VariantRuns, name: str) -> tuple[float, float]:
    """Return the smallest and largest ratio of the uncompressed model's time to the row's, turn by turn."""
    ratios = [b[name] / t[name] for b, t in zip(baseline.times, row.times, strict=True)]
    return min(ratios), max(ratios)


def agreement(one: str, other: str) -> float:
    """Return the F1 of the words of two texts, ignoring case, as in SQuAD; 1.0 for two empty ones."""
    ours, theirs = Counter(one.casefold().split()), Counter(other.casefold().split())
    longest = ours.total() + theirs.total()
    return 2 * (ours & theirs).total() / longest if longest else 1.0
