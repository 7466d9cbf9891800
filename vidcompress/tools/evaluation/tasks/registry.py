"""Registry of tasks: from a task's name to its items."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vidcompress.errors import ArgumentError
from vidcompress.tools.evaluation.run.sweep import TaskSpec
from vidcompress.tools.evaluation.tasks.base import Item, Task
from vidcompress.tools.evaluation.tasks.folder import FolderTask
from vidcompress.tools.evaluation.tasks.shapes import DEFAULT_QUESTIONS, ShapesTask


def make_task(spec: TaskSpec, media: Path) -> Task:
    """Make a task that runs here.

    Args:
        spec: of a "shapes:" or a "data:" task.
        media: folder for pictures and clips that have to be drawn.

    Raises:
        ArgumentError: the folder of a "data:" task is not as it must be.
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
    raise ArgumentError(
        f"task={spec.name!r}: lmms-eval runs it; only shapes: and data: tasks have questions here"
    )


class Tasks:
    """The tasks of a sweep, each read once.

    Args:
        media: folder for pictures and clips that have to be drawn.
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
        """Draw the media of a task that are missing.

        Raises:
            OSError: a file cannot be written.
        """
        task, _ = self(spec)
        if isinstance(task, ShapesTask):
            task.write_media()


def task_name(spec: TaskSpec, task: Task | None) -> str:
    """Name of a task in tables: its label, the name in its folder, or lmms-eval's name."""
    if spec.label:
        return spec.label
    return task.name if task is not None else spec.rest
