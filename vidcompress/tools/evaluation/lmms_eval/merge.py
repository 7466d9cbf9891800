"""Merge of the journals of several processes (ranks) into one."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from vidcompress.tools.evaluation.lmms_eval.record import rank_files, read_answers, times_file
from vidcompress.tools.runs.journal import Journal, write_whole


def merge_ranks(path: Path) -> None:
    """Move the answers of all processes into the journal, in the order of the documents, and their times beside it.

    Args:
        path: of the journal; no process may be writing it or its rank files.

    Raises:
        JournalError: it cannot be written.
    """
    if not path.exists():
        return
    with path.open("rb") as opened:
        head = json.loads(opened.readline())["head"]
    journal = Journal(path, head)
    others = rank_files(path)
    for other in others:
        lines: dict[str, dict[str, Any]] = {}
        for line in read_answers(other, head):
            if line["id"] not in journal.done:
                lines.setdefault(line["id"], line)
        journal.add(list(lines.values()))
    journal.finish(sorted(journal.done, key=_order))
    times = [times_file(file) for file in (path, *others)]
    content = b"".join(file.read_bytes() for file in times if file.exists())
    write_whole(times[0], [content])
    for file in (*others, *times[1:]):
        file.unlink(missing_ok=True)


def _order(name: str) -> list[tuple[int, int, str]]:
    """Sort key of an id: numbers inside it count as numbers, gqa/2 before gqa/10."""
    parts = re.split(r"(\d+)", name)
    return [(1, int(part), "") if part.isdigit() else (0, 0, part) for part in parts]
