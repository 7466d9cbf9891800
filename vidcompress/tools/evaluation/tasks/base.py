"""Base of tasks: an item is a question with its media, a task is a list of items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, get_args, runtime_checkable

Metric = Literal["exact", "choice", "yes_no", "anls"]
METRICS: tuple[str, ...] = get_args(Metric)
"""Metrics of one answer; see `vidcompress.tools.evaluation.metrics`."""


@dataclass(frozen=True)
class Item:
    """One question of a benchmark.

    Attributes:
        id: unique within its task.
        question: text of the user's turn as it is put to the model, without media placeholders.
        images: picture files, in the order in which the model sees them.
        video: a clip, or None.
        answers: every answer that is accepted; of a multiple-choice question the letter or the text of the option.
        choices: options of a multiple-choice question, in order: A, B, ...
        kind: type of question, whose mean is reported by itself; "" for none.
        group: items of one non-empty group show the same media and are asked in order over media that were encoded
            and compressed once (`qa.chat(history=False)`).
        facts: metadata of the item, such as `{"frames": 64, "position": 0.25, "set": "long"}`; JSON values.
        metric: one of `METRICS` where it is not the task's.
    """

    id: str
    question: str
    images: tuple[Path, ...] = ()
    video: Path | None = None
    answers: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    kind: str = ""
    group: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    metric: str = ""


@runtime_checkable
class Task(Protocol):
    """A benchmark.

    Attributes:
        name: as in a sweep file.
        split: of the data.
        revision: SHA-256 of the data, in hexadecimal; answers about other data are not mixed with these.
        metric: one of `METRICS`, or "mixed" where the items state it.
        max_new_tokens: longest answer, in tokens.
    """

    @property
    def name(self) -> str:
        """Name as in a sweep file."""
        ...

    @property
    def split(self) -> str:
        """Split of the data."""
        ...

    @property
    def revision(self) -> str:
        """SHA-256 of the data, in hexadecimal."""
        ...

    @property
    def metric(self) -> str:
        """One of `METRICS`, or "mixed"."""
        ...

    @property
    def max_new_tokens(self) -> int:
        """Longest answer, in tokens."""
        ...

    def items(self) -> Sequence[Item]:
        """The questions, always in the same order."""
        ...
