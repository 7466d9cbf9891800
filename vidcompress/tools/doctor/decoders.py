"""Which video decoders really work: each is given a tiny clip of every codec and must return its frames."""

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
"""Codec -> encoders that may make a clip of it, and the container it usually comes in."""
ANIMATIONS = ("webp", "avif", "gif")
"""What the reader of pictures, Pillow, reads instead; each needs a part of Pillow that may be missing."""
_FRAMES, _SIZE = 9, (64, 96)
_TOLERANCE = 8
"""Grey levels between what was encoded and what came back; lossy codecs keep flat frames to 1 or 2."""
_PACKAGES = {"pyav": "av", "decord": "decord", "torchcodec": "torchcodec"}
"""What a reader is made of, to tell one that is not installed from one that does not work."""


def backends() -> list[str]:
    """Names of the registered video readers."""
    from vidcompress.media.video.backends import backend_names

    return [name for name in backend_names() if name != "auto"]


def formats(backend: str) -> tuple[str, ...]:
    """What a reader is to be tried with."""
    return ANIMATIONS if backend == "pillow" else tuple(CODECS)


def decode(backend: str, codec: str) -> dict[str, Any]:
    """Have a reader read a clip of a codec that was made for it.

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
    wanted = [_level(number) for number in (0, _FRAMES // 2, _FRAMES - 1)]
    got = [float(frame.float().mean()) for frame in clip.frames]
    if len(got) != 3 or any(abs(a - b) > _TOLERANCE for a, b in zip(wanted, got, strict=True)):
        return {"status": "failed", "detail": f"wrong frames: grey levels {wanted} came back as {got}"}
    return {"status": "ok", "detail": "decodes"}


def _level(number: int) -> int:
    """Grey level of a frame."""
    return 40 + 20 * number


def _animate(folder: Path, kind: str) -> Path | None:
    """The same as an animation, or None where Pillow cannot write it."""
    from PIL import Image

    first, *others = [Image.new("RGB", _SIZE[::-1], (_level(n),) * 3) for n in range(_FRAMES)]
    path = folder / f"clip.{kind}"
    try:
        first.save(path, save_all=True, append_images=others, duration=111)
    except (OSError, KeyError, ValueError):
        return None
    return path


def _write(folder: Path, codec: str) -> Path | None:
    """A clip of flat grey frames that grow lighter, or None where no encoder for it is there."""
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
