"""Journal of answers: one JSON line each, fsynced so that a killed run resumes and answers nothing twice.

The first line is the head: the model, data and settings of the answers. A journal holds no times, so that an
interrupted run leaves the same bytes as an uninterrupted one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vidcompress.errors import ArgumentError, VidcompressError, one_line, shown
from vidcompress.tools.runs.validation import no_constant


class JournalError(VidcompressError, OSError):
    """The journal cannot be written, for example because the disk is full; its content is kept."""


class Journal:
    """Append-only journal of answers, read where it exists.

    An unfinished last line is cut off. An unreadable line in the middle is moved to `<path>.corrupt`, and its item is
    answered again.

    Args:
        path: the JSONL file; made, with its folder, where it is missing.
        head: model, data and settings of the answers, as JSON values; the same in every run.
        whole: function that says whether a line with an id and an answer is complete; others count as unreadable.

    Attributes:
        path: the file.
        done: answer lines by the id of their item, in the order of the file.
        corrupt: lines that could not be read.

    Raises:
        ArgumentError: the file belongs to another run, or its head is damaged.
        JournalError: the file cannot be made or read.
    """

    def __init__(
        self, path: Path, head: Mapping[str, Any], whole: Callable[[Mapping[str, Any]], bool] = bool
    ) -> None:
        self.path, self._whole = Path(path), whole
        self.done: dict[str, dict[str, Any]] = {}
        self.corrupt = 0
        self._head = as_line({"head": dict(head)})
        try:
            if self.path.exists():
                self._read()
            else:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                write_whole(self.path, [self._head])
        except OSError as error:
            raise JournalError(f"journal {self.path} cannot be opened ({_cause(error)})") from error

    def add(self, lines: Sequence[Mapping[str, Any]]) -> None:
        """Append answers: all of them reach the disk, or none.

        Args:
            lines: one per item, each with its `id`, as JSON values.

        Raises:
            JournalError: the disk is full or gone; the file is as it was before, and the call can be repeated.
            ArgumentError: a line has no id, or one that is there already.
        """
        fresh = [dict(line) for line in lines]
        names = [line.get("id") for line in fresh]
        for number, name in enumerate(names):
            if not isinstance(name, str) or name in self.done or name in names[:number]:
                raise ArgumentError(
                    f"lines: id={shown(name)} must be a text that the journal does not hold yet"
                )
        if not fresh:
            return
        try:
            _append(self.path, b"".join(as_line(line) for line in fresh))
        except OSError as error:
            raise JournalError(
                f"journal {self.path} cannot be written ({_cause(error)}); make room and run again: all answers "
                "before this are kept"
            ) from error
        self.done.update((line["id"], line) for line in fresh)

    def finish(self, order: Sequence[str]) -> None:
        """Rewrite the answers in the order of the items, so that the bytes do not depend on the order of the run.

        Args:
            order: ids of all items; those without an answer are left out, answers to no item are dropped.

        Raises:
            JournalError: as in `add`; the file is as it was before.
        """
        kept = {name: self.done[name] for name in order if name in self.done}
        try:
            write_whole(self.path, [self._head, *(as_line(line) for line in kept.values())])
        except OSError as error:
            raise JournalError(
                f"journal {self.path} cannot be put in order ({_cause(error)}); make room and run again"
            ) from error
        self.done = kept

    def _read(self) -> None:
        whole, newline, torn = self.path.read_bytes().rpartition(b"\n")
        head, *lines = whole.split(b"\n") if newline else [b""]
        if not newline and self._head.startswith(torn):  # killed while the head was written
            write_whole(self.path, [self._head])
            return
        _check_head(self.path, head, self._head)
        bad = []
        for line in lines:
            entry = _entry(line)
            if entry is None or not self._whole(entry):
                bad.append(line + b"\n")
            else:
                self.done.setdefault(entry["id"], entry)
        if bad:
            self.corrupt = len(bad)
            _append(self.path.with_name(self.path.name + ".corrupt"), b"".join(bad))
        if torn or bad:
            write_whole(self.path, [self._head, *(as_line(line) for line in self.done.values())])


def read_head(path: Path) -> dict[str, Any] | None:
    """Head of a journal; None where the journal is missing, or its head unfinished or damaged.

    Args:
        path: the JSONL file.

    Raises:
        OSError: it cannot be read.
    """
    if not path.exists():
        return None
    with path.open("rb") as file:
        first_line = file.readline()
    try:
        head = json.loads(first_line)["head"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return head if isinstance(head, dict) else None


def check_head(path: Path, head: Mapping[str, Any]) -> None:
    """Refuse a journal of another run; a missing journal or an unfinished head is accepted.

    Args:
        path: the JSONL file.
        head: the expected head, as JSON values.

    Raises:
        ArgumentError: the file belongs to another run, or its head is damaged.
        OSError: it cannot be read.
    """
    if path.exists():
        with path.open("rb") as file:
            first_line = file.readline()
        if first_line.endswith(b"\n"):
            _check_head(path, first_line[:-1], as_line({"head": dict(head)}))


def _check_head(path: Path, first_line: bytes, head: bytes) -> None:
    """Compare the first line of a file, without its end, with the expected head."""
    if first_line + b"\n" == head:
        return
    try:
        theirs, ours = json.loads(first_line)["head"], json.loads(head)["head"]
        differs = [name for name in sorted({*ours, *theirs}) if ours.get(name) != theirs.get(name)]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ArgumentError(
            f"journal {path}: its first line is damaged; move the file away or choose another folder"
        ) from error
    name = differs[0] if differs else "head"
    raise ArgumentError(
        f"journal {path} belongs to another run: {name} is {shown(theirs.get(name))} there and "
        f"{shown(ours.get(name))} here; choose another folder, or move the file away"
    )


def as_line(value: Mapping[str, Any]) -> bytes:
    """JSON line with the same bytes for the same content: sorted keys, no spaces, ASCII."""
    return (json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False) + "\n").encode()


def write_whole(path: Path, lines: Iterable[bytes]) -> None:
    """Write a file atomically: after a kill it holds the old content or the new one.

    Raises:
        OSError: the disk is full or gone; the old content is still there.
    """
    scratch = path.with_name(f"{path.name}.new")  # one name, so that what a kill leaves is written over
    try:
        with scratch.open("wb") as file:
            file.writelines(lines)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def _append(path: Path, content: bytes) -> None:
    """Append to a file and wait for the disk; on an error the file is cut back to its length before."""
    target = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        before = os.fstat(target).st_size
        try:
            rest = memoryview(content)
            while rest:
                rest = rest[os.write(target, rest) :]
            os.fsync(target)
        except OSError:
            os.ftruncate(target, before)
            raise
    finally:
        os.close(target)


def _entry(line: bytes) -> dict[str, Any] | None:
    """Parsed answer line, or None where it is not valid."""
    try:
        entry = json.loads(line, parse_constant=no_constant)
    except (ValueError, RecursionError):
        return None
    whole = isinstance(entry, dict) and isinstance(entry.get("id"), str) and "answer" in entry
    return entry if whole else None


def _cause(error: OSError) -> str:
    return error.strerror or one_line(error)
