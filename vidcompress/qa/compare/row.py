"""Row of a comparison: one method at one budget, its answer and its times."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vidcompress.errors import shown
from vidcompress.qa.answer import Answer

TIMES = ("encode", "compress", "prefill", "first_token", "generate", "total")
"""`first_token` is encode + compress + prefill, from pixels to the first token; `total` adds the other tokens."""


@dataclass(frozen=True, eq=False)
class ComparisonRow:
    """Comparison row: one method at one budget.

    Attributes:
        label: the method as it was named, with its options.
        retention_ratio, max_tokens: the requested budget; one of them is None.
        answer: of the first timed run, with its report; None where the budget is out of reach.
        median_ms, fastest_ms: milliseconds of `TIMES` over the timed runs, each entry by itself.
        speedup: median of the uncompressed model over this median, for `first_token` and `total`.
        speedup_range: the smallest and the largest of these ratios run by run, for the same two.
        agreement: F1 of the answer's words against the uncompressed model's, 0 to 1; 1 is the same words.
        note: reason for a missing answer, or a remark about it; empty otherwise.
    """

    label: str
    retention_ratio: float | None
    max_tokens: int | None
    answer: Answer | None = None
    median_ms: Mapping[str, float] = field(default_factory=dict)
    fastest_ms: Mapping[str, float] = field(default_factory=dict)
    speedup: Mapping[str, float] = field(default_factory=dict)
    speedup_range: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    agreement: float | None = None
    note: str = ""

    @property
    def text(self) -> str | None:
        """The answer's text."""
        return None if self.answer is None else self.answer.text

    @property
    def kept(self) -> int | None:
        """Visual tokens that reached the language model, separators included."""
        return None if self.answer is None else self.answer.report.kept

    @property
    def total(self) -> int | None:
        """Visual tokens without compression."""
        return None if self.answer is None else self.answer.report.total

    @property
    def effective(self) -> float | None:
        """Visual tokens that a layer of the language model takes in, on average over its layers.

        It is `kept`, except for methods that also prune inside the language model.
        """
        if self.answer is None:
            return None
        return float(self.answer.report.mean_kept)

    @property
    def retention(self) -> float | None:
        """Realised share: `effective` of `total`, 0 to 1."""
        return None if self.effective is None else self.effective / max(1, self.total or 0)

    @property
    def budget_text(self) -> str:
        """The budget in words: "all", "0.25" or "64 tokens"."""
        return budget_words(self.label, self.retention_ratio, self.max_tokens)

    def __repr__(self) -> str:
        if self.answer is None:
            return f"ComparisonRow({self.label!r}, {self.budget_text}, no answer: {shown(self.note)})"
        return (
            f"ComparisonRow({self.label!r}, {self.budget_text}, {shown(self.answer.text)}, kept={self.kept} of "
            f"{self.total}, first_token={self.median_ms.get('first_token', 0.0):.1f} ms)"
        )

    def to_dict(self, *, masks: bool = False) -> dict[str, Any]:
        """Return the row as JSON types.

        Args:
            masks: add to each view its place, mask, stages and masses.
        """
        entry: dict[str, Any] = {
            "method": self.label,
            "retention_ratio": self.retention_ratio,
            "max_tokens": self.max_tokens,
            "note": self.note,
        }
        if self.answer is None:
            return entry | {"answer": None}
        report = self.answer.report.to_dict(masks=masks)
        names = ("policy", "separators", "positions", "visual_tokens", "notes", "view_text", "mass", "inside")
        from_report = {name: report[name] for name in names if name in report}
        return entry | {
            "answer": self.answer.text,
            "new_tokens": self.answer.new_tokens,
            "realised_retention": round(self.retention or 0.0, 6),
            **from_report,
            "median_ms": {name: round(ms, 3) for name, ms in self.median_ms.items()},
            "fastest_ms": {name: round(ms, 3) for name, ms in self.fastest_ms.items()},
            "speedup": {name: round(times, 3) for name, times in self.speedup.items()},
            "speedup_range": {
                name: [round(low, 3), round(high, 3)] for name, (low, high) in self.speedup_range.items()
            },
            "agreement": None if self.agreement is None else round(self.agreement, 4),
        }


def budget_words(label: str, retention_ratio: float | None, max_tokens: int | None) -> str:
    """Return a budget in words: "all", "0.25" or "64 tokens".

    Args:
        label: of the method; "none" is the uncompressed model.
        retention_ratio, max_tokens: the budget; one of them is None.
    """
    if max_tokens is not None:
        return f"{max_tokens} tokens"
    return "all" if label == "none" else f"{retention_ratio:g}"
