"""Runner of a sweep: one row after another, each resumed from its journal; a failed row does not stop the others."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from vidcompress.errors import ArgumentError, VidcompressError, one_line
from vidcompress.tools.evaluation.run.distributed import Ranks
from vidcompress.tools.evaluation.run.limits import check_limits
from vidcompress.tools.evaluation.run.model_cache import ModelCache, run_metadata, weights_of
from vidcompress.tools.evaluation.run.outcome import RowOutcome
from vidcompress.tools.evaluation.run.result_file import (
    LOG,
    build_result,
    read_events,
    read_result,
    write_result,
)
from vidcompress.tools.evaluation.run.sweep import BASELINE, ModelSpec, Sweep, SweepRow
from vidcompress.tools.evaluation.run.worker import (
    ANSWERS,
    RankResult,
    answer_rank,
    is_answer,
    unanswered_batches,
)
from vidcompress.tools.evaluation.tasks.base import Item, Task
from vidcompress.tools.evaluation.tasks.registry import Tasks
from vidcompress.tools.runs.journal import JournalError, RunJournal, check_head
from vidcompress.tools.runs.provenance import provenance
from vidcompress.tools.runs.run_log import RunLog

MEDIA = "media"


@dataclass(frozen=True)
class RowState:
    """State of a row before it runs; the first process determines it and sends it to the others.

    Attributes:
        outcome: of a row that needs no run, else None.
        head: of the journals.
        done: ids of the answered questions.
        corrupt: number of journal lines that could not be read.
        journal: of the row; None on the other processes.
    """

    outcome: RowOutcome | None = None
    head: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    done: Sequence[str] = ()
    corrupt: int = 0
    journal: RunJournal | None = dataclasses.field(default=None, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "journal": None}


class ProgressListener:
    """Listener of a run's progress; this base class ignores it."""

    def row(self, row: SweepRow, questions: int, done: int) -> None:
        """A row begins, with `done` questions answered already."""

    def advance(self, questions: int) -> None:
        """`questions` more questions are answered."""

    def outcome(self, outcome: RowOutcome) -> None:
        """A row has ended."""


class Runner:
    """Runner of a sweep.

    Args:
        sweep: the rows.
        out: folder of the run; every row has a folder in it.
        ranks: the processes that share the work.
        progress: listener of the run's progress.
        models: loads the models.

    Raises:
        ArgumentError: another run is at work in the folder. JournalError: the folder cannot be made.
    """

    def __init__(
        self,
        sweep: Sweep,
        out: Path,
        ranks: Ranks | None = None,
        progress: ProgressListener | None = None,
        models: ModelCache | None = None,
    ) -> None:
        self.sweep, self.out = sweep, Path(out)
        self.ranks, self.progress = ranks or Ranks(), progress or ProgressListener()
        self.models, self.tasks = models or ModelCache(), Tasks(self.out / MEDIA)

    def run(self) -> list[RowOutcome]:
        """Run every row that is not finished.

        Returns:
            One outcome per row, in order; on other processes than the first they hold no results.

        Raises:
            ArgumentError: the data of a task are malformed, another run is at work in this folder, or its run was
                begun with another limit.
        """
        rows = self.sweep.rows()
        check_limits(rows, self.out)
        for row in rows:
            if row.task.kind != "lmms":
                self.tasks(row.task)  # refuses malformed tasks before anything is written or loaded
        with self._folder_lock():
            outcomes = []
            for row in rows:
                outcome = self._run_lmms_row(row) if row.task.kind == "lmms" else self._run_row(row)
                outcomes.append(outcome)
                self.progress.outcome(outcome)
            self.models.release()
            self.ranks.gather(None)  # a process that leaves early would be taken for a dead one
            return outcomes

    def check_folder(self) -> None:
        """Refuse a folder with answers of another run, as far as this can be seen without loading a model.

        Raises:
            ArgumentError: it holds such answers, or the data of a task are malformed.
            OSError: a journal cannot be read.
        """
        check_limits(self.sweep.rows(), self.out)
        for row in self.sweep.rows():
            path = self.out / row.id / ANSWERS
            if row.task.kind != "lmms" and path.exists() and weights_of(row.model) is not None:
                check_head(path, self._head(row, *self.tasks(row.task)))

    def _run_row(self, row: SweepRow) -> RowOutcome:
        task, items = self.tasks(row.task)
        folder, state = self.out / row.id, RowState()
        if self.ranks.first:
            state = self._row_state(row, task, items, folder)
        state, journal = self.ranks.from_first(state), state.journal
        if state.outcome is not None:
            return state.outcome
        self.progress.row(row, len(items), len(state.done))
        log = RunLog(folder / LOG, self.ranks.rank)
        spec = self._on_rank_device(row.model)

        def load() -> Any:
            loaded = self.models(spec)
            if self.ranks.first:
                clips = any(item.video is not None for item in items)
                log.add(
                    "start",
                    processes=self.ranks.size,
                    answered=len(state.done),
                    corrupt=state.corrupt,
                    provenance=_provenance(),
                    **run_metadata(row.model, *loaded, row.settings, clips=clips),
                )
            return loaded

        batches = unanswered_batches(items, row.batch_size, state.done)[self.ranks.rank :: self.ranks.size]
        try:
            rank_journal = journal or RunJournal(
                folder / ANSWERS, state.head, is_answer, rank=self.ranks.rank
            )
            rank_result = answer_rank(
                row,
                task,
                items,
                batches,
                rank_journal,
                log,
                load,
                self.ranks,
                self._advance(len(items) - len(state.done)),
            )
        except VidcompressError as error:
            rank_result = RankResult(error=str(error))
        rank_results = self.ranks.gather(rank_result)
        if journal is None:
            return RowOutcome(
                row, error=next((result.error for result in rank_results if result.error), None)
            )
        return self._finish(row, task, items, journal, state, rank_results)

    def _row_state(self, row: SweepRow, task: Task, items: Sequence[Item], folder: Path) -> RowState:
        """State of a row: its outcome where its result is final, else the answers that it has."""
        try:
            head = self._head(row, task, items)
            result = read_result(folder)
            same = result is not None and result["provenance"].get("head") == head
            if same and result is not None and result["unreachable"]:
                return RowState(RowOutcome(row, result, complete_before=True))
            if row.baseline is not None:
                base = {**head, "method": BASELINE, "budget": {"retention_ratio": 1.0}}
                check_head(self.out / row.baseline / ANSWERS, base)
            journal = RunJournal(folder / ANSWERS, head, is_answer)
            journal.merge_ranks()
            done = [item.id for item in items if item.id in journal.done]
            if result is not None and same and len(done) == len(items):
                if not result["failed"] or _failed_policy(result) == row.failed:
                    return RowState(RowOutcome(row, result, resumed=len(done), complete_before=True))
                corrupt = int(result.get("corrupt_lines", 0))
                rescored = RowState(None, head, done, corrupt, journal)
                return RowState(self._finish(row, task, items, journal, rescored, ()))
            self.tasks.write_media(row.task)
            return RowState(None, head, done, journal.corrupt, journal)
        except OSError as error:
            cause = str(error) if isinstance(error, JournalError) else f"{self.out}: {one_line(error)}"
            return RowState(RowOutcome(row, error=cause))
        except Exception as error:  # noqa: BLE001  (a model that does not load; the other rows of the sweep continue)
            is_ours = isinstance(error, VidcompressError)
            return RowState(RowOutcome(row, error=str(error) if is_ours else one_line(error)))

    def _finish(
        self,
        row: SweepRow,
        task: Task,
        items: Sequence[Item],
        journal: RunJournal,
        state: RowState,
        rank_results: Sequence[RankResult],
    ) -> RowOutcome:
        folder = self.out / row.id
        error = next((result.error for result in rank_results if result.error), None)
        if error is not None:
            RunLog(folder / LOG).add("error", error=error)
            return RowOutcome(row, error=error, resumed=len(state.done))
        unwritten = {name: why for r in rank_results for name, why in r.unwritten.items()}
        try:
            unwritten |= journal.merge_ranks()
            if all(item.id in journal.done for item in items):
                journal.finish([item.id for item in items])
            RunLog(folder / LOG).add("finish", answered=len(journal.done))
            result = build_result(
                row,
                task,
                items,
                journal.done,
                read_events(folder / LOG),
                state.head,
                unwritten=unwritten,
                unreachable=next((r.unreachable for r in rank_results if r.unreachable), None),
                corrupt=state.corrupt,
                out=self.out,
            )
            write_result(folder, result)
        except Exception as problem:  # noqa: BLE001  (a full disk, a damaged file; the other rows continue)
            reason = (
                str(problem) if isinstance(problem, VidcompressError) else f"{folder}: {one_line(problem)}"
            )
            return RowOutcome(row, error=reason, resumed=len(state.done))
        return RowOutcome(row, result, resumed=len(state.done))

    def _head(self, row: SweepRow, task: Task, items: Sequence[Item]) -> dict[str, Any]:
        """Head of the journal: the model, data and settings that answers depend on."""
        spec = row.model
        names = (
            "dtype",
            "attn_implementation",
            "device_map",
            "quantization",
            "num_frames",
            "fps",
            "max_frames",
        )
        return {
            **{name: getattr(spec, name) for name in names},
            **({} if spec.preset is None else {"preset": spec.preset}),
            "model": spec.name,
            "revision": spec.revision,
            "weights": self.models.weights(self._on_rank_device(spec)),
            "device": torch.device(spec.device or ("cuda" if torch.cuda.is_available() else "cpu")).type,
            "task": row.task.name,
            "data": task.revision,
            "limit": row.task.limit,
            "questions": len(items),
            "metric": task.metric,
            "max_new_tokens": row.task.max_new_tokens or task.max_new_tokens,
            "method": row.method,
            "budget": dict(row.budget),
            "batch_size": row.batch_size,
            "seed": row.seed,
        }

    def _run_lmms_row(self, row: SweepRow) -> RowOutcome:
        from vidcompress.tools.evaluation.lmms_eval.row import run_lmms_row

        self.models.release()  # the harness loads it in a process of its own
        outcome = RowOutcome(row)
        if self.ranks.first:
            self.progress.row(row, 0, 0)
            try:
                outcome = run_lmms_row(row, self.out / row.id, self.ranks.here, _provenance())
            except Exception as error:  # noqa: BLE001  (the other rows of the sweep continue)
                is_ours = isinstance(error, VidcompressError)
                outcome = RowOutcome(row, error=str(error) if is_ours else one_line(error))
        return self.ranks.from_first(outcome)

    def _on_rank_device(self, spec: ModelSpec) -> ModelSpec:
        """The model specification with the GPU of this process."""
        several = self.ranks.size > 1 and torch.cuda.is_available() and spec.device_map is None
        if several and spec.device in (None, "cuda"):
            return dataclasses.replace(spec, device=f"cuda:{self.ranks.local}")
        return spec

    def _advance(self, left: int) -> Callable[[int], None]:
        """Callback that scales answered questions to all processes, as they answer about as many each."""
        reported = 0

        def advance(questions: int) -> None:
            nonlocal reported
            more = min(questions * self.ranks.size, left - reported)
            reported += more
            self.progress.advance(more)

        return advance

    @contextmanager
    def _folder_lock(self) -> Iterator[None]:
        """Lock the folder of the run; the lock of a killed process is free."""
        if not self.ranks.first:
            yield
            return
        from filelock import FileLock, Timeout

        lock = FileLock(self.out / ".lock", timeout=0)
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except Timeout as error:
            raise ArgumentError(
                f"out={str(self.out)!r}: another run is at work in this folder; wait for it or choose another"
            ) from error
        except OSError as error:
            raise JournalError(
                f"out={str(self.out)!r} cannot be used: {one_line(error)}; choose another folder"
            ) from error
        try:
            yield
        finally:
            lock.release()


def _failed_policy(result: Mapping[str, Any]) -> str | None:
    """Policy on failed questions of a result; None in results of older versions."""
    settings = result.get("settings")
    return settings.get("failed") if isinstance(settings, dict) else None


@cache
def _provenance() -> dict[str, Any]:
    """Provenance of this process, read once."""
    return provenance()
