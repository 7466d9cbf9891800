"""Desk: one model for all tabs. Questions are answered one after another, each until it is done or stopped."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from vidcompress.core.method import METHODS
from vidcompress.core.method_lookup import available_methods
from vidcompress.errors import VidcompressError, one_line
from vidcompress.loading.resources import embedded_models, model_name
from vidcompress.qa.compare.grid import BASELINE
from vidcompress.qa.compare.result import Comparison
from vidcompress.qa.compare.row import ComparisonRow
from vidcompress.qa.compare.row_stream import RowStream
from vidcompress.qa.visual_qa import VisualQA
from vidcompress.tools.app.uploads import Kind, Upload, open_upload, without_folder

SECONDS_BETWEEN_STATES: Final = 0.1
"""Least time between two states that differ in the words of an answer only."""
SECONDS_BETWEEN_LOOKS: Final = 0.25
"""Time after which a waiting question looks whether it was stopped."""
KINDS_KEPT = 256
"""Files that were checked and need no second check, at most."""
MOST_METHODS = 12
"""Most methods of one question."""
FAVOURITES = ("globalcom2", "random")
"""Methods that are ticked at the start."""

Phase = Literal["waiting", "running", "done", "stopped", "failed"]


@dataclass(frozen=True)
class Asking:
    """Question as the page sends it.

    Attributes:
        question: the text.
        path: of the uploaded file; None where there is none.
        methods: names, with options as in "globalcom2:tau=5".
        retention_ratio: share of the visual tokens to keep; None where `max_tokens` states the budget.
        max_tokens: visual tokens to keep.
    """

    question: str
    path: str | None
    methods: Sequence[str]
    retention_ratio: float | None = None
    max_tokens: int | None = None


@dataclass(frozen=True)
class State:
    """State of a question, as the page shows it.

    Attributes:
        phase: "waiting" for other tabs, "running", "done", "stopped" or "failed".
        message: reason of a failure.
        before: questions that come before this one.
        labels: (method, budget) of all rows.
        rows: the rows so far.
        words: of the answer that is generated.
        comparison: of the rows so far; None while there are none.
    """

    phase: Phase
    message: str = ""
    before: int = 0
    labels: tuple[tuple[str, str], ...] = ()
    rows: tuple[ComparisonRow, ...] = ()
    words: str = ""
    comparison: Comparison | None = None


class Desk:
    """Desk in front of one model.

    Args:
        qa: the model.
        max_new_tokens: longest answer, in tokens.
    """

    def __init__(self, qa: VisualQA, max_new_tokens: int = 64) -> None:
        self._qa, self._max_new_tokens = qa, max_new_tokens
        self._line: list[_Ticket] = []
        self._kinds: dict[tuple[object, ...], Kind] = {}
        self._moved = threading.Condition()

    @property
    def model(self) -> str:
        """Name of the model."""
        return model_name(self._qa.model)

    @property
    def limits(self) -> str:
        """One line on what an embedded model knows; empty for any other."""
        if self.model not in embedded_models():
            return ""
        return (
            f"{self.model} is a toy: it knows coloured shapes and digits only, as in the examples. For other pictures "
            "and clips name a checkpoint: vidcompress app --model ..."
        )

    def open(self, path: str) -> Upload:
        """Check and open an uploaded file.

        Raises:
            MediaError: as `open_upload`.
        """
        upload = open_upload(path, {**self._qa.sampling, "rule": self._qa.processor.frame_rule})
        while len(self._kinds) >= KINDS_KEPT:
            self._kinds.pop(next(iter(self._kinds)), None)
        self._kinds[_identity(path)] = upload.kind
        return upload

    def stop(self, session: str) -> None:
        """Stop the questions of a tab, waiting or running."""
        with self._moved:
            tickets = [ticket for ticket in self._line if ticket.session == session]
        for ticket in tickets:
            ticket.stop()

    def close(self) -> None:
        """Stop all questions."""
        with self._moved:
            tickets = list(self._line)
        for ticket in tickets:
            ticket.stop()

    def ask(self, asking: Asking, session: str = "") -> Iterator[State]:
        """Answer a question without compression, then with each method.

        Args:
            asking: the question.
            session: of the tab, for `stop`.

        Yields:
            States, the last one with the phase "done", "stopped" or "failed". Leaving the loop stops the generation.
        """
        ticket = _Ticket(session)
        with self._moved:
            self._line.append(ticket)
        try:
            yield from self._wait(ticket)
            if ticket.stopped:
                yield State("stopped")
                return
            yield from self._run(asking, ticket)
        except VidcompressError as error:
            yield State("failed", without_folder(str(error), asking.path or ""))
        except Exception as error:  # noqa: BLE001  (a page shows one line, and the server goes on)
            yield State("failed", f"{type(error).__name__}: {one_line(error)}")
        finally:
            with self._moved:
                self._line.remove(ticket)
                self._moved.notify_all()

    def _wait(self, ticket: _Ticket) -> Iterator[State]:
        last = 0
        while not ticket.stopped:
            with self._moved:
                before = self._line.index(ticket)
                if before and before == last:
                    self._moved.wait(SECONDS_BETWEEN_LOOKS)
            if not before:
                return
            if before != last:
                yield State("waiting", before=before)
            last = before

    def _run(self, asking: Asking, ticket: _Ticket) -> Iterator[State]:
        state = State("running")
        yield state
        with self._rows(asking) as stream:
            ticket.attach(stream)
            state = replace(state, labels=stream.labels)
            yield state
            shown = time.monotonic()
            for item in stream:
                if isinstance(item, ComparisonRow):
                    rows = (*state.rows, item)
                    state = replace(state, rows=rows, words="", comparison=stream.comparison)
                else:
                    state = replace(state, words=state.words + item)
                    if time.monotonic() - shown < SECONDS_BETWEEN_STATES and state.words != item:
                        continue
                shown = time.monotonic()
                yield state
        yield replace(state, phase="stopped" if ticket.stopped else "done", words="")

    def _rows(self, asking: Asking) -> RowStream:
        """Begin a comparison.

        Raises:
            VidcompressError: the question, its file, a method or the budget is not allowed.
        """
        if not asking.path:
            raise VidcompressError("There is no picture and no clip yet; upload one, or take an example.")
        if not asking.question.strip():
            raise VidcompressError("There is no question yet; write one.")
        methods = [name for name in asking.methods if name != BASELINE]
        if not methods:
            raise VidcompressError("No method is chosen; choose at least one.")
        if len(methods) > MOST_METHODS:
            raise VidcompressError(f"{len(methods)} methods are chosen; choose at most {MOST_METHODS}.")
        budget: dict[str, Any] = {"retention_ratios": asking.retention_ratio}
        if asking.max_tokens is not None:
            budget = {"max_tokens": asking.max_tokens}
        kind = self._kinds.get(_identity(asking.path)) or self.open(asking.path).kind
        media: dict[str, Any] = {kind: asking.path}
        return self._qa.compare_rows(
            asking.question,
            **media,
            methods=methods,
            **budget,
            controls=False,
            max_new_tokens=self._max_new_tokens,
        )


class _Ticket:
    """Place of a question in the line."""

    def __init__(self, session: str) -> None:
        self.session, self.stopped = session, False
        self._stream: RowStream | None = None

    def attach(self, stream: RowStream) -> None:
        """Hand over the stream that `stop` closes."""
        self._stream = stream
        if self.stopped:
            stream.close()

    def stop(self) -> None:
        """Stop the question."""
        self.stopped = True
        if self._stream is not None:
            self._stream.close()


def _identity(path: str) -> tuple[object, ...]:
    """Return what tells whether a file is the one that was checked."""
    try:
        state = os.stat(path)
    except OSError:
        return (path,)
    return path, state.st_size, state.st_mtime_ns


def serving(kind: Kind | None) -> list[str]:
    """Return the names of the methods that serve pictures or clips; of all methods where the kind is None."""
    names = [name for name in available_methods() if name != BASELINE]
    return [name for name in names if kind is None or kind in METHODS.get(name).modalities]
