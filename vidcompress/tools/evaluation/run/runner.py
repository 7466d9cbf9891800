"""Runs the rows of a sweep one by one, each from where it was; a row that fails does not stop the others."""

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
from vidcompress.tools.evaluation.run.model_cache import Checkpoints, facts, weights_of
from vidcompress.tools.evaluation.run.result_file import build_result, read_result, write_result
from vidcompress.tools.evaluation.run.sweep import BASELINE, ModelSpec, Row, Sweep
from vidcompress.tools.evaluation.run.worker import (
    ANSWERS,
    Part,
    is_answer,
    merge_parts,
    open_batches,
    run_part,
)
from vidcompress.tools.evaluation.tasks.base import Item, Task
from vidcompress.tools.evaluation.tasks.registry import Tasks
from vidcompress.tools.runs.journal import Journal, JournalError, check_head
from vidcompress.tools.runs.provenance import provenance
from vidcompress.tools.runs.run_log import RunLog, read_events

MEDIA = "media"


@dataclass(frozen=True)
class Outcome:
    """What became of a row.

    Attributes:
        row: the row.
        result: its result, or None where it has none.
        error: why it has none, or why it is not whole.
        resumed: answers that were there before.
    """

    row: Row
    result: Mapping[str, Any] | None = None
    error: str | None = None
    resumed: int = 0

    @property
    def failed(self) -> int:
        """Questions of the row that have no answer because of an error of their own."""
        return 0 if self.result is None else len(self.result["failed"])

    @property
    def good(self) -> bool:
        """Whether everything that was asked for is there."""
        return self.error is None and not self.failed


class Watcher:
    """Hears how a run goes; this one says nothing."""

    def row(self, row: Row, questions: int, done: int) -> None:
        """A row begins, of which `done` questions are answered."""

    def advance(self, questions: int) -> None:
        """So many more questions are answered."""

    def outcome(self, outcome: Outcome) -> None:
        """A row has ended."""


class Runner:
    """Runs a sweep.

    Args:
        sweep: what is measured.
        out: folder of the run; every row has a folder in it.
        ranks: the processes that share the work.
        watcher: hears how it goes.
        models: loads the models.

    Raises:
        ArgumentError: another run is at work in the folder. JournalError: the folder cannot be made.
    """

    def __init__(
        self,
        sweep: Sweep,
        out: Path,
        ranks: Ranks | None = None,
        watcher: Watcher | None = None,
        models: Checkpoints | None = None,
    ) -> None:
        self.sweep, self.out = sweep, Path(out)
        self.ranks, self.watcher = ranks or Ranks(), watcher or Watcher()
        self.models, self.tasks = models or Checkpoints(), Tasks(self.out / MEDIA)

    def run(self) -> list[Outcome]:
        """Run every row that is not finished.

        Returns:
            One outcome per row, in order; on other processes than the first they hold no results.

        Raises:
            ArgumentError: a folder of a "data:" task is not as it must be, or another run is at work in this folder.
        """
        rows = self.sweep.rows()
        for row in rows:
            if row.task.kind != "lmms":
                self.tasks(row.task)  # what is malformed is refused before anything is written or loaded
        with self._alone():
            outcomes = []
            for row in rows:
                outcome = self._lmms(row) if row.task.kind == "lmms" else self._row(row)
                outcomes.append(outcome)
                self.watcher.outcome(outcome)
            self.models.release()
            self.ranks.gather(None)  # a process that leaves early would be taken for a dead one
            return outcomes

    def check_folder(self) -> None:
        """Refuse a folder with answers of another run, as far as that shows without loading a model.

        Raises:
            ArgumentError: it holds such answers, or a folder of a "data:" task is not as it must be.
            OSError: a journal cannot be read.
        """
        for row in self.sweep.rows():
            path = self.out / row.id / ANSWERS
            if row.task.kind != "lmms" and path.exists() and weights_of(row.model) is not None:
                check_head(path, self._head(row, *self.tasks(row.task)))

    def _row(self, row: Row) -> Outcome:
        task, items = self.tasks(row.task)
        folder, plan = self.out / row.id, Plan()
        if self.ranks.first:
            plan = self._plan(row, task, items, folder)
        plan, journal = self.ranks.from_first(plan), plan.journal
        if plan.outcome is not None:
            return plan.outcome
        self.watcher.row(row, len(items), len(plan.done))
        log = RunLog(folder, self.ranks.rank)
        spec = self._placed(row.model)

        def load() -> Any:
            loaded = self.models(spec)
            if self.ranks.first:
                log.add(
                    "start",
                    processes=self.ranks.size,
                    answered=len(plan.done),
                    corrupt=plan.corrupt,
                    provenance=_where_from(),
                    **facts(row.model, *loaded, clips=any(item.video is not None for item in items)),
                )
            return loaded

        batches = open_batches(items, row.batch_size, plan.done)[self.ranks.rank :: self.ranks.size]
        try:
            mine = journal or Journal(folder / f"answers.rank{self.ranks.rank}.jsonl", plan.head, is_answer)
            part = run_part(
                row,
                task,
                items,
                batches,
                mine,
                log,
                load,
                self.ranks,
                self._advance(len(items) - len(plan.done)),
            )
        except VidcompressError as error:
            part = Part(error=str(error))
        parts = self.ranks.gather(part)
        if journal is None:
            return Outcome(row, error=next((part.error for part in parts if part.error), None))
        return self._finish(row, task, items, journal, plan, parts)

    def _plan(self, row: Row, task: Task, items: Sequence[Item], folder: Path) -> Plan:
        """What is to be done of a row: nothing where its result stands."""
        try:
            head = self._head(row, task, items)
            result = read_result(folder)
            same = result is not None and result["provenance"].get("head") == head
            if same and result is not None and result["unreachable"]:
                return Plan(Outcome(row, result))
            if row.baseline is not None:
                base = {**head, "method": BASELINE, "budget": {"retention_ratio": 1.0}}
                check_head(self.out / row.baseline / ANSWERS, base)  # what it will be compared with
            journal = Journal(folder / ANSWERS, head, is_answer)
            merge_parts(folder, journal, head)
            done = [item.id for item in items if item.id in journal.done]
            if result is not None and same and len(done) == len(items):
                if not result["failed"] or _counts_failed(result) == row.failed:
                    return Plan(Outcome(row, result, resumed=len(done)))
                corrupt = int(result.get("corrupt_lines", 0))
                rescored = Plan(None, head, done, corrupt, journal)
                return Plan(self._finish(row, task, items, journal, rescored, ()))
            self.tasks.write_media(row.task)
            return Plan(None, head, done, journal.corrupt, journal)
        except OSError as error:
            cause = str(error) if isinstance(error, JournalError) else f"{self.out}: {one_line(error)}"
            return Plan(Outcome(row, error=cause))
        except Exception as error:  # noqa: BLE001  (a model that does not load; the other rows of the sweep go on)
            known = isinstance(error, VidcompressError)
            return Plan(Outcome(row, error=str(error) if known else one_line(error)))

    def _finish(
        self,
        row: Row,
        task: Task,
        items: Sequence[Item],
        journal: Journal,
        plan: Plan,
        parts: Sequence[Part],
    ) -> Outcome:
        folder = self.out / row.id
        error = next((part.error for part in parts if part.error), None)
        if error is not None:
            RunLog(folder).add("error", error=error)
            return Outcome(row, error=error, resumed=len(plan.done))
        unwritten = {name: why for part in parts for name, why in part.unwritten.items()}
        try:
            unwritten |= merge_parts(folder, journal, plan.head)
            if all(item.id in journal.done for item in items):
                journal.finish([item.id for item in items])
            RunLog(folder).add("finish", answered=len(journal.done))
            result = build_result(
                row,
                task,
                items,
                journal.done,
                read_events(folder),
                plan.head,
                unwritten=unwritten,
                unreachable=next((part.unreachable for part in parts if part.unreachable), None),
                corrupt=plan.corrupt,
            )
            write_result(folder, result)
        except Exception as problem:  # noqa: BLE001  (a full disk, a damaged file; the other rows of the sweep go on)
            said = str(problem) if isinstance(problem, VidcompressError) else f"{folder}: {one_line(problem)}"
            return Outcome(row, error=said, resumed=len(plan.done))
        return Outcome(row, result, resumed=len(plan.done))

    def _head(self, row: Row, task: Task, items: Sequence[Item]) -> dict[str, Any]:
        """What answers depend on; they are not mixed with others."""
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
            "weights": self.models.weights(self._placed(spec)),
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

    def _lmms(self, row: Row) -> Outcome:
        from vidcompress.tools.evaluation.lmms_eval.row import run_lmms_row

        self.models.release()  # the harness loads it in a process of its own
        outcome = Outcome(row)
        if self.ranks.first:
            self.watcher.row(row, 0, 0)
            try:
                outcome = run_lmms_row(row, self.out / row.id, self.ranks.here, _where_from())
            except Exception as error:  # noqa: BLE001  (the other rows of the sweep go on)
                known = isinstance(error, VidcompressError)
                outcome = Outcome(row, error=str(error) if known else one_line(error))
        return self.ranks.from_first(outcome)

    def _placed(self, spec: ModelSpec) -> ModelSpec:
        """The same model, on the GPU of this process."""
        several = self.ranks.size > 1 and torch.cuda.is_available() and spec.device_map is None
        if several and spec.device in (None, "cuda"):
            return dataclasses.replace(spec, device=f"cuda:{self.ranks.local}")
        return spec

    def _advance(self, left: int) -> Callable[[int], None]:
        """The first process speaks for all: they answer about as many questions as it does."""
        told = 0

        def advance(questions: int) -> None:
            nonlocal told
            more = min(questions * self.ranks.size, left - told)
            told += more
            self.watcher.advance(more)

        return advance

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep a second run out of the folder; a kill ends this too."""
        if not self.ranks.first:
            yield
            return
        import fcntl

        try:
            self.out.mkdir(parents=True, exist_ok=True)
            lock = (self.out / ".lock").open("w")
        except OSError as error:
            raise JournalError(
                f"out={str(self.out)!r} cannot be used: {one_line(error)}; choose another folder"
            ) from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise ArgumentError(
                    f"out={str(self.out)!r}: another run is at work in this folder; wait for it or choose another"
                ) from error
            yield


def _counts_failed(result: Mapping[str, Any]) -> str | None:
    """What questions that failed are in the scores of a result; results from before there was a choice do not say."""
    settings = result.get("settings")
    return settings.get("failed") if isinstance(settings, dict) else None


@cache
def _where_from() -> dict[str, Any]:
    """Where the results of this process come from; what is edited while it runs does not count."""
    return provenance()


@dataclass(frozen=True)
class Plan:
    """What the first process found of a row; told to the others.

    Attributes:
        outcome: where there is nothing to do.
        head: of the journals.
        done: ids of questions that are answered.
        corrupt: journal lines that were set aside.
        journal: of the row; the first process alone has it.
    """

    outcome: Outcome | None = None
    head: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    done: Sequence[str] = ()
    corrupt: int = 0
    journal: Journal | None = dataclasses.field(default=None, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "journal": None}
