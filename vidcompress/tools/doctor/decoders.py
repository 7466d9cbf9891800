"""Checks of video decoders: each decodes a tiny clip of every codec and must return its frames."""

from __future__ import annotations

import tempfile
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import Any

CODECS = {
    "h264": (("libx264", "libopenh264"), "mp4"),
    "hevc": (("libx265",), "mp4"),
    "vp9": (("libvpx-vp9",), "webm"),
    "av1": (("libsvtav1", "libaom-av1", "librav1e"), "mkv"),
}
"""Codec -> encoders that may make a clip of it, and its usual container."""
ANIMATIONS = ("webp", "avif", "gif")
"""Animation formats of Pillow; each needs a part of Pillow that may be missing."""
_FRAMES, _SIZE = 9, (64, 96)
_TOLERANCE = 8
"""Largest allowed error in grey levels; lossy codecs keep flat frames within 1 or 2."""
_PACKAGES = {"pyav": "av", "decord": "decord", "torchcodec": "torchcodec"}
"""Package of each reader, to tell a missing one from a broken one."""


def backends() -> list[str]:
    """Names of the registered video readers."""
    from vidcompress.media.video.backends import backend_names

    return [name for name in backend_names() if name != "auto"]


def formats(backend: str) -> tuple[str, ...]:
    """Codecs or formats that a reader is checked with."""
    return ANIMATIONS if backend == "pillow" else tuple(CODECS)


def decode(backend: str, codec: str) -> dict[str, Any]:
    """Check that a reader decodes a generated clip of a codec.

    Args:
        backend: name of a registered reader.
        codec: one of `formats`.

    Returns:
        `status` and `detail` of a check.
    """
    import av

    from vidcompress.media import MediaError, read_video

    if backend in _PACKAGES and find_spec(_PACKAGES[backend]) is None:
        return {"status": "missing", "detail": "not installed"}
    if codec not in av.codecs_available and backend == "pyav":
        return {"status": "missing", "detail": f"FFmpeg was built without {codec}"}
    with tempfile.TemporaryDirectory() as folder:
        path = _animate(Path(folder), codec) if codec in ANIMATIONS else _write(Path(folder), codec)
        if path is None:
            return {"status": "missing", "detail": f"not tried: no {codec} encoder here to make a clip with"}
        try:
            clip = read_video(path, num_frames=3, backend=backend)
        except MediaError as error:
            reason = str(error).partition(": ")[2] or str(error)
            return {"status": "failed", "detail": reason.replace(str(path), "the clip")}
    expected = [_level(number) for number in (0, _FRAMES // 2, _FRAMES - 1)]
    decoded = [float(frame.float().mean()) for frame in clip.frames]
    if len(decoded) != 3 or any(abs(a - b) > _TOLERANCE for a, b in zip(expected, decoded, strict=True)):
        return {"status": "failed", "detail": f"wrong frames: grey levels {expected} came back as {decoded}"}
    return {"status": "ok", "detail": "decodes"}


def _level(number: int) -> int:
    """Grey level of a frame."""
    return 40 + 20 * number


def _animate(folder: Path, kind: str) -> Path | None:
    """Write an animation of flat grey frames; None where Pillow cannot write it."""
    from PIL import Image

    first, *others = [Image.new("RGB", _SIZE[::-1], (_level(n),) * 3) for n in range(_FRAMES)]
    path = folder / f"clip.{kind}"
    try:
        first.save(path, save_all=True, append_images=others, duration=111)
    except (OSError, KeyError, ValueError):
        return None
    return path


def _write(folder: Path, codec: str) -> Path | None:
    """Write a clip of flat grey frames that grow lighter; None without an encoder for it."""
    import av
    import numpy as np

    encoders, container = CODECS[codec]
    for encoder in encoders:
        path = folder / f"clip.{container}"
        try:
            with av.open(str(path), "w") as out:
                stream: Any = out.add_stream(encoder, rate=Fraction(9))
                stream.height, stream.width = _SIZE
                stream.pix_fmt = "yuv420p"
                for number in range(_FRAMES):
                    picture = np.full((*_SIZE, 3), _level(number), np.uint8)
                    out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
                out.mux(stream.encode())
            return path
        except (av.FFmpegError, ValueError):
            continue
    return None
