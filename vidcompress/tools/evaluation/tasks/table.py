"""Tasks of tables: a row is a question, and pictures and clips lie in it or beside it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, Final

from vidcompress.checks import MAX_BUFFERED_BYTES
from vidcompress.errors import ArgumentError, shown
from vidcompress.tools.evaluation.tasks.base import Item
from vidcompress.tools.evaluation.tasks.folder import (
    DEFAULT_LENGTH,
    MAX_QUESTIONS,
    item_of_line,
    path_within,
)
from vidcompress.tools.evaluation.tasks.table_columns import Mapped, find_columns
from vidcompress.tools.evaluation.tasks.table_source import TableSource

_SUFFIX: Final = re.compile(r"\.[A-Za-z0-9]{1,5}")


class TableTask:
    """Questions of a table, one per row.

    Args:
        source: the table.
        folder: where pictures and clips that lie in the table are written when they are first needed, under names that
            follow from their content; existing files are used.
        columns: which column holds what; the others are recognised, see `RECOGNISED`.
        metric: one of `METRICS`; by default "choice" for questions with choices, else "exact".
        prompt_suffix: put behind every question; None is the line of LLaVA's evaluation behind options, else nothing.
        limit: only the first so many rows are read.

    Attributes:
        name, split, revision, metric, max_new_tokens: see `Task`. The revision is that of the source, followed, where
            settings are stated or files lie beside the table, by "+" and a digest of them.

    Raises:
        ArgumentError: a column is not there, or a row is no question; the message names row, column and value.
    """

    def __init__(
        self,
        source: TableSource,
        folder: Path,
        *,
        columns: Mapped = (),
        metric: str | None = None,
        prompt_suffix: str | None = None,
        limit: int | None = None,
    ) -> None:
        self.name, self.split, self.max_new_tokens = source.name, source.split, DEFAULT_LENGTH
        self._source, self._folder, self._limit = source, Path(folder), limit
        self._columns = find_columns(source.where, source.features, columns)
        self._inner: set[Path] = set()
        self._outer: set[Path] = set()
        stated = {"metric": metric, "prompt_suffix": prompt_suffix}
        settings = {key: value for key, value in stated.items() if value is not None}
        self._items = list(self._read(settings))
        if not self._items:
            raise ArgumentError(f"{source.where}holds no rows; pass a table with questions")
        kinds = {item.metric for item in self._items}
        self.metric = kinds.pop() if len(kinds) == 1 else "mixed"
        self.revision = source.revision
        if columns or settings or self._outer:
            sizes = [(path.name, path.stat().st_size) for path in sorted(self._outer) if path.is_file()]
            content = json.dumps([sorted(columns), settings, sizes]).encode()
            self.revision += f"+{hashlib.sha256(content).hexdigest()[:12]}"

    def items(self) -> list[Item]:
        """The questions, in the order of the rows."""
        return list(self._items)

    def write_media(self) -> None:
        """Write the pictures and clips of the table that are not there yet.

        Raises:
            OSError: a file cannot be written.
        """
        left = {path for path in self._inner if not path.exists()}
        if not left:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        for _, row in self._rows(self._columns.media):
            for field, entry in self._columns.media_of(row):
                content = _content(entry)
                if content is None or (path := self._written(field, entry, content)) not in left:
                    continue
                scratch = path.with_name(f"new-{path.name}")  # leftovers of a kill are overwritten
                try:
                    scratch.write_bytes(content)
                    scratch.replace(path)
                finally:
                    scratch.unlink(missing_ok=True)
                left.discard(path)
            if not left:
                return

    def _rows(self, columns: tuple[str, ...]) -> Iterator[tuple[int, Mapping[str, Any]]]:
        return enumerate(islice(self._source.rows(columns), self._limit))

    def _read(self, settings: Mapping[str, Any]) -> Iterator[Item]:
        seen = set[str]()
        for number, row in self._rows(self._columns.names):
            where = f"{self._source.where}row {number}: "
            try:
                item = item_of_line(self._columns.line(row, number), where, self._folder, settings)
            except ArgumentError as error:
                raise ArgumentError(self._columns.said(str(error), where)) from error
            if item.id in seen:
                raise ArgumentError(
                    f"{where}{self._columns.named('id')}: id={shown(item.id)} is there already; name a column "
                    "with one value per row, or columns = {id = ''}, which numbers the rows"
                )
            seen.add(item.id)
            if len(seen) > MAX_QUESTIONS:
                raise ArgumentError(f"{where}more than {MAX_QUESTIONS} questions; state a limit")
            paths = [(field, self._path(field, entry, where)) for field, entry in self._columns.media_of(row)]
            clips = [path for field, path in paths if field == "video"]
            if len(clips) > 1:
                raise ArgumentError(
                    f"{where}{self._columns.named('video')}: holds {len(clips)} clips; a question is about one"
                )
            pictures = tuple(path for field, path in paths if field != "video")
            yield replace(item, images=pictures, video=clips[0] if clips else None)

    def _path(self, field: str, entry: Any, where: str) -> Path:
        """Path of a picture or clip: beside the table, or where it will be written."""
        called = f"{where}{self._columns.named(field)}"
        content = _content(entry)
        if content is not None:
            if field != "video" and len(content) > MAX_BUFFERED_BYTES:
                raise ArgumentError(
                    f"{called}: a picture of {len(content)} bytes; the most is {MAX_BUFFERED_BYTES}"
                )
            path = self._written(field, entry, content)
            self._inner.add(path)
            return path
        name = entry.get("path") if isinstance(entry, dict) else entry
        if not isinstance(name, str):
            raise ArgumentError(
                f"{called}: {shown(entry)} is no picture or clip; it must be bytes, a path, or both as `datasets` "
                "stores them"
            )
        path = self._beside(name, called)
        self._outer.add(path)
        return path

    def _beside(self, name: str, called: str) -> Path:
        place = Path(name)
        if place.is_absolute():
            for root in self._source.roots:
                if place.resolve().is_relative_to(root.resolve()):
                    return place
        return path_within(self._source.roots[0], name, called)

    def _written(self, field: str, entry: Any, content: bytes) -> Path:
        stated = entry.get("path") if isinstance(entry, dict) else None
        suffix = Path(stated).suffix.lower() if isinstance(stated, str) else ""
        if not _SUFFIX.fullmatch(suffix):
            suffix = ".mp4" if field == "video" else ".png"  # the kind: readers go by the content
        return self._folder / f"{hashlib.sha256(content).hexdigest()[:24]}{suffix}"


def _content(entry: Any) -> bytes | None:
    """Bytes of a picture or clip that lies in the table."""
    content = entry.get("bytes") if isinstance(entry, dict) else entry
    return content if isinstance(content, bytes) else None
