"""Run journal: one JSON line per finished piece of work, fsynced, so that a killed run resumes and repeats nothing.

The first line is the head: the model, data and settings that the lines depend on. A journal holds no times of day, so
that an interrupted run leaves the same bytes as an uninterrupted one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vidcompress.errors import ArgumentError, VidcompressError, one_line, shown
from vidcompress.tools.runs.validation import no_constant


class JournalError(VidcompressError, OSError):
    """The journal cannot be written, for example because the disk is full; its content is kept."""


def has_answer(line: Mapping[str, Any]) -> bool:
    """Whether a line has an answer."""
    return "answer" in line


class RunJournal:
    """Append-only journal of a run, read where it exists.

    An unfinished last line is cut off. An unreadable line in the middle is moved to `<path>.corrupt`, and its work is
    done again. Of two lines with one id the first counts.

    Args:
        path: the JSONL file of the run; made, with its folder, where it is missing. None keeps the lines in memory.
        head: model, data and settings of the lines, as JSON values; the same in every run.
        is_complete: function that says whether a line with an id holds all that it must; others count as unreadable.
        rank: number of this process. Others than the first write a file of their own beside `path`; see `rank_path`.
        anew: whether a journal of another run is begun anew; by default it is refused.

    Attributes:
        path: the file of this process, or None.
        head: see above.
        done: lines by their id, in the order of the file.
        waiting: lines that the disk refused; see `write`.
        corrupt: number of lines that could not be read.

    Raises:
        ArgumentError: the file belongs to another run, or its head is damaged.
        JournalError: the file cannot be made or read.
    """

    def __init__(
        self,
        path: Path | None,
        head: Mapping[str, Any],
        is_complete: Callable[[Mapping[str, Any]], bool] = has_answer,
        *,
        rank: int = 0,
        anew: bool = False,
    ) -> None:
        self.path = None if path is None else rank_path(Path(path), rank)
        self.done: dict[str, dict[str, Any]] = {}
        self.waiting: list[dict[str, Any]] = []
        self.corrupt = 0
        self._is_complete, self._why = is_complete, ""
        self.head = dict(head)
        self._head = as_line({"head": self.head})
        if self.path is None:
            return
        try:
            if self.path.exists() and not (anew and read_head(self.path) != json.loads(self._head)["head"]):
                self._read(self.path)
            else:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                write_whole(self.path, [self._head])
        except OSError as error:
            raise JournalError(
                f"journal {self.path} cannot be opened ({_cause(error)}); choose another"
            ) from error

    def add(self, lines: Sequence[Mapping[str, Any]]) -> None:
        """Append lines: all of them reach the disk, or none.

        Args:
            lines: each with its `id`, as JSON values.

        Raises:
            JournalError: the disk is full or gone; the file is unchanged, and the call can be repeated.
            ArgumentError: a line has no id, or one that exists already.
        """
        fresh = [dict(line) for line in lines]
        names = [line.get("id") for line in fresh]
        for number, name in enumerate(names):
            if not isinstance(name, str) or name in self.done or name in names[:number]:
                raise ArgumentError(
                    f"lines: id={shown(name)} must be a text that the journal does not hold yet"
                )
        if fresh and self.path is not None:
            try:
                _append(self.path, b"".join(as_line(line) for line in fresh))
            except OSError as error:
                raise JournalError(
                    f"journal {self.path} cannot be written ({_cause(error)}); make room and run again: what was "
                    "written before is kept"
                ) from error
        self.done.update((line["id"], line) for line in fresh)

    def write(self, lines: Iterable[Mapping[str, Any]] = ()) -> dict[str, str]:
        """Append lines that the journal does not hold yet; those that the disk refuses wait for the next call.

        Returns:
            Ids of the lines that are not on the disk, with the reason.
        """
        waiting = {line["id"]: line for line in self.waiting}
        for line in lines:
            if line["id"] not in self.done:
                waiting.setdefault(line["id"], dict(line))
        self.waiting = list(waiting.values())
        try:
            self.add(self.waiting)
        except JournalError as error:
            self._why = str(error)
        else:
            self.waiting = []
        return {line["id"]: self._why for line in self.waiting}

    def merge_ranks(self) -> dict[str, str]:
        """Move the lines of the other processes into this journal, that of the first process.

        Returns:
            Ids that could not be written, with the reason; the file of their process is kept.

        Raises:
            ArgumentError: the file of a process belongs to another run.
            JournalError: one cannot be read.
        """
        lost: dict[str, str] = {}
        for path in rank_paths(self.path) if self.path is not None else ():
            other = RunJournal(path, self.head, self._is_complete)
            self.corrupt += other.corrupt
            left = self.write(other.done.values())
            lost |= left
            if not left:
                path.unlink()
        return lost

    def finish(self, order: Iterable[str]) -> None:
        """Rewrite the lines in a given order, so that the bytes do not depend on the order of the run.

        Args:
            order: ids; those without a line are left out, lines with another id are dropped.

        Raises:
            JournalError: as in `add`; the file is unchanged.
        """
        kept = {name: self.done[name] for name in order if name in self.done}
        try:
            if self.path is not None:
                write_whole(self.path, [self._head, *(as_line(line) for line in kept.values())])
        except OSError as error:
            raise JournalError(
                f"journal {self.path} cannot be put in order ({_cause(error)}); make room and run again"
            ) from error
        self.done = kept

    def _read(self, path: Path) -> None:
        whole, newline, torn = path.read_bytes().rpartition(b"\n")
        head, *lines = whole.split(b"\n") if newline else [b""]
        if not newline and self._head.startswith(torn):  # killed while the head was written
            write_whole(path, [self._head])
            return
        _check_head(path, head, self._head)
        bad = []
        for line in lines:
            entry = _object(line)
            if entry is None or not isinstance(entry.get("id"), str) or not self._is_complete(entry):
                bad.append(line + b"\n")
            else:
                self.done.setdefault(entry["id"], entry)
        if bad:
            self.corrupt = len(bad)
            _append(path.with_name(path.name + ".corrupt"), b"".join(bad))
        if torn or bad:
            write_whole(path, [self._head, *(as_line(line) for line in self.done.values())])


def rank_path(path: Path, rank: int) -> Path:
    """File of process `rank` of a run: `<stem>.rank<r><suffix>` beside `path`, which is the first one's."""
    return path if rank == 0 else path.with_name(f"{path.stem}.rank{rank}{path.suffix}")


def rank_paths(path: Path) -> list[Path]:
    """Files of all processes but the first that are beside `path`, by name."""
    return sorted(path.parent.glob(f"{path.stem}.rank*{path.suffix}"))


def read_lines(path: Path, head: Mapping[str, Any] | None = None) -> Iterator[dict[str, Any]]:
    """Readable lines of a file that another process may be writing; none where it cannot be read.

    Args:
        path: the JSONL file.
        head: where it is given, the lines of a journal with another head are left out.
    """
    try:
        first, *others = path.read_bytes().split(b"\n")
    except OSError:
        return
    if head is not None and first + b"\n" != as_line({"head": dict(head)}):
        return
    for line in (first, *others):
        entry = _object(line)
        if entry is not None:
            yield entry


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
            f"journal {path}: its first line is damaged; move the file away or choose another"
        ) from error
    name = differs[0] if differs else "head"
    raise ArgumentError(
        f"journal {path} belongs to another run: {name} is {shown(theirs.get(name))} there and "
        f"{shown(ours.get(name))} here; choose another folder or file, or move this one away"
    )


def as_line(value: Mapping[str, Any]) -> bytes:
    """JSON line with the same bytes for the same content: sorted keys, no spaces, ASCII."""
    return (json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False) + "\n").encode()


def write_whole(path: Path, lines: Iterable[bytes]) -> None:
    """Write a file atomically: after a kill it holds the old content or the new one.

    Raises:
        OSError: the disk is full or gone; the old content is still there.
    """
    scratch = path.with_name(f"{path.name}.new")  # one name, so that leftovers of a kill are overwritten
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


def _object(line: bytes) -> dict[str, Any] | None:
    """JSON object of a line, or None where it is not valid."""
    try:
        entry = json.loads(line, parse_constant=no_constant)
    except (ValueError, RecursionError):
        return None
    return entry if isinstance(entry, dict) else None


def _cause(error: OSError) -> str:
    return error.strerror or one_line(error)
