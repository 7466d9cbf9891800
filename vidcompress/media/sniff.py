"""What a file is when it is not what it was passed as, told from its first bytes, so that an error can say it."""

from __future__ import annotations

HEAD_BYTES = 1024
"""How much of a file the tests below want to see."""

_PLAY_LISTS = (b"#extm3u", b"ffconcat", b"<?xml", b"<mpd", b"[playlist]", b"[reference]")
_ISO_PICTURES = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1", b"avif", b"avis")


def is_animated_container(head: bytes) -> bool:
    """Whether this is WebP or AVIF: picture formats that may hold frames, which FFmpeg reads in part at best."""
    return (head[:4] == b"RIFF" and head[8:12] == b"WEBP") or (
        head[4:8] == b"ftyp" and head[8:12] in (b"avif", b"avis")
    )


def instead_of_picture(head: bytes) -> str | None:
    """What to do with a file that no picture reader takes; None when it looks like nothing known."""
    if head[4:8] == b"ftyp" and head[8:12] in _ISO_PICTURES:
        return "is HEIC, which Pillow reads with pillow-heif only; register that, or convert it to JPEG"
    if head.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
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
    """What to do with a file that no video reader takes; None when it looks like nothing known."""
    if head.startswith((b"\x89PNG", b"\xff\xd8\xff", b"BM", b"II*\0", b"MM\0*")):
        return "is a still picture, not a video; pass it as image= (--image)"
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
