"""Check of the tables in an MP4 or MOV header before FFmpeg reads it.

FFmpeg allocates some 80 bytes for every sample that such a header states, and a header of a few bytes can state
four thousand million. So these numbers are read first and compared with the size of the file.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np

from vidcompress.errors import MediaError

MAX_SAMPLES = 8_000_000
"""Most samples of all tracks together, as many as 47 hours of AAC."""

MAX_BOXES = 1_000_000
_MAX_DEPTH = 12
_MAX_TABLE = 64 * 1024**2
# FFmpeg reads a known box at any depth inside one of these.
_HOLDERS = (
    b"moov",
    b"trak",
    b"mdia",
    b"minf",
    b"stbl",
    b"moof",
    b"traf",
    b"mvex",
    b"edts",
    b"dinf",
    b"tapt",
    b"udta",
)
_TABLES = (b"hdlr", b"stts", b"stsz", b"stsc", b"stco", b"co64", b"trun")
_HANDLERS = (b"soun", b"vide", b"m1a ", b"subp", b"clcp")  # kinds of tracks that FFmpeg reads
_CHUNKS = (b"stsc", b"stco", b"co64")
_PER_SAMPLE = 0xF00  # flags of a trun box: any of them means 4 bytes or more for each sample


def check_tables(stream: BinaryIO, name: str) -> None:
    """Read the sample tables of an ISO base media file; do nothing for any other file.

    Args:
        stream: the file, seekable; its position is reset to the beginning.
        name: its name in messages.

    Raises:
        MediaError: a table states more samples than the file has bytes for, or its header is compressed.
    """
    size = stream.seek(0, os.SEEK_END)
    tables: dict[bytes, Any] = {}
    samples = 0
    for kind, start, end in _boxes(stream, size):
        if kind == b"trak":
            tables = {}
        elif kind == b"cmov":
            raise MediaError(f"video={name!r} has a compressed header; write it anew with any current tool")
        elif kind in _TABLES:
            tables.setdefault(kind, []).append(_read_table(stream, kind, start, end))
            if kind == b"trun":
                samples += _promise(tables[kind].pop(), name, size)
            elif _is_plain_sound(tables):
                samples += _promise((_sound_entries(tables), 1), name, size) if kind in _CHUNKS else 0
            else:  # FFmpeg allocates memory for each of them
                samples += sum(_promise(table, name, size) for table in tables.pop(b"stsz", ()))
            if samples > MAX_SAMPLES:
                _refuse(samples, name, size)
    stream.seek(0)


def _promise(table: tuple[int, int], name: str, size: int) -> int:
    """Return the samples of a table of (count, bytes of each), checked against the size of the file."""
    count, each = table
    if count * max(1, each) > size:
        _refuse(count, name, size)
    return count


def _refuse(samples: int, name: str, size: int) -> None:
    raise MediaError(
        f"video={name!r} is damaged or cut short: its header promises {samples} samples, which its {size} bytes cannot "
        "hold; fetch it again"
    )


def _is_plain_sound(tables: dict[bytes, Any]) -> bool:
    """Whether a sample is a point in time, not a packet, as in uncompressed sound."""
    kinds = {kind for kind in tables.get(b"hdlr", ()) if kind in _HANDLERS}
    return kinds == {b"soun"} and set(tables.get(b"stts", ())) == {(1, 1)}


def _sound_entries(tables: dict[bytes, Any]) -> int:
    """Count the index entries of uncompressed sound: one for every 1024 points in time of each chunk, or part."""
    chunks = max([*tables.get(b"stco", ()), *tables.get(b"co64", ())], default=0)
    bounds = [0]
    for runs in tables.get(b"stsc", ()):
        lengths = np.diff(np.append(runs[:, 0], chunks + 1)).clip(0)
        bounds.append(int((lengths * np.ceil(runs[:, 1] / 1024)).sum()))
    return max(bounds)


def _boxes(stream: BinaryIO, size: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield (kind, start, end) of the boxes of a file in order, those inside holders included."""
    ends, place = [size], 0
    for _ in range(MAX_BOXES):
        while place + 8 > ends[-1]:
            place = ends.pop()
            if not ends:
                return
        stream.seek(place)
        head = stream.read(16)
        length, kind, start = int.from_bytes(head[:4], "big"), head[4:8], place + 8
        if length == 1 and len(head) == 16:
            length, start = int.from_bytes(head[8:], "big"), place + 16
        end = ends[-1] if length == 0 else place + length
        if end < start:
            return  # no such file, or one that no reader can read further
        yield kind, start, min(end, ends[-1])
        if kind in _HOLDERS and len(ends) < _MAX_DEPTH:
            ends.append(min(end, ends[-1]))
            place = start
        else:
            place = end


def _read_table(stream: BinaryIO, kind: bytes, start: int, end: int) -> Any:
    """Read the numbers that decide the samples of a table.

    Returns:
        hdlr: the kind of track. stts: (runs, duration of the first). stco: chunks. stsz and trun: (samples, bytes of
        each), no samples where the table stores something for each of them. stsc: float64 (run, 3).
    """
    stream.seek(start)
    head = stream.read(min(end - start, 16))
    words = [int.from_bytes(head[i : i + 4], "big") for i in range(0, len(head) - 3, 4)] + [0] * 4
    if kind == b"hdlr":
        return head[8:12]
    if kind == b"stts":
        return words[1], words[3]
    if kind == b"stsz":
        return (words[2], words[1]) if words[1] else (0, 0)
    if kind == b"trun":
        return (0, 0) if words[0] & _PER_SAMPLE else (words[1], 1)
    if kind != b"stsc":
        return words[1]
    stream.seek(start + 8)
    raw = stream.read(max(0, min(end - start - 8, _MAX_TABLE)))
    return np.frombuffer(raw[: len(raw) // 12 * 12], dtype=">u4").reshape(-1, 3).astype(np.float64)
