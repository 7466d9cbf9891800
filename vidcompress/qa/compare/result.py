"""Result of a comparison: its rows and their common facts, as objects, as a table and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vidcompress.errors import shown
from vidcompress.qa.compare.row import ComparisonRow

if TYPE_CHECKING:
    from PIL.Image import Image

    from vidcompress.table import Table

STR_WIDTH = 100
"""Most columns of a comparison as text, whatever the terminal; `vidcompress compare` measures the terminal."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """Comparison of several methods and budgets on one input.

    Attributes:
        question: text of the question.
        rows: the uncompressed model first, then method by method, budget by budget.
        skipped: methods of the default set that do not serve this input or model, with the reason.
        shared_ms: milliseconds of `decode` and `preprocess`, done once and not counted in any row.
        runs: timed runs per row.
        model: name of the model; device, dtype and attention are in `settings`.
        settings: device, dtype and attention of the model.
        warmed_up: whether an uncounted run came before the timed ones.
    """

    question: str
    rows: tuple[ComparisonRow, ...]
    skipped: Mapping[str, str]
    shared_ms: Mapping[str, float]
    runs: int
    model: str
    settings: Mapping[str, str]
    warmed_up: bool = True

    @property
    def baseline(self) -> ComparisonRow:
        """The uncompressed model."""
        return self.rows[0]

    def overlay(self) -> Image:
        """Draw a contact sheet of the kept tokens: methods downwards, budgets across.

        Raises:
            ArgumentError: more rows or columns than fit on a sheet.
        """
        from vidcompress.qa.compare.contact_sheet import draw_contact_sheet

        return draw_contact_sheet(self.rows, question=self.question, model=self.model)

    def html(self) -> str:
        """Return a page that shows what each row kept, as one HTML file that loads nothing.

        A notebook shows it for a comparison at the end of a cell. It lists the rows and has for each the answer, the
        kept tokens over the media, scores, mass, what layers dropped, and the times.
        """
        from vidcompress.qa.compare.page import comparison_page

        return comparison_page(
            self.rows,
            question=self.question,
            remarks=[*self._times_said(), *self._left_out()],
        )

    def _repr_html_(self) -> str:
        """Return the page in a frame, for notebooks."""
        from vidcompress.qa.viewer.page import embedded

        return embedded(self.html())

    def _times_said(self) -> list[str]:
        """What was measured, and how."""
        shared = ", ".join(f"{phase} {ms:.1f} ms" for phase, ms in self.shared_ms.items())
        ran = ", ".join(self.settings.values())
        runs = f"{self.runs} timed run{'s' * (self.runs != 1)} per row"
        times = f"medians of {runs}, in turns, after one that is not counted."
        if not self.warmed_up:
            times = f"{runs}, warming up included: later rows look faster than they are."
        return [
            f"{self.model}, {ran}; {times} One input on this machine is no benchmark.",
            f"once for all rows, and in none of them: {shared}.",
        ]

    def _left_out(self) -> list[str]:
        """Methods that were left out, with the reasons."""
        labels: dict[str, list[str]] = {}
        for label, reason in self.skipped.items():
            labels.setdefault(reason, []).append(label)
        return [f"left out: {', '.join(alike)}: {reason}" for reason, alike in labels.items()]

    def _remarks(self) -> list[str]:
        """Remarks below the table: the meaning of the times, notes on rows, and methods that were left out."""
        lines = [
            *self._times_said(),
            "speed-up: of the first token, against the first row; min-max: the same run by run; agrees: words in "
            "common with its answer (F1).",
        ]
        if any(row.answer is not None and row.answer.report.inside is not None for row in self.rows):
            lines.append("kept: of methods that go on inside the language model, on average over its layers.")
        noted: dict[str, list[str]] = {}
        for row in self.rows:
            if row.note:
                noted.setdefault(row.note, []).append(f"{row.label} at {row.budget_text}")
        lines += [f"note: {', '.join(names)}: {note}" for note, names in noted.items()]
        if self.baseline.answer is not None:  # notes on the question and the input themselves
            lines += [f"note: {note}" for note in self.baseline.answer.report.all_notes]
        return [*lines, *self._left_out()]

    def table(self) -> Table:
        """Rows as a table, with remarks below it."""
        from vidcompress.qa.compare.table import comparison_table

        return comparison_table(self.rows, self._remarks())

    def to_dict(self, provenance: Mapping[str, Any] | None = None, *, masks: bool = False) -> dict[str, Any]:
        """Return everything as JSON types.

        Args:
            provenance: command, versions and machine, stated beside the rows by `vidcompress compare --json`.
            masks: add to each view of each row its place, mask, stages and masses.
        """
        return {
            "question": self.question,
            "model": self.model,
            **self.settings,
            "rows": [row.to_dict(masks=masks) for row in self.rows],
            "skipped": dict(self.skipped),
            "shared_ms": {phase: round(ms, 3) for phase, ms in self.shared_ms.items()},
            "runs": self.runs,
            "warmed_up": self.warmed_up,
            **({} if provenance is None else {"provenance": dict(provenance)}),
        }

    def __repr__(self) -> str:
        methods = list(dict.fromkeys(row.label for row in self.rows))
        return (
            f"Comparison({shown(self.question)}, model={self.model!r}, rows={len(self.rows)}, "
            f"methods=[{shown(', '.join(methods), 120)[1:-1]}])"
        )

    def __str__(self) -> str:
        return self.table().text(STR_WIDTH)
