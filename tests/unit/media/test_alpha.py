"""Transparency lies over white, in animations and videos as in pictures, by every backend that reads it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from odd_media import transparent, write_transparent
from vidcompress.media import MediaError, load_image, read_video

COUNT = 6
VIDEOS = {
    "vp8.webm": ("libvpx", "yuva420p", {"auto-alt-ref": "0", "g": "3"}),
    "vp9.webm": ("libvpx-vp9", "yuva420p", {"auto-alt-ref": "0", "g": "3", "cpu-used": "8"}),
    "prores.mov": ("prores_ks", "yuva444p10le", {"profile": "4444"}),
    "animation.mov": ("qtrle", "argb", {}),
    "lossless.mkv": ("ffv1", "bgra", {}),
    "planes.avi": ("utvideo", "gbrap", {}),
    "png.mov": ("png", "rgba", {}),
}
"""Name -> codec, pixel format, options."""


def over_white(number: int) -> Any:
    pixels = transparent(number).astype(float)
    share = pixels[..., 3:] / 255
    return pixels[..., :3] * share + 255 * (1 - share)


def animation(kind: str) -> bytes:
    out = io.BytesIO()
    frames = [Image.fromarray(transparent(number)) for number in range(COUNT)]
    more = {"lossless": True} if kind == "WEBP" else {"disposal": 2} if kind == "GIF" else {}
    frames[0].save(out, kind, save_all=True, append_images=frames[1:], duration=100, loop=0, **more)
    return out.getvalue()


def check(made: Any, rows: slice = slice(None), *, close: float = 6.0) -> None:
    """All frames over white; on black, or with alpha ignored, the lower rows differ by 50 or more."""
    assert len(made) == COUNT
    for number in range(COUNT):
        difference = np.abs(made.frames[number].numpy() - over_white(number))[rows]
        assert difference[np.arange(len(difference)) % 16 != 0].max() <= close, f"frame {number}"


@pytest.mark.parametrize(
    "kind, backend", [("PNG", "pyav"), ("PNG", "pillow"), ("WEBP", "auto"), ("PNG", "auto")]
)
def test_animations(kind: str, backend: str) -> None:
    content = animation(kind)
    made = read_video(content, num_frames=COUNT, backend=backend)
    check(made, close=1.0)
    if kind == "PNG":
        assert np.abs(made.frames[0].numpy().astype(int) - np.asarray(load_image(content))).max() <= 1, (
            "as a picture"
        )


@pytest.mark.parametrize("backend", ["pyav", "pillow"])
def test_gif_has_no_half_transparency(backend: str) -> None:
    made = read_video(animation("GIF"), num_frames=COUNT, backend=backend)
    check(made, slice(0, 16))
    assert (made.frames[:, 33:] == 255).all(), "white where nothing is"


@pytest.mark.parametrize("wanted", [COUNT, 2])
@pytest.mark.parametrize("name", VIDEOS)
def test_videos(name: str, wanted: int, tmp_path: Path) -> None:
    """Lossy codecs blur the edges of the three stripes, which are left out; in between they keep the colours."""
    path = write_transparent(tmp_path / name, *VIDEOS[name], COUNT)
    made = read_video(path, num_frames=wanted)
    if wanted == COUNT:
        check(made, close=9.0)
    else:
        assert np.abs(made.frames[1].numpy() - over_white(COUNT - 1))[36:44].max() <= 9
        assert np.abs(made.frames[1].numpy() - over_white(COUNT - 1))[4:12].max() <= 9


def test_a_tag_in_small_letters_is_the_same_tag(tmp_path: Path) -> None:
    """FFmpeg's usual recipe states alpha_mode itself, and Matroska hands it back in capitals."""
    path = tmp_path / "tagged.webm"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libvpx-vp9", rate=5, options={"auto-alt-ref": "0", "cpu-used": "8"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuva420p"
        stream.metadata["alpha_mode"] = "1"
        for _ in range(3):
            clear = np.zeros((48, 64, 4), np.uint8)
            container.mux(
                stream.encode(av.VideoFrame.from_ndarray(clear, format="rgba").reformat(format="yuva420p"))
            )
        container.mux(stream.encode())
    with av.open(str(path)) as container:
        assert "alpha_mode" not in container.streams.video[0].metadata
    assert read_video(path).frames.min() == 255


@pytest.mark.parametrize("name", ["lossless.mkv", "prores.mov", "png.mov", "vp9.webm"])
def test_decord_refuses_transparency(name: str, tmp_path: Path) -> None:
    pytest.importorskip("decord")
    with pytest.raises(MediaError, match="cannot read the pixel format .*use backend='pyav'"):
        read_video(write_transparent(tmp_path / name, *VIDEOS[name], COUNT), backend="decord")


def test_opaque_clips_keep_their_colours(tmp_path: Path, decode_all: Any) -> None:
    """An alpha channel of nothing but 255 changes nothing."""
    path = tmp_path / "opaque.mkv"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("ffv1", rate=10)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "bgra"
        for number in range(COUNT):
            pixels = transparent(number)
            pixels[..., 3] = 255
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgba")))
        container.mux(stream.encode())
    assert np.array_equal(read_video(path, num_frames=COUNT).frames.numpy(), decode_all(path))
