"""Registry of tasks: from a task's name to its items."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vidcompress.errors import ArgumentError
from vidcompress.tools.evaluation.run.sweep import TaskSpec
from vidcompress.tools.evaluation.tasks.base import Item, Task
from vidcompress.tools.evaluation.tasks.folder import FolderTask
from vidcompress.tools.evaluation.tasks.shapes import DEFAULT_QUESTIONS, ShapesTask
from vidcompress.tools.evaluation.tasks.table import TableTask
from vidcompress.tools.evaluation.tasks.table_source import open_hub, open_parquet


def make_task(spec: TaskSpec, media: Path) -> Task:
    """Make a task that runs here.

    Args:
        spec: of a task that is not lmms-eval's.
        media: folder for pictures and clips that have to be drawn, or written from a table.

    Raises:
        ArgumentError: the folder of a "data:" task, or the table of a "parquet:" or "hub:" task, is not as it must be.
    """
    if spec.kind == "data":
        return FolderTask(Path(spec.rest))
    if spec.kind == "shapes":
        options = {key: getattr(spec, key) for key in ("seed", "frames") if getattr(spec, key) is not None}
        return ShapesTask(
            "clip" if spec.rest == "clip" else "image",
            media / spec.rest,
            questions=spec.questions or spec.limit or DEFAULT_QUESTIONS,
            **options,
        )
    if spec.kind in ("parquet", "hub"):
        is_hub = spec.kind == "hub"
        return TableTask(
            open_hub(spec.rest, spec.split) if is_hub else open_parquet(Path(spec.rest), spec.split),
            media / "table",
            columns=spec.columns or (),
            metric=spec.metric,
            prompt_suffix=spec.prompt_suffix,
            limit=spec.limit,
        )
    raise ArgumentError(
        f"task={spec.name!r}: lmms-eval runs it; only shapes:, data:, parquet: and hub: tasks have questions here"
    )


class Tasks:
    """The tasks of a sweep, each read once.

    Args:
        media: as in `make_task`.
    """

    def __init__(self, media: Path) -> None:
        self._media = media
        self._tasks: dict[TaskSpec, tuple[Task, Sequence[Item]]] = {}

    def __call__(self, spec: TaskSpec) -> tuple[Task, Sequence[Item]]:
        """The task and its items, the first `limit` of them.

        Raises:
            ArgumentError: as `make_task`.
        """
        if spec not in self._tasks:
            task = make_task(spec, self._media)
            self._tasks[spec] = task, tuple(task.items())[: spec.limit]
        return self._tasks[spec]

    def write_media(self, spec: TaskSpec) -> None:
        """Write the media of a task that are missing and are no files of their own.

        Raises:
            OSError: a file cannot be written.
        """
        task, _ = self(spec)
        if isinstance(task, (ShapesTask, TableTask)):
            task.write_media()


def task_name(spec: TaskSpec, task: Task | None) -> str:
    """Name of a task in tables: its label, the name in its folder, or lmms-eval's name."""
    if spec.label:
        return spec.label
    return task.name if task is not None else spec.rest
