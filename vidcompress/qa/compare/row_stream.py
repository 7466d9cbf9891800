"""Rows of a comparison one after another, with the words of each while they are generated."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from threading import Event
from typing import Any

from vidcompress.errors import CompressionStateError, VidcompressError, one_line
from vidcompress.qa.answer import Answer
from vidcompress.qa.compare.grid import Variant
from vidcompress.qa.compare.result import Comparison
from vidcompress.qa.compare.row import ComparisonRow
from vidcompress.qa.compare.run import VariantRuns, comparison_of, row_of
from vidcompress.qa.pipeline import Pipeline, PreparedBatch
from vidcompress.qa.question import Question
from vidcompress.qa.streaming import stream_text


class RowStream(Iterator["str | ComparisonRow"]):
    """Iterator over a comparison that runs: pieces of a row's answer, then the row; made by `VisualQA.compare_rows`.

    The rows come in the order of `labels`, each from one run. A method that cannot serve the input gives a row without
    an answer, whose `note` is the reason. As a `with` block it is closed at the end.

    Attributes:
        labels: (method, budget) of every row, the uncompressed model first, such as ("globalcom2", "0.25").
        rows: the rows so far.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        question: Question,
        variants: Sequence[Variant],
        skipped: Mapping[str, str],
        generation: Mapping[str, Any],
    ) -> None:
        self._pipeline, self._question, self._generation = pipeline, question, generation
        self._variants, self._skipped = tuple(variants), dict(skipped)
        self._shared_ms: dict[str, float] = {}
        self._left = Event()
        self._items = self._run()
        self.labels = tuple((variant.label, variant.budget_text) for variant in variants)
        self.rows: list[ComparisonRow] = []

    def __next__(self) -> str | ComparisonRow:
        if self._left.is_set():
            self._items.close()
        return next(self._items)

    def close(self) -> None:
        """Stop, also from another thread: what runs ends at its next token, and no further row comes."""
        self._left.set()
        with suppress(ValueError):  # the loop is at work in another thread, and ends by itself
            self._items.close()

    def __enter__(self) -> RowStream:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def comparison(self) -> Comparison:
        """The comparison of the rows so far.

        Raises:
            CompressionStateError: there is no row yet.
        """
        if not self.rows:
            raise CompressionStateError(
                "compare_rows: no row is complete yet; take rows from the loop before reading its comparison"
            )
        return comparison_of(
            self._pipeline,
            self._question,
            self.rows,
            self._skipped,
            self._shared_ms,
            runs=1,
            warmed_up=False,
        )

    def _run(self) -> Generator[str | ComparisonRow]:
        batch = self._pipeline.preprocess([self._question])
        self._shared_ms = {phase: batch.clock.ms[phase] for phase in ("decode", "preprocess")}
        baseline: VariantRuns | None = None
        for variant in self._variants:
            runs = VariantRuns(variant)
            try:
                answer = yield from self._answer(batch, variant)
            except Exception as error:
                if baseline is None:
                    raise
                ours = isinstance(error, VidcompressError)
                runs.failed = str(error) if ours else f"{type(error).__name__}: {one_line(error)}"
            else:
                if self._left.is_set():  # the answer was cut short
                    return
                runs.add(answer)
            baseline = baseline or runs
            row = row_of(runs, baseline)
            self.rows.append(row)
            yield row

    def _answer(self, batch: PreparedBatch, variant: Variant) -> Generator[str, None, Answer]:
        """Yield the words of a variant's answer, and return the answer."""
        compressing = replace(self._pipeline, config=variant.settings)
        answers: list[Answer] = []

        def run(**extra: Any) -> None:
            again = replace(batch, clock=self._pipeline.clock())
            answers.extend(compressing.answer(again, {**self._generation, **extra}))

        yield from stream_text(self._pipeline.processor.tokenizer, run, self._left)
        return answers[0]
