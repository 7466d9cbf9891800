"""Seed files of the fuzz tests: small valid clips and pictures in many formats, and the embedded checkpoint."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable
from fractions import Fraction
from importlib.resources import files
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from vidcompress.loading.resources import find
from vidcompress.tools.runs.journal import as_line

from . import odd_clips

HEIGHT, WIDTH, FRAMES = 48, 64, 24
CHECKPOINT = "models/tiny-onevision"
JOURNAL_HEAD = {"sweep": "fuzz", "model": "", "weights": "0"}
CHECKPOINT_FILES = (
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "video_preprocessor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "model.safetensors",
)
# file name: (encoder, options of the encoder, options of the container)
CLIPS: dict[str, tuple[str, dict[str, str], dict[str, str]]] = {
    "h264.mp4": ("libx264", {"g": "8"}, {}),
    "front.mp4": ("libx264", {"g": "8", "bf": "2"}, {"movflags": "faststart"}),
    "fragments.mp4": ("libx264", {"g": "8"}, {"movflags": "frag_keyframe+empty_moov"}),
    "hevc.mp4": ("libx265", {"x265-params": "log-level=none:pools=1"}, {}),
    "h264.mov": ("libx264", {"g": "24"}, {}),
    "h264.mkv": ("libx264", {"g": "8"}, {}),
    "vp8.webm": ("libvpx", {"cpu-used": "8", "deadline": "realtime"}, {}),
    "vp9.webm": ("libvpx-vp9", {"cpu-used": "8", "deadline": "realtime"}, {}),
    "av1.mp4": ("libsvtav1", {"preset": "12"}, {}),
    "mpeg4.avi": ("mpeg4", {}, {}),
    "h264.ts": ("libx264", {"g": "8"}, {}),
    "h264.flv": ("libx264", {"g": "8"}, {}),
    "mpeg2.mpg": ("mpeg2video", {}, {}),
    "theora.ogv": ("libtheora", {}, {}),
    "mjpeg.mov": ("mjpeg", {}, {}),
}


def frames(count: int = FRAMES, height: int = HEIGHT, width: int = WIDTH) -> list[np.ndarray[Any, Any]]:
    """Moving stripes with a little noise: uint8 (height, width, 3) each, always the same."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width]
    made = []
    for number in range(count):
        stripes = ((x + 3 * number) // 8 + y // 6) % 2 * 180
        picture = np.stack([stripes, (x * 4 + number) % 256, (y * 5) % 256], axis=-1)
        made.append(((picture + rng.integers(0, 20, picture.shape)) % 256).astype(np.uint8))
    return made


def make_material(folder: Path) -> dict[str, list[Path]]:
    """Write the valid files into a folder, once.

    Args:
        folder: where; what is there already is kept, so that a resumed run mutates the same bytes.

    Returns:
        Kind -> files: `video`, `image`, `checkpoint`, `card`, `journal`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    made: dict[str, list[Path]] = {"video": [], "image": [], "checkpoint": [], "card": [], "journal": []}

    def keep(kind: str, name: str, make: Callable[[], bytes]) -> None:
        path = folder / kind / name
        path.parent.mkdir(exist_ok=True)
        if not path.exists():
            path.write_bytes(make())
        made[kind].append(path)

    for name, (codec, options, container) in CLIPS.items():
        if codec in av.codecs_available:
            keep("video", name, lambda n=name, c=codec, o=options, m=container: _clip(n, c, o, m))
    for kind in ("gif", "png", "webp"):
        keep("video", f"animated.{kind}", lambda k=kind: _animated(k))
    for name, make in _odd_clips().items():
        keep("video", name, make)
    for name, make in _pictures().items():
        keep("image", name, make)
    source = find(CHECKPOINT)
    for name in CHECKPOINT_FILES:
        keep("checkpoint", name, (source / name).read_bytes)
    for card in files("vidcompress.methods").joinpath("cards").iterdir():
        keep("card", card.name, card.read_bytes)
    keep("journal", "journal.jsonl", _journal)
    return {kind: sorted(paths) for kind, paths in made.items()}


def _clip(name: str, codec: str, options: dict[str, str], container: dict[str, str]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        _write_clip(path, codec, options, container)
        return path.read_bytes()


def _write_clip(path: Path, codec: str, options: dict[str, str], container: dict[str, str]) -> None:
    with av.open(str(path), "w", options=container) as file:
        stream: Any = file.add_stream(codec, rate=Fraction(12), options=options)
        if codec == "mpeg2video":
            stream.rate = Fraction(25)
        size = (64, 64) if codec == "libsvtav1" else (HEIGHT, WIDTH)
        stream.height, stream.width = size
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.thread_count = 1
        for picture in frames(FRAMES, *size):
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                file.mux(packet)
        for packet in stream.encode():
            file.mux(packet)


def _odd_clips() -> dict[str, Callable[[], bytes]]:
    """Name -> content of clips whose palette, clock, orientation or transparency is a matter of its own."""

    def written(name: str, write: Callable[[Path], Path]) -> Callable[[], bytes]:
        def make() -> bytes:
            with tempfile.TemporaryDirectory() as folder:
                return write(Path(folder) / name).read_bytes()

        return make

    turned = [odd_clips.photo(number, 6) for number in range(6)]
    vp9 = {"auto-alt-ref": "0", "g": "4", "cpu-used": "8"}
    writers: dict[str, Callable[[Path], Path]] = {
        "palette.avi": lambda path: odd_clips.write_paletted(path, "rawvideo", odd_clips.colours(), 12),
        "palette.mov": lambda path: odd_clips.write_paletted(path, "smc", odd_clips.colours(), 24),
        "turned.avi": lambda path: odd_clips.write_pictures(path, turned),
        "turned.mov": lambda path: odd_clips.write_pictures(path, turned),
        "joined.ts": lambda path: odd_clips.joined(path.parent, "ts", [12, 12]),
        "joined.mpg": lambda path: odd_clips.joined(path.parent, "mpg", [12, 12]),
        "alpha.webm": lambda path: odd_clips.write_transparent(path, "libvpx-vp9", "yuva420p", vp9, 8),
        "alpha.mov": lambda path: odd_clips.write_transparent(path, "qtrle", "argb", {}, 8),
    }
    return {name: written(name, write) for name, write in writers.items()} | {
        "exif.png": lambda: odd_clips.animated(6)
    }


def _animated(kind: str) -> bytes:
    return _saved([Image.fromarray(f) for f in frames(8)], kind.upper(), save_all=True, duration=80, loop=0)


def _saved(pictures: list[Image.Image], kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    more = {"append_images": pictures[1:]} if len(pictures) > 1 else {}
    pictures[0].save(out, kind, **more, **options)
    return out.getvalue()


def _pictures() -> dict[str, Callable[[], bytes]]:
    picture = Image.fromarray(frames(1)[0])
    exif = Image.Exif()
    exif[0x0112] = 6
    deep = Image.fromarray((np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) * 17 % 65536).astype(np.uint16))
    return {
        "rgb.png": lambda: _saved([picture], "PNG"),
        "palette.png": lambda: _saved([picture.quantize(16)], "PNG", transparency=3),
        "alpha.png": lambda: _saved([picture.convert("RGBA")], "PNG"),
        "deep.png": lambda: _saved([deep], "PNG"),
        "photo.jpg": lambda: _saved([picture], "JPEG", exif=exif),
        "progressive.jpg": lambda: _saved([picture], "JPEG", progressive=True),
        "cmyk.jpg": lambda: _saved([picture.convert("CMYK")], "JPEG"),
        "lossy.webp": lambda: _saved([picture], "WEBP"),
        "lossless.webp": lambda: _saved([picture.convert("RGBA")], "WEBP", lossless=True),
        "plain.tiff": lambda: _saved([picture], "TIFF"),
        "packed.tiff": lambda: _saved([picture], "TIFF", compression="tiff_lzw"),
        "plain.bmp": lambda: _saved([picture], "BMP"),
        "still.gif": lambda: _saved([picture], "GIF"),
        "plain.ppm": lambda: _saved([picture], "PPM"),
        "lossy.avif": lambda: _saved([picture], "AVIF"),
        "page.jp2": lambda: _saved([picture], "JPEG2000"),
    }


def _journal() -> bytes:
    """Two batches of an accuracy run."""
    cells = {
        cell: {"correct": "10", "kept": 40, "budget": 40, "total": 160} for cell in ("none@1", "random@0.25")
    }
    batches = ({"id": str(number), "types": ["a", "b"], "cells": cells} for number in range(2))
    return b"".join(map(as_line, ({"head": JOURNAL_HEAD}, *batches)))
