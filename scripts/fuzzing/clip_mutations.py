"""Mutations of clip metadata: EXIF blocks, palettes, clocks; else a blind mutation."""

from __future__ import annotations

import random
import re
import struct
import zlib

from .mutations import INTEGERS, Mutation, integer

STAMPS = 2**33
"""Values of an MPEG time stamp, in ticks of 1/90,000 s."""

_PALETTES = (b"strf", b"rle ", b"smc ", b"raw ", b"PLTE")
"""What stands before a palette or the number of its colours."""


def side_data(data: bytearray, rng: random.Random) -> bytearray:
    """Write into the EXIF blocks: orientation, type, count or offset; of PNG with a checksum that fits."""
    places = [found.end() for found in re.finditer(rb"Exif\0\0|eXIf", bytes(data))]
    if not places:
        return integer(data, rng)
    for start in places if rng.random() < 0.5 else [rng.choice(places)]:
        for _ in range(rng.choice((1, 1, 3))):
            at, size = start + rng.randrange(40), rng.choice((1, 2, 4))
            data[at : at + size] = _number(rng, size)[: max(0, len(data) - at)]
        if data[start - 4 : start] == b"eXIf":
            length = int.from_bytes(data[start - 8 : start - 4], "big")
            end = start + length
            if end + 4 <= len(data):
                data[end : end + 4] = struct.pack(">I", zlib.crc32(bytes(data[start - 4 : end])))
    return data


def palette(data: bytearray, rng: random.Random) -> bytearray:
    """Write into the stretch behind the head of a palette: depth, number of colours, colours."""
    places = [found.end() for mark in _PALETTES for found in re.finditer(re.escape(mark), bytes(data))]
    if not places:
        return integer(data, rng)
    start = rng.choice(places)
    for _ in range(rng.choice((1, 2, 8))):
        at, size = start + rng.randrange(rng.choice((48, 120, 1100))), rng.choice((1, 2, 4))
        data[at : at + size] = _number(rng, size)[: max(0, len(data) - at)]
    return data


def clock(data: bytearray, rng: random.Random) -> bytearray:
    """Let time stamps jump from some place on (TS, MPG), or let the whole file follow itself, whole or cut."""
    places = [
        found.start()
        for found in re.finditer(rb"\x00\x00\x01[\xe0-\xef]..[\x80-\x8f][\x80-\xff]", bytes(data), re.S)
    ]
    if not places or rng.random() < 0.3:
        return data + data[rng.choice((0, 0, rng.randrange(len(data)))) :]
    first = rng.randrange(len(places))
    jump = rng.choice((1, -1, 3600, -90_000, 900_000, STAMPS - 1, STAMPS // 2, rng.randrange(STAMPS)))
    for start in places[first:] if rng.random() < 0.8 else places[first : first + 1]:
        for at in (start + 9, start + 14)[: (data[start + 7] >> 6) - 1 if data[start + 7] >> 6 else 0]:
            if at + 5 <= len(data):
                data[at : at + 5] = _stamped(bytes(data[at : at + 5]), jump)
    return data


KINDS: tuple[Mutation, ...] = (side_data, palette, clock)


def _stamped(field: bytes, jump: int) -> bytes:
    """The five bytes of an MPEG time stamp, moved."""
    stamp = (field[0] >> 1 & 7) << 30 | (int.from_bytes(field[1:3], "big") >> 1) << 15
    stamp = (stamp + (int.from_bytes(field[3:5], "big") >> 1) + jump) % STAMPS
    high = field[0] & 0xF0 | (stamp >> 30) << 1 | 1
    return bytes([high]) + struct.pack(">HH", (stamp >> 15 & 0x7FFF) << 1 | 1, (stamp & 0x7FFF) << 1 | 1)


def _number(rng: random.Random, size: int) -> bytes:
    value = rng.choice((*INTEGERS, rng.randrange(9), rng.getrandbits(32))) & ((1 << 8 * size) - 1)
    return value.to_bytes(size, rng.choice(("big", "little")))
