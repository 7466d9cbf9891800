"""Grey levels of TIFF files: the levels of black and white where Pillow ignores them.

Pillow inverts grey pages whose level 0 is white, up to 8 bits. For more bits it returns the negative, and it refuses
big-endian ones and those with transparency. So such a page is presented to it as one whose level 0 is black, and
inverted here. Levels of 12 bits are returned as they are.
"""

from __future__ import annotations

import os
import struct
from bisect import bisect_left
from typing import TYPE_CHECKING, Any, BinaryIO

from vidcompress.errors import MediaError

if TYPE_CHECKING:
    from PIL.Image import Image

_BITS, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339
_SIGNED = 2
_WHITE_IS_ZERO, _BLACK_IS_ZERO = 0, 1
_SHORT = 3
_MAX_PAGES = 100_000
_TURNED_BY_PILLOW = (1, 2, 4, 8)


class Overlaid:
    """Overlay of a binary file: some bytes are replaced by others of the same length.

    Args:
        stream: seekable.
        patches: replacement by position, in bytes from the beginning.
    """

    def __init__(self, stream: BinaryIO, patches: dict[int, bytes]) -> None:
        self._stream, self._patches = stream, patches
        self._places = sorted(patches)
        self._longest = max(map(len, patches.values()))

    def read(self, size: int = -1) -> bytes:
        """Return up to `size` bytes, or all where it is below 0."""
        start = self._stream.tell()
        block = bytearray(self._stream.read(size))
        first = bisect_left(self._places, start - self._longest)
        for place in self._places[first : bisect_left(self._places, start + len(block))]:
            for number, byte in enumerate(self._patches[place], start=place - start):
                if 0 <= number < len(block):
                    block[number] = byte
        return bytes(block)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Set the position and return it."""
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        """Return the position, in bytes from the beginning."""
        return self._stream.tell()


def black_is_zero(stream: BinaryIO) -> tuple[Any, frozenset[int]]:
    """Make pages readable that Pillow would refuse, or return as their negatives.

    Args:
        stream: any file, seekable; left at its beginning.

    Returns:
        A stream to read from (the same where no page needs it), and the numbers of the pages, from 0, whose levels the
        caller must invert.
    """
    stream.seek(0)
    head = stream.read(16)
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    version = struct.unpack(f"{order}H", head[2:4])[0] if order and len(head) == 16 else 0
    patches: dict[int, bytes] = {}
    pages: set[int] = set()
    if version in (42, 43):
        big = version == 43
        (place,) = struct.unpack_from(f"{order}{'Q' if big else 'I'}", head, 8 if big else 4)
        seen: set[int] = set()
        while place and place not in seen and len(seen) < _MAX_PAGES:
            seen.add(place)
            offset, place = _page(stream, place, str(order), big)
            if offset is not None:
                patches[offset] = struct.pack(f"{order}H", _BLACK_IS_ZERO)
                pages.add(len(seen) - 1)
    stream.seek(0)
    return (Overlaid(stream, patches) if patches else stream), frozenset(pages)


def grey_levels(picture: Image, turned: frozenset[int] = frozenset()) -> tuple[int, int]:
    """Return the levels of black and of white in a picture that Pillow opened, before it is loaded.

    Args:
        picture: of any file format, at one of its pages.
        turned: from `black_is_zero`.

    Returns:
        (0, 65535), which is right for all other formats than TIFF; reversed where 0 is white.

    Raises:
        MediaError: the levels are signed.
    """
    tags = getattr(picture, "tag_v2", None)
    if tags is None:
        return 0, 65535
    bits = int(tags.get(_BITS, (1,))[0])
    if bits < 32 and _SIGNED in tags.get(_SAMPLE_FORMAT, ()):
        raise MediaError(
            "image: a TIFF with levels below 0 has no stated range; scale it to 8 bits without a sign first"
        )
    deep = picture.mode.startswith("I;16")
    white = 2**bits - 1 if deep else 65535
    turn = picture.tell() in turned or (deep and tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO)
    return (white, 0) if turn else (0, white)


def _page(stream: BinaryIO, place: int, order: str, big: bool) -> tuple[int | None, int]:
    """Find where a page states that 0 is white, if Pillow ignores it; and the place of the next page, 0 if none.

    An entry of a classic TIFF has 12 bytes: tag, kind, number of values, and the values or their place.
    """
    head, size, inline = (8, 20, 12) if big else (2, 12, 8)
    stream.seek(place)
    number = int.from_bytes(stream.read(head), "little" if order == "<" else "big")
    table = stream.read(min(number, 65535) * size + (8 if big else 4))
    if len(table) < number * size:
        return None, 0
    stated: int | None = None
    bits: tuple[int, ...] = (1,)
    for start in range(0, number * size, size):
        tag, kind = struct.unpack_from(f"{order}HH", table, start)
        if kind != _SHORT or tag not in (_BITS, _PHOTOMETRIC):
            continue
        (count,) = struct.unpack_from(f"{order}{'Q' if big else 'I'}", table, start + 4)
        if count > 2:  # colours
            return None, _next(table, number * size, order, big)
        values = struct.unpack_from(f"{order}{count}H", table, start + inline)
        if tag == _BITS:
            bits = values
        elif values[:1] == (_WHITE_IS_ZERO,):
            stated = place + head + start + inline
    if len(bits) == 1 and bits[0] in _TURNED_BY_PILLOW:
        stated = None
    return stated, _next(table, number * size, order, big)


def _next(table: bytes, end: int, order: str, big: bool) -> int:
    layout = f"{order}{'Q' if big else 'I'}"
    return (
        int(struct.unpack_from(layout, table, end)[0]) if len(table) >= end + struct.calcsize(layout) else 0
    )
