"""Spelling of task names: the probable meaning of a name without a known prefix."""

from __future__ import annotations

import re
from difflib import get_close_matches
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from vidcompress.tools.evaluation.tasks.folder import QUESTIONS
from vidcompress.tools.evaluation.tasks.shapes import MEDIA

FORMS = "shapes:image, shapes:clip, data:FOLDER, parquet:FILE, hub:OWNER/NAME or lmms:NAME"
_TASK_LINE = re.compile(r"^(?:task|group): *[\"']?([A-Za-z0-9_-]+)[\"']? *$", flags=re.MULTILINE)


def meant_task(name: str) -> str | None:
    """Return the known task name nearest to an unknown one, or None.

    A name without a prefix is looked for behind every prefix: "pope" is near "lmms:pope", and a folder of questions is
    near "data:FOLDER", a file of Parquet near "parquet:FILE".

    Args:
        name: as it was typed.
    """
    if (Path(name) / QUESTIONS).is_file():
        return f"data:{name}"
    if Path(name).suffix == ".parquet" and Path(name).is_file():
        return f"parquet:{name}"
    names = (*(f"shapes:{medium}" for medium in MEDIA), *(f"lmms:{task}" for task in harness_tasks()))
    spellings = {task if ":" in name else task.partition(":")[2]: task for task in reversed(names)}
    close = get_close_matches(name.lower(), spellings, n=1, cutoff=0.65)
    return spellings[close[0]] if close else None


@cache
def harness_tasks() -> tuple[str, ...]:
    """Names of lmms-eval's tasks: those of its task files where it is installed, else those of published tables."""
    from vidcompress.tools.evaluation.report.published import published_tables
    from vidcompress.tools.evaluation.suite import tasks_folder

    listed = [name for table in published_tables() for task in table.tasks for name in task.tasks]
    names = {name.removeprefix("lmms:") for name in listed if name.startswith("lmms:")}
    harness = find_spec("lmms_eval")
    folders = [Path(str(tasks_folder())), *(Path(root) / "tasks" for root in _roots(harness))]
    for folder in folders:
        for file in folder.rglob("*.yaml"):
            names.update(_TASK_LINE.findall(file.read_text(encoding="utf-8", errors="replace")))
    return tuple(sorted(names))


def _roots(spec: object) -> list[str]:
    return list(getattr(spec, "submodule_search_locations", None) or ())
