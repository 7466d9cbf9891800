"""Odd clips for tests; who writes them is `scripts/fuzzing/odd_clips.py`, since they are broken there too."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

from fuzzing.odd_clips import (
    KINDS,
    RATE,
    SIDE,
    animated,
    colours,
    joined,
    photo,
    transparent,
    write_paletted,
    write_pictures,
    write_transparent,
)

__all__ = [
    "KINDS",
    "RATE",
    "SIDE",
    "animated",
    "colours",
    "joined",
    "photo",
    "transparent",
    "write_odd",
    "write_paletted",
    "write_pictures",
    "write_transparent",
]


def write_odd(folder: Path) -> dict[str, bool]:
    """Four clips that are read with care or not at all: name -> whether it can be read."""
    write_paletted(folder / "palette.avi", "rawvideo", colours(), 12)
    write_pictures(folder / "turned.avi", [photo(number, 6) for number in range(5)])
    joined(folder, "ts", [20, 20])
    whole = (folder / "part.ts").read_bytes()
    (folder / "cut.mp4").write_bytes(b"\0\0\0\x18ftypisom" + whole[: len(whole) // 2])
    return {"palette.avi": True, "turned.avi": True, "joined.ts": True, "cut.mp4": False}
