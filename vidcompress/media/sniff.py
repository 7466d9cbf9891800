"""File types by their first bytes, so that an error can name the real type of a file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import BinaryIO

HEAD_BYTES = 1024
"""Bytes of a file that the tests below read."""

_PLAY_LISTS = (b"#extm3u", b"ffconcat", b"<?xml", b"<mpd", b"[playlist]", b"[reference]")
_ISO_PICTURES = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1", b"avif", b"avis")
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_STILLS: tuple[bytes, ...] = (
    b"\x89PNG",
    b"\xff\xd8\xff",
    b"BM",
    *TIFF,
    b"\0\0\0\x0cjP  ",
    b"\xff\x4f\xff\x51",
)
_STILLS += tuple(b"P%d%c" % (kind, space) for kind in range(1, 8) for space in b" \t\r\n")
STILL = "is a still picture, not a video; pass it as image= (--image)"
_JPEG = b"\xff\xd8\xff"
_GAP = 64
"""Bytes that may stand between two pictures of raw Motion-JPEG."""
_PIECE = 1 << 20
_MOST_PARTS = 1000
"""Most boxes or segments that are read."""


def is_animated_container(head: bytes) -> bool:
    """Whether this is WebP, AVIF or TIFF: picture formats that may hold frames, which FFmpeg reads only in part."""
    webp = head[:4] == b"RIFF" and head[8:12] == b"WEBP"
    return webp or (head[4:8] == b"ftyp" and head[8:12] in (b"avif", b"avis")) or head.startswith(TIFF)


def is_still(stream: BinaryIO) -> bool:
    """Whether this is a single picture that FFmpeg would take for a clip of one frame.

    These are HEIC or AVIF without a track, JPEG with another one inside (a thumbnail, the picture for the other eye),
    and PNG with the marks of an animation of one frame.

    Args:
        stream: the file, seekable; its position changes.
    """
    stream.seek(0)
    head = stream.read(HEAD_BYTES)
    if head.startswith(b"\x89PNG"):
        place = head.find(b"acTL")
        return place >= 0 and head[place + 4 : place + 8] == b"\0\0\0\1"
    if head.startswith(_JPEG):
        return _is_one_jpeg(stream)
    if head[4:8] != b"ftyp":
        return False
    kinds = set(_top_boxes(stream))
    return b"meta" in kinds and not kinds & {b"moov", b"moof"}


def _is_one_jpeg(stream: BinaryIO) -> bool:
    """Whether this is one JPEG, and not raw Motion-JPEG, in which one JPEG follows another."""
    place = 2
    for _ in range(_MOST_PARTS):
        stream.seek(place)
        head = stream.read(8)
        if len(head) < 8 or head[0] != 0xFF:
            return True
        if head[1:2] == b"\xe2" and head[4:] == b"MPF\0":  # states that further pictures belong to this one
            return True
        if head[1:2] == b"\xda":  # the pixels follow
            break
        place += 2 + int.from_bytes(head[2:4], "big")
    before = b""
    while piece := stream.read(_PIECE):
        piece = before + piece
        end = piece.find(b"\xff\xd9")
        if end >= 0:
            return _JPEG not in (piece[end + 2 :] + stream.read(_GAP))[:_GAP]
        before = piece[-1:]
    return True


def _top_boxes(stream: BinaryIO) -> Iterator[bytes]:
    """Yield the kinds of the outermost boxes of an ISO base media file."""
    end, place = stream.seek(0, os.SEEK_END), 0
    for _ in range(_MOST_PARTS):
        stream.seek(place)
        head = stream.read(16)
        if len(head) < 8:
            return
        yield head[4:8]
        size = int.from_bytes(head[:4], "big")
        size = int.from_bytes(head[8:], "big") if size == 1 else size
        if size < 8 or place + size >= end:
            return
        place += size


def instead_of_picture(head: bytes) -> str | None:
    """Return advice for a file that no picture reader takes; None for an unknown type."""
    if head[4:8] == b"ftyp" and head[8:12] in _ISO_PICTURES:
        return "is HEIC, which Pillow reads with pillow-heif only; register that, or convert it to JPEG"
    if head.startswith(TIFF):
        return (
            "is a TIFF of a kind that Pillow does not read, or is damaged; convert it to 8 bits per channel"
        )
    if _is_video(head):
        return "is a video, not a picture; pass it as video= (--video)"
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if b"<svg" in text:
        return "is an SVG drawing, not pixels; render it to PNG first"
    if text.startswith(b"%pdf"):
        return "is a PDF document; render its page to PNG first"
    return None


def instead_of_video(head: bytes) -> str | None:
    """Return advice for a file that no video reader takes; None for an unknown type."""
    if head.startswith(_STILLS):
        return STILL + (
            ", or leave backend on 'auto' if it has several pages" if head.startswith(TIFF) else ""
        )
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "is a WebP picture; pass it as image= (--image), or leave backend on 'auto' if it is animated"
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith(_PLAY_LISTS):
        return (
            "is a play list, not a video in a known format: it names other files; pass the video file itself"
        )
    if head.startswith(b"PK\x03\x04"):
        return "is a ZIP archive, not a video in a known format; unpack it and pass the video file"
    return None


def _is_video(head: bytes) -> bool:
    transport = len(head) > 376 and head[0] == head[188] == head[376] == 0x47
    named = head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide") or (
        head[:4] == b"RIFF" and head[8:11] == b"AVI"
    )
    starts = (
        b"\x1aE\xdf\xa3",
        b"FLV\x01",
        b"OggS",
        b"\x00\x00\x01\xba",
        b"\x00\x00\x01\xb3",
        b"0&\xb2u",
        b"DKIF",
    )
    return transport or named or head.startswith(starts)
