"""Hostile and mistaken media, each with the message it must get; run as a script, what each costs to refuse."""

from __future__ import annotations

import json
import os
import random
import resource
import struct
import sys
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

ANY = ""
"""Message of cases that may be read or refused, as long as it is quick, small and not by a crash."""
NOT_A_VIDEO = "is not a video in a known format, or is damaged or cut short"
PLAY_LIST = "is a play list, not a video in a known format: it names other files; pass the video file itself"
PROMISES = r"is damaged or cut short: its header promises \d+ samples, which its \d+ bytes cannot hold"
TOO_LARGE = r"frames of (more than max_pixels=67108864|\d+ x \d+ are over max_pixels=67108864)"


@dataclass(frozen=True)
class Case:
    """One bad file. `make` returns its bytes."""

    name: str
    make: Callable[[], bytes]
    message: str


def clip(
    kind: str = "mp4", codec: str = "libx264", pix_fmt: str = "yuv420p", frames: int = 20, **options: Any
) -> bytes:
    """A good clip of 64 x 64."""
    out = BytesIO()
    with av.open(out, "w", format=kind, **options) as container:
        stream = container.add_stream(codec, rate=30)
        stream.height = stream.width = 64
        stream.pix_fmt = pix_fmt
        container.start_encoding()
        for number in range(frames):
            picture = np.full((64, 64, 3), number * 11, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return out.getvalue()


def patched(content: bytes, box: bytes, offset: int, layout: str, *values: int) -> bytes:
    """Overwrite numbers behind the first mention of a box."""
    made = bytearray(content)
    struct.pack_into(layout, made, made.index(box) + offset, *values)
    return bytes(made)


def stsz(samples: int, each: int = 1) -> bytes:
    return patched(clip(), b"stsz", 8, ">II", each, samples)


def all_tables(samples: int) -> bytes:
    """A million frames promised by every table alike: sizes, chunks and durations."""
    made = patched(stsz(samples), b"stsc", 12, ">III", 1, samples, 1)
    return patched(made, b"stts", 12, ">II", samples, 512)


def fragment(samples: int) -> bytes:
    """A fragment whose run of samples stores nothing about any of them."""
    return patched(clip(options={"movflags": "frag_keyframe+empty_moov"}), b"trun", 4, ">II", 1, samples)


def png(width: int, height: int) -> bytes:
    """A PNG of 20,000 x 20,000 pixels in a hundred bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")


def grown_png(content: bytes, side: int) -> bytes:
    """Every PNG header inside says that it is `side` x `side`, with a right checksum."""
    made, place = bytearray(content), -1
    while (place := made.find(b"IHDR", place + 1)) >= 0:
        struct.pack_into(">II", made, place + 4, side, side)
        struct.pack_into(">I", made, place + 17, zlib.crc32(made[place : place + 17]))
    return bytes(made)


def gif(side: int) -> bytes:
    return patched(clip("gif", "gif", "rgb8"), b"GIF89a", 6, "<HH", side, side)


def matroska(duration: float) -> bytes:
    content = clip("matroska")
    place = content.index(b"\x44\x89\x88") + 3
    return content[:place] + struct.pack(">d", duration) + content[place + 8 :]


def sound(kind: str = "mp4", codec: str = "aac") -> bytes:
    out = BytesIO()
    with av.open(out, "w", format=kind) as container:
        stream = container.add_stream(codec, rate=16000)
        layout = "fltp" if codec == "aac" else "s16"
        shape, dtype = ((1, 4096), np.float32) if codec == "aac" else ((1, 4096), np.int16)
        frame = av.AudioFrame.from_ndarray(np.zeros(shape, dtype), format=layout, layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return out.getvalue()


def still(kind: str) -> bytes:
    out = BytesIO()
    Image.new("RGB", (32, 32), (200, 40, 90)).save(out, kind)
    return out.getvalue()


def zipped() -> bytes:
    out = BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("clip.mp4", clip())
    return out.getvalue()


def nested(depth: int, kinds: tuple[bytes, ...]) -> bytes:
    boxes = (struct.pack(">I", 8 * (depth - i)) + kinds[i % len(kinds)] for i in range(depth))
    return clip()[:32] + b"".join(boxes)


def noise(size: int) -> bytes:
    return random.Random(0).randbytes(size)


HLS = b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:1,\nhttp://127.0.0.1:1/a.ts\n#EXT-X-ENDLIST\n"
DASH = b"<?xml version='1.0'?><MPD><BaseURL>http://127.0.0.1:1/</BaseURL></MPD>"
CONCAT = b"ffconcat version 1.0\nfile '/etc/passwd'\nfile 'http://127.0.0.1:1/a.mp4'\n"
SDP = b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"

VIDEOS = [
    Case("text.mp4", lambda: b"this is not a video " * 50, NOT_A_VIDEO),
    Case("noise.mp4", lambda: noise(50_000), NOT_A_VIDEO),
    Case("noise_after_ftyp.mp4", lambda: clip()[:40] + noise(50_000), NOT_A_VIDEO),
    Case("zeros.mp4", lambda: bytes(50_000), NOT_A_VIDEO),
    Case("one_byte.mp4", lambda: b"\0", NOT_A_VIDEO),
    Case("front_missing.mp4", lambda: clip()[1000:], NOT_A_VIDEO),
    Case("header_missing.mp4", lambda: (c := clip())[: c.rindex(b"moov") - 4], NOT_A_VIDEO),
    Case("middle_missing.mp4", lambda: (c := clip())[:600] + c[700:], "damaged|cut short"),
    Case("end_missing.mkv", lambda: (c := clip("matroska"))[: len(c) // 2], "damaged|cut short"),
    Case("no_frames.mp4", lambda: clip(frames=0), "holds no video, only sound or pictures"),
    Case("no_frames.mkv", lambda: clip("matroska", frames=0), "is not a video in a known format|holds no frame"),
    Case("no_time.mp4", lambda: patched(clip(), b"stts", 12, ">II", 20, 0), ANY),
    Case("slow.mp4", lambda: patched(clip(), b"stts", 12, ">II", 20, 0x7FFFFFFF), ANY),
    Case("backwards.mp4", lambda: patched(clip(), b"stts", 12, ">II", 20, 0xFFFFFFF0), ANY),
    Case("clock_0.mp4", lambda: patched(clip(), b"mdhd", 16, ">I", 0), ANY),
    Case("clock_max.mp4", lambda: patched(clip(), b"mdhd", 16, ">I", 0xFFFFFFFF), ANY),
    Case("million.mp4", lambda: stsz(1_000_000), PROMISES),
    Case("four_billion.mp4", lambda: stsz(0xFFFFFFF0), PROMISES),
    Case("million_everywhere.mp4", lambda: all_tables(1_000_000), PROMISES),
    Case("eighty_million.mp4", lambda: all_tables(80_000_000), PROMISES),
    Case("fragment.mp4", lambda: fragment(60_000_000), PROMISES),
    Case("million_durations.mp4", lambda: patched(clip(), b"stts", 12, ">II", 1_000_000, 512), ANY),
    Case("compressed_header.mp4", lambda: clip().replace(b"udta", b"cmov"), "has a compressed header; write it anew"),
    Case("million.avi", lambda: patched(patched(clip("avi", "mpeg4"), b"avih", 24, "<I", 1_000_000), b"strh", 40, "<I",
                                        1_000_000), r"is cut short: it announces 900000 frames and holds \d+"),
    Case("long.mkv", lambda: matroska(1e12), "is cut short: it announces 1000000000.0 s and ends at"),
    Case("endless.mkv", lambda: matroska(float("inf")), ANY),
    Case("nan.mkv", lambda: matroska(float("nan")), ANY),
    Case("huge.gif", lambda: gif(20_000), TOO_LARGE),
    Case("large.gif", lambda: gif(9_000), TOO_LARGE),
    Case("huge.y4m", lambda: b"YUV4MPEG2 W20000 H20000 F30:1 C420\nFRAME\n" + bytes(999), f"{TOO_LARGE}|{NOT_A_VIDEO}"),
    Case("large.y4m", lambda: b"YUV4MPEG2 W9000 H9000 F30:1 C420\nFRAME\n" + bytes(999), TOO_LARGE),
    Case("thin.y4m", lambda: b"YUV4MPEG2 W1 H9000000 F30:1 C420\nFRAME\n" + bytes(999), f"of over 65535|{NOT_A_VIDEO}"),
    Case("huge_inside.mov", lambda: grown_png(clip("mov", "png", "rgb24"), 20_000), f"{TOO_LARGE}|{NOT_A_VIDEO}"),
    Case("large_inside.mov", lambda: grown_png(clip("mov", "png", "rgb24"), 9_000), TOO_LARGE),
    Case("large.apng", lambda: grown_png(clip("apng", "apng", "rgb24"), 9_000), TOO_LARGE),
    Case("nested.mp4", lambda: nested(5000, (b"moov",)), NOT_A_VIDEO),
    Case("nested_tracks.mp4", lambda: nested(3000, (b"moov", b"trak", b"mdia")), NOT_A_VIDEO),
    Case("list.m3u8", lambda: HLS, PLAY_LIST),
    Case("list.mp4", lambda: HLS, PLAY_LIST),
    Case("list.mpd", lambda: DASH, PLAY_LIST),
    Case("list.ffconcat", lambda: CONCAT, PLAY_LIST),
    Case("concat.mp4", lambda: b"\xef\xbb\xbf" + CONCAT, PLAY_LIST),
    Case("session.sdp", lambda: SDP, NOT_A_VIDEO),
    Case("archive.mp4", zipped, "is a ZIP archive, not a video in a known format; unpack it"),
    Case("sound.m4a", sound, "holds no video, only sound or pictures; pass a file with video"),
    Case("sound.wav", lambda: sound("wav", "pcm_s16le"), NOT_A_VIDEO),
    Case("photo.jpg", lambda: still("JPEG"), r"is a still picture, not a video; pass it as image= \(--image\)"),
    Case("photo.png", lambda: still("PNG"), "is a still picture, not a video"),
    Case("huge.webp", lambda: patched(still("WEBP"), b"VP8 ", 14, "<HH", 16383, 16383),
         "is larger than Pillow accepts"),
]  # fmt: skip

IMAGES = [
    Case("text.png", lambda: b"words", "is not a picture in a known format"),
    Case("noise.jpg", lambda: noise(50_000), "is not a picture in a known format"),
    Case("noise_after_mark.jpg", lambda: b"\xff\xd8\xff" + noise(50_000), "is not a picture|is damaged or cut short"),
    Case("front_missing.png", lambda: still("PNG")[20:], "is not a picture in a known format"),
    Case("end_missing.png", lambda: still("PNG")[:60], r"is damaged or cut short \(.*\); fetch it again"),
    Case("end_missing.jpg", lambda: still("JPEG")[:-30], "is damaged or cut short"),
    Case("huge.png", lambda: png(20_000, 20_000), "is larger than Pillow accepts"),
    Case("large.png", lambda: png(9_000, 9_000), "9000 x 9000 is 81000000 pixels, more than max_pixels=67108864"),
    Case("thin.png", lambda: png(1, 9_000_000), "9000000 x 1 has a side of more than 65535 pixels"),
    Case("within.png", lambda: png(8_000, 8_000), "is damaged or cut short"),
    Case("zero.png", lambda: png(0, 9), "holds no pixel|is not a picture|is damaged"),
    Case("huge.gif", lambda: gif(20_000), "is larger than Pillow accepts"),
    Case("huge.bmp", lambda: patched(still("BMP"), b"BM", 18, "<ii", 20_000, 20_000), "is larger than Pillow accepts"),
    Case("huge.tif", lambda: b"II*\0\x08\0\0\0\x02\0\0\1\4\0\1\0\0\0\x20\x4e\0\0\1\1\4\0\1\0\0\0\x20\x4e\0\0\0\0\0\0",
         "is larger than Pillow accepts|is not a picture|is damaged"),
    Case("clip.mp4", clip, r"is a video, not a picture; pass it as video= \(--video\)"),
    Case("clip.mkv", lambda: clip("matroska"), "is a video, not a picture"),
    Case("clip.ts", lambda: clip("mpegts"), "is a video, not a picture"),
    Case("list.m3u8", lambda: HLS, "is not a picture in a known format"),
    Case("archive.png", zipped, "is not a picture in a known format"),
    Case("script.eps", lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n", "is not a picture"),
]  # fmt: skip


def write_all(folder: Path) -> Iterator[tuple[str, Path]]:
    """Write every case into `folder`; yields (argument, path)."""
    for argument, cases in (("video", VIDEOS), ("image", IMAGES)):
        (folder / argument).mkdir(parents=True, exist_ok=True)
        for case in cases:
            path = folder / argument / case.name
            path.write_bytes(case.make())
            yield argument, path


def cost(argument: str, path: Path, backend: str) -> dict[str, Any]:
    """What one read costs, and its outcome."""
    from vidcompress.media import MediaError, load_image, read_video

    before, start = _peak(anew=True), time.process_time()
    try:
        if argument == "image":
            load_image(path)
        else:
            read_video(path, num_frames=4, backend=backend)
        outcome = "read"
    except MediaError as error:
        outcome = str(error)
    seconds = time.process_time() - start
    return {
        "file": str(path),
        "backend": backend,
        "outcome": outcome,
        "seconds": seconds,
        "grown": _peak() - before,
    }


def _peak(*, anew: bool = False) -> float:
    """Most resident memory since the last call with `anew`, in MB; since the start where the system cannot forget."""
    status, forget = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not (status.exists() and forget.exists()):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if anew:
        forget.write_text("5")
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def main(folder: str) -> None:
    """Read every file of a folder that `write_all` has filled, and print what each cost as JSON lines."""
    resource.setrlimit(resource.RLIMIT_CPU, (120, 120))
    backends = ["auto"]
    good = Path(folder) / "good.mp4"
    good.write_bytes(clip())
    try:
        import decord  # noqa: F401

        backends.append("decord")
    except ImportError:
        pass
    for backend in backends:  # what loading the libraries costs is not the files' doing
        cost("video", good, backend)
    (Path(folder) / "good.png").write_bytes(still("PNG"))
    cost("image", Path(folder) / "good.png", "auto")
    for argument in ("video", "image"):
        for path in sorted((Path(folder) / argument).iterdir()):
            for backend in backends if argument == "video" else ["auto"]:
                print(json.dumps(cost(argument, path, backend)), flush=True)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main(sys.argv[1])
